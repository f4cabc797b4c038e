//! A multipart upload from its beginning to its end, each request with its proof.
//!
//! Invariant: a `Multipart` that was begun is completed or aborted, also when its owner is dropped; or it is left open on purpose
//! (see `held`).

use std::ops::Range;
use std::time::Duration;

use aws_sdk_s3::operation::create_multipart_upload::CreateMultipartUploadOutput;
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ChecksumType, CompletedMultipartUpload, CompletedPart, StorageClass,
};
use tracing::{Instrument, debug, warn};

use crate::chain::Chain;
use crate::store::active::Unfinished;
use crate::store::attempts::Attempts;
use crate::store::client::Store;
use crate::store::conditions::{Replaces, is_not_implemented, quoted};
use crate::store::cos_checksum::CosChecksum;
use crate::store::describe::{Description, describe, describe_new, tagging};
use crate::store::digest::{Answer, Comparison, Digest, composite_etag};
use crate::store::error::StoreError;
use crate::store::head::{Head, etag};
use crate::store::integrity::Method;
use crate::store::key::ObjectKey;
use crate::store::original::Original;
use crate::store::outcome::{Doubt, Expected, ID_METADATA, new_id};
use crate::store::part_request::{PartRequest, UploadedPart};
use crate::store::put::{Proof, forbid_overwrite};

/// The time limit for aborting a multipart upload; the sweeper sweeps what remains.
const ABORT_TIMEOUT: Duration = Duration::from_secs(20);

/// A multipart upload that is neither completed nor aborted yet.
pub(super) struct Multipart {
    store: Store,
    key: ObjectKey,
    /// Taken when it is completed or aborted.
    id: Option<String>,
    method: Method,
    /// The mark of the object, see [`outcome`](super::outcome).
    mark: String,
    /// The object that the new one may take the place of.
    replaces: Replaces,
    /// It stays open when its owner is dropped, or when the store doesn't answer to its completion.
    stays: bool,
    /// Keeps the sweeper away.
    _unfinished: Unfinished,
}

impl Store {
    /// Begins a multipart upload. `mark` is what the object carries as its id.
    pub(super) async fn begin_multipart(
        &self,
        key: &ObjectKey,
        mark: String,
        replaces: Replaces,
        description: &Description,
    ) -> Result<Multipart, StoreError> {
        let known = self.integrity().method();
        let (answer, method) = match self.create_multipart(key, known, &mark, description).await {
            Err(StoreError::Refused { .. }) if known.is_none() => {
                let md5 = Method::Md5;
                let answer = self
                    .create_multipart(key, Some(md5), &mark, description)
                    .await?;
                self.integrity().note_refusal();
                (answer, md5)
            }
            Err(error) => return Err(error),
            Ok(answer) => {
                let echoed = answer.checksum_algorithm().is_some();
                let method = known.unwrap_or_else(|| self.integrity().learn(echoed));
                (answer, method)
            }
        };
        self.begun(key, answer, method, mark, replaces)
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
        let mark = new_id();
        let description = Description::Of(Box::new(head.clone()));
        let answer = self
            .create_multipart(key, Some(method), &mark, &description)
            .await?;
        self.begun(key, answer, method, mark, replaces)
    }

    fn begun(
        &self,
        key: &ObjectKey,
        answer: CreateMultipartUploadOutput,
        method: Method,
        mark: String,
        replaces: Replaces,
    ) -> Result<Multipart, StoreError> {
        let id = answer.upload_id.filter(|id| !id.is_empty());
        let id = id.ok_or(StoreError::Integrity {
            detail: "the store gave no upload id".to_owned(),
        })?;
        debug!(%key, upload_id = %id, "multipart upload begun");
        Ok(Multipart {
            _unfinished: self.active_uploads().begun(&id),
            store: self.clone(),
            key: key.clone(),
            id: Some(id),
            method,
            mark,
            replaces,
            stays: false,
        })
    }

    /// An upload that is held. Its mark is not known: the store keeps it to itself until there is an object.
    pub(super) fn reopen(&self, key: &ObjectKey, id: String, method: Method) -> Multipart {
        Multipart {
            _unfinished: self.active_uploads().begun(&id),
            store: self.clone(),
            key: key.clone(),
            id: Some(id),
            method,
            mark: String::new(),
            replaces: Replaces::Any,
            stays: true,
        }
    }

