//! Multipart uploads: create, upload a part, complete, abort.
//!
//! Completing copies nothing: the new object's layout is the list of its parts' segments.

use std::sync::Arc;

use s3s::dto::*;
use s3s::{S3ErrorCode, S3Request, s3_error};

use super::announced::Announced;
use super::attributes::{attributes_of, declared_checksum, refuse_unsupported, set_checksum};
use super::backend::{Backend, now};
use super::blobs::random_id;
use super::checksum::{Algorithm, Checksum, Kind, etag, multipart_etag};
use super::conditions::WriteConditions;
use super::fault::Fault;
use super::receive::{or_drain, receive};
use super::records::{Layout, ObjectPath, ObjectRecord, PartRecord, UploadRecord};
use super::tables::{Tables, no_such_upload};

pub(super) async fn create(
    backend: &Backend,
    request: S3Request<CreateMultipartUploadInput>,
) -> Result<CreateMultipartUploadOutput, Fault> {
    let S3Request {
        mut input, headers, ..
    } = request;
    refuse_unsupported(&headers)?;
    let algorithm = input
        .checksum_algorithm
        .as_ref()
        .map(|name| name.as_str().parse())
        .transpose()?;
    let asked_kind = input.checksum_type.as_ref().map(ChecksumType::as_str);
    let checksum = match algorithm {
        Some(algorithm) => Some((algorithm, Kind::of_upload(algorithm, asked_kind)?)),
        None => None,
    };
    let record = UploadRecord {
        initiated: now(),
        attributes: attributes_of!(input)?,
        checksum,
    };
    let random = random_id().map_err(Fault::io("draw a random upload id"))?;
    let (bucket, path) = (
        input.bucket.clone(),
        ObjectPath::new(&input.bucket, &input.key),
    );
    let upload_id = backend
        .index
        .write(move |tables| {
            tables.require_bucket(&bucket)?;
            // S3 lists the uploads of one key by their age, so the age comes first in the id.
            let upload_id = format!("{:016x}{random:032x}", nanoseconds());
            tables.put_upload(&path, &upload_id, &record)?;
            Ok(upload_id)
        })
        .await?;
    Ok(CreateMultipartUploadOutput {
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(upload_id),
        checksum_algorithm: algorithm
            .map(|algorithm: Algorithm| ChecksumAlgorithm::from_static(algorithm.name())),
        checksum_type: checksum.map(|(_, kind)| ChecksumType::from_static(kind.name())),
        ..Default::default()
    })
}

fn nanoseconds() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

pub(super) async fn upload_part(
    backend: &Backend,
    request: S3Request<UploadPartInput>,
) -> Result<UploadPartOutput, Fault> {
    let S3Request {
        mut input,
        headers,
        trailing_headers,
        ..
    } = request;
    let mut body = input.body.take();
    let path = ObjectPath::new(&input.bucket, &input.key);
    let of_upload =
        part_algorithm(backend, input.bucket, path.clone(), input.upload_id.clone()).await;
    let parsed = of_upload.and_then(|of_upload| {
        refuse_unsupported(&headers)?;
        let mut announced = Announced::parse(&headers, trailing_headers)?;
        announced.require(of_upload)?;
        Ok((parse_part_number(input.part_number)?, announced))
    });
    let (number, announced) = or_drain(parsed, &mut body).await?;
    let upload_id = input.upload_id;
    let received = receive(&backend.blobs, body, announced).await?;
    let record = PartRecord {
        length: received.length,
        etag: etag(received.md5),
        modified: now(),
        checksum: received.checksum,
    };
    let mut output = UploadPartOutput {
        e_tag: Some(ETag::Strong(record.etag.clone())),
        ..Default::default()
    };
    set_checksum!(output, &record.checksum);
    backend
        .index
        .write(move |tables| {
            // The upload may have been completed or aborted while the part was on its way.
            tables.require_upload(&path, &upload_id)?;
            tables.put_part(
                &upload_id,
                number,
                &record,
                &Layout::single(received.segment),
            )?;
            tables.adopt(received.draft);
            Ok(())
        })
        .await?;
    Ok(output)
}

