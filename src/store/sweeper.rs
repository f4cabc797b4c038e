//! Sweeps what dead gateways left behind: multipart uploads that nobody will complete, which cost storage for ever.
//!
//! An unfinished upload shows little about itself: its key, its begin, and the sizes and times of its parts. So the sizes
//! carry the mark: the parts of this program are a few bytes larger than a round number (see [`is_marked`]), and
//! the sweeper touches only uploads that have such a part, unless it is set to sweep all. Every upload's first part that
//! the store acknowledges has the mark: a last part waits for another one, and of a file that is continued a range of a
//! marked size is copied first. An upload without any part is aborted if it was begun as this program begins them (CRC-64/NVME
//! of the full object). Some stores don't list how uploads were begun (SeaweedFS): there all that have no part after so long
//! are aborted, as nothing but an id is lost. Which kind of store it is, the sweeper finds out with an upload of its own,
//! when there is one in question.
//!
//! Any number of replicas may sweep: what matters is when the last part arrived, so no upload that still moves is stale,
//! and to abort what another replica has just aborted is no error. What this process itself works on is never stale: a client may
//! take longer for a part than `upload.stale_after`, and a clock that is set forward makes everything old.

use std::time::{Duration, SystemTime};

use aws_sdk_s3::operation::list_multipart_uploads::ListMultipartUploadsOutput;
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumType, EncodingType, MultipartUpload};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::chain::Chain;
use crate::config::Sweep;
use crate::store::client::Store;
use crate::store::conditions::Replaces;
use crate::store::describe::Description;
use crate::store::error::StoreError;
use crate::store::head::system_time;
use crate::store::key::Home;
use crate::store::outcome::new_id;
use crate::store::parts::is_marked;
use crate::store::path::VirtualPath;
use crate::store::url_encoding::Decoder;

/// Pages of uploads that one sweep reads at most (1,000 uploads each); the next sweep reads on from the beginning, when
/// the stale ones before are gone.
const MAX_PAGES: usize = 100;

/// The sweeper looks four times in `upload.stale_after`: at most so often, which costs nothing,
const MIN_INTERVAL: Duration = Duration::from_millis(100);

/// and at least so often, so that nothing stays much longer than it has to.
const MAX_INTERVAL: Duration = Duration::from_secs(6 * 3600);

