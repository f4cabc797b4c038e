//! A path together with the home and the store that it lies in.

use crate::store::client::Store;
use crate::store::key::{Home, ObjectKey};
use crate::store::path::{NameError, VirtualPath};

/// A path of a home, and the store of the home.
#[derive(Clone)]
pub struct Located<'a> {
    /// The store.
    pub store: &'a Store,
    /// The home.
    pub home: &'a Home,
    /// The path in the home.
    pub path: VirtualPath,
}

impl Located<'_> {
    /// The key of the file here, as [`Home::key`].
    pub fn key(&self) -> Result<ObjectKey, NameError> {
        self.home.key(&self.path)
    }

    /// True if both are one name in the store.
    pub(super) fn has_key_of(&self, other: &Located<'_>) -> bool {
        self.store.has_bucket_of(other.store) && self.key() == other.key()
    }

    /// True if `other` lies in the directory that this lies in, at any depth.
    pub(super) fn is_joined_by(&self, other: &Located<'_>) -> bool {
        self.store.has_bucket_of(other.store)
            && self.home == other.home
            && self.path.parent().contains(&other.path)
    }
}