/// The checksum that every part of an upload has.
pub(super) async fn part_algorithm(
    backend: &Backend,
    bucket: String,
    path: ObjectPath,
    upload_id: String,
) -> Result<Option<Algorithm>, Fault> {
    backend
        .index
        .read(move |view| {
            view.require_bucket(&bucket)?;
            Ok(view
                .require_upload(&path, &upload_id)?
                .checksum
                .map(|(algorithm, _)| algorithm))
        })
        .await
}

pub(super) fn parse_part_number(number: i32) -> Result<u16, Fault> {
    u16::try_from(number)
        .ok()
        .filter(|number| (1..=MAX_PART_NUMBER).contains(number))
        .ok_or_else(|| {
            s3_error!(
                InvalidArgument,
                "Part number must be an integer between 1 and 10000, inclusive"
            )
            .into()
        })
}

/// Repeating it after it succeeded succeeds again, as long as the object is the one it made.
pub(super) async fn complete(
    backend: &Backend,
    request: S3Request<CompleteMultipartUploadInput>,
) -> Result<CompleteMultipartUploadOutput, Fault> {
    refuse_unsupported(&request.headers)?;
    let mut input = request.input;
    let conditions = WriteConditions::new(input.if_match.take(), input.if_none_match.take())?;
    let input = Arc::new(input);
    let completion = Arc::clone(&input);
    let record = backend
        .index
        .write(move |tables| {
            let path = ObjectPath::new(&completion.bucket, &completion.key);
            tables.require_bucket(&completion.bucket)?;
            let replaced = tables.object(&path)?;
            let Some(upload) = tables.upload(&path, &completion.upload_id)? else {
                let made = |object: &ObjectRecord| {
                    object.upload_id.as_ref() == Some(&completion.upload_id)
                };
                return replaced.filter(made).ok_or_else(no_such_upload);
            };
            conditions.check(replaced.as_ref())?;
            let (record, layout) = assemble(tables, upload, &completion)?;
            tables.put_object(&path, &record, &layout)?;
            tables.remove_upload(&path, &completion.upload_id)?;
            Ok(record)
        })
        .await?;
    let mut output = CompleteMultipartUploadOutput {
        location: Some(format!("/{}/{}", input.bucket, input.key)),
        bucket: Some(input.bucket.clone()),
        key: Some(input.key.clone()),
        e_tag: Some(ETag::Strong(record.etag.clone())),
        checksum_type: record
            .checksum
            .as_ref()
            .map(|checksum| ChecksumType::from_static(checksum.kind.name())),
        ..Default::default()
    };
    set_checksum!(output, &record.checksum);
    Ok(output)
}

/// Checks the list of parts against the upload and makes the object of it; changes nothing.
fn assemble(
    tables: &Tables<'_>,
    upload: UploadRecord,
    input: &CompleteMultipartUploadInput,
) -> Result<(ObjectRecord, Layout), Fault> {
    let listed = input
        .multipart_upload
        .as_ref()
        .and_then(|upload| upload.parts.as_deref());
    let parts = find_parts(
        tables,
        &upload,
        listed.unwrap_or_default(),
        &input.upload_id,
    )?;
    let length = parts.iter().map(|(part, _)| part.length).sum();
    let checksum = upload.checksum.map(|(algorithm, kind)| {
        object_checksum(
            algorithm,
            kind,
            &parts,
            declared_checksum!(input, algorithm),
        )
    });
    let record = ObjectRecord {
        length,
        etag: multipart_etag(parts.iter().map(|(part, _)| part.etag.as_str()))?,
        modified: now(),
        attributes: upload.attributes,
        checksum: checksum.transpose()?,
        upload_id: Some(input.upload_id.clone()),
    };
    let layout = Layout {
        part_lengths: parts.iter().map(|(part, _)| part.length).collect(),
        segments: parts
            .into_iter()
            .flat_map(|(_, layout)| layout.segments)
            .collect(),
    };
    Ok((record, layout))
}

