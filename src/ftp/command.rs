//! The command table: a line of text becomes a typed command, or the reply that refuses it.
//!
//! Every command that a client can send is named here, so that libunftp only ever sees lines that the gateway composed.

mod arguments;

use std::net::SocketAddr;
use std::time::SystemTime;

pub(super) use arguments::SITE_HELP;

use crate::ftp::listformat::{Facts, Format, parse_timestamp};
use crate::ftp::reply::Reply;
use crate::store::Algorithm;

/// The verb of a line, as it is known here; what isn't known could be anything, a password too.
pub fn verb(line: &str) -> &'static str {
    let word = line.split(' ').next().unwrap_or_default();
    let known = VERBS.iter().find(|known| known.eq_ignore_ascii_case(word));
    known.copied().unwrap_or("(unknown)")
}

/// Commands of clients.
const VERBS: &[&str] = &[
    "ABOR", "ACCT", "ALLO", "APPE", "AUTH", "CCC", "CDUP", "CLNT", "CWD", "DELE", "EPRT", "EPSV",
    "FEAT", "HASH", "HELP", "LIST", "MDTM", "MFMT", "MKD", "MLSD", "MLST", "MODE", "NLST", "NOOP",
    "OPTS", "PASS", "PASV", "PBSZ", "PORT", "PROT", "PWD", "QUIT", "REST", "RETR", "RMD", "RNFR",
    "RNTO", "SITE", "SIZE", "STAT", "STOR", "STOU", "STRU", "SYST", "TYPE", "USER", "XCUP", "XCWD",
    "XMKD", "XPWD", "XRMD",
];

/// One command with its argument. Paths are as the client typed them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `USER name`
    User(String),
    /// `PASS password`; never printed.
    Pass(Password),
    /// `QUIT`
    Quit,
    /// `NOOP`, and commands without effect here (`CLNT`)
    Noop,
    /// `HELP`
    Help,
    /// `FEAT` (RFC 2389)
    Feat,
    /// `OPTS name value` (RFC 2389)
    Opts(String),
    /// `SYST`
    Syst,
    /// `TYPE`
    Type(TransferType),
    /// `MODE`, `STRU`: the reply says it all
    Setting(Reply),
    /// `AUTH mechanism` (RFC 4217)
    Auth(String),
    /// `PBSZ` (RFC 4217)
    Pbsz,
    /// `PROT level` (RFC 4217)
    Prot(String),
    /// `CCC` (RFC 4217)
    Ccc,
    /// `ALLO bytes`: how large the next upload will be, if the client can say
    Allo(Option<u64>),
    /// `ACCT`: nothing to do
    Superfluous,
    /// `ABOR`
    Abor,
    /// `REST offset` (RFC 3659)
    Rest(u64),
    /// `PASV`
    Pasv,
    /// `EPSV` (RFC 2428)
    Epsv(Epsv),
    /// `PORT`, `EPRT` (RFC 2428): where the client listens
    Port(SocketAddr),
    /// `STAT` without a path
    Status,
    /// `STAT path`
    StatPath(String),
    /// `PWD`
    Pwd,
    /// `CWD path`
    Cwd(String),
    /// `CDUP`
    Cdup,
    /// `MKD path`
    Mkd(String),
    /// `RMD path`
    Rmd(String),
    /// `DELE path`
    Dele(String),
    /// `RNFR path`
    Rnfr(String),
    /// `RNTO path`
    Rnto(String),
    /// `SIZE path` (RFC 3659)
    Size(String),
    /// `MDTM path` (RFC 3659)
    Mdtm(String),
    /// `MFMT time path` (draft-somers-ftp-mfxx)
    Mfmt(SystemTime, String),
    /// `MDTM time path`, which sets the time unless there is a file of the whole name
    MdtmTime {
        /// The time to set.
        time: SystemTime,
        /// The file whose time is set.
        path: String,
        /// The whole argument.
        whole: String,
    },
    /// `SITE UTIME`: the modification time and the path
    Utime(SystemTime, String),
    /// `SITE CHMOD mode path`
    Chmod(String),
    /// `SITE HELP`
    SiteHelp,
    /// `HASH path` (draft-bryan-ftpext-hash), `SITE SHA256 path` and the like: with this algorithm, or the one chosen
    Hash(Option<Algorithm>, String),
    /// `SITE HASH path`: all that is known
    Hashes(String),
    /// `MLST path` (RFC 3659)
    Mlst(String),
    /// `RETR path`
    Retr(String),
    /// `STOR path`
    Stor(String),
    /// `APPE path`
    Appe(String),
    /// `STOU`
    Stou,
    /// `LIST`, `NLST`, `MLSD`, with the path if there is one
    List(Format, String),
}

