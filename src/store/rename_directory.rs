//! Renames of directories: copies of all that is in them, and then deletes of what was copied.
//!
//! Invariant: no source is deleted before every copy is made and verified. A failure before that leaves the source complete
//! and takes the copies back; a failure after it leaves the target complete. No file is replaced: where somebody stores a
//! file in the new directory meanwhile, that file stays, and so does the one in the old directory that it would have been.
//!
//! A directory may hold any number of keys, so they are never all in memory. What is known of them are two sets of keyed
//! 64-bit hashes: of each source, key and ETag, that was copied, and of each copy, key and ETag, that was made. To delete,
//! the keys are listed again and only those are deleted that are in the set, so a file that was stored or replaced
//! meanwhile, on either side, is nobody's copy and stays.
//!
//! A rename that broke off can be sent again and goes on: what is in the new directory is its own if it can be proved to be
//! a copy of what is in the old one, see [`Move::was_begun`]. Nothing is kept in memory for that, so another replica may
//! do it.
//!
//! One limit: a store whose listings lag may not list a fresh copy that is to be taken back. Then a copy stays behind,
//! never a gap.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use futures::stream::{Stream, StreamExt, TryStreamExt};
use parking_lot::Mutex;
use tracing::warn;

use crate::chain::Chain;
use crate::store::client::Store;
use crate::store::conditions::{Removal, Replaces};
use crate::store::copy::COPY_ATTEMPTS;
use crate::store::directories::keep_parent_of;
use crate::store::error::StoreError;
use crate::store::key::{Home, KeyPrefix, ObjectKey};
use crate::store::located::Located;
use crate::store::locks::{NameGuard, Scope};
use crate::store::metadata::EntryKind;
use crate::store::original::Original;
use crate::store::renamed::Renamed;

/// Copies, or deletes, under way at the same time for one rename.
const IN_PARALLEL: usize = 16;

/// Moves a directory; `names` has both of its names.
pub(super) async fn rename_directory(
    from: &Located<'_>,
    to: &Located<'_>,
    mut names: NameGuard,
) -> Result<Renamed, StoreError> {
    from.store.directory_entry(from.home, &from.path).await?;
    if from.has_key_of(to) {
        return Ok(Renamed { left: 0, moved: 0 });
    }
    let moving = Move {
        from: Directory::at(from)?,
        to: Directory::at(to)?,
    };
    if moving.from.contains(&moving.to) {
        return Err(StoreError::IntoItself);
    }
    // what is in the new directory is in the old one, too: nothing there can be a copy that an earlier attempt has left
    if moving.to.contains(&moving.from) {
        return Err(StoreError::AlreadyExists);
    }
    match to.store.entry(to.home, &to.path).await {
        Err(StoreError::NotFound) => {}
        Ok(entry) => {
            let goes_on = entry.kind == EntryKind::Directory && moving.was_begun().await?;
            if !goes_on {
                return Err(StoreError::AlreadyExists);
            }
        }
        Err(error) => return Err(error),
    }
    moving.check_files().await?;
    to.store.missing_parents(to.home, &to.path).await?;
    let _leaving = match moving.from.prefix.marker() {
        Some(marker) => keep_parent_of(from, to, &marker).await?,
        None => None,
    };
    // the files are moved one by one, and may be used meanwhile; the directories are not
    names.release(Scope::Tree);
    moving.run().await
}

/// A directory on its way.
struct Move<'a> {
    from: Directory<'a>,
    to: Directory<'a>,
}

/// A directory of a store.
struct Directory<'a> {
    store: &'a Store,
    home: &'a Home,
    prefix: KeyPrefix,
}

impl<'a> Directory<'a> {
    fn at(located: &Located<'a>) -> Result<Self, StoreError> {
        Ok(Directory {
            store: located.store,
            home: located.home,
            prefix: located.home.directory(&located.path)?,
        })
    }

    fn contains(&self, other: &Directory<'_>) -> bool {
        let is_below = self.prefix.below(other.prefix.as_str()).is_some();
        is_below && self.store.has_bucket_of(other.store)
    }

    async fn lock(&self, key: &ObjectKey) -> Result<NameGuard, StoreError> {
        self.store.lock_names([(key.as_str(), Scope::Inner)]).await
    }
}

/// The copies so far, and the first error.
struct Progress {
    hasher: RandomState,
    sources: HashSet<u64>,
    copies: HashSet<u64>,
    /// Files whose new names somebody else has taken.
    taken: u64,
    failure: Option<StoreError>,
}

