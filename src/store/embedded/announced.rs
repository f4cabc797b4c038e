//! The announcements in the headers of an upload about its body, and the check whether the body keeps it.

use hyper::HeaderMap;
use s3s::{S3ErrorCode, TrailingHeaders, s3_error};

use super::checksum::{Algorithm, Digested};
use super::fault::Fault;

/// The client's announcements of the body before sending it.
pub(super) struct Announced {
    length: u64,
    md5: Option<[u8; 16]>,
    algorithm: Option<Algorithm>,
    /// Base64, from a header; a value from a trailer comes behind the body.
    checksum: Option<String>,
    /// The body is `aws-chunked` and has announced trailers.
    has_trailer: bool,
    trailers: Option<TrailingHeaders>,
}

impl Announced {
    /// Reads the headers of a PutObject or UploadPart.
    ///
    /// # Errors
    ///
    /// `MissingContentLength`, `EntityTooLarge` over 5 GiB, `InvalidDigest` for a `Content-MD5`
    /// that is none, and `InvalidRequest` for more than one checksum or an unknown one.
    pub(super) fn parse(
        headers: &HeaderMap,
        trailers: Option<TrailingHeaders>,
    ) -> Result<Self, Fault> {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let length = header("x-amz-decoded-content-length")
            .or_else(|| header("content-length"))
            .and_then(|length| length.parse::<u64>().ok())
            .ok_or_else(|| {
                s3_error!(
                    MissingContentLength,
                    "You must provide the Content-Length HTTP header."
                )
            })?;
        if length > MAX_BODY_BYTES {
            return Err(s3_error!(
                EntityTooLarge,
                "Your proposed upload exceeds the maximum allowed size"
            )
            .into());
        }
        let md5 = header("content-md5").map(parse_md5).transpose()?;
        let trailer = header("x-amz-trailer").map(str::to_ascii_lowercase);
        let in_header = |algorithm: &Algorithm| headers.contains_key(algorithm.header());
        let in_trailer = |algorithm: &Algorithm| {
            let mut names = trailer.iter().flat_map(|names| names.split(','));
            names.any(|name| name.trim() == algorithm.header())
        };
        let unknown = |name: &str| {
            name.starts_with("x-amz-checksum-")
                && Algorithm::ALL.iter().all(|known| known.header() != name)
        };
        if let Some(names) = &trailer
            && let Some(name) = names.split(',').map(str::trim).find(|name| unknown(name))
        {
            return Err(Fault::refused(
                S3ErrorCode::NotImplemented,
                format!("The embedded store does not verify {name}."),
            ));
        }
        let mut named = Algorithm::ALL
            .into_iter()
            .filter(|name| in_header(name) || in_trailer(name));
        let mut algorithm = named.next();
        if named.next().is_some() {
            return Err(s3_error!(
                InvalidRequest,
                "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed."
            )
            .into());
        }
        if algorithm.is_none() {
            algorithm = header("x-amz-sdk-checksum-algorithm")
                .map(str::parse)
                .transpose()?;
        }
        let checksum = algorithm
            .and_then(|name| header(name.header()))
            .map(str::to_owned);
        Ok(Self {
            length,
            md5,
            algorithm,
            checksum,
            has_trailer: trailer.is_some(),
            trailers,
        })
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn algorithm(&self) -> Option<Algorithm> {
        self.algorithm
    }

    /// An aws-chunked body may end between two chunks, and then nobody below has noticed.
    pub(super) fn lacks_trailer(&self) -> bool {
        self.has_trailer
            && !self
                .trailers
                .as_ref()
                .is_some_and(TrailingHeaders::is_ready)
    }

    /// Makes the checksum of the upload be computed even if the client sends none.
    ///
    /// # Errors
    ///
    /// `InvalidRequest` when the client announced a checksum of another kind.
    pub(super) fn require(&mut self, of_upload: Option<Algorithm>) -> Result<(), Fault> {
        let Some(algorithm) = of_upload else {
            return Ok(());
        };
        if self
            .algorithm
            .is_some_and(|announced| announced != algorithm)
        {
            return Err(Fault::refused(
                S3ErrorCode::InvalidRequest,
                format!(
                    "Checksum Type mismatch occurred, expected checksum Type: {}",
                    algorithm.name().to_lowercase()
                ),
            ));
        }
        self.algorithm = of_upload;
        Ok(())
    }

    /// # Errors
    ///
    /// `BadDigest` when the body is not what the client declared.
    pub(super) fn verify(&self, digested: &Digested) -> Result<(), Fault> {
        if self.md5.is_some_and(|md5| md5 != digested.md5) {
            return Err(s3_error!(
                BadDigest,
                "The Content-MD5 you specified did not match what we received."
            )
            .into());
        }
        let Some(checksum) = &digested.checksum else {
            return Ok(());
        };
        let name = checksum.algorithm.header();
        let trailer = self.trailers.as_ref().and_then(|trailers| {
            trailers.read(|headers| headers.get(name)?.to_str().ok().map(str::to_owned))?
        });
        match self.checksum.as_ref().or(trailer.as_ref()) {
            Some(declared) if *declared != checksum.value => Err(Fault::refused(
                S3ErrorCode::BadDigest,
                format!(
                    "The {} you specified did not match the calculated checksum.",
                    checksum.algorithm.name()
                ),
            )),
            _ => Ok(()),
        }
    }
}

fn parse_md5(header: &str) -> Result<[u8; 16], Fault> {
    let decoded = base64_simd::STANDARD.decode_to_vec(header.as_bytes()).ok();
    decoded
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| {
            s3_error!(InvalidDigest, "The Content-MD5 you specified is not valid.").into()
        })
}

/// Most bytes of one PutObject or UploadPart: 5 GiB, as on AWS.
pub(super) const MAX_BODY_BYTES: u64 = 5 << 30;
