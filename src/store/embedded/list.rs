//! ListObjects, both versions, and what all listings share.

use std::ops::Bound;

use s3s::dto::*;
use s3s::{S3Request, s3_error};

use super::backend::Backend;
use super::buckets::owner;
use super::conditions::timestamp;
use super::fault::Fault;
use super::listing::{Page, Query, url_encode};
use super::records::{Attributes, ObjectPath, ObjectRecord, decode};
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

/// The request for a page of objects.
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
    let entry = |(key, record)| {
        let mut object = object_entry(encoding.apply(key), record);
        object.owner = with_owner.then(owner);
        object
    };
    (
        items.into_iter().map(entry).collect(),
        common_prefixes(prefixes, encoding),
    )
}

fn object_entry(key: String, record: ObjectRecord) -> Object {
    let checksum = record.checksum.as_ref();
    Object {
        key: Some(key),
        size: Some(record.length.cast_signed()),
        last_modified: Some(timestamp(record.modified)),
        checksum_algorithm: checksum
            .map(|checksum| vec![ChecksumAlgorithm::from_static(checksum.algorithm.name())]),
        checksum_type: checksum.map(|checksum| ChecksumType::from_static(checksum.kind.name())),
        e_tag: Some(ETag::Strong(record.etag)),
        storage_class: Some(storage_class(record.attributes).into()),
        ..Default::default()
    }
}

/// Listings, unlike the headers of an object, name the standard class as well.
pub(super) fn storage_class(attributes: Attributes) -> String {
    attributes
        .storage_class
        .unwrap_or_else(|| StorageClass::STANDARD.to_owned())
}

pub(super) fn common_prefixes(prefixes: Vec<String>, encoding: Encoding) -> Vec<CommonPrefix> {
    let prefix = |prefix| CommonPrefix {
        prefix: Some(encoding.apply(prefix)),
    };
    prefixes.into_iter().map(prefix).collect()
}

/// The way keys are written in an answer.
#[derive(Clone, Copy)]
pub(super) enum Encoding {
    Plain,
    Url,
}

impl Encoding {
    pub(super) fn parse(asked: Option<EncodingType>) -> Result<Self, Fault> {
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

    pub(super) fn apply(self, text: String) -> String {
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
pub(super) fn limit(asked: Option<i32>, name: &str) -> Result<usize, Fault> {
    match usize::try_from(asked.unwrap_or(MAX_PAGE)) {
        Ok(limit) => Ok(limit.min(MAX_PAGE as usize)),
        Err(_) => Err(Fault::refused(
            s3s::S3ErrorCode::InvalidArgument,
            format!("Argument {name} must be an integer between 0 and 2147483647"),
        )),
    }
}

/// Keys of a page, as with S3.
const MAX_PAGE: i32 = 1000;

/// A continuation token is the last key or common prefix, in hexadecimal so that nobody takes it
/// for a key.
fn token_after(last: &str) -> String {
    last.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn parse_token(token: &str) -> Result<String, Fault> {
    let digit = |digit: &u8| char::from(*digit).to_digit(16).map(|digit| digit as u8);
    let byte = |pair: &[u8]| match pair {
        [high, low] => Some(digit(high)? << 4 | digit(low)?),
        _ => None,
    };
    let bytes: Option<Vec<u8>> = token.as_bytes().chunks(2).map(byte).collect();
    bytes
        .and_then(|bytes| String::from_utf8(bytes).ok())
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
