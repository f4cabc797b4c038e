//! Directories as clients see them: the lines of LIST, NLST and MLSD.

use std::fmt::Write;
use std::time::SystemTime;

use time::{Date, Month, PrimitiveDateTime, Time};

use crate::store::{Entry, EntryKind};
use crate::utc::utc;

/// The three kinds of listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `LIST`: as `ls -l` prints, which is what clients parse in practice.
    Long,
    /// `NLST`: names that can be used as arguments (RFC 1123, section 4.1.2.7).
    Names,
    /// `MLSD`: facts (RFC 3659, section 7).
    Facts(Facts),
}

/// The facts that MLST and MLSD give, as the client has chosen them by OPTS (RFC 3659, section 7.9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    kind: bool,
    size: bool,
    modify: bool,
}

impl Facts {
    /// All that there are; what a client gets that chooses none.
    pub const ALL: Facts = Facts {
        kind: true,
        size: true,
        modify: true,
    };

    /// Those of `names` (`type;size;`) that are known, in any case; the others are left out, as the RFC has it.
    pub fn chosen(names: &str) -> Self {
        let has = |fact: &str| {
            let mut names = names.split(';');
            names.any(|name| name.trim().eq_ignore_ascii_case(fact))
        };
        Facts {
            kind: has("type"),
            size: has("size"),
            modify: has("modify"),
        }
    }

    fn list(self) -> [(&'static str, bool); 3] {
        [
            ("type", self.kind),
            ("size", self.size),
            ("modify", self.modify),
        ]
    }

    /// `type*;size*;modify*;`: all facts for FEAT, with a star at those that are chosen.
    pub fn features(self) -> String {
        let facts = self.list().map(|(name, is_chosen)| {
            let star = if is_chosen { "*" } else { "" };
            format!("{name}{star};")
        });
        facts.concat()
    }
}

impl std::fmt::Display for Facts {
    /// The chosen ones, for the reply to OPTS.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let chosen = self.list().into_iter().filter(|(_, is_chosen)| *is_chosen);
        chosen
            .into_iter()
            .try_for_each(|(name, _)| write!(f, "{name};"))
    }
}

/// Six months in seconds: `ls` shows the year instead of the time for what is older.
const HALF_A_YEAR: u64 = 182 * 24 * 3600;

impl Format {
    /// True if a line has a file's time.
    pub fn has_times(self) -> bool {
        match self {
            Format::Long => true,
            Format::Names => false,
            Format::Facts(chosen) => chosen.modify,
        }
    }

    /// Appends the line of one entry, with its line end. `directory` stands before names in NLST: the path that the
    /// client asked for with a `/` at the end, or nothing.
    pub fn line(self, entry: &Entry, directory: &str, now: SystemTime, out: &mut String) {
        match self {
            Format::Names => {
                out.push_str(directory);
                out.push_str(&entry.name);
            }
            Format::Facts(chosen) => {
                facts(entry, chosen, out);
                out.push(' ');
                out.push_str(&entry.name);
            }
            Format::Long => long(entry, now, out),
        }
        out.push_str("\r\n");
    }
}

/// The chosen facts of one entry, without its name.
pub fn facts(entry: &Entry, chosen: Facts, out: &mut String) {
    if chosen.kind {
        out.push_str(match entry.kind {
            EntryKind::Directory => "type=dir;",
            EntryKind::File => "type=file;",
        });
    }
    if chosen.size && entry.kind == EntryKind::File {
        // writing to a String can't fail
        let _ = write!(out, "size={};", entry.size);
    }
    if let Some(modified) = entry.modified.filter(|_| chosen.modify) {
        let _ = write!(out, "modify={};", timestamp(modified));
    }
}

/// `YYYYMMDDHHMMSS` in UTC (RFC 3659, section 2.3).
pub fn timestamp(time: SystemTime) -> String {
    let time = utc(time);
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
    // A store tells no time of a directory in a listing. `ls` has a column for one, and clients that sort by it, or delete
    // what is old, should take it for new: midnight, so that the same directory looks the same all day.
    let modified = entry.modified.unwrap_or_else(|| midnight(now));
    let time = utc(modified);
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

/// The beginning of the day in UTC.
fn midnight(now: SystemTime) -> SystemTime {
    utc(now).replace_time(Time::MIDNIGHT).into()
}

fn month_name(month: Month) -> &'static str {
    const NAMES: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    NAMES[usize::from(u8::from(month)) - 1]
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
            line(Format::Facts(Facts::ALL), &file, ""),
            "type=file;size=5000000000;modify=20231114221320; a b.txt\r\n"
        );
        let directory = Entry {
            name: "d".into(),
            kind: EntryKind::Directory,
            size: 0,
            modified: None,
        };
        assert_eq!(
            line(Format::Facts(Facts::ALL), &directory, ""),
            "type=dir; d\r\n"
        );
        // no time of its own: today's, at(1_700_100_000) being 16 November, 02:00
        let listed = line(Format::Long, &directory, "");
        assert!(listed.starts_with("drwxr-xr-x") && listed.ends_with(" Nov 16 00:00 d\r\n"));
    }

    #[test]
    fn a_client_gets_the_facts_that_it_chose() {
        let file = Entry {
            name: "f".into(),
            kind: EntryKind::File,
            size: 5,
            modified: Some(at(1_700_000_000)),
        };
        for (names, reply, listed, features) in [
            ("size;", "size;", "size=5; f", "type;size*;modify;"),
            (
                "Modify;TYPE;unique;",
                "type;modify;",
                "type=file;modify=20231114221320; f",
                "type*;size;modify*;",
            ),
            ("", "", " f", "type;size;modify;"),
        ] {
            let chosen = Facts::chosen(names);
            assert_eq!(chosen.to_string(), reply);
            assert_eq!(chosen.features(), features);
            let line = line(Format::Facts(chosen), &file, "");
            assert_eq!(line, format!("{listed}\r\n"));
        }
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
}
