//! Limits of bandwidth, for the gateway, for a user's sessions together, and for one session.
//!
//! Time is given out, not bytes: each [`Limit`] knows until when its rate is taken, and who wants to move a share of bytes is given
//! the time from there on (virtual scheduling, as the Generic Cell Rate Algorithm of ITU-T I.371 has it). So nothing fills up or runs
//! while nobody waits, shares are given in the order in which they were asked for, and sessions that share a limit get equal parts of
//! it. A session that waits reads and writes nothing: TCP slows its client down, and no memory is taken.
//!
//! Invariant: in any time `t`, what a limit lets through is at most its rate for `t` and [`BURST`], and one share for each session.
//! What a session leaves of its share is given back when it ends: sessions that come, ask and go take nobody's time.
//!
//! A new rate holds for shares whose time hasn't come, too: they are asked for again, within `LOOK_AGAIN`.
//!
//! The crates for this (governor, leaky-bucket) check one bucket at a time. Here a share is taken from three at once, is counted in
//! bytes, and rates change under running transfers.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::config::{Limits, Rates};
use crate::ftp::metrics::{Direction, FtpMetrics, Waited};

/// A limit that was not used lets this much of its rate through at once: more than timers are late by, and far below what anybody
/// sees as a pause.
pub const BURST: Duration = Duration::from_millis(100);

/// The time in which a share moves: short, so that shares of many sessions are spread evenly over a second.
const SHARE: Duration = Duration::from_millis(10);

/// The longest wait after which a share is looked at again: its limit may have another rate by then.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The smallest share, in bytes: less would be packets of mostly headers.
const MIN_SHARE: u64 = 512;

/// The largest share, in bytes: as much as one read or write of a fast transfer moves.
const MAX_SHARE: u64 = 64 * 1024;

/// The limits of the gateway, and those of its users.
#[derive(Debug)]
pub struct Bandwidth {
    gateway: Both<Arc<Limit>>,
    session: Rates,
    waited: Both<Waited>,
    users: Mutex<UserLimits>,
}

/// Something for each direction.
#[derive(Debug, Clone)]
struct Both<T> {
    upload: T,
    download: T,
}

/// The limits of users who have sessions, or have had some a moment ago.
#[derive(Debug, Default)]
struct UserLimits {
    by_name: HashMap<String, Both<Arc<UserLimit>>>,
    /// With so many entries those that nobody needs are taken out.
    tidy_at: usize,
}

/// The limits of a user in one direction.
#[derive(Debug)]
struct UserLimit {
    /// Of all sessions together.
    all: Limit,
    /// The rate of each session, in bytes per second; 0: no limit.
    session: AtomicU64,
}

/// A rate, and until when it is taken.
#[derive(Debug)]
pub struct Limit {
    /// In bytes per second; 0: no limit. It is read without the lock, which nobody takes where there are no limits.
    rate: AtomicU64,
    schedule: Mutex<Schedule>,
}

#[derive(Debug)]
struct Schedule {
    /// From here on time is free.
    next: Instant,
    /// How often the rate has changed.
    changes: u64,
}

/// The limits of one session.
#[derive(Debug)]
pub struct SessionBandwidth(Both<Arc<Pace>>);

/// One direction of a session, under all limits that hold for it.
#[derive(Debug)]
pub struct Pace {
    gateway: Arc<Limit>,
    user: Arc<UserLimit>,
    session: Limit,
    /// By the gateway's, the user's and the session's limit. Each gives out shares of its own size, or sessions with small ones would get less of what they share.
    granted: Mutex<[Granted; 3]>,
    waited: Waited,
}

/// Permission to move bytes. What one transfer doesn't use is for the session's next one.
#[derive(Debug, Clone, Copy)]
struct Granted {
    bytes: u64,
    /// Not before.
    from: Instant,
    /// The changes of the limit's rate until then.
    changes: u64,
}

impl Bandwidth {
    /// The limits of `limits.*`. The time that transfers wait is counted in `metrics`.
    pub fn new(limits: &Limits, metrics: &FtpMetrics) -> Self {
        Bandwidth {
            gateway: Both::of(&limits.all),
            session: limits.session,
            waited: Both {
                upload: metrics.bandwidth_waited(Direction::Received),
                download: metrics.bandwidth_waited(Direction::Sent),
            },
            users: Mutex::default(),
        }
    }

