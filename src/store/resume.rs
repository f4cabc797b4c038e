//! How an upload begins that keeps the first bytes of an older object (`REST` and `STOR`, `APPE`).
//!
//! The kept range is copied inside the store; only new bytes travel. A range under the store's least part size can't be a
//! part of its own unless it is the last, so it is read into the first part's buffer. The old object stays as it is until
//! the new one is complete: a copy reads, it doesn't move.

use crate::store::conditions::Replaces;
use crate::store::error::StoreError;
use crate::store::range::{RangeReader, Version};
use crate::store::upload::{Start, Upload, heeding};
use crate::store::{Source, copy, metadata::Head, parts};

/// Puts what is kept into `upload`.
pub(super) async fn begin(
    upload: &mut Upload,
    start: Start,
    source: &impl Source,
) -> Result<(), StoreError> {
    let (head, keep) = match start {
        Start::New | Start::At(0) => return upload.store.may_create(&upload.key).await,
        Start::At(offset) => {
            let head = upload.store.head(&upload.key).await?;
            if offset > head.size {
                return Err(StoreError::BeyondEnd {
                    offset,
                    size: head.size,
                });
            }
            (head, offset)
        }
        Start::End => match upload.store.head(&upload.key).await {
            Ok(head) => {
                let size = head.size;
                (head, size)
            }
            Err(StoreError::NotFound) => {
                // what somebody stores meanwhile is not to be replaced by what was to continue it
                if upload.store.object_options().overwrite {
                    upload.replaces = Replaces::Nothing;
                }
                return Ok(());
            }
            Err(error) => return Err(error),
        },
    };
    if !upload.store.object_options().overwrite {
        return Err(StoreError::AlreadyExists);
    }
    upload.replaces = Replaces::Version(head.etag.clone());
    upload.kept = Some(upload.store.kept(&upload.key, head.clone()).await);
    if keep == 0 {
        return Ok(());
    }
    if keep < upload.store.settings().min_part_bytes {
        heeding(source, read(upload, &head, keep)).await
    } else {
        copy_parts(upload, &head, keep, source).await
    }
}

async fn read(upload: &mut Upload, head: &Head, keep: u64) -> Result<(), StoreError> {
    let store = upload.store.clone();
    let part_bytes = upload.first_part_bytes();
    upload.filling.widen(keep, part_bytes).await?;
    let version = Version::of(&store, &upload.key, head);
    let mut kept = RangeReader::new(version, 0..keep);
    while let Some(bytes) = kept.next().await? {
        let Some(room) = upload.filling.room().get_mut(..bytes.len()) else {
            return Err(StoreError::NoMemory);
        };
        room.copy_from_slice(&bytes);
        upload.filling.fill(bytes.len());
    }
    upload.size = keep;
    Ok(())
}

async fn copy_parts(
    upload: &mut Upload,
    head: &Head,
    keep: u64,
    source: &impl Source,
) -> Result<(), StoreError> {
    let (most, least) = {
        let settings = upload.store.settings();
        (settings.max_copy_bytes, settings.min_part_bytes)
    };
    let key = upload.key.clone();
    // one range of a marked size goes first, so that the janitor knows this upload before a new part has arrived
    let first = parts::marked(least);
    let rest = keep.checked_sub(first).filter(|rest| *rest >= least);
    let mut ranges: Vec<_> = rest.map(|_| 0..first).into_iter().collect();
    let behind = copy::ranges(rest.unwrap_or(keep), most, least);
    let start = keep - rest.unwrap_or(keep);
    ranges.extend(
        behind
            .into_iter()
            .map(|range| start + range.start..start + range.end),
    );
    for range in ranges {
        let number = upload.next_number()?;
        let multipart = upload.begin().await?;
        let copying = multipart.copy_part(&key, &head.etag, number, range);
        let copied = heeding(source, copying).await?;
        upload.note(copied);
    }
    upload.size = keep;
    Ok(())
}
