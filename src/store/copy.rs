//! Renames: S3 has none, so a copy inside the store and then a delete of the source.
//!
//! Invariant: no source is deleted before every copy is done. A failure half-way leaves the source complete.

use std::ops::Range;

use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use futures::stream::{self, StreamExt, TryStreamExt};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::store::client::Store;
use crate::store::error::StoreError;
use crate::store::key::{Home, KeyPrefix, ObjectKey};
use crate::store::metadata::{EntryKind, Head};
use crate::store::path::VirtualPath;

/// Copies, or deletes, under way at the same time for one rename.
const IN_PARALLEL: usize = 16;

/// `x-amz-copy-source` is a URL path: everything but the unreserved characters and `/` is encoded.
const COPY_SOURCE: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

impl Store {
    /// Moves a file, replacing a file under the new name, or a whole directory, which the new name must not yet be.
    pub async fn rename(
        &self,
        home: &Home,
        from: &VirtualPath,
        to: &VirtualPath,
    ) -> Result<(), StoreError> {
        if from.is_root() || to.is_root() {
            return Err(StoreError::BadName(crate::store::NameError::Root));
        }
        let kind = self.entry(home, from).await?.kind;
        if from == to {
            return Ok(());
        }
        match kind {
            EntryKind::File => {
                // a file may replace a file, never hide a directory
                match self.directory_entry(home, to).await {
                    Err(StoreError::NotFound) => {}
                    Ok(_) => return Err(StoreError::IsDirectory),
                    Err(error) => return Err(error),
                }
                let source = home.key(from)?;
                self.copy(&source, &home.key(to)?).await?;
                self.delete_key(&source).await
            }
            EntryKind::Directory if from.contains(to) => Err(StoreError::IntoItself),
            EntryKind::Directory => match self.entry(home, to).await {
                Err(StoreError::NotFound) => self.rename_directory(home, from, to).await,
                Ok(_) => Err(StoreError::AlreadyExists),
                Err(error) => Err(error),
            },
        }
    }

    async fn rename_directory(
        &self,
        home: &Home,
        from: &VirtualPath,
        to: &VirtualPath,
    ) -> Result<(), StoreError> {
        let (from, to) = (home.directory(from)?, home.directory(to)?);
        let keys = self.all_keys(&from).await?;
        stream::iter(keys.iter().map(Ok::<_, StoreError>))
            .try_for_each_concurrent(IN_PARALLEL, |key| async {
                match from.moved(key, &to) {
                    Some(target) => self.copy(key, &target).await,
                    None => Err(StoreError::Integrity {
                        detail: "the listing left its prefix".to_owned(),
                    }),
                }
            })
            .await?;
        stream::iter(keys.iter().map(Ok::<_, StoreError>))
            .try_for_each_concurrent(IN_PARALLEL, |key| self.delete_key(key))
            .await
    }

