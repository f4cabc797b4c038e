//! One memory budget for the part buffers of all uploads.
//!
//! Invariants: the bytes of all living [`Grant`]s never exceed the budget; some upload can always go on; no user holds so
//! much that another one finds nothing.
//!
//! FTP announces no length and a store takes no part under 5 MiB, so an upload that holds less can neither go on without
//! memory nor give back what it has. If the whole budget could be held by half-filled parts, all would wait for each other
//! for ever, and one client that stops in the middle of each of its uploads would stop everybody. So the budget has three
//! areas:
//!
//! | area | for | rule |
//! |---|---|---|
//! | small: an eighth | the first block of each upload, up to 64 KiB | the fuller the area, the smaller the blocks: a small file finds room whatever the others do |
//! | shared: the rest | growth, step by step | a user may hold up to three quarters of what the other users leave, so there is always room for one more |
//! | reserve: half, at least the largest part | a *reservation*: all that a part still needs until it can be sent, in one step | in the order of asking |
//!
//! Whoever has a reservation never waits for memory again before its part is sent, so it ends, and the next one follows. A
//! slow client would keep its reservation for long: reservations of slow clients take no more than half of the reserve together, and
//! beside its first reservation a user has no more than an equal share of the reserve. An upload that lacks memory and has enough
//! for a part sends it early instead, see [`upload`](super::upload).

mod grant;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use crate::store::error::StoreError;

/// The most bytes of an upload's first block.
pub(super) const FIRST_BLOCK: u64 = 64 * 1024;

/// The least bytes of one, a page.
const LEAST_BLOCK: u64 = 4 * 1024;

/// A first block is this part of what is free of its area: 500 uploads find one in 8 MiB, and the last ones a page.
const BLOCKS: u64 = 128;

/// A user's limit is this many times what is free besides.
const SHARE: u64 = 3;

/// A client that needs longer than this for the rest of a part is slow.
const SLOW_AFTER: Duration = Duration::from_secs(10);

/// A wait of this length is a lack of memory, and no longer the usual wait for the store.
const LACK: Duration = Duration::from_millis(200);

/// Whose memory it is: one user of the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Holder(u64);

impl Holder {
    /// The user of this name.
    pub fn of(name: &str) -> Self {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        Holder(hasher.finish())
    }
}

/// The budget shared by all uploads of the process.
#[derive(Debug)]
pub struct Budget {
    state: Mutex<State>,
    /// The number of those that have waited for longer than [`LACK`].
    lacking: watch::Sender<usize>,
    wait: Duration,
    largest_part: u64,
    waits: AtomicU64,
    waited_micros: AtomicU64,
}

/// Free bytes, their holders, and the waiting uploads.
#[derive(Debug)]
struct State {
    small: u64,
    shared: u64,
    reserve: u64,
    /// Bytes of the reserve, free or not.
    whole_reserve: u64,
    /// The most bytes that can be granted.
    total: u64,
    /// Bytes of small, shared area and reserve that are still held, and are gone when they come back: the budget was lowered.
    owed: [u64; 3],
    /// Bytes of each user in the shared area and the reserve.
    held: HashMap<Holder, u64>,
    reservations: HashMap<u64, Reservation>,
    /// In the order of asking.
    line: VecDeque<Waiter>,
    last_id: u64,
}

/// A part of the reserve.
#[derive(Debug)]
struct Reservation {
    holder: Holder,
    bytes: u64,
    /// From then on its client counts as slow.
    slow_from: Instant,
}

#[derive(Debug)]
struct Waiter {
    id: u64,
    holder: Holder,
    want: Want,
    answer: oneshot::Sender<Portion>,
}

/// The missing part of what an upload asks for.
#[derive(Debug, Clone, Copy)]
struct Want {
    /// Bytes of the shared area.
    step: u64,
    /// Or so many of the reserve.
    reservation: u64,
    is_slow: bool,
}

/// The need of a part.
#[derive(Debug, Clone, Copy)]
pub struct Ask {
    /// Bytes that it is to hold, at least.
    pub bytes: u64,
    /// Bytes with which it can be sent.
    pub enough: u64,
    /// The time that its client will need to bring `enough`.
    pub within: Duration,
}

/// Bytes of one area that were taken out of the budget, given back on drop.
#[derive(Debug)]
struct Portion {
    budget: Arc<Budget>,
    holder: Holder,
    area: Area,
    bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Area {
    Small,
    Shared,
    /// The reservation's number.
    Reserve(u64),
}

/// Leave to hold so many bytes, given back on drop.
#[derive(Debug)]
pub struct Grant {
    budget: Arc<Budget>,
    holder: Holder,
    portions: Vec<Portion>,
}

/// True if somebody may have a reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum May {
    Have,
    /// When there is room.
    Wait,
    /// Not before others have given something back.
    NotNow,
}

