//! ListMultipartUploads and ListParts.

use std::ops::Bound;

use s3s::dto::*;
use s3s::{S3Request, s3_error};

use super::attributes::set_checksum;
use super::backend::Backend;
use super::buckets::owner;
use super::conditions::timestamp;
use super::fault::Fault;
use super::list::{Encoding, common_prefixes, limit, storage_class};
use super::listing::{Page, Query};
use super::records::{ObjectPath, PartRecord, UploadRecord, decode};
use super::tables::View;

/// Uploads sort by key and then by age.
pub(super) async fn uploads(
    backend: &Backend,
    request: S3Request<ListMultipartUploadsInput>,
) -> Result<ListMultipartUploadsOutput, Fault> {
    let input = request.input;
    let encoding = Encoding::parse(input.encoding_type)?;
    let limit = limit(input.max_uploads, "max-uploads")?;
    let key_marker = input.key_marker.filter(|marker| !marker.is_empty());
    // Without a key the upload id marker has no meaning and is ignored.
    let id_marker = input
        .upload_id_marker
        .filter(|id| !id.is_empty() && key_marker.is_some());
    let prefix = input.prefix.unwrap_or_default();
    let delimiter = input.delimiter.filter(|delimiter| !delimiter.is_empty());
    let mut output = ListMultipartUploadsOutput {
        bucket: Some(input.bucket.clone()),
        key_marker: Some(encoding.apply(key_marker.clone().unwrap_or_default())),
        upload_id_marker: Some(id_marker.clone().unwrap_or_default()),
        prefix: Some(encoding.apply(prefix.clone())),
        delimiter: delimiter.clone().map(|delimiter| encoding.apply(delimiter)),
        max_uploads: Some(limit as i32),
        encoding_type: encoding.into(),
        ..Default::default()
    };
    let page = backend
        .index
        .read(move |view| {
            view.require_bucket(&input.bucket)?;
            let query = Query {
                prefix: &prefix,
                delimiter: delimiter.as_deref(),
                after: key_marker.as_deref(),
                limit,
            };
            upload_page(view, &input.bucket, &query, id_marker.as_deref())
        })
        .await?;
    if page.truncated {
        let last_upload = page
            .items
            .last()
            .filter(|(key, _)| Some(key) == page.last.as_ref());
        output.next_upload_id_marker = last_upload.map(|(_, (id, _))| id.clone());
        output.next_key_marker = page.last.map(|key| encoding.apply(key));
    }
    output.is_truncated = Some(page.truncated);
    output.common_prefixes = Some(common_prefixes(page.prefixes, encoding));
    let entry = |(key, (id, record))| upload_entry(encoding.apply(key), id, record);
    output.uploads = Some(page.items.into_iter().map(entry).collect());
    Ok(output)
}

fn upload_entry(key: String, id: String, record: UploadRecord) -> MultipartUpload {
    let (algorithm, kind) = checksum_names(&record);
    MultipartUpload {
        key: Some(key),
        upload_id: Some(id),
        initiated: Some(timestamp(record.initiated)),
        storage_class: Some(storage_class(record.attributes).into()),
        checksum_algorithm: algorithm,
        checksum_type: kind,
        owner: Some(owner()),
        initiator: Some(initiator()),
    }
}

/// An upload's checksum in the words of the API.
fn checksum_names(record: &UploadRecord) -> (Option<ChecksumAlgorithm>, Option<ChecksumType>) {
    record
        .checksum
        .map(|(algorithm, kind)| {
            (
                ChecksumAlgorithm::from_static(algorithm.name()),
                ChecksumType::from_static(kind.name()),
            )
        })
        .unzip()
}

/// There is one account, so whoever began an upload is the owner.
fn initiator() -> Initiator {
    Initiator {
        id: owner().id,
        ..Default::default()
    }
}