/// The representation type of files (RFC 959, section 3.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransferType {
    /// `A N`: text.
    Ascii,
    /// `I` or `L 8`: bytes.
    Image,
}

/// What `EPSV` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Epsv {
    /// No argument: the protocol of the control connection.
    Same,
    /// `EPSV 1`
    Ipv4,
    /// `EPSV 2`
    Ipv6,
    /// `EPSV ALL`: the client promises to use nothing else.
    All,
}

/// A password on its way to the check.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(pub String);

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl Command {
    /// Reads one line; the error is the reply (500 unknown, 501 bad argument, 502 known but not here,
    /// 504 not for this argument).
    pub fn parse(line: &str) -> Result<Self, Reply> {
        let (verb, argument) = line.split_once(' ').unwrap_or((line, ""));
        let verb = verb.to_ascii_uppercase();
        let word = argument.trim().to_ascii_uppercase();
        let path = || {
            if argument.is_empty() {
                Err(Reply::new(501, "A name is missing"))
            } else {
                Ok(argument.to_owned())
            }
        };
        Ok(match verb.as_str() {
            "USER" => Command::User(path()?),
            "PASS" => Command::Pass(Password(argument.to_owned())),
            "QUIT" => Command::Quit,
            "NOOP" | "CLNT" => Command::Noop,
            "HELP" => Command::Help,
            "FEAT" => Command::Feat,
            "OPTS" => Command::Opts(word),
            "SYST" => Command::Syst,
            "TYPE" => Command::Type(arguments::transfer_type(&word)?),
            "MODE" => arguments::setting(
                "S",
                &word,
                "Mode is stream",
                "Only stream mode is supported",
            )?,
            "STRU" => arguments::setting(
                "F",
                &word,
                "Structure is file",
                "Only file structure is supported",
            )?,
            "AUTH" => Command::Auth(word),
            "PBSZ" => Command::Pbsz,
            "PROT" => Command::Prot(word),
            "CCC" => Command::Ccc,
            // "ALLO 1000 R 80" has a record size behind it, which means nothing here
            "ALLO" => Command::Allo(word.split(' ').next().and_then(|bytes| bytes.parse().ok())),
            "ACCT" => Command::Superfluous,
            "ABOR" => Command::Abor,
            "REST" => Command::Rest(
                word.parse()
                    .map_err(|_| Reply::new(501, "REST takes a number of bytes"))?,
            ),
            "PASV" => Command::Pasv,
            "EPSV" => Command::Epsv(match word.as_str() {
                "" => Epsv::Same,
                "1" => Epsv::Ipv4,
                "2" => Epsv::Ipv6,
                "ALL" => Epsv::All,
                _ => return Err(Reply::new(522, "Network protocol not supported, use (1,2)")),
            }),
            "PORT" => Command::Port(
                arguments::port(&word)
                    .ok_or_else(|| Reply::new(501, "PORT takes h1,h2,h3,h4,p1,p2"))?,
            ),
            "EPRT" => Command::Port(arguments::eprt(&word)?),
            "STAT" if argument.is_empty() => Command::Status,
            "STAT" => Command::StatPath(arguments::listing(argument)?.to_owned()),
            "PWD" | "XPWD" => Command::Pwd,
            // the home directory, as with the FTP servers of BSD
            "CWD" | "XCWD" if argument.is_empty() => Command::Cwd("/".to_owned()),
            "CWD" | "XCWD" => Command::Cwd(argument.to_owned()),
            "CDUP" | "XCUP" => Command::Cdup,
            "MKD" | "XMKD" => Command::Mkd(path()?),
            "RMD" | "XRMD" => Command::Rmd(path()?),
            "DELE" => Command::Dele(path()?),
            "RNFR" => Command::Rnfr(path()?),
            "RNTO" => Command::Rnto(path()?),
            "SIZE" => Command::Size(path()?),
            "MDTM" => arguments::mdtm(path()?),
            "MFMT" => {
                let (time, path) = argument.split_once(' ').unwrap_or((argument, ""));
                match parse_timestamp(time) {
                    Some(time) if !path.is_empty() => Command::Mfmt(time, path.to_owned()),
                    _ => return Err(Reply::new(501, "MFMT takes YYYYMMDDHHMMSS and a name")),
                }
            }
            "HASH" => Command::Hash(None, path()?),
            "SITE" => arguments::site(argument)?,
            "MLST" => Command::Mlst(argument.to_owned()),
            "RETR" => Command::Retr(path()?),
            "STOR" => Command::Stor(path()?),
            "APPE" => Command::Appe(path()?),
            "STOU" => Command::Stou,
            "LIST" => Command::List(Format::Long, arguments::listing(argument)?.to_owned()),
            "NLST" => Command::List(Format::Names, arguments::listing(argument)?.to_owned()),
            "MLSD" => Command::List(Format::Facts(Facts::ALL), argument.to_owned()),
            "REIN" | "SMNT" | "MFCT" | "LANG" | "HOST" | "LPRT" | "LPSV" | "ADAT" | "CONF"
            | "ENC" | "MIC" => {
                return Err(Reply::new(502, "Command not implemented"));
            }
            _ => return Err(Reply::new(500, "Unknown command")),
        })
    }

    /// True for what may stand between `REST` and the transfer that it is meant for.
    pub fn keeps_restart(&self) -> bool {
        matches!(
            self,
            Command::Rest(_)
                | Command::Pasv
                | Command::Epsv(_)
                | Command::Port(_)
                | Command::Pbsz
                | Command::Prot(_)
                | Command::Type(_)
                | Command::Setting(_)
                | Command::Noop
                | Command::Allo(_)
                | Command::Superfluous
                | Command::Size(_)
                | Command::Mdtm(_)
                | Command::Retr(_)
                | Command::Stor(_)
                | Command::Appe(_)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_are_known_in_any_case_and_names_keep_theirs() {
        assert_eq!(
            Command::parse("stor Räksmörgås  x "),
            Ok(Command::Stor("Räksmörgås  x ".to_owned()))
        );
        assert_eq!(Command::parse("NOOP x"), Ok(Command::Noop));
        assert_eq!(Command::parse("Epsv all"), Ok(Command::Epsv(Epsv::All)));
    }

    #[test]
    fn each_bad_line_has_its_code() {
        for (line, code) in [
            ("XYZZY", 500),
            ("", 500),
            ("SIZE", 501),
            ("RETR", 501),
            ("REST x", 501),
            ("REST -1", 501),
            ("REST 99999999999999999999", 501),
            ("SMNT /", 502),
            ("EPSV 3", 522),
            ("PORT 127,0,0,1,4", 501),
            ("PORT 127,0,0,256,4,1", 501),
            ("PORT", 501),
            ("EPRT", 501),
            ("EPRT |1|127.0.0.1|2000", 501),
            ("EPRT |1|::1|2000|", 501),
            ("EPRT |1|127.0.0.1|70000|", 501),
            ("EPRT |3|x|2000|", 522),
            ("MFMT", 501),
            ("MFMT 20201231235959", 501),
            ("MFMT 20201331235959 f", 501),
            ("SITE", 504),
            ("SITE EXEC x", 504),
            ("SITE CHMOD 644", 501),
            ("SITE UTIME x", 501),
            ("MODE Z", 504),
            ("MODE", 501),
            ("STRU R", 504),
            ("STRU", 501),
            ("TYPE E", 504),
            ("TYPE", 501),
            ("LIST -R", 504),
            ("NLST -lR d", 504),
            ("STAT -R", 504),
        ] {
            assert_eq!(
                Command::parse(line).map_err(|reply| reply.code),
                Err(code),
                "{line:?}"
            );
        }
        for line in ["STRU f", "MODE S"] {
            let Ok(Command::Setting(reply)) = Command::parse(line) else {
                panic!("{line:?} is a setting")
            };
            assert_eq!(reply.code, 200, "{line:?}");
        }
    }

    #[test]
    fn active_addresses_are_read_in_both_forms() {
        for (line, address) in [
            ("PORT 127,0,0,1,7,208", "127.0.0.1:2000"),
            ("EPRT |1|127.0.0.1|2000|", "127.0.0.1:2000"),
            ("EPRT !2!::1!2000!", "[::1]:2000"),
        ] {
            let address = address.parse().expect("an address");
            assert_eq!(Command::parse(line), Ok(Command::Port(address)), "{line}");
        }
    }

    #[test]
    fn a_password_is_never_printed() {
        let command = Command::parse("PASS hunter2").expect("a command");
        assert!(!format!("{command:?}").contains("hunter2"));
    }

    proptest::proptest! {
        #[test]
        fn no_line_panics(line in "\\PC{0,60}") {
            let _ = Command::parse(&line);
        }
    }
}
