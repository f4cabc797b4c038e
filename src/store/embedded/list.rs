//! ListObjects (both versions), ListMultipartUploads and ListParts.

use std::ops::Bound;

use s3s::dto::*;
use s3s::{S3Request, s3_error};

use super::attributes::set_checksum;
use super::backend::Backend;
use super::buckets::owner;
use super::conditions::timestamp;
use super::fault::Fault;
use super::listing::{Page, Query, url_encode};
use super::records::{ObjectPath, ObjectRecord, PartRecord, UploadRecord, decode};
use super::tables::View;

pub(super) async fn objects(
    backend: &Backend,
    request: S3Request<ListObjectsInput>,
) -> Result<ListObjectsOutput, Fault> {
    let input = request.input;
    let encoding = Encoding::parse(input.encoding_type)?;
    let asked = Asked {
        bucket: input.bucket.clone(),
        prefix: input.prefix.clone().unwrap_or_default(),
        delimiter: input
            .delimiter
            .clone()
            .filter(|delimiter| !delimiter.is_empty()),
        after: input.marker.clone(),
        limit: limit(input.max_keys, "max-keys")?,
    };
    let (page, asked) = asked.read(backend).await?;
    // As on AWS: without a delimiter the last key serves as the next marker.
    let next_marker = page
        .last
        .as_ref()
        .filter(|_| page.truncated && asked.delimiter.is_some())
        .cloned();
    let (contents, common_prefixes) = entries(page.items, page.prefixes, encoding, true);
    Ok(ListObjectsOutput {
        name: Some(input.bucket),
        prefix: Some(encoding.apply(asked.prefix)),
        marker: Some(encoding.apply(input.marker.unwrap_or_default())),
        max_keys: Some(asked.limit as i32),
        is_truncated: Some(page.truncated),
        contents: Some(contents),
        common_prefixes: Some(common_prefixes),
        delimiter: asked.delimiter.map(|delimiter| encoding.apply(delimiter)),
        next_marker: next_marker.map(|marker| encoding.apply(marker)),
        encoding_type: encoding.into(),
        ..Default::default()
    })
}

pub(super) async fn objects_v2(
    backend: &Backend,
    request: S3Request<ListObjectsV2Input>,
) -> Result<ListObjectsV2Output, Fault> {
    let input = request.input;
    let encoding = Encoding::parse(input.encoding_type)?;
    let token = input
        .continuation_token
        .as_deref()
        .map(parse_token)
        .transpose()?;
    let asked = Asked {
        bucket: input.bucket.clone(),
        prefix: input.prefix.clone().unwrap_or_default(),
        delimiter: input
            .delimiter
            .clone()
            .filter(|delimiter| !delimiter.is_empty()),
        after: token.or_else(|| input.start_after.clone()),
        limit: limit(input.max_keys, "max-keys")?,
    };
    let (page, asked) = asked.read(backend).await?;
    let next_token = page
        .last
        .as_deref()
        .filter(|_| page.truncated)
        .map(token_after);
    let with_owner = input.fetch_owner.unwrap_or(false);
    let (contents, common_prefixes) = entries(page.items, page.prefixes, encoding, with_owner);
    Ok(ListObjectsV2Output {
        name: Some(input.bucket),
        prefix: Some(encoding.apply(asked.prefix)),
        max_keys: Some(asked.limit as i32),
        key_count: Some((contents.len() + common_prefixes.len()) as i32),
        continuation_token: input.continuation_token,
        is_truncated: Some(page.truncated),
        next_continuation_token: next_token,
        contents: Some(contents),
        common_prefixes: Some(common_prefixes),
        delimiter: asked.delimiter.map(|delimiter| encoding.apply(delimiter)),
        encoding_type: encoding.into(),
        start_after: input.start_after.map(|after| encoding.apply(after)),
        ..Default::default()
    })
}