    /// The limits of a session of the user `name`, whose own are `limits`: from now on for all of the user's sessions.
    pub fn session(&self, name: &str, limits: &Limits) -> SessionBandwidth {
        let user = self.users.lock().of(name, &self.of_user(limits));
        SessionBandwidth(Both {
            upload: Pace::new(&self.gateway.upload, user.upload, &self.waited.upload),
            download: Pace::new(&self.gateway.download, user.download, &self.waited.download),
        })
    }

    /// Takes over the limits that users have now, for the sessions that run; of whom `now` returns nothing keep theirs.
    pub fn update(&self, now: impl Fn(&str) -> Option<Limits>) {
        for (name, shared) in &self.users.lock().by_name {
            if let Some(limits) = now(name) {
                shared.set(&self.of_user(&limits));
            }
        }
    }

    /// The limits that hold for a user who has these: those of sessions take the place of the gateway's.
    fn of_user(&self, limits: &Limits) -> Limits {
        Limits {
            all: limits.all,
            session: Rates {
                upload: limits.session.upload.or(self.session.upload),
                download: limits.session.download.or(self.session.download),
            },
        }
    }
}

impl Both<Arc<Limit>> {
    fn of(rates: &Rates) -> Self {
        Both {
            upload: Arc::new(Limit::new(rates.upload)),
            download: Arc::new(Limit::new(rates.download)),
        }
    }
}

impl Both<Arc<UserLimit>> {
    /// These limits from now on.
    fn set(&self, limits: &Limits) {
        let Limits { all, session } = limits;
        self.upload.set(all.upload, session.upload);
        self.download.set(all.download, session.download);
    }
}

impl UserLimit {
    fn new(all: Option<u64>, session: Option<u64>) -> Arc<Self> {
        Arc::new(UserLimit {
            all: Limit::new(all),
            session: AtomicU64::new(session.unwrap_or(0)),
        })
    }

    fn set(&self, all: Option<u64>, session: Option<u64>) {
        self.all.set_rate(all);
        self.session.store(session.unwrap_or(0), Ordering::Relaxed);
    }

    fn session_rate(&self) -> Option<u64> {
        Some(self.session.load(Ordering::Relaxed)).filter(|rate| *rate > 0)
    }
}

impl UserLimits {
    /// What the sessions of `name` share, with these limits from now on.
    fn of(&mut self, name: &str, limits: &Limits) -> Both<Arc<UserLimit>> {
        if let Some(shared) = self.by_name.get(name) {
            shared.set(limits);
            return shared.clone();
        }
        if self.by_name.len() >= self.tidy_at {
            let now = Instant::now();
            // one whose time is taken is kept, or logging in anew would give time away
            let is_needed = |limit: &Arc<UserLimit>| {
                Arc::strong_count(limit) > 1 || limit.all.schedule.lock().next > now
            };
            self.by_name
                .retain(|_, both| is_needed(&both.upload) || is_needed(&both.download));
            self.tidy_at = 2 * self.by_name.len() + TIDY_FROM;
        }
        let Limits { all, session } = limits;
        let shared = Both {
            upload: UserLimit::new(all.upload, session.upload),
            download: UserLimit::new(all.download, session.download),
        };
        self.by_name.insert(name.to_owned(), shared.clone());
        shared
    }
}

/// As few entries as this are not worth a look.
const TIDY_FROM: usize = 64;

impl Limit {
    fn new(rate: Option<u64>) -> Self {
        Limit {
            rate: AtomicU64::new(rate.unwrap_or(0)),
            schedule: Mutex::new(Schedule {
                next: Instant::now(),
                changes: 0,
            }),
        }
    }

    fn rate(&self) -> Option<u64> {
        Some(self.rate.load(Ordering::Relaxed)).filter(|rate| *rate > 0)
    }

    /// Another rate from now on, for which all time is free: shares whose time hasn't come are asked for again.
    fn set_rate(&self, rate: Option<u64>) {
        if self.rate() == rate {
            return;
        }
        let mut schedule = self.schedule.lock();
        self.rate.store(rate.unwrap_or(0), Ordering::Relaxed);
        schedule.next = Instant::now();
        schedule.changes += 1;
    }

