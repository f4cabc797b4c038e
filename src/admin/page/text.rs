//! Numbers and times as people read them.

use std::time::{Duration, SystemTime};

/// `12.3 MiB`
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64;
    let mut unit = "B";
    for larger in UNITS {
        // what would be written as 1024.0 is 1.0 of the next
        if value < 1023.95 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    format!("{value:.1} {unit}")
}

/// `12.3 MiB/s`
pub(super) fn rate(per_second: u64) -> String {
    format!("{}/s", bytes(per_second))
}

/// `3 d 4 h`, `5 min 6 s`: the two largest units.
pub(super) fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (1.., _, _) => format!("{days} d {} h", hours % 24),
        (_, 1.., _) => format!("{hours} h {} min", minutes % 60),
        (_, _, 1..) => format!("{minutes} min {} s", seconds % 60),
        _ => format!("{seconds} s"),
    }
}

/// `5 min 6 s ago`
pub(super) fn ago(then: SystemTime, now: SystemTime) -> String {
    format!("{} ago", span(now.duration_since(then).unwrap_or_default()))
}

/// `2026-01-31T12:00:00Z`, for programs.
pub(super) fn moment(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

/// `2026-01-31 12:00:00 UTC`, for people.
pub(super) fn clock(time: SystemTime) -> String {
    moment(time).replace('T', " ").replace('Z', " UTC")
}

/// A path may be as long as a line; its end says most.
pub(super) fn shortened(text: &str) -> String {
    // a line of the page, and the part of it that tells files of one directory apart
    const HEAD: usize = 160;
    const TAIL: usize = 120;
    if text.len() <= HEAD + TAIL {
        return text.to_owned();
    }
    let head = text.floor_char_boundary(HEAD);
    let tail = text.ceil_char_boundary(text.len() - TAIL);
    format!("{} … {}", &text[..head], &text[tail..])
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn sizes_have_one_decimal_and_the_largest_unit_that_fits() {
        for (count, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_048_575, "1.0 MiB"),
            (8 << 20, "8.0 MiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn times_have_two_units() {
        for (seconds, text) in [
            (0, "0 s"),
            (61, "1 min 1 s"),
            (7_260, "2 h 1 min"),
            (90_000, "1 d 1 h"),
        ] {
            assert_eq!(span(Duration::from_secs(seconds)), text);
        }
        assert_eq!(clock(UNIX_EPOCH), "1970-01-01 00:00:00 UTC");
    }

    #[test]
    fn long_names_keep_their_end_and_their_letters() {
        let long = format!("/{}/file.txt", "ä".repeat(1000));
        let short = shortened(&long);
        assert!(
            short.len() < 300 && short.ends_with("ä/file.txt"),
            "{short}"
        );
    }
}
