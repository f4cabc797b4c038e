//! The arguments of commands that have a form of their own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::SystemTime;

use super::{Command, TransferType};
use crate::ftp::listformat::parse_timestamp;
use crate::ftp::reply::Reply;
use crate::store::Algorithm;

/// The argument of `PORT` (RFC 959): four numbers of an IPv4 address and two of a port.
pub(super) fn port(word: &str) -> Option<SocketAddr> {
    let numbers: Result<Vec<u8>, _> = word.split(',').map(str::parse).collect();
    let [a, b, c, d, high, low] = numbers.ok()?.try_into().ok()?;
    let port = u16::from_be_bytes([high, low]);
    Some(SocketAddr::from((Ipv4Addr::new(a, b, c, d), port)))
}

/// The argument of `EPRT` (RFC 2428): `|1|address|port|` with any delimiter.
pub(super) fn eprt(word: &str) -> Result<SocketAddr, Reply> {
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

/// The argument of `TYPE` (RFC 959, section 5.3.1), in capitals. Clients write `A N`, `AN`, `L 8`, `L8`, with any number
/// of spaces.
pub(super) fn transfer_type(word: &str) -> Result<TransferType, Reply> {
    let compact: String = word.split_whitespace().collect();
    match compact.as_str() {
        "A" | "AN" => Ok(TransferType::Ascii),
        "I" | "L8" => Ok(TransferType::Image),
        "" => Err(Reply::new(501, "TYPE takes A, I or L 8")),
        _ => Err(Reply::new(504, "Only types A, I and L 8 are supported")),
    }
}

/// The argument of `MODE` and `STRU`, of which one letter is supported.
pub(super) fn setting(
    supported: &str,
    word: &str,
    yes: &'static str,
    no: &'static str,
) -> Result<Command, Reply> {
    match word {
        "" => Err(Reply::new(501, "A letter is missing")),
        word if word == supported => Ok(Command::Setting(Reply::new(200, yes))),
        _ => Err(Reply::new(504, no)),
    }
}

/// A listing's path: clients pass options of `ls` (`LIST -la dir`), which are taken off. A name that begins with `-` can be
/// written `./-x` or put behind `--`.
///
/// `-R` is refused: a client that asks for a whole tree and gets one directory takes the rest as deleted.
pub(super) fn listing(argument: &str) -> Result<&str, Reply> {
    let mut rest = argument;
    while let Some(option) = rest.strip_prefix('-') {
        if let Some(name) = option.strip_prefix("- ") {
            return Ok(name);
        }
        let end = option.find(' ').unwrap_or(option.len());
        let letters = &option[..end];
        if !letters
            .chars()
            .all(|letter| letter.is_ascii_alphanumeric() || letter == '-')
        {
            break;
        }
        let is_recursive = match letters.strip_prefix('-') {
            Some(long) => long == "recursive",
            None => letters.contains('R'),
        };
        if is_recursive {
            let text = "Recursive listings are not supported, list each directory";
            return Err(Reply::new(504, text));
        }
        rest = option[end..].trim_start_matches(' ');
    }
    Ok(rest)
}

/// `MDTM name`, or `MDTM YYYYMMDDHHMMSS name`, by which older clients set a time.
pub(super) fn mdtm(argument: String) -> Command {
    let parts = argument.split_once(' ').and_then(|(time, path)| {
        let is_timestamp = time.len() == 14 && !path.is_empty();
        Some((
            parse_timestamp(time).filter(|_| is_timestamp)?,
            path.to_owned(),
        ))
    });
    match parts {
        Some((time, path)) => Command::MdtmTime {
            time,
            path,
            whole: argument,
        },
        None => Command::Mdtm(argument),
    }
}

/// The help of `SITE` is good for, as `SITE HELP` shows it.
pub(in crate::ftp) const SITE_HELP: &str = "SITE commands\n\
    CHMOD mode name: nothing, objects have no permissions\n\
    UTIME YYYYMMDDhhmm[ss] name: sets the file's time in UTC\n\
    HASH name: all hashes that the store has of the file\n\
    SHA256, SHA1, MD5, CRC32, CRC32C, CRC64NVME, CRC64XZ name: one hash, if the store has it\n\
    HELP: this\n\
    End";

/// The argument of `SITE`.
pub(super) fn site(argument: &str) -> Result<Command, Reply> {
    let missing = || Reply::new(501, "A name is missing");
    let (word, rest) = argument.split_once(' ').unwrap_or((argument, ""));
    let algorithm = Algorithm::named(word);
    match word.to_ascii_uppercase().as_str() {
        "HELP" => Ok(Command::SiteHelp),
        "CHMOD" => match rest.split_once(' ') {
            Some((mode, path)) if !mode.is_empty() && !path.is_empty() => {
                Ok(Command::Chmod(path.to_owned()))
            }
            _ => Err(Reply::new(501, "SITE CHMOD takes a mode and a name")),
        },
        "UTIME" => utime(rest).ok_or_else(|| {
            let text =
                "SITE UTIME takes YYYYMMDDhhmm[ss] and a name, or a name, three times and UTC";
            Reply::new(501, text)
        }),
        "HASH" if rest.is_empty() => Err(missing()),
        _ if algorithm.is_some() && rest.is_empty() => Err(missing()),
        "HASH" => Ok(Command::Hashes(rest.to_owned())),
        _ if algorithm.is_some() => Ok(Command::Hash(algorithm, rest.to_owned())),
        _ => Err(Reply::new(504, "Unknown SITE command, see SITE HELP")),
    }
}

/// Both forms that are about: `YYYYMMDDhhmm[ss] name` (wu-ftpd), and `name atime mtime ctime UTC` (ncftp, proftpd), of
/// which the second time counts.
fn utime(rest: &str) -> Option<Command> {
    if let Some(stem) = strip_utc(rest)
        && let [_ctime, mtime, _atime, path] = stem.rsplitn(4, ' ').collect::<Vec<_>>()[..]
        && let Some(time) = minutes_or_seconds(mtime)
        && !path.is_empty()
    {
        return Some(Command::Utime(time, path.to_owned()));
    }
    let (time, path) = rest.split_once(' ')?;
    let time = minutes_or_seconds(time).filter(|_| !path.is_empty())?;
    Some(Command::Utime(time, path.to_owned()))
}

fn strip_utc(text: &str) -> Option<&str> {
    let (stem, zone) = text.rsplit_once(' ')?;
    zone.eq_ignore_ascii_case("UTC").then_some(stem)
}

/// `YYYYMMDDhhmm` or `YYYYMMDDhhmmss`
fn minutes_or_seconds(text: &str) -> Option<SystemTime> {
    match text.len() {
        12 => parse_timestamp(&format!("{text}00")),
        14 => parse_timestamp(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ftp::listformat::timestamp;

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
            ("-Report.txt", "-Report.txt"),
        ] {
            assert_eq!(listing(argument), Ok(rest), "{argument:?}");
        }
    }

    #[test]
    fn a_recursive_listing_is_refused() {
        for argument in ["-R", "-lR", "-al -R dir", "--recursive", "-R -- -x"] {
            let refused = listing(argument).map_err(|reply| reply.code);
            assert_eq!(refused, Err(504), "{argument:?}");
        }
    }

    #[test]
    fn a_type_is_known_in_all_its_spellings() {
        for word in ["A", "A N", "AN", "A  N"] {
            assert_eq!(transfer_type(word), Ok(TransferType::Ascii), "{word:?}");
        }
        for word in ["I", "L 8", "L8"] {
            assert_eq!(transfer_type(word), Ok(TransferType::Image), "{word:?}");
        }
        for (word, code) in [
            ("", 501),
            ("A T", 504),
            ("E", 504),
            ("L 7", 504),
            ("L", 504),
        ] {
            let refused = transfer_type(word).map_err(|reply| reply.code);
            assert_eq!(refused, Err(code), "{word:?}");
        }
    }

    #[test]
    fn a_time_is_set_in_each_form_that_clients_send() {
        for (line, wanted) in [
            ("202001020304 f", Some(("20200102030400", "f"))),
            ("20200102030405 a b", Some(("20200102030405", "a b"))),
            (
                "a b 20200102030405 20210102030405 20220102030405 UTC",
                Some(("20210102030405", "a b")),
            ),
            ("f", None),
            ("20201302030405 f", None),
            ("202001020304", None),
            ("202001020304 ", None),
            ("", None),
        ] {
            let found = utime(line).map(|command| match command {
                Command::Utime(time, path) => (timestamp(time), path),
                other => panic!("{other:?}"),
            });
            let wanted = wanted.map(|(time, path)| (time.to_owned(), path.to_owned()));
            assert_eq!(found, wanted, "{line:?}");
        }
    }
}
