//! Digests of bodies, and their comparison with what a store says of them.

use base64_simd::STANDARD;
use crc_fast::{CrcAlgorithm, checksum_combine};
use md5::{Digest as _, Md5};

use crate::store::checksum::{ObjectChecksum, decode_crc};
use crate::store::integrity::Method;

/// Known facts about one body.
#[derive(Debug, Clone, Copy)]
pub struct Digest {
    /// Bytes of the body.
    pub bytes: u64,
    crc: Option<u64>,
    md5: Option<[u8; 16]>,
}

/// Bytes whose CRC is made before other tasks have their turn: a third of a millisecond.
const CRC_TURN: usize = 4 * 1024 * 1024;

/// The same for an MD5, which takes 2 ms for these, and 16 ms for a part of 8 MiB. A turn of the others may take as long under load.
const MD5_TURN: usize = 1024 * 1024;

impl Digest {
    /// Digests one body. Without a method both kinds are made, so that the store's answer can be compared whatever it is.
    ///
    /// The other tasks of the thread have their turns in between, if it is long.
    pub async fn of(bytes: &[u8], method: Option<Method>) -> Self {
        let crc = |algorithm| Some(crc_fast::Digest::new(algorithm));
        let (mut crc, mut md5) = match method {
            Some(Method::Off) => (None, None),
            Some(Method::Crc64Nvme) => (crc(CrcAlgorithm::Crc64Nvme), None),
            Some(Method::CosCrc64) => (crc(CrcAlgorithm::Crc64Xz), None),
            Some(Method::Md5) => (None, Some(Md5::new())),
            None => (crc(CrcAlgorithm::Crc64Nvme), Some(Md5::new())),
        };
        let turn = if md5.is_some() { MD5_TURN } else { CRC_TURN };
        for (number, piece) in bytes.chunks(turn).enumerate() {
            if number > 0 {
                tokio::task::yield_now().await;
            }
            crc.iter_mut().for_each(|crc| crc.update(piece));
            md5.iter_mut().for_each(|md5| md5.update(piece));
        }
        Digest {
            bytes: bytes.len() as u64,
            crc: crc.map(|crc| crc.finalize()),
            md5: md5.map(|md5| md5.finalize().into()),
        }
    }

    /// A part that the store copied; its CRC as far as the store reported it.
    pub fn of_copy(bytes: u64, crc64_nvme: Option<&str>) -> Self {
        Digest {
            bytes,
            crc: crc64_nvme.and_then(decode_crc),
            md5: None,
        }
    }

