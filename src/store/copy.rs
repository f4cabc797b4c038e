//! Copies inside the store: of any size, with their metadata, verified.
//!
//! Invariant: a copy that is reported as done was made of the very version that was asked for, and the store has shown it:
//! by an ETag equal to the source's (an MD5 of the content, so for objects of one part), or by a HEAD with the ETag that
//! the copy was answered with and the source's size.

use std::ops::Range;

use aws_sdk_s3::types::MetadataDirective;
use futures::stream::{self, StreamExt, TryStreamExt};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::store::attempts::Attempts;
use crate::store::client::Store;
use crate::store::conditions::{Replaces, is_not_implemented, is_same_etag, quoted, unknown};
use crate::store::describe::describe;
use crate::store::error::StoreError;
use crate::store::head::{Head, MTIME};
use crate::store::http_status::HttpStatus;
use crate::store::key::ObjectKey;
use crate::store::original::Original;
use crate::store::outcome::ID_METADATA;

/// The number of times that a copy begins again because its source was replaced under it.
pub(super) const COPY_ATTEMPTS: usize = 3;

/// `x-amz-copy-source` is a URL path: everything but the unreserved characters and `/` is encoded.
const COPY_SOURCE: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

impl Original {
    /// `x-amz-copy-source`
    pub(super) fn copy_source(&self) -> String {
        self.store.copy_source(&self.key)
    }

