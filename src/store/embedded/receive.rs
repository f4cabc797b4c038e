//! Request body -> segment: one upload body is hashed, checked and put on the disk.
//!
//! Invariant: a body that ends early, is too long, or does not match what the client declared
//! about it leaves nothing behind. Memory per body is two batches, whatever its length.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use hyper::StatusCode;
use s3s::dto::StreamingBlob;
use s3s::{S3ErrorCode, StdError, s3_error};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::announced::Announced;
use super::blobs::{Blobs, Draft};
use super::checksum::{Algorithm, Checksum, Digest};
use super::fault::Fault;
use super::index::spawn_blocking;
use super::records::Segment;

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
    mut body: Option<StreamingBlob>,
    announced: Announced,
) -> Result<Received, Fault> {
    let received = read(blobs, &mut body, announced).await;
    or_drain(received, &mut body).await
}

async fn read(
    blobs: &Arc<Blobs>,
    body: &mut Option<StreamingBlob>,
    announced: Announced,
) -> Result<Received, Fault> {
    let mut sink = Stage::Idle(Box::new(Sink::new(
        Arc::clone(blobs),
        announced.algorithm(),
    )));
    let mut batch = Batch::default();
    let mut length = 0;
    while let Some(chunk) = next_chunk(body).await? {
        let chunk = chunk.map_err(|error| refuse_body(&error))?;
        length += chunk.len() as u64;
        if length > announced.length() {
            return Err(incomplete());
        }
        batch.push(chunk);
        if batch.bytes >= BATCH_BYTES {
            let batch = mem::take(&mut batch);
            sink = sink.start(batch).await?;
        }
    }
    if length != announced.length() || announced.lacks_trailer() {
        return Err(incomplete());
    }
    let sink = sink.idle().await?;
    spawn_blocking(move || sink.take_in(batch)?.finish(length, &announced)).await
}

/// Passes a result on; before a refusal the body is read and dropped, since a client that cannot
/// finish sending often does not read the answer.
pub(super) async fn or_drain<T>(
    result: Result<T, Fault>,
    body: &mut Option<StreamingBlob>,
) -> Result<T, Fault> {
    if result.is_err() {
        let mut drained = 0;
        while drained <= MAX_DRAINED_BYTES
            && let Ok(Some(Ok(chunk))) = next_chunk(body).await
        {
            drained += chunk.len();
        }
    }
    result
}

/// # Errors
///
/// `RequestTimeout` when the client sends nothing for [`BODY_IDLE_TIMEOUT`].
async fn next_chunk(
    body: &mut Option<StreamingBlob>,
) -> Result<Option<Result<Bytes, StdError>>, Fault> {
    let Some(body) = body else { return Ok(None) };
    timeout(BODY_IDLE_TIMEOUT, body.next())
        .await
        .map_err(|_elapsed| {
            s3_error!(
                RequestTimeout,
                "Your socket connection to the server was not read from or written to within the \
             timeout period. Idle connections will be closed."
            )
            .into()
        })
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
        if self.blobs.space().is_low() {
            return Err(Fault::Full);
        }
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

    fn finish(self, length: u64, announced: &Announced) -> Result<Received, Fault> {
        let digested = self.digest.finalize();
        // Before syncing: a body that will be refused is not worth the wait.
        announced.verify(&digested)?;
        let segment = match &self.draft {
            Some(draft) => {
                draft.sync().map_err(Fault::io("sync an object body"))?;
                Some(Segment::File {
                    blob: draft.blob(),
                    offset: 0,
                    length,
                })
            }
            None => (length > 0).then(|| Segment::Inline(self.inline.into())),
        };
        Ok(Received {
            length,
            segment,
            draft: self.draft,
            md5: digested.md5,
            checksum: digested.checksum,
        })
    }
}

/// Bodies up to this length are kept in the index: such an upload then costs one sync, not two,
/// and a small file does not become a file of its own. Four pages of the index, so that a change
/// does not rewrite much more than it stores.
const INLINE_BYTES: usize = 16 << 10;

/// Bytes handed to hashing and writing at once: large enough that changing threads does not
/// matter, small enough for a thousand uploads at once.
const BATCH_BYTES: usize = 256 << 10;

/// The longest time that a client may pause in the middle of a body. AWS waits about 20 seconds.
const BODY_IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Bytes of a refused body that are read before the connection is cut: more than most parts have.
const MAX_DRAINED_BYTES: usize = 64 << 20;
