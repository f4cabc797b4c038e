//! Proof that the store has what the client sent.
//!
//! FTP checks nothing, so the gateway does: every body that goes to the store is digested here, and what the store says
//! it has is compared before the client hears 226. Which digest depends on what a store offers:
//!
//! | method | store | checked by the store before it answers | compared by the gateway |
//! |---|---|---|---|
//! | [`Method::Crc64Nvme`] | AWS S3, the embedded store, others that echo it | each part, and the whole object | the echoed value |
//! | [`Method::CosCrc64`] | Tencent COS | a single body, by Content-MD5 | `x-cos-hash-crc64ecma` of each part and of the whole |
//! | [`Method::Md5`] | all others | each part, by Content-MD5 | the ETag, where it is an MD5 |
//! | [`Method::Off`] | on request | | |
//!
//! The CRCs of parts combine to that of the whole object, so no byte is read twice; CRC-64 runs at memory speed, MD5 at
//! about two seconds of CPU time per GiB, which is why it comes last.

use std::fmt;
use std::sync::{Arc, OnceLock};

use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use base64_simd::STANDARD;
use crc_fast::{CrcAlgorithm, checksum, checksum_combine};
use md5::{Digest as _, Md5};
use tracing::info;

use crate::store::error::StoreError;

/// How bodies are proved for one store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Not at all.
    Off,
    /// CRC-64/NVME over the whole object
    /// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html>).
    Crc64Nvme,
    /// CRC-64/XZ, which COS computes of its own accord (<https://www.tencentcloud.com/document/product/436/34078>).
    CosCrc64,
    /// MD5 of each body.
    Md5,
}

/// The method of one store: known from the start, or learnt from its first answer.
#[derive(Debug)]
pub struct Integrity {
    fixed: Option<Method>,
    learnt: OnceLock<Method>,
}

/// What is known of one body.
#[derive(Debug, Clone, Copy)]
pub struct Digest {
    /// Bytes of the body.
    pub bytes: u64,
    crc: Option<u64>,
    md5: Option<[u8; 16]>,
}

impl Integrity {
    /// `None`: an S3-compatible store of which nothing is known yet.
    pub fn new(method: Option<Method>) -> Self {
        if method == Some(Method::Off) {
            info!("storage.integrity is off: uploads are acknowledged without a comparison");
        }
        Integrity {
            fixed: method,
            learnt: OnceLock::new(),
        }
    }

    /// The method, if it is known.
    pub fn method(&self) -> Option<Method> {
        self.fixed.or_else(|| self.learnt.get().copied())
    }

    /// Notes what the first answer showed: a store that speaks CRC-64/NVME echoes it.
    pub fn learn(&self, echoed: bool) -> Method {
        *self.learnt.get_or_init(|| {
            let method = if echoed { Method::Crc64Nvme } else { Method::Md5 };
            if !echoed {
                info!("the store doesn't answer with CRC-64/NVME checksums: uploads are compared by MD5, which costs CPU time");
            }
            method
        })
    }
}

impl Digest {
    /// Digests one body. Without a method both kinds are made, so that the store's answer can be compared whatever it is.
    pub fn of(bytes: &[u8], method: Option<Method>) -> Self {
        let (crc, md5) = match method {
            Some(Method::Off) => (None, None),
            Some(Method::Crc64Nvme) => (Some(checksum(CrcAlgorithm::Crc64Nvme, bytes)), None),
            Some(Method::CosCrc64) => (Some(checksum(CrcAlgorithm::Crc64Xz, bytes)), None),
            Some(Method::Md5) => (None, Some(md5(bytes))),
            None => (
                Some(checksum(CrcAlgorithm::Crc64Nvme, bytes)),
                Some(md5(bytes)),
            ),
        };
        Digest {
            bytes: bytes.len() as u64,
            crc,
            md5,
        }
    }

    /// A part that the store copied; its CRC as far as the store told it.
    pub fn of_copy(bytes: u64, crc64_nvme: Option<&str>) -> Self {
        Digest {
            bytes,
            crc: crc64_nvme.and_then(decode_crc),
            md5: None,
        }
    }

    /// Adds an MD5, for a body that the store is to check before it makes it visible.
    pub fn with_md5(mut self, bytes: &[u8]) -> Self {
        self.md5 = Some(md5(bytes));
        self
    }

