//! The requests of the outbox: events that lie in the bucket until their sinks have taken them.
//!
//! An entry is a small object `<outbox>/<id>`, and ids sort by time: a listing begins with the oldest.

use std::time::SystemTime;

use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use base64_simd::STANDARD;
use futures::stream::{self, TryStreamExt};
use md5::{Digest as _, Md5};

use crate::store::announcement::ObjectFacts;
use crate::store::checksum::ObjectChecksum;
use crate::store::client::Store;
use crate::store::conditions::{Removal, is_not_implemented};
use crate::store::error::StoreError;
use crate::store::head::{etag, system_time};
use crate::store::key::ObjectKey;
use crate::store::outcome::ID_METADATA;

/// Keys in one DeleteObjects, and in one page of a listing (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html>).
pub const BATCH: usize = 1000;

/// The longest entry that is read. An event has at most two keys of 1,024 bytes, which JSON makes six times as long at the worst.
const MAX_ENTRY_BYTES: u64 = 64 * 1024;

/// Deletes at the same time where the store has no DeleteObjects.
const IN_PARALLEL: usize = 8;

/// An entry as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its key.
    pub key: ObjectKey,
    /// The event's id: the key without the prefix.
    pub id: String,
    /// Which version it is.
    pub etag: String,
    /// When it was written, by the store's clock.
    pub modified: Option<SystemTime>,
}

/// The content of a key.
#[derive(Debug)]
pub struct Inspected {
    /// The mark of the upload that made it, if it has one.
    pub mark: Option<String>,
    /// When it was stored, by the store's clock.
    pub modified: Option<SystemTime>,
    /// The known facts about it.
    pub facts: ObjectFacts,
}

impl Store {
    /// Writes an entry, replacing an older version of it.
    pub(super) async fn write_entry(
        &self,
        key: &ObjectKey,
        body: Vec<u8>,
    ) -> Result<(), StoreError> {
        let put = self
            .client()
            .put_object()
            .bucket(self.bucket())
            .key(key.as_str())
            .content_length(i64::try_from(body.len()).unwrap_or(i64::MAX))
            .content_type("application/json")
            .set_server_side_encryption(self.encryption())
            .set_ssekms_key_id(self.object_options().kms_key.clone())
            .body(body.into())
            .send()
            .await;
        let answer = put.map_err(|error| StoreError::from_sdk("PutObject", error))?;
        etag("PutObject", answer.e_tag()).map(drop)
    }

    /// The oldest entries below `prefix`, up to `most`, and whether there are more.
    pub async fn list_entries(
        &self,
        prefix: &str,
        most: usize,
    ) -> Result<(Vec<Listed>, bool), StoreError> {
        let (mut entries, mut continuation) = (Vec::new(), None);
        // as many pages as full ones would be: a store that gives empty ones does not keep us
        for _ in 0..most.div_ceil(BATCH) {
            let page = self.keys(prefix, None, None, continuation).await?;
            for object in page.objects {
                let Some(id) = object.key().and_then(|key| key.strip_prefix(prefix)) else {
                    continue;
                };
                // the marker of a directory is no entry
                if id.is_empty() {
                    continue;
                }
                entries.push(Listed {
                    id: id.to_owned(),
                    key: ObjectKey::of_entry(prefix, id),
                    etag: object.e_tag().unwrap_or_default().to_owned(),
                    modified: object.last_modified().and_then(system_time),
                });
            }
            continuation = page.next;
            if continuation.is_none() {
                break;
            }
        }
        let more = continuation.is_some() || entries.len() > most;
        entries.truncate(most);
        Ok((entries, more))
    }

    /// The key of an entry.
    pub fn entry_key(&self, prefix: &str, id: &str) -> ObjectKey {
        ObjectKey::of_entry(prefix, id)
    }

    /// True if both are one bucket with the same credentials.
    pub fn is_same(&self, other: &Store) -> bool {
        std::ptr::eq(self.client(), other.client())
    }

    /// An entry's content; none if it is gone.
    pub async fn read_entry(&self, key: &ObjectKey) -> Result<Option<Vec<u8>>, StoreError> {
        let got = self
            .client()
            .get_object()
            .bucket(self.bucket())
            .key(key.as_str())
            .send()
            .await;
        let got = match got.map_err(|error| StoreError::from_sdk("GetObject", error)) {
            Ok(got) => got,
            Err(StoreError::NotFound) => return Ok(None),
            Err(error) => return Err(error),
        };
        let length = got
            .content_length()
            .and_then(|bytes| u64::try_from(bytes).ok());
        if length.is_none_or(|bytes| bytes > MAX_ENTRY_BYTES) {
            return Err(StoreError::Integrity {
                detail: format!("{key} is too large for an entry of the outbox"),
            });
        }
        let body = got.body.collect().await;
        let body = body.map_err(|error| StoreError::Unavailable {
            operation: "GetObject",
            source: Box::new(error),
        })?;
        Ok(Some(body.into_bytes().to_vec()))
    }

