//! The list of users, and who decides over their passwords.

use crate::config::keys::row::*;

/// The rows of the table.
#[rustfmt::skip]
pub(in crate::config) const KEYS: &[Key] = &[
    key("users", Sections, Derived("none; embedded: a demo user is made at start"),
        "Who may log in; in the environment as JSON or YAML list."),
];

/// The authority over a user's password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Authority {
    /// The gateway, against the user's `password_hash`.
    Hash,
    /// Somebody else, who then sends home and permissions as well: no default stands for what is missing.
    Endpoint,
}

/// The key of the list.
pub(in crate::config::sections) const USERS: &str = "users";
