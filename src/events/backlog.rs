//! The events that a sink has not taken yet, and the lanes that bring them there.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use parking_lot::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{Instrument, debug, info, info_span, warn};

use crate::config;
use crate::events::counts::Counts;
use crate::events::event::Event;
use crate::events::outbox::Claim;
use crate::events::publish::{Publish, PublishError};
use crate::telemetry::TRACE;

/// Events that are sent to one sink at a time. More would help a distant sink, and hurt a small one.
const LANES: usize = 8;

/// The first pause after a failed attempt; it doubles, with a random part, up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// A sink that is back gets its events after this at the latest.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// A sink's backlog. Its tasks end with [`Backlog::close`].
pub(super) struct Backlog {
    name: String,
    lanes: Mutex<Option<Vec<UnboundedSender<Queued>>>>,
    room: Arc<Semaphore>,
    capacity: usize,
    hasher: RandomState,
    shared: Arc<Shared>,
    tasks: tokio::sync::Mutex<JoinSet<()>>,
}

/// The shared state of the lanes and the status page.
#[derive(Default)]
struct Shared {
    counts: Counts,
    /// When the events that wait were made, by their id: a ULID sorts by time, so the first one is the oldest.
    waiting: Mutex<BTreeMap<String, Instant>>,
    failing: AtomicBool,
    /// Why the last attempt failed.
    failure: Mutex<Option<String>>,
    overflowing: AtomicBool,
}

/// An event on its way, with its place in the backlog.
struct Queued {
    event: Arc<Event>,
    since: Instant,
    /// The event's entry in the outbox.
    claim: Option<Arc<Claim>>,
    _room: OwnedSemaphorePermit,
}

/// The state of a sink.
#[derive(Debug)]
pub struct SinkState<'a> {
    /// The fate of its events.
    pub counts: &'a Counts,
    /// Events that it has not taken yet.
    pub backlog: usize,
    /// The time that the oldest of them has waited.
    pub oldest: Option<Duration>,
    /// Why the last attempt failed, if it did.
    pub failure: Option<String>,
}

/// The settings of a lane.
#[derive(Clone)]
struct Lane {
    name: String,
    publish: Arc<dyn Publish>,
    source: String,
    give_up_after: Duration,
    shared: Arc<Shared>,
}

impl Backlog {
    /// Starts the lanes to `publish`.
    pub(super) fn start(
        name: String,
        publish: Arc<dyn Publish>,
        settings: &config::Events,
    ) -> Self {
        let shared = Arc::new(Shared::default());
        let lane = Lane {
            name: name.clone(),
            publish,
            source: settings.source.clone(),
            give_up_after: settings.give_up_after,
            shared: Arc::clone(&shared),
        };
        let mut tasks = JoinSet::new();
        let lanes = (0..LANES).map(|_| {
            // bounded by the permits that each event holds
            let (sender, receiver) = unbounded_channel();
            tasks.spawn(lane.clone().run(receiver));
            sender
        });
        let lanes = lanes.collect();
        Backlog {
            name,
            lanes: Mutex::new(Some(lanes)),
            room: Arc::new(Semaphore::new(settings.queue)),
            capacity: settings.queue,
            hasher: RandomState::new(),
            shared,
            tasks: tokio::sync::Mutex::new(tasks),
        }
    }

