//! Lines to commands.

use std::net::SocketAddr;

use crate::ftp::command::{Command, Epsv, TransferType, verb};
use crate::ftp::listformat::{Format, timestamp};

/// The codes of a line that is refused.
const REFUSALS: [u16; 5] = [500, 501, 502, 504, 522];

/// - A line is a command, or has a reply of one line with a code for bad lines.
/// - The verb of a command is known, and means the same in small letters.
/// - A command that is written in its canonical form is the same command, with the same name to the last byte.
/// - What is printed of a password is `***`.
pub fn command(input: &[u8]) {
    let line = String::from_utf8_lossy(input);
    if line.contains(['\r', '\n', '\0']) {
        // no line has these; see `control_line`
        return;
    }
    let parsed = Command::parse(&line);
    let (word, rest) = line.split_at(line.find(' ').unwrap_or(line.len()));
    let small = format!("{}{rest}", word.to_ascii_lowercase());
    assert_eq!(Command::parse(&small), parsed, "in small letters");
    let command = match parsed {
        Ok(command) => command,
        Err(reply) => {
            assert!(REFUSALS.contains(&reply.code), "{reply:?}");
            assert_eq!(reply.to_string().matches("\r\n").count(), 1, "{reply:?}");
            return;
        }
    };
    assert_eq!(verb(&line), word.to_ascii_uppercase(), "is not known");
    if let Command::Pass(_) = command {
        assert_eq!(format!("{command:?}"), "Pass(***)");
    }
    if let Some(canonical) = canonical(&command) {
        assert_eq!(Command::parse(&canonical), Ok(command), "{canonical:?}");
    }
}

/// A line that means `command`; `None` for those whose argument isn't kept.
fn canonical(command: &Command) -> Option<String> {
    Some(match command {
        Command::User(name) => format!("USER {name}"),
        Command::Pass(password) => format!("PASS {}", password.0),
        Command::Quit => "QUIT".to_owned(),
        Command::Noop => "NOOP".to_owned(),
        Command::Help => "HELP".to_owned(),
        Command::Feat => "FEAT".to_owned(),
        Command::Opts(option) => format!("OPTS {option}"),
        Command::Syst => "SYST".to_owned(),
        Command::Type(TransferType::Ascii) => "TYPE A N".to_owned(),
        Command::Type(TransferType::Image) => "TYPE L 8".to_owned(),
        Command::Setting(_) => return None,
        Command::Auth(mechanism) => format!("AUTH {mechanism}"),
        Command::Pbsz => "PBSZ 0".to_owned(),
        Command::Prot(level) => format!("PROT {level}"),
        Command::Ccc => "CCC".to_owned(),
        Command::Allo(bytes) => {
            format!("ALLO {}", bytes.map(|n| n.to_string()).unwrap_or_default())
        }
        Command::Superfluous => "ACCT x".to_owned(),
        Command::Abor => "ABOR".to_owned(),
        Command::Rest(offset) => format!("REST {offset}"),
        Command::Pasv => "PASV".to_owned(),
        Command::Epsv(Epsv::Same) => "EPSV".to_owned(),
        Command::Epsv(Epsv::Ipv4) => "EPSV 1".to_owned(),
        Command::Epsv(Epsv::Ipv6) => "EPSV 2".to_owned(),
        Command::Epsv(Epsv::All) => "EPSV ALL".to_owned(),
        Command::Port(SocketAddr::V4(v4)) => {
            let [a, b, c, d] = v4.ip().octets();
            let [high, low] = v4.port().to_be_bytes();
            format!("PORT {a},{b},{c},{d},{high},{low}")
        }
        Command::Port(SocketAddr::V6(v6)) => format!("EPRT |2|{}|{}|", v6.ip(), v6.port()),
        Command::Status => "STAT".to_owned(),
        // the options of ls are gone; `--` keeps the name from being one
        Command::StatPath(path) => format!("STAT -- {path}"),
        Command::Pwd => "PWD".to_owned(),
        Command::Cwd(path) => format!("CWD {path}"),
        Command::Cdup => "CDUP".to_owned(),
        Command::Mkd(path) => format!("MKD {path}"),
        Command::Rmd(path) => format!("RMD {path}"),
        Command::Dele(path) => format!("DELE {path}"),
        Command::Rnfr(path) => format!("RNFR {path}"),
        Command::Rnto(path) => format!("RNTO {path}"),
        Command::Size(path) => format!("SIZE {path}"),
        Command::Mdtm(path) => format!("MDTM {path}"),
        Command::Mfmt(time, path) => format!("MFMT {} {path}", timestamp(*time)),
        Command::MdtmTime { whole, time, path } => {
            assert_eq!(*whole, format!("{} {path}", timestamp(*time)));
            format!("MDTM {whole}")
        }
        Command::Utime(time, path) => {
            let time = timestamp(*time);
            format!("SITE UTIME {path} {time} {time} {time} UTC")
        }
        Command::Chmod(path) => format!("SITE CHMOD 644 {path}"),
        Command::SiteHelp => "SITE HELP".to_owned(),
        Command::Hash(None, path) => format!("HASH {path}"),
        Command::Hash(Some(_), _) => return None,
        Command::Hashes(path) => format!("SITE HASH {path}"),
        Command::Mlst(path) => format!("MLST {path}"),
        Command::Retr(path) => format!("RETR {path}"),
        Command::Stor(path) => format!("STOR {path}"),
        Command::Appe(path) => format!("APPE {path}"),
        Command::Stou => "STOU".to_owned(),
        Command::List(Format::Long, path) => format!("LIST -- {path}"),
        Command::List(Format::Names, path) => format!("NLST -- {path}"),
        Command::List(Format::Facts(_), path) => format!("MLSD {path}"),
    })
}
