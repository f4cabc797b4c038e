//! Known facts about one name: file, directory or nothing.

use std::time::SystemTime;

use crate::store::attempts::Attempts;
use crate::store::client::Store;
use crate::store::conditions::unknown;
use crate::store::conditions::{Removal, overtaken};
use crate::store::error::StoreError;
use crate::store::head::{Head, MTIME, etag, format_mtime, system_time};
use crate::store::key::{Home, KeyPrefix, ObjectKey};
use crate::store::path::{NameError, VirtualPath};

/// One line of a listing, or the answer to a question for one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The last component of the path.
    pub name: String,
    /// File or directory.
    pub kind: EntryKind,
    /// Bytes; 0 for a directory.
    pub size: u64,
    /// The store's time, or the one that a client set if the object's metadata was at hand (in a listing only
    /// after `Listing::with_set_times`); a directory has its marker's, if the marker was at hand.
    pub modified: Option<SystemTime>,
}

impl Entry {
    /// A directory without a marker.
    pub fn directory(name: &str) -> Self {
        Entry {
            name: name.to_owned(),
            kind: EntryKind::Directory,
            size: 0,
            modified: None,
        }
    }
}

/// The kind of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// An object.
    File,
    /// A marker `dir/`, or any key below `dir/`.
    Directory,
}

impl Store {
    /// The entry at `path`. A file wins over a directory of the same name.
    ///
    /// Exact, whatever else shares the prefix: the name exists only if the key does, or a key below `name/`.
    pub async fn entry(&self, home: &Home, path: &VirtualPath) -> Result<Entry, StoreError> {
        if path.is_root() {
            return self.directory_entry(home, path).await;
        }
        match self.file_entry(home, path).await {
            Err(StoreError::NotFound) => self.directory_entry(home, path).await,
            answer => answer,
        }
    }

    /// The file at `path`: [`StoreError::NotFound`] if the key doesn't exist, directory or not.
    pub async fn file_entry(&self, home: &Home, path: &VirtualPath) -> Result<Entry, StoreError> {
        let key = home.key(path)?;
        let head = self.head(&key).await?;
        self.saw_file(&key);
        self.saw_way_to(&key);
        Ok(Entry {
            name: path.name().to_owned(),
            kind: EntryKind::File,
            size: head.size,
            modified: head.modified,
        })
    }

    /// The directory at `path`; the root always exists.
    pub async fn directory_entry(
        &self,
        home: &Home,
        path: &VirtualPath,
    ) -> Result<Entry, StoreError> {
        let prefix = match home.directory(path) {
            // there is room for a file's key, and none for the slash of a directory
            Err(NameError::TooLong { .. }) if home.key(path).is_ok() => {
                return Err(StoreError::NotFound);
            }
            prefix => prefix?,
        };
        let first = match self.first_keys(&prefix, 1).await?.into_iter().next() {
            Some(first) => Some(first),
            None if path.is_root() => None,
            None => return Err(StoreError::NotFound),
        };
        let has_marker = first
            .as_ref()
            .is_some_and(|first| first.key == prefix.as_str());
        self.saw_directory(&prefix, has_marker);
        let modified = first
            .filter(|first| first.key == prefix.as_str())
            .and_then(|marker| marker.modified);
        Ok(Entry {
            name: path.name().to_owned(),
            kind: EntryKind::Directory,
            size: 0,
            modified,
        })
    }

    /// True if any key begins as that of `path` does, with one request. If not, nothing of this name exists.
    pub async fn any_begins(&self, home: &Home, path: &VirtualPath) -> Result<bool, StoreError> {
        let key = home.key(path)?;
        let page = self.keys(key.as_str(), None, Some(1), None).await?;
        Ok(!page.objects.is_empty())
    }

    /// Makes the marker of a directory (`MKD`), and those of directories above it that don't exist; whatever exists under
    /// that name is an error.
    pub async fn make_directory(&self, home: &Home, path: &VirtualPath) -> Result<(), StoreError> {
        home.check_new(path)?;
        let prefix = home.directory(path)?;
        let marker = prefix.marker().ok_or(StoreError::AlreadyExists)?;
        let _name = self.lock_key(&marker).await?;
        match self.entry(home, path).await {
            Err(StoreError::NotFound) => {}
            Ok(_) => return Err(StoreError::AlreadyExists),
            Err(error) => return Err(error),
        }
        self.make_parents(home, path).await?;
        self.put_marker(&marker).await?;
        self.saw_directory(&prefix, true);
        Ok(())
    }

    /// Writes the marker of a directory; returns its ETag.
    pub(super) async fn put_marker(&self, marker: &ObjectKey) -> Result<String, StoreError> {
        let attempts = Attempts::default();
        let put = self
            .client()
            .put_object()
            .bucket(self.bucket())
            .key(marker.as_str())
            .content_length(0);
        let put = put
            .content_type("application/x-directory")
            .set_server_side_encryption(self.encryption())
            .set_ssekms_key_id(self.object_options().kms_key.clone())
            .body(Vec::new().into())
            .customize()
            .interceptor(attempts.clone())
            .send()
            .await;
        let error = match put {
            Ok(answer) => match etag("PutObject", answer.e_tag()) {
                Ok(etag) => return Ok(etag.to_owned()),
                Err(error) => error,
            },
            Err(error) => {
                let error = StoreError::from_sdk("PutObject", error);
                if !attempts.may_be_done() {
                    return Err(error);
                }
                attempts.not_done("PutObject", error)
            }
        };
        // one marker is as good as another
        match self.within_look(self.head(marker)).await {
            Ok(head) => Ok(head.etag),
            Err(StoreError::NotFound) => Err(error),
            Err(failure) => Err(unknown("PutObject", failure)),
        }
    }

