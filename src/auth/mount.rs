//! A directory of a user's tree, and the rights in it.

use crate::config::Permissions;
use crate::store::client::Tenant;
use crate::store::{Home, StoreError, VirtualPath};

/// One thing that a user may do, or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// RETR
    Read,
    /// STOR, APPE, MKD, MFMT
    Write,
    /// DELE, RMD
    Delete,
    /// LIST, NLST, MLSD, MLST, STAT
    List,
    /// RNFR, RNTO
    Rename,
}

/// A directory of the tree whose files lie in a place of their own. The home is the mount at `/`.
#[derive(Debug)]
pub struct Mount {
    /// Where the user sees it.
    pub path: VirtualPath,
    /// Where its files lie.
    pub home: Home,
    /// The user's rights in it.
    pub permissions: Permissions,
    pub(super) tenant: Tenant,
}

impl Mount {
    /// Refuses what the user may not do here.
    pub fn may(&self, right: Right) -> Result<(), StoreError> {
        let granted = match right {
            Right::Read => self.permissions.read,
            Right::Write => self.permissions.write,
            Right::Delete => self.permissions.delete,
            Right::List => self.permissions.list,
            Right::Rename => self.permissions.rename,
        };
        if granted {
            Ok(())
        } else {
            Err(StoreError::Forbidden)
        }
    }
}
