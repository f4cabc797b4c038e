//! Directories, page by page: no request per entry, and never more than two pages in memory.

use std::time::SystemTime;

use tokio::task::JoinHandle;

use crate::store::client::Store;
use crate::store::error::StoreError;
use crate::store::key::KeyPrefix;
use crate::store::metadata::{Entry, EntryKind, system_time};

/// The entries of one directory, read as they are asked for. While one page is used, the next is on its way.
pub struct Listing {
    store: Store,
    prefix: KeyPrefix,
    next: Next,
}

enum Next {
    Page(JoinHandle<Result<Page, StoreError>>),
    End,
}

struct Page {
    entries: Vec<Entry>,
    /// Keys were there at all, be it only the directory's own marker.
    found: bool,
    continuation: Option<String>,
}

impl Store {
    /// Starts to list the directory at `prefix`.
    pub fn list(&self, prefix: KeyPrefix) -> Listing {
        let next = Next::Page(tokio::spawn(page(self.clone(), prefix.clone(), None)));
        Listing {
            store: self.clone(),
            prefix,
            next,
        }
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
        let page_read = running.await;
        self.next = Next::End;
        let page_read = page_read.map_err(|error| StoreError::Integrity {
            detail: format!("listing task: {error}"),
        })??;
        match page_read.continuation {
            Some(token) => {
                let next = page(self.store.clone(), self.prefix.clone(), Some(token));
                self.next = Next::Page(tokio::spawn(next));
            }
            None if !page_read.found
                && page_read.entries.is_empty()
                && !self.prefix.as_str().is_empty() =>
            {
                return Err(StoreError::NotFound);
            }
            None => {}
        }
        Ok(Some(page_read.entries))
    }
}

impl Drop for Listing {
    fn drop(&mut self) {
        if let Next::Page(running) = &self.next {
            running.abort();
        }
    }
}

async fn page(
    store: Store,
    prefix: KeyPrefix,
    continuation: Option<String>,
) -> Result<Page, StoreError> {
    let request = store
        .client()
        .list_objects_v2()
        .bucket(store.bucket())
        .prefix(prefix.as_str())
        .delimiter("/");
    let answer = request.set_continuation_token(continuation).send().await;
    let answer = answer.map_err(|error| StoreError::from_sdk("ListObjectsV2", error))?;

    let mut entries = Vec::new();
    let mut found = false;
    let truncated = answer.is_truncated.unwrap_or_default();
    for object in answer.contents.unwrap_or_default() {
        found = true;
        let Some(name) = object
            .key
            .as_deref()
            .and_then(|key| key.strip_prefix(prefix.as_str()))
        else {
            continue;
        };
        let size = object
            .size
            .and_then(|bytes| u64::try_from(bytes).ok())
            .unwrap_or_default();
        let modified = object.last_modified.as_ref().and_then(system_time);
        entries.extend(entry(name, EntryKind::File, size, modified));
    }
    for directory in answer.common_prefixes.unwrap_or_default() {
        found = true;
        let Some(name) = directory
            .prefix
            .as_deref()
            .and_then(|key| key.strip_prefix(prefix.as_str()))
        else {
            continue;
        };
        entries.extend(entry(
            name.trim_end_matches('/'),
            EntryKind::Directory,
            0,
            None,
        ));
    }
    // objects and prefixes come apart; a client sees one sorted list per page
    entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(Page {
        entries,
        found,
        continuation: answer.next_continuation_token.filter(|_| truncated),
    })
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