    /// Removes the marker of an empty directory (`RMD`). A marker with content, which other programs may have stored, is a
    /// file that no path leads to: its directory counts as not empty.
    pub async fn remove_directory(
        &self,
        home: &Home,
        path: &VirtualPath,
    ) -> Result<(), StoreError> {
        let prefix = home.directory(path)?;
        let Some(marker) = prefix.marker().filter(|_| !path.is_root()) else {
            return Err(StoreError::BadName(NameError::Root));
        };
        let _tree = self.lock_tree(&prefix).await?;
        let keys = self.first_keys(&prefix, 2).await?;
        if keys.is_empty() {
            return Err(StoreError::NotFound);
        }
        if keys.iter().any(|found| !found.is_marker_of(&prefix)) {
            return Err(StoreError::NotEmpty);
        }
        let _leaving = self.keep_parent(home, path, &marker).await?;
        self.delete_key(&marker).await?;
        self.forget_directory(&prefix);
        Ok(())
    }

    /// Removes a file (`DELE`); what is missing is an error, though S3 itself would call it success. Nothing is removed before
    /// `ready` has come to an end.
    pub async fn delete(
        &self,
        home: &Home,
        path: &VirtualPath,
        ready: impl Future<Output = Result<(), StoreError>>,
    ) -> Result<(), StoreError> {
        if path.is_root() {
            return Err(StoreError::IsDirectory);
        }
        let key = home.key(path)?;
        let _name = self.lock_key(&key).await?;
        let (head, ready) = tokio::join!(self.head(&key), ready);
        match head {
            Ok(head) => {
                ready?;
                let _leaving = self.keep_parent(home, path, &key).await?;
                match self.delete_version(&key, &head.etag, true).await? {
                    Removal::Done => {
                        self.forget_file(&key);
                        Ok(())
                    }
                    Removal::Gone => Err(StoreError::NotFound),
                    // stored a moment ago, by another gateway or program
                    Removal::Replaced => Err(overtaken()),
                }
            }
            Err(StoreError::NotFound) => {
                self.directory_entry(home, path).await?;
                Err(StoreError::IsDirectory)
            }
            Err(error) => Err(error),
        }
    }

    /// Sets a file's modification time (`MFMT`), which S3 itself can't: it is kept in the object's metadata.
    pub async fn set_modified(
        &self,
        home: &Home,
        path: &VirtualPath,
        time: SystemTime,
    ) -> Result<Entry, StoreError> {
        let key = home.key(path)?;
        let _name = self.lock_key(&key).await?;
        let mut head = match self.head(&key).await {
            Err(StoreError::NotFound) => {
                self.directory_entry(home, path).await?;
                return Err(StoreError::IsDirectory);
            }
            head => head?,
        };
        let metadata = head.metadata.get_or_insert_default();
        metadata.insert(MTIME.to_owned(), format_mtime(time));
        let size = head.size;
        let replaced = self.replace_metadata(&key, head).await;
        // whatever the answer says, it may have been done
        self.forget_set_time(&key);
        replaced?;
        Ok(Entry {
            name: path.name().to_owned(),
            kind: EntryKind::File,
            size,
            modified: Some(time),
        })
    }

    pub(super) async fn head(&self, key: &ObjectKey) -> Result<Head, StoreError> {
        let head = self
            .client()
            .head_object()
            .bucket(self.bucket())
            .key(key.as_str())
            .send()
            .await;
        let head = head.map_err(|error| StoreError::from_sdk("HeadObject", error))?;
        Head::try_from(head)
    }

    pub(super) async fn delete_key(&self, key: &ObjectKey) -> Result<(), StoreError> {
        let attempts = Attempts::default();
        let deleted = self
            .client()
            .delete_object()
            .bucket(self.bucket())
            .key(key.as_str())
            .customize()
            .interceptor(attempts.clone())
            .send()
            .await;
        let Err(error) = deleted else {
            return Ok(());
        };
        let error = StoreError::from_sdk("DeleteObject", error);
        if !attempts.may_be_done() {
            return Err(error);
        }
        match self.within_look(self.head(key)).await {
            Err(StoreError::NotFound) => Ok(()),
            Ok(_) => Err(attempts.not_done("DeleteObject", error)),
            Err(failure) => Err(unknown("DeleteObject", failure)),
        }
    }

    /// The first few keys below a prefix, in the store's order.
    async fn first_keys(&self, prefix: &KeyPrefix, count: i32) -> Result<Vec<Found>, StoreError> {
        let objects = self.first_objects(prefix.as_str(), count).await?;
        Ok(objects
            .into_iter()
            .filter_map(|object| {
                Some(Found {
                    key: object.key?,
                    size: object.size.and_then(|bytes| u64::try_from(bytes).ok()),
                    modified: object.last_modified.as_ref().and_then(system_time),
                })
            })
            .collect())
    }
}

/// A key in a listing.
struct Found {
    key: String,
    /// Bytes, if the store said it.
    size: Option<u64>,
    modified: Option<SystemTime>,
}

impl Found {
    /// True for the directory's own marker, if there is nothing in it.
    fn is_marker_of(&self, directory: &KeyPrefix) -> bool {
        self.key == directory.as_str() && self.size == Some(0)
    }
}
