//! PutObject, GetObject, HeadObject, DeleteObject and DeleteObjects.

use std::ops::Range as ByteRange;
use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use s3s::dto::*;
use s3s::{S3Error, S3Request, S3Response, s3_error};

use super::announced::Announced;
use super::attributes::{attributes_of, refuse_unsupported, set_attributes, set_checksum};
use super::backend::{Backend, now};
use super::blobs::Pinned;
use super::checksum::{Kind, etag};
use super::conditions::{ReadConditions, WriteConditions, timestamp};
use super::fault::Fault;
use super::index::spawn_blocking;
use super::read::BodyStream;
use super::receive::{or_drain, receive};
use super::records::{Layout, ObjectPath, ObjectRecord, Segment};

pub(super) async fn put(
    backend: &Backend,
    request: S3Request<PutObjectInput>,
) -> Result<PutObjectOutput, Fault> {
    let S3Request {
        mut input,
        headers,
        trailing_headers,
        ..
    } = request;
    let mut body = input.body.take();
    let parsed = refuse_unsupported(&headers).and_then(|()| {
        let conditions = WriteConditions::new(input.if_match.take(), input.if_none_match.take())?;
        Ok((
            attributes_of!(input)?,
            conditions,
            Announced::parse(&headers, trailing_headers)?,
        ))
    });
    let (attributes, conditions, announced) = or_drain(parsed, &mut body).await?;
    let received = receive(&backend.blobs, body, announced).await?;
    let record = ObjectRecord {
        length: received.length,
        etag: etag(received.md5),
        modified: now(),
        attributes,
        checksum: received.checksum,
        upload_id: None,
    };
    let mut output = PutObjectOutput {
        e_tag: Some(ETag::Strong(record.etag.clone())),
        ..Default::default()
    };
    set_checksum!(output, &record.checksum);
    output.checksum_type = record
        .checksum
        .as_ref()
        .map(|sum| ChecksumType::from_static(sum.kind.name()));
    let (bucket, path) = (
        input.bucket.clone(),
        ObjectPath::new(&input.bucket, &input.key),
    );
    backend
        .index
        .write(move |tables| {
            tables.require_bucket(&bucket)?;
            conditions.check(tables.object(&path)?.as_ref())?;
            tables.put_object(&path, &record, &Layout::single(received.segment))?;
            tables.adopt(received.draft);
            Ok(())
        })
        .await?;
    Ok(output)
}

pub(super) async fn get(
    backend: &Backend,
    request: S3Request<GetObjectInput>,
) -> Result<GetObjectOutput, Fault> {
    refuse_unsupported(&request.headers)?;
    let input = request.input;
    refuse_version(input.version_id.as_deref())?;
    let conditions = ReadConditions {
        if_match: input.if_match,
        if_none_match: input.if_none_match,
    };
    let found = look_up(backend, input.bucket, input.key).await?;
    let object = &found.object;
    conditions.check(object)?;
    let selected = select(
        object,
        &found.layout,
        input.range.as_ref(),
        input.part_number,
    )?;
    let mut output = GetObjectOutput {
        content_length: Some((selected.range.end - selected.range.start).cast_signed()),
        content_range: selected.content_range(object.length),
        parts_count: selected.parts_count,
        ..Default::default()
    };
    set_attributes!(output, object);
    if selected.is_whole(object.length) && checksums_wanted(input.checksum_mode.as_ref()) {
        set_checksum!(output, &object.checksum);
        output.checksum_type = checksum_type(object);
    }
    let body = BodyStream::new(found.layout.slice(selected.range), found.pinned);
    output.body = Some(StreamingBlob::new(body));
    Ok(output)
}

