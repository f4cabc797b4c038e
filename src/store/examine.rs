//! The requests of `cosgate doctor` to a store: each right that the gateway needs by itself, on an object of its own.

use std::sync::Arc;
use std::time::SystemTime;

use aws_credential_types::provider::ProvideCredentials;
use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use bytes::Bytes;
use parking_lot::Mutex;

use crate::chain::Chain;
use crate::config;
use crate::store::client::Store;
use crate::store::conditions::Replaces;
use crate::store::credentials;
use crate::store::describe::Description;
use crate::store::error::StoreError;
use crate::store::head::{content_length, system_time};
use crate::store::http_status::HttpStatus as _;
use crate::store::integrity::Method;
use crate::store::key::ObjectKey;
use crate::store::outcome::new_id;

/// The rights that the gateway needs at a store. All but [`Right::Put`] and [`Right::Multipart`] need the object to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// PutObject
    Put,
    /// HeadObject
    Head,
    /// GetObject
    Get,
    /// ListObjects
    List,
    /// CreateMultipartUpload, UploadPart and AbortMultipartUpload
    Multipart,
    /// CopyObject, for renames and MFMT: onto itself, so that nothing more has to be removed
    Copy,
    /// UploadPartCopy, for APPE, REST and renames of objects over 5 GB
    CopyPart,
    /// ListMultipartUploads, for the sweep of what dead gateways left
    ListUploads,
    /// DeleteObject
    Delete,
}

/// Obtains credentials once, and says when they expire, if they do.
pub async fn credentials(storage: &config::Storage) -> Result<Option<SystemTime>, String> {
    let chain = credentials::aws_chain(storage).await;
    let (provider, _) = credentials::provider(storage, chain.as_ref());
    let provider = provider.ok_or_else(|| "no source hands any out".to_owned())?;
    match provider.provide_credentials().await {
        Ok(credentials) => Ok(credentials.expiry()),
        Err(error) => Err(Chain(&error).to_string()),
    }
}

impl Store {
    /// Asks for the bucket; besides, the store's time as its answer reports it.
    pub async fn examine_bucket(&self) -> (Result<(), StoreError>, Option<SystemTime>) {
        let time = ServerTime::default();
        let request = self.client().head_bucket().bucket(self.bucket());
        let answer = request.customize().interceptor(time.clone()).send().await;
        let answer = match answer {
            // a web server that answers 200 to everything passes a HEAD; only an S3 server answers with a listing
            Ok(_) => self.probe().await,
            // the answer to a HEAD has no body, so only a listing tells the reason
            Err(error) => match self.keys("", None, Some(1), None).await {
                Ok(_) => Err(StoreError::from_sdk("HeadBucket", error)),
                Err(reason) => Err(reason),
            },
        };
        (answer, time.get())
    }

    /// True if the bucket has versioning, or had it: `Enabled` or `Suspended`; none if it never had.
    pub async fn examine_versioning(&self) -> Result<Option<String>, StoreError> {
        let request = self.client().get_bucket_versioning().bucket(self.bucket());
        let answer = request.send().await;
        let answer = answer.map_err(|error| StoreError::from_sdk("GetBucketVersioning", error))?;
        Ok(answer.status().map(|status| status.as_str().to_owned()))
    }

