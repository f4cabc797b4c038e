//! One memory budget for the part buffers of all uploads; and one, without a reserve, for what downloads read ahead.
//!
//! Invariant: the bytes of all living [`Grant`]s never exceed the budget, and some upload can always go on.
//!
//! The second half is the hard one. FTP announces no length and a store takes no part under 5 MiB, so an upload that
//! holds half a part can neither go on without memory nor give back what it has. If the whole budget could be held by
//! half-filled parts, all would wait for each other for ever. Therefore the budget has two halves: from the *shared* one
//! buffers grow step by step, so that a small file holds little; when that is empty, an upload takes from the *reserve*
//! all that its part can still need in one step. Whoever holds a place in the reserve never waits for memory again
//! before its part is sent, so it ends, and the next one follows, first come, first served.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::store::error::StoreError;

/// Bytes per semaphore permit: fine enough for small files, coarse enough for a `u32` count.
const UNIT: u64 = 64 * 1024;

/// The budget shared by all uploads of the process.
#[derive(Debug)]
pub struct Budget {
    shared: Arc<Semaphore>,
    reserve: Arc<Semaphore>,
    wait: Duration,
    total: u64,
    waits: AtomicU64,
    waited_micros: AtomicU64,
}

/// Notes a wait when it ends, however it ends.
struct Waiting<'a>(&'a Budget, Instant);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let micros = u64::try_from(self.1.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.0.waits.fetch_add(1, Ordering::Relaxed);
        self.0.waited_micros.fetch_add(micros, Ordering::Relaxed);
    }
}

/// Leave to hold so many bytes, given back on drop.
#[derive(Debug, Default)]
pub struct Grant {
    shared: Option<OwnedSemaphorePermit>,
    reserve: Option<OwnedSemaphorePermit>,
    bytes: u64,
}

impl Budget {
    /// `total` bytes at most; `largest_part` bytes must fit the reserve; `wait` bounds each wait for memory.
    pub fn new(total: u64, largest_part: u64, wait: Duration) -> Arc<Self> {
        let reserve = units(largest_part).max(total / UNIT / 2);
        let shared = (total / UNIT).saturating_sub(reserve);
        Arc::new(Budget {
            shared: Arc::new(Semaphore::new(shared as usize)),
            reserve: Arc::new(Semaphore::new(reserve as usize)),
            wait,
            total,
            waits: AtomicU64::new(0),
            waited_micros: AtomicU64::new(0),
        })
    }

    /// A budget without a reserve, for [`Budget::try_grant`]: where nobody waits, nobody can wait for ever.
    pub fn undivided(total: u64) -> Arc<Self> {
        Arc::new(Budget {
            shared: Arc::new(Semaphore::new((total / UNIT) as usize)),
            reserve: Arc::new(Semaphore::new(0)),
            wait: Duration::ZERO,
            total,
            waits: AtomicU64::new(0),
            waited_micros: AtomicU64::new(0),
        })
    }

    /// The most bytes that can be granted.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Bytes granted at this moment.
    pub fn used(&self) -> u64 {
        let free = (self.shared.available_permits() + self.reserve.available_permits()) as u64;
        (self.total / UNIT).saturating_sub(free) * UNIT
    }

    /// How often somebody had to wait, and how long in all; waits that are over.
    pub fn waits(&self) -> (u64, Duration) {
        let micros = self.waited_micros.load(Ordering::Relaxed);
        let waits = self.waits.load(Ordering::Relaxed);
        (waits, Duration::from_micros(micros))
    }

    /// Leave to hold `bytes` if that much is free at this moment, for what can do without.
    pub fn try_grant(&self, bytes: u64) -> Option<Grant> {
        let needed = u32::try_from(units(bytes)).ok()?;
        let shared = self.shared.clone().try_acquire_many_owned(needed).ok()?;
        Some(Grant {
            shared: Some(shared),
            reserve: None,
            bytes,
        })
    }

