//! One page of a listing: prefixes, delimiters, markers and truncation.
//!
//! The rows come from an ordered index. Everything below a common prefix is skipped with one seek,
//! so a page costs its own length, however many keys lie below its prefixes.

use std::ops::Bound;

use super::fault::Fault;

/// A client's request, valid for objects and for uploads.
#[derive(Debug)]
pub(super) struct Query<'q> {
    pub(super) prefix: &'q str,
    /// Never empty: S3 treats an empty delimiter as none.
    pub(super) delimiter: Option<&'q str>,
    /// Only keys after this one, and no common prefix that is equal to it.
    pub(super) after: Option<&'q str>,
    /// Most keys and common prefixes together.
    pub(super) limit: usize,
}

/// One page, in the order of S3: by the bytes of the UTF-8 keys.
#[derive(Debug)]
pub(super) struct Page<V> {
    pub(super) items: Vec<(String, V)>,
    pub(super) prefixes: Vec<String>,
    pub(super) truncated: bool,
    /// The last key or common prefix: where the next page continues.
    pub(super) last: Option<String>,
}

impl<'q> Query<'q> {
    /// Reads one page. `scan` gives the rows from a bound on, in order.
    pub(super) fn page<V, I>(
        &self,
        scan: impl Fn(Bound<&[u8]>) -> Result<I, Fault>,
    ) -> Result<Page<V>, Fault>
    where
        I: Iterator<Item = Result<(Vec<u8>, V), Fault>>,
    {
        let mut page = Page {
            items: Vec::new(),
            prefixes: Vec::new(),
            truncated: false,
            last: None,
        };
        // S3 answers max-keys=0 with an empty page that is not truncated.
        if self.limit == 0 {
            return Ok(page);
        }
        let mut rows = self.start(&scan)?;
        while let Some(row) = rows.next() {
            let (key, value) = row?;
            // Rows start at the prefix, so the first one without it is behind all that have it.
            if !key.starts_with(self.prefix.as_bytes()) {
                break;
            }
            if page.items.len() + page.prefixes.len() == self.limit {
                page.truncated = true;
                break;
            }
            let key = String::from_utf8(key).map_err(|_| Fault::Corrupt("key"))?;
            if let Some(group) = self.group(&key) {
                rows = scan(Bound::Included(&successor(group)))?;
                page.prefixes.push(group.to_owned());
                page.last = Some(group.to_owned());
            } else {
                page.last = Some(key.clone());
                page.items.push((key, value));
            }
        }
        Ok(page)
    }

    fn start<I>(&self, scan: impl Fn(Bound<&[u8]>) -> Result<I, Fault>) -> Result<I, Fault> {
        match self.after {
            Some(after) if after >= self.prefix => {
                if self.group(after) == Some(after) {
                    scan(Bound::Included(&successor(after)))
                } else {
                    scan(Bound::Excluded(after.as_bytes()))
                }
            }
            _ => scan(Bound::Included(self.prefix.as_bytes())),
        }
    }

    /// The common prefix that `key` belongs to: up to the first delimiter after the prefix.
    fn group<'k>(&self, key: &'k str) -> Option<&'k str> {
        let delimiter = self.delimiter?;
        let rest = key.strip_prefix(self.prefix)?;
        let end = rest.find(delimiter)? + delimiter.len();
        Some(&key[..self.prefix.len() + end])
    }
}

/// The smallest byte string behind everything that starts with `prefix`.
fn successor(prefix: &str) -> Vec<u8> {
    let mut bytes = prefix.as_bytes().to_vec();
    // A byte of UTF-8 is at most 0xF4, so adding one never overflows.
    if let Some(last) = bytes.last_mut() {
        *last += 1;
    }
    bytes
}

