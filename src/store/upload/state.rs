//! The state of one upload, and its steps.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

use tokio::task::JoinSet;
use tracing::Instrument;

use crate::store::Source;
use crate::store::active::ActiveUpload;
use crate::store::announcement::Announcement;
use crate::store::budget::Holder;
use crate::store::buffer::PartBuffer;
use crate::store::client::Store;
use crate::store::conditions::Replaces;
use crate::store::describe::Description;
use crate::store::error::StoreError;
use crate::store::intent::UploadRequest;
use crate::store::key::ObjectKey;
use crate::store::multipart::Multipart;
use crate::store::outcome::new_id;
use crate::store::part_request::UploadedPart;

/// The first memory for a part; it doubles as bytes arrive, so that a small file or a slow client holds little.
pub(super) const FIRST_ROOM: u64 = 64 * 1024;

/// The state of one upload; the methods are its steps.
pub(super) struct Upload {
    pub(super) store: Store,
    pub(super) key: ObjectKey,
    /// The id that the object carries.
    pub(super) mark: String,
    /// The multipart upload, once there is one.
    pub(super) multipart: Option<Multipart>,
    /// It stays open if this one breaks off, and another session goes on with it.
    pub(super) can_hold: bool,
    /// The multipart upload is in this session's hands.
    pub(super) active: Option<ActiveUpload>,
    /// Another command began the multipart upload, so the object carries the mark of that one.
    pub(super) is_continued: bool,
    /// Uploads of this key that were unfinished before.
    pub(super) superseded: Vec<Unfinished>,
    /// The object that the new one may take the place of.
    pub(super) replaces: Replaces,
    /// The object's properties besides its bytes.
    pub(super) description: Description,
    /// The user and client who store it, as metadata.
    pub(super) provenance: HashMap<String, String>,
    /// The copied parts are proved to be what they should be.
    pub(super) copies_proved: bool,
    /// Some parts are copies.
    pub(super) has_copies: bool,
    /// Parts begun so far, copied ones included: the number of the last one.
    pub(super) parts: u64,
    pub(super) acknowledged: Vec<UploadedPart>,
    pub(super) running: JoinSet<Result<UploadedPart, StoreError>>,
    /// The part that is being filled.
    pub(super) filling: PartBuffer,
    /// The byte behind it.
    pub(super) ahead: Option<u8>,
    /// The time for which this part has waited for its client; what counts is its pace, not the wait for memory.
    pub(super) reading: Duration,
    /// Since when this part could be sent early.
    pub(super) enough_since: Option<Instant>,
    /// The client filled the last part swiftly.
    pub(super) swift: bool,
    /// The store has a part that marks the upload and is none of the object's.
    pub(super) is_marked: bool,
    pub(super) holder: Holder,
    pub(super) received: u64,
    /// Bytes of the object so far.
    pub(super) size: u64,
    /// No part is smaller than this, but for the last.
    pub(super) least_part: u64,
    pub(super) max_bytes: u64,
}

/// The number of the first part of an upload that is never held.
pub(super) const FIRST_OF_UNHELD: u64 = 2;

/// When an unfinished upload was begun, and the store's name for it.
pub(super) type Unfinished = (Option<SystemTime>, String);

impl Upload {
    pub(super) fn new(
        store: Store,
        key: ObjectKey,
        request: UploadRequest,
        announcement: Option<&Announcement>,
    ) -> Self {
        let least_part = store.settings().plan.for_announced(request.announced);
        let filling = store.buffers().part(request.holder);
        let can_hold = store.holds() && !request.is_text;
        let parts = match request.is_text {
            true if store.holds() => FIRST_OF_UNHELD - 1,
            _ => 0,
        };
        let provenance = store.provenance(request.stored_by.as_ref());
        Upload {
            store,
            key,
            mark: announcement.map_or_else(new_id, |announced| announced.mark().to_owned()),
            multipart: None,
            can_hold,
            active: None,
            is_continued: false,
            superseded: Vec::new(),
            replaces: Replaces::Any,
            description: Description::New(provenance.clone()),
            provenance,
            copies_proved: false,
            has_copies: false,
            parts,
            acknowledged: Vec::new(),
            running: JoinSet::new(),
            filling,
            ahead: None,
            reading: Duration::ZERO,
            enough_since: None,
            swift: false,
            is_marked: false,
            holder: request.holder,
            received: 0,
            size: 0,
            least_part,
            max_bytes: request.max_bytes,
        }
    }

