//! How a directory looks to a client: the lines of LIST, NLST and MLSD.

use std::fmt::Write;
use std::time::SystemTime;

use time::{Date, Month, OffsetDateTime, PrimitiveDateTime, Time};

use crate::store::{Entry, EntryKind};

/// The three kinds of listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `LIST`: as `ls -l` prints, which is what clients parse in practice.
    Long,
    /// `NLST`: names that can be used as arguments (RFC 1123, section 4.1.2.7).
    Names,
    /// `MLSD`: facts (RFC 3659, section 7).
    Facts,
}

/// The facts that MLST and MLSD give, as FEAT announces them.
pub const FACTS: &str = "type*;size*;modify*;";

/// Six months in seconds: `ls` shows the year instead of the time for what is older.
const HALF_A_YEAR: u64 = 182 * 24 * 3600;

impl Format {
    /// Appends the line of one entry, with its line end. `directory` stands before names in NLST: the path that the
    /// client asked for with a `/` at the end, or nothing.
    pub fn line(self, entry: &Entry, directory: &str, now: SystemTime, out: &mut String) {
        match self {
            Format::Names => {
                out.push_str(directory);
                out.push_str(&entry.name);
            }
            Format::Facts => {
                facts(entry, out);
                out.push(' ');
                out.push_str(&entry.name);
            }
            Format::Long => long(entry, now, out),
        }
        out.push_str("\r\n");
    }
}

/// The facts of one entry, without its name.
pub fn facts(entry: &Entry, out: &mut String) {
    match entry.kind {
        EntryKind::Directory => out.push_str("type=dir;"),
        // writing to a String can't fail
        EntryKind::File => drop(write!(out, "type=file;size={};", entry.size)),
    }
    if let Some(modified) = entry.modified {
        let _ = write!(out, "modify={};", timestamp(modified));
    }
}

/// `YYYYMMDDHHMMSS` in UTC (RFC 3659, section 2.3).
pub fn timestamp(time: SystemTime) -> String {
    let time = OffsetDateTime::from(time);
    let (year, month, day) = (time.year(), u8::from(time.month()), time.day());
    format!(
        "{year:04}{month:02}{day:02}{:02}{:02}{:02}",
        time.hour(),
        time.minute(),
        time.second()
    )
}

/// The time of a [`timestamp`]; a fraction of a second, which clients may send, is dropped.
pub fn parse_timestamp(text: &str) -> Option<SystemTime> {
    let (text, _fraction) = text.split_once('.').unwrap_or((text, ""));
    if text.len() != 14 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let two = |at: usize| text[at..at + 2].parse::<u8>().ok();
    let month = Month::try_from(two(4)?).ok()?;
    let date = Date::from_calendar_date(text[..4].parse().ok()?, month, two(6)?).ok()?;
    let time = Time::from_hms(two(8)?, two(10)?, two(12)?).ok()?;
    Some(PrimitiveDateTime::new(date, time).assume_utc().into())
}

fn long(entry: &Entry, now: SystemTime, out: &mut String) {
    let rights = match entry.kind {
        EntryKind::Directory => "drwxr-xr-x",
        EntryKind::File => "-rw-r--r--",
    };
    let modified = entry.modified.unwrap_or(SystemTime::UNIX_EPOCH);
    let time = OffsetDateTime::from(modified);
    let (month, day) = (month_name(time.month()), time.day());
    let _ = write!(
        out,
        "{rights}   1 ftp      ftp  {:>14} {month} {day:2} ",
        entry.size
    );
    let recent = now
        .duration_since(modified)
        .is_ok_and(|age| age.as_secs() < HALF_A_YEAR);
    let _ = match recent {
        true => write!(out, "{:02}:{:02} ", time.hour(), time.minute()),
        false => write!(out, "{:>5} ", time.year()),
    };
    out.push_str(&entry.name);
}

fn month_name(month: Month) -> &'static str {
    const NAMES: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    NAMES[usize::from(u8::from(month)) - 1]
}

/// True if `name` fits a shell pattern of `*` and `?`, which clients send for `mget` (`NLST *.jpg`).
pub fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // where to go on when a `*` has to take one letter more
    let mut retry = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                retry = Some((p + 1, n));
                p += 1;
            }
            Some(letter) if *letter == '?' || *letter == name[n] => (p, n) = (p + 1, n + 1),
            _ => match retry {
                Some((after_star, at)) => {
                    (p, n) = (after_star, at + 1);
                    retry = Some((after_star, at + 1));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|letter| *letter == '*')
}

/// True if a path's last component is a pattern.
pub fn is_pattern(name: &str) -> bool {
    name.contains(['*', '?'])
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn line(format: Format, entry: &Entry, directory: &str) -> String {
        let mut out = String::new();
        format.line(entry, directory, at(1_700_100_000), &mut out);
        out
    }

    #[test]
    fn each_format_prints_its_line() {
        let file = Entry {
            name: "a b.txt".into(),
            kind: EntryKind::File,
            size: 5_000_000_000,
            modified: Some(at(1_700_000_000)),
        };
        assert_eq!(
            line(Format::Long, &file, ""),
            "-rw-r--r--   1 ftp      ftp      5000000000 Nov 14 22:13 a b.txt\r\n"
        );
        assert_eq!(line(Format::Names, &file, "dir/"), "dir/a b.txt\r\n");
        assert_eq!(
            line(Format::Facts, &file, ""),
            "type=file;size=5000000000;modify=20231114221320; a b.txt\r\n"
        );
        let directory = Entry {
            name: "d".into(),
            kind: EntryKind::Directory,
            size: 0,
            modified: None,
        };
        assert_eq!(line(Format::Facts, &directory, ""), "type=dir; d\r\n");
        assert!(line(Format::Long, &directory, "").starts_with("drwxr-xr-x"));
    }

    #[test]
    fn what_is_old_or_in_the_future_shows_its_year() {
        let mut entry = Entry {
            name: "f".into(),
            kind: EntryKind::File,
            size: 1,
            modified: Some(at(1_600_000_000)),
        };
        assert!(line(Format::Long, &entry, "").contains("Sep 13  2020 f"));
        entry.modified = Some(at(1_800_000_000));
        assert!(line(Format::Long, &entry, "").contains("Jan 15  2027 f"));
    }

    #[test]
    fn timestamps_are_read_back_and_bad_ones_refused() {
        for text in [
            "20231114221320",
            "19691231235959",
            "00010101000000",
            "99991231235959",
        ] {
            assert_eq!(parse_timestamp(text).map(timestamp).as_deref(), Some(text));
        }
        assert_eq!(
            parse_timestamp("20231114221320.999"),
            Some(at(1_700_000_000))
        );
        for bad in [
            "",
            "2023",
            "20231314221320",
            "20230229000000",
            "2023111422132x",
            "+0231114221320",
            "20231114246060",
        ] {
            assert_eq!(parse_timestamp(bad), None, "{bad}");
        }
    }

    #[test]
    fn patterns_match_as_in_a_shell() {
        for (pattern, name, fits) in [
            ("*", "anything", true),
            ("*.jpg", "a.jpg", true),
            ("*.jpg", "a.jpeg", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*a*b", "xaybzb", true),
            ("", "", true),
            ("?", "ü", true),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
    }
}
