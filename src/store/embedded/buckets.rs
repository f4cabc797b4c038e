//! Operations on buckets.

use s3s::dto::*;
use s3s::{S3Request, s3_error};

use super::backend::{Backend, now};
use super::conditions::timestamp;
use super::fault::Fault;
use super::tables::Tables;

/// `409 BucketAlreadyOwnedByYou` when it exists.
pub(super) async fn create(
    backend: &Backend,
    request: S3Request<CreateBucketInput>,
) -> Result<CreateBucketOutput, Fault> {
    let bucket = request.input.bucket;
    let location = format!("/{bucket}");
    backend
        .index
        .write(move |tables| {
            if tables.has_bucket(&bucket)? {
                return Err(s3_error!(
                    BucketAlreadyOwnedByYou,
                    "Your previous request to create the named bucket succeeded and you already \
                     own it."
                )
                .into());
            }
            tables.insert_bucket(&bucket, now())
        })
        .await?;
    Ok(CreateBucketOutput {
        location: Some(location),
    })
}

/// Creates a bucket unless it exists.
pub(super) fn ensure(tables: &mut Tables<'_>, bucket: &str) -> Result<(), Fault> {
    if tables.has_bucket(bucket)? {
        Ok(())
    } else {
        tables.insert_bucket(bucket, now())
    }
}

pub(super) async fn head(
    backend: &Backend,
    request: S3Request<HeadBucketInput>,
) -> Result<HeadBucketOutput, Fault> {
    backend
        .index
        .read(move |view| view.require_bucket(&request.input.bucket))
        .await?;
    Ok(HeadBucketOutput {
        bucket_region: Some(REGION.to_owned()),
        ..Default::default()
    })
}

/// All buckets at once: a store for trials has a handful.
pub(super) async fn list(
    backend: &Backend,
    request: S3Request<ListBucketsInput>,
) -> Result<ListBucketsOutput, Fault> {
    let prefix = request.input.prefix;
    let wanted = prefix.clone().unwrap_or_default();
    let buckets = backend
        .index
        .read(move |view| {
            let mut buckets = Vec::new();
            for bucket in view.buckets()?.range::<&str>(wanted.as_str()..)? {
                let (name, created) = bucket?;
                if !name.value().starts_with(&wanted) {
                    break;
                }
                buckets.push(Bucket {
                    name: Some(name.value().to_owned()),
                    creation_date: Some(timestamp(created.value())),
                    ..Default::default()
                });
            }
            Ok(buckets)
        })
        .await?;
    Ok(ListBucketsOutput {
        buckets: Some(buckets),
        owner: Some(owner()),
        prefix,
        ..Default::default()
    })
}

/// An empty location constraint is how S3 says `us-east-1`.
pub(super) async fn location(
    backend: &Backend,
    request: S3Request<GetBucketLocationInput>,
) -> Result<GetBucketLocationOutput, Fault> {
    backend
        .index
        .read(move |view| view.require_bucket(&request.input.bucket))
        .await?;
    Ok(GetBucketLocationOutput::default())
}

pub(super) fn owner() -> Owner {
    Owner {
        id: Some("embedded".to_owned()),
        ..Default::default()
    }
}

/// Requests may be signed for any region; this is the one that is reported.
const REGION: &str = "us-east-1";