    /// Widens `grant` to `bytes`; `part_bytes` is the most that this part can ever need.
    ///
    /// Waits in line when the budget is spent, which is what slows the client down by TCP backpressure;
    /// [`StoreError::NoMemory`] after the bound given to [`Budget::new`]. Cancel safe.
    pub async fn grow(
        &self,
        grant: &mut Grant,
        bytes: u64,
        part_bytes: u64,
    ) -> Result<(), StoreError> {
        if bytes <= grant.bytes || grant.reserve.is_some() {
            return Ok(());
        }
        let more = units(bytes) - units(grant.bytes);
        let more = u32::try_from(more).map_err(|_| StoreError::NoMemory)?;
        if let Ok(permit) = self.shared.clone().try_acquire_many_owned(more) {
            grant.widen(permit, bytes);
            return Ok(());
        }
        let rest = units(part_bytes.max(bytes)) - units(grant.bytes);
        let rest = u32::try_from(rest).map_err(|_| StoreError::NoMemory)?;
        if let Ok(permit) = self.reserve.clone().try_acquire_many_owned(rest) {
            grant.reserve = Some(permit);
            grant.bytes = part_bytes.max(bytes);
            return Ok(());
        }
        let _waiting = Waiting(self, Instant::now());
        tokio::select! {
            permit = self.shared.clone().acquire_many_owned(more) => {
                grant.widen(permit.expect("the semaphore is never closed"), bytes);
            }
            permit = self.reserve.clone().acquire_many_owned(rest) => {
                grant.reserve = Some(permit.expect("the semaphore is never closed"));
                grant.bytes = part_bytes.max(bytes);
            }
            () = tokio::time::sleep(self.wait) => return Err(StoreError::NoMemory),
        }
        Ok(())
    }
}

impl Grant {
    /// Bytes that may be held.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn widen(&mut self, permit: OwnedSemaphorePermit, bytes: u64) {
        match &mut self.shared {
            Some(mine) => mine.merge(permit),
            none => *none = Some(permit),
        }
        self.bytes = bytes;
    }
}

fn units(bytes: u64) -> u64 {
    bytes.div_ceil(UNIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[tokio::test(start_paused = true)]
    async fn half_filled_parts_never_wait_for_each_other_for_ever() {
        let budget = Budget::new(32 * MIB, 8 * MIB, Duration::from_secs(3600));
        let mut uploads = tokio::task::JoinSet::new();
        for _ in 0..1000 {
            let budget = budget.clone();
            uploads.spawn(async move {
                let mut grant = Grant::default();
                let mut bytes = UNIT;
                while bytes <= 8 * MIB {
                    budget
                        .grow(&mut grant, bytes, 8 * MIB)
                        .await
                        .expect("memory in time");
                    assert!(budget.used() <= 32 * MIB);
                    tokio::task::yield_now().await;
                    bytes *= 2;
                }
                // the store takes its time for the part
                tokio::time::sleep(Duration::from_millis(10)).await;
            });
        }
        let all = async {
            while uploads
                .join_next()
                .await
                .transpose()
                .expect("no panic")
                .is_some()
            {}
        };
        tokio::time::timeout(Duration::from_secs(600), all)
            .await
            .expect("all uploads end");
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_spent_budget_is_an_error_in_time() {
        let budget = Budget::new(8 * MIB, 4 * MIB, Duration::from_secs(5));
        let mut held = [Grant::default(), Grant::default()];
        for grant in &mut held {
            budget
                .grow(grant, 4 * MIB, 4 * MIB)
                .await
                .expect("there is room for two");
        }
        assert_eq!(budget.used(), 8 * MIB);
        let refused = budget.grow(&mut Grant::default(), UNIT, 4 * MIB).await;
        assert!(matches!(refused, Err(StoreError::NoMemory)), "{refused:?}");
        let (waits, waited) = budget.waits();
        // the timer's grain is a millisecond
        assert_eq!((waits, waited.as_millis() / 10), (1, 500));
        drop(held);
        assert_eq!(budget.used(), 0);
    }
}
