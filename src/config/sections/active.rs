//! `active.*`: active data connections.

use std::time::Duration;

use crate::config::keys::row::*;
use crate::config::reader::Reader;

/// The rows of the table.
#[rustfmt::skip]
pub(in crate::config) const KEYS: &[Key] = &[
    key("active.enabled", Choice(SWITCH), Is("false"),
        "Whether clients may ask for active mode (PORT, EPRT), as old devices do; connections go to the client's own address only, to ports from 1024 on."),
    key("active.connect_timeout", Time, Is("10s"),
        "How long a client may take to accept an active data connection; then the transfer is answered with 425."),
];

/// Active data connections.
#[derive(Debug, Clone)]
pub struct Active {
    /// True if PORT and EPRT are taken.
    pub enabled: bool,
    /// The longest time that the client may take to accept; 1 ms to 7 days.
    pub connect_timeout: Duration,
}

/// Reads the section.
pub(super) fn resolve(read: &mut Reader) -> Active {
    Active {
        enabled: read.switch("active.enabled"),
        connect_timeout: read.duration("active.connect_timeout"),
    }
}