pub(super) async fn head(
    backend: &Backend,
    request: S3Request<HeadObjectInput>,
) -> Result<S3Response<HeadObjectOutput>, Fault> {
    refuse_unsupported(&request.headers)?;
    let input = request.input;
    refuse_version(input.version_id.as_deref())?;
    let conditions = ReadConditions {
        if_match: input.if_match,
        if_none_match: input.if_none_match,
    };
    let (bucket, key) = (input.bucket, input.key);
    // The layout of an object of 10,000 parts is large, so it is read only for a part's length.
    let with_layout = input.part_number.is_some();
    let (object, layout) = backend
        .index
        .read(move |view| {
            let object = view.require_object(&bucket, &key)?;
            let path = ObjectPath::new(&bucket, &key);
            let layout = if with_layout {
                view.layout(&path)?
            } else {
                Layout::default()
            };
            Ok((object, layout))
        })
        .await?;
    conditions.check(&object)?;
    let selected = select(&object, &layout, input.range.as_ref(), input.part_number)?;
    let mut output = HeadObjectOutput {
        content_length: Some((selected.range.end - selected.range.start).cast_signed()),
        content_range: selected.content_range(object.length),
        parts_count: selected.parts_count,
        ..Default::default()
    };
    set_attributes!(output, &object);
    if selected.is_whole(object.length) && checksums_wanted(input.checksum_mode.as_ref()) {
        set_checksum!(output, &object.checksum);
        output.checksum_type = checksum_type(&object);
    }
    Ok(with_count(output, &object))
}

/// `204` also when there is no such object; `412` for an `If-Match` that fails.
pub(super) async fn delete(
    backend: &Backend,
    request: S3Request<DeleteObjectInput>,
) -> Result<DeleteObjectOutput, Fault> {
    let input = request.input;
    refuse_version(input.version_id.as_deref())?;
    let conditions = WriteConditions::new(input.if_match, None)?;
    let path = ObjectPath::new(&input.bucket, &input.key);
    backend
        .index
        .write_small(move |tables| {
            tables.require_bucket(&input.bucket)?;
            conditions.check(tables.object(&path)?.as_ref())?;
            tables.remove_object(&path)
        })
        .await?;
    Ok(DeleteObjectOutput::default())
}

/// Up to 1,000 keys in one transaction. As on AWS, the list must come with a digest; it is not
/// verified, since the S3 library has parsed the list away.
pub(super) async fn delete_many(
    backend: &Backend,
    request: S3Request<DeleteObjectsInput>,
) -> Result<DeleteObjectsOutput, Fault> {
    let DeleteObjectsInput { bucket, delete, .. } = request.input;
    let has_digest = |name: &HeaderName| {
        name.as_str() == "content-md5" || name.as_str().starts_with("x-amz-checksum-")
    };
    if !request.headers.keys().any(has_digest) {
        return Err(s3_error!(
            InvalidRequest,
            "Missing required header for this request: Content-MD5 OR x-amz-checksum-*"
        )
        .into());
    }
    if delete.objects.is_empty() || delete.objects.len() > MAX_DELETED_KEYS {
        return Err(s3_error!(
            MalformedXML,
            "The XML you provided was not well-formed or did not validate against our published schema"
        )
        .into());
    }
    let quiet = delete.quiet.unwrap_or(false);
    let (deleted, errors) = backend
        .index
        .write_small(move |tables| {
            tables.require_bucket(&bucket)?;
            let (mut deleted, mut errors) = (Vec::new(), Vec::new());
            for object in delete.objects {
                if let Some((code, message)) = undeletable(&object) {
                    errors.push(Error {
                        code: Some(code.to_owned()),
                        message: Some(message.to_owned()),
                        key: Some(object.key),
                        version_id: object.version_id,
                    });
                    continue;
                }
                tables.remove_object(&ObjectPath::new(&bucket, &object.key))?;
                deleted.push(DeletedObject {
                    key: Some(object.key),
                    ..Default::default()
                });
            }
            Ok((deleted, errors))
        })
        .await?;
    Ok(DeleteObjectsOutput {
        deleted: (!quiet).then_some(deleted),
        errors: Some(errors),
        ..Default::default()
    })
}

fn undeletable(object: &ObjectIdentifier) -> Option<(&'static str, &'static str)> {
    if object.key.len() > MAX_KEY_BYTES {
        Some(("KeyTooLongError", "Your key is too long"))
    } else if object
        .version_id
        .as_deref()
        .is_some_and(|version| version != "null")
    {
        Some(("NoSuchVersion", "The specified version does not exist."))
    } else {
        None
    }
}

/// An object as it was at one moment, and its files pinned.
pub(super) struct Found {
    pub(super) object: ObjectRecord,
    pub(super) layout: Layout,
    pub(super) pinned: Arc<Pinned>,
}

