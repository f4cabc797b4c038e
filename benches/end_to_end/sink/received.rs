//! Bodies that the sink throws away, and what it keeps of them.

use std::fmt::Write as _;
use std::future::poll_fn;
use std::pin::Pin;

use base64_simd::STANDARD;
use hyper::body::{Body as _, Incoming};
use hyper::header::HeaderMap;
use md5::{Digest, Md5};

/// Bytes at the end of an aws-chunked body that can hold its trailers.
pub(super) const TAIL: usize = 512;

/// The rest of a body.
pub(super) struct Received {
    pub(super) bytes: u64,
    pub(super) md5: Option<[u8; 16]>,
    pub(super) tail: Vec<u8>,
}

pub(super) async fn swallow(mut body: Incoming, md5: bool) -> Result<Received, hyper::Error> {
    let mut hash = md5.then(Md5::new);
    let (mut bytes, mut tail) = (0, Vec::new());
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        bytes += data.len() as u64;
        if let Some(hash) = &mut hash {
            hash.update(&data);
        }
        if data.len() < TAIL {
            tail.extend_from_slice(&data);
            tail.drain(..tail.len().saturating_sub(TAIL));
        } else {
            tail.clear();
            tail.extend_from_slice(&data[data.len() - TAIL..]);
        }
    }
    Ok(Received {
        bytes,
        md5: hash.map(|hash| hash.finalize().into()),
        tail,
    })
}

/// Bytes of the object in a body: an aws-chunked one is longer than what it carries.
pub(super) fn content_bytes(headers: &HeaderMap, received: &Received) -> u64 {
    let decoded = text(headers, "x-amz-decoded-content-length");
    decoded
        .and_then(|bytes| bytes.parse().ok())
        .unwrap_or(received.bytes)
}

/// The checksums that came as headers or as trailers.
pub(super) fn sent_checksums(headers: &HeaderMap, received: &Received) -> Vec<(String, String)> {
    const PREFIX: &str = "x-amz-checksum-";
    let sent = headers.iter().filter(|(name, _)| {
        name.as_str().starts_with(PREFIX) && *name != "x-amz-checksum-algorithm"
    });
    let sent =
        sent.filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())));
    let mut checksums: Vec<_> = sent.collect();
    if headers.contains_key("x-amz-trailer") {
        let tail = String::from_utf8_lossy(&received.tail);
        let trailers = tail.lines().filter_map(|line| line.split_once(':'));
        let trailers = trailers.filter(|(name, _)| name.starts_with(PREFIX));
        checksums.extend(trailers.map(|(name, value)| (name.to_owned(), value.trim().to_owned())));
    }
    checksums
}

pub(super) fn md5_etag(headers: &HeaderMap, received: &Received) -> Option<String> {
    let sent = || STANDARD.decode_to_vec(text(headers, "content-md5")?).ok();
    let md5 = received.md5.map(Vec::from).or_else(sent)?;
    let hex = md5.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    Some(format!("\"{hex}\""))
}

pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
