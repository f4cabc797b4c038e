//! The checksum of an object as it is shown to others.

use std::borrow::Cow;

use base64_simd::STANDARD;
use serde::{Deserialize, Serialize};

/// The checksum of an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectChecksum {
    /// `CRC64NVME`, `CRC64XZ` or `MD5`.
    pub algorithm: Cow<'static, str>,
    /// In hexadecimal digits.
    pub value: String,
}

impl ObjectChecksum {
    pub(super) fn new(algorithm: &'static str, value: String) -> Self {
        ObjectChecksum {
            algorithm: algorithm.into(),
            value,
        }
    }

    /// The checksum that a store gives of an object: CRC-64/NVME in Base64, or COS's own.
    pub(super) fn of(crc64_nvme: Option<&str>, cos_crc64: Option<u64>) -> Option<Self> {
        let nvme = crc64_nvme.and_then(decode_crc);
        let nvme = nvme.map(|crc| Self::new("CRC64NVME", format!("{crc:016x}")));
        nvme.or_else(|| cos_crc64.map(|crc| Self::new("CRC64XZ", format!("{crc:016x}"))))
    }
}

pub(super) fn decode_crc(base64: &str) -> Option<u64> {
    let bytes = STANDARD.decode_to_vec(base64).ok()?;
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}
