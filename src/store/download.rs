//! One object out to one client: ranges read ahead in parallel, bytes written in order.
//!
//! ```text
//! first request   bytes=offset..+chunk        ──> written as it arrives
//! larger object   next chunk, If-Match        ──> kept in memory, written when its turn comes
//!                 next chunk, If-Match        ──> ...        at most `download.concurrency` requests at a time
//! ```
//!
//! Invariant: what the client gets is one version of the object, whole from the offset on, or an error; see
//! `range.rs`.
//!
//! A file of up to one chunk is one request. A larger one is fetched in chunks, each by a task of its own; the chunk whose
//! turn it is passes its bytes on while they arrive, only those behind it are kept. Each task first gets leave to hold its
//! whole chunk: `download.read_ahead` bounds one download, the budget `download.memory_budget` all together. Nobody
//! waits for that memory. When none is free, the next chunk is simply read by the download itself when its turn comes, and
//! goes straight to the client, so a download needs no memory to go on and the budget can't lock up.
//!
//! The part that HTTP itself holds of a body that nobody takes (`HTTP_BUFFERS`) is a part of the same budget: a download takes its
//! share at the start. When none is free, or when a client takes nothing for a while and memory is short, the download
//! goes on in small ranges, of which HTTP holds little: many requests, but of a client that is slow anyway.
//!
//! Whatever ends a download drops it, and with it all its tasks and their requests.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use crate::store::Sink;
use crate::store::client::Store;
use crate::store::connections::{HELD_PIECES, READ_BUFFER};
use crate::store::error::StoreError;
use crate::store::key::ObjectKey;
use crate::store::pool::Share;
use crate::store::range::{RangeReader, SMALL_RANGE};
use crate::store::verify::Verification;
use crate::store::version::Version;

/// Bytes that HTTP holds of a body that isn't taken.
const HTTP_BUFFERS: u64 = (HELD_PIECES * READ_BUFFER) as u64;

/// A client that takes a piece no faster than this is slow.
const SLOW: Duration = Duration::from_secs(3);

/// A slow client that takes a small range within this time is slow no longer.
const FAST_RANGE_TIME: Duration = Duration::from_millis(250);

/// An object that the store has begun to send.
pub struct Download(Option<Chunks>);

/// The chunks of a download that has at least one byte.
struct Chunks {
    version: Arc<Version>,
    /// The chunk whose turn it is.
    current: Current,
    /// Those behind it, in order.
    ahead: VecDeque<Ahead>,
    /// The bytes that the client has so far.
    position: u64,
    /// From here on nothing has been asked for.
    planned: u64,
    /// Leave to hold what HTTP does of a large body.
    share: Option<Share>,
    /// The client takes little, and memory is short.
    is_slow: bool,
    /// The store answers with the ranges that it is asked for.
    has_ranges: bool,
    /// Since when the current chunk is.
    since: Instant,
    /// Requests that may run at a time.
    slots: Arc<Semaphore>,
    /// The download is compared with the store's checksum; none if it isn't the whole, or the store has none.
    verification: Option<Verification>,
}

enum Current {
    /// Read from the store while it is written.
    Direct {
        reader: RangeReader,
        _slot: Option<OwnedSemaphorePermit>,
    },
    /// Begun before its turn came.
    Ahead(Ahead),
}

/// A chunk that a task reads before its turn.
struct Ahead {
    /// Bounded by the share: a task sends no more than its range.
    arrived: mpsc::UnboundedReceiver<Bytes>,
    task: AbortOnDropHandle<Result<(), StoreError>>,
    length: u64,
    _share: Share,
}

impl Store {
    /// Opens `key` from byte `offset` on.
    ///
    /// [`StoreError::BeyondEnd`] if the offset lies behind the end; exactly at the end is an empty download.
    pub async fn open(&self, key: &ObjectKey, offset: u64) -> Result<Download, StoreError> {
        let settings = &self.settings().download;
        let share = http_share(self);
        let asked = range_bytes(settings.chunk_size, share.is_some());
        let refusal = match RangeReader::first(self, key, offset, asked).await {
            Ok(Some(reader)) => {
                self.saw_way_to(key);
                let slots = Arc::new(Semaphore::new(settings.concurrency));
                let _slot = slots.clone().try_acquire_owned().ok();
                let version = Arc::clone(reader.version());
                let is_whole = offset == 0;
                return Ok(Download(Some(Chunks {
                    verification: is_whole.then(|| Verification::begin(&version)).flatten(),
                    version,
                    position: offset,
                    planned: reader.end(),
                    share,
                    is_slow: false,
                    has_ranges: reader.end() - offset <= asked,
                    since: Instant::now(),
                    current: Current::Direct { reader, _slot },
                    ahead: VecDeque::new(),
                    slots,
                })));
            }
            Ok(None) => None,
            // stores have different words for an offset that no object can have
            Err(error @ StoreError::Refused { .. }) if offset > 0 => Some(error),
            Err(error) => return Err(error),
        };
        // the answer to a range at the end and to one behind it is the same, and doesn't tell the size
        let size = self.head(key).await?.size;
        self.saw_way_to(key);
        match offset {
            offset if offset > size => Err(StoreError::BeyondEnd { offset, size }),
            offset if offset == size => Ok(Download(None)),
            _ => Err(refusal.unwrap_or_else(|| StoreError::Integrity {
                detail: format!("the store has {size} bytes, and yet none from {offset} on"),
            })),
        }
    }
}

impl Download {
    /// Bytes of the whole object; none if there is nothing to send.
    pub fn object_size(&self) -> Option<u64> {
        self.0.as_ref().map(|chunks| chunks.version.size)
    }