/// Encodes a key for `encoding-type=url` as AWS does: form encoding that keeps `/` and `*`, so a
/// space becomes `+`.
pub(super) fn url_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'/' | b'*' => {
                out.push(char::from(byte));
            }
            b' ' => out.push('+'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::BTreeMap;

    use super::*;

    struct Keys {
        map: BTreeMap<Vec<u8>, ()>,
        rows_read: Cell<usize>,
    }

    impl Keys {
        fn new(keys: &[&str]) -> Self {
            let map = keys
                .iter()
                .map(|key| (key.as_bytes().to_vec(), ()))
                .collect();
            Self {
                map,
                rows_read: Cell::new(0),
            }
        }

        fn page(&self, query: &Query<'_>) -> Page<()> {
            let scan = |from: Bound<&[u8]>| {
                let rows = self.map.range::<[u8], _>((from, Bound::Unbounded));
                Ok(rows.map(|(key, ())| {
                    self.rows_read.set(self.rows_read.get() + 1);
                    Ok((key.clone(), ()))
                }))
            };
            query.page(scan).unwrap()
        }

        /// Follows the pages to the end and returns keys and prefixes in the order of arrival.
        fn all(&self, prefix: &str, delimiter: Option<&str>, limit: usize) -> Vec<String> {
            let mut seen = Vec::new();
            let mut after: Option<String> = None;
            loop {
                let page = self.page(&Query {
                    prefix,
                    delimiter,
                    after: after.as_deref(),
                    limit,
                });
                let mut names: Vec<_> = page.items.into_iter().map(|(key, ())| key).collect();
                names.extend(page.prefixes);
                names.sort();
                assert!(names.len() <= limit);
                assert!(!page.truncated || names.len() == limit);
                seen.extend(names);
                if !page.truncated {
                    return seen;
                }
                after = page.last;
            }
        }
    }

    /// The definition, without an index: group every key, drop repetitions.
    fn model(keys: &[&str], prefix: &str, delimiter: Option<&str>) -> Vec<String> {
        let query = Query {
            prefix,
            delimiter,
            after: None,
            limit: 1,
        };
        let mut names: Vec<String> = keys
            .iter()
            .filter(|key| key.starts_with(prefix))
            .map(|key| query.group(key).unwrap_or(key).to_owned())
            .collect();
        names.sort();
        names.dedup();
        names
    }

    const KEYS: [&str; 14] = [
        "a",
        "a/",
        "a/b",
        "a/b/c",
        "a/é",
        "a0",
        "b",
        "b/c//d",
        "b//",
        "c/\u{10FFFF}/x",
        "c0",
        "é/x",
        "é",
        "../x",
    ];

    #[test]
    fn every_page_size_gives_the_same_listing() {
        let keys = Keys::new(&KEYS);
        for prefix in ["", "a", "a/", "b/", "c/", "é", "nothing"] {
            for delimiter in [None, Some("/"), Some("//"), Some("b")] {
                for limit in 1..=KEYS.len() + 1 {
                    let listed = keys.all(prefix, delimiter, limit);
                    assert_eq!(
                        listed,
                        model(&KEYS, prefix, delimiter),
                        "{prefix} {delimiter:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn keys_below_a_common_prefix_are_not_read() {
        let names: Vec<String> = (0..10_000).map(|n| format!("dir/{n:05}")).collect();
        let mut all: Vec<&str> = names.iter().map(String::as_str).collect();
        all.push("zebra");
        let keys = Keys::new(&all);
        assert_eq!(keys.all("", Some("/"), 1000), ["dir/", "zebra"]);
        assert!(
            keys.rows_read.get() < 5,
            "read {} rows",
            keys.rows_read.get()
        );
    }

    #[test]
    fn a_page_that_ends_with_the_last_key_is_not_truncated() {
        let keys = Keys::new(&["a", "b"]);
        let query = |limit| Query {
            prefix: "",
            delimiter: None,
            after: None,
            limit,
        };
        assert!(!keys.page(&query(2)).truncated);
        assert!(keys.page(&query(1)).truncated);
        assert!(!keys.page(&query(0)).truncated);
    }

    #[test]
    fn a_marker_before_behind_or_inside_the_prefix_works() {
        let keys = Keys::new(&["a/1", "a/2", "b/1", "c"]);
        let list = |prefix, after| {
            let page = keys.page(&Query {
                prefix,
                delimiter: None,
                after: Some(after),
                limit: 1000,
            });
            page.items
                .into_iter()
                .map(|(key, ())| key)
                .collect::<Vec<_>>()
        };
        assert_eq!(list("b/", "a/1"), ["b/1"]);
        assert_eq!(list("a/", "a/1"), ["a/2"]);
        assert_eq!(list("a/", "b"), Vec::<String>::new());
        assert_eq!(list("", "a/2"), ["b/1", "c"]);
    }

    #[test]
    fn url_encoding_is_that_of_aws() {
        assert_eq!(url_encode("a b+c/~é*%.txt"), "a+b%2Bc/%7E%C3%A9*%25.txt");
    }
}
