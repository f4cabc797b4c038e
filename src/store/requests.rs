//! The requests of an upload, each with its proof: one PutObject, or a multipart upload from its beginning to its end.
//!
//! Invariant: a [`Multipart`] that was begun is completed or aborted, also when its owner is dropped.

use std::collections::HashMap;
use std::ops::Range;
use std::time::Duration;

use aws_sdk_s3::operation::create_multipart_upload::CreateMultipartUploadOutput;
use aws_sdk_s3::operation::put_object::PutObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ChecksumMode, ChecksumType, CompletedMultipartUpload, CompletedPart,
    ServerSideEncryption, StorageClass,
};
use bytes::Bytes;
use tracing::{Instrument, Span, debug, error, info, warn};

use crate::config::Provider;
use crate::store::client::Store;
use crate::store::error::{Chain, StoreError};
use crate::store::integrity::{Answer, CosChecksum, Digest, Method, composite_etag};
use crate::store::key::ObjectKey;
use crate::telemetry::trace_id;

/// `x-amz-meta-trace-id`
const TRACE_METADATA: &str = "trace-id";

/// How long to try to abort a multipart upload; the janitor sweeps what remains.
const ABORT_WITHIN: Duration = Duration::from_secs(20);

/// A multipart upload that is neither completed nor aborted yet.
pub(super) struct Multipart {
    store: Store,
    key: ObjectKey,
    /// Taken when it is completed or aborted.
    id: Option<String>,
    method: Method,
}

/// A part that the store has acknowledged, and whose acknowledgement was compared.
#[derive(Debug, Clone)]
pub(super) struct Acknowledged {
    number: i32,
    etag: Option<String>,
    digest: Digest,
}

impl Store {
    /// Stores `bytes` as one object with one request.
    pub(super) async fn put(&self, key: &ObjectKey, bytes: Bytes) -> Result<(), StoreError> {
        let known = self.integrity().method();
        match self.put_with(key, bytes.clone(), known).await {
            // a store of which nothing was known may not understand the checksum: once more with what all understand
            Err(StoreError::Refused { .. }) if known.is_none() => {
                let method = self.integrity().learn(false);
                self.put_with(key, bytes, Some(method)).await
            }
            done => done,
        }
    }