    async fn all_keys(&self, prefix: &KeyPrefix) -> Result<Vec<ObjectKey>, StoreError> {
        let mut keys = Vec::new();
        let request = self
            .client()
            .list_objects_v2()
            .bucket(self.bucket())
            .prefix(prefix.as_str());
        let mut pages = request.into_paginator().send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| StoreError::from_sdk("ListObjectsV2", error))?;
            keys.extend(
                page.contents()
                    .iter()
                    .filter_map(|object| prefix.below(object.key()?)),
            );
        }
        Ok(keys)
    }

    /// Copies one object of any size, with its content type and metadata.
    pub(super) async fn copy(&self, from: &ObjectKey, to: &ObjectKey) -> Result<(), StoreError> {
        let head = self.head(from).await?;
        if head.size > self.settings().max_copy_bytes {
            return self.copy_in_parts(from, to, &head).await;
        }
        let request = self
            .client()
            .copy_object()
            .bucket(self.bucket())
            .key(to.as_str());
        let request = request
            .copy_source(self.copy_source(from))
            .copy_source_if_match(&head.etag);
        let sent = request
            .customize()
            .config_override(self.timeouts_for(head.size))
            .send()
            .await;
        sent.map(drop)
            .map_err(|error| StoreError::from_sdk("CopyObject", error))
    }

    async fn copy_in_parts(
        &self,
        from: &ObjectKey,
        to: &ObjectKey,
        head: &Head,
    ) -> Result<(), StoreError> {
        let request = self
            .client()
            .create_multipart_upload()
            .bucket(self.bucket())
            .key(to.as_str());
        let request = request
            .set_content_type(head.content_type.clone())
            .set_metadata(head.metadata.clone());
        let begun = request
            .send()
            .await
            .map_err(|error| StoreError::from_sdk("CreateMultipartUpload", error))?;
        let id = begun.upload_id.ok_or(StoreError::Integrity {
            detail: "the store gave no upload id".to_owned(),
        })?;

        let copied = self.copy_all_parts(from, to, head, &id).await;
        if copied.is_err() {
            // the error that the caller gets says why; the janitor sweeps what this can't
            let _ = self
                .client()
                .abort_multipart_upload()
                .bucket(self.bucket())
                .key(to.as_str())
                .upload_id(id)
                .send()
                .await;
        }
        copied
    }

    async fn copy_all_parts(
        &self,
        from: &ObjectKey,
        to: &ObjectKey,
        head: &Head,
        id: &str,
    ) -> Result<(), StoreError> {
        let settings = self.settings();
        // 10,000 parts of 512 MiB are 5 TB; larger objects need larger parts
        let part_bytes = settings
            .copy_part_bytes
            .max(head.size.div_ceil(crate::store::parts::MAX_PARTS));
        let parts = ranges(head.size, part_bytes, settings.min_part_bytes)
            .into_iter()
            .zip(1..);
        let mut done: Vec<CompletedPart> = stream::iter(parts)
            .map(|(range, number)| async move {
                let etag = copy_part(self, from, to, &head.etag, id, number, range).await?;
                Ok::<_, StoreError>(
                    CompletedPart::builder()
                        .part_number(number)
                        .e_tag(etag)
                        .build(),
                )
            })
            .buffer_unordered(settings.concurrency)
            .try_collect()
            .await?;
        done.sort_unstable_by_key(|part| part.part_number);
        let parts = CompletedMultipartUpload::builder()
            .set_parts(Some(done))
            .build();
        let request = self
            .client()
            .complete_multipart_upload()
            .bucket(self.bucket())
            .key(to.as_str());
        let request = request.upload_id(id).multipart_upload(parts);
        let sent = request
            .customize()
            .config_override(self.timeouts_for(head.size / 16))
            .send()
            .await;
        sent.map_err(|error| StoreError::from_sdk("CompleteMultipartUpload", error))?;
        let size = self.head(to).await?.size;
        if size == head.size {
            Ok(())
        } else {
            Err(StoreError::Integrity {
                detail: format!("the copy has {size} bytes, the source {}", head.size),
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

/// One UploadPartCopy, pinned to the source's ETag; returns the part's ETag.
pub(super) async fn copy_part(
    store: &Store,
    from: &ObjectKey,
    to: &ObjectKey,
    from_etag: &str,
    upload_id: &str,
    number: i32,
    range: Range<u64>,
) -> Result<String, StoreError> {
    let request = store
        .client()
        .upload_part_copy()
        .bucket(store.bucket())
        .key(to.as_str())
        .upload_id(upload_id);
    let request = request
        .part_number(number)
        .copy_source(store.copy_source(from))
        .copy_source_if_match(from_etag);
    let request = request.copy_source_range(format!("bytes={}-{}", range.start, range.end - 1));
    let sent = request
        .customize()
        .config_override(store.timeouts_for(range.end - range.start))
        .send()
        .await;
    let answer = sent.map_err(|error| StoreError::from_sdk("UploadPartCopy", error))?;
    let etag = answer.copy_part_result.and_then(|result| result.e_tag);
    etag.ok_or(StoreError::Integrity {
        detail: "the store gave no ETag for a copied part".to_owned(),
    })
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
    use proptest::prelude::*;

    use super::*;

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
