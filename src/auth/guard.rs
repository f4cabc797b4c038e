//! The guard against guessing: who may have a password checked, and when a failure is answered.
//!
//! Failures are counted three times, those at other replicas too where they are shared (`others`):
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
//! Names that don't exist count as those that do. Names are kept, and sent, as keyed hashes only: people type passwords into
//! the wrong field. The tables are bounded; the entry that was used longest ago makes room.
//!
//! Invariant: not more passwords are being checked for an address, or a pair, than it has failures left: who sends a
//! hundred guesses at once gets no more of them checked than who sends them one by one.

mod others;
mod receive;

use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use lru::LruCache;
use parking_lot::{Mutex, MutexGuard};
use sha2::Sha256;
use tokio::sync::{Notify, broadcast};
use tokio::time::Instant;

pub use crate::auth::guard::others::{Event, Outcome, SILENCE};
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
    names: Names,
    /// Notified whenever an attempt ends, or another replica's did.
    ended: Notify,
    /// Lockouts so far by failures here: of addresses, and of pairs.
    lockouts: [AtomicU64; 2],
    /// The same by failures at other replicas.
    lockouts_elsewhere: [AtomicU64; 2],
    /// The events for the other replicas.
    events: broadcast::Sender<Event>,
}

/// The hash of names.
#[derive(Debug)]
enum Names {
    /// Of this process alone.
    Own(RandomState),
    /// The same at all replicas.
    Shared([u8; 32]),
}