/// Finds an object for reading its body.
pub(super) async fn look_up(
    backend: &Backend,
    bucket: String,
    key: String,
) -> Result<Found, Fault> {
    let (index, blobs) = (backend.index.clone(), Arc::clone(&backend.blobs));
    spawn_blocking(move || {
        let ((object, layout), pinned) = blobs.pin(|| {
            let view = index.view()?;
            let object = view.require_object(&bucket, &key)?;
            let layout = view.layout(&ObjectPath::new(&bucket, &key))?;
            let files = layout.segments.iter().filter_map(Segment::blob).collect();
            Ok(((object, layout), files))
        })?;
        Ok(Found {
            object,
            layout,
            pinned: Arc::new(pinned),
        })
    })
    .await
}

/// There is one version of each object, and its id is `null`.
pub(super) fn refuse_version(version_id: Option<&str>) -> Result<(), Fault> {
    match version_id {
        None | Some("null") => Ok(()),
        Some(_) => Err(s3_error!(NoSuchVersion, "The specified version does not exist.").into()),
    }
}

/// The bytes that a GET or HEAD is about.
struct Selected {
    range: ByteRange<u64>,
    /// Answered with 206 and `Content-Range`.
    partial: bool,
    parts_count: Option<i32>,
}

impl Selected {
    /// A range of all bytes has the checksum of the object, too.
    fn is_whole(&self, length: u64) -> bool {
        self.range == (0..length)
    }

    fn content_range(&self, length: u64) -> Option<String> {
        let ByteRange { start, end } = self.range;
        // An empty body has no first byte to name; only part 1 of an empty object gets here.
        (self.partial && start < end).then(|| format!("bytes {start}-{}/{length}", end - 1))
    }
}

fn select(
    object: &ObjectRecord,
    layout: &Layout,
    range: Option<&Range>,
    part_number: Option<i32>,
) -> Result<Selected, Fault> {
    match (range, part_number) {
        (None, None) => Ok(Selected {
            range: 0..object.length,
            partial: false,
            parts_count: None,
        }),
        (Some(_), Some(_)) => Err(s3_error!(
            InvalidRequest,
            "Cannot specify both Range header and partNumber query parameter"
        )
        .into()),
        (Some(range), None) => match range.check(object.length) {
            // An empty object satisfies no range, not even its last zero bytes.
            Ok(range) if !range.is_empty() => Ok(Selected {
                range,
                partial: true,
                parts_count: None,
            }),
            _ => Err(invalid_range(object.length)),
        },
        (None, Some(number)) => {
            let part = usize::try_from(number).ok();
            let range = part.and_then(|number| layout.part_range(number, object.length));
            let range = range.ok_or_else(|| {
                Fault::refused_with_status(
                    "InvalidPartNumber",
                    StatusCode::RANGE_NOT_SATISFIABLE,
                    "The requested partnumber is not satisfiable",
                )
            })?;
            let count = i32::try_from(layout.part_lengths.len())
                .ok()
                .filter(|count| *count > 0);
            Ok(Selected {
                range,
                partial: true,
                parts_count: count,
            })
        }
    }
}

fn invalid_range(length: u64) -> Fault {
    let mut error: S3Error = s3_error!(InvalidRange, "The requested range is not satisfiable");
    let mut headers = HeaderMap::new();
    if let Ok(range) = HeaderValue::try_from(format!("bytes */{length}")) {
        headers.insert(CONTENT_RANGE, range);
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    error.set_headers(headers);
    error.into()
}

fn checksums_wanted(mode: Option<&ChecksumMode>) -> bool {
    mode.is_some_and(|mode| mode.as_str() == ChecksumMode::ENABLED)
}

fn checksum_type(object: &ObjectRecord) -> Option<ChecksumType> {
    let kind: Kind = object.checksum.as_ref()?.kind;
    Some(ChecksumType::from_static(kind.name()))
}

/// Keys in one DeleteObjects.
const MAX_DELETED_KEYS: usize = 1000;

/// Bytes of a key in UTF-8. Keys in paths are checked by the S3 library.
const MAX_KEY_BYTES: usize = 1024;

/// HEAD with the number of tags, for which the S3 library's type of the answer has no field.
fn with_count(output: HeadObjectOutput, object: &ObjectRecord) -> S3Response<HeadObjectOutput> {
    let mut response = S3Response::new(output);
    let count = object.attributes.tags.len();
    if count > 0 {
        response.headers.insert("x-amz-tagging-count", count.into());
    }
    response
}
