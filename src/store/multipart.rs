//! A multipart upload from its beginning to its end, each request with its proof.
//!
//! Invariant: a `Multipart` that was begun is completed or aborted, also when its owner is dropped.

use std::ops::Range;
use std::time::Duration;

use aws_sdk_s3::operation::create_multipart_upload::CreateMultipartUploadOutput;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ChecksumType, CompletedMultipartUpload, CompletedPart, StorageClass,
};
use bytes::Bytes;
use tracing::{Instrument, debug, info, warn};

use crate::store::client::Store;
use crate::store::conditions::{Attempts, Replaces, is_not_implemented, quoted};
use crate::store::describe::describe;
use crate::store::error::{Chain, StoreError};
use crate::store::integrity::{Answer, CosChecksum, Digest, Method, composite_etag};
use crate::store::key::ObjectKey;
use crate::store::metadata::Head;
use crate::store::put::{content_type, forbid_overwrite, without_body};

/// How long to try to abort a multipart upload; the janitor sweeps what remains.
const ABORT_WITHIN: Duration = Duration::from_secs(20);

/// A multipart upload that is neither completed nor aborted yet.
pub(super) struct Multipart {
    store: Store,
    key: ObjectKey,
    /// Taken when it is completed or aborted.
    id: Option<String>,
    method: Method,
    /// What the object may take the place of.
    replaces: Replaces,
}

/// A part that the store has acknowledged, and whose acknowledgement was compared.
#[derive(Debug, Clone)]
pub(super) struct Acknowledged {
    number: i32,
    etag: Option<String>,
    digest: Digest,
}

impl Store {
    /// Begins a multipart upload. `kept` is the object that it continues.
    pub(super) async fn begin_multipart(
        &self,
        key: &ObjectKey,
        replaces: Replaces,
        kept: Option<&Head>,
    ) -> Result<Multipart, StoreError> {
        let known = self.integrity().method();
        let answer = match self.create_multipart(key, known, kept).await {
            Err(StoreError::Refused { .. }) if known.is_none() => {
                let method = self.integrity().learn(false);
                self.create_multipart(key, Some(method), kept).await?
            }
            answer => answer?,
        };
        let method = known.unwrap_or_else(|| {
            self.integrity()
                .learn(answer.checksum_algorithm().is_some())
        });
        self.begun(key, answer, method, replaces)
    }

    /// Begins a multipart upload that [`Multipart::copy_part`] is to fill with an object's bytes; what else belongs to
    /// the object comes from `head`.
    pub(super) async fn begin_copy(
        &self,
        key: &ObjectKey,
        head: &Head,
        replaces: Replaces,
    ) -> Result<Multipart, StoreError> {
        // no byte of a copy passes through here; where the store makes checksums of parts, they are those of the object
        let method = match self.integrity().method() {
            Some(Method::Crc64Nvme) => Method::Crc64Nvme,
            Some(Method::CosCrc64 | Method::Md5 | Method::Off) | None => Method::Off,
        };
        let answer = self.create_multipart(key, Some(method), Some(head)).await?;
        self.begun(key, answer, method, replaces)
    }

    fn begun(
        &self,
        key: &ObjectKey,
        answer: CreateMultipartUploadOutput,
        method: Method,
        replaces: Replaces,
    ) -> Result<Multipart, StoreError> {
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
            replaces,
        })
    }

    async fn create_multipart(
        &self,
        key: &ObjectKey,
        method: Option<Method>,
        described: Option<&Head>,
    ) -> Result<CreateMultipartUploadOutput, StoreError> {
        let options = self.object_options();
        let nvme = matches!(method, None | Some(Method::Crc64Nvme));
        let request = self
            .client()
            .create_multipart_upload()
            .bucket(self.bucket())
            .key(key.as_str());
        let request = request
            .set_checksum_algorithm(nvme.then_some(ChecksumAlgorithm::Crc64Nvme))
            .set_checksum_type(nvme.then_some(ChecksumType::FullObject))
            .set_server_side_encryption(self.encryption())
            .set_ssekms_key_id(options.kms_key.clone());
        let request = match described {
            Some(head) => describe!(request, head),
            None => request
                .content_type(content_type(key))
                .set_metadata(self.trace_metadata())
                .set_storage_class(options.storage_class.as_deref().map(StorageClass::from)),
        };
        request
            .customize()
            .mutate_request(without_body)
            .send()
            .await
            .map_err(|error| StoreError::from_sdk("CreateMultipartUpload", error))
    }
}

impl Acknowledged {
    /// From 1.
    pub(super) fn number(&self) -> i32 {
        self.number
    }

    pub(super) fn digest(&self) -> &Digest {
        &self.digest
    }
}

