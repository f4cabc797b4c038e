//! Directories, page by page: never more than two pages in memory, and no request per entry, unless times that were set are wanted.

use std::time::SystemTime;

use aws_sdk_s3::types::{CommonPrefix, EncodingType, Object};
use tokio::task::JoinHandle;
use tracing::Instrument;

use crate::config::ListVersion;
use crate::escape::escape;
use crate::store::client::Store;
use crate::store::error::StoreError;
use crate::store::head::{content_length, system_time};
use crate::store::key::KeyPrefix;
use crate::store::metadata::{Entry, EntryKind};
use crate::store::url_encoding::Decoder;

/// The entries of one directory, read as they are asked for. While one page is used, the next is on its way.
pub struct Listing {
    store: Store,
    prefix: KeyPrefix,
    next: Next,
    /// A key was seen on one of the pages.
    found: bool,
    left_out: u64,
    /// Times that were set replace the store's own.
    set_times: bool,
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
            left_out: 0,
            set_times: false,
        };
        listing.ask(None);
        listing
    }
}

impl Listing {
    /// The same with the times that clients set, at the price of a request per file that isn't remembered (`set_times.rs`).
    #[must_use]
    pub fn with_set_times(mut self) -> Self {
        self.set_times = true;
        self
    }

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
        if self.set_times {
            let (store, objects) = (&self.store, &mut keys.objects);
            store.put_set_times(&self.prefix, objects).await?;
        }
        self.entries(&keys).map(Some)
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

    /// Entries so far that no client can see or reach: keys with an empty component, `.` or `..`, and what a store sends that lies deeper.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// A page as a client sees it.
    fn entries(&mut self, keys: &Keys) -> Result<Vec<Entry>, StoreError> {
        let prefix = self.prefix.as_str();
        let reserved = self.store.settings().reserved.clone();
        let mut entries = Vec::with_capacity(keys.objects.len() + keys.directories.len());
        let mut has_marker = false;
        for object in &keys.objects {
            let Some(name) = object.key().and_then(|key| key.strip_prefix(prefix)) else {
                continue;
            };
            let size = content_length("a listing", object.size())?;
            // the directory's own marker; one with content is a file that no path leads to
            if name.is_empty() && size == 0 {
                has_marker = true;
                continue;
            }
            if reserved.is(name) {
                continue;
            }
            let modified = object.last_modified().and_then(system_time);
            if let Some(key) = object.key().and_then(|key| self.prefix.below(key)) {
                self.store.saw_file(&key);
            }
            match entry(name, EntryKind::File, size, modified) {
                Some(entry) => entries.push(entry),
                None => self.left_out += 1,
            }
        }
        for directory in &keys.directories {
            let name = directory.prefix().and_then(|key| key.strip_prefix(prefix));
            let Some(name) = name else { continue };
            let name = name.strip_suffix('/').unwrap_or(name);
            if reserved.is(name) {
                continue;
            }
            if let Some(below) = directory
                .prefix()
                .and_then(|key| self.prefix.directory_below(key))
            {
                self.store.saw_subdirectory(&below, false);
            }
            match entry(name, EntryKind::Directory, 0, None) {
                Some(entry) => entries.push(entry),
                None => self.left_out += 1,
            }
        }
        if !(keys.objects.is_empty() && keys.directories.is_empty()) {
            self.store.saw_directory(&self.prefix, has_marker);
        }
        // objects and prefixes come apart; a client sees one sorted list per page
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
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
    /// The common prefixes.
    pub directories: Vec<CommonPrefix>,
    /// Where the next page goes on; `None` after the last.
    pub next: Option<String>,
}

impl Store {
    /// One page of the keys below `prefix`, from `continuation` of the page before it on.
    ///
    /// All listings come through here, so that `storage.list_version` holds for all. Keys are asked for in URL encoding,
    /// and are decoded here.
    pub(super) async fn keys(
        &self,
        prefix: &str,
        delimiter: Option<&str>,
        max_keys: Option<i32>,
        continuation: Option<String>,
    ) -> Result<Keys, StoreError> {
        let max_keys = max_keys.or(self.settings().page_keys);
        let (delimiter, client) = (delimiter.map(str::to_owned), self.client());
        // a list without elements is absent in XML: that is no page that lacks something, and the count says so, too
        let (mut keys, truncated) = match self.settings().list_version {
            ListVersion::V2 => {
                let request = client.list_objects_v2().bucket(self.bucket());
                let request = request.prefix(prefix).set_delimiter(delimiter);
                let request = request.encoding_type(EncodingType::Url);
                let request = request.set_max_keys(max_keys);
                let request = request.set_continuation_token(continuation.clone());
                let answer = request.send().await;
                let answer =
                    answer.map_err(|error| StoreError::from_sdk("ListObjectsV2", error))?;
                let mut keys = Keys {
                    objects: answer.contents.unwrap_or_default(),
                    directories: answer.common_prefixes.unwrap_or_default(),
                    next: None,
                };
                keys.are_all(answer.key_count)?;
                keys.decode(answer.encoding_type.as_ref());
                // a token is a token, whatever the encoding of keys
                keys.next = answer.next_continuation_token;
                (keys, answer.is_truncated)
            }
            ListVersion::V1 => {
                let request = client.list_objects().bucket(self.bucket());
                let request = request.prefix(prefix).set_delimiter(delimiter);
                let request = request.encoding_type(EncodingType::Url);
                let request = request.set_max_keys(max_keys);
                let answer = request.set_marker(continuation.clone()).send().await;
                let answer = answer.map_err(|error| StoreError::from_sdk("ListObjects", error))?;
                let mut keys = Keys {
                    objects: answer.contents.unwrap_or_default(),
                    directories: answer.common_prefixes.unwrap_or_default(),
                    next: answer.next_marker,
                };
                keys.decode(answer.encoding_type.as_ref());
                // without a delimiter a store needn't name the next marker
                if answer.is_truncated == Some(true) {
                    keys.next = keys.next.take().or_else(|| keys.last());
                }
                (keys, answer.is_truncated)
            }
        };
        keys.next = keys.next.filter(|next| !next.is_empty());
        match truncated {
            Some(false) => keys.next = None,
            Some(true) if keys.next.is_none() => {
                return Err(incomplete("cut a listing and didn't tell where it goes on"));
            }
            // what names a next page has one
            Some(true) | None => {}
        }
        // a store that gives the same page again and again must not keep us for ever
        if keys.next.is_some() && keys.next == continuation {
            return Err(incomplete("names the same next page of a listing again"));
        }
        Ok(keys)
    }

