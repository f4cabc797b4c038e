//! The entries that this process has seen of directories and files, so that a command needs no request to find out.
//!
//! Stores have no directories: one exists as long as there is a marker `dir/` or a key below it. So whoever takes the last
//! entry away has to leave a marker, and a file must not get the name of a directory. Both can be asked of the store, one
//! request each; what sessions have seen lately answers most of these questions for nothing.
//!
//! Only hashes are kept, of a bounded number of names, and what is remembered decides nothing that would harm if it were
//! wrong: before a command is refused the store is asked, and a remembered entry is good for [`GOOD_FOR`] only.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lru::LruCache;
use parking_lot::{Mutex, MutexGuard};

/// Directories, and files, that are remembered; some 100 bytes each.
const MAX_NAMES: usize = 16 * 1024;

/// The time for which a marker or another entry of a directory is taken to be there still: another gateway or another program may
/// remove it. What it saves is a request per deleted file, so a minute is enough for clients that delete many in a row.
const GOOD_FOR: Duration = Duration::from_secs(60);

/// The memory of all stores of one process.
#[derive(Debug)]
pub(super) struct Known {
    hasher: RandomState,
    names: Mutex<Names>,
}

#[derive(Debug)]
struct Names {
    directories: LruCache<u64, Directory>,
    files: LruCache<u64, ()>,
    /// Entries that commands are about to take away, by directory; as many as there are such commands.
    leaving: HashMap<u64, Vec<u64>>,
}

/// Observations of a directory.
#[derive(Debug, Clone, Copy, Default)]
struct Directory {
    marker: Option<Instant>,
    /// An entry that stays, and when it was seen.
    entry: Option<(u64, Instant)>,
}

impl Default for Known {
    fn default() -> Self {
        Known {
            hasher: RandomState::new(),
            names: Mutex::new(Names {
                directories: LruCache::unbounded(),
                files: LruCache::unbounded(),
                leaving: HashMap::new(),
            }),
        }
    }
}

impl Known {
    /// A number that stands for a name.
    pub(super) fn hash(&self, name: &impl Hash) -> u64 {
        self.hasher.hash_one(name)
    }

    /// A file was seen. It may be gone again by now, so that it doesn't stand for its directory.
    pub(super) fn saw_file(&self, file: u64) {
        self.lock().file(file);
    }

    /// A file was stored a moment ago: all directories `above` it, the outermost first, are there.
    pub(super) fn saw_stored(&self, file: u64, above: &[u64]) {
        let mut names = self.lock();
        names.file(file);
        if let Some(parent) = names.directories(above) {
            parent.entry = Some((file, Instant::now()));
        }
    }

    /// These directories are there, the outermost first; the last one has a marker, or none that was seen.
    pub(super) fn saw_directories(&self, ids: &[u64], has_marker: bool) {
        let mut names = self.lock();
        if let Some(last) = names.directories(ids).filter(|_| has_marker) {
            last.marker = Some(Instant::now());
        }
    }

    /// A file is gone.
    pub(super) fn forget_file(&self, id: u64) {
        self.lock().files.pop(&id);
    }

    /// A directory is gone.
    pub(super) fn forget_directory(&self, id: u64) {
        self.lock().directories.pop(&id);
    }

    /// A file is gone, and so are `directories`.
    pub(super) fn forget_moved(&self, file: u64, directories: &[u64]) {
        let mut names = self.lock();
        names.files.pop(&file);
        for directory in directories {
            names.directories.pop(directory);
        }
    }

    pub(super) fn knows_file(&self, id: u64) -> bool {
        self.lock().files.contains(&id)
    }

    pub(super) fn knows_directory(&self, id: u64) -> bool {
        self.lock().directories.contains(&id)
    }

    /// Notes that `entry` is about to leave `directory`.
    pub(super) fn leaving(self: &Arc<Self>, directory: u64, entry: u64) -> Leaving {
        let mut names = self.lock();
        names.leaving.entry(directory).or_default().push(entry);
        let seen = names.directory(directory);
        seen.entry = seen.entry.filter(|(other, _)| *other != entry);
        drop(names);
        Leaving {
            known: Arc::clone(self),
            directory,
            entry,
        }
    }

    /// True if the directory was seen lately with its marker, or with an entry that stays.
    pub(super) fn will_stay(&self, leaving: &Leaving) -> bool {
        let mut names = self.lock();
        let directory = *names.directory(leaving.directory);
        let marker = directory.marker.map(|seen| (None, seen));
        let entry = directory.entry.map(|(entry, seen)| (Some(entry), seen));
        let going = names.leaving.get(&leaving.directory);
        [marker, entry].into_iter().flatten().any(|(entry, seen)| {
            let goes = entry.is_some_and(|entry| going.is_some_and(|all| all.contains(&entry)));
            seen.elapsed() < GOOD_FOR && !goes
        })
    }

    /// Picks an entry that stays from those that the directory has now, the first one, and remembers it. False if all go.
    pub(super) fn one_stays(
        &self,
        leaving: &Leaving,
        mut entries: impl Iterator<Item = u64>,
    ) -> bool {
        let mut names = self.lock();
        let going = names.leaving.get(&leaving.directory).cloned();
        let going = going.unwrap_or_default();
        let Some(entry) = entries.find(|id| !going.contains(id)) else {
            return false;
        };
        names.directory(leaving.directory).entry = Some((entry, Instant::now()));
        true
    }

    fn lock(&self) -> MutexGuard<'_, Names> {
        self.names.lock()
    }
}

impl Names {
    fn file(&mut self, id: u64) {
        if self.files.put(id, ()).is_none() && self.files.len() > MAX_NAMES {
            self.files.pop_lru();
        }
    }

    /// Notes these directories; returns the last one.
    fn directories(&mut self, ids: &[u64]) -> Option<&mut Directory> {
        let (last, above) = ids.split_last()?;
        for id in above {
            self.directory(*id);
        }
        Some(self.directory(*last))
    }

    fn directory(&mut self, id: u64) -> &mut Directory {
        if !self.directories.contains(&id) && self.directories.len() >= MAX_NAMES {
            self.directories.pop_lru();
        }
        self.directories.get_or_insert_mut(id, Directory::default)
    }
}

/// An entry that a command is about to take out of its directory; dropped when it is gone, or stays after all.
#[derive(Debug)]
pub(super) struct Leaving {
    known: Arc<Known>,
    directory: u64,
    entry: u64,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        let mut names = self.known.lock();
        if let Some(entries) = names.leaving.get_mut(&self.directory) {
            if let Some(at) = entries.iter().position(|entry| *entry == self.entry) {
                entries.swap_remove(at);
            }
            if entries.is_empty() {
                names.leaving.remove(&self.directory);
            }
        }
    }
}
