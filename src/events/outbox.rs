//! The outbox: events in the bucket, each from before its change is made until all sinks have taken it.
//!
//! ```text
//! command ──> entry PUT ──> change ──> backlogs of the sinks ──> taken by all ──> deletions, many with one request
//!                │                         └─ no room, killed ─┐
//!                └─ killed ────────────────────────────────────┴──> the entry stays: replay.rs of any replica
//! ```
//!
//! Invariant: an entry whose change was made is deleted only after each sink that wants the event has taken it, or has refused it
//! for `events.give_up_after`.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::chain::Chain;
use crate::config;
use crate::events::event::Event;
use crate::store::outbox::BATCH;
use crate::store::{Announcement, EntryBody, ObjectKey, OutboxEntry, Store, StoreError};

/// Entries that wait for their deletion; what finds no room stays in the bucket, and is sent once more.
const DELETIONS: usize = 10_000;

/// The time for which deletions are gathered for one request.
const GATHERED_FOR: Duration = Duration::from_millis(500);

/// Outboxes besides those of the configured users: of users that `auth.http` knows, with buckets of their own.
const MAX_PLACES: usize = 1000;

/// The outboxes of this process.
pub(super) struct Outbox {
    /// `events.outbox`
    name: String,
    /// `events.replay_after`
    pub(super) replay_after: Duration,
    /// Ids that this process takes care of.
    live: Mutex<HashSet<String>>,
    /// Outboxes that were written to, by bucket and prefix.
    places: Mutex<HashMap<(u64, String, String), Store>>,
    deletions: Mutex<Option<Sender<Deletion>>>,
    deleter: tokio::sync::Mutex<Option<JoinHandle<()>>>,
    pub(super) counts: OutboxCounts,
    /// The observations of the sweeper's last round.
    pub(super) seen: Mutex<Seen>,
    deletes_fail: AtomicBool,
}

/// The outcomes of entries since the start.
#[derive(Debug, Default)]
pub(super) struct OutboxCounts {
    pub written: AtomicU64,
    pub unwritten: AtomicU64,
    pub deleted: AtomicU64,
    pub replayed: AtomicU64,
    pub unconfirmed: AtomicU64,
    pub dropped: AtomicU64,
}

/// The values of the metric's label `outcome`, in the order of [`OutboxState::counts`].
pub const OUTBOX_OUTCOMES: [&str; 6] = [
    "written",
    "unwritten",
    "deleted",
    "replayed",
    "unconfirmed",
    "dropped",
];

/// The entries that were found in all outboxes.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub entries: usize,
    pub oldest: Option<Duration>,
    /// Why an outbox could not be listed.
    pub failure: Option<String>,
}

/// The state of the outboxes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxState {
    /// Numbers since the start, in the order of [`OUTBOX_OUTCOMES`].
    pub counts: [u64; 6],
    /// Entries that the last look at the buckets found, up to 10,000 for each.
    pub entries: usize,
    /// The time for which the oldest of them has been there unchanged, as far as this process has seen.
    pub oldest: Option<Duration>,
    /// Why the last look failed.
    pub failure: Option<String>,
}

/// An entry that this process takes care of. Dropping it leaves the entry to whoever finds it.
pub(super) struct Claim {
    outbox: Arc<Outbox>,
    store: Store,
    key: ObjectKey,
    id: String,
    /// Sinks that have not taken the event.
    open: AtomicUsize,
    is_deleted: AtomicBool,
}

struct Deletion {
    store: Store,
    key: ObjectKey,
    id: String,
}