    /// Notes bytes that have come into the buffer.
    pub(super) fn took(&mut self, bytes: usize) -> Result<(), StoreError> {
        self.filling.fill(bytes);
        self.received += bytes as u64;
        self.size += bytes as u64;
        if self.size > self.max_bytes {
            return Err(StoreError::TooLarge {
                limit: self.max_bytes,
            });
        }
        Ok(())
    }

    /// Waits until the store has a part whose size marks the upload as this program's.
    pub(super) async fn one_acknowledged(&mut self) -> Result<(), StoreError> {
        while self.acknowledged.is_empty() && !self.is_marked {
            match self.running.join_next().await {
                Some(done) => self.collect(done)?,
                None => return Ok(()),
            }
        }
        Ok(())
    }

    /// Waits until there is a free place among the parts in flight.
    pub(super) async fn free_place(&mut self) -> Result<(), StoreError> {
        while self.running.len() >= self.store.settings().concurrency {
            if let Some(done) = self.running.join_next().await {
                self.collect(done)?;
            }
        }
        Ok(())
    }

    /// Sends off the part that was filled, as soon as there is a free place. Cancel safe.
    pub(super) async fn ship(&mut self) -> Result<(), StoreError> {
        self.begin().await?;
        self.free_place().await?;
        let empty = self.store.buffers().part(self.holder);
        self.send_off(empty).await
    }

    /// Sends what was filled, whose place is taken by `next`. There is a free place.
    pub(super) async fn send_off(&mut self, next: PartBuffer) -> Result<(), StoreError> {
        let number = self.next_number()?;
        let part = std::mem::replace(&mut self.filling, next);
        self.reading = Duration::ZERO;
        self.enough_since = None;
        let request = self.begin().await?.part(number);
        self.running
            .spawn(request.send(part.freeze()).in_current_span());
        Ok(())
    }

    /// The multipart upload; the first call begins it. Cancel safe: what nobody waits for any more is aborted.
    pub(super) async fn begin(&mut self) -> Result<&Multipart, StoreError> {
        if self.multipart.is_none() {
            let (store, key) = (self.store.clone(), self.key.clone());
            let (replaces, description, mark) = (
                self.replaces.clone(),
                self.description.clone(),
                self.mark.clone(),
            );
            // by a task: the answer to a request that was sent must come to somebody who aborts the upload
            let begun = async move {
                let begun = store.begin_multipart(&key, mark, replaces, &description);
                begun.await
            };
            let begun = tokio::spawn(begun.in_current_span()).await;
            let mut multipart = begun.map_err(failed_task)??;
            if self.can_hold {
                multipart.stay();
                self.active = self.store.active_uploads().take(multipart.id());
            }
            self.multipart = Some(multipart);
        }
        Ok(self.multipart.as_ref().expect("it was begun right above"))
    }

    /// Bytes of the first part, if it is the next.
    pub(super) fn first_part_bytes(&self) -> u64 {
        let plan = &self.store.settings().plan;
        plan.next_bytes(0, 0).max(self.least_part)
    }

    /// The number of the next part, from 1.
    pub(super) fn next_number(&mut self) -> Result<i32, StoreError> {
        self.parts += 1;
        if self.parts > crate::store::parts::MAX_PARTS {
            return Err(StoreError::TooLarge { limit: self.size });
        }
        i32::try_from(self.parts).map_err(|_| StoreError::TooLarge { limit: self.size })
    }

    /// Notes a part that the store has, whoever sent it.
    pub(super) fn note(&mut self, part: UploadedPart) {
        self.acknowledged.push(part);
    }

    pub(super) fn collect(
        &mut self,
        done: Result<Result<UploadedPart, StoreError>, tokio::task::JoinError>,
    ) -> Result<(), StoreError> {
        self.note(done.map_err(failed_task)??);
        Ok(())
    }
}

/// Waits, unless the transfer is interrupted meanwhile. What is waited for must bear to be dropped.
pub(super) async fn or_interrupted<T>(
    source: &impl Source,
    wait: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    tokio::select! {
        biased;
        done = wait => done,
        reason = source.interrupted() => Err(StoreError::Interrupted(reason)),
    }
}

/// The error of a part whose task panicked.
pub(super) fn failed_task(error: tokio::task::JoinError) -> StoreError {
    StoreError::Integrity {
        detail: format!("upload task: {error}"),
    }
}
