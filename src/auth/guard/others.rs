//! The failures and successes at other replicas, as [`cluster::lockouts`](crate::cluster::lockouts) receives them.
//!
//! Nothing but these events is shared: each replica counts all of them against its own limits, and so comes to the same lockouts. A
//! failure counts for its address and its user as one here does. Nothing but time clears those, so a lost event means fewer failures,
//! and a lockout later or not at all.
//!
//! A pair of address and user is different: a success clears it, and a replica that misses a success would count failures which no
//! longer count. So others' failures of a pair are held apart from the own ones, and are worth something only while no success can have
//! been missed:
//!
//! - They count only while the events of every replica arrive, or it is known to be gone ([`Guard::trust`](super::Guard::trust)).
//!   When that ends or begins, or events were lost, a new epoch begins: what others have contributed to pairs is forgotten, a lockout
//!   that own failures alone would not have caused ends, and own failures until then are not added to what others report afterwards.
//!   What others report counts again from [`SILENCE`] later on: failures from before the lost success may have been under way.
//!   What own failures cause alone stays, as without other replicas; those before such a lockout count on.
//! - A success clears the pair's failures and its lockout wherever it arrives. A replica that receives one late, and locked out
//!   meanwhile, lets the pair in again as soon as the event arrives, or after [`SILENCE`], when the delay counts as a loss.
//! - A failure at another replica that was made before a success, or up to [`SILENCE`] after it, does not count for the pair when it
//!   arrives behind it: ages don't contain the time under way, so those of events that come by different ways can't be compared more
//!   exactly.
//!
//! Invariants: each failure counts at most once in a table, and for at most one lockout that does not end with its epoch. A lockout of a
//! pair that lasts longer than [`SILENCE`] rests on as many failures as its limit, at all replicas since the last success at any or at
//! this replica since the last one that it knows of.
//! Whoever guesses at all replicas at the same moment may have each of them check as many passwords as the limit, before the first
//! event arrives; that is the price for not asking the others before each check.

use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

/// Events that wait for a replica to which they can't be sent; the oldest make room.
pub(super) const WAITING_EVENTS: usize = 4096;

/// A replica from which nothing comes for this time is silent.
pub const SILENCE: Duration = Duration::from_secs(3);

/// The end of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The password was wrong.
    Failure,
    /// It was right.
    Success,
}

/// A check that has ended, as it is reported to other replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// Its end.
    pub outcome: Outcome,
    /// The client's network.
    pub address: IpAddr,
    /// The hash of the user's name.
    pub name: u64,
    /// When it ended.
    pub at: Instant,
}

/// A pair's failures at other replicas.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Others {
    pub(super) failures: u32,
    /// Apart from this replica's, or it would keep those longer after the others' are forgotten.
    pub(super) last_failure: Option<Instant>,
    /// Failures at this replica that others' are not added to: they are of an earlier epoch.
    pub(super) outdated_own: u32,
    /// The lockout would not be there without failures at other replicas.
    pub(super) have_locked: bool,
    /// The epoch of all of this.
    pub(super) epoch: u64,
}

impl Others {
    /// Forgets the failures.
    pub(super) fn forget(&mut self) {
        self.failures = 0;
        self.last_failure = None;
        self.outdated_own = 0;
    }
}

/// The worth of what other replicas report about pairs.
#[derive(Debug)]
pub(super) struct Trust {
    /// The events of every replica arrive, or it is gone.
    pub(super) is_complete: bool,
    /// Raised whenever a success may have been missed.
    pub(super) epoch: u64,
    /// When the epoch began.
    pub(super) since: Instant,
}

impl Trust {
    pub(super) fn new(now: Instant) -> Self {
        Trust {
            is_complete: false,
            epoch: 0,
            since: now,
        }
    }

    /// Begins an epoch.
    pub(super) fn renew(&mut self) {
        self.epoch += 1;
        self.since = Instant::now();
    }
}
