//! The counters of handover.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use crate::cluster::handover::header::Refused;
use crate::cluster::handover::relay::Outcome;
use crate::metrics::{
    Counters, HANDOVER_RECEIVED, HANDOVER_REFUSED, HANDOVER_RELAYED, HANDOVER_RELAYS, Labels,
    register,
};

/// Connections that were handed over, in both directions. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct HandoverCounts {
    relays: Family<Labels<1>, Counter>,
    bytes: Counter,
    received: Counter,
    refused: Family<Labels<1>, Counter>,
}

impl HandoverCounts {
    /// All at 0.
    pub fn new() -> Self {
        let counts = HandoverCounts::default();
        // there from the start, so that the first one is an increase, too
        for outcome in Outcome::ALL {
            drop(counts.relays.get_or_create(&[("outcome", outcome.word())]));
        }
        for refused in Refused::ALL {
            drop(counts.refused.get_or_create(&[("reason", refused.word())]));
        }
        counts
    }

    /// A connection on another gateway's port has ended.
    pub fn relayed(&self, outcome: Outcome) {
        let labels = [("outcome", outcome.word())];
        self.relays.get_or_create(&labels).inc();
    }

    /// Bytes of such connections, while they move.
    pub fn bytes(&self) -> &Counter {
        &self.bytes
    }

    /// Another gateway has handed a connection over.
    pub fn received(&self) {
        self.received.inc();
    }

    /// A connection to the handover port was refused.
    pub fn refused(&self, refused: Refused) {
        let labels = [("reason", refused.word())];
        self.refused.get_or_create(&labels).inc();
    }

    /// Connections that other gateways have handed over so far.
    pub fn all_received(&self) -> u64 {
        self.received.get()
    }

    /// Connections to the handover port that were refused so far.
    pub fn all_refused(&self) -> u64 {
        let of = |refused: Refused| {
            self.refused
                .get_or_create(&[("reason", refused.word())])
                .get()
        };
        Refused::ALL.into_iter().map(of).sum()
    }
}

impl Counters for HandoverCounts {
    fn register(&self, registry: &mut Registry) {
        register(registry, HANDOVER_RELAYS, self.relays.clone());
        register(registry, HANDOVER_RELAYED, self.bytes.clone());
        register(registry, HANDOVER_RECEIVED, self.received.clone());
        register(registry, HANDOVER_REFUSED, self.refused.clone());
    }
}
