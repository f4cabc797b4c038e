//! The version of an object that a download is bound to.

use std::sync::Arc;

use crate::store::client::Store;
use crate::store::expected_checksum::Checksum;
use crate::store::head::Head;
use crate::store::key::ObjectKey;

/// The version of an object that a download is bound to.
pub(super) struct Version {
    pub(super) store: Store,
    pub(super) key: ObjectKey,
    /// Never empty: an answer without one is an error.
    pub(super) etag: String,
    /// Bytes of the whole object.
    pub(super) size: u64,
    /// Of the whole object, if the first answer reported it.
    pub(super) checksum: Option<Checksum>,
}

impl Version {
    /// The version of `key` that `head` describes.
    pub fn of(store: &Store, key: &ObjectKey, head: &Head) -> Arc<Self> {
        Arc::new(Version {
            store: store.clone(),
            key: key.clone(),
            etag: head.etag.clone(),
            size: head.size,
            checksum: None,
        })
    }
}