    async fn put_with(
        &self,
        key: &ObjectKey,
        bytes: Bytes,
        method: Option<Method>,
    ) -> Result<(), StoreError> {
        let mut digest = Digest::of(&bytes, method);
        if method == Some(Method::CosCrc64) {
            // COS tells its CRC only after the object is visible; it looks at the MD5 before
            digest = digest.with_md5(&bytes);
        }
        let options = self.object_options();
        let request = self
            .client()
            .put_object()
            .bucket(self.bucket())
            .key(key.as_str());
        let request = request
            .content_length(i64::try_from(bytes.len()).unwrap_or(i64::MAX))
            .content_type(content_type(key))
            .set_metadata(self.trace_metadata())
            .set_content_md5(digest.content_md5())
            .set_checksum_crc64_nvme(digest.crc64_nvme(method))
            .set_storage_class(options.storage_class.as_deref().map(StorageClass::from))
            .set_server_side_encryption(self.encryption())
            .set_ssekms_key_id(options.kms_key.clone())
            .set_if_none_match(self.if_none_match())
            .body(ByteStream::from(bytes));
        let cos = CosChecksum::default();
        let mut request = request
            .customize()
            .config_override(self.timeouts_for(digest.bytes))
            .interceptor(cos.clone());
        if self.unsigned_payload() {
            request = request.disable_payload_signing();
        }
        if self.forbids_overwrite() {
            request = request.mutate_request(forbid_overwrite);
        }
        let answer = match request
            .send()
            .await
            .map_err(|error| self.refused_write("PutObject", error))
        {
            Ok(answer) => answer,
            // the answer to the first attempt may be lost, and a second one then meets the object of the first
            Err(StoreError::AlreadyExists) if self.holds(key, &digest, digest.etag()).await => {
                return Ok(());
            }
            Err(error) => return Err(error),
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

    /// Asks whether the object is just what `digest` describes, by the best proof that the store gives; `etag` is what
    /// it would have without one.
    async fn holds(&self, key: &ObjectKey, digest: &Digest, etag: Option<String>) -> bool {
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
        let Ok(head) = request.send().await else {
            return false;
        };
        let size = head
            .content_length()
            .and_then(|bytes| u64::try_from(bytes).ok());
        if size != Some(digest.bytes) {
            return false;
        }
        let nvme = head
            .checksum_crc64_nvme()
            .zip(digest.crc64_nvme(Some(Method::Crc64Nvme)));
        if let (Some((told, ours)), Some(Method::Crc64Nvme)) = (nvme, self.integrity().method()) {
            return told == ours;
        }
        if let (Some(same), Some(Method::CosCrc64)) = (
            cos.get().and_then(|crc| digest.has_crc(crc)),
            self.integrity().method(),
        ) {
            return same;
        }
        let told = head.e_tag().map(|etag| etag.trim_matches('"'));
        told.is_some() && told == etag.as_deref()
    }

    /// Begins a multipart upload.
    pub(super) async fn begin_multipart(&self, key: &ObjectKey) -> Result<Multipart, StoreError> {
        let known = self.integrity().method();
        let answer = match self.create_multipart(key, known).await {
            Err(StoreError::Refused { .. }) if known.is_none() => {
                self.create_multipart(key, Some(self.integrity().learn(false)))
                    .await?
            }
            answer => answer?,
        };
        let method = known.unwrap_or_else(|| {
            self.integrity()
                .learn(answer.checksum_algorithm().is_some())
        });
        let id = answer.upload_id.filter(|id| !id.is_empty());
        let id = id.ok_or(StoreError::Integrity {
            detail: "the store gave no upload id".to_owned(),
        })?;
        debug!(%key, upload_id = %id, "multipart upload begun");
        Ok(Multipart {
            store: self.clone(),
            key: key.clone(),
            id: Some(id),
            method,
        })
    }

    async fn create_multipart(
        &self,
        key: &ObjectKey,
        method: Option<Method>,
    ) -> Result<CreateMultipartUploadOutput, StoreError> {
        let options = self.object_options();
        let nvme = matches!(method, None | Some(Method::Crc64Nvme));
        let request = self
            .client()
            .create_multipart_upload()
            .bucket(self.bucket())
            .key(key.as_str());
        let request = request
            .content_type(content_type(key))
            .set_metadata(self.trace_metadata())
            .set_checksum_algorithm(nvme.then_some(ChecksumAlgorithm::Crc64Nvme))
            .set_checksum_type(nvme.then_some(ChecksumType::FullObject))
            .set_storage_class(options.storage_class.as_deref().map(StorageClass::from))
            .set_server_side_encryption(self.encryption())
            .set_ssekms_key_id(options.kms_key.clone());
        request
            .send()
            .await
            .map_err(|error| StoreError::from_sdk("CreateMultipartUpload", error))
    }

    /// A write that must not replace anything fails with 412 (S3) or 409 (COS) if the name is taken.
    fn refused_write<E, R>(
        &self,
        operation: &'static str,
        error: aws_sdk_s3::error::SdkError<E, R>,
    ) -> StoreError
    where
        E: aws_sdk_s3::error::ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
        R: crate::store::error::HttpStatus + std::fmt::Debug + Send + Sync + 'static,
    {
        let status = error
            .raw_response()
            .map(crate::store::error::HttpStatus::status);
        match status {
            Some(409 | 412) if !self.object_options().overwrite => StoreError::AlreadyExists,
            _ => StoreError::from_sdk(operation, error),
        }
    }

    /// The id of the trace that makes the object, if that is asked for and there is one.
    fn trace_metadata(&self) -> Option<HashMap<String, String>> {
        if !self.object_options().trace_metadata {
            return None;
        }
        let id = trace_id(&Span::current())?;
        Some(HashMap::from([(TRACE_METADATA.to_owned(), id)]))
    }

    /// The configured server-side encryption, for every request that makes an object.
    pub(super) fn encryption(&self) -> Option<ServerSideEncryption> {
        self.object_options()
            .encryption
            .as_deref()
            .map(ServerSideEncryption::from)
    }

    fn if_none_match(&self) -> Option<String> {
        let options = self.object_options();
        (!options.overwrite && options.provider != Provider::Cos).then(|| "*".to_owned())
    }

    fn forbids_overwrite(&self) -> bool {
        let options = self.object_options();
        !options.overwrite && options.provider == Provider::Cos
    }

    /// Removes an object that turned out not to be what was sent, unless somebody has replaced it since.
    async fn take_back(&self, key: &ObjectKey, etag: Option<&str>) {
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

impl Multipart {
    /// The store's name for it.
    pub(super) fn id(&self) -> &str {
        self.id.as_deref().unwrap_or_default()
    }

    /// Completes the upload: the object becomes visible, whole and compared.
    pub(super) async fn complete(mut self, mut parts: Vec<Acknowledged>) -> Result<(), StoreError> {
        parts.sort_unstable_by_key(|part| part.number);
        let method = Some(self.method);
        let whole = parts.iter().fold(Digest::empty(), |sum, part| {
            sum.followed_by(&part.digest, method)
        });
        match self.send_complete(&parts, &whole).await {
            Ok(()) => {}
            // The answer may be lost and the work be done: a retry then finds no such upload. Ask instead of guessing.
            Err(
                error @ (StoreError::NotFound
                | StoreError::AlreadyExists
                | StoreError::Unavailable { .. }),
            ) => {
                if !self.is_complete(&parts, &whole).await {
                    self.abort().await;
                    return Err(match error {
                        StoreError::NotFound => StoreError::Integrity {
                            detail: "the multipart upload was aborted by somebody else".to_owned(),
                        },
                        error => error,
                    });
                }
                info!(key = %self.key, "the answer to CompleteMultipartUpload was lost, the object is there");
            }
            Err(error) => {
                self.abort().await;
                return Err(error);
            }
        }
        self.id = None;
        Ok(())
    }

    async fn send_complete(
        &self,
        parts: &[Acknowledged],
        whole: &Digest,
    ) -> Result<(), StoreError> {
        let list = parts.iter().map(|part| {
            let builder = CompletedPart::builder()
                .part_number(part.number)
                .set_e_tag(part.etag.clone());
            builder
                .set_checksum_crc64_nvme(part.digest.crc64_nvme(Some(self.method)))
                .build()
        });
        let list = CompletedMultipartUpload::builder()
            .set_parts(Some(list.collect()))
            .build();
        let crc = whole.crc64_nvme(Some(self.method));
        let request = self
            .store
            .client()
            .complete_multipart_upload()
            .bucket(self.store.bucket());
        let request = request
            .key(self.key.as_str())
            .upload_id(self.id())
            .multipart_upload(list)
            .set_checksum_type(crc.is_some().then_some(ChecksumType::FullObject))
            .set_checksum_crc64_nvme(crc)
            .set_if_none_match(self.store.if_none_match());
        let cos = CosChecksum::default();
        // the store may take its time to assemble a large object
        let timeouts = self.store.timeouts_for_copy(whole.bytes);
        let mut request = request
            .customize()
            .config_override(timeouts)
            .interceptor(cos.clone());
        if self.store.forbids_overwrite() {
            request = request.mutate_request(forbid_overwrite);
        }
        let answer = request.send().await;
        let answer =
            answer.map_err(|error| self.store.refused_write("CompleteMultipartUpload", error))?;
        let told = Answer {
            crc64_nvme: answer.checksum_crc64_nvme(),
            cos_crc64: cos.get(),
            ..Answer::default()
        };
        let compared = whole.compare(&"the object", &told);
        if compared.is_err() {
            self.store.take_back(&self.key, answer.e_tag()).await;
        }
        compared
    }

    /// Is the object there, just as this upload would have made it?
    async fn is_complete(&self, parts: &[Acknowledged], whole: &Digest) -> bool {
        let etags = parts
            .iter()
            .map(|part| part.etag.as_deref().unwrap_or_default());
        self.store
            .holds(&self.key, whole, composite_etag(etags))
            .await
    }

    /// Gives the upload up. Best effort: the janitor sweeps what this can't.
    pub(super) async fn abort(&mut self) {
        if let Some(id) = self.id.take() {
            abort(self.store.clone(), self.key.clone(), id).await;
        }
    }

    /// Copies a range of an object, pinned to its ETag, as part `number`.
    pub(super) async fn copy_part(
        &self,
        from: &ObjectKey,
        from_etag: &str,
        number: i32,
        range: Range<u64>,
    ) -> Result<Acknowledged, StoreError> {
        let (store, bytes) = (&self.store, range.end - range.start);
        let request = store
            .client()
            .upload_part_copy()
            .bucket(store.bucket())
            .key(self.key.as_str());
        let request = request
            .upload_id(self.id())
            .part_number(number)
            .copy_source(store.copy_source(from))
            .copy_source_if_match(from_etag)
            .copy_source_range(format!("bytes={}-{}", range.start, range.end - 1));
        let sent = request
            .customize()
            .config_override(store.timeouts_for_copy(bytes))
            .send()
            .await;
        let answer = sent.map_err(|error| StoreError::from_sdk("UploadPartCopy", error))?;
        let copied = answer.copy_part_result;
        let copied = copied.ok_or(StoreError::Integrity {
            detail: "the store said nothing of a copied part".to_owned(),
        })?;
        let digest = Digest::of_copy(bytes, copied.checksum_crc64_nvme());
        Ok(Acknowledged {
            number,
            etag: copied.e_tag,
            digest,
        })
    }

    /// Sends one part. A handle of its own, so that parts can be under way in tasks.
    pub(super) fn part(&self, number: i32) -> PartRequest {
        PartRequest {
            store: self.store.clone(),
            key: self.key.clone(),
            upload_id: self.id().to_owned(),
            method: self.method,
            number,
        }
    }
}

impl Drop for Multipart {
    fn drop(&mut self) {
        if let (Some(id), Ok(runtime)) = (self.id.take(), tokio::runtime::Handle::try_current()) {
            let aborted = abort(self.store.clone(), self.key.clone(), id);
            runtime.spawn(aborted.in_current_span());
        }
    }
}

/// One UploadPart.
pub(super) struct PartRequest {
    store: Store,
    key: ObjectKey,
    upload_id: String,
    method: Method,
    number: i32,
}

impl PartRequest {
    /// Sends `bytes`; what comes back has been compared.
    pub(super) async fn send(self, bytes: Bytes) -> Result<Acknowledged, StoreError> {
        let (store, number) = (self.store, self.number);
        let digest = Digest::of(&bytes, Some(self.method));
        let request = store
            .client()
            .upload_part()
            .bucket(store.bucket())
            .key(self.key.as_str());
        let request = request
            .upload_id(self.upload_id)
            .part_number(number)
            .content_length(i64::try_from(bytes.len()).unwrap_or(i64::MAX))
            .set_content_md5(digest.content_md5())
            .set_checksum_crc64_nvme(digest.crc64_nvme(Some(self.method)))
            .body(ByteStream::from(bytes));
        let cos = CosChecksum::default();
        let mut request = request
            .customize()
            .config_override(store.timeouts_for(digest.bytes))
            .interceptor(cos.clone());
        if store.unsigned_payload() {
            request = request.disable_payload_signing();
        }
        let answer = request.send().await.map_err(|error| {
            match StoreError::from_sdk("UploadPart", error) {
                StoreError::NotFound => StoreError::Integrity {
                    detail: "the multipart upload was aborted by somebody else".to_owned(),
                },
                error => error,
            }
        })?;
        let told = Answer {
            crc64_nvme: answer.checksum_crc64_nvme(),
            cos_crc64: cos.get(),
            etag: answer.e_tag(),
            encrypted: answer.server_side_encryption().is_some(),
        };
        digest.compare(&format_args!("part {number}"), &told)?;
        Ok(Acknowledged {
            number,
            etag: answer.e_tag,
            digest,
        })
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
fn forbid_overwrite(request: &mut aws_sdk_s3::config::http::HttpRequest) {
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

async fn abort(store: Store, key: ObjectKey, upload_id: String) {
    let request = store
        .client()
        .abort_multipart_upload()
        .bucket(store.bucket())
        .key(key.as_str());
    let aborted = tokio::time::timeout(ABORT_WITHIN, request.upload_id(&upload_id).send()).await;
    match aborted {
        Ok(Ok(_)) => debug!(%key, upload_id, "multipart upload aborted"),
        Ok(Err(error)) => {
            warn!(%key, upload_id, error = %Chain(&error), "multipart upload could not be aborted")
        }
        Err(_) => warn!(%key, upload_id, "multipart upload could not be aborted in time"),
    }
}
