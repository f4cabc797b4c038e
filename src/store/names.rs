//! The names of a store: those that commands have in work, and what is known of them.

use std::hash::Hash;
use std::time::Duration;

use crate::store::client::Store;
use crate::store::error::StoreError;
use crate::store::key::{KeyPrefix, ObjectKey};
use crate::store::known::Leaving;
use crate::store::locks::{NameGuard, Scope};

/// The longest time that a command waits for a name that another one has in work. FTP clients give up on a silent control connection
/// after 20 to 60 seconds, and the longest that a name is taken is the copy of one large object.
const NAME_TIMEOUT: Duration = Duration::from_secs(30);

impl Store {
    /// Waits until no other command of this process has one of `names` in work, for [`NAME_TIMEOUT`] at most.
    pub(super) async fn lock_names<'a>(
        &'a self,
        names: impl IntoIterator<Item = (&'a str, Scope)>,
    ) -> Result<NameGuard, StoreError> {
        let names = names.into_iter().map(|(key, scope)| (self, key, scope));
        self.lock_names_of(names).await
    }

    /// The same for names of several stores.
    pub(super) async fn lock_names_of<'a>(
        &self,
        names: impl IntoIterator<Item = (&'a Store, &'a str, Scope)>,
    ) -> Result<NameGuard, StoreError> {
        let full = |(store, key, scope): (&Store, &str, _)| {
            let name = format!("{}/{}", store.bucket(), key.trim_end_matches('/'));
            (name, scope)
        };
        let locked = self
            .name_locks()
            .acquire(names.into_iter().map(full).collect());
        tokio::time::timeout(NAME_TIMEOUT, locked)
            .await
            .map_err(|_| StoreError::Busy {
                detail: "another command is at work on this name",
            })
    }

    /// The same for one object.
    pub(super) async fn lock_key(&self, key: &ObjectKey) -> Result<NameGuard, StoreError> {
        self.lock_names([(key.as_str(), Scope::Name)]).await
    }

    /// The same for a directory with all that is in it.
    pub(super) async fn lock_tree(&self, prefix: &KeyPrefix) -> Result<NameGuard, StoreError> {
        self.lock_names([(prefix.as_str(), Scope::Tree)]).await
    }
}

/// See `known`.
impl Store {
    /// Two stores may have the same key.
    pub(super) fn id(&self, key: &str) -> u64 {
        self.known().hash(&(self.site_id(), self.bucket(), key))
    }

    /// True if both are the same bucket, whatever the credentials.
    pub fn has_bucket_of(&self, other: &Store) -> bool {
        self.bucket() == other.bucket() && self.site_id() == other.site_id()
    }

    /// A number for another site than the gateway's own.
    pub(super) fn hash_of_site(&self, site: &impl Hash) -> u64 {
        self.known().hash(site)
    }

    /// A file was seen. It may be gone again by now, so that it doesn't stand for its directory.
    pub(super) fn saw_file(&self, key: &ObjectKey) {
        self.known().saw_file(self.id(key.as_str()));
    }

    /// A file was stored a moment ago: all directories above it are there.
    pub fn saw_stored(&self, key: &ObjectKey) {
        let id = self.id(key.as_str());
        self.known().saw_stored(id, &self.ways_to(key.as_str(), 0));
    }

    /// A file was read: the directories above it are there.
    pub(super) fn saw_way_to(&self, key: &ObjectKey) {
        let above = self.ways_to(key.as_str(), 0);
        self.known().saw_directories(&above, false);
    }

    /// A directory was seen, with its marker or without: it and all directories above it are there.
    pub(super) fn saw_directory(&self, prefix: &KeyPrefix, has_marker: bool) {
        let ways = self.ways_to(prefix.as_str(), 0);
        self.known().saw_directories(&ways, has_marker);
    }

    /// The same of a directory whose parent was seen already.
    pub(super) fn saw_subdirectory(&self, prefix: &KeyPrefix, has_marker: bool) {
        let id = self.id(prefix.as_str());
        self.known().saw_directories(&[id], has_marker);
    }

    /// The numbers of the directories that `key` lies in, or is, the outermost first; of those whose names have `from` bytes at least.
    fn ways_to(&self, key: &str, from: usize) -> Vec<u64> {
        let ends = key.match_indices('/').map(|(at, _)| at + 1);
        let ends = ends.filter(|end| *end >= from);
        ends.map(|end| self.id(&key[..end])).collect()
    }

    /// A file is gone.
    pub(super) fn forget_file(&self, key: &ObjectKey) {
        self.known().forget_file(self.id(key.as_str()));
    }

    /// A directory is gone.
    pub(super) fn forget_directory(&self, prefix: &KeyPrefix) {
        self.known().forget_directory(self.id(prefix.as_str()));
    }

    /// An object was copied while its directory is moved: a file, or the marker of a directory.
    pub(super) fn saw_copied(&self, key: &ObjectKey) {
        match key.as_directory() {
            Some(directory) => self.saw_directory(&directory, true),
            None => self.saw_stored(key),
        }
    }

    /// An object below `prefix` was moved away, as all others there: the directories on its way are gone with it.
    pub(super) fn forget_moved(&self, prefix: &KeyPrefix, key: &ObjectKey) {
        let key = key.as_str();
        let directories = self.ways_to(key, prefix.as_str().len());
        self.known().forget_moved(self.id(key), &directories);
    }

    pub(super) fn knows_file(&self, key: &ObjectKey) -> bool {
        self.known().knows_file(self.id(key.as_str()))
    }

    pub(super) fn knows_directory(&self, prefix: &KeyPrefix) -> bool {
        self.known().knows_directory(self.id(prefix.as_str()))
    }

    /// Notes that `key`, a file or a marker, is about to leave `directory`.
    pub(super) fn leaving(&self, directory: &KeyPrefix, key: &ObjectKey) -> Leaving {
        let (directory, entry) = (self.id(directory.as_str()), self.id(key.as_str()));
        self.known().leaving(directory, entry)
    }

    /// True if the directory was seen lately with its marker, or with an entry that stays.
    pub(super) fn will_stay(&self, leaving: &Leaving) -> bool {
        self.known().will_stay(leaving)
    }

    /// Picks an entry that stays from those that the directory has now, the last one, and remembers it. False if all go.
    pub(super) fn one_stays<'a>(
        &self,
        leaving: &Leaving,
        keys: impl DoubleEndedIterator<Item = &'a str>,
    ) -> bool {
        let ids = keys.rev().map(|key| self.id(key));
        self.known().one_stays(leaving, ids)
    }
}