    /// The object under `key`; none if there is none.
    pub async fn inspect(&self, key: &str) -> Result<Option<Inspected>, StoreError> {
        let key = ObjectKey::of_entry("", key);
        let (head, print) = match self.head_with_checksums(&key).await {
            Ok(found) => found,
            Err(StoreError::NotFound) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mark = head
            .metadata
            .as_ref()
            .and_then(|metadata| metadata.get(ID_METADATA).cloned());
        Ok(Some(Inspected {
            mark,
            modified: head.stored,
            facts: ObjectFacts {
                size: head.size,
                etag: Some(head.etag.trim_matches('"').to_owned()),
                checksum: ObjectChecksum::of(print.crc64_nvme.as_deref(), print.cos_crc64),
                content_type: head.content_type,
                parts: 0,
            },
        }))
    }

    /// True if any key lies below `prefix`.
    pub async fn has_keys_below(&self, prefix: &str) -> Result<bool, StoreError> {
        let page = self.keys(prefix, None, Some(1), None).await?;
        Ok(!page.objects.is_empty())
    }

    /// Deletes an entry if it still is the version that was listed; false if it was written again since.
    pub async fn drop_entry(&self, entry: &Listed) -> Result<bool, StoreError> {
        let removal = self.delete_version(&entry.key, &entry.etag, false).await?;
        Ok(removal != Removal::Replaced)
    }

    /// Deletes up to [`BATCH`] entries, with one request where the store has one for many.
    pub async fn delete_entries(&self, keys: &[ObjectKey]) -> Result<(), StoreError> {
        let many = &self.conditions().delete_many;
        if keys.len() > 1 && many.get() != Some(false) {
            match self.delete_many(keys).await {
                Ok(()) => return Ok(()),
                Err(Many::Unknown) => many.learn(false),
                Err(Many::Failed(error)) => return Err(error),
            }
        }
        stream::iter(keys.iter().cloned().map(Ok))
            .try_for_each_concurrent(
                IN_PARALLEL,
                |key| async move { self.delete_key(&key).await },
            )
            .await
    }

    async fn delete_many(&self, keys: &[ObjectKey]) -> Result<(), Many> {
        let objects = keys
            .iter()
            .filter_map(|key| ObjectIdentifier::builder().key(key.as_str()).build().ok());
        let list = Delete::builder()
            .set_objects(Some(objects.collect()))
            .quiet(true)
            .build();
        let list = list.map_err(|error| {
            Many::Failed(StoreError::Integrity {
                detail: error.to_string(),
            })
        })?;
        let request = self.client().delete_objects().bucket(self.bucket());
        let sent = request
            .delete(list)
            .customize()
            .mutate_request(with_md5)
            .send()
            .await;
        let answer = match sent {
            Ok(answer) => answer,
            Err(error) if is_not_implemented(&error) => return Err(Many::Unknown),
            Err(error) => {
                return Err(match StoreError::from_sdk("DeleteObjects", error) {
                    // at COS it is a right of its own
                    StoreError::Refused { .. } | StoreError::Denied { .. } => Many::Unknown,
                    error => Many::Failed(error),
                });
            }
        };
        match answer.errors().first() {
            None => Ok(()),
            Some(error) => Err(Many::Failed(StoreError::Refused {
                operation: "DeleteObjects",
                source: format!(
                    "{} of {} keys, the first with {}",
                    answer.errors().len(),
                    keys.len(),
                    error.code().unwrap_or("no code")
                )
                .into(),
            })),
        }
    }
}

/// The failure of a DeleteObjects.
enum Many {
    /// The store doesn't have it, or not for these credentials.
    Unknown,
    Failed(StoreError),
}

/// COS demands this digest of a list of keys (<https://www.tencentcloud.com/document/product/436/8289>), which the SDK leaves out.
fn with_md5(request: &mut aws_sdk_s3::config::http::HttpRequest) {
    if let Some(digest) = request.body().bytes().map(Md5::digest) {
        let digest = STANDARD.encode_to_string(digest);
        request.headers_mut().insert("content-md5", digest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing;

    #[tokio::test]
    async fn entries_are_listed_read_and_deleted_one_by_one_or_together() {
        let data = tempfile::tempdir().expect("a temporary directory");
        let (embedded, store) = testing::store(&data).await;
        for many in [true, false] {
            store.conditions().delete_many.learn(many);
            let keys: Vec<ObjectKey> = (0..3)
                .map(|at| ObjectKey::of_entry(".o/", &format!("0{at}")))
                .collect();
            for key in &keys {
                let body = key.as_str().as_bytes().to_vec();
                store.write_entry(key, body).await.expect("written");
            }
            let (listed, more) = store.list_entries(".o/", 1000).await.expect("a listing");
            let ids: Vec<&str> = listed.iter().map(|entry| entry.id.as_str()).collect();
            assert_eq!(
                (ids.as_slice(), more),
                (["00", "01", "02"].as_slice(), false)
            );
            let body = store.read_entry(&keys[1]).await.expect("an answer");
            assert_eq!(body.as_deref(), Some(b".o/01".as_slice()));
            // written again since it was listed
            store
                .write_entry(&keys[0], b"x".to_vec())
                .await
                .expect("written");
            assert!(!store.drop_entry(&listed[0]).await.expect("an answer"));
            assert!(store.drop_entry(&listed[1]).await.expect("an answer"));
            assert_eq!(store.read_entry(&keys[1]).await.expect("an answer"), None);
            store.delete_entries(&keys).await.expect("deleted");
            let left = store.list_entries(".o/", 1000).await.expect("a listing");
            assert_eq!(left, (Vec::new(), false), "many: {many}");
        }
        embedded.stop().await;
    }
}
