//! Directories that stay, and names that don't collide.
//!
//! A directory that a client sees exists until a client removes it: a command that takes an entry out of it (`DELE`, `RMD`,
//! `RNTO`) leaves a marker where it would take the last one. The marker is written before the entry goes, so that a crash
//! between the two leaves one marker too many, never a directory that is gone.
//!
//! S3 itself doesn't mind a file `a` beside keys `a/b`, and many clients can't show or remove both. So a command that is
//! known to make such a pair is refused. An upload asks the store only if there is reason to: otherwise every small file
//! would cost a second request.

use tracing::debug;

use crate::chain::Chain;
use crate::store::client::Store;
use crate::store::error::StoreError;
use crate::store::key::{Home, KeyPrefix, ObjectKey};
use crate::store::known::Leaving;
use crate::store::located::Located;
use crate::store::path::VirtualPath;

/// Entries that one look at a directory returns: the last of them stands for the directory while the others are deleted,
/// so that one file in a hundred costs a request.
const ENTRIES: i32 = 100;

/// [`Store::keep_parent`] before `key` at `from` becomes `to`: a directory that the new name is in stays by itself.
pub(super) async fn keep_parent_of(
    from: &Located<'_>,
    to: &Located<'_>,
    key: &ObjectKey,
) -> Result<Option<Leaving>, StoreError> {
    if from.is_joined_by(to) {
        let parent = from.home.directory(&from.path.parent())?;
        // but no longer by the entry that goes
        return Ok(Some(from.store.leaving(&parent, key)));
    }
    from.store.keep_parent(from.home, &from.path, key).await
}

impl Store {
    /// Called before `key` is taken out of its directory: makes a marker if nothing else is there.
    ///
    /// The guard is to be kept until `key` is gone. Two commands that take the last two entries at the same time both see
    /// that the other one goes; two gateways don't.
    pub(super) async fn keep_parent(
        &self,
        home: &Home,
        path: &VirtualPath,
        key: &ObjectKey,
    ) -> Result<Option<Leaving>, StoreError> {
        let parent = path.parent();
        if parent.is_root() {
            return Ok(None);
        }
        let prefix = home.directory(&parent)?;
        let leaving = self.leaving(&prefix, key);
        if self.will_stay(&leaving) {
            return Ok(Some(leaving));
        }
        let page = self.keys(prefix.as_str(), Some("/"), Some(ENTRIES), None);
        let page = page.await?;
        let objects = page.objects.iter().filter_map(|object| object.key());
        if objects.clone().any(|key| key == prefix.as_str()) {
            self.saw_directory(&prefix, true);
            return Ok(Some(leaving));
        }
        let below = page.directories.iter().filter_map(|below| below.prefix());
        if self.one_stays(&leaving, objects.chain(below)) {
            return Ok(Some(leaving));
        }
        match self.mark(&prefix).await {
            Ok(()) => {}
            // credentials that may delete and not write, or a store that is full: better an empty directory less than a
            // file that can't be deleted
            Err(error @ (StoreError::Denied { .. } | StoreError::NoSpace { .. })) => {
                debug!(%path, error = %Chain(&error), "no marker for a directory that gets empty");
            }
            Err(error) => return Err(error),
        }
        Ok(Some(leaving))
    }

    async fn mark(&self, prefix: &KeyPrefix) -> Result<(), StoreError> {
        let Some(marker) = prefix.marker() else {
            return Ok(());
        };
        self.put_marker(&marker).await?;
        self.saw_directory(prefix, true);
        Ok(())
    }

    /// Makes the markers of directories above `path` that don't exist yet, for `MKD a/b/c`.
    pub(super) async fn make_parents(
        &self,
        home: &Home,
        path: &VirtualPath,
    ) -> Result<(), StoreError> {
        for prefix in self.missing_parents(home, path).await?.iter().rev() {
            self.mark(prefix).await?;
        }
        Ok(())
    }

    /// Refuses a path below a file. Returns the directories above it that don't exist, the deepest first.
    pub(super) async fn missing_parents(
        &self,
        home: &Home,
        path: &VirtualPath,
    ) -> Result<Vec<KeyPrefix>, StoreError> {
        let mut missing = Vec::new();
        let mut parent = path.parent();
        while !parent.is_root() {
            let prefix = home.directory(&parent)?;
            // what is above a directory that exists, exists as well
            if self.knows_directory(&prefix) {
                break;
            }
            match self.directory_entry(home, &parent).await {
                Ok(_) => break,
                Err(StoreError::NotFound) => {}
                Err(error) => return Err(error),
            }
            match self.head(&home.key(&parent)?).await {
                Ok(_) => return Err(StoreError::NotDirectory),
                Err(StoreError::NotFound) => missing.push(prefix),
                Err(error) => return Err(error),
            }
            parent = parent.parent();
        }
        Ok(missing)
    }

    /// Refuses a name for an upload that is known to be a directory's, or to lie below a file. The store is asked only where
    /// a session has seen the other thing; a pair that is there already stays usable.
    pub async fn check_collision(&self, home: &Home, path: &VirtualPath) -> Result<(), StoreError> {
        // a name with as many bytes as a key may have leaves no room for a directory's slash
        if let Ok(directory) = home.directory(path)
            && self.knows_directory(&directory)
            && self.is_only_directory(home, path).await?
        {
            return Err(StoreError::IsDirectory);
        }
        let mut parent = path.parent();
        while !parent.is_root() {
            let file = home.key(&parent)?;
            if self.knows_file(&file) && self.is_only_file(home, &parent).await? {
                return Err(StoreError::NotDirectory);
            }
            parent = parent.parent();
        }
        Ok(())
    }

    async fn is_only_directory(&self, home: &Home, path: &VirtualPath) -> Result<bool, StoreError> {
        match self.directory_entry(home, path).await {
            Ok(_) => {}
            Err(StoreError::NotFound) => {
                self.forget_directory(&home.directory(path)?);
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
        match self.head(&home.key(path)?).await {
            Ok(_) => Ok(false),
            Err(StoreError::NotFound) => Ok(true),
            Err(error) => Err(error),
        }
    }

    async fn is_only_file(&self, home: &Home, path: &VirtualPath) -> Result<bool, StoreError> {
        let key = home.key(path)?;
        match self.head(&key).await {
            Ok(_) => {}
            Err(StoreError::NotFound) => {
                self.forget_file(&key);
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
        match self.directory_entry(home, path).await {
            Ok(_) => Ok(false),
            Err(StoreError::NotFound) => Ok(true),
            Err(error) => Err(error),
        }
    }
}
