//! Renames: S3 has none, so a copy inside the store and then a delete of the source.
//!
//! Invariant: what was acknowledged stays. The copy is of one version, the delete is of that version, and what somebody
//! stores under the old name meanwhile is another one. A failure before the delete leaves the source; one after the copy
//! leaves the target complete. See `rename_directory` for directories.

use aws_sdk_s3::types::{Object, StorageClass};
use futures::stream::{self, Stream, TryStreamExt};

use crate::store::client::Store;
use crate::store::conditions::{Removal, Replaces};
use crate::store::copy::COPY_ATTEMPTS;
use crate::store::directories::keep_parent_of;
use crate::store::error::StoreError;
use crate::store::head::{content_length, etag};
use crate::store::key::{KeyPrefix, ObjectKey};
use crate::store::located::Located;
use crate::store::locks::Scope;
use crate::store::original::Original;
use crate::store::rename_directory::rename_directory;
use crate::store::renamed::Renamed;

impl Store {
    /// Moves a file, replacing a file under the new name, or a whole directory, which the new name must not yet be.
    /// Nothing is moved before `ready` has come to an end.
    ///
    /// The two may be in different homes and buckets, if both are at one endpoint and reached with the same credentials.
    pub async fn rename(
        from: &Located<'_>,
        to: &Located<'_>,
        ready: impl Future<Output = Result<(), StoreError>>,
    ) -> Result<Renamed, StoreError> {
        if from.path.is_root() || to.path.is_root() {
            return Err(StoreError::BadName(crate::store::NameError::Root));
        }
        to.home.check_new(&to.path)?;
        let (source, target) = (from.key()?, to.key()?);
        let both = [(from.store, &source), (to.store, &target)];
        let names = both.iter().flat_map(|(store, key)| {
            [Scope::Tree, Scope::Directory].map(|scope| (*store, key.as_str(), scope))
        });
        let names = to.store.lock_names_of(names).await?;
        let (head, ready) = tokio::join!(from.store.head(&source), ready);
        match head {
            Ok(_) if from.has_key_of(to) => Ok(Renamed::file(0)),
            Ok(head) => {
                to.home.check_file(&to.path)?;
                to.home.check_moved(from.home, &target, head.size)?;
                ready?;
                // a file may replace a file, never hide a directory
                match to.store.directory_entry(to.home, &to.path).await {
                    Err(StoreError::NotFound) => {}
                    Ok(_) => return Err(StoreError::IsDirectory),
                    Err(error) => return Err(error),
                }
                to.store.missing_parents(to.home, &to.path).await?;
                let _leaving = keep_parent_of(from, to, &source).await?;
                let original = head.original(from.store, &source);
                let renamed = to.store.take_file(original, &target).await?;
                from.store.forget_file(&source);
                to.store.saw_stored(&target);
                Ok(renamed)
            }
            Err(StoreError::NotFound) => {
                ready?;
                rename_directory(from, to, names).await
            }
            Err(error) => Err(error),
        }
    }

    /// Moves a file here.
    async fn take_file(
        &self,
        mut source: Original,
        target: &ObjectKey,
    ) -> Result<Renamed, StoreError> {
        let replaces = if self.object_options().overwrite {
            Replaces::Any
        } else {
            Replaces::Nothing
        };
        let (from, key) = (source.store.clone(), source.key.clone());
        let mut attempts = COPY_ATTEMPTS;
        loop {
            attempts -= 1;
            let copied = self.copy(&source, target, &replaces).await;
            match copied {
                Ok(_) => break,
                // what was stored a moment ago is what is to be renamed
                Err(StoreError::Changed { .. }) if attempts > 0 => {
                    source = from.head(&key).await?.original(&from, &key);
                }
                Err(error) => return Err(error),
            }
        }
        match from.delete_version(&key, &source.etag, false).await {
            Ok(Removal::Done | Removal::Gone) => Ok(Renamed::file(0)),
            // a copy may take minutes, and a client that stored the name meanwhile has its 226
            Ok(Removal::Replaced) => Ok(Renamed::file(1)),
            Err(error) => Err(StoreError::Rename {
                outcome: "the new file is complete, but the old one could not be deleted"
                    .to_owned(),
                source: Box::new(error),
            }),
        }
    }

    /// All objects below `prefix`, page by page.
    pub(super) fn objects_below<'a>(
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
            .map_ok(|objects| stream::iter(objects.into_iter().map(Ok)))
            .try_flatten()
            // what is not shown is not moved either: it stays where its owner looks for it
            .try_filter(|object: &Object| {
                let reserved = &self.settings().reserved;
                let key = object.key().unwrap_or_default();
                std::future::ready(
                    !reserved.is_in(key.strip_prefix(prefix.as_str()).unwrap_or(key)),
                )
            })
            .try_filter_map(|object| self.original(prefix, object))
    }

    /// An object of a listing. What the listing leaves out is asked for: a copy or a delete that pins no version could be
    /// of another one. `None` if it is gone by then.
    async fn original(
        &self,
        prefix: &KeyPrefix,
        object: Object,
    ) -> Result<Option<Original>, StoreError> {
        let key = object.key().and_then(|key| prefix.below(key));
        let key = key.ok_or(StoreError::Integrity {
            detail: "the listing left its prefix".to_owned(),
        })?;
        let Ok(etag) = etag("a listing", object.e_tag()) else {
            return match self.head(&key).await {
                Ok(head) => Ok(Some(head.original(self, &key))),
                Err(StoreError::NotFound) => Ok(None),
                Err(error) => Err(error),
            };
        };
        let class = object.storage_class().map(|class| class.as_str());
        Ok(Some(Original {
            store: self.clone(),
            size: content_length("a listing", object.size())?,
            etag: etag.to_owned(),
            storage_class: class
                .filter(|class| *class != "STANDARD")
                .map(StorageClass::from),
            key,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ListVersion;
    use crate::store::{Home, VirtualPath, testing};

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
            let ready = std::future::ready(Ok(()));
            let at = |text: &str| Located {
                store: &store,
                home: &home,
                path: path(text),
            };
            let renamed = Store::rename(&at(&from), &at(&to), ready).await;
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