    /// Uses one right.
    pub async fn examine(&self, right: Right, key: &ObjectKey) -> Result<(), StoreError> {
        match right {
            Right::Put => {
                let bytes = Bytes::from_static(PROBE);
                self.put(key, bytes, &Replaces::Any, &Description::nothing())
                    .await
                    .map(drop)
            }
            Right::Head => self.head(key).await.and_then(|head| {
                same(
                    head.size == PROBE.len() as u64,
                    "HeadObject tells another size",
                )
            }),
            Right::Get => {
                let got = self.client().get_object().bucket(self.bucket());
                let got = got.key(key.as_str()).send().await;
                let got = got.map_err(|error| StoreError::from_sdk("GetObject", error))?;
                let size = content_length("GetObject", got.content_length())?;
                same(size == PROBE.len() as u64, "GetObject tells another size")?;
                let body = got.body.collect().await.map(|body| body.into_bytes());
                let body = body.map_err(|error| StoreError::Unavailable {
                    operation: "GetObject",
                    source: Box::new(error),
                })?;
                same(body == PROBE, "other bytes came back than were stored")
            }
            Right::List => {
                let objects = self.first_objects(key.as_str(), 1).await?;
                let listed = objects.first().and_then(|object| object.key());
                same(
                    listed == Some(key.as_str()),
                    "the listing doesn't show what was just stored",
                )
            }
            Right::Multipart => {
                let mut upload = self
                    .begin_multipart(key, new_id(), Replaces::Any, &Description::nothing())
                    .await?;
                let part = upload.part(1).send(Bytes::from_static(PROBE)).await;
                let aborted = upload.try_abort().await;
                part.and(aborted)
            }
            Right::Copy => {
                let head = self.head(key).await?;
                self.replace_metadata(key, head).await
            }
            Right::CopyPart => {
                let head = self.head(key).await?;
                let mut copying = self.begin_copy(key, &head, Replaces::Any).await?;
                let part = self.client().upload_part_copy().bucket(self.bucket());
                // the whole object: S3 takes no range of one that has 5 MiB or less
                let part = part.key(key.as_str()).copy_source(self.copy_source(key));
                let part = part.upload_id(copying.id()).part_number(1).send().await;
                let aborted = copying.try_abort().await;
                part.map_err(|error| StoreError::from_sdk("UploadPartCopy", error))?;
                aborted
            }
            Right::ListUploads => {
                let asked = self.client().list_multipart_uploads();
                let asked = asked.bucket(self.bucket()).prefix(key.as_str());
                let asked = asked.max_uploads(1).send().await;
                asked
                    .map(drop)
                    .map_err(|error| StoreError::from_sdk("ListMultipartUploads", error))
            }
            Right::Delete => self.delete_key(key).await,
        }
    }

    /// The way uploads are compared with what the store has; known after the first upload.
    pub fn proof(&self) -> &'static str {
        match self.integrity().method() {
            Some(Method::Crc64Nvme) => "CRC-64/NVME of the whole object",
            Some(Method::CosCrc64) => "COS's CRC-64 of the whole object",
            Some(Method::Md5) => "MD5 of each part, since the store tells no checksum of its own",
            Some(Method::Off) => "off",
            None => "not known before the first upload",
        }
    }
}

impl Right {
    /// All of them, the object's end last.
    pub const ALL: [Right; 9] = [
        Right::Put,
        Right::Head,
        Right::Get,
        Right::List,
        Right::Multipart,
        Right::Copy,
        Right::CopyPart,
        Right::ListUploads,
        Right::Delete,
    ];

    /// The actions that a policy has to allow, at S3 and at COS.
    pub fn actions(self) -> (&'static str, &'static str) {
        match self {
            Right::Put => ("s3:PutObject", "name/cos:PutObject"),
            Right::Head => ("s3:GetObject", "name/cos:HeadObject"),
            Right::Get => ("s3:GetObject", "name/cos:GetObject"),
            Right::List => ("s3:ListBucket", "name/cos:GetBucket"),
            Right::Multipart => (
                "s3:PutObject and s3:AbortMultipartUpload",
                "name/cos:InitiateMultipartUpload, UploadPart and AbortMultipartUpload",
            ),
            Right::Copy => (
                "s3:GetObject and s3:PutObject",
                "name/cos:GetObject, HeadObject and PutObjectCopy",
            ),
            Right::CopyPart => (
                "s3:GetObject, s3:PutObject and s3:AbortMultipartUpload",
                "name/cos:GetObject, InitiateMultipartUpload, UploadPartCopy and AbortMultipartUpload",
            ),
            Right::ListUploads => (
                "s3:ListBucketMultipartUploads",
                "name/cos:ListMultipartUploads",
            ),
            Right::Delete => ("s3:DeleteObject", "name/cos:DeleteObject"),
        }
    }
}

fn same(is_same: bool, detail: &str) -> Result<(), StoreError> {
    is_same.then_some(()).ok_or_else(|| StoreError::Integrity {
        detail: detail.to_owned(),
    })
}

/// Keeps the `Date` of an answer.
#[derive(Debug, Clone, Default)]
struct ServerTime(Arc<Mutex<Option<SystemTime>>>);

impl ServerTime {
    fn get(&self) -> Option<SystemTime> {
        *self.0.lock()
    }
}

impl Intercept for ServerTime {
    fn name(&self) -> &'static str {
        "ServerTime"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(time) = context.response().date().as_ref().and_then(system_time) {
            *self.0.lock() = Some(time);
        }
        Ok(())
    }
}

/// The content of the examined object.
const PROBE: &[u8] = b"cosgate doctor was here and removes this again\n";