    /// The first `count` objects below `prefix`, fewer only if there are no more: a page may be empty and name a next one.
    pub(super) async fn first_objects(
        &self,
        prefix: &str,
        count: i32,
    ) -> Result<Vec<Object>, StoreError> {
        let wanted = usize::try_from(count).unwrap_or_default();
        let (mut objects, mut continuation) = (Vec::new(), None);
        for _ in 0..MAX_PAGES {
            let page = self.keys(prefix, None, Some(count), continuation).await?;
            objects.extend(page.objects);
            if objects.len() >= wanted || page.next.is_none() {
                objects.truncate(wanted);
                return Ok(objects);
            }
            continuation = page.next;
        }
        Err(incomplete(
            "gives one empty page of a listing after another",
        ))
    }
}

/// Pages that a question for a few keys may take. Only stores that skip deleted versions in their pages need more than one.
const MAX_PAGES: usize = 1000;

/// A listing with names missing would look whole to a client.
fn incomplete(what: &str) -> StoreError {
    StoreError::Unavailable {
        operation: "ListObjects",
        source: format!("the store {what}").into(),
    }
}

impl Keys {
    /// Decodes what came in URL encoding. A key that isn't UTF-8, which no store should have, stays, altered: nothing is
    /// found under its name, but nobody takes its directory for empty.
    fn decode(&mut self, announced: Option<&EncodingType>) {
        let objects = self.objects.iter().filter_map(|object| object.key());
        let directories = self.directories.iter().filter_map(CommonPrefix::prefix);
        let decoder = Decoder::of(announced, objects.chain(directories));
        decoder.decode(&mut self.next);
        for object in &mut self.objects {
            decoder.decode(&mut object.key);
        }
        for directory in &mut self.directories {
            decoder.decode(&mut directory.prefix);
        }
    }

    /// Compares with the number that the store gives. One that counts less, such as objects only, proves nothing.
    fn are_all(&self, told: Option<i32>) -> Result<(), StoreError> {
        let told = told.and_then(|count| usize::try_from(count).ok());
        let came = self.objects.len() + self.directories.len();
        match told {
            Some(told) if told > came => Err(incomplete(&format!(
                "says that a page has {told} names and sends {came}; if it always does, \
                 storage.list_version: v1 does without its count"
            ))),
            _ => Ok(()),
        }
    }

    /// The next marker of a V1 page that names none.
    fn last(&self) -> Option<String> {
        let object = self.objects.last().and_then(|object| object.key.as_deref());
        let directory = self
            .directories
            .last()
            .and_then(|last| last.prefix.as_deref());
        object.max(directory).map(str::to_owned)
    }
}

/// False for names that no FTP path reaches: an empty component, `.`, `..`. Other programs may put such keys into the
/// bucket. They are not made reachable by an escape, since servers and proxies on the way may resolve such a path: the
/// request would be about another object, and with `..` about one of another user.
///
/// Nor may a name have a slash in it, which a store sends that ignores the delimiter: clients that mirror a directory make files of the
/// names that they are sent.
pub(super) fn is_reachable(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains('/')
}

/// None for names that are not reachable.
fn entry(name: &str, kind: EntryKind, size: u64, modified: Option<SystemTime>) -> Option<Entry> {
    is_reachable(name).then(|| Entry {
        name: escape(name).into_owned(),
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
        for name in ["", ".", "..", "a/b", "../../x", "/"] {
            assert_eq!(entry(name, EntryKind::File, 1, None), None, "{name:?}");
        }
        assert!(entry("...", EntryKind::File, 1, None).is_some());
    }
}
