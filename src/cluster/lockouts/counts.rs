//! The counters of lockout events.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use crate::metrics::{Counters, LOCKOUT_EVENTS, Labels, register};

/// Lockout events by their fate. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct LockoutCounts(Family<Labels<1>, Counter>);

/// The fate of an event at this replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It was written to a replica's stream.
    Sent,
    /// It came from a replica.
    Received,
    /// It made room for newer ones before it could be sent.
    Dropped,
}

impl LockoutCounts {
    /// All at 0.
    pub fn new() -> Self {
        let counts = LockoutCounts::default();
        // there from the start, so that the first one is an increase, too
        for fate in [Fate::Sent, Fate::Received, Fate::Dropped] {
            counts.count(fate, 0);
        }
        counts
    }

    pub(super) fn count(&self, fate: Fate, events: u64) {
        let outcome = match fate {
            Fate::Sent => "sent",
            Fate::Received => "received",
            Fate::Dropped => "dropped",
        };
        self.0.get_or_create(&[("outcome", outcome)]).inc_by(events);
    }
}

impl Counters for LockoutCounts {
    fn register(&self, registry: &mut Registry) {
        register(registry, LOCKOUT_EVENTS, self.0.clone());
    }
}
