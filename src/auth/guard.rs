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
use crate::ftp::net::network;

/// Entries per table, some 100 bytes each: a botnet of more addresses is not stopped by counting them.
const ENTRIES: NonZeroUsize = NonZeroUsize::new(65_536).expect("not zero");

/// An address from which a user has logged in within this time is the user's own: jobs run at least weekly.
const KNOWN_FOR: Duration = Duration::from_secs(8 * 24 * 3600);

/// How long an attempt waits for others of the same address or user to be checked.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(30);

/// Counts failures and decides what they lead to.
#[derive(Debug)]
pub struct Guard {
    limits: Lockout,
    tables: Mutex<Tables>,
    names: RandomState,
    /// Told whenever an attempt ends.
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

/// What is locked out.
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

/// What a failure leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failed {
    /// How long after its arrival the attempt is answered.
    pub pause: Duration,
    /// What this failure has locked out.
    pub locked: Option<Scope>,
}

/// Leave to check one password. Dropped without a verdict it counts nowhere.
#[derive(Debug)]
pub struct Attempt {
    guard: Arc<Guard>,
    address: IpAddr,
    name: u64,
    /// How long to wait before the check.
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

    /// How long a lockout holds.
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
mod tests {
    use super::*;

    fn guard(change: impl FnOnce(&mut Lockout)) -> Arc<Guard> {
        let mut limits = Lockout {
            per_address: 10,
            per_user: 3,
            window: Duration::from_secs(900),
            duration: Duration::from_secs(600),
            delay: Duration::from_secs(1),
            max_delay: Duration::from_secs(10),
        };
        change(&mut limits);
        Guard::new(limits)
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    async fn fail(guard: &Arc<Guard>, address: IpAddr, name: &str) -> Result<Failed, Rejected> {
        guard.admit(address, name).await.map(Attempt::fail)
    }

    #[tokio::test(start_paused = true)]
    async fn a_user_is_locked_out_at_one_address_and_nowhere_else() {
        let guard = guard(|_| {});
        let pauses = [1, 2, 4];
        for (failure, pause) in pauses.into_iter().enumerate() {
            let failed = fail(&guard, address(1), "alice").await.expect("checked");
            assert_eq!(failed.pause, Duration::from_secs(pause));
            assert_eq!(failed.locked, (failure == 2).then_some(Scope::User));
        }
        let locked = Rejected::Locked(Scope::User);
        assert_eq!(
            guard.admit(address(1), "alice").await.map(drop),
            Err(locked)
        );
        assert!(guard.admit(address(1), "bob").await.is_ok());
        assert!(guard.admit(address(2), "alice").await.is_ok());
        tokio::time::advance(Duration::from_secs(601)).await;
        assert!(guard.admit(address(1), "alice").await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn guesses_at_many_names_lock_the_address_out_and_locked_ones_count_nowhere() {
        let guard = guard(|_| {});
        for failure in 1..=10 {
            let failed = fail(&guard, address(1), &format!("user{failure}"))
                .await
                .expect("checked");
            assert_eq!(failed.locked.is_some(), failure == 10);
            assert!(failed.pause <= Duration::from_secs(10));
        }
        for _ in 0..1000 {
            let rejected = guard.admit(address(1), "alice").await.map(drop);
            assert_eq!(rejected, Err(Rejected::Locked(Scope::Address)));
        }
        tokio::time::advance(Duration::from_secs(600)).await;
        assert!(
            fail(&guard, address(1), "alice")
                .await
                .expect("checked")
                .locked
                .is_none()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_success_clears_the_pair_and_not_the_address() {
        let guard = guard(|limits| limits.per_address = 5);
        for _ in 0..4 {
            fail(&guard, address(1), "victim").await.expect("checked");
            guard
                .admit(address(1), "mallory")
                .await
                .expect("checked")
                .succeed();
            guard
                .admit(address(1), "victim")
                .await
                .expect("checked")
                .succeed();
        }
        let failed = fail(&guard, address(1), "victim").await.expect("checked");
        assert_eq!(failed.locked, Some(Scope::Address));
    }

    #[tokio::test(start_paused = true)]
    async fn a_user_who_is_guessed_at_from_everywhere_waits_but_not_where_at_home() {
        let guard = guard(|_| {});
        guard
            .admit(address(200), "alice")
            .await
            .expect("checked")
            .succeed();
        for last in 1..=100 {
            fail(&guard, address(last), "alice").await.expect("checked");
        }
        let elsewhere = guard
            .admit(address(201), "alice")
            .await
            .expect("never locked out");
        assert_eq!(elsewhere.wait, Duration::from_secs(10));
        let at_home = guard
            .admit(address(200), "alice")
            .await
            .expect("never locked out");
        assert_eq!(at_home.wait, Duration::ZERO);
        assert_eq!(
            guard
                .admit(address(201), "bob")
                .await
                .expect("checked")
                .wait,
            Duration::ZERO
        );
    }

    #[tokio::test(start_paused = true)]
    async fn guesses_sent_at_once_are_not_checked_more_often_than_one_by_one() {
        let guard = guard(|_| {});
        let mut attempts = tokio::task::JoinSet::new();
        for _ in 0..50 {
            let guard = Arc::clone(&guard);
            attempts.spawn(async move {
                let attempt = guard.admit(address(1), "alice").await?;
                tokio::time::sleep(Duration::from_millis(50)).await;
                Ok::<_, Rejected>(attempt.fail())
            });
        }
        let outcomes = attempts.join_all().await;
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 3);
        // right passwords get their turn one after another
        let mut logins = tokio::task::JoinSet::new();
        for _ in 0..50 {
            let guard = Arc::clone(&guard);
            logins.spawn(async move {
                let attempt = guard
                    .admit(address(2), "alice")
                    .await
                    .expect("its turn comes");
                tokio::time::sleep(Duration::from_millis(50)).await;
                attempt.succeed();
            });
        }
        logins.join_all().await;
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_forgotten_after_a_quiet_window_and_a_verdict_that_never_came_counts_nowhere()
     {
        let guard = guard(|_| {});
        for _ in 0..20 {
            fail(&guard, address(1), "alice").await.expect("checked");
            drop(guard.admit(address(1), "alice").await.expect("checked"));
            fail(&guard, address(1), "alice").await.expect("checked");
            tokio::time::advance(Duration::from_secs(900)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_whole_ipv6_network_counts_as_one_address() {
        let guard = guard(|_| {});
        for host in 1..=3 {
            let address = format!("2001:db8:0:1::{host}").parse().expect("an address");
            fail(&guard, address, "alice").await.expect("checked");
        }
        let neighbour = "2001:db8:0:1:ffff::".parse().expect("an address");
        assert!(guard.admit(neighbour, "alice").await.is_err());
        let other = "2001:db8:0:2::1".parse().expect("an address");
        assert!(guard.admit(other, "alice").await.is_ok());
        assert_eq!(
            network("::ffff:192.0.2.1".parse().expect("an address")),
            address(1)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn limits_of_zero_lock_nobody_out() {
        let guard = guard(|limits| (limits.per_address, limits.per_user) = (0, 0));
        for _ in 0..1000 {
            let failed = fail(&guard, address(1), "alice").await.expect("checked");
            assert_eq!(failed.locked, None);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_names_and_addresses_takes_bounded_memory() {
        let guard = guard(|_| {});
        for host in 0..(ENTRIES.get() as u32 + 1000) {
            let address = IpAddr::from((0x0a00_0000 + host).to_be_bytes());
            fail(&guard, address, &host.to_string())
                .await
                .expect("checked");
        }
        let tables = guard.lock();
        assert_eq!(tables.addresses.len(), ENTRIES.get());
        assert_eq!(
            (tables.pairs.len(), tables.users.len()),
            (ENTRIES.get(), ENTRIES.get())
        );
    }
}