    /// Sends everything to `sink`; returns the bytes sent.
    pub async fn send(self, sink: &mut impl Sink) -> Result<u64, StoreError> {
        let Some(mut chunks) = self.0 else {
            return Ok(0);
        };
        let mut sent = 0;
        chunks.read_ahead();
        loop {
            // a wait for the store must not keep an ABOR waiting; the sink looks at it with every write
            let next = tokio::select! {
                biased;
                next = chunks.current.next() => next?,
                reason = sink.interrupted() => return Err(StoreError::Interrupted(reason)),
            };
            match next {
                Some(bytes) => {
                    if let Some(verification) = &mut chunks.verification {
                        tokio::select! {
                            biased;
                            verified = verification.update(&bytes) => verified?,
                            reason = sink.interrupted() => return Err(StoreError::Interrupted(reason)),
                        }
                    }
                    let length = bytes.len() as u64;
                    chunks.position += length;
                    let mut write = std::pin::pin!(sink.write(&bytes));
                    let written = tokio::select! {
                        biased;
                        written = &mut write => written,
                        () = tokio::time::sleep(SLOW) => {
                            chunks.let_go();
                            write.await
                        }
                    };
                    written.map_err(StoreError::Interrupted)?;
                    sent += length;
                }
                None if chunks.advance() => {}
                None => return Ok(sent),
            }
        }
    }
}

impl Chunks {
    /// Gives back the memory of a client that is slow, if it is short: what it hasn't taken is asked for again.
    fn let_go(&mut self) {
        let pool = self.version.store.read_ahead_pool();
        let is_short = pool.used() > pool.total() / 2;
        if self.is_slow || !is_short || !self.has_ranges || self.position == self.version.size {
            return;
        }
        self.is_slow = true;
        self.share = None;
        self.ahead.clear();
        self.planned = self.position;
        self.read_on();
    }

    /// Reads the next range itself.
    fn read_on(&mut self) {
        let range = self.next_range();
        self.planned = range.end;
        self.current = Current::Direct {
            reader: RangeReader::new(Arc::clone(&self.version), range),
            _slot: self.slots.clone().try_acquire_owned().ok(),
        };
    }

    /// Makes the next chunk the current one; false after the last.
    fn advance(&mut self) -> bool {
        if self.is_slow && self.since.elapsed() < FAST_RANGE_TIME {
            self.is_slow = false;
        }
        self.since = Instant::now();
        if self.share.is_none() && !self.is_slow {
            self.share = http_share(&self.version.store);
        }
        match self.ahead.pop_front() {
            Some(chunk) => self.current = Current::Ahead(chunk),
            None if self.planned == self.version.size => return false,
            None => self.read_on(),
        }
        self.read_ahead();
        true
    }

    /// The next chunk that nobody has asked for.
    fn next_range(&self) -> Range<u64> {
        let chunk = self.version.store.settings().download.chunk_size;
        let chunk = range_bytes(chunk, self.share.is_some());
        let end = self.planned.saturating_add(chunk).min(self.version.size);
        self.planned..end
    }

    /// Starts to read as many chunks as there is memory for.
    fn read_ahead(&mut self) {
        if self.share.is_none() {
            return;
        }
        let store = self.version.store.clone();
        let current = match &self.current {
            Current::Ahead(chunk) => chunk.length,
            Current::Direct { .. } => 0,
        };
        let mut held = current + self.ahead.iter().map(|chunk| chunk.length).sum::<u64>();
        while self.planned < self.version.size {
            let range = self.next_range();
            let length = range.end - range.start;
            if held + length > store.settings().download.read_ahead {
                return;
            }
            let Some(share) = store.read_ahead_pool().try_take_ahead(length) else {
                return;
            };
            held += length;
            self.planned = range.end;
            let reader = RangeReader::new(Arc::clone(&self.version), range);
            let chunk = Ahead::start(reader, Arc::clone(&self.slots), length, share);
            self.ahead.push_back(chunk);
        }
    }
}

impl Current {
    async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        match self {
            Current::Direct { reader, .. } => reader.next().await,
            Current::Ahead(chunk) => chunk.next().await,
        }
    }
}

/// Leave to hold what HTTP does of a body as large as a chunk.
fn http_share(store: &Store) -> Option<Share> {
    let chunk = store.settings().download.chunk_size;
    store.read_ahead_pool().try_take(HTTP_BUFFERS.min(chunk))
}

/// Bytes to ask for at a time.
fn range_bytes(chunk: u64, has_share: bool) -> u64 {
    if has_share {
        chunk
    } else {
        chunk.min(SMALL_RANGE)
    }
}

impl Ahead {
    fn start(mut reader: RangeReader, slots: Arc<Semaphore>, length: u64, share: Share) -> Self {
        let (send, arrived) = mpsc::unbounded_channel();
        let task = async move {
            let _slot = slots.acquire().await;
            while let Some(bytes) = reader.next().await? {
                if send.send(bytes).is_err() {
                    break;
                }
            }
            Ok(())
        };
        Ahead {
            arrived,
            task: AbortOnDropHandle::new(tokio::spawn(task.in_current_span())),
            length,
            _share: share,
        }
    }

    async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        if let Some(bytes) = self.arrived.recv().await {
            return Ok(Some(bytes));
        }
        match (&mut self.task).await {
            Ok(ended) => ended.map(|()| None),
            Err(error) => Err(StoreError::Integrity {
                detail: format!("download task: {error}"),
            }),
        }
    }
}
