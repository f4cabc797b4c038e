//! Counted permits: how many of a kind there are at a time, per key (a user, a network), given back on drop.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;

/// The permits that are held, counted per key. A key without permits takes no memory.
#[derive(Debug)]
pub struct Permits<K>(Mutex<HashMap<K, usize>>);

/// One permit, given back on drop.
#[derive(Debug)]
pub struct Permit<K: Eq + Hash> {
    permits: Arc<Permits<K>>,
    key: K,
}

impl<K> Default for Permits<K> {
    fn default() -> Self {
        Permits(Mutex::default())
    }
}

impl<K: Eq + Hash + Clone> Permits<K> {
    /// One more permit of `key`; none if `most` are held.
    pub fn try_acquire(self: &Arc<Self>, key: K, most: usize) -> Option<Permit<K>> {
        let mut held = self.0.lock();
        let count = held.get(&key).copied().unwrap_or(0);
        if count >= most {
            return None;
        }
        held.insert(key.clone(), count + 1);
        Some(Permit {
            permits: Arc::clone(self),
            key,
        })
    }

    /// One more permit of `key`, however many are held.
    pub fn acquire(self: &Arc<Self>, key: K) -> Permit<K> {
        *self.0.lock().entry(key.clone()).or_default() += 1;
        Permit {
            permits: Arc::clone(self),
            key,
        }
    }

    /// Permits of `key` that are held.
    pub fn held(&self, key: &K) -> usize {
        self.0.lock().get(key).copied().unwrap_or(0)
    }
}

impl<K: Eq + Hash> Drop for Permit<K> {
    fn drop(&mut self) {
        let mut held = self.permits.0.lock();
        if let Some(count) = held.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permit_is_given_back_on_drop_and_leaves_nothing_behind() {
        let permits = Arc::new(Permits::default());
        let first = permits.try_acquire("alice", 2).expect("free");
        let second = permits.try_acquire("alice", 2).expect("free");
        assert!(permits.try_acquire("alice", 2).is_none());
        let other = permits.try_acquire("bob", 2).expect("another key");
        drop(first);
        assert_eq!(permits.held(&"alice"), 1);
        let third = permits.try_acquire("alice", 2).expect("free again");
        drop((second, other, third));
        assert!(permits.0.lock().is_empty());
    }

    #[test]
    fn a_limit_of_zero_admits_none_and_is_not_remembered() {
        let permits = Arc::new(Permits::default());
        assert!(permits.try_acquire(1, 0).is_none());
        assert!(permits.0.lock().is_empty());
    }
}
