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

use futures::stream::{StreamExt, TryStreamExt};
use parking_lot::Mutex;
use tracing::warn;

use crate::chain::Chain;
use crate::store::client::Store;
use crate::store::conditions::{Removal, Replaces};
use crate::store::copy::COPY_ATTEMPTS;
use crate::store::error::StoreError;
use crate::store::head::Original;
use crate::store::key::{KeyPrefix, ObjectKey};
use crate::store::locks::{NameGuard, Scope};
use crate::store::renamed::Renamed;

/// Copies, or deletes, under way at the same time for one rename.
const IN_PARALLEL: usize = 16;

/// A directory on its way.
pub(super) struct Move<'a> {
    store: &'a Store,
    from: KeyPrefix,
    to: KeyPrefix,
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

impl<'a> Move<'a> {
    pub(super) fn new(store: &'a Store, from: KeyPrefix, to: KeyPrefix) -> Self {
        Move { store, from, to }
    }

    /// True if the new directory is what an earlier attempt has left: no file in it but copies of those in the old one, at
    /// least one; or a copy of each file in the old one, some of which were deleted already.
    pub(super) async fn was_begun(&self) -> Result<bool, StoreError> {
        let files = |prefix| {
            let objects = self.store.objects_below(prefix);
            objects.try_filter(|object| std::future::ready(!object.is_marker()))
        };
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
                        if self.store.find_copy(source, &target).await?.is_none() {
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

    pub(super) async fn run(&self) -> Result<Renamed, StoreError> {
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
            let prefix = self.to.as_str();
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
        self.store
            .objects_below(&self.from)
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
        let _name = self.lock(&target).await?;
        let mut attempts = COPY_ATTEMPTS;
        loop {
            attempts -= 1;
            let copied = self.store.copy(&source, &target, &Replaces::Nothing);
            match copied.await {
                Ok(etag) => {
                    self.store.saw_copied(&target);
                    return Ok(Copied::Made {
                        source,
                        copy: target,
                        etag,
                    });
                }
                Err(StoreError::AlreadyExists) => {
                    let found = self.store.find_copy(&source, &target).await?;
                    self.store.saw_copied(&target);
                    return Ok(match found {
                        Some(_) => Copied::Found { source },
                        None => Copied::Taken,
                    });
                }
                Err(StoreError::NotFound) => return Ok(Copied::Gone),
                // what was stored a moment ago is what is to be moved
                Err(StoreError::Changed { .. }) if attempts > 0 => {
                    source = match self.store.head(&source.key).await {
                        Ok(head) => head.original(&source.key),
                        Err(StoreError::NotFound) => return Ok(Copied::Gone),
                        Err(error) => return Err(error),
                    };
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Deletes what is below `prefix` and in `known`, as far as it can.
    async fn delete(
        &self,
        prefix: &KeyPrefix,
        known: &HashSet<u64>,
        progress: &Progress,
    ) -> Deletes {
        let deleted = self.store.objects_below(prefix).map(|object| async {
            let object = object?;
            if !known.contains(&progress.hash(&object.key, &object.etag)) {
                return Ok(Removal::Replaced);
            }
            let _name = self.lock(&object.key).await?;
            let deleting = self.store.delete_version(&object.key, &object.etag, false);
            let removal = deleting.await?;
            if removal != Removal::Replaced {
                self.store.forget_moved(prefix, &object.key);
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

    async fn lock(&self, key: &ObjectKey) -> Result<NameGuard, StoreError> {
        self.store.lock_names([(key.as_str(), Scope::Inner)]).await
    }

    fn target(&self, source: &Original) -> Result<ObjectKey, StoreError> {
        let target = self.from.moved(&source.key, &self.to);
        target.ok_or(StoreError::NotFound)
    }
}

fn failed(outcome: String, error: StoreError) -> StoreError {
    StoreError::Rename {
        outcome,
        source: Box::new(error),
    }
}