    /// Adds an event. If there is no room, one that has an entry in the outbox stays there, and any other is lost; either is
    /// counted. Never waits.
    pub(super) fn push(&self, event: Arc<Event>, claim: Option<Arc<Claim>>) {
        let Ok(room) = Arc::clone(&self.room).try_acquire_owned() else {
            if claim.is_some() {
                self.shared.counts.deferred.fetch_add(1, Ordering::Relaxed);
                return;
            }
            self.shared.counts.lost.fetch_add(1, Ordering::Relaxed);
            if !self.shared.overflowing.swap(true, Ordering::Relaxed) {
                warn!(
                    event = "events_overflow",
                    sink = self.name,
                    queue = self.capacity,
                    "the backlog of the sink is full: events are lost until it takes some"
                );
            }
            return;
        };
        self.shared.overflowing.store(false, Ordering::Relaxed);
        let lane = usize::try_from(self.hasher.hash_one(&event.key)).unwrap_or(0) % LANES;
        let (since, is_durable) = (Instant::now(), claim.is_some());
        self.shared.waiting.lock().insert(event.id.clone(), since);
        let id = event.id.clone();
        let queued = Queued {
            event,
            since,
            claim,
            _room: room,
        };
        let sent = self
            .lanes
            .lock()
            .as_ref()
            .is_some_and(|lanes| lanes[lane].send(queued).is_ok());
        if !sent {
            // after the end of the sinks
            self.shared.waiting.lock().remove(&id);
            let counts = &self.shared.counts;
            let counter = if is_durable {
                &counts.deferred
            } else {
                &counts.lost
            };
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// True if there is room for another event.
    pub(super) fn has_room(&self) -> bool {
        self.room.available_permits() > 0
    }

    /// True if the last attempt failed.
    pub(super) fn is_failing(&self) -> bool {
        self.shared.failing.load(Ordering::Relaxed)
    }

    pub(super) fn counts(&self) -> &Counts {
        &self.shared.counts
    }

    pub(super) fn state(&self) -> SinkState<'_> {
        let waiting = self.shared.waiting.lock();
        SinkState {
            counts: &self.shared.counts,
            backlog: waiting.len(),
            oldest: waiting.values().next().map(Instant::elapsed),
            failure: self.shared.failure.lock().clone(),
        }
    }

    /// Takes no more events; the lanes end when they have sent what they have.
    pub(super) fn close(&self) {
        self.lanes.lock().take();
    }

    /// Waits for the lanes, until `deadline`; then ends them. The events that are left.
    pub(super) async fn ended(&self, deadline: Instant) -> usize {
        let mut tasks = self.tasks.lock().await;
        let all = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout_at(deadline, all).await.is_err() {
            tasks.shutdown().await;
        }
        self.shared.waiting.lock().len()
    }
}

impl Lane {
    async fn run(self, mut events: UnboundedReceiver<Queued>) {
        while let Some(queued) = events.recv().await {
            self.deliver(&queued).await;
            if let Some(claim) = &queued.claim {
                claim.settle();
            }
            self.shared.waiting.lock().remove(&queued.event.id);
        }
    }

    /// Sends one event until the sink takes it, or has refused it for too long.
    async fn deliver(&self, queued: &Queued) {
        let event = &queued.event;
        let body = event.to_json(&self.source).to_string();
        let mut pauses = ExponentialBuilder::default()
            .with_min_delay(FIRST_PAUSE)
            .with_max_delay(MAX_PAUSE)
            .with_jitter()
            .without_max_times()
            .build();
        loop {
            let span = info_span!(
                target: TRACE, "event.publish",
                otel.kind = "producer",
                messaging.destination.name = self.name,
                cloudevents.event_id = event.id,
                cloudevents.event_type = event.event_type.word(),
                error.type = tracing::field::Empty,
                otel.status_code = tracing::field::Empty,
            );
            if let Some(parent) = &event.traceparent {
                crate::telemetry::continue_trace(&span, parent);
            }
            let published = self
                .publish
                .publish(event, body.as_bytes())
                .instrument(span.clone())
                .await;
            let error = match published {
                Ok(()) => {
                    self.shared.counts.accepted.fetch_add(1, Ordering::Relaxed);
                    self.recovered();
                    return;
                }
                Err(error) => error,
            };
            span.record("otel.status_code", "ERROR");
            span.record(
                "error.type",
                match error {
                    PublishError::Unavailable(_) => "unavailable",
                    PublishError::Refused(_) => "refused",
                },
            );
            drop(span);
            self.failed(&error);
            if let PublishError::Refused(reason) = &error {
                self.shared.counts.refused.fetch_add(1, Ordering::Relaxed);
                if queued.since.elapsed() >= self.give_up_after {
                    self.shared.counts.lost.fetch_add(1, Ordering::Relaxed);
                    warn!(
                        event = "event_lost",
                        sink = self.name,
                        id = event.id,
                        key = event.key,
                        reason,
                        "the sink refused an event for events.give_up_after; it is given up"
                    );
                    return;
                }
            }
            self.shared.counts.retried.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(pauses.next().unwrap_or(MAX_PAUSE)).await;
        }
    }

    /// Trouble is said once when it begins and once when it ends.
    fn failed(&self, error: &PublishError) {
        *self.shared.failure.lock() = Some(error.to_string());
        if self.shared.failing.swap(true, Ordering::Relaxed) {
            debug!(sink = self.name, %error, "the sink still does not take events");
        } else {
            warn!(
                event = "sink_failing", sink = self.name, %error,
                "the sink does not take events; they wait, and this is not said again before it does"
            );
        }
    }

    fn recovered(&self) {
        if self.shared.failing.swap(false, Ordering::Relaxed) {
            self.shared.failure.lock().take();
            info!(
                event = "sink_recovered",
                sink = self.name,
                "the sink takes events again"
            );
        }
    }
}
