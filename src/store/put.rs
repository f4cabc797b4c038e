//! One object with one request, and its proof.

use std::collections::HashMap;

use aws_sdk_s3::operation::put_object::PutObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ServerSideEncryption, StorageClass};
use bytes::Bytes;
use tracing::Span;

use crate::config::Provider;
use crate::store::attempts::Attempts;
use crate::store::checksum::ObjectChecksum;
use crate::store::client::Store;
use crate::store::conditions::{
    Replaces, is_failed_condition, is_not_implemented, is_same_etag, overtaken, quoted,
};
use crate::store::cos_checksum::CosChecksum;
use crate::store::describe::{Description, TRACE_METADATA, describe, describe_new, tagging};
use crate::store::digest::{Answer, Comparison, Digest};
use crate::store::error::StoreError;
use crate::store::integrity::Method;
use crate::store::key::ObjectKey;
use crate::store::outcome::{Doubt, Expected, ID_METADATA, new_id};
use crate::telemetry::trace_id;

/// An object that is to be stored with one request.
struct NewObject<'a> {
    key: &'a ObjectKey,
    bytes: Bytes,
    /// The mark of the upload.
    id: String,
    replaces: &'a Replaces,
    description: &'a Description,
}

/// The proof that an object is as it was sent.
#[derive(Debug)]
pub(super) struct Proof {
    pub etag: String,
    pub checksum: Option<ObjectChecksum>,
}

impl Proof {
    pub(super) fn new(etag: String, digest: &Digest, method: Option<Method>) -> Self {
        Proof {
            etag,
            checksum: digest.checksum(method),
        }
    }
}

impl Store {
    /// The id of the trace that makes the object, if that is asked for and there is one.
    pub(super) fn trace_metadata(&self) -> Option<HashMap<String, String>> {
        if !self.object_options().trace_metadata {
            return None;
        }
        let id = trace_id(&Span::current())?;
        Some(HashMap::from([(TRACE_METADATA.to_owned(), id)]))
    }

    /// The metadata of a new object: the mark of its upload, its trace, and `more`.
    pub(super) fn new_metadata(
        &self,
        id: &str,
        more: &HashMap<String, String>,
    ) -> HashMap<String, String> {
        let mut metadata: HashMap<_, _> = self.object_options().metadata.iter().cloned().collect();
        metadata.extend(self.trace_metadata().unwrap_or_default());
        metadata.extend(more.clone());
        metadata.insert(ID_METADATA.to_owned(), id.to_owned());
        metadata
    }

    /// Stores `bytes` as one object with one request; returns its ETag.
    pub(super) async fn put(
        &self,
        key: &ObjectKey,
        bytes: Bytes,
        replaces: &Replaces,
        description: &Description,
    ) -> Result<Proof, StoreError> {
        let id = new_id();
        self.put_marked(key, bytes, id, replaces, description).await
    }

    /// As [`Store::put`], with a mark of the caller's.
    pub(super) async fn put_marked(
        &self,
        key: &ObjectKey,
        bytes: Bytes,
        id: String,
        replaces: &Replaces,
        description: &Description,
    ) -> Result<Proof, StoreError> {
        let known = self.integrity().method();
        let put = NewObject {
            key,
            bytes,
            id,
            replaces,
            description,
        };
        match self.put_with(&put, known).await {
            // a store of which nothing was known may not understand the checksum: once more with what all understand
            Err(StoreError::Refused { .. }) if known.is_none() => {
                let done = self.put_with(&put, Some(Method::Md5)).await;
                if done.is_ok() {
                    self.integrity().note_refusal();
                }
                done
            }
            done => done,
        }
    }

