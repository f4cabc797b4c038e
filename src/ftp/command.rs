//! The command table: a line of text becomes a typed command, or the reply that refuses it.
//!
//! Every command that a client can send is named here, so that libunftp only ever sees lines that the gateway composed.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::SystemTime;

use crate::ftp::listformat::{Format, parse_timestamp};
use crate::ftp::reply::Reply;
use crate::store::Algorithm;

/// The verb of a line, as it is known here; what isn't known could be anything, a password too.
pub fn verb(line: &str) -> &'static str {
    let word = line.split(' ').next().unwrap_or_default();
    let known = VERBS.iter().find(|known| known.eq_ignore_ascii_case(word));
    known.copied().unwrap_or("(unknown)")
}

/// What clients say.
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
    /// `TYPE`, `MODE`, `STRU`: the reply says it all
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
    /// `SITE CHMOD mode path`
    Chmod,
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
    /// Reads one line; the error is what the client is told (500 unknown, 501 bad argument, 502 known but not here,
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
            "TYPE" => Command::Setting(type_reply(&word)),
            "MODE" => Command::Setting(only(
                "S",
                &word,
                "Mode is stream",
                "Only stream mode is supported",
            )),
            "STRU" => Command::Setting(only(
                "F",
                &word,
                "Structure is file",
                "Only file structure is supported",
            )),
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
                port_argument(&word)
                    .ok_or_else(|| Reply::new(501, "PORT takes h1,h2,h3,h4,p1,p2"))?,
            ),
            "EPRT" => Command::Port(eprt_argument(&word)?),
            "STAT" if argument.is_empty() => Command::Status,
            "STAT" => Command::StatPath(without_options(argument).to_owned()),
            "PWD" | "XPWD" => Command::Pwd,
            "CWD" | "XCWD" => Command::Cwd(path()?),
            "CDUP" | "XCUP" => Command::Cdup,
            "MKD" | "XMKD" => Command::Mkd(path()?),
            "RMD" | "XRMD" => Command::Rmd(path()?),
            "DELE" => Command::Dele(path()?),
            "RNFR" => Command::Rnfr(path()?),
            "RNTO" => Command::Rnto(path()?),
            "SIZE" => Command::Size(path()?),
            "MDTM" => Command::Mdtm(path()?),
            "MFMT" => {
                let (time, path) = argument.split_once(' ').unwrap_or((argument, ""));
                match parse_timestamp(time) {
                    Some(time) if !path.is_empty() => Command::Mfmt(time, path.to_owned()),
                    _ => return Err(Reply::new(501, "MFMT takes YYYYMMDDHHMMSS and a name")),
                }
            }
            "HASH" => Command::Hash(None, path()?),
            "SITE" => site(argument)?,
            "MLST" => Command::Mlst(argument.to_owned()),
            "RETR" => Command::Retr(path()?),
            "STOR" => Command::Stor(path()?),
            "APPE" => Command::Appe(path()?),
            "STOU" => Command::Stou,
            "LIST" => Command::List(Format::Long, without_options(argument).to_owned()),
            "NLST" => Command::List(Format::Names, without_options(argument).to_owned()),
            "MLSD" => Command::List(Format::Facts, argument.to_owned()),
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

fn site(argument: &str) -> Result<Command, Reply> {
    let (word, path) = argument.split_once(' ').unwrap_or((argument, ""));
    let algorithm = Algorithm::named(word);
    match word.to_ascii_uppercase().as_str() {
        "CHMOD" => Ok(Command::Chmod),
        "HASH" if path.is_empty() => Err(Reply::new(501, "A name is missing")),
        _ if algorithm.is_some() && path.is_empty() => Err(Reply::new(501, "A name is missing")),
        "HASH" => Ok(Command::Hashes(path.to_owned())),
        _ if algorithm.is_some() => Ok(Command::Hash(algorithm, path.to_owned())),
        _ => Err(Reply::new(
            504,
            "SITE knows CHMOD, HASH, SHA256, SHA1, MD5, CRC32, CRC32C, CRC64NVME, CRC64XZ",
        )),
    }
}

