//! Takes events of other replicas into account; the rules are in [`others`](super::others).

use tokio::sync::broadcast;
use tokio::time::Instant;

use super::others::{Event, Others, Outcome, SILENCE};
use super::{Counter, Guard, Scope, count, counter, touch};

impl Guard {
    /// The events at this replica from now on; of those that wait the oldest make room.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Counts failures of pairs at other replicas from now on (true: no success at a replica can be missed), or forgets them.
    pub fn trust(&self, is_complete: bool) {
        let mut tables = self.lock();
        if tables.trust.is_complete == is_complete {
            return;
        }
        tables.trust.is_complete = is_complete;
        // also where it becomes complete: a replica that was silent may be gone now, with its successes
        tables.trust.renew();
        drop(tables);
        self.ended.notify_waiters();
    }

    /// Events of other replicas were lost, and a success may be among them.
    pub fn lose_events(&self) {
        self.lock().trust.renew();
        self.ended.notify_waiters();
    }

    /// Takes an event of another replica into account. Returns the scope that it has locked out.
    pub fn receive(&self, event: Event) -> Option<Scope> {
        let locked = match event.outcome {
            Outcome::Failure => self.receive_failure(event),
            Outcome::Success => {
                self.receive_success(event);
                None
            }
        };
        count(&self.lockouts_elsewhere, locked);
        self.ended.notify_waiters();
        locked
    }

    fn receive_failure(&self, event: Event) -> Option<Scope> {
        let Event {
            address, name, at, ..
        } = event;
        let (now, limits) = (Instant::now(), &self.limits);
        let until = at + limits.duration;
        if now.duration_since(at) >= limits.window || until <= now {
            return None;
        }
        let mut tables = self.lock();
        let (window, epoch) = (limits.window, tables.trust.epoch);
        touch(&mut tables.addresses, address, now, window, epoch);
        let (_, locks_address) =
            counter(&mut tables.addresses, address).fail(at, limits.per_address, until);
        touch(&mut tables.users, name, now, window, epoch);
        counter(&mut tables.users, name).fail(at, 0, until);
        // one that was made before may be said to have been made up to SILENCE later
        let counts = tables.trust.is_complete && at > tables.trust.since + SILENCE;
        let pair = (address, name);
        touch(&mut tables.pairs, pair, now, window, epoch);
        let pair = counter(&mut tables.pairs, pair);
        pair.outdate(epoch);
        let locks_pair = counts && pair.fail_elsewhere(at, limits.per_user, until);
        Scope::of(locks_address, locks_pair)
    }

    fn receive_success(&self, event: Event) {
        let mut tables = self.lock();
        counter(&mut tables.pairs, (event.address, event.name)).clear(event.at);
    }
}

impl Counter {
    /// Forgets what others have contributed in an earlier epoch, a lockout that own failures alone would not have caused among it.
    pub(super) fn outdate(&mut self, epoch: u64) {
        if self.others.epoch == epoch {
            return;
        }
        if self.others.have_locked {
            self.locked_until = None;
        }
        self.others = Others {
            epoch,
            outdated_own: self.failures,
            ..Others::default()
        };
    }

    /// Counts a pair's failure at another replica; true if it locks out.
    fn fail_elsewhere(&mut self, at: Instant, limit: u32, until: Instant) -> bool {
        let is_cleared = self
            .last_success
            .is_some_and(|success| at <= success + SILENCE);
        if is_cleared || self.locked_until.is_some() {
            return false;
        }
        self.others.failures = self.others.failures.saturating_add(1);
        self.others.last_failure = self.others.last_failure.max(Some(at));
        let locks = limit > 0 && self.all() >= limit;
        if locks {
            self.lock(true, until);
        }
        locks
    }
}