    /// `Content-MD5`
    pub fn content_md5(&self) -> Option<String> {
        self.md5.map(|md5| STANDARD.encode_to_string(md5))
    }

    /// `x-amz-checksum-crc64nvme`
    pub fn crc64_nvme(&self, method: Option<Method>) -> Option<String> {
        let crc = self
            .crc
            .filter(|_| matches!(method, None | Some(Method::Crc64Nvme)))?;
        Some(STANDARD.encode_to_string(crc.to_be_bytes()))
    }

    /// Compares with what the store answered. What a store leaves out can't be compared and is no error.
    pub fn compare(&self, what: &dyn fmt::Display, answer: &Answer<'_>) -> Result<(), StoreError> {
        let differs = |kind: &str| {
            Err(StoreError::Integrity {
                detail: format!("the store's {kind} of {what} is not that of what was sent"),
            })
        };
        if let (Some(echoed), Some(crc)) = (answer.crc64_nvme.and_then(decode_crc), self.crc)
            && echoed != crc
        {
            return differs("CRC-64/NVME");
        }
        if let (Some(cos), Some(crc)) = (answer.cos_crc64, self.crc)
            && cos != crc
        {
            return differs("CRC-64");
        }
        if let (Some(etag), Some(md5)) = (answer.etag.filter(|_| !answer.encrypted), self.md5)
            && decode_etag(etag).is_some_and(|etag| etag != md5)
        {
            return differs("ETag");
        }
        Ok(())
    }

    /// True if the CRC is this one; `None` if it isn't known.
    pub fn has_crc(&self, crc: u64) -> Option<bool> {
        self.crc.map(|ours| ours == crc)
    }

    /// The ETag that a body of one piece has at most stores: its MD5.
    pub fn etag(&self) -> Option<String> {
        Some(hex(&self.md5?))
    }

    /// The digest of two bodies one after the other.
    pub fn followed_by(&self, next: &Digest, method: Option<Method>) -> Digest {
        let algorithm = match method {
            Some(Method::CosCrc64) => CrcAlgorithm::Crc64Xz,
            _ => CrcAlgorithm::Crc64Nvme,
        };
        let crc = self
            .crc
            .zip(next.crc)
            .map(|(first, second)| checksum_combine(algorithm, first, second, next.bytes));
        Digest {
            bytes: self.bytes + next.bytes,
            crc,
            md5: None,
        }
    }

    /// The digest of nothing, to begin a sum with.
    pub fn empty() -> Self {
        // the CRC of no bytes is 0 for both polynomials
        Digest {
            bytes: 0,
            crc: Some(0),
            md5: None,
        }
    }
}

/// What a store says about a body that it took.
#[derive(Debug, Default, Clone, Copy)]
pub struct Answer<'a> {
    /// `x-amz-checksum-crc64nvme`, base64.
    pub crc64_nvme: Option<&'a str>,
    /// `x-cos-hash-crc64ecma`, decimal.
    pub cos_crc64: Option<u64>,
    /// With or without its quotes.
    pub etag: Option<&'a str>,
    /// The ETag of an encrypted object is no MD5.
    pub encrypted: bool,
}

fn md5(bytes: &[u8]) -> [u8; 16] {
    Md5::digest(bytes).into()
}

