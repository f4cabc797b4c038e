//! `drain.*`: the end of the process.

use std::time::Duration;

use crate::config::keys::row::*;
use crate::config::reader::Reader;

/// The rows of the table.
#[rustfmt::skip]
pub(in crate::config) const KEYS: &[Key] = &[
    key("drain.deadline", Time, Is("10m"),
        "How long sessions and their transfers may go on after SIGTERM; then `upload.on_interrupt` decides."),
    key("drain.idle", Time, Is("5s"),
        "A session that has rested for this time ends after SIGTERM; one that stores file after file goes on until `drain.deadline`."),
];

/// The end of the process.
#[derive(Debug, Clone)]
pub struct Drain {
    /// The longest time that transfers may go on after SIGTERM; 1 ms to 7 days.
    pub deadline: Duration,
    /// A session that has rested for so long ends then; 1 ms to 7 days.
    pub idle: Duration,
}

/// Reads the section.
pub(super) fn resolve(read: &mut Reader) -> Drain {
    Drain {
        deadline: read.duration("drain.deadline"),
        idle: read.duration("drain.idle"),
    }
}
