//! The sweeper of the outbox, which runs on every replica: entries that nobody takes care of any more are brought to their end.
//!
//! | the entry is about | the store has | the event |
//! |---|---|---|
//! | an upload | the object with the entry's id, or with its ETag (of an upload that was held) | is sent |
//! | | another object, stored later | is sent with `confirmed: false`: it was stored and replaced, or it never was |
//! | | an older object, or none | is dropped: the commit never happened, or the object is gone |
//! | a deletion | no object | is sent |
//! | | another one, stored later | is sent with `confirmed: false` |
//! | | an older one | is dropped: it was not deleted |
//! | a rename | nothing under the old name, something under the new one | is sent |
//! | | something later under the old name, and something under the new one | is sent with `confirmed: false` |
//! | | anything else | is dropped |
//!
//! An entry is left alone until this process has seen the same version of it for `events.replay_after`: no two clocks are compared,
//! and who is alive writes its entry again before that. Two replicas may both send an event, with the same id; a drop is conditional
//! on the version that was judged.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use futures::stream::{self, StreamExt};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::chain::Chain;
use crate::config::EventType;
use crate::events::Events;
use crate::events::event::Event;
use crate::events::outbox::{Outbox, Seen, lock};
use crate::store::outbox::{Inspected, Listed};
use crate::store::{Store, StoreError};

/// Entries of one outbox that a round looks at; the next round comes to the others, when these are gone.
const MAX_ENTRIES: usize = 10_000;

/// Entries that are judged at the same time; each takes two or three requests.
const IN_PARALLEL: usize = 8;

/// The longest pause between two rounds.
const MAX_INTERVAL: Duration = Duration::from_secs(30);

/// Entries that wait to be old enough, by bucket and key.
type Watched = HashMap<(String, String), Watch>;

/// A version of an entry.
struct Watch {
    etag: String,
    /// When it was first seen.
    first: Instant,
    /// Since when it could have been sent.
    since: Instant,
    /// It was seen in this round.
    is_there: bool,
}

/// The judgement on an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Judgement {
    Publish,
    Unconfirmed,
    Drop,
}

impl Events {
    /// Looks through the outboxes now and then, until `stop`; does nothing without any. `places` returns the stores, and the
    /// prefixes that their outboxes lie below.
    pub async fn watch_outbox(
        self,
        places: impl Fn() -> Vec<(Store, String)> + Send,
        stop: CancellationToken,
    ) {
        let Some(outbox) = self.outbox() else {
            return;
        };
        let interval = (outbox.replay_after / 4).min(MAX_INTERVAL);
        let mut watched = Watched::new();
        loop {
            let all = outbox.places(places());
            tokio::select! {
                () = round(&self, outbox, all, &mut watched) => {}
                () = stop.cancelled() => return,
            }
            tokio::select! {
                () = tokio::time::sleep(interval) => {}
                () = stop.cancelled() => return,
            }
        }
    }
}

async fn round(
    events: &Events,
    outbox: &Arc<Outbox>,
    places: Vec<(Store, String)>,
    watched: &mut Watched,
) {
    let mut seen = Seen::default();
    // while no sink takes anything, other replicas hold what is theirs: to send it from here as well would help nobody
    let can_send = !events.all_sinks_fail();
    for (store, base) in places {
        let prefix = outbox.prefix(&base);
        let (entries, _) = match store.list_entries(&prefix, MAX_ENTRIES).await {
            Ok(listed) => listed,
            Err(error) => {
                let error = Chain(&error).to_string();
                let was = lock(&outbox.seen).failure.clone();
                if was.is_none() {
                    warn!(
                        event = "outbox_unlisted",
                        bucket = store.bucket(),
                        prefix,
                        error,
                        "the outbox could not be looked through"
                    );
                }
                seen.failure = Some(error);
                continue;
            }
        };
        seen.entries += entries.len();
        let mut due = Vec::new();
        for entry in entries {
            let name = (store.bucket().to_owned(), entry.key.as_str().to_owned());
            let now = Instant::now();
            let new = || Watch {
                etag: entry.etag.clone(),
                first: now,
                since: now,
                is_there: true,
            };
            // it may be there already in this round, by another place
            let watch = watched.entry(name).or_insert_with(new);
            if watch.etag != entry.etag {
                *watch = new();
            }
            watch.is_there = true;
            if !can_send {
                watch.since = now;
            }
            seen.oldest = seen.oldest.max(Some(watch.first.elapsed()));
            let is_old = watch.since.elapsed() >= outbox.replay_after;
            if is_old && !outbox.is_live(&entry.id) {
                due.push(entry);
            }
        }
        stream::iter(due)
            .for_each_concurrent(IN_PARALLEL, |entry| settle(events, outbox, &store, entry))
            .await;
    }
    watched.retain(|_, watch| std::mem::take(&mut watch.is_there));
    *lock(&outbox.seen) = seen;
}

