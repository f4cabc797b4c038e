//! CopyObject and UploadPartCopy: new names for old bytes.
//!
//! A copy shares the files of its source and reads them only to hash them: a part copy always, as
//! its ETag is the MD5 of the range; an object copy when its ETag or checksum cannot be taken over.
//! The comparison with the source is made in the transaction that names the copy.

use std::ops::Range as ByteRange;
use std::sync::Arc;

use hyper::HeaderMap;
use s3s::dto::*;
use s3s::{S3Request, s3_error};

use super::announced::MAX_BODY_BYTES;
use super::attributes::{attributes_of, refuse_unsupported, set_checksum};
use super::backend::{Backend, now};
use super::checksum::{Algorithm, Digested, Kind, etag};
use super::conditions::{ReadConditions, WriteConditions, timestamp};
use super::fault::Fault;
use super::multipart::{parse_part_number, part_algorithm};
use super::objects::{Found, look_up, refuse_version};
use super::read::digest;
use super::records::{Attributes, Layout, ObjectPath, ObjectRecord, PartRecord};
use super::tables::Tables;

/// The conditions on a copy's source are fields of two input types.
macro_rules! read_conditions {
    ($input:expr) => {
        ReadConditions {
            if_match: $input.copy_source_if_match.take(),
            if_none_match: $input.copy_source_if_none_match.take(),
        }
    };
}
pub(super) async fn object(
    backend: &Backend,
    request: S3Request<CopyObjectInput>,
) -> Result<CopyObjectOutput, Fault> {
    let S3Request {
        mut input, headers, ..
    } = request;
    refuse_unsupported(&headers)?;
    let source = Source::parse(&input.copy_source)?;
    let conditions = read_conditions!(input);
    let replace = match input
        .metadata_directive
        .as_ref()
        .map(MetadataDirective::as_str)
    {
        None | Some(MetadataDirective::COPY) => false,
        Some(MetadataDirective::REPLACE) => true,
        Some(_) => {
            return Err(s3_error!(InvalidArgument, "Unknown metadata directive.").into());
        }
    };
    let replace_tags = match input
        .tagging_directive
        .as_ref()
        .map(TaggingDirective::as_str)
    {
        None | Some(TaggingDirective::COPY) => false,
        Some(TaggingDirective::REPLACE) => true,
        Some(_) => {
            return Err(s3_error!(InvalidArgument, "Unknown tagging directive.").into());
        }
    };
    let target = Target {
        path: ObjectPath::new(&input.bucket, &input.key),
        algorithm: input
            .checksum_algorithm
            .take()
            .map(|name| name.as_str().parse())
            .transpose()?,
        replace,
        replace_tags,
        attributes: attributes_of!(input)?,
        bucket: input.bucket,
        conditions: write_conditions(&headers)?,
    };
    if target.path == source.path() && !replace && target.attributes.storage_class.is_none() {
        return Err(s3_error!(
            InvalidRequest,
            "This copy request is illegal because it is trying to copy an object to itself without \
             changing the object's metadata, storage class, website redirect location or \
             encryption attributes."
        )
        .into());
    }
    let target = Arc::new(target);
    for _ in 0..ATTEMPTS {
        let found = source.look_up(backend).await?;
        conditions.check_source(&found.object)?;
        let record = target.record(&found).await?;
        if let Some(record) = target.put(backend, &source, found, record).await? {
            return Ok(copied(&record));
        }
    }
    Err(source_keeps_changing())
}

fn copied(record: &ObjectRecord) -> CopyObjectOutput {
    let mut result = CopyObjectResult {
        e_tag: Some(ETag::Strong(record.etag.clone())),
        last_modified: Some(timestamp(record.modified)),
        ..Default::default()
    };
    set_checksum!(result, &record.checksum);
    result.checksum_type = record
        .checksum
        .as_ref()
        .map(|sum| ChecksumType::from_static(sum.kind.name()));
    CopyObjectOutput {
        copy_object_result: Some(result),
        ..Default::default()
    }
}

