//! The refusals of an authenticator.

/// The authenticator let nobody in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Denied {
    /// It said no to this user with this password.
    Wrong(String),
    /// Its answer about this user can't be used; it may be fine for others.
    Unusable(String),
    /// It gives no usable answer, whoever is asked about.
    Failing(String),
}
