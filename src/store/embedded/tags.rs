//! The tags of objects: GetObjectTagging, PutObjectTagging and DeleteObjectTagging, and the header `x-amz-tagging`.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;
use s3s::dto::*;
use s3s::{S3Error, S3Request, S3Response, s3_error};

use super::backend::Backend;
use super::fault::Fault;
use super::objects::refuse_version;
use super::records::{ObjectPath, ObjectRecord};

/// Tags of one object, names and values in letters, as on AWS
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-tagging.html>).
const MAX_TAGS: usize = 10;
const MAX_NAME: usize = 128;
const MAX_VALUE: usize = 256;

/// Tags by their names.
pub(super) type Tags = BTreeMap<String, String>;

pub(super) async fn get(
    backend: &Backend,
    request: S3Request<GetObjectTaggingInput>,
) -> Result<GetObjectTaggingOutput, Fault> {
    let input = request.input;
    refuse_version(input.version_id.as_deref())?;
    let (bucket, key) = (input.bucket, input.key);
    let object = backend
        .index
        .read(move |view| view.require_object(&bucket, &key))
        .await?;
    let tag = |(key, value)| Tag {
        key: Some(key),
        value: Some(value),
    };
    Ok(GetObjectTaggingOutput {
        tag_set: object.attributes.tags.into_iter().map(tag).collect(),
        ..Default::default()
    })
}

pub(super) async fn put(
    backend: &Backend,
    request: S3Request<PutObjectTaggingInput>,
) -> Result<PutObjectTaggingOutput, Fault> {
    let input = request.input;
    refuse_version(input.version_id.as_deref())?;
    let named = input.tagging.tag_set.into_iter().map(|tag| {
        let (key, value) = (tag.key, tag.value);
        key.map(|key| (key, value.unwrap_or_default()))
    });
    let tags = checked(named.collect::<Option<Vec<_>>>().ok_or_else(invalid_tag)?)?;
    replace(backend, input.bucket, input.key, tags).await?;
    Ok(PutObjectTaggingOutput::default())
}

pub(super) async fn delete(
    backend: &Backend,
    request: S3Request<DeleteObjectTaggingInput>,
) -> Result<DeleteObjectTaggingOutput, Fault> {
    let input = request.input;
    refuse_version(input.version_id.as_deref())?;
    replace(backend, input.bucket, input.key, Tags::new()).await?;
    Ok(DeleteObjectTaggingOutput::default())
}

/// Gives an object other tags; its time and its ETag stay.
async fn replace(backend: &Backend, bucket: String, key: String, tags: Tags) -> Result<(), Fault> {
    let path = ObjectPath::new(&bucket, &key);
    backend
        .index
        .write_small(move |tables| {
            tables.require_bucket(&bucket)?;
            let object = tables.object(&path)?;
            let mut object =
                object.ok_or_else(|| s3_error!(NoSuchKey, "The specified key does not exist."))?;
            object.attributes.tags = tags;
            tables.replace_record(&path, &object)
        })
        .await
}

/// The tags in `x-amz-tagging`, which has the form of a URL's query.
pub(super) fn parse(header: Option<&str>) -> Result<Tags, Fault> {
    let pairs = header.unwrap_or_default().split('&');
    let pairs = pairs.filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Some((decoded(name)?, decoded(value)?))
    });
    checked(pairs.collect::<Option<Vec<_>>>().ok_or_else(invalid_tag)?)
}

fn decoded(text: &str) -> Option<String> {
    let text = text.replace('+', " ");
    Some(percent_decode_str(&text).decode_utf8().ok()?.into_owned())
}

fn checked(pairs: Vec<(String, String)>) -> Result<Tags, Fault> {
    if pairs.len() > MAX_TAGS {
        return Err(s3_error!(InvalidTag, "Object tags cannot be greater than 10").into());
    }
    let count = pairs.len();
    let is_valid = |(name, value): &(String, String)| {
        (1..=MAX_NAME).contains(&name.chars().count()) && value.chars().count() <= MAX_VALUE
    };
    let all_valid = pairs.iter().all(is_valid);
    let tags: Tags = pairs.into_iter().collect();
    if !all_valid || tags.len() < count {
        return Err(invalid_tag().into());
    }
    Ok(tags)
}

fn invalid_tag() -> S3Error {
    s3_error!(
        InvalidTag,
        "A tag has no name, is too long, or is there twice."
    )
}

/// HEAD with the number of tags, for which the S3 library's type of the answer has no field.
pub(super) fn with_count(
    output: HeadObjectOutput,
    object: &ObjectRecord,
) -> S3Response<HeadObjectOutput> {
    let mut response = S3Response::new(output);
    let count = object.attributes.tags.len();
    if count > 0 {
        response.headers.insert("x-amz-tagging-count", count.into());
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_a_query_and_what_is_no_tag_is_refused() {
        let tags = parse(Some("a=1&b%20c=%C3%A4+x&d")).unwrap();
        let pairs = [("a", "1"), ("b c", "ä x"), ("d", "")];
        assert_eq!(
            tags,
            pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).into()
        );
        assert!(parse(None).unwrap().is_empty());
        let many: Vec<String> = (0..=MAX_TAGS).map(|n| format!("t{n}=")).collect();
        for bad in ["=1", "a=1&a=2", "a=%ff", &many.join("&"), &"n".repeat(129)] {
            assert!(parse(Some(bad)).is_err(), "{bad}");
        }
    }
}
