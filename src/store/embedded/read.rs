//! Segments -> byte stream, for answers and for hashing what is copied.
//!
//! Invariant: the files stay while the stream lives, so a body never mixes two versions of an
//! object, even if it is replaced or deleted meanwhile. One chunk is read ahead of the consumer,
//! and no thread is held while the consumer waits.

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use s3s::StdError;
use s3s::stream::{ByteStream, RemainingLength};
use tokio::task::JoinHandle;

use super::blobs::{Blobs, Pinned};
use super::checksum::{Algorithm, Digest, Digested};
use super::fault::Fault;
use super::index::spawn_blocking;
use super::records::{BlobId, Segment};

/// The bytes of a list of segments.
pub(super) struct BodyStream {
    cursor: Cursor,
    running: Option<JoinHandle<Result<Step, Fault>>>,
    remaining: u64,
    _pinned: Arc<Pinned>,
}

impl BodyStream {
    /// `pinned` must cover every file that the segments name.
    pub(super) fn new(segments: Vec<Segment>, pinned: Arc<Pinned>) -> Self {
        let remaining = segments.iter().map(Segment::length).sum();
        let blobs = Arc::clone(pinned.store());
        let cursor = Cursor {
            blobs,
            segments: segments.into(),
            open: None,
        };
        Self {
            cursor,
            running: None,
            remaining,
            _pinned: pinned,
        }
    }
}

impl Stream for BodyStream {
    type Item = Result<Bytes, StdError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if let Some(running) = &mut this.running {
            let joined = ready!(Pin::new(running).poll(context));
            this.running = None;
            let step = match joined {
                Ok(Ok(step)) => step,
                Ok(Err(fault)) => {
                    // The answer's head is sent, so all that is left is to cut the connection.
                    tracing::error!(error = %fault, "embedded store could not read an object");
                    return Poll::Ready(Some(Err(Box::new(fault))));
                }
                Err(_cancelled_or_panicked) => {
                    return Poll::Ready(Some(Err(Box::new(Fault::Stopping))));
                }
            };
            this.cursor.open = step.open;
            this.remaining -= step.bytes.len() as u64;
            this.running = this.cursor.read_ahead();
            return Poll::Ready(Some(Ok(step.bytes)));
        }
        match this.cursor.next() {
            None => Poll::Ready(None),
            Some(Next::Ready(bytes)) => {
                this.remaining -= bytes.len() as u64;
                this.running = this.cursor.read_ahead();
                Poll::Ready(Some(Ok(bytes)))
            }
            Some(Next::Read(task)) => {
                this.running = Some(task);
                self.poll_next(context)
            }
        }
    }
}

impl ByteStream for BodyStream {
    fn remaining_length(&self) -> RemainingLength {
        // usize has 64 bits wherever objects are larger than 4 GiB.
        RemainingLength::new_exact(usize::try_from(self.remaining).unwrap_or(usize::MAX))
    }
}

/// The segments that are still to be read, and the file that the last chunk came from.
struct Cursor {
    blobs: Arc<Blobs>,
    segments: VecDeque<Segment>,
    open: Option<(BlobId, Arc<File>)>,
}

enum Next {
    Ready(Bytes),
    Read(JoinHandle<Result<Step, Fault>>),
}

struct Step {
    bytes: Bytes,
    open: Option<(BlobId, Arc<File>)>,
}

impl Cursor {
    fn next(&mut self) -> Option<Next> {
        let (blob, offset, length) = match self.segments.pop_front()? {
            Segment::Inline(bytes) => return Some(Next::Ready(bytes)),
            Segment::File {
                blob,
                offset,
                length,
            } => (blob, offset, length),
        };
        let now = length.min(CHUNK_BYTES);
        if now < length {
            let rest = Segment::File {
                blob,
                offset: offset + now,
                length: length - now,
            };
            self.segments.push_front(rest);
        }
        let blobs = Arc::clone(&self.blobs);
        let open = self.open.take();
        Some(Next::Read(tokio::task::spawn_blocking(move || {
            let file = match open {
                Some((name, file)) if name == blob => file,
                _ => Arc::new(blobs.read(blob).map_err(Fault::io("open an object body"))?),
            };
            let mut bytes = vec![0; now as usize];
            file.read_exact_at(&mut bytes, offset)
                .map_err(Fault::io("read an object body"))?;
            Ok(Step {
                bytes: bytes.into(),
                open: Some((blob, file)),
            })
        })))
    }

    fn read_ahead(&mut self) -> Option<JoinHandle<Result<Step, Fault>>> {
        match self.segments.front()? {
            Segment::Inline(_) => None,
            Segment::File { .. } => match self.next()? {
                Next::Read(task) => Some(task),
                Next::Ready(_) => None,
            },
        }
    }
}

/// Hashes segments without holding more than a few chunks of them.
pub(super) async fn digest(
    segments: Vec<Segment>,
    pinned: Arc<Pinned>,
    algorithm: Option<Algorithm>,
) -> Result<Digested, Fault> {
    let mut body = BodyStream::new(segments, pinned);
    let mut digest = Digest::new(algorithm);
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|_logged| Fault::Stopping)?;
        digest = spawn_blocking(move || {
            digest.update(&chunk);
            Ok(digest)
        })
        .await?;
    }
    Ok(digest.finalize())
}

/// Bytes read at once from a file.
const CHUNK_BYTES: u64 = 256 << 10;
