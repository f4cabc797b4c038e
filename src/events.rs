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
//! Delivery is `memory`: what is in the backlog when the process dies is lost. At an orderly end the backlog is sent for up to
//! `events.flush_timeout`; what is left then is counted in the log's last lines.

mod backlog;
mod event;
mod http;
mod nats;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tracing::{info, warn};

pub use backlog::SinkState;
use backlog::{Backlog, Publish};
pub use event::{Checksum, Event, EventData, new_id};

use crate::config;
pub use crate::config::EventType;

/// All sinks. Cheap to clone; without sinks everything here does nothing.
#[derive(Clone, Default)]
pub struct Events(Arc<Vec<Sink>>);

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

/// The outcome of a sink's events since the start. One counter each.
#[derive(Debug, Default)]
pub struct Counts {
    accepted: AtomicU64,
    refused: AtomicU64,
    retried: AtomicU64,
    lost: AtomicU64,
}

/// The ways in which [`Counts`] are distinguished: the values of the metric's label `outcome`.
pub const OUTCOMES: [&str; 4] = ["accepted", "refused", "retried", "lost"];

impl Counts {
    /// The numbers, in the order of [`OUTCOMES`].
    pub fn values(&self) -> [u64; 4] {
        [&self.accepted, &self.refused, &self.retried, &self.lost]
            .map(|counter| counter.load(Ordering::Relaxed))
    }
}

impl Events {
    /// Sets the sinks up. Nothing is sent before the first event, so a sink that is down keeps no gateway from starting.
    pub fn start(settings: &config::Events) -> Result<Self, SinkError> {
        let sinks = settings.sinks.iter().map(|sink| {
            let failed = |reason: String| SinkError {
                name: sink.name.clone(),
                reason,
            };
            let publish: Arc<dyn Publish> = if sink.is_nats() {
                Arc::new(nats::NatsSink::new(sink, settings.timeout).map_err(failed)?)
            } else {
                Arc::new(http::HttpSink::new(sink, settings.timeout).map_err(failed)?)
            };
            Ok(Sink {
                config: sink.clone(),
                backlog: Backlog::start(sink.name.clone(), publish, settings),
            })
        });
        Ok(Events(Arc::new(sinks.collect::<Result<_, _>>()?)))
    }

    /// True if anybody wants to know.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Hands an event to every sink that takes events of its kind and key. Never waits.
    pub fn publish(&self, event: Event) {
        let event = Arc::new(event);
        for sink in self.0.iter() {
            if sink.config.takes(event.event_type, &event.key) {
                sink.backlog.push(Arc::clone(&event));
            }
        }
    }

    /// The state of each sink, by name.
    pub fn states(&self) -> Vec<(&str, SinkState<'_>)> {
        self.0
            .iter()
            .map(|sink| (sink.config.name.as_str(), sink.backlog.state()))
            .collect()
    }

    /// Sends what is left, for up to `limit`, and ends the sinks. Says what could not be sent.
    pub async fn flush(&self, limit: Duration) {
        let deadline = tokio::time::Instant::now() + limit;
        for sink in self.0.iter() {
            sink.backlog.close();
        }
        for sink in self.0.iter() {
            let left = sink.backlog.ended(deadline).await;
            let [accepted, _, _, lost] = sink.backlog.counts().values();
            let name = &sink.config.name;
            if left > 0 || lost > 0 {
                warn!(
                    event = "events_lost",
                    sink = name,
                    accepted,
                    lost,
                    left,
                    "not all events reached the sink; what is left when the process ends is lost, too"
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
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = self.0.iter().map(|sink| &sink.config.name);
        f.debug_list().entries(names).finish()
    }
}
