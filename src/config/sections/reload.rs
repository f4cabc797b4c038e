//! `reload.interval`.

use crate::config::keys::row::*;

/// The rows of the table.
#[rustfmt::skip]
pub(in crate::config) const KEYS: &[Key] = &[
    key("reload.interval", Time, Is("5s"),
        "How often files are looked at that may change at run time, such as `users_file`."),
];