/// Sweeps now and then at intervals, until `stop`.
///
/// `places` lists, at each sweep, which stores and prefixes there are.
pub async fn run(
    places: impl Fn() -> Vec<(Store, String)> + Send,
    sweep: Sweep,
    stale_after: Duration,
    stop: CancellationToken,
) {
    if sweep == Sweep::Off {
        return;
    }
    let interval = (stale_after / 4).clamp(MIN_INTERVAL, MAX_INTERVAL);
    loop {
        for (store, prefix) in places() {
            let swept = tokio::select! {
                swept = sweep_once(&store, &prefix, sweep, stale_after) => swept,
                () = stop.cancelled() => return,
            };
            let bucket = store.bucket();
            match swept {
                Ok(0) => debug!(bucket, prefix, "no stale multipart upload"),
                Ok(aborted) => info!(bucket, prefix, aborted, "stale multipart uploads aborted"),
                Err(error) => {
                    warn!(bucket, prefix, error = %Chain(&error), "stale multipart uploads could not be looked for")
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// One look at all unfinished uploads below `prefix`; how many were aborted.
async fn sweep_once(
    store: &Store,
    prefix: &str,
    sweep: Sweep,
    stale_after: Duration,
) -> Result<usize, StoreError> {
    let stale_before = SystemTime::now()
        .checked_sub(stale_after)
        .unwrap_or(SystemTime::UNIX_EPOCH);
    let mut marker = (None, None);
    let (mut aborted, mut lists) = (0, None);
    for _ in 0..MAX_PAGES {
        let request = store
            .client()
            .list_multipart_uploads()
            .bucket(store.bucket())
            .prefix(prefix)
            .encoding_type(EncodingType::Url);
        let request = request
            .set_key_marker(marker.0.clone())
            .set_upload_id_marker(marker.1.clone());
        let mut page = request
            .send()
            .await
            .map_err(|error| StoreError::from_sdk("ListMultipartUploads", error))?;
        decode(&mut page);
        for upload in page.uploads() {
            match abort_if_stale(store, prefix, upload, sweep, stale_before, &mut lists).await {
                Ok(true) => aborted += 1,
                // completed or aborted meanwhile by somebody else
                Ok(false) | Err(StoreError::NotFound) => {}
                Err(error) => {
                    warn!(key = upload.key(), error = %Chain(&error), "a stale multipart upload stays")
                }
            }
        }
        let next = (
            page.next_key_marker.filter(|marker| !marker.is_empty()),
            page.next_upload_id_marker
                .filter(|marker| !marker.is_empty()),
        );
        // a store that leaves out whether there is more names the next page if there is one; the same page again and
        // again would be none
        if page.is_truncated == Some(false) || next.0.is_none() || next == marker {
            break;
        }
        marker = next;
    }
    Ok(aborted)
}

/// Keys come in URL encoding, since one with a control character would make the page unreadable.
pub(super) fn decode(page: &mut ListMultipartUploadsOutput) {
    // a list without elements is absent in XML
    let uploads = page.uploads.as_deref().unwrap_or_default();
    let keys = uploads.iter().filter_map(|upload| upload.key());
    let decoder = Decoder::of(page.encoding_type.as_ref(), keys);
    decoder.decode(&mut page.next_key_marker);
    for upload in page.uploads.iter_mut().flatten() {
        decoder.decode(&mut upload.key);
    }
}

/// `lists`: whether the store lists how uploads were begun, once that is known.
async fn abort_if_stale(
    store: &Store,
    prefix: &str,
    upload: &MultipartUpload,
    sweep: Sweep,
    stale_before: SystemTime,
    lists: &mut Option<bool>,
) -> Result<bool, StoreError> {
    let (Some(key), Some(id)) = (upload.key(), upload.upload_id()) else {
        return Ok(false);
    };
    if store.active_uploads().is_unfinished(id) {
        return Ok(false);
    }
    let begun = upload.initiated().and_then(system_time);
    if begun.is_none_or(|begun| begun > stale_before) {
        return Ok(false);
    }
    // without a part there is only what the upload was begun with: this program asks for a checksum of the whole object
    // where the store has one, and no other one of an upload that has been idle for so long is missed
    let is_like_ours = upload.checksum_algorithm() == Some(&ChecksumAlgorithm::Crc64Nvme)
        && upload.checksum_type() == Some(&ChecksumType::FullObject);
    let (mut marked, mut moving, mut parts) = (false, false, 0);
    let request = store
        .client()
        .list_parts()
        .bucket(store.bucket())
        .key(key)
        .upload_id(id);
    let mut pages = request.into_paginator().send();
    while let Some(page) = pages.next().await {
        let page = page.map_err(|error| StoreError::from_sdk("ListParts", error))?;
        for part in page.parts() {
            parts += 1;
            marked |= part
                .size()
                .and_then(|bytes| u64::try_from(bytes).ok())
                .is_some_and(is_marked);
            moving |= part
                .last_modified()
                .and_then(system_time)
                .is_none_or(|time| time > stale_before);
        }
        if moving {
            return Ok(false);
        }
    }
    if sweep == Sweep::Own && !marked && !(parts == 0 && is_like_ours) {
        if parts > 0 || upload.checksum_algorithm().is_some() {
            return Ok(false);
        }
        let known = match *lists {
            Some(known) => known,
            None => lists_checksums(store, prefix, key).await?,
        };
        if *lists.insert(known) {
            return Ok(false);
        }
    }
    let request = store
        .client()
        .abort_multipart_upload()
        .bucket(store.bucket())
        .key(key)
        .upload_id(id);
    request
        .send()
        .await
        .map_err(|error| StoreError::from_sdk("AbortMultipartUpload", error))?;
    store.requests().swept();
    if store.holds() {
        store.requests().held("expired");
    }
    info!(key, upload_id = id, "stale multipart upload aborted");
    Ok(true)
}

/// Begins an upload, looks how it is listed, and aborts it. True unless the store has shown that it lists nothing of it.
async fn lists_checksums(store: &Store, prefix: &str, key: &str) -> Result<bool, StoreError> {
    let home = Home::new(prefix, &VirtualPath::root(), usize::MAX);
    let Some(key) = home.root().below(key) else {
        return Ok(true);
    };
    let mut probe = store
        .begin_multipart(&key, new_id(), Replaces::Any, &Description::nothing())
        .await?;
    let list = store.client().list_multipart_uploads();
    let list = list.bucket(store.bucket()).prefix(key.as_str());
    let page = list.encoding_type(EncodingType::Url).send().await;
    let listed = page.map(|page| {
        let mut uploads = page.uploads().iter();
        let found = uploads.find(|upload| upload.upload_id() == Some(probe.id()));
        found.is_none_or(|found| found.checksum_algorithm().is_some())
    });
    probe.try_abort().await?;
    listed.map_err(|error| StoreError::from_sdk("ListMultipartUploads", error))
}