fn find_parts(
    tables: &Tables<'_>,
    upload: &UploadRecord,
    listed: &[CompletedPart],
    upload_id: &str,
) -> Result<Vec<(PartRecord, Layout)>, Fault> {
    if listed.is_empty() {
        return Err(s3_error!(
            MalformedXML,
            "The XML you provided was not well-formed or did not validate against our published schema"
        )
        .into());
    }
    if !listed.is_sorted_by(|one, next| one.part_number < next.part_number) {
        return Err(s3_error!(
            InvalidPartOrder,
            "The list of parts was not in ascending order. The parts list must be specified in \
             order by part number."
        )
        .into());
    }
    let mut parts: Vec<(PartRecord, Layout)> = Vec::with_capacity(listed.len());
    for (index, item) in listed.iter().enumerate() {
        let number = item
            .part_number
            .and_then(|number| u16::try_from(number).ok());
        let part = match number {
            Some(number) => tables.part(upload_id, number)?,
            None => None,
        };
        let (part, layout) = part.ok_or_else(invalid_part)?;
        if item
            .e_tag
            .as_ref()
            .is_none_or(|etag| etag.value() != part.etag)
        {
            return Err(invalid_part());
        }
        check_part_checksum(upload, item, &part)?;
        if part.length < MIN_PART_BYTES && index + 1 < listed.len() {
            return Err(s3_error!(
                EntityTooSmall,
                "Your proposed upload is smaller than the minimum allowed size"
            )
            .into());
        }
        parts.push((part, layout));
    }
    Ok(parts)
}

/// A composite upload needs every part's checksum again in the list, any other may repeat it.
fn check_part_checksum(
    upload: &UploadRecord,
    item: &CompletedPart,
    part: &PartRecord,
) -> Result<(), Fault> {
    let Some(checksum) = &part.checksum else {
        return Ok(());
    };
    match (
        declared_checksum!(item, checksum.algorithm),
        upload.checksum,
    ) {
        (Some(declared), _) if !checksum.matches(declared) => Err(invalid_part()),
        (None, Some((algorithm, Kind::Composite))) => Err(Fault::refused(
            S3ErrorCode::InvalidRequest,
            format!(
                "The upload was created using a {} checksum. The complete request must include \
                 the checksum for each part. It was missing for part {} in the request.",
                algorithm.name().to_lowercase(),
                item.part_number.unwrap_or_default()
            ),
        )),
        _ => Ok(()),
    }
}

fn object_checksum(
    algorithm: Algorithm,
    kind: Kind,
    parts: &[(PartRecord, Layout)],
    declared: Option<&str>,
) -> Result<Checksum, Fault> {
    let mut sums = Vec::with_capacity(parts.len());
    for (part, _) in parts {
        sums.push((
            part.checksum.as_ref().ok_or(Fault::Corrupt("part"))?,
            part.length,
        ));
    }
    let checksum = Checksum::of_parts(algorithm, kind, &sums)?;
    if declared.is_some_and(|declared| !checksum.matches(declared)) {
        return Err(Fault::refused(
            S3ErrorCode::BadDigest,
            format!(
                "The {} you specified did not match the calculated checksum.",
                algorithm.name()
            ),
        ));
    }
    Ok(checksum)
}

fn invalid_part() -> Fault {
    s3_error!(
        InvalidPart,
        "One or more of the specified parts could not be found. The part may not have been \
         uploaded, or the specified entity tag may not match the part's entity tag."
    )
    .into()
}

pub(super) async fn abort(
    backend: &Backend,
    request: S3Request<AbortMultipartUploadInput>,
) -> Result<AbortMultipartUploadOutput, Fault> {
    let input = request.input;
    backend
        .index
        .write_small(move |tables| {
            let path = ObjectPath::new(&input.bucket, &input.key);
            tables.require_bucket(&input.bucket)?;
            tables.require_upload(&path, &input.upload_id)?;
            tables.remove_upload(&path, &input.upload_id)
        })
        .await?;
    Ok(AbortMultipartUploadOutput::default())
}

/// Parts are numbered from 1.
const MAX_PART_NUMBER: u16 = 10_000;

/// Every part but the last has at least 5 MiB, as on AWS.
const MIN_PART_BYTES: u64 = 5 << 20;