/// The target of CopyObject.
struct Target {
    bucket: String,
    path: ObjectPath,
    conditions: WriteConditions,
    replace: bool,
    replace_tags: bool,
    /// From the request; without `replace` only the storage class counts, and the tags with `replace_tags`.
    attributes: Attributes,
    algorithm: Option<Algorithm>,
}

impl Target {
    /// The record of the copy. Like AWS, a copy has an ordinary ETag and a checksum of the full
    /// object even if its source was uploaded in parts.
    async fn record(&self, found: &Found) -> Result<ObjectRecord, Fault> {
        let source = &found.object;
        if source.length > MAX_BODY_BYTES {
            return Err(source_too_large());
        }
        let has = source.checksum.as_ref().map(|checksum| checksum.algorithm);
        let wanted = self.algorithm.or(has);
        let composite = source
            .checksum
            .as_ref()
            .is_some_and(|checksum| checksum.kind == Kind::Composite);
        let (etag, checksum) = if source.etag.contains('-') || wanted != has || composite {
            let segments = found.layout.segments.clone();
            let Digested { md5, checksum } =
                digest(segments, Arc::clone(&found.pinned), wanted).await?;
            (etag(md5), checksum)
        } else {
            (source.etag.clone(), source.checksum.clone())
        };
        let mut attributes = if self.replace {
            self.attributes.clone()
        } else {
            let storage_class = self.attributes.storage_class.clone();
            Attributes {
                storage_class,
                ..source.attributes.clone()
            }
        };
        let tagged = if self.replace_tags {
            &self.attributes
        } else {
            &source.attributes
        };
        attributes.tags.clone_from(&tagged.tags);
        Ok(ObjectRecord {
            length: source.length,
            etag,
            modified: now(),
            attributes,
            checksum,
            upload_id: None,
        })
    }

    /// `None` when the source is not what was found any more.
    async fn put(
        self: &Arc<Self>,
        backend: &Backend,
        source: &Source,
        found: Found,
        record: ObjectRecord,
    ) -> Result<Option<ObjectRecord>, Fault> {
        let (target, source) = (Arc::clone(self), source.path());
        backend
            .index
            .write(move |tables| {
                tables.require_bucket(&target.bucket)?;
                target
                    .conditions
                    .check(tables.object(&target.path)?.as_ref())?;
                if !unchanged(tables, &source, &found)? {
                    return Ok(None);
                }
                let segments = found.layout.segments;
                let layout = Layout {
                    segments,
                    part_lengths: Vec::new(),
                };
                tables.put_object(&target.path, &record, &layout)?;
                Ok(Some(record))
            })
            .await
    }
}

pub(super) async fn part(
    backend: &Backend,
    request: S3Request<UploadPartCopyInput>,
) -> Result<UploadPartCopyOutput, Fault> {
    let S3Request {
        mut input, headers, ..
    } = request;
    refuse_unsupported(&headers)?;
    let number = parse_part_number(input.part_number)?;
    let source = Source::parse(&input.copy_source)?;
    let conditions = read_conditions!(input);
    let path = ObjectPath::new(&input.bucket, &input.key);
    let algorithm =
        part_algorithm(backend, input.bucket, path.clone(), input.upload_id.clone()).await?;
    for _ in 0..ATTEMPTS {
        let found = source.look_up(backend).await?;
        conditions.check_source(&found.object)?;
        let range = source_range(input.copy_source_range.as_deref(), found.object.length)?;
        if range.end - range.start > MAX_BODY_BYTES {
            return Err(source_too_large());
        }
        let layout = Layout {
            segments: found.layout.slice(range.clone()),
            ..Default::default()
        };
        let digested = digest(
            layout.segments.clone(),
            Arc::clone(&found.pinned),
            algorithm,
        )
        .await?;
        let record = PartRecord {
            length: range.end - range.start,
            etag: etag(digested.md5),
            modified: now(),
            checksum: digested.checksum,
        };
        let (path, source, upload_id) = (path.clone(), source.path(), input.upload_id.clone());
        let stored = backend
            .index
            .write(move |tables| {
                tables.require_upload(&path, &upload_id)?;
                if !unchanged(tables, &source, &found)? {
                    return Ok(None);
                }
                tables.put_part(&upload_id, number, &record, &layout)?;
                Ok(Some(record))
            })
            .await?;
        if let Some(record) = stored {
            let mut result = CopyPartResult {
                e_tag: Some(ETag::Strong(record.etag)),
                last_modified: Some(timestamp(record.modified)),
                ..Default::default()
            };
            set_checksum!(result, &record.checksum);
            return Ok(UploadPartCopyOutput {
                copy_part_result: Some(result),
                ..Default::default()
            });
        }
    }
    Err(source_keeps_changing())
}

