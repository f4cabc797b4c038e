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

mod commit;
mod early;
mod held;
mod resume;
mod state;

use std::time::{Duration, Instant};

use crate::store::Source;
use crate::store::announcement::Announcement;
use crate::store::client::Store;
use crate::store::error::StoreError;
use crate::store::intent::{Stored, UploadRequest};
use crate::store::key::ObjectKey;
use crate::store::upload::state::{Upload, failed_task, or_interrupted};

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

impl Upload {
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
}

/// The store failed, or the gateway's memory, and the client did nothing wrong.
fn is_of_the_store(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Unavailable { .. } | StoreError::NoSpace { .. } | StoreError::NoMemory
    )
}
