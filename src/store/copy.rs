//! Copies inside the store: of any size, with their metadata, verified.
//!
//! Invariant: a copy that is reported as done has the source's size, and was made of the very version that was asked for.
//! Where source and copy have comparable ETags (an MD5 of the content, so for objects of one part), equal ones say the
//! same without another request.

use std::ops::Range;

use aws_sdk_s3::types::{MetadataDirective, StorageClass};
use futures::stream::{self, StreamExt, TryStreamExt};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::store::client::Store;
use crate::store::error::StoreError;
use crate::store::key::ObjectKey;
use crate::store::metadata::Head;

/// `x-amz-copy-source` is a URL path: everything but the unreserved characters and `/` is encoded.
const COPY_SOURCE: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// The object that is to be copied, as a HEAD or a listing told it.
#[derive(Debug, Clone)]
pub(super) struct Original {
    pub key: ObjectKey,
    pub size: u64,
    /// Empty if the store gave none.
    pub etag: String,
    /// `None` is the store's standard class.
    pub storage_class: Option<StorageClass>,
}

impl Store {
    /// Copies one object of any size, with its content type and metadata; returns the copy's ETag.
    pub(super) async fn copy(&self, from: &Original, to: &ObjectKey) -> Result<String, StoreError> {
        let etag = if from.size == 0 && from.key.as_str().ends_with('/') {
            // SeaweedFS lists markers and copies none; there is nothing in them to copy anyway
            return self.put_marker(to).await;
        } else if from.size > self.settings().max_copy_bytes {
            let head = self.head(&from.key).await?;
            self.copy_in_parts(from, to, head).await?
        } else {
            self.copy_whole(from, to, None).await?
        };
        self.verify(from, to, &etag).await?;
        Ok(etag)
    }

    /// Gives an object other metadata, which S3 can only do by copying it onto itself.
    pub(super) async fn replace_metadata(
        &self,
        key: &ObjectKey,
        head: Head,
    ) -> Result<(), StoreError> {
        let original = head.original(key);
        let etag = if original.size > self.settings().max_copy_bytes {
            self.copy_in_parts(&original, key, head).await?
        } else {
            self.copy_whole(&original, key, Some(head)).await?
        };
        self.verify(&original, key, &etag).await
    }

    /// One CopyObject; `replaced` is what takes the place of the source's metadata.
    async fn copy_whole(
        &self,
        from: &Original,
        to: &ObjectKey,
        replaced: Option<Head>,
    ) -> Result<String, StoreError> {
        let request = self
            .client()
            .copy_object()
            .bucket(self.bucket())
            .key(to.as_str());
        let mut request = request
            .copy_source(self.copy_source(&from.key))
            .set_storage_class(from.storage_class.clone())
            .set_server_side_encryption(self.encryption())
            .set_ssekms_key_id(self.object_options().kms_key.clone())
            .set_copy_source_if_match(Some(from.etag.clone()).filter(|etag| !etag.is_empty()));
        if let Some(head) = replaced {
            request = request
                .metadata_directive(MetadataDirective::Replace)
                .set_content_type(head.content_type)
                .set_cache_control(head.cache_control)
                .set_content_disposition(head.content_disposition)
                .set_content_encoding(head.content_encoding)
                .set_content_language(head.content_language)
                .set_metadata(head.metadata);
        }
        let sent = request
            .customize()
            .config_override(self.timeouts_for_copy(from.size))
            .send()
            .await;
        let answer = sent.map_err(|error| StoreError::from_sdk("CopyObject", error))?;
        let etag = answer.copy_object_result.and_then(|result| result.e_tag);
        Ok(etag.unwrap_or_default())
    }

    async fn copy_in_parts(
        &self,
        from: &Original,
        to: &ObjectKey,
        head: Head,
    ) -> Result<String, StoreError> {
        let settings = self.settings();
        // 10,000 parts of 512 MiB are 5 TB; larger objects need larger parts
        let least = settings
            .copy_part_bytes
            .max(from.size.div_ceil(crate::store::parts::MAX_PARTS));
        // the janitor knows them by their size, as those of uploads
        let part_bytes = crate::store::parts::marked(least);
        let ranges = ranges(from.size, part_bytes, settings.min_part_bytes);
        let mut multipart = self.begin_copy(to, head).await?;
        let copied = stream::iter(ranges.into_iter().zip(1..))
            .map(|(range, number)| multipart.copy_part(&from.key, &from.etag, number, range))
            .buffer_unordered(settings.concurrency)
            .try_collect()
            .await;
        match copied {
            Ok(parts) => multipart.complete(parts).await,
            Err(error) => {
                multipart.abort().await;
                Err(error)
            }
        }
    }

    async fn verify(&self, from: &Original, to: &ObjectKey, etag: &str) -> Result<(), StoreError> {
        if is_md5(etag) && etag == from.etag {
            return Ok(());
        }
        let size = self.head(to).await?.size;
        if size == from.size {
            Ok(())
        } else {
            Err(StoreError::Integrity {
                detail: format!("the copy has {size} bytes, the source {}", from.size),
            })
        }
    }