    /// Adds an MD5, for a body that the store is to check before it makes it visible.
    pub async fn with_md5(mut self, bytes: &[u8]) -> Self {
        let of_bytes = Digest::of(bytes, Some(Method::Md5)).await;
        self.md5 = of_bytes.md5;
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

    /// The checksum that is compared by `method`; none of an object made of parts that were compared one by one.
    pub fn checksum(&self, method: Option<Method>) -> Option<ObjectChecksum> {
        let crc = |algorithm| {
            self.crc
                .map(|crc| ObjectChecksum::new(algorithm, format!("{crc:016x}")))
        };
        match method? {
            Method::Off => None,
            Method::Crc64Nvme => crc("CRC64NVME"),
            Method::CosCrc64 => crc("CRC64XZ"),
            Method::Md5 => self.md5.map(|md5| ObjectChecksum::new("MD5", hex(&md5))),
        }
    }

    /// Compares with what the store answered to the write. An ETag is the least that an S3 store says; besides, the
    /// checksum of the store's own method has to be there.
    pub fn compare(&self, method: Option<Method>, answer: &Answer<'_>) -> Comparison {
        let content = self.content_is(method, answer);
        let has_etag = answer
            .etag
            .is_some_and(|etag| !etag.trim_matches('"').is_empty());
        match (content, method) {
            (Comparison::Differs(kind), _) => Comparison::Differs(kind),
            _ if !has_etag => Comparison::Unproved,
            (Comparison::Same, _) => Comparison::Same,
            // the body went with its MD5, which the store looks at before it answers
            (Comparison::Unproved, Some(Method::Off | Method::Md5) | None) => Comparison::Same,
            (Comparison::Unproved, Some(Method::Crc64Nvme | Method::CosCrc64)) => {
                Comparison::Unproved
            }
        }
    }

    /// Compares with what the store says about the content of an object.
    pub fn content_is(&self, method: Option<Method>, answer: &Answer<'_>) -> Comparison {
        let (nvme, cos) = match method {
            None | Some(Method::Crc64Nvme) => (answer.crc64_nvme.and_then(decode_crc), None),
            Some(Method::CosCrc64) => (None, answer.cos_crc64),
            Some(Method::Md5 | Method::Off) => (None, None),
        };
        let etag = answer.etag.filter(|_| !answer.encrypted);
        let etag = etag.and_then(decode_etag).zip(self.md5);
        let checks = [
            (
                "CRC-64/NVME",
                nvme.zip(self.crc).map(|(told, ours)| told == ours),
            ),
            ("CRC-64", cos.zip(self.crc).map(|(told, ours)| told == ours)),
            ("ETag", etag.map(|(told, ours)| told == ours)),
        ];
        if let Some((kind, _)) = checks.iter().find(|(_, is_same)| *is_same == Some(false)) {
            return Comparison::Differs(kind);
        }
        if checks.iter().any(|(_, is_same)| *is_same == Some(true)) {
            Comparison::Same
        } else {
            Comparison::Unproved
        }
    }

    /// False for bytes whose checksum nobody knows, such as those of some copies.
    pub fn has_checksum(&self) -> bool {
        self.crc.is_some() || self.md5.is_some()
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

/// The verdict of a store's answer about a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// It is what was sent.
    Same,
    /// Nothing that can be compared.
    Unproved,
    /// It is not what was sent, by this checksum.
    Differs(&'static str),
}

/// A store's answer about a body that it took.
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

/// The MD5 in an ETag, if it has the form of one.
pub(super) fn decode_etag(etag: &str) -> Option<[u8; 16]> {
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

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use proptest::prelude::*;

    use super::*;

    fn of(bytes: &[u8], method: Option<Method>) -> Digest {
        Digest::of(bytes, method).now_or_never().expect("short")
    }

    #[test]
    fn digests_have_their_published_values() {
        // the check value of both polynomials is that of "123456789"
        let nvme = of(b"123456789", Some(Method::Crc64Nvme));
        assert_eq!(nvme.crc, Some(0xae8b_1486_0a79_9888));
        let xz = of(b"123456789", Some(Method::CosCrc64));
        assert_eq!(xz.crc, Some(0x995d_c9bb_df19_39fa));
        let md5 = of(b"", Some(Method::Md5));
        assert_eq!(
            md5.content_md5().as_deref(),
            Some("1B2M2Y8AsgTpgAmY7PhCfg==")
        );
    }

    #[test]
    fn an_answer_counts_only_with_all_the_proof_that_the_store_gives() {
        let bytes = b"hello";
        let good_crc = of(bytes, None).crc64_nvme(None).expect("made");
        let (good, other) = (
            "\"5d41402abc4b2a76b9719d911017c592\"",
            "00000000000000000000000000000000",
        );
        let (nvme, cos, md5) = (
            Some(Method::Crc64Nvme),
            Some(Method::CosCrc64),
            Some(Method::Md5),
        );
        let (bad_crc, opaque) = (Some("AAAAAAAAAAA="), Some("opaque"));
        let crc = Some(good_crc.as_str());
        use Comparison::{Differs, Same, Unproved};
        for (method, crc64_nvme, etag, expected) in [
            (None, None, None, Unproved),
            (None, crc, Some(good), Same),
            (None, None, Some(good), Same),
            (None, bad_crc, Some(good), Differs("CRC-64/NVME")),
            (None, None, Some(other), Differs("ETag")),
            (None, None, opaque, Same),
            (nvme, crc, opaque, Same),
            (nvme, crc, None, Unproved),
            (nvme, crc, Some("\"\""), Unproved),
            (nvme, None, Some(good), Unproved),
            (nvme, bad_crc, None, Differs("CRC-64/NVME")),
            (cos, None, Some(good), Unproved),
            (md5, None, Some(other), Differs("ETag")),
            (Some(Method::Off), None, opaque, Same),
            (Some(Method::Off), None, None, Unproved),
        ] {
            let answer = Answer {
                crc64_nvme,
                etag,
                ..Answer::default()
            };
            let compared = of(bytes, method).compare(method, &answer);
            assert_eq!(compared, expected, "{method:?}, {crc64_nvme:?}, {etag:?}");
        }
        let encrypted = Answer {
            etag: Some(other),
            encrypted: true,
            ..Answer::default()
        };
        assert_eq!(of(bytes, md5).compare(md5, &encrypted), Same);
        let cos_answer = |crc| Answer {
            cos_crc64: Some(crc),
            etag: opaque,
            ..Answer::default()
        };
        let digest = of(bytes, cos);
        assert_eq!(digest.compare(cos, &cos_answer(1)), Differs("CRC-64"));
        let crc = digest.crc.expect("made");
        assert_eq!(digest.compare(cos, &cos_answer(crc)), Same);
        let without = Answer {
            etag: Some(good),
            ..Answer::default()
        };
        let by_md5 = digest.with_md5(bytes).now_or_never().expect("short");
        assert_eq!(by_md5.compare(cos, &without), Same);
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
                let parts = [&first, &second].map(|part| of(part, Some(method)));
                let sum = parts.iter().fold(Digest::empty(), |sum, part| sum.followed_by(part, Some(method)));
                prop_assert_eq!(sum.crc, of(&whole, Some(method)).crc);
                prop_assert_eq!(sum.bytes, whole.len() as u64);
            }
        }
    }

    #[tokio::test]
    async fn other_tasks_have_their_turn_while_a_part_is_digested() {
        let part = vec![1; 8 << 20];
        let digesting = tokio::spawn(async move {
            let digest = Digest::of(&part, None).await;
            (digest, part)
        });
        let mut turns = 0;
        while !digesting.is_finished() {
            tokio::task::yield_now().await;
            turns += 1;
        }
        let (digest, part) = digesting.await.expect("no panic");
        assert!(turns >= part.len() / MD5_TURN - 1, "{turns}");
        assert_eq!(digest.md5, Some(Md5::digest(&part).into()));
        let crc = crc_fast::checksum(CrcAlgorithm::Crc64Nvme, &part);
        assert_eq!(digest.crc, Some(crc));
    }
}