impl Multipart {
    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    pub(super) fn key(&self) -> &ObjectKey {
        &self.key
    }

    /// The store's name for it.
    pub(super) fn id(&self) -> &str {
        self.id.as_deref().unwrap_or_default()
    }

    /// Completes the upload: the object becomes visible, whole and compared. Returns its ETag.
    pub(super) async fn complete(
        mut self,
        mut parts: Vec<Acknowledged>,
    ) -> Result<String, StoreError> {
        parts.sort_unstable_by_key(|part| part.number);
        let method = Some(self.method);
        let whole = parts.iter().fold(Digest::empty(), |sum, part| {
            sum.followed_by(&part.digest, method)
        });
        let etag = match self.send_complete(&parts, &whole).await {
            Ok(etag) => etag,
            // The answer may be lost and the work be done: a retry then finds no such upload. Ask instead of guessing.
            Err(
                error @ (StoreError::NotFound
                | StoreError::AlreadyExists
                | StoreError::Unavailable { .. }),
            ) => {
                let Some(etag) = self.is_complete(&parts, &whole).await else {
                    self.abort().await;
                    return Err(match error {
                        StoreError::NotFound => StoreError::Integrity {
                            detail: "the multipart upload was aborted by somebody else".to_owned(),
                        },
                        error => error,
                    });
                };
                info!(key = %self.key, "the answer to CompleteMultipartUpload was lost, the object is there");
                etag
            }
            Err(error) => {
                self.abort().await;
                return Err(error);
            }
        };
        self.id = None;
        Ok(etag)
    }

    async fn send_complete(
        &self,
        parts: &[Acknowledged],
        whole: &Digest,
    ) -> Result<String, StoreError> {
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
        let store = &self.store;
        let (cos, answer) = loop {
            let if_match = store.if_match(&self.replaces);
            let request = store
                .client()
                .complete_multipart_upload()
                .bucket(store.bucket())
                .key(self.key.as_str())
                .upload_id(self.id())
                .multipart_upload(list.clone())
                .set_checksum_type(crc.is_some().then_some(ChecksumType::FullObject))
                .set_checksum_crc64_nvme(crc.clone())
                .set_if_match(if_match.clone())
                .set_if_none_match(store.if_none_match(&self.replaces));
            let (cos, attempts) = (CosChecksum::default(), Attempts::default());
            // the store may take its time to assemble a large object
            let timeouts = store.timeouts_for_copy(whole.bytes);
            let mut request = request
                .customize()
                .config_override(timeouts)
                .interceptor(attempts.clone())
                .interceptor(cos.clone());
            if store.forbids_overwrite(&self.replaces) {
                request = request.mutate_request(forbid_overwrite);
            }
            let error = match request.send().await {
                Ok(answer) => break (cos, answer),
                Err(error) => error,
            };
            if if_match.is_some() && is_not_implemented(&error) {
                store.conditions().write.learn(false);
                store.check_unchanged(&self.key, &self.replaces).await?;
                continue;
            }
            let error = store.refused_write("CompleteMultipartUpload", error, &self.replaces);
            // the second attempt may have met what the first one made
            if matches!(error, StoreError::Busy { .. })
                && !attempts.was_one()
                && let Some(etag) = self.is_complete(parts, whole).await
            {
                return Ok(etag);
            }
            return Err(error);
        };
        let told = Answer {
            crc64_nvme: answer.checksum_crc64_nvme(),
            cos_crc64: cos.get(),
            ..Answer::default()
        };
        let compared = whole.compare(&"the object", &told);
        if compared.is_err() {
            self.store.take_back(&self.key, answer.e_tag()).await;
        }
        compared.map(|()| answer.e_tag.unwrap_or_default())
    }

    /// The object's ETag, if it is there just as this upload would have made it.
    async fn is_complete(&self, parts: &[Acknowledged], whole: &Digest) -> Option<String> {
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

    /// Gives the upload up, and says whether that worked.
    pub(super) async fn try_abort(&mut self) -> Result<(), StoreError> {
        let Some(id) = self.id.take() else {
            return Ok(());
        };
        let request = self.store.client().abort_multipart_upload();
        let request = request.bucket(self.store.bucket()).key(self.key.as_str());
        let aborted = request.upload_id(id).send().await;
        aborted
            .map(drop)
            .map_err(|error| StoreError::from_sdk("AbortMultipartUpload", error))
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
            .copy_source_if_match(quoted(from_etag))
            .copy_source_range(format!("bytes={}-{}", range.start, range.end - 1));
        let sent = request
            .customize()
            .mutate_request(without_body)
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
            self.store
                .aborts()
                .spawn_on(aborted.in_current_span(), &runtime);
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