/// Brings one entry to its end; what fails is tried in the next round.
async fn settle(events: &Events, outbox: &Arc<Outbox>, store: &Store, entry: Listed) {
    let Some(claim) = outbox.claim(store, entry.key.clone(), &entry.id) else {
        return;
    };
    let event = match store.read_entry(&entry.key).await {
        Ok(Some(body)) => Event::from_entry(&body),
        Ok(None) => return,
        Err(error) => {
            warn!(key = %entry.key, error = %Chain(&error), "an entry of the outbox could not be read");
            return;
        }
    };
    let event = match event {
        Ok(event) if event.id == entry.id && event.bucket == store.bucket() => event,
        Ok(_) => {
            warn!(event = "outbox_unreadable", key = %entry.key, "an entry of the outbox is about something else; it stays until somebody removes it");
            return;
        }
        Err(error) => {
            warn!(event = "outbox_unreadable", key = %entry.key, %error, "an entry of the outbox is none; it stays until somebody removes it");
            return;
        }
    };
    if !events.has_room(&event) {
        return;
    }
    let (judgement, event) = match judge(store, &entry, event).await {
        Ok(judged) => judged,
        Err(error) => {
            debug!(key = %entry.key, error = %Chain(&error), "an entry of the outbox could not be judged");
            return;
        }
    };
    let (id, key) = (event.id.clone(), event.key.clone());
    match judgement {
        Judgement::Drop => match store.drop_entry(&entry).await {
            Ok(true) => {
                outbox.counts.dropped.fetch_add(1, Ordering::Relaxed);
                info!(
                    event = "outbox_dropped",
                    id,
                    key,
                    "an event was dropped: its change was never made, or the object is gone"
                );
            }
            // somebody is alive after all
            Ok(false) => {}
            Err(error) => {
                debug!(id, key, error = %Chain(&error), "an entry of the outbox could not be deleted");
            }
        },
        Judgement::Publish | Judgement::Unconfirmed => {
            let counter = match judgement {
                Judgement::Unconfirmed => &outbox.counts.unconfirmed,
                _ => &outbox.counts.replayed,
            };
            counter.fetch_add(1, Ordering::Relaxed);
            info!(
                event = "outbox_replayed",
                id,
                key,
                confirmed = judgement == Judgement::Publish,
                "an event that a gateway has left behind is sent"
            );
            events.send(event, Some(Arc::new(claim)));
        }
    }
}

