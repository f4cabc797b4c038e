//! The counters of a sink.

use std::sync::atomic::{AtomicU64, Ordering};

/// The outcome of a sink's events since the start. One counter each.
#[derive(Debug, Default)]
pub struct Counts {
    pub(super) accepted: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) retried: AtomicU64,
    pub(super) lost: AtomicU64,
    pub(super) deferred: AtomicU64,
}

/// The ways in which [`Counts`] are distinguished: the values of the metric's label `outcome`.
pub const OUTCOMES: [&str; 5] = ["accepted", "refused", "retried", "lost", "deferred"];

impl Counts {
    /// The numbers, in the order of [`OUTCOMES`].
    pub fn values(&self) -> [u64; 5] {
        [
            &self.accepted,
            &self.refused,
            &self.retried,
            &self.lost,
            &self.deferred,
        ]
        .map(|counter| counter.load(Ordering::Relaxed))
    }
}
