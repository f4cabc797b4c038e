//! Times that others wrote, as calendar days.

use std::time::{SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;

/// 0000-01-01T00:00:00Z and 9999-12-31T23:59:59Z, in seconds of Unix time: FTP, HTTP and XML write years with four digits.
const YEARS: (i128, i128) = (-62_167_219_200, 253_402_300_799);

/// `time` in UTC; one whose year has no four digits becomes the nearest that has. [`OffsetDateTime::from`] panics there.
pub(crate) fn utc(time: SystemTime) -> OffsetDateTime {
    const NANOS: i128 = 1_000_000_000;
    let of = |nanos: u128| i128::try_from(nanos).unwrap_or(i128::MAX);
    let nanos = match time.duration_since(UNIX_EPOCH) {
        Ok(after) => of(after.as_nanos()),
        Err(before) => -of(before.duration().as_nanos()),
    };
    let (first, last) = YEARS;
    OffsetDateTime::from_unix_timestamp_nanos(nanos.clamp(first * NANOS, last * NANOS))
        .expect("it is in range")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_time_out_of_range_is_the_nearest_in_range() {
        let after = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        for (time, year) in [
            (after(0), 1970),
            (after(253_402_300_799), 9999),
            (after(253_402_300_800), 9999),
            (after(i64::MAX as u64), 9999),
            (UNIX_EPOCH - Duration::from_secs(62_167_219_200), 0),
            (UNIX_EPOCH - Duration::from_secs(62_167_219_201), 0),
            (UNIX_EPOCH - Duration::from_secs(i64::MAX as u64), 0),
        ] {
            assert_eq!(utc(time).year(), year, "{time:?}");
        }
        assert_eq!(utc(after(5) + Duration::from_millis(7)).millisecond(), 7);
    }
}
