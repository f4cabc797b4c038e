//! A line becomes a command, or the reply that refuses it.

use crate::ftp::command::{Command, Epsv, Password, arguments};
use crate::ftp::listformat::{Facts, Format, parse_timestamp};
use crate::ftp::reply::Reply;

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
