//! One upload turns one byte stream into one object.
//!
//! Invariant: it ends in exactly one of *stored* (the store acknowledged the whole object) or *not stored* (a multipart
//! upload that was begun is aborted; the object that was there before is untouched). What a killed process leaves behind
//! is an unfinished multipart upload, never a damaged object.
//!
//! ```text
//! client ─read─> part buffer ─full─> UploadPart ┐ up to `upload.concurrency` at once
//!                    │                UploadPart ┤
//!                    │                UploadPart ┘
//!                    └─clean end─> last UploadPart ─> commit? ─> CompleteMultipartUpload ─> stored
//!                    └─clean end before the first part was full ─> commit? ─> PutObject ──> stored
//! ```
//!
//! While uploads lack memory, an upload sends a part as soon as the store takes one of that size, and gives back the room
//! that its client does not fill: a client that stops in the middle of a file keeps the little that can't be sent.
//!
//! A part is read straight from the socket into the buffer that the SDK sends. When the store has acknowledged it, the
//! buffer is there for another part, of this upload or of any other; see [`buffer`](super::buffer).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tracing::Instrument;

use crate::store::active::ActiveUpload;
use crate::store::announcement::Announcement;
use crate::store::budget::Holder;
use crate::store::buffer::PartBuffer;
use crate::store::client::Store;
use crate::store::conditions::Replaces;
use crate::store::describe::Description;
use crate::store::error::StoreError;
use crate::store::held::{FIRST_OF_UNHELD, Unfinished, is_of_the_store};
use crate::store::intent::{Stored, UploadRequest};
use crate::store::key::ObjectKey;
use crate::store::multipart::{Multipart, UploadedPart};
use crate::store::outcome::new_id;
use crate::store::{Source, resume};

/// The first memory for a part; it doubles as bytes arrive, so that a small file or a slow client holds little.
pub(super) const FIRST_ROOM: u64 = 64 * 1024;

/// A client that filled its last part within this time gets the memory of the whole next one at once, most likely a
/// buffer whose pages are there already. A slower one would sit on memory that others could use.
const FAST_FILL_TIME: Duration = Duration::from_secs(2);

/// A part that could be sent early has this time to come to a size that needs no mark: a few KiB.
const EVEN_SIZE_WAIT: Duration = Duration::from_millis(250);

/// Room that a client keeps while others lack memory, whether it fills it or not.
const SPARE: u64 = 64 * 1024;

impl Store {
    /// Stores all bytes of `source` under `key`.
    ///
    /// Whatever error comes back, the object that was there before is untouched, with one exception that the error names:
    /// [`StoreError::UploadInterrupted`] with [`Left::Kept`](crate::store::Left::Kept), when the configuration says to keep what had arrived.
    ///
    /// With an `announcement`, nothing is stored before it is ready, and it learns what was stored.
    pub async fn upload<S: Source>(
        &self,
        key: &ObjectKey,
        request: UploadRequest,
        announcement: Option<&Announcement>,
        source: &mut S,
    ) -> Result<Stored, StoreError> {
        let limit = request.max_bytes;
        if request.announced.is_some_and(|bytes| bytes > limit) {
            return Err(StoreError::TooLarge { limit });
        }
        let (mode, reported) = (request.mode, request.held);
        let mut upload = Upload::new(self.clone(), key.clone(), request, announcement);
        let mut outcome = resume::begin(&mut upload, mode, reported, source).await;
        if outcome.is_ok() {
            outcome = upload.receive(source).await;
        }
        let outcome = match outcome {
            Ok(()) => upload.finish(announcement, source).await,
            Err(StoreError::Interrupted(reason)) => upload.interrupted(announcement, reason).await,
            Err(error) => Err(error),
        };
        match outcome {
            Ok(()) => {
                upload.discard_superseded().await;
                Ok(Stored {
                    received: upload.received,
                    size: upload.size,
                })
            }
            Err(error) => {
                if !is_of_the_store(&error) || upload.hold(None).await.is_none() {
                    upload.abort().await;
                }
                Err(error)
            }
        }
    }
}