/// Notes a wait when it ends, however it ends.
struct Waiting<'a> {
    budget: &'a Arc<Budget>,
    since: Instant,
    id: u64,
    is_lack: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let micros = u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.budget.waits.fetch_add(1, Ordering::Relaxed);
        self.budget
            .waited_micros
            .fetch_add(micros, Ordering::Relaxed);
        if self.is_lack {
            self.budget.lacking.send_modify(|lacking| *lacking -= 1);
        }
        let mut state = self.budget.state();
        let before = state.line.len();
        state.line.retain(|waiter| waiter.id != self.id);
        if state.line.len() < before {
            // whoever was behind it may come forward
            self.budget.serve(state);
        }
    }
}

impl Budget {
    /// `total` bytes at most; `largest_part` bytes must fit the reserve; `wait` bounds each wait for memory.
    pub fn new(total: u64, largest_part: u64, wait: Duration) -> Arc<Self> {
        let [small, shared, reserve] = areas(total, largest_part);
        Arc::new(Budget {
            state: Mutex::new(State {
                small,
                shared,
                reserve,
                whole_reserve: reserve,
                total,
                owed: [0; 3],
                held: HashMap::new(),
                reservations: HashMap::new(),
                line: VecDeque::new(),
                last_id: 0,
            }),
            lacking: watch::Sender::new(0),
            wait,
            largest_part,
            waits: AtomicU64::new(0),
            waited_micros: AtomicU64::new(0),
        })
    }

    /// The most bytes that can be granted.
    pub fn total(&self) -> u64 {
        self.state().total
    }

    /// Makes it `total` bytes, at least the two parts that [`Budget::new`] wants. More are there at once; less as what is held
    /// beyond comes back: until then nothing of it is granted again.
    pub fn set_total(self: &Arc<Self>, total: u64) {
        let mut state = self.state();
        let before = areas(state.total, self.largest_part);
        let after = areas(total, self.largest_part);
        let State {
            small,
            shared,
            reserve,
            owed,
            ..
        } = &mut *state;
        let free = [small, shared, reserve].into_iter().zip(owed);
        for ((free, owed), (before, after)) in free.zip(before.into_iter().zip(after)) {
            if after >= before {
                receive(free, owed, after - before);
            } else {
                let now = (before - after).min(*free);
                *free -= now;
                *owed += before - after - now;
            }
        }
        (state.total, state.whole_reserve) = (total, after[2]);
        self.serve(state);
    }

    /// Bytes granted at this moment.
    pub fn used(&self) -> u64 {
        let state = self.state();
        let free = state.small + state.shared + state.reserve;
        state.total + state.owed.iter().sum::<u64>() - free
    }

    /// The number of times that somebody had to wait, and how long in all; waits that are over.
    pub fn waits(&self) -> (u64, Duration) {
        let micros = self.waited_micros.load(Ordering::Relaxed);
        let waits = self.waits.load(Ordering::Relaxed);
        (waits, Duration::from_micros(micros))
    }

    /// A grant of nothing, for a part of `holder`.
    pub fn grant(self: &Arc<Self>, holder: Holder) -> Grant {
        Grant {
            budget: Arc::clone(self),
            holder,
            portions: Vec::new(),
        }
    }

    /// True while uploads lack memory.
    pub fn is_lacking(&self) -> bool {
        *self.lacking.borrow() > 0
    }

    /// Resolves as soon as uploads lack memory.
    pub async fn lacking(&self) {
        let mut lacking = self.lacking.subscribe();
        if lacking.wait_for(|lacking| *lacking > 0).await.is_err() {
            // the budget is gone, and with it everybody who could lack anything
            std::future::pending::<()>().await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // figures and a line: no change stops half-way
        self.state.lock()
    }

    fn portion(self: &Arc<Self>, holder: Holder, (area, bytes): (Area, u64)) -> Portion {
        Portion {
            budget: Arc::clone(self),
            holder,
            area,
            bytes,
        }
    }

    /// Puts somebody at the end of the line.
    fn queue_up(
        self: &Arc<Self>,
        holder: Holder,
        want: Want,
    ) -> (Waiting<'_>, oneshot::Receiver<Portion>) {
        let (answer, granted) = oneshot::channel();
        let mut state = self.state();
        state.last_id += 1;
        let id = state.last_id;
        state.line.push_back(Waiter {
            id,
            holder,
            want,
            answer,
        });
        self.serve(state);
        let waiting = Waiting {
            budget: self,
            since: Instant::now(),
            id,
            is_lack: false,
        };
        (waiting, granted)
    }

    /// Gives those in line what there is for them.
    fn serve(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        let mut unwanted = Vec::new();
        while let Some((at, taken)) = state.next_in_line() {
            let Some(waiter) = state.line.remove(at) else {
                break;
            };
            let portion = self.portion(waiter.holder, taken);
            unwanted.extend(waiter.answer.send(portion).err());
        }
        drop(state);
        // to give back takes the lock
        drop(unwanted);
    }
}

/// The bytes of a budget are small, shared area and reserve.
fn areas(total: u64, largest_part: u64) -> [u64; 3] {
    let reserve = largest_part.max(total / 2).min(total);
    let small = (total / 8).min(total - reserve);
    [small, total - reserve - small, reserve]
}

/// Adds bytes to what is free, after what is owed.
fn receive(free: &mut u64, owed: &mut u64, bytes: u64) {
    let paid = bytes.min(*owed);
    *owed -= paid;
    *free += bytes - paid;
}

impl State {
    /// The first in line for whom there is something, and what was taken for it.
    fn next_in_line(&mut self) -> Option<(usize, (Area, u64))> {
        let users = self.users();
        let mut is_kept = false;
        for at in 0..self.line.len() {
            let Waiter { holder, want, .. } = self.line[at];
            if let Some(taken) = self.take_shared(holder, want.step) {
                return Some((at, taken));
            }
            match self.may_have_reservation(holder, want, users) {
                May::Have if !is_kept => return Some((at, self.take_reservation(holder, want))),
                // what becomes free is kept for whoever asked first
                May::Have | May::Wait => is_kept = true,
                May::NotNow => {}
            }
        }
        None
    }

