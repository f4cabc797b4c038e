//! The counters of the FTP side.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::cluster::handover::counts::HandoverCounts;
use crate::cluster::lockouts::counts::LockoutCounts;
use crate::ftp::connections::Refusal;
use crate::metrics::{
    BANDWIDTH_WAITED, CONNECTIONS_REFUSED, Counters, Histograms, INTEGRITY, LOGINS, Labels,
    PASSIVE_MISSED, TRANSFER_DURATION, TRANSFERRED, TRANSFERS, register,
};

/// The counters of the FTP side. Cheap to clone.
#[derive(Debug, Clone)]
pub struct FtpMetrics {
    refused: Family<Labels<1>, Counter>,
    logins: Family<Labels<1>, Counter>,
    transfers: Family<Labels<2>, Counter>,
    transferred: Family<Labels<1>, Counter>,
    bandwidth_waited: Family<Labels<1>, Waited>,
    durations: Histograms,
    missed: Counter,
    differing: Counter,
    /// Between gateways.
    pub handover: HandoverCounts,
    /// Failed logins between gateways.
    pub lockouts: LockoutCounts,
    /// All commands together, not exported.
    ended: Ended<Counter>,
}

/// Transfers that had begun and have ended, by how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ended<T> {
    /// To their end.
    pub complete: T,
    /// Before it, whoever is to blame.
    pub incomplete: T,
}

/// Where the bytes of a transfer go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the client.
    Received,
    /// To the client.
    Sent,
}

impl Direction {
    /// The value of the label `direction`.
    fn word(self) -> &'static str {
        match self {
            Direction::Received => "received",
            Direction::Sent => "sent",
        }
    }
}

/// A time that grows, in seconds.
pub type Waited = Counter<f64, AtomicU64>;

impl Default for FtpMetrics {
    fn default() -> Self {
        let refused: Family<Labels<1>, Counter> = Family::default();
        // there from the start, so that the first one is an increase, too
        for reason in Refusal::ALL {
            let _ = refused.get_or_create(&[("reason", reason.word())]);
        }
        FtpMetrics {
            refused,
            logins: Family::default(),
            transfers: Family::default(),
            transferred: Family::default(),
            bandwidth_waited: Family::default(),
            durations: Family::new_with_constructor(transfer_histogram),
            missed: Counter::default(),
            differing: Counter::default(),
            handover: HandoverCounts::new(),
            lockouts: LockoutCounts::new(),
            ended: Ended::default(),
        }
    }
}

impl FtpMetrics {
    /// A control connection was refused, by the reason.
    pub fn connection_refused(&self, reason: Refusal) {
        let labels = [("reason", reason.word())];
        self.refused.get_or_create(&labels).inc();
    }

    /// A login, by its result.
    pub fn login(&self, result: &'static str) {
        self.logins.get_or_create(&[("result", result)]).inc();
    }

    /// A transfer that has ended; without `took` none was begun.
    pub fn transfer(&self, command: &'static str, outcome: &'static str, took: Option<Duration>) {
        let labels = [("command", command), ("outcome", outcome)];
        self.transfers.get_or_create(&labels).inc();
        if let Some(took) = took {
            let histogram = self.durations.get_or_create(&[("command", command)]);
            histogram.observe(took.as_secs_f64());
            let Ended {
                complete,
                incomplete,
            } = &self.ended;
            let counter = match outcome {
                "complete" => complete,
                _ => incomplete,
            };
            counter.inc();
        }
    }

    /// Transfers that have ended so far.
    pub fn ended(&self) -> Ended<u64> {
        Ended {
            complete: self.ended.complete.get(),
            incomplete: self.ended.incomplete.get(),
        }
    }

    /// Counts bytes while they move.
    pub fn bytes(&self, direction: Direction) -> Counter {
        let labels = [("direction", direction.word())];
        self.transferred.get_or_create_owned(&labels)
    }

    /// Counts the time that transfers wait for limits of bandwidth.
    pub fn bandwidth_waited(&self, direction: Direction) -> Waited {
        let labels = [("direction", direction.word())];
        self.bandwidth_waited.get_or_create_owned(&labels)
    }

    /// A passive data connection never came.
    pub fn passive_timeout(&self) {
        self.missed.inc();
    }

    /// The store has other bytes than were sent.
    pub fn integrity_failure(&self) {
        self.differing.inc();
    }
}

impl Counters for FtpMetrics {
    fn register(&self, registry: &mut Registry) {
        register(registry, CONNECTIONS_REFUSED, self.refused.clone());
        register(registry, LOGINS, self.logins.clone());
        register(registry, TRANSFERS, self.transfers.clone());
        register(registry, TRANSFERRED, self.transferred.clone());
        register(registry, BANDWIDTH_WAITED, self.bandwidth_waited.clone());
        register(registry, TRANSFER_DURATION, self.durations.clone());
        register(registry, PASSIVE_MISSED, self.missed.clone());
        register(registry, INTEGRITY, self.differing.clone());
        self.handover.register(registry);
        self.lockouts.register(registry);
    }
}

/// From a small file in one request to a large one over a slow link.
fn transfer_histogram() -> Histogram {
    Histogram::new([
        0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0,
    ])
}
