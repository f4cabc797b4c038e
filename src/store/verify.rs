//! Downloads compared with the checksum that the store keeps of the whole object.
//!
//! TCP and TLS guard the way, and the length is compared anyway; a checksum finds what a store's disk, a cache or a proxy
//! changed. It costs no request where the answer brings it: COS reports its CRC-64 with every answer, other stores theirs if
//! the range is the whole object. For an object of several chunks one HEAD is asked meanwhile, if the store is known to
//! keep CRC-64/NVME. The bytes are digested in the order in which they are written, at memory speed (a CRC-64 takes
//! 0.09 s of CPU time per GiB), and the last piece is held back until the comparison: a client never gets the whole of a
//! file that differs.

use std::ops::Range;
use std::sync::Arc;

use aws_sdk_s3::config::http::HttpRequest;
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::types::{ChecksumMode, ChecksumType};
use base64_simd::STANDARD;
use crc_fast::{CrcAlgorithm, Digest};
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument, debug};

use crate::chain::Chain;
use crate::store::error::StoreError;
use crate::store::integrity::{CosChecksum, Method};
use crate::store::range::Version;

/// A checksum of a whole object.
#[derive(Debug, Clone, Copy)]
pub(super) struct Checksum {
    algorithm: CrcAlgorithm,
    name: &'static str,
    value: u64,
}

impl Checksum {
    /// The facts that an answer to GetObject has of the object of `size` bytes of which it sends `range`.
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
            return Some(Self::new(CrcAlgorithm::Crc64Xz, "CRC-64", value));
        }
        // there are stores that send the checksum of a part, or that of the object with each part
        if *range != (0..size) || answer.checksum_type() == Some(&ChecksumType::Composite) {
            return None;
        }
        let nvme = answer.checksum_crc64_nvme().and_then(decode);
        let nvme = nvme.map(|value| Self::new(CrcAlgorithm::Crc64Nvme, "CRC-64/NVME", value));
        let crc32c = || {
            let value = answer.checksum_crc32_c().and_then(decode)?;
            Some(Self::new(CrcAlgorithm::Crc32Iscsi, "CRC-32C", value))
        };
        let crc32 = || {
            let value = answer.checksum_crc32().and_then(decode)?;
            Some(Self::new(CrcAlgorithm::Crc32IsoHdlc, "CRC-32", value))
        };
        nvme.or_else(crc32c).or_else(crc32)
    }

    fn new(algorithm: CrcAlgorithm, name: &'static str, value: u64) -> Self {
        Checksum {
            algorithm,
            name,
            value,
        }
    }
}

/// The value of a checksum header; none if it is one of parts (`...-3`).
fn decode(base64: &str) -> Option<u64> {
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

/// The bytes of one download, as far as they were written.
pub(super) struct Verification {
    digest: Digest,
    expected: Expected,
    left: u64,
}

enum Expected {
    Known(Checksum),
    Asked(AbortOnDropHandle<Option<Checksum>>),
}

impl Verification {
    /// For a whole object; none if the store reports no checksum of it. `chunk` bytes of it are on their way.
    pub fn begin(version: &Arc<Version>, chunk: u64) -> Option<Self> {
        let method = version.store.integrity().method();
        let (algorithm, expected) = match version.checksum {
            Some(known) => (known.algorithm, Expected::Known(known)),
            None if chunk < version.size && method == Some(Method::Crc64Nvme) => {
                let asked = ask(Arc::clone(version)).in_current_span();
                let asked = AbortOnDropHandle::new(tokio::spawn(asked));
                (CrcAlgorithm::Crc64Nvme, Expected::Asked(asked))
            }
            None => return None,
        };
        Some(Verification {
            digest: Digest::new(algorithm),
            expected,
            left: version.size,
        })
    }

    /// Takes the next bytes before they are written; an error if they are the last ones and the whole differs.
    pub async fn update(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.digest.update(bytes);
        self.left = self.left.saturating_sub(bytes.len() as u64);
        if self.left > 0 {
            return Ok(());
        }
        let expected = match &mut self.expected {
            Expected::Known(checksum) => Some(*checksum),
            // a task that could not end has no checksum: the download is as proved as on stores without
            Expected::Asked(asked) => asked.await.unwrap_or_default(),
        };
        match expected {
            Some(expected) if expected.value != self.digest.finalize() => {
                Err(StoreError::Integrity {
                    detail: format!(
                        "the store's {} of the object is not that of the bytes it sent",
                        expected.name
                    ),
                })
            }
            _ => Ok(()),
        }
    }
}

/// The CRC-64/NVME of the version, if the store has it.
async fn ask(version: Arc<Version>) -> Option<Checksum> {
    let store = &version.store;
    let head = store
        .client()
        .head_object()
        .bucket(store.bucket())
        .key(version.key.as_str())
        .checksum_mode(ChecksumMode::Enabled);
    let head = match head.send().await {
        Ok(head) => head,
        Err(error) => {
            debug!(key = %version.key, error = %Chain(&error), "no checksum to compare a download with");
            return None;
        }
    };
    let size = head.content_length().and_then(|size| size.try_into().ok());
    let is_same = head.e_tag() == Some(version.etag()) && size == Some(version.size);
    if !is_same || head.checksum_type() == Some(&ChecksumType::Composite) {
        return None;
    }
    let value = head.checksum_crc64_nvme().and_then(decode)?;
    Some(Checksum::new(CrcAlgorithm::Crc64Nvme, "CRC-64/NVME", value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_of_parts_are_none_of_the_object() {
        assert_eq!(decode("rosUhgp5mIg="), Some(0xae8b_1486_0a79_9888));
        assert_eq!(decode("y/Q5Jg=="), Some(0xcbf4_3926));
        for other in ["", "rosUhgp5mIg=-2", "AAAA"] {
            assert_eq!(decode(other), None, "{other}");
        }
    }

    #[test]
    fn the_algorithms_are_those_of_the_headers() {
        for (algorithm, value) in [
            (CrcAlgorithm::Crc64Nvme, 0xae8b_1486_0a79_9888),
            (CrcAlgorithm::Crc64Xz, 0x995d_c9bb_df19_39fa),
            (CrcAlgorithm::Crc32Iscsi, 0xe306_9283),
            (CrcAlgorithm::Crc32IsoHdlc, 0xcbf4_3926),
        ] {
            let mut digest = Digest::new(algorithm);
            digest.update(b"12345");
            digest.update(b"6789");
            assert_eq!(digest.finalize(), value);
        }
    }
}
