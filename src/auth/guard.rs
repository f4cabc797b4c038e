//! The guard against guessing: who may have a password checked, and when a failure is answered.
//!
//! Failures are counted three times, in this process:
//!
//! - by address (IPv6: by /64, which is what one customer gets): too many lock the address out;
//! - by address and user: too many lock that address out for that user. A broken camera locks itself out here, before it
//!   locks out its neighbours behind the same NAT, since attempts that are refused unchecked count nowhere;
//! - by user, from wherever: never a lockout, or anybody could lock a user out by guessing. When one is being guessed at
//!   from many addresses, logins for that user wait before they are checked, but not from an address where the user has
//!   logged in lately.
//!
//! A failed login is answered after a pause that doubles with each failure. The pause is counted from the arrival of the
//! password, so how long the check took doesn't show. A success clears the pair of address and user, not the address: who
//! has one account could otherwise guess at another between logins with the own one.
//!
//! Names that don't exist count as those that do. Names are kept as keyed hashes only: people type passwords into the
//! wrong field. The tables are bounded; the entry that was used longest ago makes room.
//!
//! Invariant: not more passwords are being checked for an address, or a pair, than it has failures left: who sends a
//! hundred guesses at once gets no more of them checked than who sends them one by one.

use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lru::LruCache;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::config::Lockout;
use crate::net::network;

/// Entries per table, some 100 bytes each: a botnet of more addresses is not stopped by counting them.
const ENTRIES: NonZeroUsize = NonZeroUsize::new(65_536).expect("not zero");

/// An address from which a user has logged in within this time is the user's own: jobs run at least weekly.
const KNOWN_FOR: Duration = Duration::from_secs(8 * 24 * 3600);

/// The longest time that an attempt waits for others of the same address or user to be checked.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(30);

/// Counts failures and decides what they lead to.
#[derive(Debug)]
pub struct Guard {
    limits: Lockout,
    tables: Mutex<Tables>,
    names: RandomState,
    /// Notified whenever an attempt ends.
    ended: Notify,
    /// Lockouts so far: of addresses, and of pairs.
    lockouts: [AtomicU64; 2],
}

#[derive(Debug)]
struct Tables {
    addresses: LruCache<IpAddr, Counter>,
    pairs: LruCache<(IpAddr, u64), Counter>,
    users: LruCache<u64, Counter>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counter {
    failures: u32,
    last_failure: Option<Instant>,
    locked_until: Option<Instant>,
    last_success: Option<Instant>,
    in_flight: u32,
}

/// The scope of a lockout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All logins from the address.
    Address,
    /// Logins from the address for one user.
    User,
}

/// Why a password is not checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejected {
    /// Too many failures.
    Locked(Scope),
    /// Too many others are being checked.
    Busy,
}

/// The consequences of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failed {
    /// The time from the attempt's arrival to its answer.
    pub pause: Duration,
    /// The scope that this failure has locked out.
    pub locked: Option<Scope>,
}

/// Leave to check one password. Dropped without a verdict it counts nowhere.
#[derive(Debug)]
pub struct Attempt {
    guard: Arc<Guard>,
    address: IpAddr,
    name: u64,
    /// The wait before the check.
    pub wait: Duration,
}

impl Guard {
    /// `limits` are those of `auth.lockout`.
    pub fn new(limits: Lockout) -> Arc<Self> {
        Arc::new(Guard {
            limits,
            tables: Mutex::new(Tables {
                addresses: LruCache::new(ENTRIES),
                pairs: LruCache::new(ENTRIES),
                users: LruCache::new(ENTRIES),
            }),
            names: RandomState::new(),
            ended: Notify::new(),
            lockouts: Default::default(),
        })
    }

    /// The pause before an attempt that isn't checked is rejected.
    pub fn shortest_pause(&self) -> Duration {
        self.limits.delay
    }

    /// The time for which a lockout holds.
    pub fn lockout(&self) -> Duration {
        self.limits.duration
    }

