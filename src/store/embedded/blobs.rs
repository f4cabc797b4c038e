//! Object bodies: immutable files with random names, two levels deep under `blobs`.
//!
//! Invariants: a file is complete and synced before the index names it; a file that the index does
//! not name is garbage (a draft of a client that died, or a replaced body), and is deleted when
//! nobody reads it any more or else when the store starts the next time.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::ops::ControlFlow;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use tracing::warn;

use super::fault::Fault;
use super::records::BlobId;
use super::space::DiskSpace;

/// The directory of bodies, and which of them are being read.
#[derive(Debug)]
pub(super) struct Blobs {
    root: PathBuf,
    space: Arc<DiskSpace>,
    pins: Mutex<Pins>,
}

#[derive(Debug, Default)]
struct Pins {
    readers: HashMap<BlobId, usize>,
    /// Dropped by the index while being read; the last reader deletes them.
    doomed: HashSet<BlobId>,
}

impl Blobs {
    /// Opens the directory, creating it if needed, and proves that it can be written.
    pub(super) fn open(root: PathBuf, space: Arc<DiskSpace>) -> io::Result<Arc<Self>> {
        // Bodies are nobody else's business; a directory that exists keeps its mode.
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&root)?;
        let blobs = Arc::new(Self {
            root,
            space,
            pins: Mutex::default(),
        });
        // Dropping the draft removes its file again. What a full disk holds can still be read and
        // deleted, so it is no reason not to start.
        match blobs.draft() {
            Err(error) if error.kind() != io::ErrorKind::StorageFull => Err(error),
            _ => Ok(blobs),
        }
    }

    pub(super) fn space(&self) -> &DiskSpace {
        &self.space
    }

    /// Starts a new file. It is deleted again unless [`Draft::keep`] is called.
    pub(super) fn draft(self: &Arc<Self>) -> io::Result<Draft> {
        let blob = random_id()?;
        let path = self.path(blob);
        let create = || File::options().write(true).create_new(true).open(&path);
        let file = match create() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(path.parent().expect("path() joins two components"))?;
                create()?
            }
            other => other?,
        };
        Ok(Draft {
            blobs: Arc::clone(self),
            blob,
            file,
            kept: false,
        })
    }

    /// Opens a body for reading.
    pub(super) fn read(&self, blob: BlobId) -> io::Result<File> {
        File::open(self.path(blob))
    }

    /// Looks bodies up and keeps their files from being deleted while the result lives.
    ///
    /// The look-up runs under the lock that [`Blobs::discard`] takes after a commit: a body that
    /// the look-up found is pinned before a later commit can have it deleted.
    pub(super) fn pin<T>(
        self: &Arc<Self>,
        look_up: impl FnOnce() -> Result<(T, Vec<BlobId>), Fault>,
    ) -> Result<(T, Pinned), Fault> {
        let mut pins = self.pins.lock();
        let (found, blobs) = look_up()?;
        for blob in &blobs {
            *pins.readers.entry(*blob).or_default() += 1;
        }
        Ok((
            found,
            Pinned {
                store: Arc::clone(self),
                blobs,
            },
        ))
    }

    /// Deletes files that the index no longer names, at once or when their last reader is done.
    pub(super) fn discard(&self, blobs: Vec<BlobId>) {
        let unread: Vec<BlobId> = {
            let mut pins = self.pins.lock();
            let Pins { readers, doomed } = &mut *pins;
            blobs
                .into_iter()
                .filter(|blob| {
                    let read = readers.contains_key(blob);
                    if read {
                        doomed.insert(*blob);
                    }
                    !read
                })
                .collect()
        };
        self.delete(&unread);
    }

    /// Deletes every file for which `named` is false; returns how many. Only at start, when there
    /// are no drafts.
    pub(super) fn sweep(
        &self,
        named: impl Fn(BlobId) -> Result<bool, Fault>,
    ) -> Result<u64, Fault> {
        let mut swept = 0;
        self.each(|blob| {
            if !named(blob)? {
                self.delete(&[blob]);
                swept += 1;
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(swept)
    }

    /// True if there is a file with a byte in it: a start that was interrupted leaves empty ones.
    pub(super) fn has_bodies(&self) -> Result<bool, Fault> {
        let mut found = false;
        self.each(|blob| {
            let file = fs::metadata(self.path(blob)).map_err(Fault::io("list object bodies"))?;
            found = file.len() > 0;
            Ok(if found {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            })
        })?;
        Ok(found)
    }

    /// Visits the files of this store; one with another name was not written by it.
    fn each(
        &self,
        mut visit: impl FnMut(BlobId) -> Result<ControlFlow<()>, Fault>,
    ) -> Result<(), Fault> {
        let list = |path: &Path| fs::read_dir(path).map_err(Fault::io("list object bodies"));
        for directory in list(&self.root)? {
            let directory = directory.map_err(Fault::io("list object bodies"))?.path();
            if !directory.is_dir() {
                continue;
            }
            for file in list(&directory)? {
                let name = file.map_err(Fault::io("list object bodies"))?.file_name();
                if let Some(blob) = name.to_str().and_then(parse_name)
                    && visit(blob)?.is_break()
                {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn delete(&self, blobs: &[BlobId]) {
        for blob in blobs {
            if let Err(error) = fs::remove_file(self.path(*blob)) {
                // Not lost: the sweep at the next start finds it again.
                warn!(%error, blob = name(*blob), "could not delete an object body");
            }
        }
    }

    fn path(&self, blob: BlobId) -> PathBuf {
        let name = name(blob);
        self.root.join(&name[..2]).join(&name)
    }
}

fn name(blob: BlobId) -> String {
    format!("{blob:032x}")
}

fn parse_name(name: &str) -> Option<BlobId> {
    let digits = name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    digits
        .then(|| BlobId::from_str_radix(name, 16).ok())
        .flatten()
}

/// 128 random bits: no two draws are ever equal.
pub(super) fn random_id() -> io::Result<u128> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(u128::from_le_bytes(bytes))
}

/// A file being written.
#[derive(Debug)]
pub(super) struct Draft {
    blobs: Arc<Blobs>,
    blob: BlobId,
    file: File,
    kept: bool,
}

impl Draft {
    pub(super) fn blob(&self) -> BlobId {
        self.blob
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    /// Puts the bytes on the disk. The directory entry gets there with them: the file systems in
    /// use for this (ext4, XFS, btrfs) sync a new file together with its name.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// The index names the file now.
    pub(super) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.kept {
            self.blobs.delete(&[self.blob]);
        }
    }
}

/// While this lives, the files of these bodies stay.
#[derive(Debug)]
pub(super) struct Pinned {
    store: Arc<Blobs>,
    blobs: Vec<BlobId>,
}

impl Pinned {
    pub(super) fn store(&self) -> &Arc<Blobs> {
        &self.store
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let deletable: Vec<BlobId> = {
            let mut pins = self.store.pins.lock();
            let Pins { readers, doomed } = &mut *pins;
            let done = |blob: &&BlobId| match readers.get_mut(*blob) {
                Some(count) if *count > 1 => {
                    *count -= 1;
                    false
                }
                _ => {
                    readers.remove(*blob);
                    doomed.remove(*blob)
                }
            };
            self.blobs.iter().filter(done).copied().collect()
        };
        if deletable.is_empty() {
            return;
        }
        let store = Arc::clone(&self.store);
        let delete = move || store.delete(&deletable);
        // Deleting a large file takes a while, and a reader is dropped where it was polled.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(delete)),
            Err(_) => delete(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blobs(name: &str) -> (Arc<Blobs>, PathBuf) {
        let root = std::env::temp_dir().join(format!("{name}-{:x}", random_id().unwrap()));
        let space = Arc::new(DiskSpace::new(root.clone()));
        (Blobs::open(root.clone(), space).unwrap(), root)
    }

    fn written(blobs: &Arc<Blobs>) -> BlobId {
        let mut draft = blobs.draft().unwrap();
        let blob = draft.blob();
        draft.write(b"body").unwrap();
        draft.keep();
        blob
    }

    #[test]
    fn a_body_that_is_read_outlives_its_object() {
        let (blobs, root) = blobs("pin");
        let blob = written(&blobs);
        let (_, first) = blobs.pin(|| Ok(((), vec![blob]))).unwrap();
        let (_, second) = blobs.pin(|| Ok(((), vec![blob]))).unwrap();
        blobs.discard(vec![blob]);
        drop(first);
        assert!(blobs.read(blob).is_ok());
        drop(second);
        assert!(blobs.read(blob).is_err());
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_draft_that_is_not_kept_leaves_no_file() {
        let (blobs, root) = blobs("draft");
        let draft = blobs.draft().unwrap();
        let blob = draft.blob();
        drop(draft);
        assert!(blobs.read(blob).is_err());
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn the_sweep_deletes_what_the_index_does_not_name_and_nothing_foreign() {
        let (blobs, root) = blobs("sweep");
        let (kept, orphan) = (written(&blobs), written(&blobs));
        let foreign = blobs.path(kept).with_file_name("notes.txt");
        fs::write(&foreign, b"").unwrap();
        assert_eq!(blobs.sweep(|blob| Ok(blob == kept)).unwrap(), 1);
        assert!(blobs.read(kept).is_ok() && blobs.read(orphan).is_err() && foreign.exists());
        fs::remove_dir_all(root).unwrap();
    }
}
