//! Checksums: the MD5 of every body and the additional ones that a client may ask for.
//!
//! An object has at most one additional checksum, as on AWS: CRC64NVME, which the gateway and recent SDKs send, or CRC32, the
//! default of the SDKs before. One that covers the bytes of the whole object is `FULL_OBJECT`; one that covers the checksums of
//! the parts is `COMPOSITE` and ends in `-N`, which CRC64NVME never is.

use std::str::FromStr;

use crc_fast::CrcAlgorithm;
use s3s::S3ErrorCode;
use s3s::crypto::{Checksum as _, Crc32, Crc64Nvme, Md5};
use s3s::dto::{ChecksumAlgorithm, ChecksumType};
use serde::{Deserialize, Serialize};

use super::fault::Fault;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Algorithm {
    Crc32,
    Crc64Nvme,
}

impl Algorithm {
    pub(super) const ALL: [Self; 2] = [Self::Crc32, Self::Crc64Nvme];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Crc32 => ChecksumAlgorithm::CRC32,
            Self::Crc64Nvme => ChecksumAlgorithm::CRC64NVME,
        }
    }

    /// The header, or the trailer, that carries the value.
    pub(super) fn header(self) -> &'static str {
        match self {
            Self::Crc32 => "x-amz-checksum-crc32",
            Self::Crc64Nvme => "x-amz-checksum-crc64nvme",
        }
    }

    /// The CRC whose values of two pieces give the value of the whole.
    fn crc(self) -> CrcAlgorithm {
        match self {
            Self::Crc32 => CrcAlgorithm::Crc32IsoHdlc,
            Self::Crc64Nvme => CrcAlgorithm::Crc64Nvme,
        }
    }

    fn width(self) -> usize {
        match self {
            Self::Crc32 => 4,
            Self::Crc64Nvme => 8,
        }
    }
}

impl FromStr for Algorithm {
    type Err = Fault;

    fn from_str(name: &str) -> Result<Self, Fault> {
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.name() == name)
            .ok_or_else(|| {
                Fault::refused(
                    S3ErrorCode::InvalidRequest,
                    "Checksum algorithm provided is unsupported. Please try again with any of the \
                     valid types: [CRC32, CRC64NVME]",
                )
            })
    }
}

/// The coverage of a checksum of a multipart object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Kind {
    FullObject,
    Composite,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::FullObject => ChecksumType::FULL_OBJECT,
            Self::Composite => ChecksumType::COMPOSITE,
        }
    }

    /// The kind of a new upload: what the client asked for, or AWS's default for the algorithm.
    pub(super) fn of_upload(algorithm: Algorithm, asked: Option<&str>) -> Result<Self, Fault> {
        let kind = match asked {
            None if algorithm == Algorithm::Crc64Nvme => Self::FullObject,
            None | Some(ChecksumType::COMPOSITE) => Self::Composite,
            Some(ChecksumType::FULL_OBJECT) => Self::FullObject,
            Some(_) => {
                return Err(Fault::refused(
                    S3ErrorCode::InvalidRequest,
                    "Value for x-amz-checksum-type header is invalid.",
                ));
            }
        };
        if (kind, algorithm) == (Self::Composite, Algorithm::Crc64Nvme) {
            return Err(Fault::refused(
                S3ErrorCode::InvalidRequest,
                "The COMPOSITE checksum type cannot be used with the CRC64NVME checksum algorithm.",
            ));
        }
        Ok(kind)
    }
}

/// A checksum as it is stored and returned: the value is Base64, composite ones end in `-N`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Checksum {
    pub(super) algorithm: Algorithm,
    pub(super) kind: Kind,
    pub(super) value: String,
}

impl Checksum {
    /// The checksum of a whole body or part from its bytes.
    fn full(algorithm: Algorithm, raw: &[u8]) -> Self {
        let value = base64_simd::STANDARD.encode_to_string(raw);
        Self {
            algorithm,
            kind: Kind::FullObject,
            value,
        }
    }

    /// True if `declared` names this value; the `-N` of a composite one may be left out.
    pub(super) fn matches(&self, declared: &str) -> bool {
        let own = self.value.as_str();
        own == declared
            || self.kind == Kind::Composite
                && own
                    .rsplit_once('-')
                    .is_some_and(|(value, _)| value == declared)
    }

    fn raw(&self) -> Result<Vec<u8>, Fault> {
        base64_simd::STANDARD
            .decode_to_vec(self.value.as_bytes())
            .map_err(|_| Fault::Corrupt("checksum"))
    }

    /// The checksum of an object from its parts' checksums and lengths, in order.
    pub(super) fn of_parts(
        algorithm: Algorithm,
        kind: Kind,
        parts: &[(&Checksum, u64)],
    ) -> Result<Self, Fault> {
        match kind {
            Kind::FullObject => combine(algorithm, parts),
            Kind::Composite => {
                let mut hasher = Hasher::new(algorithm);
                for (checksum, _) in parts {
                    hasher.update(&checksum.raw()?);
                }
                let inner = Self::full(algorithm, &hasher.finalize());
                let value = format!("{}-{}", inner.value, parts.len());
                Ok(Self {
                    algorithm,
                    kind,
                    value,
                })
            }
        }
    }
}