impl Outbox {
    pub(super) fn start(settings: &config::Events) -> Arc<Self> {
        let (deletions, due) = channel(DELETIONS);
        let outbox = Arc::new(Outbox {
            name: settings.outbox.clone(),
            replay_after: settings.replay_after,
            live: Mutex::default(),
            places: Mutex::default(),
            deletions: Mutex::new(Some(deletions)),
            deleter: tokio::sync::Mutex::default(),
            counts: OutboxCounts::default(),
            seen: Mutex::default(),
            deletes_fail: AtomicBool::new(false),
        });
        let deleter = tokio::spawn(delete_all(Arc::downgrade(&outbox), due));
        if let Ok(mut place) = outbox.deleter.try_lock() {
            *place = Some(deleter);
        }
        outbox
    }

    /// The prefix of the outbox below `base`.
    pub(super) fn prefix(&self, base: &str) -> String {
        format!("{base}{}", self.name)
    }

    /// Begins to write the entry of `event`, in the outbox below `base`.
    pub(super) fn announce(
        self: &Arc<Self>,
        event: &Event,
        store: &Store,
        base: &str,
    ) -> (Announcement, Claim) {
        let prefix = self.prefix(base);
        self.note_place(store, base);
        let key = store.entry_key(&prefix, &event.id);
        let claim = self
            .claim(store, key.clone(), &event.id)
            .unwrap_or_else(|| unreachable!("an id is new"));
        let (template, written) = (event.clone(), Arc::downgrade(self));
        let body: EntryBody = Box::new(move |state| {
            if let Some(outbox) = written.upgrade() {
                outbox.counts.written.fetch_add(1, Ordering::Relaxed);
            }
            let mut event = template.clone().ended(state.ending);
            if let Some(stored) = state.stored {
                event.data.describe(stored.clone());
            }
            event.to_entry(state.writes)
        });
        // three chances before another gateway takes the entry for a dead one's
        let entry = OutboxEntry::begin(store.clone(), key, self.replay_after / 3, body);
        (Announcement::new(event.id.clone(), Some(entry)), claim)
    }

    /// Takes care of an entry; none if somebody in this process does already.
    pub(super) fn claim(
        self: &Arc<Self>,
        store: &Store,
        key: ObjectKey,
        id: &str,
    ) -> Option<Claim> {
        let is_new = lock(&self.live).insert(id.to_owned());
        is_new.then(|| Claim {
            outbox: Arc::clone(self),
            store: store.clone(),
            key,
            id: id.to_owned(),
            open: AtomicUsize::new(0),
            is_deleted: AtomicBool::new(false),
        })
    }

    /// True if this process takes care of the entry.
    pub(super) fn is_live(&self, id: &str) -> bool {
        lock(&self.live).contains(id)
    }

    fn note_place(&self, store: &Store, base: &str) {
        let place = (store.site_id(), store.bucket().to_owned(), base.to_owned());
        let mut places = lock(&self.places);
        if places.len() < MAX_PLACES || places.contains_key(&place) {
            // the latest credentials of a place are the best ones
            places.insert(place, store.clone());
        }
    }

    /// `known`, and the places of users whom only `auth.http` knows.
    pub(super) fn places(&self, known: Vec<(Store, String)>) -> Vec<(Store, String)> {
        let mut all = known;
        for ((_, _, base), store) in lock(&self.places).iter() {
            let is_known =
                |(other, known): &(Store, String)| other.has_bucket_of(store) && known == base;
            if !all.iter().any(is_known) {
                all.push((store.clone(), base.clone()));
            }
        }
        all
    }

    /// Entries that this process takes care of.
    pub(super) fn live(&self) -> usize {
        lock(&self.live).len()
    }

    pub(super) fn state(&self) -> OutboxState {
        let seen = lock(&self.seen).clone();
        let counts = &self.counts;
        OutboxState {
            counts: [
                &counts.written,
                &counts.unwritten,
                &counts.deleted,
                &counts.replayed,
                &counts.unconfirmed,
                &counts.dropped,
            ]
            .map(|counter| counter.load(Ordering::Relaxed)),
            entries: seen.entries,
            oldest: seen.oldest,
            failure: seen.failure,
        }
    }

    fn forget(&self, id: &str) {
        lock(&self.live).remove(id);
    }