/// The outcome of one file.
enum Copied {
    /// There is a copy now.
    Made {
        source: Original,
        copy: ObjectKey,
        etag: String,
    },
    /// There was one, of an earlier attempt.
    Found { source: Original },
    /// The new name is another file's.
    Taken,
    /// Somebody has deleted it.
    Gone,
}

/// The result of the deletes.
#[derive(Default)]
struct Deletes {
    /// Of those that were meant: gone.
    done: usize,
    /// Others' files, which stay.
    others: u64,
    failed: usize,
    failure: Option<StoreError>,
}

impl Progress {
    fn new() -> Self {
        Progress {
            hasher: RandomState::new(),
            sources: HashSet::new(),
            copies: HashSet::new(),
            taken: 0,
            failure: None,
        }
    }

    fn hash(&self, key: &ObjectKey, etag: &str) -> u64 {
        // listings and answers to copies differ in the quotes, see SeaweedFS
        self.hasher.hash_one((key, etag.trim_matches('"')))
    }

    fn note(&mut self, copied: Copied) {
        match copied {
            Copied::Made { source, copy, etag } => {
                let (source, copy) = (
                    self.hash(&source.key, &source.etag),
                    self.hash(&copy, &etag),
                );
                self.sources.insert(source);
                self.copies.insert(copy);
            }
            Copied::Found { source } => {
                let source = self.hash(&source.key, &source.etag);
                self.sources.insert(source);
            }
            Copied::Taken => self.taken += 1,
            Copied::Gone => {}
        }
    }
}