    /// Users with a reservation and users in line.
    fn users(&self) -> u64 {
        let reservations = self
            .reservations
            .values()
            .map(|reservation| reservation.holder);
        let waiting = self.line.iter().map(|waiter| waiter.holder);
        reservations.chain(waiting).collect::<HashSet<_>>().len() as u64
    }

    /// True if `holder` leaves enough to the others with `more` bytes on top.
    fn is_fair(&self, holder: Holder, more: u64) -> bool {
        let held = self.held.get(&holder).copied().unwrap_or(0);
        let left = (self.shared + self.reserve).saturating_sub(more);
        held + more <= SHARE * left
    }

    fn take_small(&mut self, most: u64) -> Option<(Area, u64)> {
        let block = self.small / BLOCKS / LEAST_BLOCK * LEAST_BLOCK;
        let block = block.clamp(LEAST_BLOCK, FIRST_BLOCK).min(most);
        self.small = self.small.checked_sub(block)?;
        Some((Area::Small, block))
    }

    fn take_shared(&mut self, holder: Holder, bytes: u64) -> Option<(Area, u64)> {
        if bytes > self.shared || !self.is_fair(holder, bytes) {
            return None;
        }
        self.shared -= bytes;
        *self.held.entry(holder).or_default() += bytes;
        Some((Area::Shared, bytes))
    }

    /// `users` share the reserve.
    fn may_have_reservation(&self, holder: Holder, want: Want, users: u64) -> May {
        let bytes = want.reservation;
        if self.reservations.is_empty() {
            return if bytes <= self.reserve {
                May::Have
            } else {
                May::NotNow
            };
        }
        let (mut own, mut slow) = (0, 0);
        let now = Instant::now();
        for reservation in self.reservations.values() {
            own += if reservation.holder == holder {
                reservation.bytes
            } else {
                0
            };
            slow += if reservation.slow_from <= now {
                reservation.bytes
            } else {
                0
            };
        }
        let share = self.whole_reserve / users.max(1);
        if own > 0 && (own + bytes > share || !self.is_fair(holder, bytes)) {
            return May::NotNow;
        }
        if want.is_slow && slow + bytes > self.whole_reserve / 2 {
            return May::NotNow;
        }
        if bytes <= self.reserve {
            May::Have
        } else {
            May::Wait
        }
    }

    fn take_reservation(&mut self, holder: Holder, want: Want) -> (Area, u64) {
        let (bytes, now) = (want.reservation, Instant::now());
        self.last_id += 1;
        self.reserve -= bytes;
        *self.held.entry(holder).or_default() += bytes;
        let slow_from = if want.is_slow { now } else { now + SLOW_AFTER };
        self.reservations.insert(
            self.last_id,
            Reservation {
                holder,
                bytes,
                slow_from,
            },
        );
        (Area::Reserve(self.last_id), bytes)
    }

    fn give_back(&mut self, holder: Holder, area: Area, bytes: u64) {
        match area {
            Area::Small => {
                receive(&mut self.small, &mut self.owed[0], bytes);
                return;
            }
            Area::Shared => receive(&mut self.shared, &mut self.owed[1], bytes),
            Area::Reserve(id) => {
                receive(&mut self.reserve, &mut self.owed[2], bytes);
                self.reservations.remove(&id);
            }
        }
        if let Some(held) = self.held.get_mut(&holder) {
            *held -= bytes;
            if *held == 0 {
                self.held.remove(&holder);
            }
        }
    }
}

#[cfg(test)]
mod tests;