    async fn create_multipart(
        &self,
        key: &ObjectKey,
        method: Option<Method>,
        mark: &str,
        description: &Description,
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
        let request = match description {
            Description::Of(head) => describe!(request, head).metadata(ID_METADATA, mark),
            Description::New(more) => describe_new!(request, self, key, mark, more),
        };
        request
            .send()
            .await
            .map_err(|error| StoreError::from_sdk("CreateMultipartUpload", error))
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

    /// From now on it stays open when its owner is dropped.
    pub(super) fn stay(&mut self) {
        self.stays = true;
    }

    /// Leaves it open; returns the store's name for it.
    pub(super) fn leave_open(mut self) -> String {
        self.id.take().unwrap_or_default()
    }

    /// Completes the upload: the object becomes visible, whole and compared.
    pub(super) async fn complete(
        mut self,
        mut parts: Vec<UploadedPart>,
    ) -> Result<Proof, StoreError> {
        parts.sort_unstable_by_key(|part| part.number);
        let method = Some(self.method);
        let whole = parts.iter().fold(Digest::empty(), |sum, part| {
            sum.followed_by(&part.digest, method)
        });
        let etags = parts.iter().map(|part| part.etag.as_deref());
        let composite_etag = etags
            .collect::<Option<Vec<_>>>()
            .and_then(|etags| composite_etag(etags.into_iter()));
        let expected = Expected {
            operation: "CompleteMultipartUpload",
            id: &self.mark,
            digest: &whole,
            method,
            composite_etag: composite_etag.as_deref(),
        };
        let answer = match self.send_complete(&parts, &expected).await {
            Ok(etag) => Ok(etag),
            Err(Refusal::Final(error)) => Err(error),
            // the object may be there, and a retry then finds no such upload: ask instead of guessing
            Err(Refusal::InDoubt(doubt)) => self.store.resolve(&self.key, &expected, doubt).await,
        };
        match answer {
            Ok(etag) => {
                self.id = None;
                Ok(Proof::new(etag, &whole, method))
            }
            // nothing was done, and the client can try again
            Err(error @ StoreError::Unavailable { .. }) if self.stays => Err(error),
            Err(error) => {
                self.abort().await;
                Err(match error {
                    StoreError::NotFound => StoreError::Changed {
                        detail: "the multipart upload was aborted by somebody else",
                    },
                    error => error,
                })
            }
        }
    }

    async fn send_complete(
        &self,
        parts: &[UploadedPart],
        expected: &Expected<'_>,
    ) -> Result<String, Refusal> {
        let whole = expected.digest;
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
                let unchanged = store.check_unchanged(&self.key, &self.replaces).await;
                unchanged.map_err(Refusal::Final)?;
                continue;
            }
            let error = store.refused_write("CompleteMultipartUpload", error, &self.replaces);
            return Err(if attempts.may_be_done() {
                Refusal::InDoubt(Doubt::Failed(
                    attempts.not_done("CompleteMultipartUpload", error),
                ))
            } else {
                Refusal::Final(error)
            });
        };
        let told = Answer {
            crc64_nvme: answer.checksum_crc64_nvme(),
            cos_crc64: cos.get(),
            // of a whole made of parts, the ETag is no MD5: it only has to be there
            etag: answer.e_tag(),
            encrypted: true,
        };
        let is_proved = parts.iter().all(|part| part.is_proved);
        let etag = answer.e_tag.clone();
        match (whole.compare(Some(self.method), &told), etag) {
            (Comparison::Same, Some(etag)) if is_proved => Ok(etag),
            (Comparison::Same | Comparison::Unproved, etag) => {
                Err(Refusal::InDoubt(Doubt::Unproved(etag)))
            }
            (Comparison::Differs(kind), etag) => {
                Err(Refusal::InDoubt(Doubt::Differs { kind, etag }))
            }
        }
    }

    /// Gives the upload up. Best effort: the sweeper sweeps what this can't.
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
        from: &Original,
        number: i32,
        range: Range<u64>,
    ) -> Result<UploadedPart, StoreError> {
        let (store, bytes) = (&self.store, range.end - range.start);
        let request = store
            .client()
            .upload_part_copy()
            .bucket(store.bucket())
            .key(self.key.as_str());
        let request = request
            .upload_id(self.id())
            .part_number(number)
            .copy_source(from.copy_source())
            .copy_source_if_match(quoted(&from.etag))
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
        etag("UploadPartCopy", copied.e_tag())?;
        let digest = Digest::of_copy(bytes, copied.checksum_crc64_nvme());
        Ok(UploadedPart {
            number,
            etag: copied.e_tag,
            digest,
            // a copy of a whole object is verified by whoever asked for it
            is_proved: self.method == Method::Off || digest.has_checksum(),
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
        if self.stays {
            return;
        }
        if let (Some(id), Ok(runtime)) = (self.id.take(), tokio::runtime::Handle::try_current()) {
            let aborted = abort(self.store.clone(), self.key.clone(), id);
            self.store
                .aborts()
                .spawn_on(aborted.in_current_span(), &runtime);
        }
    }
}

/// The failure of a CompleteMultipartUpload.
enum Refusal {
    /// Nothing was done.
    Final(StoreError),
    /// It may be done.
    InDoubt(Doubt),
}

async fn abort(store: Store, key: ObjectKey, upload_id: String) {
    let request = store
        .client()
        .abort_multipart_upload()
        .bucket(store.bucket())
        .key(key.as_str());
    let aborted = tokio::time::timeout(ABORT_TIMEOUT, request.upload_id(&upload_id).send()).await;
    match aborted {
        Ok(Ok(_)) => debug!(%key, upload_id, "multipart upload aborted"),
        Ok(Err(error)) => {
            warn!(%key, upload_id, error = %Chain(&error), "multipart upload could not be aborted")
        }
        Err(_) => warn!(%key, upload_id, "multipart upload could not be aborted in time"),
    }
}