impl Move<'_> {
    /// Refuses a directory with a file that the new place doesn't take, before anything is copied.
    async fn check_files(&self) -> Result<(), StoreError> {
        if self.to.home.file_rules() == self.from.home.file_rules() {
            return Ok(());
        }
        let files = self.from.store.objects_below(&self.from.prefix);
        files
            .try_for_each(|file| std::future::ready(self.check_file(&file)))
            .await
    }

    fn check_file(&self, source: &Original) -> Result<(), StoreError> {
        let Directory { home, .. } = &self.to;
        home.check_moved(self.from.home, &source.key, source.size)
    }

    /// True if the new directory is what an earlier attempt has left: no file in it but copies of those in the old one, at
    /// least one; or a copy of each file in the old one, some of which were deleted already.
    async fn was_begun(&self) -> Result<bool, StoreError> {
        fn files<'a>(
            directory: &'a Directory<'_>,
        ) -> impl Stream<Item = Result<Original, StoreError>> + 'a {
            let objects = directory.store.objects_below(&directory.prefix);
            objects.try_filter(|object| std::future::ready(!object.is_marker()))
        }
        let mut old = std::pin::pin!(files(&self.from));
        let mut new = std::pin::pin!(files(&self.to));
        let (mut source, mut copy) = (old.try_next().await?, new.try_next().await?);
        let (mut only_old, mut only_new, mut copies) = (false, false, 0_u64);
        loop {
            let order = match (&source, &copy) {
                (None, None) => return Ok(copies > 0),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(source), Some(copy)) => {
                    let target = self.target(source)?;
                    let order = target.as_str().cmp(copy.key.as_str());
                    if order == Ordering::Equal {
                        if self.to.store.find_copy(source, &target).await?.is_none() {
                            return Ok(false);
                        }
                        copies += 1;
                    }
                    order
                }
            };
            only_old |= order == Ordering::Less;
            only_new |= order == Ordering::Greater;
            if only_old && only_new {
                return Ok(false);
            }
            if order != Ordering::Greater {
                source = old.try_next().await?;
            }
            if order != Ordering::Less {
                copy = new.try_next().await?;
            }
        }
    }

    async fn run(&self) -> Result<Renamed, StoreError> {
        let mut progress = self.copy_all().await;
        if let Some(error) = progress.failure.take() {
            let outcome = self.remove_copies(&progress).await;
            return Err(failed(outcome, error));
        }
        let mut deletes = self.delete(&self.from, &progress.sources, &progress).await;
        let unseen = progress.sources.len().saturating_sub(deletes.done);
        if unseen > 0 && deletes.failure.is_none() {
            // a listing that lags, or somebody deleted them: only another look can tell
            deletes = self.delete(&self.from, &progress.sources, &progress).await;
        }
        if let Some(error) = deletes.failure {
            let left = deletes.failed;
            return Err(failed(
                format!(
                    "the new directory is complete, but of the old one {left} files are left; the same rename again deletes them"
                ),
                error,
            ));
        }
        match progress.taken {
            0 => Ok(Renamed {
                left: deletes.others,
                moved: progress.sources.len() as u64,
            }),
            taken => Err(failed(
                format!(
                    "others stored files in the new directory meanwhile, which stay: {taken} files of the same names \
                     are left in the old directory, all others were moved"
                ),
                StoreError::AlreadyExists,
            )),
        }
    }

    /// Removes the copies that were made; returns the text for the client.
    async fn remove_copies(&self, progress: &Progress) -> String {
        let made = progress.copies.len();
        let deletes = self.delete(&self.to, &progress.copies, progress).await;
        if let Some(error) = deletes.failure {
            let prefix = self.to.prefix.as_str();
            warn!(prefix, error = %Chain(&error), "copies of a rename that failed could not be removed");
        }
        match made.saturating_sub(deletes.done) {
            0 => format!("the old directory is complete, the {made} copies made were removed"),
            left => format!(
                "the old directory is complete, but {left} of the {made} copies made are left; the same rename again goes on"
            ),
        }
    }

    /// Copies until all is done or the first error. What is under way then comes to its end, so that it is known what
    /// was made.
    async fn copy_all(&self) -> Progress {
        let progress = Mutex::new(Progress::new());
        let lock = || progress.lock();
        self.from
            .store
            .objects_below(&self.from.prefix)
            .take_while(|_| std::future::ready(lock().failure.is_none()))
            .for_each_concurrent(IN_PARALLEL, |original| async {
                let copied = match original {
                    Ok(original) => self.copy(original).await,
                    Err(error) => Err(error),
                };
                match copied {
                    Ok(copied) => lock().note(copied),
                    Err(error) => drop(lock().failure.get_or_insert(error)),
                }
            })
            .await;
        progress.into_inner()
    }

    /// Copies one file, unless its new name is taken.
    async fn copy(&self, mut source: Original) -> Result<Copied, StoreError> {
        let target = self.target(&source)?;
        let _name = self.to.lock(&target).await?;
        let mut attempts = COPY_ATTEMPTS;
        loop {
            attempts -= 1;
            self.check_file(&source)?;
            let copied = self.to.store.copy(&source, &target, &Replaces::Nothing);
            match copied.await {
                Ok(etag) => {
                    self.to.store.saw_copied(&target);
                    return Ok(Copied::Made {
                        source,
                        copy: target,
                        etag,
                    });
                }
                Err(StoreError::AlreadyExists) => {
                    let found = self.to.store.find_copy(&source, &target).await?;
                    self.to.store.saw_copied(&target);
                    return Ok(match found {
                        Some(_) => Copied::Found { source },
                        None => Copied::Taken,
                    });
                }
                Err(StoreError::NotFound) => return Ok(Copied::Gone),
                // what was stored a moment ago is what is to be moved
                Err(StoreError::Changed { .. }) if attempts > 0 => {
                    source = match self.from.store.head(&source.key).await {
                        Ok(head) => head.original(self.from.store, &source.key),
                        Err(StoreError::NotFound) => return Ok(Copied::Gone),
                        Err(error) => return Err(error),
                    };
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Deletes what is in `directory` and in `known`, as far as it can.
    async fn delete(
        &self,
        directory: &Directory<'_>,
        known: &HashSet<u64>,
        progress: &Progress,
    ) -> Deletes {
        let Directory { store, prefix, .. } = directory;
        let deleted = store.objects_below(prefix).map(|object| async {
            let object = object?;
            if !known.contains(&progress.hash(&object.key, &object.etag)) {
                return Ok(Removal::Replaced);
            }
            let _name = directory.lock(&object.key).await?;
            let deleting = store.delete_version(&object.key, &object.etag, false);
            let removal = deleting.await?;
            if removal != Removal::Replaced {
                store.forget_moved(prefix, &object.key);
            }
            Ok(removal)
        });
        let mut deleted = std::pin::pin!(deleted.buffer_unordered(IN_PARALLEL));
        let mut deletes = Deletes::default();
        while let Some(outcome) = deleted.next().await {
            match outcome {
                Ok(Removal::Done | Removal::Gone) => deletes.done += 1,
                Ok(Removal::Replaced) => deletes.others += 1,
                Err(error) => {
                    deletes.failed += 1;
                    deletes.failure.get_or_insert(error);
                }
            }
        }
        deletes
    }

    fn target(&self, source: &Original) -> Result<ObjectKey, StoreError> {
        let target = self.from.prefix.moved(&source.key, &self.to.prefix);
        target.ok_or(StoreError::NotFound)
    }
}

fn failed(outcome: String, error: StoreError) -> StoreError {
    StoreError::Rename {
        outcome,
        source: Box::new(error),
    }
}
