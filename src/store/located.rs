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
}
