//! The content of the index: the records of objects, uploads and parts, and the layout of a body.
//!
//! Invariant: a layout names only blobs that the index counts as referenced, and a blob is never
//! changed after its first reference, so a layout read once stays valid while its blobs are pinned.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

use super::checksum::{Algorithm, Checksum, Kind};
use super::fault::Fault;
use super::tag_set::Tags;

/// Random name of one immutable file.
pub(super) type BlobId = u128;

/// Where an object lives: `bucket`, a zero byte, `key`.
///
/// No bucket name holds a zero byte, so the order of these bytes is S3's order of keys: by bucket,
/// then by the bytes of the UTF-8 key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ObjectPath(Vec<u8>);

impl ObjectPath {
    pub(super) fn new(bucket: &str, key: &str) -> Self {
        Self([bucket.as_bytes(), b"\0", key.as_bytes()].concat())
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Every path of `bucket`.
    pub(super) fn all_of(bucket: &str) -> Range<Vec<u8>> {
        [bucket.as_bytes(), b"\0"].concat()..[bucket.as_bytes(), b"\x01"].concat()
    }
}

/// The headers that a client sets on an object and gets back with it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Attributes {
    pub(super) cache_control: Option<String>,
    pub(super) content_disposition: Option<String>,
    pub(super) content_encoding: Option<String>,
    pub(super) content_language: Option<String>,
    pub(super) content_type: Option<String>,
    pub(super) expires: Option<String>,
    pub(super) storage_class: Option<String>,
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) tags: Tags,
}

/// The answer of HEAD and LIST about an object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct ObjectRecord {
    pub(super) length: u64,
    /// Without quotes: the MD5 in hexadecimal, for a multipart object with `-N`.
    pub(super) etag: String,
    /// Seconds since 1970: HTTP dates have no fractions, and S3 keeps none.
    pub(super) modified: u64,
    pub(super) attributes: Attributes,
    #[serde(deserialize_with = "of_known_algorithm")]
    pub(super) checksum: Option<Checksum>,
    /// The upload that made this object, so that completing it twice succeeds twice.
    pub(super) upload_id: Option<String>,
}

/// An upload that was created and neither completed nor aborted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct UploadRecord {
    pub(super) initiated: u64,
    pub(super) attributes: Attributes,
    #[serde(deserialize_with = "of_known_algorithm")]
    pub(super) checksum: Option<(Algorithm, Kind)>,
}

/// One part of an upload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct PartRecord {
    pub(super) length: u64,
    pub(super) etag: String,
    pub(super) modified: u64,
    #[serde(deserialize_with = "of_known_algorithm")]
    pub(super) checksum: Option<Checksum>,
}

/// Earlier releases kept checksums of five algorithms; one that is not known any more counts as none.
fn of_known_algorithm<'d, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'d>,
    T: DeserializeOwned,
{
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).ok())
}

pub(super) fn encode<T: Serialize>(record: &T) -> Vec<u8> {
    serde_json::to_vec(record).expect("records have string keys and no fallible Serialize")
}

pub(super) fn decode<'b, T: Deserialize<'b>>(bytes: &'b [u8]) -> Result<T, Fault> {
    serde_json::from_slice(bytes).map_err(|_| Fault::Corrupt("record"))
}

/// A run of bytes of a body.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Segment {
    /// Kept in the index itself.
    Inline(Bytes),
    /// A range of a file.
    File {
        blob: BlobId,
        offset: u64,
        length: u64,
    },
}

impl Segment {
    pub(super) fn length(&self) -> u64 {
        match self {
            Self::Inline(bytes) => bytes.len() as u64,
            Self::File { length, .. } => *length,
        }
    }

    pub(super) fn blob(&self) -> Option<BlobId> {
        match self {
            Self::Inline(_) => None,
            Self::File { blob, .. } => Some(*blob),
        }
    }

    fn slice(&self, range: Range<u64>) -> Self {
        match self {
            Self::Inline(bytes) => {
                Self::Inline(bytes.slice(range.start as usize..range.end as usize))
            }
            Self::File { blob, offset, .. } => Self::File {
                blob: *blob,
                offset: offset + range.start,
                length: range.end - range.start,
            },
        }
    }
}

/// A body: its segments in order, and for a multipart object the length of each part.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Layout {
    pub(super) segments: Vec<Segment>,
    /// Empty unless the object was uploaded in parts.
    pub(super) part_lengths: Vec<u64>,
}

impl Layout {
    /// A body of one segment, or of none when it is empty.
    pub(super) fn single(segment: Option<Segment>) -> Self {
        Self {
            segments: segment.into_iter().collect(),
            part_lengths: Vec::new(),
        }
    }

    /// The segments that hold `range`, which must lie inside the body.
    pub(super) fn slice(&self, range: Range<u64>) -> Vec<Segment> {
        let mut start = 0;
        let mut slices = Vec::new();
        for segment in &self.segments {
            let end = start + segment.length();
            let from = range.start.max(start);
            let to = range.end.min(end);
            if from < to {
                slices.push(segment.slice(from - start..to - start));
            }
            start = end;
        }
        slices
    }

