//! One part of a multipart upload on its way to the store, and what the store acknowledged.

use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use tracing::warn;

use crate::store::client::Store;
use crate::store::cos_checksum::CosChecksum;
use crate::store::digest::{Answer, Comparison, Digest};
use crate::store::error::StoreError;
use crate::store::head::etag;
use crate::store::integrity::Method;
use crate::store::key::ObjectKey;

/// A part that the store has acknowledged, and whose acknowledgement was compared.
#[derive(Debug, Clone)]
pub(super) struct UploadedPart {
    /// From 1.
    pub(super) number: i32,
    pub(super) etag: Option<String>,
    pub(super) digest: Digest,
    /// The store has shown that it holds what was sent.
    pub(super) is_proved: bool,
}

impl UploadedPart {
    /// A part that the store lists.
    pub(super) fn listed(number: i32, etag: &str, digest: Digest, is_proved: bool) -> Self {
        UploadedPart {
            number,
            etag: Some(etag.to_owned()),
            digest,
            is_proved,
        }
    }
}

/// One UploadPart.
pub(super) struct PartRequest {
    pub(super) store: Store,
    pub(super) key: ObjectKey,
    pub(super) upload_id: String,
    pub(super) method: Method,
    pub(super) number: i32,
}

impl PartRequest {
    /// Sends `bytes`; what comes back has been compared. An answer that says something else is no reason to give up yet:
    /// a part can be sent again, and replaces what was there.
    pub(super) async fn send(self, bytes: Bytes) -> Result<UploadedPart, StoreError> {
        let digest = Digest::of(&bytes, Some(self.method)).await;
        let mut sent = self.send_once(bytes.clone(), digest).await?;
        if let Err(error) = &sent {
            warn!(key = %self.key, part = self.number, %error, "a part is sent again");
            sent = self.send_once(bytes, digest).await?;
        }
        sent
    }

    /// The outer error is the store's, the inner one an answer of success that doesn't fit what was sent.
    async fn send_once(
        &self,
        bytes: Bytes,
        digest: Digest,
    ) -> Result<Result<UploadedPart, StoreError>, StoreError> {
        let (store, number) = (&self.store, self.number);
        let request = store
            .client()
            .upload_part()
            .bucket(store.bucket())
            .key(self.key.as_str());
        let request = request
            .upload_id(&self.upload_id)
            .part_number(number)
            .content_length(i64::try_from(bytes.len()).unwrap_or(i64::MAX))
            .set_content_md5(digest.content_md5())
            .set_checksum_crc64_nvme(digest.crc64_nvme(Some(self.method)))
            .body(ByteStream::from(bytes.clone()));
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
                StoreError::NotFound => StoreError::Changed {
                    detail: "the multipart upload was aborted by somebody else",
                },
                error => error,
            }
        })?;
        if let Err(error) = etag("UploadPart", answer.e_tag()) {
            return Ok(Err(error));
        }
        let told = Answer {
            crc64_nvme: answer.checksum_crc64_nvme(),
            cos_crc64: cos.get(),
            etag: answer.e_tag(),
            encrypted: answer.server_side_encryption().is_some(),
        };
        let method = Some(self.method);
        let mut compared = digest.compare(method, &told);
        if compared == Comparison::Unproved && self.method == Method::CosCrc64 {
            // there are stores that speak COS's language without its checksum; an ETag that is an MD5 does as well
            compared = digest.with_md5(&bytes).await.compare(method, &told);
        }
        if let Comparison::Differs(kind) = compared {
            return Ok(Err(StoreError::Integrity {
                detail: format!("the store's {kind} of part {number} is not that of what was sent"),
            }));
        }
        Ok(Ok(UploadedPart {
            number,
            etag: answer.e_tag,
            digest,
            is_proved: compared == Comparison::Same,
        }))
    }
}
