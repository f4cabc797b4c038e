//! Uploads that broke off and are held (`upload.on_interrupt: hold`): the multipart upload stays open, and a client goes on
//! where it ended.
//!
//! The process keeps nothing of that. Which uploads there are and how far they came, the store says (ListMultipartUploads,
//! ListParts), so any replica goes on with any upload, also after a restart or a crash. An upload belongs to its key; that it
//! is one of this program's shows the mark that the sweeper knows it by (see [`parts`]), and the sweeper ends it when nobody
//! goes on with it for `upload.stale_after`.
//!
//! The held part is never the whole file, see [`Upload::read_ahead`]: a client whose file has the length that SIZE reports takes it
//! for stored.
//!
//! Held are whole parts in a row from the first one, each of the size that the plan gives the part of this number (see
//! [`parts`]). So a part is at the same place of the file whoever sent it, and a part that a session sent before it lost its
//! upload to another one does no harm. Where the plan has changed, what no longer fits is not held.
//!
//! - An upload that continues an object that is there (`REST`, `APPE`) is not held: it means one version of that object,
//!   which nothing in the store would say to whoever goes on. Nor is text whose line ends are converted: the client's offsets are
//!   others. Their parts are numbered from 2, so that nobody takes them for held.
//! - Two sessions of one process never go on with the same upload, see [`active`](crate::store::active). Two of different processes may, and
//!   can't mix their bytes: CompleteMultipartUpload names the ETag of each part, and the second one finds no upload.
//! - The parts that are there are proved by their checksums in ListParts, which combine to that of the whole object; where a
//!   store lists none, by what the object's ETag says of its parts.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use aws_sdk_s3::types::{ChecksumAlgorithm, EncodingType, Part};
use bytes::Bytes;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::chain::Chain;
use crate::config::OnInterrupt;
use crate::store::Source;
use crate::store::active::{ActiveUpload, RELEASE_TIMEOUT};
use crate::store::client::Store;
use crate::store::digest::Digest;
use crate::store::error::{Interruption, StoreError};
use crate::store::head::system_time;
use crate::store::integrity::Method;
use crate::store::intent::Mode;
use crate::store::key::ObjectKey;
use crate::store::part_request::UploadedPart;
use crate::store::parts::{self, MAX_PARTS, PartPlan};
use crate::store::sweeper::decode;
use crate::store::upload::early::MARK;
use crate::store::upload::state::{Unfinished, Upload, or_interrupted};

/// Pages of uploads that are read for one key (1,000 uploads each). The uploads of a key come first among those whose keys begin
/// with it, at stores that sort them.
const MAX_PAGES: usize = 10;

/// Unfinished uploads of one key that are looked at. There is one, or two after a crash; many are not worth the requests.
const MAX_UPLOADS: usize = 16;

/// The time that an upload that broke off waits for its last parts, so that no more than one is sent again.
const LAST_PARTS_TIMEOUT: Duration = Duration::from_secs(30);

/// The same for a gateway that must stop: its drain deadline has passed.
const LAST_PARTS_AT_STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Parts behind the row, which were under way when a gateway died. With more of them something else has happened, and nothing is held.
const MAX_BEHIND: usize = 64;

/// An upload that is held.
#[derive(Debug)]
pub(super) struct Held {
    pub id: String,
    /// Whole ones, in a row from the first.
    pub parts: Vec<UploadedPart>,
    /// Their bytes.
    pub bytes: u64,
    /// Numbers of parts that are not in the row.
    behind: Vec<i32>,
    /// The method by which further parts are proved.
    pub method: Method,
}

impl Store {
    /// True if uploads that break off are held.
    pub fn holds(&self) -> bool {
        self.settings().on_interrupt == OnInterrupt::Hold
    }

    /// The bytes that are held of `key`; `None` if nothing is.
    pub async fn held_bytes(&self, key: &ObjectKey) -> Result<Option<u64>, StoreError> {
        Ok(self.find_held(key).await?.map(|held| held.bytes))
    }

    /// Gives up what is held of `key`; true if there was something.
    pub async fn discard_held(&self, key: &ObjectKey) -> Result<bool, StoreError> {
        let ids = self.unfinished(key).await?;
        Ok(self.discard(key, ids).await? > 0)
    }