    /// What is left of `granted`, or the next share; none without a limit.
    fn share(&self, granted: &mut Granted, now: Instant) -> Option<Granted> {
        let rate = self.rate()?;
        let mut schedule = self.schedule.lock();
        let is_outdated = granted.changes != schedule.changes && granted.from > now;
        if granted.bytes == 0 || is_outdated {
            *granted = schedule.take_share(rate, now);
        }
        Some(*granted)
    }

    /// Takes back what is left of `granted`.
    fn give_back(&self, granted: &Granted) {
        let Some(rate) = self.rate() else { return };
        let mut schedule = self.schedule.lock();
        if granted.changes == schedule.changes {
            let unused = Duration::from_secs_f64(granted.bytes as f64 / rate as f64);
            schedule.next = schedule.next.checked_sub(unused).unwrap_or(schedule.next);
        }
    }
}

impl Schedule {
    /// Takes the time for a share of bytes.
    fn take_share(&mut self, rate: u64, now: Instant) -> Granted {
        let rate = rate as f64;
        let bytes = ((rate * SHARE.as_secs_f64()) as u64).clamp(MIN_SHARE, MAX_SHARE);
        let unused = now.checked_sub(BURST).unwrap_or(now);
        let from = self.next.max(unused);
        self.next = from + Duration::from_secs_f64(bytes as f64 / rate);
        Granted {
            bytes,
            from,
            changes: self.changes,
        }
    }
}

impl SessionBandwidth {
    /// The session's pace in this direction.
    pub fn pace(&self, direction: Direction) -> &Arc<Pace> {
        match direction {
            Direction::Received => &self.0.upload,
            Direction::Sent => &self.0.download,
        }
    }
}

impl Pace {
    fn new(gateway: &Arc<Limit>, user: Arc<UserLimit>, waited: &Waited) -> Arc<Self> {
        let nothing = Granted {
            bytes: 0,
            from: Instant::now(),
            changes: 0,
        };
        Arc::new(Pace {
            gateway: Arc::clone(gateway),
            session: Limit::new(user.session_rate()),
            user,
            granted: Mutex::new([nothing; 3]),
            waited: waited.clone(),
        })
    }

    /// Permission to move bytes, at least one; from which moment on, if that is to be waited for: then it is asked for again.
    pub fn permit(&self) -> (usize, Option<Instant>) {
        let Some((bytes, from)) = self.grant() else {
            return (usize::MAX, None);
        };
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        (bytes, Some(from).filter(|from| *from > Instant::now()))
    }

    /// Waits for that moment, or for `LOOK_AGAIN`. Cancel safe.
    pub async fn wait(&self, until: Instant) {
        let began = Instant::now();
        tokio::time::sleep_until(until.min(began + LOOK_AGAIN)).await;
        self.waited.inc_by(began.elapsed().as_secs_f64());
    }

    /// Notes that so many bytes have moved.
    pub fn moved(&self, bytes: usize) {
        for granted in self.granted.lock().iter_mut() {
            granted.bytes = granted.bytes.saturating_sub(bytes as u64);
        }
    }

    /// What is left of each limit's last share, or its next one, and of these the fewest bytes and the latest moment; none without any
    /// limit.
    fn grant(&self) -> Option<(u64, Instant)> {
        // it may have changed since the login
        self.session.set_rate(self.user.session_rate());
        if self.limits().iter().all(|limit| limit.rate().is_none()) {
            return None;
        }
        let now = Instant::now();
        let mut granted = self.granted.lock();
        let each = self.limits().into_iter().zip(granted.iter_mut());
        let each = each.filter_map(|(limit, granted)| limit.share(granted, now));
        let each = each.map(|granted| (granted.bytes, granted.from));
        each.reduce(|one, other| (one.0.min(other.0), one.1.max(other.1)))
    }

    fn limits(&self) -> [&Limit; 3] {
        [&self.gateway, &self.user.all, &self.session]
    }
}

impl Drop for Pace {
    fn drop(&mut self) {
        for (limit, granted) in self.limits().into_iter().zip(self.granted.lock().iter()) {
            limit.give_back(granted);
        }
    }
}

#[cfg(test)]
mod tests;
