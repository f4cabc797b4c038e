//! The state behind the operations.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::blobs::Blobs;
use super::index::Index;

/// The store behind the protocol.
pub(super) struct Backend {
    pub(super) index: Index,
    pub(super) blobs: Arc<Blobs>,
}

/// The time that a change of the store is stamped with: whole seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_secs())
}
