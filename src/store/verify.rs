//! Downloads compared with the checksum that the store keeps of the whole object.
//!
//! TCP and TLS guard the way, and the length is compared anyway; a checksum finds what a store's disk, a cache or a proxy
//! changed. The bytes are digested in the order in which they are written, and the last piece is held back until the
//! comparison: a client never gets the whole of a file that differs. What is compared, in this order:
//!
//! | checksum | where | costs |
//! |---|---|---|
//! | CRC of the answer | COS, in every answer; others if the range is the whole object; many only without a range | 0.09 s of CPU time per GiB |
//! | MD5 in the ETag | objects made by the gateway with one request, not encrypted | 2 s of CPU time per GiB |
//! | CRC-64/NVME by HEAD | all others, on a store that is known to keep it | a request |
//!
//! With a store that keeps CRC-64/NVME the MD5 serves files of one chunk only, for which a request would cost more. An ETag
//! of 32 digits is an MD5 for certain only under the mark of an upload that was compared with it: there are objects of
//! other writers, such as those of `AppendObject` and Swift's large ones, whose ETag only looks like one. Objects made of
//! parts, on a store that keeps no checksum, are compared by length alone.

use std::sync::Arc;

use crc_fast::CrcAlgorithm;
use md5::{Digest as _, Md5};
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use crate::store::conditions::is_same_etag;
use crate::store::error::StoreError;
use crate::store::expected_checksum::{Checksum, decode};
use crate::store::integrity::Method;
use crate::store::version::Version;

/// The bytes of one download, as far as they were written.
pub(super) struct Verification {
    digest: Digest,
    expected: Expected,
    left: u64,
}

enum Digest {
    Crc(Box<crc_fast::Digest>),
    Md5(Md5),
}

enum Expected {
    Known(Checksum),
    /// None if the object has none: another writer stored it without.
    Asked(AbortOnDropHandle<Result<Option<Checksum>, StoreError>>),
}

impl Digest {
    fn update(&mut self, bytes: &[u8]) {
        match self {
            Digest::Crc(crc) => crc.update(bytes),
            Digest::Md5(md5) => md5.update(bytes),
        }
    }

    /// The name of the checksum, if it is another one than that of the bytes so far.
    fn differs(&self, expected: Checksum) -> Option<&'static str> {
        let (name, is_same) = match (self, expected) {
            (Digest::Crc(crc), Checksum::Crc { name, value, .. }) => {
                (name, crc.finalize() == value)
            }
            (Digest::Md5(md5), Checksum::Md5(expected)) => {
                ("ETag", md5.clone().finalize()[..] == expected)
            }
            (_, Checksum::Md5(_)) => ("ETag", false),
            (_, Checksum::Crc { name, .. }) => (name, false),
        };
        (!is_same).then_some(name)
    }
}

impl Verification {
    /// For a whole object; none if the store has no checksum of it.
    pub fn begin(version: &Arc<Version>) -> Option<Self> {
        let method = version.store.integrity().method();
        let (digest, expected) = match version.checksum {
            Some(known @ Checksum::Crc { algorithm, .. }) => (
                Digest::Crc(Box::new(crc_fast::Digest::new(algorithm))),
                Expected::Known(known),
            ),
            Some(known @ Checksum::Md5(_)) => (Digest::Md5(Md5::new()), Expected::Known(known)),
            None if method == Some(Method::Crc64Nvme) => {
                let asked = ask(Arc::clone(version)).in_current_span();
                let asked = AbortOnDropHandle::new(tokio::spawn(asked));
                let digest = crc_fast::Digest::new(CrcAlgorithm::Crc64Nvme);
                (Digest::Crc(Box::new(digest)), Expected::Asked(asked))
            }
            None => return None,
        };
        Some(Verification {
            digest,
            expected,
            left: version.size,
        })
    }

    /// Takes the next bytes before they are written; an error if they are the last ones and the whole differs, or can't be
    /// compared because the store doesn't say what it should be.
    pub async fn update(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.digest.update(bytes);
        self.left = self.left.saturating_sub(bytes.len() as u64);
        if self.left > 0 {
            return Ok(());
        }
        let expected = match &mut self.expected {
            Expected::Known(checksum) => Some(*checksum),
            Expected::Asked(asked) => match asked.await {
                Ok(answered) => answered?,
                Err(error) => {
                    return Err(StoreError::Integrity {
                        detail: format!("no checksum to compare the download with: {error}"),
                    });
                }
            },
        };
        match expected.and_then(|expected| self.digest.differs(expected)) {
            Some(name) => Err(StoreError::Integrity {
                detail: format!(
                    "the store's {name} of the object is not that of the bytes it sent"
                ),
            }),
            None => Ok(()),
        }
    }
}

/// The CRC-64/NVME of the version, if it has one.
async fn ask(version: Arc<Version>) -> Result<Option<Checksum>, StoreError> {
    let found = match version.store.fingerprint(&version.key).await {
        Ok(found) => found,
        Err(StoreError::NotFound) => {
            return Err(StoreError::Changed {
                detail: "the object was deleted",
            });
        }
        Err(error) => return Err(error),
    };
    if !is_same_etag(&found.etag, &version.etag) || found.size != version.size {
        return Err(StoreError::Changed {
            detail: "the object was replaced",
        });
    }
    let value = found.crc64_nvme.as_deref().and_then(decode);
    Ok(value.map(Checksum::nvme))
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
            let mut digest = Digest::Crc(Box::new(crc_fast::Digest::new(algorithm)));
            digest.update(b"12345");
            digest.update(b"6789");
            assert_eq!(digest.differs(Checksum::crc(algorithm, "", value)), None);
        }
    }
}
