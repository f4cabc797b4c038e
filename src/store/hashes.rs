//! Hashes of an object that the store knows: one HEAD reports them, and nothing is downloaded.
//!
//! Which there are depends on the store and on who wrote the object: Amazon keeps a CRC-64/NVME of the whole object (and
//! what else a writer sent), COS a CRC-64/XZ, and an ETag is an MD5 if the object was written in one piece and not
//! encrypted with a key management service.

use std::fmt;

use aws_sdk_s3::types::{ChecksumMode, ChecksumType, ServerSideEncryption};

use crate::store::client::Store;
use crate::store::cos_checksum::CosChecksum;
use crate::store::digest::hex;
use crate::store::error::StoreError;
use crate::store::head::content_length;
use crate::store::integrity::Method;
use crate::store::key::Home;
use crate::store::path::VirtualPath;

/// An algorithm that a store may keep a hash of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// CRC-64/NVME
    Crc64Nvme,
    /// CRC-64/XZ, which COS calls CRC-64 of ECMA-182
    Crc64Xz,
    /// CRC-32 of ISO-HDLC
    Crc32,
    /// CRC-32C
    Crc32c,
    /// MD5
    Md5,
    /// SHA-1
    Sha1,
    /// SHA-256
    Sha256,
}

impl Algorithm {
    /// All of them, by the names that `HASH` gives them.
    pub const ALL: [(Algorithm, &'static str); 7] = [
        (Algorithm::Sha256, "SHA-256"),
        (Algorithm::Sha1, "SHA-1"),
        (Algorithm::Md5, "MD5"),
        (Algorithm::Crc32, "CRC32"),
        (Algorithm::Crc32c, "CRC32C"),
        (Algorithm::Crc64Nvme, "CRC64NVME"),
        (Algorithm::Crc64Xz, "CRC64XZ"),
    ];

    /// The algorithm of a name, with or without its hyphen, in any case.
    pub fn named(name: &str) -> Option<Self> {
        let plain = |name: &str| name.replace('-', "").to_ascii_uppercase();
        let known = Self::ALL
            .iter()
            .find(|(_, known)| plain(known) == plain(name));
        known.map(|(algorithm, _)| *algorithm)
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = Self::ALL.iter().find(|(algorithm, _)| algorithm == self);
        f.write_str(named.map_or("", |(_, name)| name))
    }
}

/// The hashes that the store knows of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hashes {
    /// Bytes of the object.
    pub size: u64,
    /// Each hash of the whole object, in hexadecimal digits.
    pub known: Vec<(Algorithm, String)>,
}

impl Hashes {
    /// The hash by one algorithm, if the store has it.
    pub fn by(&self, algorithm: Algorithm) -> Option<&str> {
        let known = self.known.iter().find(|(known, _)| *known == algorithm);
        known.map(|(_, value)| value.as_str())
    }
}

impl Store {
    /// The algorithm by which this store has a hash of every file that the gateway stored, in one part or in many. None if
    /// there is none, or the first upload has yet to show it: an MD5 is kept of files of one part only.
    pub fn dependable_algorithm(&self) -> Option<Algorithm> {
        match self.integrity().method()? {
            Method::Crc64Nvme => Some(Algorithm::Crc64Nvme),
            Method::CosCrc64 => Some(Algorithm::Crc64Xz),
            Method::Md5 | Method::Off => None,
        }
    }

    /// The hashes that the store knows of the file at `path`: [`StoreError::NotFound`], or [`StoreError::IsDirectory`].
    pub async fn hashes(&self, home: &Home, path: &VirtualPath) -> Result<Hashes, StoreError> {
        let cos = CosChecksum::default();
        // COS knows nothing of Amazon's checksums and sends its own unasked
        let asks = self.integrity().method() != Some(Method::CosCrc64);
        let head = self
            .client()
            .head_object()
            .bucket(self.bucket())
            .key(home.key(path)?.as_str())
            .set_checksum_mode(asks.then_some(ChecksumMode::Enabled))
            .customize()
            .interceptor(cos.clone())
            .send()
            .await;
        let head = match head.map_err(|error| StoreError::from_sdk("HeadObject", error)) {
            Ok(head) => head,
            Err(StoreError::NotFound) => {
                self.directory_entry(home, path).await?;
                return Err(StoreError::IsDirectory);
            }
            Err(error) => return Err(error),
        };
        let mut known = Vec::new();
        // a checksum of the parts' checksums is none of the file
        if head.checksum_type() != Some(&ChecksumType::Composite) {
            let told = [
                (Algorithm::Sha256, head.checksum_sha256()),
                (Algorithm::Sha1, head.checksum_sha1()),
                (Algorithm::Crc32, head.checksum_crc32()),
                (Algorithm::Crc32c, head.checksum_crc32_c()),
                (Algorithm::Crc64Nvme, head.checksum_crc64_nvme()),
            ];
            let decoded = told
                .into_iter()
                .filter_map(|(algorithm, text)| Some((algorithm, decode(text?)?)));
            known.extend(decoded);
        }
        if let Some(crc) = cos.get() {
            known.push((Algorithm::Crc64Xz, format!("{crc:016x}")));
        }
        let is_md5 = match head.server_side_encryption() {
            None | Some(ServerSideEncryption::Aes256) => head.sse_customer_algorithm().is_none(),
            Some(_) => false,
        };
        if let Some(md5) = head.e_tag().and_then(plain_md5).filter(|_| is_md5) {
            known.push((Algorithm::Md5, md5));
        }
        Ok(Hashes {
            size: content_length("HeadObject", head.content_length())?,
            known,
        })
    }
}

/// Hexadecimal digits of a checksum header, which is Base64; `None` for one of parts (`...-3`).
fn decode(text: &str) -> Option<String> {
    base64_simd::STANDARD
        .decode_to_vec(text)
        .ok()
        .map(|bytes| hex(&bytes))
}

/// The ETag of an object written in one piece; one of parts has a hyphen and their number.
fn plain_md5(etag: &str) -> Option<String> {
    let digits = etag.trim_matches('"');
    let is_md5 = digits.len() == 32 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_md5.then(|| digits.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_as_clients_write_them() {
        for (name, algorithm) in [
            ("SHA-256", Some(Algorithm::Sha256)),
            ("sha256", Some(Algorithm::Sha256)),
            ("crc64nvme", Some(Algorithm::Crc64Nvme)),
            ("SHA-512", None),
            ("", None),
        ] {
            assert_eq!(Algorithm::named(name), algorithm, "{name}");
        }
        assert!(
            Algorithm::ALL
                .iter()
                .all(|(one, name)| one.to_string() == *name)
        );
    }

    #[test]
    fn only_a_hash_of_the_whole_object_is_one() {
        assert_eq!(decode("rosUhgp5mIg=").as_deref(), Some("ae8b14860a799888"));
        assert_eq!(decode("rosUhgp5mIg=-2"), None);
        let md5 = "\"d41d8cd98f00b204e9800998ecf8427e\"";
        assert!(plain_md5(md5).is_some());
        assert_eq!(plain_md5("\"d41d8cd98f00b204e9800998ecf8427e-2\""), None);
        assert_eq!(plain_md5("\"not an md5\""), None);
    }
}
