//! The beginning of an upload that keeps the first bytes of an older object (`REST` and `STOR`, `APPE`).
//!
//! The kept range is copied inside the store; only new bytes travel. A range under the store's least part size can't be a
//! part of its own unless it is the last, so it is read into the first part's buffer. The old object stays as it is until
//! the new one is complete: a copy reads, it doesn't move.
//!
//! Kept bytes are proved. All of an object has the object's checksum, where the store has one; a range that has none is
//! read twice; of copied ranges the store is asked how long they are, before the new object becomes visible (see `copied_parts`).

use std::time::Duration;

use crate::store::budget::Ask;
use crate::store::conditions::{Replaces, overtaken};
use crate::store::describe::Description;
use crate::store::digest::{Answer, Comparison, Digest};
use crate::store::error::StoreError;
use crate::store::fingerprint::Fingerprint;
use crate::store::head::Head;
use crate::store::integrity::Method;
use crate::store::intent::Mode;
use crate::store::range::RangeReader;
use crate::store::upload::held;
use crate::store::upload::state::{FIRST_OF_UNHELD, Upload, or_interrupted};
use crate::store::version::Version;
use crate::store::{Source, copy, parts};

/// Puts what is kept into `upload`. `reported`: what SIZE has reported as held.
pub(super) async fn begin(
    upload: &mut Upload,
    mode: Mode,
    reported: Option<u64>,
    source: &impl Source,
) -> Result<(), StoreError> {
    let store = upload.store.clone();
    if store.holds() && held::resume(upload, mode, reported, source).await? {
        return Ok(());
    }
    let kept = match mode {
        Mode::New | Mode::ResumeAt(0) => {
            return or_interrupted(source, store.may_create(&upload.key)).await;
        }
        Mode::ResumeAt(offset) => {
            let looked = store.head_with_checksums(&upload.key);
            let (head, content) = or_interrupted(source, looked).await?;
            if offset > head.size {
                return Err(StoreError::BeyondEnd {
                    offset,
                    size: head.size,
                });
            }
            (head, content, offset)
        }
        Mode::Append => {
            match or_interrupted(source, store.head_with_checksums(&upload.key)).await {
                Ok((head, content)) => {
                    let size = head.size;
                    (head, content, size)
                }
                Err(StoreError::NotFound) => {
                    // what somebody stores meanwhile is not to be replaced by what was to continue it
                    if store.object_options().overwrite {
                        upload.replaces = Replaces::Nothing;
                    }
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
    };
    if !store.object_options().overwrite {
        return Err(StoreError::AlreadyExists);
    }
    let (head, content, bytes) = kept;
    if upload.can_hold {
        upload.can_hold = false;
        upload.parts = FIRST_OF_UNHELD - 1;
    }
    upload.replaces = Replaces::Version(head.etag.clone());
    let described = async {
        let kept = store.kept(&upload.key, head.clone(), &upload.provenance);
        Ok(Description::Of(Box::new(kept.await)))
    };
    upload.description = or_interrupted(source, described).await?;
    match keep(upload, (&head, &content), bytes, source).await {
        // gone or replaced since the look
        Err(StoreError::NotFound | StoreError::Changed { .. }) => Err(overtaken()),
        kept => kept,
    }
}

async fn keep(
    upload: &mut Upload,
    (head, content): (&Head, &Fingerprint),
    bytes: u64,
    source: &impl Source,
) -> Result<(), StoreError> {
    let least = upload.store.settings().min_part_bytes;
    // the sweeper knows an upload by a part of a marked size, and this is the first one
    let first = parts::marked(least);
    let copied = match bytes.checked_sub(first) {
        None => 0,
        // a part of its own can't be so small, unless nothing follows
        Some(rest) if rest < least => first,
        Some(_) => bytes,
    };
    let mut digest = Digest::empty();
    if copied > 0 {
        digest = copy_parts(upload, head, (first, copied), source).await?;
    }
    if copied < bytes {
        or_interrupted(source, read(upload, head, copied..bytes)).await?;
        let method = upload.store.integrity().method();
        // an object of other writers may have no checksum but its ETag
        let is_comparable = method != Some(Method::Crc64Nvme) || content.crc64_nvme.is_some();
        let read = Digest::of(upload.filling.as_ref(), method.filter(|_| is_comparable)).await;
        digest = if copied == 0 {
            read
        } else {
            digest.followed_by(&read, method)
        };
    }
    upload.size = bytes;
    let is_proved = bytes == head.size && prove_whole(upload, (head, content), &digest)?;
    if copied < bytes && !is_proved {
        or_interrupted(source, read_again(upload, head, copied..bytes)).await?;
    }
    Ok(())
}

/// Compares all of an object that is kept with what the store says of it; false if there is nothing to compare.
fn prove_whole(
    upload: &mut Upload,
    (head, content): (&Head, &Fingerprint),
    digest: &Digest,
) -> Result<bool, StoreError> {
    let told = Answer {
        crc64_nvme: content.crc64_nvme.as_deref(),
        cos_crc64: content.cos_crc64,
        etag: Some(&head.etag),
        encrypted: content.encrypted,
    };
    let method = upload.store.integrity().method();
    let is_proved = match digest.content_is(method, &told) {
        _ if method == Some(Method::Off) => false,
        Comparison::Same => true,
        Comparison::Unproved => false,
        Comparison::Differs(kind) => {
            return Err(StoreError::Integrity {
                detail: format!(
                    "the store's {kind} of what is kept of the file is not that of what came"
                ),
            });
        }
    };
    // combined of what the store said of each part; then no part can be longer or shorter than it should be
    let crc = digest.crc64_nvme(method);
    if method == Some(Method::Crc64Nvme) && crc.is_some() && crc == content.crc64_nvme {
        upload.copies_proved = true;
    }
    Ok(is_proved)
}

/// Reads a range that was read before once more, and compares: no store has a checksum of a range, and what is damaged on
/// its way once is not damaged in the same way again.
async fn read_again(
    upload: &Upload,
    head: &Head,
    range: std::ops::Range<u64>,
) -> Result<(), StoreError> {
    if upload.store.integrity().method() == Some(Method::Off) {
        return Ok(());
    }
    let version = Version::of(&upload.store, &upload.key, head);
    let mut again = RangeReader::new(version, range);
    let mut left = upload.filling.as_ref();
    while let Some(bytes) = again.next().await? {
        left = left
            .strip_prefix(bytes.as_ref())
            .ok_or_else(|| StoreError::Integrity {
                detail: "what is kept of the file came in two different ways".to_owned(),
            })?;
    }
    Ok(())
}

/// Reads a range into the part that is being filled.
async fn read(
    upload: &mut Upload,
    head: &Head,
    range: std::ops::Range<u64>,
) -> Result<(), StoreError> {
    let store = upload.store.clone();
    let part_bytes = upload.first_part_bytes();
    let bytes = range.end - range.start;
    let ask = Ask {
        bytes,
        // a reservation for less than a part can be sent with would wait for what it keeps from itself
        enough: upload.ask(part_bytes).enough.max(bytes),
        within: Duration::ZERO,
    };
    while (upload.filling.capacity() as u64) < bytes {
        upload.filling.widen(ask, part_bytes).await?;
    }
    let version = Version::of(&store, &upload.key, head);
    let mut kept = RangeReader::new(version, range);
    while let Some(bytes) = kept.next().await? {
        let Some(room) = upload.filling.room().get_mut(..bytes.len()) else {
            return Err(StoreError::NoMemory);
        };
        room.copy_from_slice(&bytes);
        upload.filling.fill(bytes.len());
    }
    Ok(())
}

/// Copies the first `bytes` bytes, of which `first` are the first part; returns the digest of what the store said.
async fn copy_parts(
    upload: &mut Upload,
    head: &Head,
    (first, bytes): (u64, u64),
    source: &impl Source,
) -> Result<Digest, StoreError> {
    let (most, least) = {
        let settings = upload.store.settings();
        (settings.max_copy_bytes, settings.min_part_bytes)
    };
    let original = head.original(&upload.store, &upload.key);
    let behind = copy::ranges(bytes - first, most, least);
    let behind = behind
        .into_iter()
        .map(|range| first + range.start..first + range.end);
    let mut digest = Digest::empty();
    for range in std::iter::once(0..first).chain(behind) {
        let number = upload.next_number()?;
        let multipart = or_interrupted(source, upload.begin()).await?;
        let copying = multipart.copy_part(&original, number, range);
        let copied = or_interrupted(source, copying).await?;
        digest = digest.followed_by(&copied.digest, upload.store.integrity().method());
        upload.note(copied);
        upload.has_copies = true;
    }
    upload.size = bytes;
    Ok(digest)
}
