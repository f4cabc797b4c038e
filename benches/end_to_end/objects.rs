//! The sink's memory of its objects: names, sizes, tags, and no byte of content.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::ops::Bound;

use crc_fast::{CrcAlgorithm, checksum_combine};

/// An object without its body.
#[derive(Debug, Clone)]
pub struct Object {
    pub size: u64,
    pub etag: String,
    /// Checksum headers that its client sent, to be echoed.
    pub checksums: Vec<(String, String)>,
}

/// One part of a multipart upload.
#[derive(Debug, Clone)]
pub struct Part {
    pub size: u64,
    pub crc64nvme: Option<u64>,
}

/// All objects and unfinished uploads of the one bucket there is.
#[derive(Debug, Default)]
pub struct Objects {
    by_key: BTreeMap<String, Object>,
    uploads: HashMap<String, BTreeMap<u32, Part>>,
    serial: u64,
}

impl Object {
    /// An object of that size, with a tag that says so and is no MD5.
    pub fn of_size(size: u64) -> Self {
        Object {
            size,
            etag: format!("\"sink-{size:x}\""),
            checksums: Vec::new(),
        }
    }
}

impl Objects {
    pub fn get(&self, key: &str) -> Option<&Object> {
        self.by_key.get(key)
    }

    pub fn put(&mut self, key: String, object: Object) {
        self.by_key.insert(key, object);
    }

    pub fn remove(&mut self, key: &str) {
        self.by_key.remove(key);
    }

    pub fn begin_upload(&mut self) -> String {
        self.serial += 1;
        let id = format!("upload-{}", self.serial);
        self.uploads.insert(id.clone(), BTreeMap::new());
        id
    }

    /// False if there is no such upload.
    pub fn put_part(&mut self, upload_id: &str, number: u32, part: Part) -> bool {
        self.uploads
            .get_mut(upload_id)
            .map(|parts| parts.insert(number, part))
            .is_some()
    }

    pub fn abort(&mut self, upload_id: &str) -> bool {
        self.uploads.remove(upload_id).is_some()
    }

    /// The object that the parts make, with the checksum of the whole if every part came with its own.
    pub fn complete(&mut self, upload_id: &str) -> Option<(Object, Option<u64>)> {
        let parts = self.uploads.remove(upload_id)?;
        let object = Object::of_size(parts.values().map(|part| part.size).sum());
        let whole = parts.values().try_fold(0, |whole, part| {
            Some(checksum_combine(
                CrcAlgorithm::Crc64Nvme,
                whole,
                part.crc64nvme?,
                part.size,
            ))
        });
        Some((object, whole.filter(|_| !parts.is_empty())))
    }

    /// The body of a ListObjects answer: keys after `after`, at most `max` of keys and common prefixes.
    pub fn list(&self, query: &Query<'_>) -> String {
        let mut contents = String::new();
        let mut prefixes = String::new();
        let (mut count, mut last, mut truncated) = (0, String::new(), false);
        let mut from = match query.after < query.prefix {
            true => Bound::Included(query.prefix.to_owned()),
            false => Bound::Excluded(query.after.to_owned()),
        };
        while let Some((key, object)) = self
            .by_key
            .range((from.clone(), Bound::Unbounded))
            .next()
            .filter(|(key, _)| key.starts_with(query.prefix))
        {
            if count == query.max {
                truncated = true;
                break;
            }
            let rest = key.strip_prefix(query.prefix).unwrap_or_default();
            let directory = match query.delimiter {
                "" => None,
                delimiter => rest.find(delimiter).map(|at| at + delimiter.len()),
            };
            match directory {
                Some(end) => {
                    let common = format!("{}{}", query.prefix, &rest[..end]);
                    // writing to a String can't fail
                    let _ = write!(
                        prefixes,
                        "<CommonPrefixes><Prefix>{}</Prefix></CommonPrefixes>",
                        escape(&common)
                    );
                    // the largest character that there is stands behind every key below the prefix
                    last = common + "\u{10ffff}";
                }
                None => {
                    let _ = write!(
                        contents,
                        "<Contents><Key>{}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>{}</ETag>\
                         <Size>{}</Size><StorageClass>STANDARD</StorageClass></Contents>",
                        escape(key),
                        escape(&object.etag),
                        object.size
                    );
                    last.clone_from(key);
                }
            }
            count += 1;
            from = Bound::Excluded(last.clone());
        }
        let mut answer = String::new();
        let _ = write!(
            answer,
            "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>{}</Name><Prefix>{}</Prefix>\
             <Delimiter>{}</Delimiter><MaxKeys>{}</MaxKeys><IsTruncated>{truncated}</IsTruncated>",
            query.bucket,
            escape(query.prefix),
            escape(query.delimiter),
            query.max,
        );
        if query.v2 {
            let _ = write!(answer, "<KeyCount>{count}</KeyCount>");
        }
        if truncated {
            let tag = if query.v2 {
                "NextContinuationToken"
            } else {
                "NextMarker"
            };
            let _ = write!(answer, "<{tag}>{}</{tag}>", escape(&last));
        }
        answer + &contents + &prefixes + "</ListBucketResult>"
    }
}

/// The parameters of a ListObjects request; names that aren't given are empty.
#[derive(Debug)]
pub struct Query<'a> {
    pub bucket: &'a str,
    pub prefix: &'a str,
    pub delimiter: &'a str,
    /// The continuation token, or the marker of a V1 listing: the last key seen.
    pub after: &'a str,
    pub max: usize,
    pub v2: bool,
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
