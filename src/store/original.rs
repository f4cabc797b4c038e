//! The source of a copy.

use aws_sdk_s3::types::StorageClass;

use crate::store::client::Store;
use crate::store::head::Head;
use crate::store::key::ObjectKey;

/// The object that is to be copied, as a HEAD or a listing reported it.
#[derive(Clone)]
pub(super) struct Original {
    /// Where it is: the store of the copy, or one with the same endpoint and credentials.
    pub store: Store,
    pub key: ObjectKey,
    pub size: u64,
    /// Pins the version.
    pub etag: String,
    /// `None` is the store's standard class.
    pub storage_class: Option<StorageClass>,
}

impl Original {
    /// True if it is the object at `key` of `store`.
    pub(super) fn is_at(&self, store: &Store, key: &ObjectKey) -> bool {
        self.key == *key && self.store.has_bucket_of(store)
    }

    /// True for the marker of a directory.
    pub(super) fn is_marker(&self) -> bool {
        self.size == 0 && self.key.as_str().ends_with('/')
    }
}

impl Head {
    /// The facts for a copy of the object, which is at `key` of `store`.
    pub(super) fn original(&self, store: &Store, key: &ObjectKey) -> Original {
        Original {
            store: store.clone(),
            key: key.clone(),
            size: self.size,
            etag: self.etag.clone(),
            storage_class: self.storage_class.clone(),
        }
    }
}