/// The argument of `PORT` (RFC 959): four numbers of an IPv4 address and two of a port.
fn port_argument(word: &str) -> Option<SocketAddr> {
    let numbers: Result<Vec<u8>, _> = word.split(',').map(str::parse).collect();
    let [a, b, c, d, high, low] = numbers.ok()?.try_into().ok()?;
    let port = u16::from_be_bytes([high, low]);
    Some(SocketAddr::from((Ipv4Addr::new(a, b, c, d), port)))
}

/// The argument of `EPRT` (RFC 2428): `|1|address|port|` with any delimiter.
fn eprt_argument(word: &str) -> Result<SocketAddr, Reply> {
    let bad = || {
        Reply::new(
            501,
            "EPRT takes |1|IPv4 address|port| or |2|IPv6 address|port|",
        )
    };
    let delimiter = word.chars().next().ok_or_else(bad)?;
    let parts: Vec<&str> = word.split(delimiter).collect();
    let ["", protocol, address, port, ""] = parts[..] else {
        return Err(bad());
    };
    let address = match protocol {
        "1" => IpAddr::V4(address.parse().map_err(|_| bad())?),
        "2" => IpAddr::V6(address.parse().map_err(|_| bad())?),
        _ => return Err(Reply::new(522, "Network protocol not supported, use (1,2)")),
    };
    Ok(SocketAddr::new(address, port.parse().map_err(|_| bad())?))
}

/// Files travel byte for byte whatever the type: an object has no line ends to convert. Clients that switch to ASCII for
/// listings are right, since listings end their lines with CR LF.
fn type_reply(word: &str) -> Reply {
    match word {
        "I" | "L 8" | "L8" => Reply::new(200, "Type is image"),
        "A" | "A N" => Reply::new(200, "Type is ASCII, files are sent unchanged"),
        "" => Reply::new(501, "TYPE takes A, I or L 8"),
        _ => Reply::new(504, "Only types A, I and L 8 are supported"),
    }
}

fn only(supported: &str, word: &str, yes: &'static str, no: &'static str) -> Reply {
    if word == supported {
        Reply::new(200, yes)
    } else {
        Reply::new(504, no)
    }
}

/// Clients pass options of `ls` (`LIST -la dir`); they are taken off. A name that begins with
/// `-` can be written `./-x` or put behind `--`.
fn without_options(argument: &str) -> &str {
    let mut rest = argument;
    while let Some(option) = rest.strip_prefix('-') {
        if let Some(name) = option.strip_prefix("- ") {
            return name;
        }
        let end = option.find(' ').unwrap_or(option.len());
        if !option[..end]
            .chars()
            .all(|letter| letter.is_ascii_alphanumeric() || letter == '-')
        {
            break;
        }
        rest = option[end..].trim_start_matches(' ');
    }
    rest
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
        ] {
            assert_eq!(
                Command::parse(line).map_err(|reply| reply.code),
                Err(code),
                "{line:?}"
            );
        }
        for (line, code) in [
            ("MODE Z", 504),
            ("STRU R", 504),
            ("STRU f", 200),
            ("TYPE E", 504),
            ("TYPE", 501),
        ] {
            let Ok(Command::Setting(reply)) = Command::parse(line) else {
                panic!("{line:?} is a setting")
            };
            assert_eq!(reply.code, code, "{line:?}");
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
    fn options_of_ls_are_taken_off_and_names_are_not() {
        for (argument, rest) in [
            ("-la", ""),
            ("-a -l", ""),
            ("-la dir", "dir"),
            ("-l -- -x", "-x"),
            ("dir -l", "dir -l"),
            ("./-x", "./-x"),
            ("-ä", "-ä"),
        ] {
            assert_eq!(without_options(argument), rest, "{argument:?}");
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