    /// The byte range of part `number` (from 1), or `None` when there is no such part.
    pub(super) fn part_range(&self, number: usize, object_length: u64) -> Option<Range<u64>> {
        if self.part_lengths.is_empty() {
            // An object that was put at once counts as one part.
            return (number == 1).then_some(0..object_length);
        }
        let index = number.checked_sub(1)?;
        let length = *self.part_lengths.get(index)?;
        let start = self.part_lengths.get(..index)?.iter().sum::<u64>();
        Some(start..start + length)
    }

    /// Segment count, segments, then the part lengths; integers are little-endian.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(8 + 33 * self.segments.len());
        out.extend((self.segments.len() as u32).to_le_bytes());
        for segment in &self.segments {
            match segment {
                Segment::Inline(bytes) => {
                    out.push(b'I');
                    out.extend((bytes.len() as u64).to_le_bytes());
                    out.extend_from_slice(bytes);
                }
                Segment::File {
                    blob,
                    offset,
                    length,
                } => {
                    out.push(b'F');
                    out.extend(blob.to_le_bytes());
                    out.extend(offset.to_le_bytes());
                    out.extend(length.to_le_bytes());
                }
            }
        }
        for length in &self.part_lengths {
            out.extend(length.to_le_bytes());
        }
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Fault> {
        Self::parse(bytes).ok_or(Fault::Corrupt("body layout"))
    }

    fn parse(mut rest: &[u8]) -> Option<Self> {
        let count = u32::from_le_bytes(take(&mut rest)?);
        let mut segments = Vec::new();
        for _ in 0..count {
            let [tag] = take::<1>(&mut rest)?;
            segments.push(match tag {
                b'I' => {
                    let length = u64::from_le_bytes(take(&mut rest)?);
                    let (bytes, after) = rest.split_at_checked(length.try_into().ok()?)?;
                    rest = after;
                    Segment::Inline(Bytes::copy_from_slice(bytes))
                }
                b'F' => Segment::File {
                    blob: u128::from_le_bytes(take(&mut rest)?),
                    offset: u64::from_le_bytes(take(&mut rest)?),
                    length: u64::from_le_bytes(take(&mut rest)?),
                },
                _ => return None,
            });
        }
        let mut part_lengths = Vec::with_capacity(rest.len() / 8);
        while !rest.is_empty() {
            part_lengths.push(u64::from_le_bytes(take(&mut rest)?));
        }
        Some(Self {
            segments,
            part_lengths,
        })
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> Layout {
        Layout {
            segments: vec![
                Segment::File {
                    blob: 7,
                    offset: 100,
                    length: 10,
                },
                Segment::Inline(Bytes::from_static(b"abcde")),
                Segment::File {
                    blob: 8,
                    offset: 0,
                    length: 5,
                },
            ],
            part_lengths: vec![10, 10],
        }
    }

    #[test]
    fn a_layout_survives_the_index() {
        assert_eq!(Layout::decode(&layout().encode()).unwrap(), layout());
        assert_eq!(
            Layout::decode(&Layout::default().encode()).unwrap(),
            Layout::default()
        );
    }

    #[test]
    fn a_cut_layout_is_corrupt_and_does_not_panic() {
        let bytes = layout().encode();
        for length in (0..bytes.len()).filter(|length| !(bytes.len() - length).is_multiple_of(8)) {
            assert!(
                matches!(Layout::decode(&bytes[..length]), Err(Fault::Corrupt(_))),
                "{length}"
            );
        }
    }

    #[test]
    fn a_range_takes_only_the_segments_it_touches() {
        assert_eq!(
            layout().slice(9..12),
            vec![
                Segment::File {
                    blob: 7,
                    offset: 109,
                    length: 1
                },
                Segment::Inline(Bytes::from_static(b"ab")),
            ]
        );
        assert_eq!(layout().slice(20..20), vec![]);
        assert_eq!(layout().slice(0..20), layout().segments);
    }

    #[test]
    fn parts_have_consecutive_ranges() {
        assert_eq!(layout().part_range(1, 20), Some(0..10));
        assert_eq!(layout().part_range(2, 20), Some(10..20));
        assert_eq!(layout().part_range(3, 20), None);
        assert_eq!(layout().part_range(0, 20), None);
        assert_eq!(Layout::default().part_range(1, 0), Some(0..0));
        assert_eq!(Layout::default().part_range(2, 0), None);
    }

    #[test]
    fn paths_sort_by_bucket_and_then_by_the_bytes_of_the_key() {
        let order = [
            ("a", "z"),
            ("a.b", "a"),
            ("ab", "a"),
            ("ab", "a/"),
            ("ab", "é"),
        ];
        assert!(order.is_sorted_by_key(|(bucket, key)| ObjectPath::new(bucket, key).0));
        assert!(ObjectPath::all_of("a").contains(&ObjectPath::new("a", "\u{10FFFF}").0));
        assert!(!ObjectPath::all_of("a").contains(&ObjectPath::new("a.b", "a").0));
    }

    #[test]
    fn a_checksum_of_an_algorithm_that_is_gone_is_none() {
        let text = r#"{"length":1,"etag":"e","modified":1,"checksum":{"algorithm":"ALGORITHM","kind":"FullObject","value":"v"}}"#;
        for (algorithm, is_kept) in [("Crc32", true), ("Sha256", false)] {
            let text = text.replace("ALGORITHM", algorithm);
            let part: PartRecord = decode(text.as_bytes()).expect("a record");
            assert_eq!(part.checksum.is_some(), is_kept, "{algorithm}");
        }
    }
}