    fn delete(&self, deletion: Deletion) {
        let id = deletion.id.clone();
        let is_taken = lock(&self.deletions)
            .as_ref()
            .is_some_and(|deletions| deletions.try_send(deletion).is_ok());
        if !is_taken {
            self.forget(&id);
        }
    }

    /// Deletes what is to be deleted, until `deadline`.
    pub(super) async fn flush(&self, deadline: Instant) {
        lock(&self.deletions).take();
        if let Some(mut deleter) = self.deleter.lock().await.take()
            && tokio::time::timeout_at(deadline, &mut deleter)
                .await
                .is_err()
        {
            deleter.abort();
        }
    }

    async fn delete_batch(&self, batch: Vec<Deletion>) {
        let mut by_store: Vec<(Store, Vec<ObjectKey>)> = Vec::new();
        for deletion in &batch {
            let known = by_store
                .iter_mut()
                .find(|(store, _)| store.is_same(&deletion.store));
            match known {
                Some((_, keys)) => keys.push(deletion.key.clone()),
                None => by_store.push((deletion.store.clone(), vec![deletion.key.clone()])),
            }
        }
        for (store, keys) in by_store {
            match store.delete_entries(&keys).await {
                Ok(()) => {
                    let deleted = keys.len() as u64;
                    self.counts.deleted.fetch_add(deleted, Ordering::Relaxed);
                    self.deletes_fail.store(false, Ordering::Relaxed);
                }
                // what stays is sent once more with the same id, and then deleted
                Err(error) if self.deletes_fail.swap(true, Ordering::Relaxed) => {
                    debug!(bucket = store.bucket(), error = %Chain(&error), "entries of the outbox could not be deleted");
                }
                Err(error) => warn!(
                    event = "outbox_deletes_failing", bucket = store.bucket(), error = %Chain(&error),
                    "entries of the outbox could not be deleted: their events are sent again"
                ),
            }
        }
        for deletion in &batch {
            self.forget(&deletion.id);
        }
    }
}

async fn delete_all(outbox: std::sync::Weak<Outbox>, mut due: Receiver<Deletion>) {
    let mut batch = Vec::new();
    while due.recv_many(&mut batch, BATCH).await > 0 {
        if batch.len() < BATCH && !due.is_closed() {
            tokio::time::sleep(GATHERED_FOR).await;
        }
        while batch.len() < BATCH
            && let Ok(deletion) = due.try_recv()
        {
            batch.push(deletion);
        }
        let Some(outbox) = outbox.upgrade() else {
            return;
        };
        outbox.delete_batch(std::mem::take(&mut batch)).await;
    }
}

impl Claim {
    /// So many sinks are to take the event.
    pub(super) fn expect(&self, sinks: usize) {
        self.open.store(sinks, Ordering::SeqCst);
        if sinks == 0 {
            self.delete();
        }
    }

    /// A sink has taken the event for good, or it was given up; the last one ends the entry.
    pub(super) fn settle(&self) {
        if self.open.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.delete();
        }
    }

    /// Ends the entry.
    pub(super) fn delete(&self) {
        if !self.is_deleted.swap(true, Ordering::SeqCst) {
            self.outbox.delete(Deletion {
                store: self.store.clone(),
                key: self.key.clone(),
                id: self.id.clone(),
            });
        }
    }

    /// Counts what could not be written.
    pub(super) fn note(&self, error: &StoreError) {
        if matches!(error, StoreError::Outbox(_)) {
            let counts = &self.outbox.counts;
            counts.unwritten.fetch_add(1, Ordering::Relaxed);
            warn!(event = "outbox_unwritten", key = %self.key, error = %Chain(error), "an event could not be written, so its change was not made");
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.is_deleted.load(Ordering::SeqCst) {
            self.outbox.forget(&self.id);
        }
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // the values are replaced whole, so a panic can't leave half of one
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
