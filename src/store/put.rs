//! One object with one request, and its proof.

use std::collections::HashMap;

use aws_sdk_s3::operation::put_object::PutObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumMode, ServerSideEncryption, StorageClass};
use bytes::Bytes;
use tracing::{Span, error};

use crate::config::Provider;
use crate::store::client::Store;
use crate::store::conditions::{
    Attempts, Replaces, is_failed_condition, is_not_implemented, is_same_etag, overtaken,
};
use crate::store::describe::describe;
use crate::store::error::{Chain, StoreError};
use crate::store::integrity::{Answer, CosChecksum, Digest, Method};
use crate::store::key::ObjectKey;
use crate::store::metadata::Head;
use crate::telemetry::trace_id;

/// `x-amz-meta-trace-id`
pub(super) const TRACE_METADATA: &str = "trace-id";

impl Store {
    /// The id of the trace that makes the object, if that is asked for and there is one.
    pub(super) fn trace_metadata(&self) -> Option<HashMap<String, String>> {
        if !self.object_options().trace_metadata {
            return None;
        }
        let id = trace_id(&Span::current())?;
        Some(HashMap::from([(TRACE_METADATA.to_owned(), id)]))
    }

    /// Stores `bytes` as one object with one request. `kept` is the object that it continues.
    pub(super) async fn put(
        &self,
        key: &ObjectKey,
        bytes: Bytes,
        replaces: &Replaces,
        kept: Option<&Head>,
    ) -> Result<(), StoreError> {
        let known = self.integrity().method();
        match self
            .put_with(key, bytes.clone(), known, replaces, kept)
            .await
        {
            // a store of which nothing was known may not understand the checksum: once more with what all understand
            Err(StoreError::Refused { .. }) if known.is_none() => {
                let method = self.integrity().learn(false);
                self.put_with(key, bytes, Some(method), replaces, kept)
                    .await
            }
            done => done,
        }
    }

    async fn put_with(
        &self,
        key: &ObjectKey,
        bytes: Bytes,
        method: Option<Method>,
        replaces: &Replaces,
        kept: Option<&Head>,
    ) -> Result<(), StoreError> {
        let mut digest = Digest::of(&bytes, method);
        if method == Some(Method::CosCrc64) {
            // COS tells its CRC only after the object is visible; it looks at the MD5 before
            digest = digest.with_md5(&bytes);
        }
        let options = self.object_options();
        let if_match = self.if_match(replaces);
        let request = self
            .client()
            .put_object()
            .bucket(self.bucket())
            .key(key.as_str());
        let request = request
            .content_length(i64::try_from(bytes.len()).unwrap_or(i64::MAX))
            .set_content_md5(digest.content_md5())
            .set_checksum_crc64_nvme(digest.crc64_nvme(method))
            .set_server_side_encryption(self.encryption())
            .set_ssekms_key_id(options.kms_key.clone())
            .set_if_match(if_match.clone())
            .set_if_none_match(self.if_none_match(replaces))
            .body(ByteStream::from(bytes.clone()));
        let request = match kept {
            Some(head) => describe!(request, head),
            None => request
                .content_type(content_type(key))
                .set_metadata(self.trace_metadata())
                .set_storage_class(options.storage_class.as_deref().map(StorageClass::from)),
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
                return Box::pin(self.put_with(key, bytes, method, replaces, kept)).await;
            }
            Err(error) => match self.refused_write("PutObject", error, replaces) {
                // the answer to the first attempt may be lost, and a second one then meets the object of the first
                error @ (StoreError::AlreadyExists | StoreError::Busy { .. })
                    if !attempts.was_one() =>
                {
                    let held = self.holds(key, &digest, digest.etag()).await;
                    return held.map(drop).ok_or(error);
                }
                error => return Err(error),
            },
        };
        if method.is_none() {
            self.integrity()
                .learn(answer.checksum_crc64_nvme().is_some());
        }
        let compared = digest.compare(&"the object", &put_answer(&answer, &cos));
        if compared.is_err() {
            self.take_back(key, answer.e_tag()).await;
        }
        compared
    }

    /// The object's ETag, if the object is just what `digest` describes, by the best proof that the store gives; `etag`
    /// is what it would have without one.
    pub(super) async fn holds(
        &self,
        key: &ObjectKey,
        digest: &Digest,
        etag: Option<String>,
    ) -> Option<String> {
        let request = self
            .client()
            .head_object()
            .bucket(self.bucket())
            .key(key.as_str());
        let cos = CosChecksum::default();
        let request = request
            .checksum_mode(ChecksumMode::Enabled)
            .customize()
            .interceptor(cos.clone());
        let head = request.send().await.ok()?;
        let size = head
            .content_length()
            .and_then(|bytes| u64::try_from(bytes).ok());
        if size != Some(digest.bytes) {
            return None;
        }
        let method = self.integrity().method();
        let nvme = head
            .checksum_crc64_nvme()
            .zip(digest.crc64_nvme(Some(Method::Crc64Nvme)))
            .filter(|_| method == Some(Method::Crc64Nvme));
        let cos = cos
            .get()
            .and_then(|crc| digest.has_crc(crc))
            .filter(|_| method == Some(Method::CosCrc64));
        let is_same = match (nvme, cos) {
            (Some((told, ours)), _) => told == ours,
            (None, Some(is_same)) => is_same,
            (None, None) => {
                let told = head.e_tag().zip(etag.as_deref());
                told.is_some_and(|(told, etag)| is_same_etag(told, etag))
            }
        };
        is_same.then(|| head.e_tag.unwrap_or_default())
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
        R: crate::store::error::HttpStatus + std::fmt::Debug + Send + Sync + 'static,
    {
        let status = error
            .raw_response()
            .map(crate::store::error::HttpStatus::status);
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

    /// The configured server-side encryption, for every request that makes an object.
    pub(super) fn encryption(&self) -> Option<ServerSideEncryption> {
        self.object_options()
            .encryption
            .as_deref()
            .map(ServerSideEncryption::from)
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

    /// Removes an object that turned out not to be what was sent, unless somebody has replaced it since.
    pub(super) async fn take_back(&self, key: &ObjectKey, etag: Option<&str>) {
        match self.head(key).await {
            Ok(head) if etag.is_none_or(|etag| etag == head.etag) => {
                match self.delete_key(key).await {
                    Ok(()) => error!(%key, "an object that differs from what was sent was removed"),
                    Err(failure) => {
                        error!(%key, error = %Chain(&failure), "an object differs from what was sent and could not be removed")
                    }
                }
            }
            Ok(_) | Err(StoreError::NotFound) => {}
            Err(failure) => {
                error!(%key, error = %Chain(&failure), "an object differs from what was sent and could not be removed")
            }
        }
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

/// Says that a request has no body, which the SDK leaves out. Tencent documents the header as required
/// (<https://www.tencentcloud.com/document/product/436/7746>), and Google's store and Ceph's answer 411 without it.
pub(super) fn without_body(request: &mut aws_sdk_s3::config::http::HttpRequest) {
    request.headers_mut().insert("content-length", "0");
}

/// By the ending of the name, as web servers do.
pub(super) fn content_type(key: &ObjectKey) -> &'static str {
    mime_guess::from_path(key.as_str())
        .first_raw()
        .unwrap_or("application/octet-stream")
}