    pub(super) fn copy_source(&self, key: &ObjectKey) -> String {
        format!(
            "{}/{}",
            self.bucket(),
            utf8_percent_encode(key.as_str(), COPY_SOURCE)
        )
    }
}

/// ETags of multipart uploads end in `-` and the number of parts, and depend on how the parts were cut. An encrypted
/// object's can look like an MD5; then two of them are not equal, and the size has to do.
fn is_md5(etag: &str) -> bool {
    let hex = etag.trim_matches('"');
    hex.len() == 32 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Cuts `bytes` into ranges of at most `most`, none under `least` unless there is only one.
pub(super) fn ranges(bytes: u64, most: u64, least: u64) -> Vec<Range<u64>> {
    let mut ranges = Vec::new();
    let mut start = 0;
    while start < bytes {
        let left = bytes - start;
        let length = match left {
            left if left <= most => left,
            // leave enough for the last one
            left if left < most + least => left - least,
            _ => most,
        };
        ranges.push(start..start + length);
        start += length;
    }
    ranges
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use proptest::prelude::*;

    use super::*;
    use crate::store::{Home, VirtualPath, testing};

    const MIB: u64 = 1 << 20;

    #[tokio::test]
    async fn large_objects_are_copied_in_parts_with_all_that_belongs_to_them() {
        let data = tempfile::tempdir().expect("a temporary directory");
        let (embedded, store) = testing::store(&data).await;
        let store = store.with(|settings| {
            settings.max_copy_bytes = 6 * MIB;
            settings.copy_part_bytes = 10 * MIB;
        });
        let home = Home::new("", &VirtualPath::root(), 1024);
        let path = |text| VirtualPath::resolve(&VirtualPath::root(), text).expect("a good path");
        let bytes: Vec<u8> = (0..25 * MIB).map(|at| (at / 1021) as u8).collect();
        let put = store.client().put_object().bucket("cosgate").key("a");
        let put = put.content_type("text/x-odd").cache_control("no-cache");
        let put = put.metadata("origin", "here").body(bytes.clone().into());
        put.send().await.expect("stored");

        store
            .rename(&home, &path("/a"), &path("/b"))
            .await
            .expect("renamed");
        let time = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let entry = store.set_modified(&home, &path("/b"), time).await;
        assert_eq!(entry.expect("a time is set").size, 25 * MIB);

        let head = store.head(&home.key(&path("/b")).expect("a key")).await;
        let head = head.expect("it is there");
        assert!(head.etag.contains("-3"), "{} is of three parts", head.etag);
        assert_eq!(head.content_type.as_deref(), Some("text/x-odd"));
        assert_eq!(head.cache_control.as_deref(), Some("no-cache"));
        assert_eq!(head.modified, Some(time));
        assert_eq!(head.metadata.expect("metadata")["origin"], "here");
        let get = store.client().get_object().bucket("cosgate").key("b");
        let body = get.send().await.expect("an answer").body;
        assert!(body.collect().await.expect("a whole body").to_vec() == bytes);
        assert!(matches!(
            store.file_entry(&home, &path("/a")).await,
            Err(StoreError::NotFound)
        ));
        embedded.stop().await;
    }

    #[tokio::test]
    async fn a_copy_that_is_given_up_half_way_leaves_no_unfinished_upload() {
        let data = tempfile::tempdir().expect("a temporary directory");
        let (embedded, store) = testing::store(&data).await;
        let home = Home::new("", &VirtualPath::root(), 1024);
        let key = |text| {
            let path = VirtualPath::resolve(&VirtualPath::root(), text).expect("a good path");
            home.key(&path).expect("a key")
        };
        let bytes = bytes::Bytes::from(vec![b'x'; 6 << 20]);
        store.put(&key("/a"), bytes).await.expect("stored");
        let head = store.head(&key("/a")).await.expect("it is there");
        let etag = head.etag.clone();

        let multipart = store.begin_copy(&key("/b"), head).await.expect("begun");
        let part = multipart.copy_part(&key("/a"), &etag, 1, 0..5 * MIB).await;
        part.expect("copied");
        let unfinished = || async {
            let list = store.client().list_multipart_uploads().bucket("cosgate");
            list.send().await.expect("an answer").uploads().len()
        };
        assert_eq!(unfinished().await, 1);
        drop(multipart);
        let gone = async {
            while unfinished().await > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), gone)
            .await
            .expect("it is aborted");
        embedded.stop().await;
    }

    proptest! {
        #[test]
        fn ranges_cover_everything_and_none_is_too_small(bytes in 5u64..1000, least in 1u64..5, extra in 0u64..50) {
            let most = 2 * least + extra;
            let ranges = ranges(bytes, most, least);
            prop_assert_eq!(ranges.first().map(|r| r.start), Some(0));
            prop_assert_eq!(ranges.last().map(|r| r.end), Some(bytes));
            prop_assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start));
            prop_assert!(ranges.iter().all(|r| r.end - r.start <= most && r.end - r.start >= least));
        }
    }
}