#[derive(Debug)]
struct Tables {
    addresses: LruCache<IpAddr, Counter>,
    pairs: LruCache<(IpAddr, u64), Counter>,
    users: LruCache<u64, Counter>,
    trust: others::Trust,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counter {
    /// Of pairs those at this replica, else those at all.
    failures: u32,
    /// Of pairs: failures at other replicas.
    others: others::Others,
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
    /// `limits` are those of `auth.lockout`; with `name_key` names have the same hashes at all replicas that have the key.
    pub fn new(limits: Lockout, name_key: Option<[u8; 32]>) -> Arc<Self> {
        Arc::new(Guard {
            limits,
            tables: Mutex::new(Tables {
                addresses: LruCache::new(ENTRIES),
                pairs: LruCache::new(ENTRIES),
                users: LruCache::new(ENTRIES),
                trust: others::Trust::new(Instant::now()),
            }),
            names: name_key.map_or_else(|| Names::Own(RandomState::new()), Names::Shared),
            ended: Notify::new(),
            lockouts: Default::default(),
            lockouts_elsewhere: Default::default(),
            events: broadcast::Sender::new(others::WAITING_EVENTS),
        })
    }

    /// The pause before an attempt that isn't checked is rejected.
    pub fn shortest_pause(&self) -> Duration {
        self.limits.delay
    }

    /// The time for which a failure counts.
    pub fn window(&self) -> Duration {
        self.limits.window
    }

    /// The time for which a lockout holds.
    pub fn lockout(&self) -> Duration {
        self.limits.duration
    }

    /// Lockouts so far by failures here, by what was locked out.
    pub fn lockouts(&self) -> [(&'static str, u64); 2] {
        by_scope(&self.lockouts)
    }

    /// Lockouts so far by failures at other replicas.
    pub fn lockouts_elsewhere(&self) -> [(&'static str, u64); 2] {
        by_scope(&self.lockouts_elsewhere)
    }

    /// Leave to check a password for `name` from `address`.
    pub async fn admit(self: &Arc<Self>, address: IpAddr, name: &str) -> Result<Attempt, Rejected> {
        let (address, name) = (network(address), self.names.hash(name));
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
        let (window, epoch) = (self.limits.window, tables.trust.epoch);
        let of_address = touch(&mut tables.addresses, address, now, window, epoch);
        let of_pair = touch(&mut tables.pairs, (address, name), now, window, epoch);
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
            if limit > 0 && counter.all().saturating_add(counter.in_flight) >= limit {
                return None;
            }
        }
        let is_known = of_pair
            .last_success
            .is_some_and(|at| now.duration_since(at) < KNOWN_FOR);
        let of_user = touch(&mut tables.users, name, now, window, epoch);
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
        let until = now + limits.duration;
        let mut tables = self.guard.lock();
        let (of_address, locks_address) =
            counter(&mut tables.addresses, self.address).fail(now, limits.per_address, until);
        let epoch = tables.trust.epoch;
        let pair = counter(&mut tables.pairs, (self.address, self.name));
        pair.outdate(epoch);
        let (of_pair, locks_pair) = pair.fail(now, limits.per_user, until);
        let (of_user, _) = counter(&mut tables.users, self.name).fail(now, 0, until);
        let locked = Scope::of(locks_address, locks_pair);
        count(&self.guard.lockouts, locked);
        self.announce(Outcome::Failure, now);
        let pause = self.guard.pause(of_address.max(of_pair).max(of_user));
        Failed { pause, locked }
    }

    /// The password was right.
    pub fn succeed(self) {
        let now = Instant::now();
        let mut tables = self.guard.lock();
        let pair = counter(&mut tables.pairs, (self.address, self.name));
        pair.clear(now);
        // also where there is no failure to clear: one may be under way
        self.announce(Outcome::Success, now);
    }

    /// Lets the other replicas know.
    fn announce(&self, outcome: Outcome, at: Instant) {
        // an error means that there are none
        let _ = self.guard.events.send(Event {
            outcome,
            address: self.address,
            name: self.name,
            at,
        });
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

impl Counter {
    /// The failures that count.
    fn all(&self) -> u32 {
        let own = self.failures.saturating_sub(self.others.outdated_own);
        let all = own.saturating_add(self.others.failures);
        all.max(self.failures)
    }

    /// Counts a failure at this replica, or of a table in which it doesn't matter where it was. Returns the failures, and true if it
    /// locks out.
    fn fail(&mut self, at: Instant, limit: u32, until: Instant) -> (u32, bool) {
        let is_locked = self.locked_until.is_some();
        if is_locked && !self.others.have_locked {
            return (limit, false);
        }
        self.failures = self.failures.saturating_add(1);
        self.last_failure = self.last_failure.max(Some(at));
        if is_locked {
            // it was under way when a failure at another replica locked out; own failures alone may do it meanwhile
            if self.failures >= limit {
                self.lock(false, until);
            }
            return (limit, false);
        }
        let failures = self.all();
        let locks = limit > 0 && failures >= limit;
        if locks {
            self.lock(self.failures < limit, until);
        }
        (failures, locks)
    }

    fn lock(&mut self, is_by_others: bool, until: Instant) {
        if is_by_others {
            // own failures count again if the lockout ends with the epoch
            self.others.forget();
        } else {
            self.forget();
        }
        self.others.have_locked = is_by_others;
        self.locked_until = Some(until);
    }

    /// Forgets the failures before a success.
    fn clear(&mut self, success: Instant) {
        self.forget();
        self.locked_until = None;
        self.last_success = self.last_success.max(Some(success));
    }

    fn forget(&mut self) {
        self.failures = 0;
        self.last_failure = None;
        self.others.forget();
    }
}

impl Scope {
    fn of(locks_address: bool, locks_pair: bool) -> Option<Self> {
        match (locks_address, locks_pair) {
            (true, _) => Some(Scope::Address),
            (false, true) => Some(Scope::User),
            (false, false) => None,
        }
    }
}

impl Names {
    fn hash(&self, name: &str) -> u64 {
        match self {
            Names::Own(state) => state.hash_one(name),
            Names::Shared(key) => {
                let mut mac =
                    Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
                mac.update(name.as_bytes());
                let mac = mac.finalize().into_bytes();
                u64::from_be_bytes(*mac.first_chunk().expect("32 bytes"))
            }
        }
    }
}

fn count(lockouts: &[AtomicU64; 2], locked: Option<Scope>) {
    if let Some(scope) = locked {
        lockouts[scope as usize].fetch_add(1, Ordering::Relaxed);
    }
}

fn by_scope([addresses, pairs]: &[AtomicU64; 2]) -> [(&'static str, u64); 2] {
    [
        ("address", addresses.load(Ordering::Relaxed)),
        ("user", pairs.load(Ordering::Relaxed)),
    ]
}

/// The counter of `key`, with what is over, and what of others is of an earlier `epoch`, forgotten.
fn touch<K: Hash + Eq>(
    table: &mut LruCache<K, Counter>,
    key: K,
    now: Instant,
    window: Duration,
    epoch: u64,
) -> Counter {
    let Some(counter) = table.get_mut(&key) else {
        // only who has failed or is being checked needs an entry
        return Counter::default();
    };
    // first: a lockout that has lasted its time ends with all that led to it, also if the epoch has ended meanwhile
    if counter.locked_until.is_some_and(|until| now >= until) {
        counter.locked_until = None;
        counter.forget();
    }
    counter.outdate(epoch);
    let last_failure = counter.last_failure.max(counter.others.last_failure);
    if last_failure.is_some_and(|at| now.duration_since(at) >= window) {
        counter.forget();
    }
    *counter
}

fn counter<K: Hash + Eq>(table: &mut LruCache<K, Counter>, key: K) -> &mut Counter {
    table.get_or_insert_mut(key, Counter::default)
}

#[cfg(test)]
mod tests;
