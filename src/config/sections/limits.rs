//! `limits.*`: bytes per second, for the gateway and for each session; and those of users.

use super::users::list::USERS;
use crate::config::keys::row::*;
use crate::config::parse::{self, Parsed, size_text};
use crate::config::reader::{Reader, Refused};

/// The rows of the table.
#[rustfmt::skip]
pub(in crate::config) const KEYS: &[Key] = &[
    key("limits.upload", Size, Unset,
        "Bytes per second that all clients together may send, such as `50MiB`, at least `1KiB`; sessions get equal parts. No limit if not set."),
    key("limits.download", Size, Unset,
        "Bytes per second that all clients together are sent, listings included."),
    key("limits.session.upload", Size, Unset,
        "Bytes per second that one session may send; `limits.upload` and `users[].limits.upload` hold besides."),
    key("limits.session.download", Size, Unset,
        "Bytes per second that one session is sent."),
];

/// The rows of users.
#[rustfmt::skip]
pub(in crate::config) const USER_KEYS: &[Key] = &[
    key("users[].limits.upload", Size, Unset,
        "Bytes per second that the user's sessions together may send; a changed users file holds for those that run, too."),
    key("users[].limits.download", Size, Unset,
        "Bytes per second that the user's sessions together are sent."),
    key("users[].limits.session.upload", Size, Derived("`limits.session.upload`"),
        "Bytes per second that one session of the user may send."),
    key("users[].limits.session.download", Size, Derived("`limits.session.download`"),
        "Bytes per second that one session of the user is sent."),
];

/// Limits of bandwidth.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Of the gateway's, or of a user's, sessions together.
    pub all: Rates,
    /// Of each session.
    pub session: Rates,
}

/// Bytes per second in each direction; at least 1024. None: no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rates {
    /// From clients.
    pub upload: Option<u64>,
    /// To clients.
    pub download: Option<u64>,
}

/// Reads the section.
pub(super) fn resolve(read: &mut Reader) -> Limits {
    limits(NAMES.map(|name| read.optional(name, rate)))
}

/// Reads the limits of user `index`.
pub(super) fn of_user(read: &mut Reader, index: usize) -> Result<Limits, Refused> {
    // every key is read, so that one run finds everything that is wrong
    let [upload, download, session_upload, session_download] =
        NAMES.map(|name| read.entry_optional(USERS, index, name, rate));
    Ok(limits([
        upload?,
        download?,
        session_upload?,
        session_download?,
    ]))
}

/// In the order of [`NAMES`].
fn limits([upload, download, session_upload, session_download]: [Option<u64>; 4]) -> Limits {
    Limits {
        all: Rates { upload, download },
        session: Rates {
            upload: session_upload,
            download: session_download,
        },
    }
}

/// The keys of a user's limits that are set, with their values.
pub(super) fn user_lines(limits: &Limits) -> impl Iterator<Item = (&'static str, String)> {
    let rates = [
        limits.all.upload,
        limits.all.download,
        limits.session.upload,
        limits.session.download,
    ];
    let lines = NAMES.into_iter().zip(rates);
    lines.filter_map(|(name, rate)| Some((name, size_text(rate?))))
}

/// A number of bytes per second.
fn rate(text: &str) -> Parsed<u64> {
    match parse::size(text)? {
        bytes if bytes < MIN_RATE => Err(
            "that is less than a client waits for; write at least 1KiB, such as 10MiB for 10 MiB per second"
                .into(),
        ),
        bytes => Ok(bytes),
    }
}

/// The keys, and those of a user below `users[]`.
const NAMES: [&str; 4] = [
    "limits.upload",
    "limits.download",
    "limits.session.upload",
    "limits.session.download",
];

/// Below, a share of the smallest size takes so long that clients take the transfer for dead.
const MIN_RATE: u64 = 1024;
