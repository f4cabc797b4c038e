//! Renames: S3 has none, so a copy inside the store and then a delete of the source.
//!
//! Invariant: no source is deleted before every copy is made and verified. A failure before that leaves the source complete
//! and takes the copies back; a failure after it leaves the target complete.
//!
//! A directory may hold any number of keys, so they are never all in memory. What is known of them are two sets of keyed
//! 64-bit hashes: of each source, key and ETag, that was copied, and of each copy, key and ETag, that was made. To delete,
//! the keys are listed again and only those are deleted that are in the set, so a file that was stored or replaced
//! meanwhile, on either side, is nobody's copy and stays.
//!
//! Two limits: an answer to a copy that was lost leaves a copy that nobody knows of, and a store whose listings lag may not
//! list a fresh copy that is to be taken back. Both leave copies behind, never a gap.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};

use aws_sdk_s3::types::StorageClass;
use futures::stream::{self, Stream, StreamExt, TryStreamExt};
use tracing::warn;

use crate::store::client::Store;
use crate::store::copy::Original;
use crate::store::error::{Chain, StoreError};
use crate::store::key::{Home, KeyPrefix, ObjectKey};
use crate::store::path::VirtualPath;

/// Copies, or deletes, under way at the same time for one rename.
const IN_PARALLEL: usize = 16;

impl Store {
    /// Moves a file, replacing a file under the new name, or a whole directory, which the new name must not yet be.
    pub async fn rename(
        &self,
        home: &Home,
        from: &VirtualPath,
        to: &VirtualPath,
    ) -> Result<(), StoreError> {
        if from.is_root() || to.is_root() {
            return Err(StoreError::BadName(crate::store::NameError::Root));
        }
        let source = home.key(from)?;
        match self.head(&source).await {
            Ok(_) if from == to => Ok(()),
            Ok(head) => {
                // a file may replace a file, never hide a directory
                match self.directory_entry(home, to).await {
                    Err(StoreError::NotFound) => {}
                    Ok(_) => return Err(StoreError::IsDirectory),
                    Err(error) => return Err(error),
                }
                let target = home.key(to)?;
                self.may_create(&target).await?;
                self.copy(&head.original(&source), &target).await?;
                // a copy may take minutes, and a client that stored the name meanwhile has its 226
                if self.head(&source).await?.etag == head.etag {
                    self.delete_key(&source).await
                } else {
                    Err(StoreError::Changed {
                        detail: "the file was replaced while it was renamed, both names stay",
                    })
                }
            }
            Err(StoreError::NotFound) => {
                self.directory_entry(home, from).await?;
                if from == to {
                    return Ok(());
                }
                if from.contains(to) {
                    return Err(StoreError::IntoItself);
                }
                match self.entry(home, to).await {
                    Err(StoreError::NotFound) => {}
                    Ok(_) => return Err(StoreError::AlreadyExists),
                    Err(error) => return Err(error),
                }
                let moved = Move {
                    store: self,
                    from: home.directory(from)?,
                    to: home.directory(to)?,
                };
                moved.run().await
            }
            Err(error) => Err(error),
        }
    }

    /// All objects below `prefix`, page by page.
    fn objects_below<'a>(
        &'a self,
        prefix: &'a KeyPrefix,
    ) -> impl Stream<Item = Result<Original, StoreError>> + 'a {
        // the outer option: is there another page; the inner one: where it begins
        let pages = stream::try_unfold(Some(None), move |continuation: Option<_>| async move {
            let Some(continuation) = continuation else {
                return Ok::<_, StoreError>(None);
            };
            let page = self.keys(prefix.as_str(), None, None, continuation).await?;
            Ok(Some((page.objects, page.next.map(Some))))
        });
        pages
            .map_ok(move |objects| {
                let originals = objects.into_iter().map(move |object| {
                    let key = object.key().and_then(|key| prefix.below(key));
                    let size = object.size().and_then(|bytes| u64::try_from(bytes).ok());
                    let class = object.storage_class().map(|class| class.as_str());
                    Ok(Original {
                        key: key.ok_or(StoreError::Integrity {
                            detail: "the listing left its prefix".to_owned(),
                        })?,
                        size: size.unwrap_or_default(),
                        storage_class: class
                            .filter(|class| *class != "STANDARD")
                            .map(StorageClass::from),
                        etag: object.e_tag.unwrap_or_default(),
                    })
                });
                stream::iter(originals)
            })
            .try_flatten()
    }
}

/// A directory on its way.
struct Move<'a> {
    store: &'a Store,
    from: KeyPrefix,
    to: KeyPrefix,
}

/// What was copied so far, and the first error.
struct Progress {
    hasher: RandomState,
    sources: HashSet<u64>,
    copies: HashSet<u64>,
    failure: Option<StoreError>,
}

impl Progress {
    fn hash(&self, key: &ObjectKey, etag: &str) -> u64 {
        self.hasher.hash_one((key, etag))
    }
}