    async fn put_with(
        &self,
        put: &NewObject<'_>,
        method: Option<Method>,
    ) -> Result<Proof, StoreError> {
        let NewObject { key, replaces, .. } = put;
        let mut digest = Digest::of(&put.bytes, method).await;
        if method == Some(Method::CosCrc64) {
            // COS tells its CRC only after the object is visible; it looks at the MD5 before
            digest = digest.with_md5(&put.bytes).await;
        }
        let expected = Expected {
            operation: "PutObject",
            id: &put.id,
            digest: &digest,
            method,
            composite_etag: None,
        };
        let options = self.object_options();
        let if_match = self.if_match(replaces);
        let request = self
            .client()
            .put_object()
            .bucket(self.bucket())
            .key(key.as_str());
        let request = request
            .content_length(i64::try_from(put.bytes.len()).unwrap_or(i64::MAX))
            .set_content_md5(digest.content_md5())
            .set_checksum_crc64_nvme(digest.crc64_nvme(method))
            .set_server_side_encryption(self.encryption())
            .set_ssekms_key_id(options.kms_key.clone())
            .set_if_match(if_match.clone())
            .set_if_none_match(self.if_none_match(replaces))
            .body(ByteStream::from(put.bytes.clone()));
        let request = match put.description {
            Description::Of(head) => describe!(request, head).metadata(ID_METADATA, &put.id),
            Description::New(more) => describe_new!(request, self, key, &put.id, more),
        };
        let (cos, attempts) = (CosChecksum::default(), Attempts::default());
        let mut request = request
            .customize()
            .config_override(self.timeouts_for(digest.bytes))
            .interceptor(attempts.clone())
            .interceptor(cos.clone());
        if self.unsigned_payload() {
            request = request.disable_payload_signing();
        }
        if self.forbids_overwrite(replaces) {
            request = request.mutate_request(forbid_overwrite);
        }
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) if if_match.is_some() && is_not_implemented(&error) => {
                self.conditions().write.learn(false);
                self.check_unchanged(key, replaces).await?;
                return Box::pin(self.put_with(put, method)).await;
            }
            Err(error) => {
                let error = self.refused_write("PutObject", error, replaces);
                return if attempts.may_be_done() {
                    let doubt = Doubt::Failed(attempts.not_done("PutObject", error));
                    let etag = self.resolve(key, &expected, doubt).await?;
                    Ok(Proof::new(etag, &digest, self.integrity().method()))
                } else {
                    Err(error)
                };
            }
        };
        let mut etag = answer.e_tag.clone();
        let doubt = match digest.compare(method, &put_answer(&answer, &cos)) {
            Comparison::Same => None,
            Comparison::Unproved => Some(Doubt::Unproved(etag.take())),
            Comparison::Differs(kind) => Some(Doubt::Differs {
                kind,
                etag: etag.take(),
            }),
        };
        if let Some(doubt) = doubt {
            etag = Some(self.resolve(key, &expected, doubt).await?);
        }
        if method.is_none() {
            self.integrity()
                .learn(answer.checksum_crc64_nvme().is_some());
        }
        let etag = etag.unwrap_or_default();
        Ok(Proof::new(etag, &digest, self.integrity().method()))
    }

    /// With `upload.overwrite: false` a taken name is refused before anything is sent or copied. The store refuses it
    /// again at the end of an upload, for those who race.
    pub(super) async fn may_create(&self, key: &ObjectKey) -> Result<(), StoreError> {
        if self.object_options().overwrite {
            return Ok(());
        }
        match self.head(key).await {
            Err(StoreError::NotFound) => Ok(()),
            Ok(_) => Err(StoreError::AlreadyExists),
            Err(error) => Err(error),
        }
    }

    /// A write that must not replace anything, or only one version, fails with 412 (S3) or 409 (COS) if another one is
    /// there.
    pub(super) fn refused_write<E, R>(
        &self,
        operation: &'static str,
        error: aws_sdk_s3::error::SdkError<E, R>,
        replaces: &Replaces,
    ) -> StoreError
    where
        E: aws_sdk_s3::error::ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
        R: crate::store::http_status::HttpStatus + std::fmt::Debug + Send + Sync + 'static,
    {
        let status = error
            .raw_response()
            .map(crate::store::http_status::HttpStatus::status);
        match (replaces, status) {
            (Replaces::Any, Some(409 | 412)) if !self.object_options().overwrite => {
                StoreError::AlreadyExists
            }
            (Replaces::Version(_), Some(412)) => {
                self.conditions().write.learn(true);
                overtaken()
            }
            (Replaces::Version(_) | Replaces::Nothing, _) if is_failed_condition(&error) => {
                overtaken()
            }
            _ => StoreError::from_sdk(operation, error),
        }
    }

    /// The content type of a new object.
    pub(super) fn new_content_type(&self, key: &ObjectKey) -> String {
        let configured = self.object_options().content_type.clone();
        configured.unwrap_or_else(|| content_type(key).to_owned())
    }

    /// The configured server-side encryption, for every request that makes an object.
    pub(super) fn encryption(&self) -> Option<ServerSideEncryption> {
        self.object_options()
            .encryption
            .as_deref()
            .map(ServerSideEncryption::from)
    }

    /// The value of `If-Match` for a write.
    pub(super) fn if_match(&self, replaces: &Replaces) -> Option<String> {
        match replaces {
            Replaces::Version(etag) if self.conditions().write.get() != Some(false) => {
                Some(quoted(etag)).filter(|_| !etag.is_empty())
            }
            Replaces::Any | Replaces::Nothing | Replaces::Version(_) => None,
        }
    }

    /// True if a write must not replace anything.
    pub(super) fn must_be_new(&self, replaces: &Replaces) -> bool {
        match replaces {
            Replaces::Any => !self.object_options().overwrite,
            Replaces::Nothing => true,
            Replaces::Version(_) => false,
        }
    }

    /// Looks whether what is to be replaced is still there, where the store can't be relied on to look itself.
    pub(super) async fn check_unchanged(
        &self,
        key: &ObjectKey,
        replaces: &Replaces,
    ) -> Result<(), StoreError> {
        if *replaces == Replaces::Any || self.conditions().write.is_known() {
            return Ok(());
        }
        match (self.head(key).await, replaces) {
            (Ok(head), Replaces::Version(etag)) if is_same_etag(&head.etag, etag) => Ok(()),
            (Err(StoreError::NotFound), Replaces::Nothing) => Ok(()),
            (Ok(_), _) | (Err(StoreError::NotFound), _) => Err(overtaken()),
            (Err(error), _) => Err(error),
        }
    }

    /// `If-None-Match` for a write that must not replace anything.
    pub(super) fn if_none_match(&self, replaces: &Replaces) -> Option<String> {
        let is_cos = self.object_options().provider == Provider::Cos;
        (self.must_be_new(replaces) && !is_cos).then(|| "*".to_owned())
    }

    /// COS has its own header for that, [`forbid_overwrite`].
    pub(super) fn forbids_overwrite(&self, replaces: &Replaces) -> bool {
        self.must_be_new(replaces) && self.object_options().provider == Provider::Cos
    }
}

fn put_answer<'a>(answer: &'a PutObjectOutput, cos: &CosChecksum) -> Answer<'a> {
    Answer {
        crc64_nvme: answer.checksum_crc64_nvme(),
        cos_crc64: cos.get(),
        etag: answer.e_tag(),
        encrypted: answer.server_side_encryption().is_some(),
    }
}

/// COS's own way to say that nothing may be replaced
/// (<https://www.tencentcloud.com/document/product/436/7749>).
pub(super) fn forbid_overwrite(request: &mut aws_sdk_s3::config::http::HttpRequest) {
    request
        .headers_mut()
        .insert("x-cos-forbid-overwrite", "true");
}

/// By the ending of the name, as web servers do.
fn content_type(key: &ObjectKey) -> &'static str {
    mime_guess::from_path(key.as_str())
        .first_raw()
        .unwrap_or("application/octet-stream")
}
