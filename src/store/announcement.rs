//! The announcement of an upload beside its object: the mark that the object carries, an entry in the outbox that is there before
//! the object is, and what the object turned out to be.
//!
//! Invariant: between the commit of an upload and its answer the outbox has the upload's entry, and the entry is younger than a
//! third of the time after which another gateway takes it for a dead one's.
//!
//! The entry is written while the client still sends, so that it costs a request and seldom any time. Of an upload that lasts
//! longer it is written again at its end, and again while the commit itself takes its time.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::{Instrument, debug, warn};

use crate::chain::Chain;
use crate::store::checksum::ObjectChecksum;
use crate::store::client::Store;
use crate::store::error::{Interruption, StoreError};
use crate::store::key::ObjectKey;

/// The facts about a stored object, as its upload knows them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObjectFacts {
    /// Bytes.
    pub size: u64,
    /// Without quotes.
    pub etag: Option<String>,
    /// The checksum that was compared with the store's.
    pub checksum: Option<ObjectChecksum>,
    /// The media type that it was stored with.
    pub content_type: Option<String>,
    /// Requests that its bytes came in, copies of an older object included; 0 if that is not known.
    pub parts: u64,
}

/// An upload's announcement.
#[derive(Debug)]
pub struct Announcement {
    mark: String,
    entry: Option<Entry>,
    facts: Mutex<Option<ObjectFacts>>,
}

/// Makes an entry's bytes.
pub type EntryBody = Box<dyn Fn(EntryState<'_>) -> Vec<u8> + Send + Sync>;

/// The part of an entry about its upload, besides the event.
#[derive(Debug, Clone, Copy, Default)]
pub struct EntryState<'a> {
    /// Why the upload was interrupted, if it was and is kept all the same.
    pub ending: Option<Interruption>,
    /// The object, once it is stored; only where it doesn't carry the event's id.
    pub stored: Option<&'a ObjectFacts>,
    /// The number of times that the entry was written before.
    pub writes: u32,
}

/// An entry of the outbox on its way.
pub struct Entry {
    store: Store,
    key: ObjectKey,
    /// An entry of this age is written again before it is relied on.
    refresh_after: Duration,
    body: EntryBody,
    written: tokio::sync::Mutex<Written>,
}

/// The store's state of an entry.
#[derive(Debug, Default)]
struct Written {
    /// The first request, while it runs.
    first: Option<JoinHandle<Result<(), StoreError>>>,
    /// When the last request was begun that has succeeded.
    at: Option<Instant>,
    ending: Option<Interruption>,
    writes: u32,
}

impl Announcement {
    /// `mark` is the event's id, which the object carries as well.
    pub fn new(mark: String, entry: Option<Entry>) -> Self {
        Announcement {
            mark,
            entry,
            facts: Mutex::new(None),
        }
    }

    /// The object's `x-amz-meta-cosgate-id`.
    pub(super) fn mark(&self) -> &str {
        &self.mark
    }

    /// Waits until the change may be made: the entry is in the store. Cancel safe. `ending` is why an upload was interrupted that
    /// is kept.
    pub async fn ready(&self, ending: Option<Interruption>) -> Result<(), StoreError> {
        match &self.entry {
            Some(entry) => entry.ensure(ending).await,
            None => Ok(()),
        }
    }

    /// Keeps the entry young during a commit; never ends.
    pub(super) async fn stay_fresh<T>(&self, ending: Option<Interruption>) -> T {
        let Some(entry) = &self.entry else {
            return std::future::pending().await;
        };
        loop {
            tokio::time::sleep(entry.refresh_after).await;
            if let Err(error) = entry.ensure(ending).await {
                debug!(key = %entry.key, error = %Chain(&error), "an entry of the outbox could not be written again");
            }
        }
    }

    /// Says in the entry which object it is about, if that carries the mark of the session that began its upload. The object is
    /// stored by now, so a failure changes nothing but what another gateway can find out after a crash.
    pub(super) async fn identify(&self, facts: &ObjectFacts, ending: Option<Interruption>) {
        let Some(entry) = &self.entry else {
            return;
        };
        let mut written = entry.written.lock().await;
        if let Err(error) = entry.write(&mut written, ending, Some(facts)).await {
            warn!(key = %entry.key, error = %Chain(&error), "an entry of the outbox could not be written again");
        }
    }

    /// Waits for the requests of the entry that are under way, whatever comes of them.
    pub async fn settle(&self) {
        if let Some(entry) = &self.entry {
            let mut written = entry.written.lock().await;
            if let Some(first) = written.first.take() {
                let _ = first.await;
            }
        }
    }

    /// Notes what was stored.
    pub(super) fn committed(&self, facts: ObjectFacts) {
        *self.facts.lock().unwrap_or_else(PoisonError::into_inner) = Some(facts);
    }

    /// The stored object, if there is one.
    pub fn facts(&self) -> Option<ObjectFacts> {
        self.facts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Entry {
    /// Begins to write the entry `key`; what `body` makes is its content.
    pub fn begin(store: Store, key: ObjectKey, refresh_after: Duration, body: EntryBody) -> Self {
        let (writer, target, bytes) = (store.clone(), key.clone(), body(EntryState::default()));
        let write = async move { writer.write_entry(&target, bytes).await };
        let first = tokio::spawn(write.in_current_span());
        Entry {
            store,
            key,
            refresh_after,
            body,
            written: tokio::sync::Mutex::new(Written {
                first: Some(first),
                at: Some(Instant::now()),
                ending: None,
                writes: 1,
            }),
        }
    }

    async fn ensure(&self, ending: Option<Interruption>) -> Result<(), StoreError> {
        let mut written = self.written.lock().await;
        if let Some(first) = &mut written.first {
            let done = first.await;
            written.first = None;
            let done = done.map_err(|error| StoreError::Integrity {
                detail: format!("outbox task: {error}"),
            });
            if let Err(error) = done.and_then(|done| done) {
                written.at = None;
                return Err(unwritten(error));
            }
        }
        let is_young = written
            .at
            .is_some_and(|at| at.elapsed() < self.refresh_after);
        if is_young && written.ending == ending {
            return Ok(());
        }
        self.write(&mut written, ending, None).await
    }

    async fn write(
        &self,
        written: &mut Written,
        ending: Option<Interruption>,
        stored: Option<&ObjectFacts>,
    ) -> Result<(), StoreError> {
        let begun = Instant::now();
        let body = (self.body)(EntryState {
            ending,
            stored,
            writes: written.writes,
        });
        written.writes += 1;
        self.store
            .write_entry(&self.key, body)
            .await
            .map_err(unwritten)?;
        written.at = Some(begun);
        written.ending = ending;
        Ok(())
    }
}

fn unwritten(error: StoreError) -> StoreError {
    StoreError::Outbox(Box::new(error))
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Entry").field(&self.key).finish()
    }
}
