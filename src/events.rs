//! Events about committed objects: who stored, renamed or deleted what, reported to consumers when it is so in the store.
//!
//! ```text
//! commit ──> Event ──> each sink whose filter takes it ──> its backlog (bounded) ──> lanes ──> http: POST    any 2xx
//!                                                                                     └──────> nats: publish  JetStream's ack
//! ```
//!
//! An event goes out after the commit and never before, and a sink costs no transfer anything: an event that finds a full backlog is
//! lost, counted, and said so. In a sink's backlog events of one key keep their order; a lane sends one event at a time and goes on
//! with it until the sink has taken it, so a sink that is down holds up its own backlog and nothing else.
//!
//! At an orderly end the backlog is sent for up to `events.flush_timeout`; what is left then is counted in the log's last lines. With
//! `events.delivery: memory` it is lost, as is all of the backlog of a process that is killed. With `durable` each event has an entry
//! in the bucket from before its change is made until the sinks have it, see `outbox.rs` and `replay.rs`.

mod backlog;
mod counts;
mod event;
mod http;
mod nats;
mod outbox;
mod publish;
mod replay;

use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use backlog::Backlog;
pub use backlog::SinkState;
pub use counts::{Counts, OUTCOMES};
pub use event::{Event, EventData, new_id};
use outbox::{Claim, Outbox};
pub use outbox::{OUTBOX_OUTCOMES, OutboxState};
use publish::Publish;

use crate::config;
pub use crate::config::EventType;
use crate::store::{Announcement, Store, StoreError};

/// All sinks. Cheap to clone; without sinks everything here does nothing.
#[derive(Clone, Default)]
pub struct Events(Arc<Inner>);

#[derive(Default)]
struct Inner {
    sinks: Vec<Sink>,
    /// With `events.delivery: durable`.
    outbox: Option<Arc<Outbox>>,
}

/// An event whose change is still to be made. Dropping it leaves its entry in the outbox to the sweeper.
pub struct Pending {
    /// The event, as far as it is known.
    pub event: Event,
    announcement: Arc<Announcement>,
    claim: Option<Claim>,
}

impl Pending {
    /// The announcement of the change, beside the change itself.
    pub fn announcement(&self) -> &Arc<Announcement> {
        &self.announcement
    }

    /// The change was not made. If it is not known whether it was, the entry stays: the store is asked later.
    pub fn abandon(self, error: &StoreError) {
        let Some(claim) = self.claim else { return };
        claim.note(error);
        if matches!(
            error,
            StoreError::Unknown { .. } | StoreError::Rename { .. }
        ) {
            return;
        }
        tokio::spawn(async move {
            // a request that is under way would write the entry after its deletion
            self.announcement.settle().await;
            claim.delete();
        });
    }
}

impl std::fmt::Debug for Pending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Pending").field(&self.event).finish()
    }
}

struct Sink {
    config: config::EventSink,
    backlog: Backlog,
}

/// A sink can't be set up.
#[derive(Debug, thiserror::Error)]
#[error("events.sinks, {name}: {reason}")]
pub struct SinkError {
    /// `events.sinks[].name`
    pub name: String,
    /// The fault.
    pub reason: String,
}

impl Events {
    /// Sets the sinks up. Nothing is sent before the first event, so a sink that is down keeps no gateway from starting.
    pub fn start(settings: &config::Events) -> Result<Self, SinkError> {
        let sinks = settings.sinks.iter().map(|sink| {
            let publish = publisher(sink, settings.timeout).map_err(|reason| SinkError {
                name: sink.name.clone(),
                reason,
            })?;
            Ok(Sink {
                config: sink.clone(),
                backlog: Backlog::start(sink.name.clone(), publish, settings),
            })
        });
        let sinks: Vec<Sink> = sinks.collect::<Result<_, _>>()?;
        let is_durable = settings.delivery == config::Delivery::Durable && !sinks.is_empty();
        let outbox = is_durable.then(|| Outbox::start(settings));
        Ok(Events(Arc::new(Inner { sinks, outbox })))
    }

    /// True if a sink takes an event of one of these kinds about `key`.
    pub fn are_wanted(&self, types: &[EventType], key: &str) -> bool {
        let mut sinks = self.0.sinks.iter();
        sinks.any(|sink| types.iter().any(|kind| sink.config.takes(*kind, key)))
    }