/// The outcome of the change, and the event with what the store says of it.
async fn judge(
    store: &Store,
    entry: &Listed,
    mut event: Event,
) -> Result<(Judgement, Event), StoreError> {
    let judgement = match event.event_type {
        EventType::Stored | EventType::Kept => {
            let found = store.inspect(&event.key).await?;
            let judgement = judge_upload(&event, entry.modified, found.as_ref());
            if let (Judgement::Publish, Some(found)) = (judgement, found) {
                event.time = found.modified.unwrap_or(event.time);
                event.data.describe(found.facts);
            }
            judgement
        }
        EventType::Deleted => {
            let found = store.inspect(&event.key).await?;
            judge_deletion(entry.modified, found.as_ref())
        }
        EventType::Renamed => {
            let from = event.data.previous.clone().unwrap_or_default();
            // a rename stays in one account
            let old_bucket = event.data.previous_bucket.as_deref();
            let old_store = store.of_bucket(old_bucket.unwrap_or(store.bucket()));
            let old = old_store.inspect(&from).await?;
            let is_old_directory =
                old.is_none() && old_store.has_keys_below(&format!("{from}/")).await?;
            let is_file = store.inspect(&event.key).await?.is_some();
            let is_directory = !is_file && store.has_keys_below(&format!("{}/", event.key)).await?;
            if is_directory {
                event.name_directory();
            }
            let old_is_later = old
                .as_ref()
                .map(|old| is_later(old.modified, entry.modified));
            match (old_is_later, is_old_directory, is_file || is_directory) {
                (None, false, true) => Judgement::Publish,
                (Some(true), _, true) => Judgement::Unconfirmed,
                _ => Judgement::Drop,
            }
        }
    };
    if judgement == Judgement::Unconfirmed {
        event.data.confirmed = Some(false);
    }
    Ok((judgement, event))
}

fn judge_upload(
    event: &Event,
    written: Option<SystemTime>,
    found: Option<&Inspected>,
) -> Judgement {
    match found {
        Some(found) if found.mark.as_deref() == Some(&*event.id) => Judgement::Publish,
        // an upload that was held carries the mark of the command that began it
        Some(found) if event.data.etag.is_some() && event.data.etag == found.facts.etag => {
            Judgement::Publish
        }
        Some(found) if is_later(found.modified, written) => Judgement::Unconfirmed,
        Some(_) | None => Judgement::Drop,
    }
}

fn judge_deletion(written: Option<SystemTime>, found: Option<&Inspected>) -> Judgement {
    match found {
        None => Judgement::Publish,
        Some(found) if is_later(found.modified, written) => Judgement::Unconfirmed,
        Some(_) => Judgement::Drop,
    }
}

/// The steps of the times of stores: whole seconds.
const COARSEST_TIME: Duration = Duration::from_secs(1);

/// True if the object may have been stored after the entry. Both times are the store's, one of them in whole seconds; what is not
/// known may be.
fn is_later(object: Option<SystemTime>, entry: Option<SystemTime>) -> bool {
    match (object, entry) {
        (Some(object), Some(entry)) => object + COARSEST_TIME > entry,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::ObjectFacts;

    #[test]
    fn an_entry_is_judged_by_what_the_store_has() {
        let at = |seconds| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        let object = |mark: &str, seconds| {
            Some(Inspected {
                mark: Some(mark.to_owned()),
                modified: at(seconds),
                facts: ObjectFacts::default(),
            })
        };
        use Judgement::{Drop, Publish, Unconfirmed};
        let mut event = crate::events::event::tests::sample("f");
        event.id = "ours".to_owned();
        for (found, upload, deletion) in [
            (None, Drop, Publish),
            (object("ours", 99), Publish, Drop),
            (object("ours", 101), Publish, Unconfirmed),
            (object("theirs", 98), Drop, Drop),
            // whole seconds: it may have been stored right after
            (object("theirs", 100), Unconfirmed, Unconfirmed),
            (object("theirs", 150), Unconfirmed, Unconfirmed),
        ] {
            assert_eq!(
                judge_upload(&event, at(100), found.as_ref()),
                upload,
                "{found:?}"
            );
            assert_eq!(
                judge_deletion(at(100), found.as_ref()),
                deletion,
                "{found:?}"
            );
        }
        // the upload was held: another command began it, and some stores date the object by that
        let mut held = object("theirs", 98).expect("one");
        held.facts.etag = Some("e-3".to_owned());
        event.data.etag = Some("e-3".to_owned());
        assert_eq!(judge_upload(&event, at(100), Some(&held)), Publish);
        held.facts.etag = Some("e-4".to_owned());
        assert_eq!(judge_upload(&event, at(100), Some(&held)), Drop);
    }
}
