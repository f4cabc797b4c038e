//! Memory for what can do without: what downloads read ahead.
//!
//! Invariant: the bytes of all living [`Share`]s never exceed the pool. Nobody waits for them, so nobody can wait for ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that are shared by all downloads of the process.
#[derive(Debug)]
pub struct Pool {
    total: AtomicU64,
    used: AtomicU64,
    /// The most that was taken since the last look.
    peak: AtomicU64,
}

/// Leave to hold so many bytes, given back on drop.
#[derive(Debug)]
pub struct Share {
    pool: Arc<Pool>,
    bytes: u64,
}

impl Pool {
    /// `total` bytes at most.
    pub fn new(total: u64) -> Arc<Self> {
        Arc::new(Pool {
            total: AtomicU64::new(total),
            used: AtomicU64::new(0),
            peak: AtomicU64::new(0),
        })
    }

    /// The most bytes that can be taken.
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Makes it `total` bytes. What is held beyond stays until it comes back.
    pub fn set_total(&self, total: u64) {
        self.total.store(total, Ordering::Relaxed);
    }

    /// Bytes taken at this moment.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// The most bytes that were taken at a time since the last call.
    pub fn take_peak(&self) -> u64 {
        let used = self.used();
        self.peak.swap(used, Ordering::Relaxed).max(used)
    }

    /// Leave to hold `bytes`, if that much is free at this moment.
    pub fn try_take(self: &Arc<Self>, bytes: u64) -> Option<Share> {
        self.take_up_to(bytes, self.total())
    }

    /// The same for what only makes a transfer faster: it leaves a quarter of the pool to those who begin.
    pub fn try_take_ahead(self: &Arc<Self>, bytes: u64) -> Option<Share> {
        self.take_up_to(bytes, self.total() - self.total() / 4)
    }

    fn take_up_to(self: &Arc<Self>, bytes: u64, most: u64) -> Option<Share> {
        let taken = self
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(bytes).filter(|used| *used <= most)
            });
        taken.ok().map(|before| {
            self.peak.fetch_max(before + bytes, Ordering::Relaxed);
            Share {
                pool: Arc::clone(self),
                bytes,
            }
        })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.pool.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_taken_than_there_is() {
        let pool = Pool::new(10);
        let first = pool.try_take(6).expect("free");
        assert!(pool.try_take(5).is_none());
        let second = pool.try_take(4).expect("free");
        assert_eq!((pool.used(), pool.total()), (10, 10));
        drop(first);
        assert!(pool.try_take_ahead(5).is_none(), "a quarter is left");
        assert!(pool.try_take(7).is_none() && pool.try_take(u64::MAX).is_none());
        drop(second);
        assert_eq!(pool.used(), 0);
        assert_eq!((pool.take_peak(), pool.take_peak()), (10, 0));
    }
}
