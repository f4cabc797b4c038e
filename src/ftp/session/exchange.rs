//! The parameters of one transfer.

use std::time::Duration;

use crate::store::VirtualPath;

/// The parameters of one transfer.
pub(super) struct Exchange {
    pub(super) verb: &'static str,
    pub(super) path: VirtualPath,
    /// The text of the 150.
    pub(super) opening: String,
    /// Longest silence on the data connection.
    pub(super) stall: Duration,
}
