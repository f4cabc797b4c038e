//! A user's tree: the mounts, each with a place, a store and permissions of its own. The home, at `/`, is the only one so far.
//!
//! Invariant: a path belongs to one mount, and no path of a mount leads to a key outside of the mount's own place.

use std::sync::Arc;

use crate::auth::mount::{Mount, Right};
use crate::auth::user::User;
use crate::store::{Located, Store, StoreError, VirtualPath};

/// A user's files, with the stores that they are in.
#[derive(Clone)]
pub struct Tree {
    user: Arc<User>,
    /// One for each of the user's mounts, in the same order.
    stores: Arc<[Store]>,
}

impl Tree {
    /// `store_of` returns the store of a mount.
    pub fn new(user: Arc<User>, store_of: impl Fn(&Mount) -> Store) -> Self {
        Tree {
            stores: user.mounts.iter().map(store_of).collect(),
            user,
        }
    }

    /// The user.
    pub fn user(&self) -> &User {
        &self.user
    }

    /// The place of `path`.
    pub fn at(&self, path: &VirtualPath) -> Located<'_> {
        self.located(self.user.mount_index(path), path)
    }

    fn located(&self, index: usize, path: &VirtualPath) -> Located<'_> {
        let mount = &self.user.mounts[index];
        Located {
            store: &self.stores[index],
            home: &mount.home,
            path: path.below(&mount.path),
        }
    }

    /// The place of `path` for a user who has this right there.
    pub fn permitted(&self, path: &VirtualPath, right: Right) -> Result<Located<'_>, StoreError> {
        let index = self.user.mount_index(path);
        self.user.mounts[index].may(right)?;
        Ok(self.located(index, path))
    }
}

impl std::fmt::Debug for Tree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tree")
    }
}