/// What a page of objects is asked for.
struct Asked {
    bucket: String,
    prefix: String,
    delimiter: Option<String>,
    after: Option<String>,
    limit: usize,
}

impl Asked {
    async fn read(self, backend: &Backend) -> Result<(Page<ObjectRecord>, Self), Fault> {
        backend
            .index
            .read(move |view| {
                view.require_bucket(&self.bucket)?;
                let query = Query {
                    prefix: &self.prefix,
                    delimiter: self.delimiter.as_deref(),
                    after: self.after.as_deref(),
                    limit: self.limit,
                };
                let page = object_page(view, &self.bucket, &query)?;
                Ok((page, self))
            })
            .await
    }
}

fn object_page(view: &View, bucket: &str, query: &Query<'_>) -> Result<Page<ObjectRecord>, Fault> {
    let objects = view.objects()?;
    let paths = ObjectPath::all_of(bucket);
    let start_of_key = paths.start.len();
    let page = query.page(|from| {
        let from = from.map(|key| [paths.start.as_slice(), key].concat());
        let range = (
            from.as_ref().map(Vec::as_slice),
            Bound::Excluded(paths.end.as_slice()),
        );
        Ok(objects.range::<&[u8]>(range)?.map(move |row| {
            let (path, record) = row?;
            Ok((path.value()[start_of_key..].to_vec(), record))
        }))
    })?;
    // Only what is on the page is decoded, not what its common prefixes stand for.
    let items: Result<Vec<_>, Fault> = page
        .items
        .into_iter()
        .map(|(key, record)| Ok((key, decode(record.value())?)))
        .collect();
    Ok(Page {
        items: items?,
        prefixes: page.prefixes,
        truncated: page.truncated,
        last: page.last,
    })
}

fn entries(
    items: Vec<(String, ObjectRecord)>,
    prefixes: Vec<String>,
    encoding: Encoding,
    with_owner: bool,
) -> (Vec<Object>, Vec<CommonPrefix>) {
    let object = |(key, record): (String, ObjectRecord)| Object {
        key: Some(encoding.apply(key)),
        size: Some(record.length.cast_signed()),
        e_tag: Some(ETag::Strong(record.etag)),
        last_modified: Some(timestamp(record.modified)),
        storage_class: Some(
            record
                .attributes
                .storage_class
                .unwrap_or_else(|| ObjectStorageClass::STANDARD.to_owned())
                .into(),
        ),
        checksum_algorithm: record
            .checksum
            .as_ref()
            .map(|checksum| vec![ChecksumAlgorithm::from_static(checksum.algorithm.name())]),
        checksum_type: record
            .checksum
            .as_ref()
            .map(|checksum| ChecksumType::from_static(checksum.kind.name())),
        owner: with_owner.then(owner),
        ..Default::default()
    };
    (
        items.into_iter().map(object).collect(),
        common_prefixes(prefixes, encoding),
    )
}

