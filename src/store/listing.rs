//! Directories, page by page: no request per entry, and never more than two pages in memory.

use std::time::SystemTime;

use aws_sdk_s3::types::{CommonPrefix, Object};
use tokio::task::JoinHandle;
use tracing::Instrument;

use crate::config::ListVersion;
use crate::store::client::Store;
use crate::store::error::StoreError;
use crate::store::key::KeyPrefix;
use crate::store::metadata::{Entry, EntryKind, system_time};

/// The entries of one directory, read as they are asked for. While one page is used, the next is on its way.
pub struct Listing {
    store: Store,
    prefix: KeyPrefix,
    next: Next,
    /// A key was seen on one of the pages.
    found: bool,
}

enum Next {
    Page(JoinHandle<Result<Keys, StoreError>>),
    End,
}

impl Store {
    /// Starts to list the directory at `prefix`.
    pub fn list(&self, prefix: KeyPrefix) -> Listing {
        let mut listing = Listing {
            store: self.clone(),
            prefix,
            next: Next::End,
            found: false,
        };
        listing.ask(None);
        listing
    }
}

impl Listing {
    /// The next page, or `None` after the last; pages may be empty.
    ///
    /// The first page of a directory that doesn't exist is [`StoreError::NotFound`]; the whole bucket always exists.
    pub async fn next_page(&mut self) -> Result<Option<Vec<Entry>>, StoreError> {
        let Next::Page(running) = &mut self.next else {
            return Ok(None);
        };
        let answer = running.await;
        self.next = Next::End;
        let mut keys = answer.map_err(|error| StoreError::Integrity {
            detail: format!("listing task: {error}"),
        })??;
        // a store may end with an empty page
        self.found |= !keys.objects.is_empty() || !keys.directories.is_empty();
        // before anything is made of this page: the store can look for the next one meanwhile
        match keys.next.take() {
            Some(token) => self.ask(Some(token)),
            None if !self.found && !self.prefix.as_str().is_empty() => {
                return Err(StoreError::NotFound);
            }
            None => {}
        }
        Ok(Some(self.entries(&keys)))
    }

    /// Asks for a page.
    fn ask(&mut self, continuation: Option<String>) {
        let (store, prefix) = (self.store.clone(), self.prefix.clone());
        let page = async move {
            let keys = store.keys(prefix.as_str(), Some("/"), None, continuation);
            keys.await
        };
        self.next = Next::Page(tokio::spawn(page.in_current_span()));
    }

    /// What a client sees of a page.
    fn entries(&self, keys: &Keys) -> Vec<Entry> {
        let prefix = self.prefix.as_str();
        let mut entries = Vec::with_capacity(keys.objects.len() + keys.directories.len());
        for object in &keys.objects {
            let Some(name) = object.key().and_then(|key| key.strip_prefix(prefix)) else {
                continue;
            };
            let size = object.size().and_then(|bytes| u64::try_from(bytes).ok());
            let modified = object.last_modified().and_then(system_time);
            entries.extend(entry(
                name,
                EntryKind::File,
                size.unwrap_or_default(),
                modified,
            ));
        }
        for directory in &keys.directories {
            let name = directory.prefix().and_then(|key| key.strip_prefix(prefix));
            let Some(name) = name else { continue };
            let name = name.trim_end_matches('/');
            entries.extend(entry(name, EntryKind::Directory, 0, None));
        }
        // objects and prefixes come apart; a client sees one sorted list per page
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        entries
    }
}

impl Drop for Listing {
    fn drop(&mut self) {
        if let Next::Page(running) = &self.next {
            running.abort();
        }
    }
}

/// One answer of the store to a listing.
pub(super) struct Keys {
    pub objects: Vec<Object>,
    /// What the delimiter summed up.
    pub directories: Vec<CommonPrefix>,
    /// Where the next page goes on; `None` after the last.
    pub next: Option<String>,
}

impl Store {
    /// One page of the keys below `prefix`, from `continuation` of the page before it on.
    ///
    /// All listings come through here, so that `storage.list_version` holds for all.
    pub(super) async fn keys(
        &self,
        prefix: &str,
        delimiter: Option<&str>,
        max_keys: Option<i32>,
        continuation: Option<String>,
    ) -> Result<Keys, StoreError> {
        let max_keys = max_keys.or(self.settings().page_keys);
        let (delimiter, client) = (delimiter.map(str::to_owned), self.client());
        let (keys, truncated) = match self.settings().list_version {
            ListVersion::V2 => {
                let request = client.list_objects_v2().bucket(self.bucket());
                let request = request.prefix(prefix).set_delimiter(delimiter);
                let request = request.set_max_keys(max_keys);
                let answer = request.set_continuation_token(continuation).send().await;
                let answer =
                    answer.map_err(|error| StoreError::from_sdk("ListObjectsV2", error))?;
                let keys = Keys {
                    objects: answer.contents.unwrap_or_default(),
                    directories: answer.common_prefixes.unwrap_or_default(),
                    next: answer.next_continuation_token,
                };
                (keys, answer.is_truncated)
            }
            ListVersion::V1 => {
                let request = client.list_objects().bucket(self.bucket());
                let request = request.prefix(prefix).set_delimiter(delimiter);
                let request = request.set_max_keys(max_keys);
                let answer = request.set_marker(continuation.clone()).send().await;
                let answer = answer.map_err(|error| StoreError::from_sdk("ListObjects", error))?;
                let mut keys = Keys {
                    objects: answer.contents.unwrap_or_default(),
                    directories: answer.common_prefixes.unwrap_or_default(),
                    next: answer.next_marker,
                };
                keys.next = keys.next.take().or_else(|| keys.last());
                // a store that gives the same page again and again must not keep us for ever
                keys.next = keys.next.filter(|next| Some(next) != continuation.as_ref());
                (keys, answer.is_truncated)
            }
        };
        match truncated.unwrap_or_default() {
            false => Ok(Keys { next: None, ..keys }),
            true if keys.next.is_some() => Ok(keys),
            true => Err(StoreError::Integrity {
                detail: "the store cut a listing and didn't tell where it goes on".to_owned(),
            }),
        }
    }
}

impl Keys {
    /// The next marker of a V1 page that names none: without a delimiter a store needn't.
    fn last(&self) -> Option<String> {
        let object = self.objects.last().and_then(|object| object.key.as_deref());
        let directory = self
            .directories
            .last()
            .and_then(|last| last.prefix.as_deref());
        object.max(directory).map(str::to_owned)
    }
}

/// `None` for names that no FTP path can reach: the marker itself, an empty component, `.`, `..`, control characters.
/// Other programs may put such keys into the bucket; a line break among them would forge lines of the listing.
fn entry(name: &str, kind: EntryKind, size: u64, modified: Option<SystemTime>) -> Option<Entry> {
    let reachable = !matches!(name, "" | "." | "..") && !name.chars().any(char::is_control);
    reachable.then(|| Entry {
        name: name.to_owned(),
        kind,
        size,
        modified,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_no_path_reaches_are_left_out() {
        for name in ["", ".", "..", "a\r\nb", "a\u{1}"] {
            assert_eq!(entry(name, EntryKind::File, 1, None), None, "{name:?}");
        }
        assert!(entry("...", EntryKind::File, 1, None).is_some());
    }
}
