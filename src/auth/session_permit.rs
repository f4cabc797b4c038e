//! The permit of a session that has logged in.

use std::net::IpAddr;

use crate::permits::Permit;

/// Counts a session among those of its user, until it is dropped.
#[derive(Debug)]
pub struct SessionPermit {
    pub(super) _of_user: Permit<String>,
    pub(super) _from_network: Permit<(String, IpAddr)>,
}