fn upload_page(
    view: &View,
    bucket: &str,
    query: &Query<'_>,
    id_marker: Option<&str>,
) -> Result<Page<(String, UploadRecord)>, Fault> {
    let uploads = view.uploads()?;
    let paths = ObjectPath::all_of(bucket);
    let start_of_key = paths.start.len();
    query.page(|from| {
        let path = |key: &[u8]| [paths.start.as_slice(), key].concat();
        let (from, after_id) = match from {
            Bound::Excluded(key) => match id_marker {
                Some(id) => (path(key), id),
                // A zero byte makes the smallest key behind this one.
                None => (path(&[key, b"\0"].concat()), ""),
            },
            Bound::Included(key) => (path(key), ""),
            Bound::Unbounded => (path(b""), ""),
        };
        let from = Bound::Excluded((from.as_slice(), after_id));
        let to = Bound::Excluded((paths.end.as_slice(), ""));
        Ok(uploads.range::<(&[u8], &str)>((from, to))?.map(move |row| {
            let (key, record) = row?;
            let (path, id) = key.value();
            Ok((
                path[start_of_key..].to_vec(),
                (id.to_owned(), decode(record.value())?),
            ))
        }))
    })
}

pub(super) async fn parts(
    backend: &Backend,
    request: S3Request<ListPartsInput>,
) -> Result<ListPartsOutput, Fault> {
    let input = request.input;
    let limit = limit(input.max_parts, "max-parts")?;
    let marker = u16::try_from(input.part_number_marker.unwrap_or(0)).map_err(|_| {
        s3_error!(
            InvalidArgument,
            "Argument part-number-marker must be an integer between 0 and 65535"
        )
    })?;
    let path = ObjectPath::new(&input.bucket, &input.key);
    let (bucket, upload_id) = (input.bucket.clone(), input.upload_id.clone());
    let (upload, parts, truncated) = backend
        .index
        .read(move |view| {
            view.require_bucket(&bucket)?;
            let upload = view.require_upload(&path, &upload_id)?;
            let (parts, truncated) = part_page(view, &upload_id, marker, limit)?;
            Ok((upload, parts, truncated))
        })
        .await?;
    let next_marker = parts.last().map_or(marker, |(number, _)| *number);
    let (algorithm, kind) = checksum_names(&upload);
    Ok(ListPartsOutput {
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(input.upload_id),
        max_parts: Some(limit as i32),
        part_number_marker: Some(i32::from(marker)),
        next_part_number_marker: Some(i32::from(next_marker)),
        is_truncated: Some(truncated),
        parts: Some(
            parts
                .into_iter()
                .map(|(number, part)| part_entry(number, part))
                .collect(),
        ),
        storage_class: Some(storage_class(upload.attributes).into()),
        checksum_algorithm: algorithm,
        checksum_type: kind,
        owner: Some(owner()),
        initiator: Some(initiator()),
        ..Default::default()
    })
}

/// The parts after a part number, and whether there are more than `limit`.
fn part_page(
    view: &View,
    upload_id: &str,
    after: u16,
    limit: usize,
) -> Result<(Vec<(u16, PartRecord)>, bool), Fault> {
    let mut parts = Vec::new();
    let first = Bound::Excluded((upload_id, after));
    let last = Bound::Included((upload_id, u16::MAX));
    for row in view.parts()?.range::<(&str, u16)>((first, last))? {
        if parts.len() == limit {
            return Ok((parts, true));
        }
        let (key, part) = row?;
        parts.push((key.value().1, decode(part.value().0)?));
    }
    Ok((parts, false))
}

fn part_entry(number: u16, record: PartRecord) -> Part {
    let mut part = Part {
        part_number: Some(i32::from(number)),
        size: Some(record.length.cast_signed()),
        e_tag: Some(ETag::Strong(record.etag)),
        last_modified: Some(timestamp(record.modified)),
        ..Default::default()
    };
    set_checksum!(part, &record.checksum);
    part
}
