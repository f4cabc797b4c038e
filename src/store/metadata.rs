//! What is known of one name: file, directory or nothing.

use std::time::SystemTime;

use aws_sdk_s3::primitives::DateTime;

use crate::store::client::Store;
use crate::store::error::StoreError;
use crate::store::key::{Home, KeyPrefix, ObjectKey};
use crate::store::path::VirtualPath;

/// One line of a listing, or the answer to a question for one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The last component of the path.
    pub name: String,
    /// File or directory.
    pub kind: EntryKind,
    /// Bytes; 0 for a directory.
    pub size: u64,
    /// The store's time; a directory has its marker's, if the marker was at hand.
    pub modified: Option<SystemTime>,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// An object.
    File,
    /// A marker `dir/`, or any key below `dir/`.
    Directory,
}

/// What a HEAD says about an object, as far as others need it.
#[derive(Debug, Clone)]
pub(super) struct Head {
    pub size: u64,
    pub etag: String,
    pub modified: Option<SystemTime>,
    pub content_type: Option<String>,
    pub metadata: Option<std::collections::HashMap<String, String>>,
}

impl Store {
    /// What `path` is. A file wins over a directory of the same name.
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
        let head = self.head(&home.key(path)?).await?;
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
        let prefix = home.directory(path)?;
        let first = match self.first_keys(&prefix, 1).await?.into_iter().next() {
            Some(first) => Some(first),
            None if path.is_root() => None,
            None => return Err(StoreError::NotFound),
        };
        let modified = first
            .filter(|(key, _)| key == prefix.as_str())
            .and_then(|(_, modified)| modified);
        Ok(Entry {
            name: path.name().to_owned(),
            kind: EntryKind::Directory,
            size: 0,
            modified,
        })
    }

    /// Makes the marker of a directory (`MKD`); whatever exists under that name is an error.
    pub async fn make_directory(&self, home: &Home, path: &VirtualPath) -> Result<(), StoreError> {
        let marker = home
            .directory(path)?
            .marker()
            .ok_or(StoreError::AlreadyExists)?;
        match self.entry(home, path).await {
            Err(StoreError::NotFound) => {}
            Ok(_) => return Err(StoreError::AlreadyExists),
            Err(error) => return Err(error),
        }
        let put = self
            .client()
            .put_object()
            .bucket(self.bucket())
            .key(marker.as_str())
            .content_length(0);
        let put = put
            .content_type("application/x-directory")
            .body(Vec::new().into())
            .send()
            .await;
        put.map(drop)
            .map_err(|error| StoreError::from_sdk("PutObject", error))
    }

    /// Removes the marker of an empty directory (`RMD`).
    pub async fn remove_directory(
        &self,
        home: &Home,
        path: &VirtualPath,
    ) -> Result<(), StoreError> {
        let prefix = home.directory(path)?;
        let Some(marker) = prefix.marker().filter(|_| !path.is_root()) else {
            return Err(StoreError::BadName(crate::store::NameError::Root));
        };
        let keys = self.first_keys(&prefix, 2).await?;
        if keys.is_empty() {
            return Err(StoreError::NotFound);
        }
        if keys.iter().any(|(key, _)| key != prefix.as_str()) {
            return Err(StoreError::NotEmpty);
        }
        self.delete_key(&marker).await
    }

    /// Removes a file (`DELE`); what is missing is an error, though S3 itself would call it success.
    pub async fn delete(&self, home: &Home, path: &VirtualPath) -> Result<(), StoreError> {
        match self.entry(home, path).await?.kind {
            EntryKind::Directory => Err(StoreError::IsDirectory),
            EntryKind::File => self.delete_key(&home.key(path)?).await,
        }
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
        Ok(Head {
            size: head
                .content_length()
                .and_then(|bytes| u64::try_from(bytes).ok())
                .unwrap_or_default(),
            modified: head.last_modified().and_then(system_time),
            etag: head.e_tag.unwrap_or_default(),
            content_type: head.content_type,
            metadata: head.metadata,
        })
    }

    pub(super) async fn delete_key(&self, key: &ObjectKey) -> Result<(), StoreError> {
        let deleted = self
            .client()
            .delete_object()
            .bucket(self.bucket())
            .key(key.as_str())
            .send()
            .await;
        deleted
            .map(drop)
            .map_err(|error| StoreError::from_sdk("DeleteObject", error))
    }

    /// The first few keys below a prefix, in the store's order, with their times.
    async fn first_keys(
        &self,
        prefix: &KeyPrefix,
        count: i32,
    ) -> Result<Vec<(String, Option<SystemTime>)>, StoreError> {
        let page = self
            .client()
            .list_objects_v2()
            .bucket(self.bucket())
            .prefix(prefix.as_str())
            .max_keys(count);
        let page = page
            .send()
            .await
            .map_err(|error| StoreError::from_sdk("ListObjectsV2", error))?;
        let keys = page.contents.unwrap_or_default().into_iter();
        Ok(keys
            .filter_map(|object| {
                Some((
                    object.key?,
                    object.last_modified.as_ref().and_then(system_time),
                ))
            })
            .collect())
    }
}

pub(super) fn system_time(time: &DateTime) -> Option<SystemTime> {
    SystemTime::try_from(*time).ok()
}