fn common_prefixes(prefixes: Vec<String>, encoding: Encoding) -> Vec<CommonPrefix> {
    let prefix = |prefix| CommonPrefix {
        prefix: Some(encoding.apply(prefix)),
    };
    prefixes.into_iter().map(prefix).collect()
}

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
    let upload = |(key, (id, record)): (String, (String, UploadRecord))| MultipartUpload {
        key: Some(encoding.apply(key)),
        upload_id: Some(id),
        initiated: Some(timestamp(record.initiated)),
        storage_class: Some(
            record
                .attributes
                .storage_class
                .unwrap_or_else(|| StorageClass::STANDARD.to_owned())
                .into(),
        ),
        checksum_algorithm: record
            .checksum
            .map(|(algorithm, _)| ChecksumAlgorithm::from_static(algorithm.name())),
        checksum_type: record
            .checksum
            .map(|(_, kind)| ChecksumType::from_static(kind.name())),
        owner: Some(owner()),
        initiator: Some(Initiator {
            id: owner().id,
            ..Default::default()
        }),
    };
    output.uploads = Some(page.items.into_iter().map(upload).collect());
    Ok(output)
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
            let mut parts: Vec<(u16, PartRecord)> = Vec::new();
            let after = Bound::Excluded((upload_id.as_str(), marker));
            let last = Bound::Included((upload_id.as_str(), u16::MAX));
            for row in view.parts()?.range::<(&str, u16)>((after, last))? {
                if parts.len() == limit {
                    return Ok((upload, parts, true));
                }
                let (key, part) = row?;
                parts.push((key.value().1, decode(part.value().0)?));
            }
            Ok((upload, parts, false))
        })
        .await?;
    let next_marker = parts.last().map_or(marker, |(number, _)| *number);
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
        storage_class: Some(
            upload
                .attributes
                .storage_class
                .unwrap_or_else(|| StorageClass::STANDARD.to_owned())
                .into(),
        ),
        checksum_algorithm: upload
            .checksum
            .map(|(algorithm, _)| ChecksumAlgorithm::from_static(algorithm.name())),
        checksum_type: upload
            .checksum
            .map(|(_, kind)| ChecksumType::from_static(kind.name())),
        owner: Some(owner()),
        initiator: Some(Initiator {
            id: owner().id,
            ..Default::default()
        }),
        ..Default::default()
    })
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

/// How keys are written in an answer.
#[derive(Clone, Copy)]
enum Encoding {
    Plain,
    Url,
}

impl Encoding {
    fn parse(asked: Option<EncodingType>) -> Result<Self, Fault> {
        match asked.as_ref().map(EncodingType::as_str) {
            None | Some("") => Ok(Self::Plain),
            Some(EncodingType::URL) => Ok(Self::Url),
            Some(_) => Err(s3_error!(
                InvalidArgument,
                "Invalid Encoding Method specified in Request"
            )
            .into()),
        }
    }

    fn apply(self, text: String) -> String {
        match self {
            Self::Plain => text,
            Self::Url => url_encode(&text),
        }
    }
}

impl From<Encoding> for Option<EncodingType> {
    fn from(encoding: Encoding) -> Self {
        match encoding {
            Encoding::Plain => None,
            Encoding::Url => Some(EncodingType::from_static(EncodingType::URL)),
        }
    }
}

/// A page has at most 1,000 entries; more may be asked for and are not given.
fn limit(asked: Option<i32>, name: &str) -> Result<usize, Fault> {
    match usize::try_from(asked.unwrap_or(MAX_PAGE)) {
        Ok(limit) => Ok(limit.min(MAX_PAGE as usize)),
        Err(_) => Err(Fault::refused(
            s3s::S3ErrorCode::InvalidArgument,
            format!("Argument {name} must be an integer between 0 and 2147483647"),
        )),
    }
}

const MAX_PAGE: i32 = 1000;

/// A continuation token is the last key or common prefix, in hexadecimal so that nobody takes it
/// for a key.
fn token_after(last: &str) -> String {
    last.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn parse_token(token: &str) -> Result<String, Fault> {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let pairs = token.as_bytes().chunks_exact(2);
    let bytes = pairs
        .remainder()
        .is_empty()
        .then(|| pairs.map(byte).collect())
        .flatten();
    bytes
        .and_then(|bytes: Vec<u8>| String::from_utf8(bytes).ok())
        .ok_or_else(|| {
            s3_error!(
                InvalidArgument,
                "The continuation token provided is incorrect"
            )
            .into()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_continuation_token_survives_the_round_trip() {
        for last in ["", "a", "dir/", "é+ %\u{10FFFF}"] {
            assert_eq!(parse_token(&token_after(last)).unwrap(), last);
        }
        for wrong in ["a", "zz", "+1", "ff", "é"] {
            assert!(parse_token(wrong).is_err(), "{wrong}");
        }
    }
}
