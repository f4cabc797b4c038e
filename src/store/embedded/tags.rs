//! The tags of objects: GetObjectTagging, PutObjectTagging and DeleteObjectTagging.

use s3s::dto::*;
use s3s::{S3Request, s3_error};

use super::backend::Backend;
use super::fault::Fault;
use super::objects::refuse_version;
use super::records::ObjectPath;
use super::tag_set::{Tags, checked, invalid_tag};

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