    /// Announces a change of the store that is to be made. With durable delivery this begins to write the event's entry into the
    /// outbox of `store` below the prefix `base`; the change has to wait for [`Announcement::ready`].
    pub fn announce(&self, event: Event, store: &Store, base: &str) -> Pending {
        let (announcement, claim) = match &self.0.outbox {
            Some(outbox) => {
                let (announcement, claim) = outbox.announce(&event, store, base);
                (announcement, Some(claim))
            }
            None => (Announcement::new(event.id.clone(), None), None),
        };
        Pending {
            event,
            announcement: Arc::new(announcement),
            claim,
        }
    }

    /// Hands the event of a change that was made to every sink that takes events of its kind and key. Never waits.
    pub fn publish(&self, pending: Pending) {
        self.send(pending.event, pending.claim.map(Arc::new));
    }

    fn outbox(&self) -> Option<&Arc<Outbox>> {
        self.0.outbox.as_ref()
    }

    fn send(&self, event: Event, claim: Option<Arc<Claim>>) {
        let event = Arc::new(event);
        let takers = || {
            let sinks = self.0.sinks.iter();
            sinks.filter(|sink| sink.config.takes(event.event_type, &event.key))
        };
        if let Some(claim) = &claim {
            claim.expect(takers().count());
        }
        for sink in takers() {
            sink.backlog.push(Arc::clone(&event), claim.clone());
        }
    }

    /// True if every sink that takes the event has room for it.
    fn has_room(&self, event: &Event) -> bool {
        let mut sinks = self.0.sinks.iter();
        sinks
            .all(|sink| !sink.config.takes(event.event_type, &event.key) || sink.backlog.has_room())
    }

    fn all_sinks_fail(&self) -> bool {
        self.0.sinks.iter().all(|sink| sink.backlog.is_failing())
    }

    /// The state of the outboxes; none with `events.delivery: memory`.
    pub fn outbox_state(&self) -> Option<OutboxState> {
        self.0.outbox.as_ref().map(|outbox| outbox.state())
    }

    /// The state of each sink, by name.
    pub fn states(&self) -> Vec<(&str, SinkState<'_>)> {
        self.0
            .sinks
            .iter()
            .map(|sink| (sink.config.name.as_str(), sink.backlog.state()))
            .collect()
    }

    /// Sends what is left, for up to `limit`, and ends the sinks. Says what could not be sent.
    pub async fn flush(&self, limit: Duration) {
        let deadline = tokio::time::Instant::now() + limit;
        for sink in &self.0.sinks {
            sink.backlog.close();
        }
        for sink in &self.0.sinks {
            let left = sink.backlog.ended(deadline).await;
            let [accepted, _, _, lost, deferred] = sink.backlog.counts().values();
            let name = &sink.config.name;
            if self.0.outbox.is_some() && lost == 0 && left > 0 {
                info!(
                    event = "events_left",
                    sink = name,
                    accepted,
                    deferred,
                    left,
                    "not all events reached the sink; what is left stays in the outbox, and any replica sends it"
                );
            } else if left > 0 || lost > 0 {
                warn!(
                    event = "events_lost",
                    sink = name,
                    accepted,
                    lost,
                    deferred,
                    left,
                    durable = self.0.outbox.is_some(),
                    "not all events reached the sink; what is left when the process ends is lost, too, unless it is in the outbox"
                );
            } else {
                info!(
                    event = "events_sent",
                    sink = name,
                    accepted,
                    "all events reached the sink"
                );
            }
        }
        if let Some(outbox) = &self.0.outbox {
            // at least one request: an entry that stays is sent again
            let at_least = tokio::time::Instant::now() + DELETES_TIMEOUT;
            outbox.flush(deadline.max(at_least)).await;
            let left = outbox.live();
            info!(
                event = "outbox_left",
                left, "entries that this process leaves in the outbox"
            );
        }
    }
}

fn publisher(sink: &config::EventSink, timeout: Duration) -> Result<Arc<dyn Publish>, String> {
    Ok(if sink.is_nats() {
        Arc::new(nats::NatsSink::new(sink, timeout)?)
    } else {
        Arc::new(http::HttpSink::new(sink, timeout)?)
    })
}

/// Looks whether a sink could take events, without sending one; returns what was found, or what is wrong.
pub async fn probe(sink: &config::EventSink, timeout: Duration) -> Result<String, String> {
    let publisher = publisher(sink, timeout)?;
    publisher.probe().await.map_err(|error| error.to_string())
}

/// Time for the deletion of entries whose events have been taken, at the end of the process.
const DELETES_TIMEOUT: Duration = Duration::from_secs(5);

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = self.0.sinks.iter().map(|sink| &sink.config.name);
        f.debug_list().entries(names).finish()
    }
}
