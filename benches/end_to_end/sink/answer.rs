//! Answers of the sink, and their bodies: slices of one block, again and again.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};

/// The beginning of every XML answer.
pub(super) const XML: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";

/// Bytes of the one block that all bodies are made of.
pub(super) const BLOCK: usize = 1024 * 1024;

/// A body goes out in slices of at most this size.
pub(super) const SLICE: usize = 256 * 1024;

pub(super) fn acknowledged(etag: &str, checksums: &[(String, String)]) -> Response<Content> {
    let mut answer = reply(StatusCode::OK, "");
    insert(answer.headers_mut(), "etag", etag);
    for (name, value) in checksums {
        insert(answer.headers_mut(), name, value);
    }
    answer
}

pub(super) fn xml(body: &str) -> Response<Content> {
    let mut answer = reply(StatusCode::OK, &format!("{XML}{body}"));
    insert(answer.headers_mut(), "content-type", "application/xml");
    answer
}

pub(super) fn error(status: StatusCode, code: &str) -> Response<Content> {
    reply(status, &format!("{XML}<Error><Code>{code}</Code></Error>"))
}

pub(super) fn reply(status: StatusCode, body: &str) -> Response<Content> {
    let mut answer = Response::new(Content::Once(Bytes::copy_from_slice(body.as_bytes())));
    *answer.status_mut() = status;
    answer
}

/// The body of an answer.
pub(super) enum Content {
    Once(Bytes),
    /// From `position` to `end` of an object that is one block again and again.
    Block {
        block: Bytes,
        position: u64,
        end: u64,
    },
}

impl Body for Content {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = match &mut *self {
            Content::Once(bytes) => std::mem::take(bytes),
            Content::Block {
                block,
                position,
                end,
            } => {
                let start = (*position % BLOCK as u64) as usize;
                let bytes = (*end - *position).min((BLOCK - start).min(SLICE) as u64);
                *position += bytes;
                block.slice(start..start + bytes as usize)
            }
        };
        Poll::Ready((!data.is_empty()).then(|| Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.size_hint().exact() == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Content::Once(bytes) => bytes.len() as u64,
            Content::Block { position, end, .. } => end - position,
        })
    }
}

pub(super) fn insert(headers: &mut HeaderMap, name: &str, value: &str) {
    if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_str(value)) {
        headers.insert(name, value);
    }
}