fn decode_crc(base64: &str) -> Option<u64> {
    let bytes = STANDARD.decode_to_vec(base64).ok()?;
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

/// The MD5 in an ETag, if it has the form of one.
fn decode_etag(etag: &str) -> Option<[u8; 16]> {
    let hex = etag.trim_matches('"');
    if hex.len() != 32 || !hex.is_ascii() {
        return None;
    }
    let mut md5 = [0; 16];
    for (byte, pair) in md5.iter_mut().zip(hex.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(md5)
}

/// The ETag that S3 gives an object made of parts with these ETags: the MD5 of their MD5s, and their number.
/// `None` if one of them is no MD5.
pub fn composite_etag<'a>(parts: impl Iterator<Item = &'a str>) -> Option<String> {
    let mut all = Md5::new();
    let mut count = 0_u32;
    for etag in parts {
        all.update(decode_etag(etag)?);
        count += 1;
    }
    Some(format!("{}-{count}", hex(&all.finalize())))
}

/// Two hexadecimal digits for each byte.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads COS's own checksum header from an answer; the SDK's types have no place for it.
#[derive(Debug, Clone, Default)]
pub struct CosChecksum(Arc<OnceLock<u64>>);

impl CosChecksum {
    /// The value, once the answer is there.
    pub fn get(&self) -> Option<u64> {
        self.0.get().copied()
    }
}

impl Intercept for CosChecksum {
    fn name(&self) -> &'static str {
        "CosChecksum"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let header = context.response().headers().get("x-cos-hash-crc64ecma");
        if let Some(value) = header.and_then(|value| value.parse().ok()) {
            // an attempt that was retried may have set it before; the same body has the same checksum
            let _ = self.0.set(value);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn digests_have_their_published_values() {
        // the check value of both polynomials is that of "123456789"
        let nvme = Digest::of(b"123456789", Some(Method::Crc64Nvme));
        assert_eq!(nvme.crc, Some(0xae8b_1486_0a79_9888));
        let xz = Digest::of(b"123456789", Some(Method::CosCrc64));
        assert_eq!(xz.crc, Some(0x995d_c9bb_df19_39fa));
        let md5 = Digest::of(b"", Some(Method::Md5));
        assert_eq!(
            md5.content_md5().as_deref(),
            Some("1B2M2Y8AsgTpgAmY7PhCfg==")
        );
    }

    #[test]
    fn each_kind_of_difference_is_found_and_what_is_left_out_is_none() {
        let digest = Digest::of(b"hello", None);
        let same = digest.crc64_nvme(None).expect("made");
        assert!(digest.compare(&"x", &Answer::default()).is_ok());
        let good = Answer {
            crc64_nvme: Some(&same),
            etag: Some("\"5d41402abc4b2a76b9719d911017c592\""),
            ..Answer::default()
        };
        assert!(digest.compare(&"x", &good).is_ok());
        assert!(
            digest
                .compare(
                    &"x",
                    &Answer {
                        crc64_nvme: Some("AAAAAAAAAAA="),
                        ..Answer::default()
                    }
                )
                .is_err()
        );
        let other = "00000000000000000000000000000000";
        assert!(
            digest
                .compare(
                    &"x",
                    &Answer {
                        etag: Some(other),
                        ..Answer::default()
                    }
                )
                .is_err()
        );
        assert!(
            digest
                .compare(
                    &"x",
                    &Answer {
                        etag: Some(other),
                        encrypted: true,
                        ..Answer::default()
                    }
                )
                .is_ok()
        );
        assert!(
            digest
                .compare(
                    &"x",
                    &Answer {
                        etag: Some("opaque"),
                        ..Answer::default()
                    }
                )
                .is_ok()
        );
        let cos = Digest::of(b"hello", Some(Method::CosCrc64));
        assert!(
            cos.compare(
                &"x",
                &Answer {
                    cos_crc64: Some(1),
                    ..Answer::default()
                }
            )
            .is_err()
        );
    }

    #[test]
    fn a_composite_etag_is_the_md5_of_the_md5s() {
        let parts = [
            "\"5d41402abc4b2a76b9719d911017c592\"",
            "7d793037a0760186574b0282f2f435e7",
        ];
        let composite = composite_etag(parts.into_iter());
        assert_eq!(
            composite.as_deref(),
            Some("065947336a2f2a95ba8899f3675c3be6-2")
        );
        assert_eq!(composite_etag(["opaque"].into_iter()), None);
    }

    proptest! {
        #[test]
        fn the_digests_of_parts_combine_to_that_of_the_whole(
            first in proptest::collection::vec(any::<u8>(), 0..300),
            second in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let whole = [first.clone(), second.clone()].concat();
            for method in [Method::Crc64Nvme, Method::CosCrc64] {
                let parts = [&first, &second].map(|part| Digest::of(part, Some(method)));
                let sum = parts.iter().fold(Digest::empty(), |sum, part| sum.followed_by(part, Some(method)));
                prop_assert_eq!(sum.crc, Digest::of(&whole, Some(method)).crc);
                prop_assert_eq!(sum.bytes, whole.len() as u64);
            }
        }
    }
}