    /// Lockouts so far, by what was locked out.
    pub fn lockouts(&self) -> [(&'static str, u64); 2] {
        let [addresses, pairs] = &self.lockouts;
        [
            ("address", addresses.load(Ordering::Relaxed)),
            ("user", pairs.load(Ordering::Relaxed)),
        ]
    }

    /// Leave to check a password for `name` from `address`.
    pub async fn admit(self: &Arc<Self>, address: IpAddr, name: &str) -> Result<Attempt, Rejected> {
        let (address, name) = (network(address), self.names.hash_one(name));
        let turn = async {
            loop {
                let mut ended = std::pin::pin!(self.ended.notified());
                // from here on no end is missed
                ended.as_mut().enable();
                if let Some(decided) = self.try_admit(address, name) {
                    return decided;
                }
                ended.await;
            }
        };
        let turn = tokio::time::timeout(QUEUE_TIMEOUT, turn).await;
        turn.unwrap_or(Err(Rejected::Busy))
    }

    /// None: others must be checked first.
    fn try_admit(
        self: &Arc<Self>,
        address: IpAddr,
        name: u64,
    ) -> Option<Result<Attempt, Rejected>> {
        let now = Instant::now();
        let mut tables = self.lock();
        let window = self.limits.window;
        let of_address = touch(&mut tables.addresses, address, now, window);
        let of_pair = touch(&mut tables.pairs, (address, name), now, window);
        let limits = [
            (of_address, self.limits.per_address, Scope::Address),
            (of_pair, self.limits.per_user, Scope::User),
        ];
        for (counter, _, scope) in limits {
            if counter.locked_until.is_some() {
                return Some(Err(Rejected::Locked(scope)));
            }
        }
        for (counter, limit, _) in limits {
            if limit > 0 && counter.failures + counter.in_flight >= limit {
                return None;
            }
        }
        let is_known = of_pair
            .last_success
            .is_some_and(|at| now.duration_since(at) < KNOWN_FOR);
        let of_user = touch(&mut tables.users, name, now, window);
        // more than one address can contribute
        let wait = match of_user.failures.checked_sub(self.limits.per_user) {
            Some(more) if more > 0 && self.limits.per_user > 0 && !is_known => self.pause(more),
            _ => Duration::ZERO,
        };
        counter(&mut tables.addresses, address).in_flight += 1;
        counter(&mut tables.pairs, (address, name)).in_flight += 1;
        Some(Ok(Attempt {
            guard: Arc::clone(self),
            address,
            name,
            wait,
        }))
    }

    /// The pause after so many failures.
    fn pause(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(20);
        (self.limits.delay * (1 << doublings)).min(self.limits.max_delay)
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock()
    }
}

impl Attempt {
    /// The password was wrong.
    pub fn fail(self) -> Failed {
        let (now, limits) = (Instant::now(), &self.guard.limits);
        let mut tables = self.guard.lock();
        let count = |counter: &mut Counter, limit: u32| {
            counter.failures = counter.failures.saturating_add(1);
            counter.last_failure = Some(now);
            let failures = counter.failures;
            let locks = limit > 0 && failures >= limit;
            if locks {
                counter.failures = 0;
                counter.locked_until = Some(now + limits.duration);
            }
            (failures, locks)
        };
        let (of_address, locks_address) = count(
            counter(&mut tables.addresses, self.address),
            limits.per_address,
        );
        let pair = (self.address, self.name);
        let (of_pair, locks_pair) = count(counter(&mut tables.pairs, pair), limits.per_user);
        let (of_user, _) = count(counter(&mut tables.users, self.name), 0);
        let locked = match (locks_address, locks_pair) {
            (true, _) => Some(Scope::Address),
            (false, true) => Some(Scope::User),
            (false, false) => None,
        };
        for (at, scope) in [Scope::Address, Scope::User].into_iter().enumerate() {
            let one = u64::from(locked == Some(scope));
            self.guard.lockouts[at].fetch_add(one, Ordering::Relaxed);
        }
        let pause = self.guard.pause(of_address.max(of_pair).max(of_user));
        Failed { pause, locked }
    }

    /// The password was right.
    pub fn succeed(self) {
        let mut tables = self.guard.lock();
        let pair = counter(&mut tables.pairs, (self.address, self.name));
        pair.failures = 0;
        pair.last_failure = None;
        pair.last_success = Some(Instant::now());
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        {
            let mut tables = self.guard.lock();
            // an entry that made room meanwhile began anew at 0
            let of_address = counter(&mut tables.addresses, self.address);
            of_address.in_flight = of_address.in_flight.saturating_sub(1);
            let of_pair = counter(&mut tables.pairs, (self.address, self.name));
            of_pair.in_flight = of_pair.in_flight.saturating_sub(1);
        }
        self.guard.ended.notify_waiters();
    }
}

/// The counter of `key`, with what is over forgotten.
fn touch<K: Hash + Eq>(
    table: &mut LruCache<K, Counter>,
    key: K,
    now: Instant,
    window: Duration,
) -> Counter {
    let Some(counter) = table.get_mut(&key) else {
        // only who has failed or is being checked needs an entry
        return Counter::default();
    };
    if counter
        .last_failure
        .is_some_and(|at| now.duration_since(at) >= window)
    {
        counter.failures = 0;
        counter.last_failure = None;
    }
    if counter.locked_until.is_some_and(|until| now >= until) {
        counter.locked_until = None;
    }
    *counter
}

fn counter<K: Hash + Eq>(table: &mut LruCache<K, Counter>, key: K) -> &mut Counter {
    table.get_or_insert_mut(key, Counter::default)
}

#[cfg(test)]
mod tests;