    /// The upload of `key` that a client can go on with: of several the one that was begun last, and none that was begun before the
    /// object that is there was stored. A client that was cut off may have sent its file again since.
    async fn find_held(&self, key: &ObjectKey) -> Result<Option<Held>, StoreError> {
        let ids = self.unfinished(key).await?;
        if ids.is_empty() {
            return Ok(None);
        }
        let deadline = Instant::now() + RELEASE_TIMEOUT;
        let names: Vec<String> = ids.iter().map(|(_, id)| id.clone()).collect();
        self.active_uploads().released(&names, deadline).await;
        let stored_at = self.stored_at(key).await?;
        for (begun, id) in ids {
            if stored_at > begun {
                continue;
            }
            let held = self.held_parts(key, &id).await?;
            if let Some(held) = held.filter(|held| held.bytes > 0) {
                return Ok(Some(held));
            }
        }
        Ok(None)
    }

    /// When the object that is there was stored, by the store's clock; `None` if there is none.
    async fn stored_at(&self, key: &ObjectKey) -> Result<Option<SystemTime>, StoreError> {
        let asked = self.client().head_object().bucket(self.bucket());
        let asked = asked.key(key.as_str()).send().await;
        match asked.map_err(|error| StoreError::from_sdk("HeadObject", error)) {
            Ok(head) => Ok(head.last_modified().and_then(system_time)),
            Err(StoreError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The unfinished uploads of just this key, the last [`MAX_UPLOADS`], of which the one that was begun last comes first. None
    /// where the keys lack the right.
    pub(super) async fn unfinished(&self, key: &ObjectKey) -> Result<Vec<Unfinished>, StoreError> {
        let mut found: Vec<Unfinished> = Vec::new();
        let mut marker = (None, None);
        for _ in 0..MAX_PAGES {
            let request = self.client().list_multipart_uploads();
            let request = request.bucket(self.bucket()).prefix(key.as_str());
            let listed = request
                .encoding_type(EncodingType::Url)
                .set_key_marker(marker.0.clone())
                .set_upload_id_marker(marker.1.clone())
                .send()
                .await
                .map_err(|error| StoreError::from_sdk("ListMultipartUploads", error));
            let mut page = match listed {
                Ok(page) => page,
                Err(error @ (StoreError::Denied { .. } | StoreError::Refused { .. })) => {
                    warn!(%key, error = %Chain(&error), "the store lists no unfinished uploads, so that none can be held");
                    return Ok(Vec::new());
                }
                Err(error) => return Err(error),
            };
            decode(&mut page);
            let uploads = page.uploads.unwrap_or_default();
            let is_past = uploads.is_sorted_by_key(|upload| upload.key())
                && uploads
                    .last()
                    .is_some_and(|last| last.key() > Some(key.as_str()));
            let of_key = uploads
                .into_iter()
                .filter(|upload| upload.key() == Some(key.as_str()));
            found.extend(of_key.filter_map(|upload| {
                let begun = upload.initiated().and_then(system_time);
                Some((begun, upload.upload_id?))
            }));
            let next = (
                page.next_key_marker.filter(|marker| !marker.is_empty()),
                page.next_upload_id_marker
                    .filter(|marker| !marker.is_empty()),
            );
            if is_past || page.is_truncated == Some(false) || next.0.is_none() || next == marker {
                break;
            }
            marker = next;
        }
        found.sort_unstable_by(|one, other| other.cmp(one));
        found.truncate(MAX_UPLOADS);
        Ok(found)
    }

    /// The held parts of an upload; `None` if it is not one of this program's, or gone.
    async fn held_parts(&self, key: &ObjectKey, id: &str) -> Result<Option<Held>, StoreError> {
        let request = self.client().list_parts().bucket(self.bucket());
        let request = request.key(key.as_str()).upload_id(id);
        let mut pages = request.into_paginator().send();
        let (mut listed, mut has_crc) = (Vec::new(), false);
        while let Some(page) = pages.next().await {
            let page = match page.map_err(|error| StoreError::from_sdk("ListParts", error)) {
                Ok(page) => page,
                Err(StoreError::NotFound) => return Ok(None),
                Err(error) => return Err(error),
            };
            has_crc |= page.checksum_algorithm() == Some(&ChecksumAlgorithm::Crc64Nvme);
            listed.extend(page.parts.unwrap_or_default());
        }
        has_crc |= listed
            .iter()
            .any(|part| part.checksum_crc64_nvme().is_some());
        let method = match self.integrity().method() {
            Some(Method::Off) => Method::Off,
            _ if has_crc => Method::Crc64Nvme,
            // a store that lists no checksum is one that has none, unless it is known better
            known => known.unwrap_or(Method::Md5),
        };
        let listed = latest(listed);
        let sizes = || {
            listed
                .iter()
                .map(|part| (part.part_number().unwrap_or_default(), size_of(part)))
        };
        let (count, bytes) = whole_parts(&self.settings().plan, sizes());
        let mut parts = Vec::with_capacity(count);
        for ((number, bytes), part) in sizes().zip(&listed).take(count) {
            let Some(etag) = part.e_tag().filter(|etag| !etag.is_empty()) else {
                return Ok(None);
            };
            let digest = Digest::of_copy(bytes, part.checksum_crc64_nvme());
            // the store took the part with a checksum that it looked at; COS looks at none that it lists
            let is_proved = match method {
                Method::Crc64Nvme => part.checksum_crc64_nvme().is_some(),
                Method::Md5 | Method::Off => true,
                Method::CosCrc64 => false,
            };
            parts.push(UploadedPart::listed(number, etag, digest, is_proved));
        }
        let behind: Vec<i32> = sizes().skip(count).map(|(number, _)| number).collect();
        let is_ours = sizes().any(|(_, bytes)| parts::is_marked(bytes));
        let is_held = count > 0 && behind.len() <= MAX_BEHIND;
        Ok(is_ours.then(|| Held {
            id: id.to_owned(),
            parts,
            bytes: if is_held { bytes } else { 0 },
            behind,
            method,
        }))
    }

    /// Aborts those of the uploads that are this program's and in nobody's hands; returns how many.
    pub(super) async fn discard(
        &self,
        key: &ObjectKey,
        ids: Vec<Unfinished>,
    ) -> Result<u64, StoreError> {
        let mut discarded = 0;
        for (_, id) in ids {
            if self.active_uploads().is_active(&id) {
                continue;
            }
            let Some(held) = self.held_parts(key, &id).await? else {
                continue;
            };
            let request = self.client().abort_multipart_upload();
            let request = request.bucket(self.bucket()).key(key.as_str());
            match request.upload_id(&id).send().await {
                Ok(_) => {
                    discarded += 1;
                    self.requests().held("discarded");
                    info!(event = "upload_discarded", %key, upload_id = id, bytes = held.bytes, "an upload that was held is given up");
                }
                Err(error) => match StoreError::from_sdk("AbortMultipartUpload", error) {
                    StoreError::NotFound => {}
                    error => return Err(error),
                },
            }
        }
        Ok(discarded)
    }
}

/// One part of each number: the last one, where a store lists those that were replaced, too (SeaweedFS). Its times have whole
/// seconds; of two in one second it is not the one that only takes a place.
fn latest(parts: Vec<Part>) -> Vec<Part> {
    let age = |part: &Part| (part.last_modified().and_then(system_time), size_of(part));
    let mut by_number: BTreeMap<i32, Part> = BTreeMap::new();
    for part in parts {
        let number = part.part_number().unwrap_or_default();
        let is_last = by_number
            .get(&number)
            .is_none_or(|other| age(other) <= age(&part));
        if is_last {
            by_number.insert(number, part);
        }
    }
    by_number.into_values().collect()
}

fn size_of(part: &Part) -> u64 {
    let size = part.size().and_then(|bytes| u64::try_from(bytes).ok());
    size.unwrap_or_default()
}

/// The number of parts, given by number and size, that are a row that can be gone on with, and their bytes. Their sizes
/// follow from the first one, which a client that announced a large file has made larger.
fn whole_parts(plan: &PartPlan, sizes: impl Iterator<Item = (i32, u64)>) -> (usize, u64) {
    let (mut count, mut sum, mut first) = (0, 0, None);
    for (number, bytes) in sizes.take(MAX_PARTS as usize) {
        let least = *first.get_or_insert(bytes);
        if i32::try_from(count + 1) != Ok(number)
            || bytes != plan.next_bytes(count as u64, sum).max(least)
            || !parts::is_marked(bytes)
        {
            break;
        }
        count += 1;
        sum += bytes;
    }
    (count, sum)
}

/// Goes on with an upload that is held, if `mode` means that; false: it is an upload like any other.
pub(super) async fn resume(
    upload: &mut Upload,
    mode: Mode,
    reported: Option<u64>,
    source: &impl Source,
) -> Result<bool, StoreError> {
    let store = upload.store.clone();
    let key = upload.key.clone();
    let offset = match mode {
        Mode::New | Mode::ResumeAt(0) => {
            // what was held stays until this one has come as far as to be held itself
            upload.superseded = or_interrupted(source, store.unfinished(&key)).await?;
            return Ok(false);
        }
        Mode::ResumeAt(offset) => Some(offset),
        // to whoever did not ask, the file is the object that is there
        Mode::Append if reported.is_none() || !upload.can_hold => return Ok(false),
        Mode::Append => None,
    };
    let Some(held) = or_interrupted(source, store.find_held(&key)).await? else {
        return match reported {
            // completed or given up by somebody else, and what is there now is another file
            Some(_) => Err(StoreError::InHand {
                detail: "what was held of it is held no more, ask for SIZE",
            }),
            None => Ok(false),
        };
    };
    let bytes = held.bytes;
    if reported.is_some_and(|reported| reported != bytes) && offset != Some(bytes) {
        return Err(StoreError::InHand {
            detail: "more of it has come since, ask for SIZE",
        });
    }
    if let Some(offset) = offset.filter(|offset| *offset != bytes) {
        return Err(StoreError::NotHeldThere {
            offset,
            held: bytes,
        });
    }
    or_interrupted(source, store.may_create(&key)).await?;
    if bytes > upload.max_bytes {
        return Err(StoreError::TooLarge {
            limit: upload.max_bytes,
        });
    }
    let Some(active) = store.active_uploads().take(&held.id) else {
        return Err(StoreError::InHand {
            detail: "another session goes on with it",
        });
    };
    info!(event = "upload_continued", %key, upload_id = held.id, bytes, "an upload that was held goes on");
    store.requests().held("continued");
    upload.go_on(held, active, source).await?;
    Ok(true)
}

impl Upload {
    /// Puts what is held into this upload.
    async fn go_on(
        &mut self,
        held: Held,
        active: ActiveUpload,
        source: &impl Source,
    ) -> Result<(), StoreError> {
        self.active = Some(active);
        self.is_continued = true;
        self.parts = held.parts.len() as u64;
        self.size = held.bytes;
        let first = held.parts.first().map(|part| part.digest.bytes);
        self.least_part = first.unwrap_or_default();
        self.acknowledged = held.parts;
        let multipart = self.store.reopen(&self.key, held.id, held.method);
        let requests: Vec<_> = held
            .behind
            .iter()
            .map(|number| multipart.part(*number))
            .collect();
        self.multipart = Some(multipart);
        for request in requests {
            // if this client's file is another one by now, nobody may take the part for one of it
            or_interrupted(source, request.send(Bytes::from_static(&MARK))).await?;
        }
        Ok(())
    }

    /// Leaves the multipart upload open; returns how many bytes of it are held. `None`: there is nothing to hold.
    pub(super) async fn hold(&mut self, reason: Option<Interruption>) -> Option<u64> {
        if !self.can_hold || self.multipart.is_none() {
            return None;
        }
        let limit = match reason {
            Some(Interruption::Stopping) => LAST_PARTS_AT_STOP_TIMEOUT,
            _ => LAST_PARTS_TIMEOUT,
        };
        // what doesn't come in time, or fails, is sent again by the client
        let _ = tokio::time::timeout(limit, self.last_parts()).await;
        self.running.shutdown().await;
        let bytes = self.whole_bytes();
        if bytes == self.size && self.received > 0 {
            // the file has ended there, and SIZE would be the client's proof that it is stored
            return None;
        }
        if bytes == 0 {
            return None;
        }
        let id = self.multipart.take()?.leave_open();
        info!(event = "upload_held", key = %self.key, upload_id = id, bytes, "an upload that broke off is held");
        self.store.requests().held("held");
        self.active = None;
        self.discard_superseded().await;
        Some(bytes)
    }

    /// Reads the byte behind a part that is full; `None` is a clean end of data, which makes it the last part. A part that is held
    /// never is the last one, so that SIZE never reports the whole length of a file that is not stored.
    pub(super) async fn read_ahead(
        &mut self,
        source: &mut impl Source,
    ) -> Result<Option<u8>, StoreError> {
        let mut byte = [0];
        loop {
            let read = tokio::select! {
                biased;
                Some(done) = self.running.join_next() => {
                    self.collect(done)?;
                    continue;
                }
                read = source.read(&mut byte) => read,
            };
            let read = read.map_err(StoreError::Interrupted)?;
            return Ok((read > 0).then_some(byte[0]));
        }
    }

    /// Waits for all parts that are under way. A failure is that of a part, and the others are waited for all the same.
    async fn last_parts(&mut self) {
        while let Some(done) = self.running.join_next().await {
            if let Ok(Ok(part)) = done {
                self.note(part);
            }
        }
    }

    /// Bytes of whole parts in a row.
    fn whole_bytes(&mut self) -> u64 {
        self.acknowledged.sort_unstable_by_key(|part| part.number);
        let parts = self.acknowledged.iter();
        let sizes = parts.map(|part| (part.number, part.digest.bytes));
        whole_parts(&self.store.settings().plan, sizes).1
    }

    /// Gives up what was held of the name before this upload. What can't be given up now is the sweeper's.
    pub(super) async fn discard_superseded(&mut self) {
        let superseded = std::mem::take(&mut self.superseded);
        if let Err(error) = self.store.discard(&self.key, superseded).await {
            warn!(key = %self.key, error = %Chain(&error), "an upload that was held before stays until it is stale");
        }
    }
}

#[cfg(test)]
mod tests;
