//! A store's facts about the content of an object, for comparisons without its bytes.

use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::types::{ChecksumMode, ChecksumType};

use crate::store::client::Store;
use crate::store::cos_checksum::CosChecksum;
use crate::store::error::StoreError;
use crate::store::head::{Head, content_length, etag};
use crate::store::integrity::Method;
use crate::store::key::ObjectKey;

/// Size, ETag and checksums of an object.
#[derive(Debug, Clone)]
pub(super) struct Fingerprint {
    pub size: u64,
    pub etag: String,
    /// CRC-64/NVME of the whole object, in Base64.
    pub crc64_nvme: Option<String>,
    /// `x-cos-hash-crc64ecma`
    pub cos_crc64: Option<u64>,
    /// The ETag of an encrypted object is no MD5.
    pub encrypted: bool,
}

impl Fingerprint {
    /// True if both have the same checksum; false if there is none to compare.
    pub(super) fn has_checksum_of(&self, other: &Fingerprint) -> bool {
        let nvme = self.crc64_nvme.as_ref().zip(other.crc64_nvme.as_ref());
        let cos = self.cos_crc64.zip(other.cos_crc64);
        nvme.is_some_and(|(one, other)| one == other)
            || cos.is_some_and(|(one, other)| one == other)
    }
}

impl Store {
    /// Asks for an object's size, ETag and checksums.
    pub(super) async fn fingerprint(&self, key: &ObjectKey) -> Result<Fingerprint, StoreError> {
        self.send_head(key)
            .await
            .map(|(_, fingerprint)| fingerprint)
    }

    /// As [`Store::head`], with the checksums.
    pub(super) async fn head_with_checksums(
        &self,
        key: &ObjectKey,
    ) -> Result<(Head, Fingerprint), StoreError> {
        let (answer, fingerprint) = self.send_head(key).await?;
        Ok((Head::try_from(answer)?, fingerprint))
    }

    async fn send_head(
        &self,
        key: &ObjectKey,
    ) -> Result<(HeadObjectOutput, Fingerprint), StoreError> {
        let cos = CosChecksum::default();
        // COS knows nothing of Amazon's checksums and sends its own unasked
        let asks = self.integrity().method() != Some(Method::CosCrc64);
        let head = self
            .client()
            .head_object()
            .bucket(self.bucket())
            .key(key.as_str())
            .set_checksum_mode(asks.then_some(ChecksumMode::Enabled))
            .customize()
            .interceptor(cos.clone())
            .send()
            .await;
        let head = head.map_err(|error| StoreError::from_sdk("HeadObject", error))?;
        // a checksum of the parts' checksums is none of the object
        let is_whole = head.checksum_type() != Some(&ChecksumType::Composite);
        let fingerprint = Fingerprint {
            size: content_length("HeadObject", head.content_length())?,
            etag: etag("HeadObject", head.e_tag())?.to_owned(),
            crc64_nvme: head.checksum_crc64_nvme.clone().filter(|_| is_whole),
            cos_crc64: cos.get(),
            encrypted: head.server_side_encryption.is_some(),
        };
        Ok((head, fingerprint))
    }
}