/// The object that is copied.
struct Source {
    bucket: String,
    key: String,
}

impl Source {
    fn parse(header: &CopySource) -> Result<Self, Fault> {
        match header {
            CopySource::Bucket {
                bucket,
                key,
                version_id,
            } => {
                refuse_version(version_id.as_deref())?;
                Ok(Self {
                    bucket: bucket.to_string(),
                    key: key.to_string(),
                })
            }
            CopySource::AccessPoint { .. } | CopySource::Outpost { .. } => {
                Err(s3_error!(NotImplemented, "The embedded store has no access points.").into())
            }
        }
    }

    fn path(&self) -> ObjectPath {
        ObjectPath::new(&self.bucket, &self.key)
    }

    async fn look_up(&self, backend: &Backend) -> Result<Found, Fault> {
        look_up(backend, self.bucket.clone(), self.key.clone()).await
    }
}

fn unchanged(tables: &Tables<'_>, source: &ObjectPath, found: &Found) -> Result<bool, Fault> {
    Ok(tables.object(source)?.as_ref() == Some(&found.object)
        && tables.layout(source)?.as_ref() == Some(&found.layout))
}

/// The conditions on what a copy replaces, which the S3 library does not know for CopyObject.
fn write_conditions(headers: &HeaderMap) -> Result<WriteConditions, Fault> {
    let condition = |name: &str| {
        let value = headers
            .get(name)
            .map(|value| ETagCondition::parse_http_header(value.as_bytes()));
        value
            .transpose()
            .map_err(|_| Fault::from(s3_error!(InvalidArgument, "Invalid precondition header.")))
    };
    WriteConditions::new(condition("if-match")?, condition("if-none-match")?)
}

/// `bytes=first-last`, both given and inside the source; without the header the whole source.
fn source_range(header: Option<&str>, length: u64) -> Result<ByteRange<u64>, Fault> {
    let Some(header) = header else {
        return Ok(0..length);
    };
    match Range::parse(header) {
        Ok(Range::Int {
            first,
            last: Some(last),
        }) if last < length => Ok(first..last + 1),
        Ok(Range::Int { last: Some(_), .. }) => {
            Err(s3_error!(InvalidRange, "The requested range is not satisfiable").into())
        }
        _ => Err(s3_error!(
            InvalidArgument,
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first \
             and last are the zero-based offsets of the first and last bytes to copy"
        )
        .into()),
    }
}

fn source_too_large() -> Fault {
    s3_error!(
        InvalidRequest,
        "The specified copy source is larger than the maximum allowable size for a copy source: \
         5368709120"
    )
    .into()
}

fn source_keeps_changing() -> Fault {
    s3_error!(
        SlowDown,
        "The copy source was replaced while it was read. Please try again."
    )
    .into()
}

/// The number of times that a copy starts again because its source was replaced.
const ATTEMPTS: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_range_names_both_ends_inside_the_source() {
        assert_eq!(source_range(None, 10).unwrap(), 0..10);
        assert_eq!(source_range(Some("bytes=0-9"), 10).unwrap(), 0..10);
        assert_eq!(source_range(Some("bytes=3-3"), 10).unwrap(), 3..4);
        for refused in ["bytes=0-10", "bytes=3-", "bytes=-3", "0-3", "bytes=4-3"] {
            assert!(source_range(Some(refused), 10).is_err(), "{refused}");
        }
    }
}