    /// True if the version still is there.
    async fn is_there(&self) -> Result<bool, StoreError> {
        match self.store.head(&self.key).await {
            Ok(head) => Ok(is_same_etag(&head.etag, &self.etag)),
            Err(StoreError::NotFound) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// A copy of at most so many bytes may be made twice, to learn what the store does.
const LEARNING_COPY_BYTES: u64 = 1 << 20;

fn source_changed() -> StoreError {
    StoreError::Changed {
        detail: "the file was replaced while it was copied",
    }
}

impl Store {
    /// Copies one object of any size, with its content type and metadata; returns the copy's ETag.
    ///
    /// The copy is of the very version that `from` describes: [`StoreError::Changed`] if it has been replaced,
    /// [`StoreError::NotFound`] if it is gone. [`StoreError::AlreadyExists`] if `replaces` doesn't allow what is there.
    pub(super) async fn copy(
        &self,
        from: &Original,
        to: &ObjectKey,
        replaces: &Replaces,
    ) -> Result<String, StoreError> {
        if from.is_marker() {
            // SeaweedFS lists markers and copies none; there is nothing in them to copy anyway
            return self.put_marker(to).await;
        }
        if self.must_be_new(replaces) && !self.conditions().copy.is_known() {
            match self.head(to).await {
                Err(StoreError::NotFound) => {}
                Ok(_) => return Err(StoreError::AlreadyExists),
                Err(error) => return Err(error),
            }
        }
        let etag = if from.size > self.settings().max_copy_bytes {
            let head = from.store.head(&from.key).await?;
            if !is_same_etag(&head.etag, &from.etag) {
                return Err(source_changed());
            }
            let head = from.store.with_tags(&from.key, head).await;
            match self.copy_in_parts(from, to, &head, replaces.clone()).await {
                Err(StoreError::Busy { .. }) => return Err(StoreError::AlreadyExists),
                copied => Some(copied?),
            }
        } else {
            let etag = self.copy_whole(from, to, None, replaces).await?;
            self.learn_copy_condition(from, to, replaces).await;
            etag
        };
        let verified = self.within_look(self.verify(from, to, etag)).await;
        // the store said that it is done, so what was there may be gone
        verified.map_err(|failure| unknown("CopyObject", failure))
    }

    /// Gives an object other metadata, which S3 can only do by copying it onto itself.
    pub(super) async fn replace_metadata(
        &self,
        key: &ObjectKey,
        head: Head,
    ) -> Result<(), StoreError> {
        let original = head.original(self, key);
        let etag = if original.size > self.settings().max_copy_bytes {
            let head = self.with_tags(key, head).await;
            let replaces = Replaces::Version(original.etag.clone());
            Some(self.copy_in_parts(&original, key, &head, replaces).await?)
        } else {
            // the source is pinned, and it is the target
            let etag = self
                .copy_whole(&original, key, Some(&head), &Replaces::Any)
                .await?;
            match etag {
                None => {
                    let found = self.within_look(self.find_described(key, &head)).await;
                    found.map_err(|failure| unknown("CopyObject", failure))?
                }
                etag => etag,
            }
        };
        let verified = self.within_look(self.verify(&original, key, etag)).await;
        verified
            .map(drop)
            .map_err(|failure| unknown("CopyObject", failure))
    }

    /// One CopyObject; `replaced` is what takes the place of the source's metadata. Returns the ETag, if the store said
    /// one.
    async fn copy_whole(
        &self,
        from: &Original,
        to: &ObjectKey,
        replaced: Option<&Head>,
        replaces: &Replaces,
    ) -> Result<Option<String>, StoreError> {
        let is_onto_itself = from.is_at(self, to);
        let is_new = self.must_be_new(replaces) && !is_onto_itself;
        loop {
            let guard = (is_new && self.conditions().copy.get() != Some(false)).then_some("*");
            let request = self
                .client()
                .copy_object()
                .bucket(self.bucket())
                .key(to.as_str());
            let mut request = request
                .copy_source(from.copy_source())
                .set_server_side_encryption(self.encryption())
                .set_ssekms_key_id(self.object_options().kms_key.clone())
                .set_if_none_match(guard.map(str::to_owned))
                .copy_source_if_match(quoted(&from.etag));
            request = match replaced {
                // the store copies the tags, unless it is told others
                Some(head) => {
                    describe!(request, head).metadata_directive(MetadataDirective::Replace)
                }
                None => request.set_storage_class(from.storage_class.clone()),
            };
            let attempts = Attempts::default();
            let sent = request
                .customize()
                .config_override(self.timeouts_for_copy(from.size))
                .interceptor(attempts.clone())
                .send()
                .await;
            let error = match sent {
                Ok(answer) => return Ok(answer.copy_object_result.and_then(|result| result.e_tag)),
                Err(error) => error,
            };
            if guard.is_some() && is_not_implemented(&error) {
                self.conditions().copy.learn(false);
                continue;
            }
            let is_refused = matches!(
                error.raw_response().map(HttpStatus::status),
                Some(409 | 412)
            );
            let error = StoreError::from_sdk("CopyObject", error);
            // what was done is not known after a lost answer: look
            if attempts.may_be_done() {
                let found = match replaced {
                    Some(head) => self.within_look(self.find_described(to, head)).await,
                    None => self.within_look(self.find_copy(from, to)).await,
                };
                let found = found.map_err(|failure| unknown("CopyObject", failure))?;
                if found.is_some() {
                    return Ok(found);
                }
            }
            if !is_refused {
                return Err(attempts.not_done("CopyObject", error));
            }
            return Err(match self.head(to).await {
                Ok(_) if is_new => {
                    if guard.is_some() && from.is_there().await? {
                        self.conditions().copy.learn(true);
                    }
                    StoreError::AlreadyExists
                }
                Ok(_) | Err(StoreError::NotFound) => source_changed(),
                Err(error) => error,
            });
        }
    }

    /// Asks a store that took a copy with a guard whether it knows the guard: the same copy again has to be refused.
    /// Only where it is nearly free; the copy is there already, so nothing changes if it is made again.
    async fn learn_copy_condition(&self, from: &Original, to: &ObjectKey, replaces: &Replaces) {
        let condition = &self.conditions().copy;
        if condition.get().is_some()
            || !self.must_be_new(replaces)
            || from.size > LEARNING_COPY_BYTES
        {
            return;
        }
        let again = self
            .client()
            .copy_object()
            .bucket(self.bucket())
            .key(to.as_str())
            .copy_source(from.copy_source())
            .set_storage_class(from.storage_class.clone())
            .set_server_side_encryption(self.encryption())
            .set_ssekms_key_id(self.object_options().kms_key.clone())
            .copy_source_if_match(quoted(&from.etag))
            .if_none_match("*")
            .send()
            .await;
        match again {
            Ok(_) => condition.learn(false),
            Err(error) if error.raw_response().map(HttpStatus::status) == Some(412) => {
                // or somebody has just replaced the source, or can't be asked: then the next one shows it
                if from.is_there().await.unwrap_or(false) {
                    condition.learn(true);
                }
            }
            Err(_) => {}
        }
    }

    async fn copy_in_parts(
        &self,
        from: &Original,
        to: &ObjectKey,
        head: &Head,
        replaces: Replaces,
    ) -> Result<String, StoreError> {
        let settings = self.settings();
        // 10,000 parts of 512 MiB are 5 TB; larger objects need larger parts
        let least = settings
            .copy_part_bytes
            .max(from.size.div_ceil(crate::store::parts::MAX_PARTS));
        // the sweeper knows them by their size, as those of uploads
        let part_bytes = crate::store::parts::marked(least);
        let ranges = ranges(from.size, part_bytes, settings.min_part_bytes);
        let mut multipart = self.begin_copy(to, head, replaces).await?;
        let copied = stream::iter(ranges.into_iter().zip(1..))
            .map(|(range, number)| multipart.copy_part(from, number, range))
            .buffer_unordered(settings.concurrency)
            .try_collect::<Vec<_>>()
            .await;
        let checked = match copied {
            Ok(parts) => multipart.check_lengths(&parts).await.map(|()| parts),
            Err(error) => Err(error),
        };
        match checked {
            Ok(parts) => multipart.complete(parts).await.map(|proof| proof.etag),
            Err(error) => {
                multipart.abort().await;
                Err(error)
            }
        }
    }

    /// Proves that the copy is there and is one of `from`. The store's word is its ETag: equal ones of one part are the
    /// proof; another one has to be that of an object with the source's size; without one only a checksum will do.
    async fn verify(
        &self,
        from: &Original,
        to: &ObjectKey,
        etag: Option<String>,
    ) -> Result<String, StoreError> {
        let Some(etag) = etag.filter(|etag| !etag.is_empty()) else {
            let found = self.find_copy(from, to).await?;
            return found.ok_or_else(|| StoreError::Integrity {
                detail:
                    "the store gave no ETag of a copy, and what is there can't be proved to be one"
                        .to_owned(),
            });
        };
        if is_md5(&etag) && is_same_etag(&etag, &from.etag) {
            return Ok(etag);
        }
        let head = self.head(to).await?;
        // an answer may be cut, and yet the copy be there
        if !is_same_etag(&head.etag, &etag) {
            if let Some(etag) = self.find_copy(from, to).await? {
                return Ok(etag);
            }
            return Err(StoreError::Integrity {
                detail: format!(
                    "the store said that the copy has the ETag {etag}, and it has {}",
                    head.etag
                ),
            });
        }
        if head.size != from.size {
            return Err(StoreError::Integrity {
                detail: format!("the copy has {} bytes, the source {}", head.size, from.size),
            });
        }
        Ok(etag)
    }

    /// The ETag of what is at `to`, if that can be proved to have the content of `from`: by an ETag that is an MD5, or by
    /// the checksums that the store has of both.
    pub(super) async fn find_copy(
        &self,
        from: &Original,
        to: &ObjectKey,
    ) -> Result<Option<String>, StoreError> {
        let target = match self.fingerprint(to).await {
            Ok(target) => target,
            Err(StoreError::NotFound) => return Ok(None),
            Err(error) => return Err(error),
        };
        if target.size != from.size {
            return Ok(None);
        }
        if is_md5(&from.etag) && is_same_etag(&target.etag, &from.etag) {
            return Ok(Some(target.etag));
        }
        let source = match from.store.fingerprint(&from.key).await {
            Ok(source) => source,
            Err(StoreError::NotFound) => return Ok(None),
            Err(error) => return Err(error),
        };
        let is_copy = is_same_etag(&source.etag, &from.etag) && source.has_checksum_of(&target);
        Ok(is_copy.then_some(target.etag))
    }

    /// The ETag of what is at `key`, if it has the size, the upload's mark and the time of `wanted`: the object that
    /// was to get this time, which has it now.
    async fn find_described(
        &self,
        key: &ObjectKey,
        wanted: &Head,
    ) -> Result<Option<String>, StoreError> {
        let found = match self.head(key).await {
            Ok(found) => found,
            Err(StoreError::NotFound) => return Ok(None),
            Err(error) => return Err(error),
        };
        let is_same = |name: &str| {
            let value = |head: &Head| head.metadata.as_ref()?.get(name).cloned();
            value(&found) == value(wanted)
        };
        let is_found = found.size == wanted.size && is_same(MTIME) && is_same(ID_METADATA);
        Ok(is_found.then_some(found.etag))
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
mod tests;
