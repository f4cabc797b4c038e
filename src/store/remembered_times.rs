//! The times of files that were asked for lately.

use std::hash::{BuildHasher, Hash, RandomState};
use std::time::SystemTime;

use lru::LruCache;
use parking_lot::{Mutex, MutexGuard};

/// Files whose times are remembered, of all stores of the process; some 100 bytes each.
const MAX_FILES: usize = 64 * 1024;

/// The memory of all stores of one process. Only hashes of names and versions are kept.
#[derive(Debug)]
pub(super) struct SetTimes {
    hasher: RandomState,
    files: Mutex<LruCache<u64, Remembered>>,
}

/// The time of one version of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Remembered {
    /// Of ETag and time of the store.
    pub(super) version: u64,
    /// The time that MDTM gives.
    pub(super) modified: Option<SystemTime>,
}

impl Default for SetTimes {
    fn default() -> Self {
        SetTimes {
            hasher: RandomState::new(),
            // bounded by hand: with a capacity it would take all its memory at the start
            files: Mutex::new(LruCache::unbounded()),
        }
    }
}

impl SetTimes {
    fn lock(&self) -> MutexGuard<'_, LruCache<u64, Remembered>> {
        self.files.lock()
    }

    /// A number for what distinguishes versions.
    pub(super) fn hash(&self, version: &impl Hash) -> u64 {
        self.hasher.hash_one(version)
    }

    /// Forgets a file.
    pub(super) fn forget(&self, file: u64) {
        self.lock().pop(&file);
    }

    /// The memory of this version of a file.
    pub(super) fn of(&self, file: u64, version: u64) -> Option<Remembered> {
        let mut files = self.lock();
        files
            .get(&file)
            .filter(|known| known.version == version)
            .copied()
    }

    pub(super) fn remember(&self, file: u64, known: Remembered) {
        let mut files = self.lock();
        if files.put(file, known).is_none() && files.len() > MAX_FILES {
            files.pop_lru();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_of_one_version_and_bounded() {
        let times = SetTimes::default();
        let known = |version| Remembered {
            version,
            modified: Some(SystemTime::UNIX_EPOCH),
        };
        times.remember(1, known(7));
        assert!(times.of(1, 7).is_some());
        assert!(times.of(1, 8).is_none(), "another version");
        assert!(times.of(2, 7).is_none(), "another file");
        for file in 0..=MAX_FILES as u64 {
            times.remember(file, known(9));
        }
        assert_eq!(times.lock().len(), MAX_FILES);
        assert!(times.of(MAX_FILES as u64, 9).is_some());
    }
}