fn combine(algorithm: Algorithm, parts: &[(&Checksum, u64)]) -> Result<Checksum, Fault> {
    let mut whole: Option<u64> = None;
    for (checksum, length) in parts {
        let part = checksum
            .raw()?
            .iter()
            .fold(0, |value, byte| value << 8 | u64::from(*byte));
        whole = Some(match whole {
            None => part,
            Some(before) => crc_fast::checksum_combine(algorithm.crc(), before, part, *length),
        });
    }
    let bytes = whole.unwrap_or_default().to_be_bytes();
    Ok(Checksum::full(
        algorithm,
        &bytes[bytes.len() - algorithm.width()..],
    ))
}

/// Hashes one body: always its MD5, and at most one additional checksum.
pub(super) struct Digest {
    md5: Md5,
    additional: Option<(Algorithm, Hasher)>,
}

/// The results of a [`Digest`].
pub(super) struct Digested {
    pub(super) md5: [u8; 16],
    pub(super) checksum: Option<Checksum>,
}

impl Digest {
    pub(super) fn new(additional: Option<Algorithm>) -> Self {
        let additional = additional.map(|algorithm| (algorithm, Hasher::new(algorithm)));
        Self {
            md5: Md5::new(),
            additional,
        }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.md5.update(bytes);
        if let Some((_, hasher)) = &mut self.additional {
            hasher.update(bytes);
        }
    }

    pub(super) fn finalize(self) -> Digested {
        let checksum = self
            .additional
            .map(|(algorithm, hasher)| Checksum::full(algorithm, &hasher.finalize()));
        Digested {
            md5: self.md5.finalize(),
            checksum,
        }
    }
}

enum Hasher {
    Crc32(Crc32),
    Crc64Nvme(Crc64Nvme),
}

impl Hasher {
    fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Crc32 => Self::Crc32(Crc32::new()),
            Algorithm::Crc64Nvme => Self::Crc64Nvme(Crc64Nvme::new()),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Crc32(hasher) => hasher.update(bytes),
            Self::Crc64Nvme(hasher) => hasher.update(bytes),
        }
    }

    fn finalize(self) -> Vec<u8> {
        match self {
            Self::Crc32(hasher) => hasher.finalize().to_vec(),
            Self::Crc64Nvme(hasher) => hasher.finalize().to_vec(),
        }
    }
}

/// The ETag of a body that was sent at once, or of a part: its MD5 in hexadecimal.
pub(super) fn etag(md5: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(md5))
}

/// The ETag of a multipart object: the MD5 of the parts' MD5s, and their number.
pub(super) fn multipart_etag<'e>(parts: impl Iterator<Item = &'e str>) -> Result<String, Fault> {
    let mut md5 = Md5::new();
    let mut count = 0;
    for part in parts {
        let value = u128::from_str_radix(part, 16).map_err(|_| Fault::Corrupt("part"))?;
        md5.update(&value.to_be_bytes());
        count += 1;
    }
    Ok(format!("{}-{count}", etag(md5.finalize())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checksum(algorithm: Algorithm, bytes: &[u8]) -> Checksum {
        let mut digest = Digest::new(Some(algorithm));
        digest.update(bytes);
        digest.finalize().checksum.unwrap()
    }

    #[test]
    fn checksums_have_their_published_values() {
        // The check value of each CRC is that of "123456789".
        let bytes = b"123456789";
        assert_eq!(checksum(Algorithm::Crc32, bytes).value, "y/Q5Jg==");
        assert_eq!(checksum(Algorithm::Crc64Nvme, bytes).value, "rosUhgp5mIg=");
    }

    #[test]
    fn the_crcs_of_parts_combine_to_the_crc_of_the_whole() {
        let (head, tail) = b"the quick brown fox".split_at(7);
        for algorithm in Algorithm::ALL {
            let (first, second) = (checksum(algorithm, head), checksum(algorithm, tail));
            let parts = [(&first, head.len() as u64), (&second, tail.len() as u64)];
            let whole = Checksum::of_parts(algorithm, Kind::FullObject, &parts).unwrap();
            assert_eq!(whole, checksum(algorithm, b"the quick brown fox"));
        }
    }

    #[test]
    fn a_composite_checksum_covers_the_parts_checksums() {
        let part = checksum(Algorithm::Crc32, b"part");
        let whole = Checksum::of_parts(Algorithm::Crc32, Kind::Composite, &[(&part, 4)]).unwrap();
        assert!(whole.value.ends_with("-1"));
        assert!(whole.matches(&whole.value));
        assert!(whole.matches(whole.value.trim_end_matches("-1")));
        assert!(!whole.matches(&part.value));
    }

    #[test]
    fn only_possible_checksum_types_are_accepted() {
        use Algorithm::*;
        let kind = |algorithm, asked| Kind::of_upload(algorithm, asked).ok();
        assert_eq!(kind(Crc32, None), Some(Kind::Composite));
        assert_eq!(kind(Crc32, Some("FULL_OBJECT")), Some(Kind::FullObject));
        assert_eq!(kind(Crc64Nvme, None), Some(Kind::FullObject));
        assert_eq!(kind(Crc64Nvme, Some("COMPOSITE")), None);
        assert_eq!(kind(Crc32, Some("other")), None);
    }

    #[test]
    fn etags_are_the_md5_and_the_md5_of_md5s() {
        let md5 = |bytes: &[u8]| Md5::checksum(bytes);
        assert_eq!(etag(md5(b"")), "d41d8cd98f00b204e9800998ecf8427e");
        let parts = [etag(md5(b"a")), etag(md5(b"b"))];
        let whole = multipart_etag(parts.iter().map(String::as_str)).unwrap();
        let expected = md5(&[md5(b"a"), md5(b"b")].concat());
        assert_eq!(whole, format!("{}-2", etag(expected)));
    }
}
