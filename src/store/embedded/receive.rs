//! Request body -> segment: one upload body is hashed, checked and put on the disk.
//!
//! Invariant: a body that ends early, is too long, or does not match what the client declared
//! about it leaves nothing behind. Memory per body is two batches, whatever its length.

use std::mem;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use hyper::{HeaderMap, StatusCode};
use s3s::dto::StreamingBlob;
use s3s::{S3ErrorCode, StdError, TrailingHeaders, s3_error};
use tokio::task::JoinHandle;

use super::blobs::{Blobs, Draft};
use super::checksum::{Algorithm, Checksum, Digest};
use super::fault::Fault;
use super::index::spawn_blocking;
use super::records::Segment;

/// What the client said about the body before sending it.
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

    fn verify(&self, received: &Received) -> Result<(), Fault> {
        if self.md5.is_some_and(|md5| md5 != received.md5) {
            return Err(s3_error!(
                BadDigest,
                "The Content-MD5 you specified did not match what we received."
            )
            .into());
        }
        let Some(checksum) = &received.checksum else {
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

/// A body that is complete and verified, and not yet named by the index.
pub(super) struct Received {
    pub(super) length: u64,
    pub(super) segment: Option<Segment>,
    /// The file of the segment, if it has one; deleted unless the index adopts it.
    pub(super) draft: Option<Draft>,
    pub(super) md5: [u8; 16],
    pub(super) checksum: Option<Checksum>,
}

/// Takes in a body. Dropping the future drops the body.
pub(super) async fn receive(
    blobs: &Arc<Blobs>,
    body: Option<StreamingBlob>,
    announced: Announced,
) -> Result<Received, Fault> {
    let mut sink = Stage::Idle(Box::new(Sink::new(Arc::clone(blobs), announced.algorithm)));
    let mut batch = Batch::default();
    let mut length = 0;
    let mut body = body;
    while let Some(stream) = &mut body
        && let Some(chunk) = stream.next().await
    {
        let chunk = chunk.map_err(|error| refuse_body(&error))?;
        length += chunk.len() as u64;
        if length > announced.length {
            return Err(incomplete());
        }
        batch.push(chunk);
        if batch.bytes >= BATCH_BYTES {
            let batch = mem::take(&mut batch);
            sink = sink.start(batch).await?;
        }
    }
    // An aws-chunked body may end between two chunks, and then nobody below has noticed.
    let trailer_missing = announced.has_trailer
        && !announced
            .trailers
            .as_ref()
            .is_some_and(TrailingHeaders::is_ready);
    if length != announced.length || trailer_missing {
        return Err(incomplete());
    }
    let sink = sink.idle().await?;
    let received = spawn_blocking(move || {
        sink.take_in(batch)?
            .finish(length, |received| announced.verify(received))
    });
    received.await
}

/// Passes a result on; before a refusal the body is read and dropped, since a client that cannot
/// finish sending often does not read the answer.
pub(super) async fn or_drain<T>(
    result: Result<T, Fault>,
    body: &mut Option<StreamingBlob>,
) -> Result<T, Fault> {
    if result.is_err()
        && let Some(mut body) = body.take()
    {
        let mut drained = 0;
        while drained <= MAX_DRAINED_BYTES
            && let Some(Ok(chunk)) = body.next().await
        {
            drained += chunk.len();
        }
    }
    result
}

fn incomplete() -> Fault {
    s3_error!(
        IncompleteBody,
        "You did not provide the number of bytes specified by the Content-Length HTTP header"
    )
    .into()
}

/// The S3 library reports what is wrong with a body by error types that it does not export; their
/// names are in their texts.
fn refuse_body(error: &StdError) -> Fault {
    let text = error.to_string();
    if text.contains("Sha256Mismatch") {
        Fault::refused_with_status(
            "XAmzContentSHA256Mismatch",
            StatusCode::BAD_REQUEST,
            "The provided 'x-amz-content-sha256' header does not match what was computed.",
        )
    } else if text.contains("SignatureMismatch") {
        Fault::refused(
            S3ErrorCode::SignatureDoesNotMatch,
            "The request signature we calculated does not match the signature you provided.",
        )
    } else {
        incomplete()
    }
}

#[derive(Default)]
struct Batch {
    chunks: Vec<Bytes>,
    bytes: usize,
}

impl Batch {
    fn push(&mut self, chunk: Bytes) {
        self.bytes += chunk.len();
        self.chunks.push(chunk);
    }
}

/// Hashing and writing run beside the network: one batch is worked on while the next arrives.
/// Between batches no thread is held, so slow clients cost no threads.
enum Stage {
    Idle(Box<Sink>),
    Busy(JoinHandle<Result<Box<Sink>, Fault>>),
}

impl Stage {
    async fn idle(self) -> Result<Box<Sink>, Fault> {
        match self {
            Self::Idle(sink) => Ok(sink),
            Self::Busy(running) => match running.await {
                Ok(sink) => sink,
                Err(_cancelled_or_panicked) => Err(Fault::Stopping),
            },
        }
    }

    async fn start(self, batch: Batch) -> Result<Self, Fault> {
        let sink = self.idle().await?;
        Ok(Self::Busy(tokio::task::spawn_blocking(move || {
            sink.take_in(batch)
        })))
    }
}

/// Where the bytes of one body go: to memory while they are few, to a file when they are many.
struct Sink {
    blobs: Arc<Blobs>,
    digest: Digest,
    inline: Vec<u8>,
    draft: Option<Draft>,
}

impl Sink {
    fn new(blobs: Arc<Blobs>, algorithm: Option<Algorithm>) -> Self {
        Self {
            blobs,
            digest: Digest::new(algorithm),
            inline: Vec::new(),
            draft: None,
        }
    }

    fn take_in(mut self: Box<Self>, batch: Batch) -> Result<Box<Self>, Fault> {
        for chunk in batch.chunks {
            self.digest.update(&chunk);
            if self.draft.is_none() && self.inline.len() + chunk.len() <= INLINE_BYTES {
                self.inline.extend_from_slice(&chunk);
            } else {
                self.write(&chunk)
                    .map_err(Fault::io("write an object body"))?;
            }
        }
        Ok(self)
    }

    fn write(&mut self, chunk: &[u8]) -> std::io::Result<()> {
        let mut draft = match self.draft.take() {
            Some(draft) => draft,
            None => {
                let mut draft = self.blobs.draft()?;
                draft.write(&mem::take(&mut self.inline))?;
                draft
            }
        };
        draft.write(chunk)?;
        self.draft = Some(draft);
        Ok(())
    }

    /// Verifies before syncing: a body that will be refused is not worth the wait.
    fn finish(
        self,
        length: u64,
        verify: impl FnOnce(&Received) -> Result<(), Fault>,
    ) -> Result<Received, Fault> {
        let digested = self.digest.finalize();
        let segment = match &self.draft {
            Some(draft) => Some(Segment::File {
                blob: draft.blob(),
                offset: 0,
                length,
            }),
            None => (length > 0).then(|| Segment::Inline(self.inline.into())),
        };
        let received = Received {
            length,
            segment,
            draft: self.draft,
            md5: digested.md5,
            checksum: digested.checksum,
        };
        verify(&received)?;
        if let Some(draft) = &received.draft {
            draft.sync().map_err(Fault::io("sync an object body"))?;
        }
        Ok(received)
    }
}

/// Most bytes of one PutObject or UploadPart: 5 GiB, as on AWS.
pub(super) const MAX_BODY_BYTES: u64 = 5 << 30;

/// Bodies up to this length are kept in the index: such an upload then costs one sync, not two,
/// and a small file does not become a file of its own. Four pages of the index, so that a change
/// does not rewrite much more than it stores.
const INLINE_BYTES: usize = 16 << 10;

/// Bytes handed to hashing and writing at once: large enough that changing threads does not
/// matter, small enough for a thousand uploads at once.
const BATCH_BYTES: usize = 256 << 10;

/// Bytes of a refused body that are read before the connection is cut.
const MAX_DRAINED_BYTES: usize = 16 << 20;
