//! The command table: a line of text becomes a typed command, or the reply that refuses it.
//!
//! Every command that a client can send is named here, so that libunftp only ever sees lines that the gateway composed.

mod arguments;
mod parse;

use std::net::SocketAddr;
use std::time::SystemTime;

pub(super) use arguments::SITE_HELP;

use crate::ftp::listformat::Format;
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

/// The protocol that `EPSV` asks for.
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