impl Move<'_> {
    async fn run(&self) -> Result<(), StoreError> {
        let mut progress = self.copy_all().await;
        if let Some(error) = progress.failure.take() {
            let outcome = self.take_back(&progress).await;
            return Err(failed(outcome, error));
        }
        let (deleted, failure) = self.delete(&self.from, &progress.sources, &progress).await;
        match progress.sources.len().saturating_sub(deleted) {
            0 => Ok(()),
            left => Err(failed(
                format!("the new directory is complete, but of the old one {left} files are left"),
                failure.unwrap_or(StoreError::NotEmpty),
            )),
        }
    }

    /// Removes the copies that were made; returns what the client is told.
    async fn take_back(&self, progress: &Progress) -> String {
        let made = progress.copies.len();
        let (removed, failure) = self.delete(&self.to, &progress.copies, progress).await;
        if let Some(error) = failure {
            let prefix = self.to.as_str();
            warn!(prefix, error = %Chain(&error), "copies of a rename that failed could not be removed");
        }
        match made.saturating_sub(removed) {
            0 => format!("the old directory is complete, the {made} copies made were removed"),
            left => format!(
                "the old directory is complete, but {left} of the {made} copies made are left"
            ),
        }
    }

    /// Copies until all is done or the first error. What is under way then comes to its end, so that it is known what
    /// was made.
    async fn copy_all(&self) -> Progress {
        let progress = Mutex::new(Progress {
            hasher: RandomState::new(),
            sources: HashSet::new(),
            copies: HashSet::new(),
            failure: None,
        });
        // replaced whole or inserted into: a panic leaves nothing half-way
        let lock = || progress.lock().unwrap_or_else(PoisonError::into_inner);
        self.store
            .objects_below(&self.from)
            .take_while(|_| std::future::ready(lock().failure.is_none()))
            .for_each_concurrent(IN_PARALLEL, |original| async {
                let copied = async {
                    let original = original?;
                    let target = self.from.moved(&original.key, &self.to);
                    let target = target.ok_or(StoreError::NotFound)?;
                    let etag = self.store.copy(&original, &target).await?;
                    Ok((original, target, etag))
                };
                match copied.await {
                    Ok((original, target, etag)) => {
                        let mut progress = lock();
                        let source = progress.hash(&original.key, &original.etag);
                        let copy = progress.hash(&target, &etag);
                        progress.sources.insert(source);
                        progress.copies.insert(copy);
                    }
                    Err(error) => drop(lock().failure.get_or_insert(error)),
                }
            })
            .await;
        progress
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Deletes what is below `prefix` and in `known`, as far as it can; returns how many keys, and the first error.
    async fn delete(
        &self,
        prefix: &KeyPrefix,
        known: &HashSet<u64>,
        progress: &Progress,
    ) -> (usize, Option<StoreError>) {
        let deleted = self.store.objects_below(prefix).map(|original| async {
            let original = original?;
            if !known.contains(&progress.hash(&original.key, &original.etag)) {
                return Ok(0);
            }
            self.store.delete_key(&original.key).await.map(|()| 1)
        });
        let mut deleted = std::pin::pin!(deleted.buffer_unordered(IN_PARALLEL));
        let (mut count, mut failure) = (0, None);
        while let Some(outcome) = deleted.next().await {
            match outcome {
                Ok(one) => count += one,
                Err(error) => drop(failure.get_or_insert(error)),
            }
        }
        (count, failure)
    }
}

fn failed(outcome: String, error: StoreError) -> StoreError {
    StoreError::Rename {
        outcome,
        source: Box::new(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ListVersion;
    use crate::store::testing;

    #[tokio::test]
    async fn a_directory_of_many_pages_is_listed_and_moved_with_either_list_operation() {
        let data = tempfile::tempdir().expect("a temporary directory");
        let (embedded, store) = testing::store(&data).await;
        let home = Home::new("", &VirtualPath::root(), 1024);
        let path = |text: &str| VirtualPath::resolve(&VirtualPath::root(), text).expect("good");
        let mut from = "d".to_owned();
        for key in (0..23).map(|at| format!("d/{:02}/key-{at}", at % 11)) {
            let put = store.client().put_object().bucket("cosgate").key(key);
            put.body(Vec::new().into()).send().await.expect("stored");
        }
        for version in [ListVersion::V1, ListVersion::V2] {
            let store = store.with(|settings| {
                settings.list_version = version;
                settings.page_keys = Some(5);
            });
            let to = format!("moved-{version}");
            let renamed = store.rename(&home, &path(&from), &path(&to)).await;
            renamed.expect("renamed");
            let old = store.directory_entry(&home, &path(&from)).await;
            assert!(matches!(old, Err(StoreError::NotFound)), "{old:?}");
            let prefix = home.directory(&path(&to)).expect("a prefix");
            let keys: Vec<Original> = store
                .objects_below(&prefix)
                .try_collect()
                .await
                .expect("a listing");
            assert_eq!(keys.len(), 23, "{version}");
            // and with a delimiter: three pages of directories
            let (mut listing, mut names) = (store.list(prefix), Vec::new());
            while let Some(page) = listing.next_page().await.expect("a page") {
                names.extend(page.into_iter().map(|entry| entry.name));
            }
            let expected: Vec<String> = (0..11).map(|at| format!("{at:02}")).collect();
            assert_eq!(names, expected, "{version}");
            from = to;
        }
        embedded.stop().await;
    }
}
