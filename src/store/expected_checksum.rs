//! The checksum of a whole object that an answer of the store carries.

use std::ops::Range;

use aws_sdk_s3::config::http::HttpRequest;
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::types::ChecksumType;
use base64_simd::STANDARD;
use crc_fast::CrcAlgorithm;

use crate::store::cos_checksum::CosChecksum;
use crate::store::digest::decode_etag;
use crate::store::integrity::Method;
use crate::store::outcome::ID_METADATA;

/// A checksum of a whole object.
#[derive(Debug, Clone, Copy)]
pub(super) enum Checksum {
    Crc {
        algorithm: CrcAlgorithm,
        name: &'static str,
        value: u64,
    },
    Md5([u8; 16]),
}

impl Checksum {
    /// The checksum in an answer to GetObject about the object of `size` bytes of which it sends `range`.
    pub fn of_answer(
        answer: &GetObjectOutput,
        cos: &CosChecksum,
        method: Option<Method>,
        (range, size): (&Range<u64>, u64),
    ) -> Option<Self> {
        if method == Some(Method::Off) {
            return None;
        }
        if let Some(value) = cos.get().filter(|_| method == Some(Method::CosCrc64)) {
            return Some(Self::crc(CrcAlgorithm::Crc64Xz, "CRC-64", value));
        }
        let is_whole = *range == (0..size);
        let md5 = || {
            let may_ask = method == Some(Method::Crc64Nvme) && !is_whole;
            own_md5(answer).filter(|_| !may_ask).map(Self::Md5)
        };
        // there are stores that send the checksum of a part, or that of the object with each part
        if !is_whole || answer.checksum_type() == Some(&ChecksumType::Composite) {
            return md5();
        }
        let nvme = answer.checksum_crc64_nvme().and_then(decode);
        let nvme = nvme.map(Self::nvme);
        let crc32c = || {
            let value = answer.checksum_crc32_c().and_then(decode)?;
            Some(Self::crc(CrcAlgorithm::Crc32Iscsi, "CRC-32C", value))
        };
        let crc32 = || {
            let value = answer.checksum_crc32().and_then(decode)?;
            Some(Self::crc(CrcAlgorithm::Crc32IsoHdlc, "CRC-32", value))
        };
        nvme.or_else(crc32c).or_else(crc32).or_else(md5)
    }

    pub fn nvme(value: u64) -> Self {
        Self::crc(CrcAlgorithm::Crc64Nvme, "CRC-64/NVME", value)
    }

    pub fn crc(algorithm: CrcAlgorithm, name: &'static str, value: u64) -> Self {
        Checksum::Crc {
            algorithm,
            name,
            value,
        }
    }
}

/// The MD5 of an object that an upload of the gateway made, by its ETag.
fn own_md5(answer: &GetObjectOutput) -> Option<[u8; 16]> {
    let id = answer.metadata()?.get(ID_METADATA)?;
    let encrypted =
        answer.server_side_encryption().is_some() || answer.sse_customer_algorithm().is_some();
    let etag = answer.e_tag().filter(|_| !encrypted && !id.is_empty())?;
    decode_etag(etag)
}

/// The value of a checksum header; none if it is one of parts (`...-3`).
pub(super) fn decode(base64: &str) -> Option<u64> {
    let bytes = STANDARD.decode_to_vec(base64).ok()?;
    let is_crc = matches!(bytes.len(), 4 | 8);
    is_crc.then(|| {
        bytes
            .iter()
            .fold(0, |value, byte| value << 8 | u64::from(*byte))
    })
}

/// Asks for checksums. Not by the SDK's own setting: it would compare the checksum of the object with a range of it.
pub(super) fn ask_for_checksums(request: &mut HttpRequest) {
    request
        .headers_mut()
        .insert("x-amz-checksum-mode", "ENABLED");
}