/// The state of one upload; the methods are its steps.
pub(super) struct Upload {
    pub(super) store: Store,
    pub(super) key: ObjectKey,
    /// What the object carries as its id.
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
    /// What belongs to the object besides its bytes.
    pub(super) description: Description,
    /// Who stores it, as metadata.
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
    ahead: Option<u8>,
    /// The time for which this part has waited for its client; what counts is its pace, not the wait for memory.
    pub(super) reading: Duration,
    /// Since when this part could be sent early.
    enough_since: Option<Instant>,
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

impl Upload {
    fn new(
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

    /// Reads to the clean end of the data, shipping each part that is full; the last one stays in `filling`.
    async fn receive(&mut self, source: &mut impl Source) -> Result<(), StoreError> {
        loop {
            let plan = &self.store.settings().plan;
            let sent = self.size - self.filling.len();
            let part_bytes = plan.next_bytes(self.parts, sent).max(self.least_part);
            if self.filling.len() >= part_bytes {
                if self.can_hold && self.ahead.is_none() {
                    self.ahead = self.read_ahead(source).await?;
                    if self.ahead.is_none() {
                        return Ok(());
                    }
                }
                self.swift = self.reading < FAST_FILL_TIME;
                or_interrupted(source, self.ship()).await?;
                continue;
            }
            if self.filling.room().is_empty() && self.is_enough() {
                let ask = self.ask(part_bytes);
                if !self.filling.try_widen(ask, part_bytes)? {
                    or_interrupted(source, self.ship_early(part_bytes)).await?;
                    continue;
                }
            }
            or_interrupted(source, self.make_room(part_bytes)).await?;
            if let Some(byte) = self.ahead.take() {
                self.filling.room()[0] = byte;
                self.took(1)?;
                continue;
            }
            let is_enough = self.is_enough();
            let can_relieve = is_enough || self.filling.surplus() > 2 * SPARE;
            let store = self.store.clone();
            let since = Instant::now();
            let patience = if is_enough {
                EVEN_SIZE_WAIT
            } else {
                Duration::ZERO
            };
            let relief_from = *self.enough_since.get_or_insert(since) + patience;
            if !is_enough {
                self.enough_since = None;
            }
            let relief = async {
                store.buffers().budget().lacking().await;
                tokio::time::sleep_until(relief_from.into()).await;
            };
            let read = tokio::select! {
                biased;
                // a part that failed ends the upload now, not after the client has sent everything
                Some(done) = self.running.join_next() => {
                    self.reading += since.elapsed();
                    self.collect(done)?;
                    continue;
                }
                read = source.read(self.filling.room()) => read,
                () = relief, if can_relieve => {
                    self.reading += since.elapsed();
                    if is_enough {
                        or_interrupted(source, self.ship_early(part_bytes)).await?;
                    } else {
                        self.filling.shrink(SPARE)?;
                    }
                    continue;
                }
            };
            self.reading += since.elapsed();
            match read.map_err(StoreError::Interrupted)? {
                0 => return Ok(()),
                bytes => self.took(bytes)?,
            }
        }
    }

    /// Notes bytes that have come into the buffer.
    fn took(&mut self, bytes: usize) -> Result<(), StoreError> {
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

    /// Gives the buffer that is being filled more room, within the budget and never beyond the part. Cancel safe.
    ///
    /// Parts that the store acknowledges meanwhile are collected: the memory that is waited for may be theirs.
    async fn make_room(&mut self, part_bytes: u64) -> Result<(), StoreError> {
        if !self.filling.room().is_empty() {
            return Ok(());
        }
        let ask = self.ask(part_bytes);
        let Upload {
            filling,
            running,
            acknowledged,
            ..
        } = self;
        {
            // one wait, so that the place in line isn't lost with every part
            let mut widened = std::pin::pin!(filling.widen(ask, part_bytes));
            loop {
                let done = tokio::select! {
                    biased;
                    widened = &mut widened => break widened?,
                    Some(done) = running.join_next() => done,
                };
                acknowledged.push(done.map_err(failed_task)??);
            }
        }
        if self.filling.len() == 0 {
            // what counts is the client's pace, not the wait for memory
            self.reading = Duration::ZERO;
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

fn failed_task(error: tokio::task::JoinError) -> StoreError {
    StoreError::Integrity {
        detail: format!("upload task: {error}"),
    }
}
