//! One range of one version of an object, read to its end whatever becomes of the connections.
//!
//! Invariant: a [`RangeReader`] yields exactly the bytes of its range, all of the version that the first answer pinned, or
//! an error. Every further request carries `If-Match`, and every answer is held against the pinned ETag, the range and
//! the length, since there are stores that ignore conditions. A body that breaks off is taken up again at the very byte.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use tokio::time::Instant;
use tracing::debug;

use crate::chain::Chain;
use crate::store::client::Store;
use crate::store::connections::in_small_pieces;
use crate::store::cos_checksum::CosChecksum;
use crate::store::error::StoreError;
use crate::store::expected_checksum::{Checksum, ask_for_checksums};
use crate::store::head::etag as etag_of;
use crate::store::integrity::Method;
use crate::store::key::ObjectKey;
use crate::store::version::Version;

/// The pause before a second attempt that follows one without a byte; it doubles from there on.
const PAUSE: Duration = Duration::from_millis(100);

/// Bytes of a range that is asked for when memory is short. It is read in small pieces.
pub(super) const SMALL_RANGE: u64 = 64 * 1024;

/// See the module.
pub(super) struct RangeReader {
    version: Arc<Version>,
    /// The rest.
    range: Range<u64>,
    body: Option<ByteStream>,
    /// Bodies that broke off since the last byte.
    failures: u32,
    /// Since when there has been no byte, once a body broke off.
    waiting_since: Option<Instant>,
}

/// One answer to GetObject.
struct Answer {
    etag: String,
    range: Range<u64>,
    size: u64,
    checksum: Option<Checksum>,
    body: ByteStream,
}

impl RangeReader {
    /// Asks for the first `bytes` from `offset` on, and pins the version that answers.
    ///
    /// `None`: the store has nothing to send from there.
    pub async fn first(
        store: &Store,
        key: &ObjectKey,
        offset: u64,
        bytes: u64,
    ) -> Result<Option<Self>, StoreError> {
        let asked = offset..offset.saturating_add(bytes);
        let Some(answer) = get(store, key, &asked, None).await? else {
            return Ok(None);
        };
        let version = Version {
            store: store.clone(),
            key: key.clone(),
            etag: answer.etag,
            size: answer.size,
            checksum: answer.checksum,
        };
        Ok(Some(RangeReader {
            version: Arc::new(version),
            range: answer.range,
            body: Some(answer.body),
            failures: 0,
            waiting_since: None,
        }))
    }

    /// Another range of the same version; nothing is asked for yet.
    pub fn new(version: Arc<Version>, range: Range<u64>) -> Self {
        RangeReader {
            version,
            range,
            body: None,
            failures: 0,
            waiting_since: None,
        }
    }

    /// The version that was pinned by the first answer.
    pub fn version(&self) -> &Arc<Version> {
        &self.version
    }

    /// Where the range ends.
    pub fn end(&self) -> u64 {
        self.range.end
    }

    /// The next bytes as they arrived, never empty; `None` after the last one of the range.
    pub async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        let asked = Instant::now();
        loop {
            let Some(body) = &mut self.body else {
                self.body = Some(self.open().await?);
                continue;
            };
            match body.next().await {
                Some(Ok(bytes)) if bytes.is_empty() => {}
                Some(Ok(bytes)) => {
                    let length = bytes.len() as u64;
                    if length > self.range.end - self.range.start {
                        return Err(integrity("the store sent more than it announced"));
                    }
                    self.range.start += length;
                    self.failures = 0;
                    self.waiting_since = None;
                    return Ok(Some(bytes));
                }
                None if self.range.is_empty() => return Ok(None),
                // all bytes came, and the SDK found that they don't fit their checksum
                Some(Err(error)) if self.range.is_empty() => {
                    return Err(integrity(Chain(&error).to_string()));
                }
                Some(Err(error)) => {
                    let reason = Chain(&error).to_string();
                    self.broke_off(reason, asked).await?;
                }
                None => {
                    self.broke_off("the store ended it early".to_owned(), asked)
                        .await?
                }
            }
        }
    }

    /// Prepares the next attempt, if there is to be one: attempts are bounded, unless they bring bytes.
    /// All together they get `storage.retry.time_limit`, from when the reader was `asked` for bytes.
    async fn broke_off(&mut self, reason: String, asked: Instant) -> Result<(), StoreError> {
        let Version { store, key, .. } = &*self.version;
        debug!(%key, position = self.range.start, reason, "a body broke off");
        self.body = None;
        self.failures += 1;
        let waited = self.waiting_since.get_or_insert(asked).elapsed();
        let settings = store.settings();
        if self.failures >= settings.max_attempts || waited >= settings.retry_time {
            let source = format!("the body broke off at byte {}: {reason}", self.range.start);
            return Err(StoreError::Unavailable {
                operation: "GetObject",
                source: source.into(),
            });
        }
        if self.failures > 1 {
            tokio::time::sleep(PAUSE * 2_u32.saturating_pow((self.failures - 2).min(6))).await;
        }
        Ok(())
    }

    /// The rest, asked for as a part of the pinned version.
    async fn open(&self) -> Result<ByteStream, StoreError> {
        let version = &self.version;
        let etag = version.etag.clone();
        let get = get(&version.store, &version.key, &self.range, Some(etag));
        let limit = version.store.settings().retry_time;
        let waited = self.waiting_since.map(|since| since.elapsed());
        let left = limit.saturating_sub(waited.unwrap_or_default());
        let answer = tokio::time::timeout(left, get).await;
        match answer.unwrap_or_else(|_| Err(silent(limit))) {
            Ok(Some(answer))
                if answer.etag == version.etag
                    && answer.size == version.size
                    && answer.range == self.range =>
            {
                Ok(answer.body)
            }
            Ok(_) => Err(changed("the object was replaced")),
            Err(StoreError::NotFound) => Err(changed("the object was deleted")),
            Err(error) => Err(error),
        }
    }
}

/// One GetObject; `None` if the store has no such range, or doesn't know ranges.
async fn get(
    store: &Store,
    key: &ObjectKey,
    range: &Range<u64>,
    etag: Option<String>,
) -> Result<Option<Answer>, StoreError> {
    let request = store
        .client()
        .get_object()
        .bucket(store.bucket())
        .key(key.as_str());
    let request = request.range(format!("bytes={}-{}", range.start, range.end - 1));
    let method = store.integrity().method();
    let cos = CosChecksum::default();
    let is_first = etag.is_none();
    let request = request.set_if_match(etag).customize();
    let mut request = request.interceptor(cos.clone());
    if range.end - range.start <= SMALL_RANGE {
        request = request.mutate_request(in_small_pieces);
    }
    if is_first && matches!(method, None | Some(Method::Crc64Nvme)) {
        request = request.mutate_request(ask_for_checksums);
    }
    let answer = match request.send().await {
        Ok(answer) => answer,
        Err(error)
            if error
                .raw_response()
                .is_some_and(|raw| raw.status().as_u16() == 416) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(StoreError::from_sdk("GetObject", error)),
    };
    let told = match answer.content_range() {
        Some(text) => parse_content_range(text),
        // the whole object: just as good, if that is where the range begins
        None if range.start > 0 => return Ok(None),
        None => answer
            .content_length()
            .and_then(|bytes| u64::try_from(bytes).ok())
            .map(|bytes| (0..bytes, bytes)),
    };
    // without one the next chunk, or the rest after a broken body, could be of another version
    let etag = etag_of("GetObject", answer.e_tag())?.to_owned();
    match told {
        Some((told, size)) if told.start == range.start && told.end <= size => Ok(Some(Answer {
            checksum: Checksum::of_answer(&answer, &cos, method, (&told, size)),
            etag,
            range: told,
            size,
            body: answer.body,
        })),
        _ => Err(integrity("the store told no length, or of another range")),
    }
}

/// `bytes 0-9/100` is 0..10 of 100 (RFC 9110, section 14.4).
fn parse_content_range(text: &str) -> Option<(Range<u64>, u64)> {
    let (range, size) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (first.parse::<u64>().ok()?, last.parse::<u64>().ok()?);
    let end = last.checked_add(1).filter(|_| first <= last)?;
    Some((first..end, size.parse().ok()?))
}

fn changed(detail: &'static str) -> StoreError {
    StoreError::Changed { detail }
}

fn silent(limit: Duration) -> StoreError {
    StoreError::Unavailable {
        operation: "GetObject",
        source: format!("no byte came for {limit:?} (storage.retry.time_limit)").into(),
    }
}

fn integrity(detail: impl Into<String>) -> StoreError {
    StoreError::Integrity {
        detail: detail.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_read_strictly() {
        assert_eq!(parse_content_range("bytes 0-9/100"), Some((0..10, 100)));
        for bad in [
            "",
            "bytes */100",
            "bytes 0-9/*",
            "0-9/100",
            "bytes 5-3/10",
            "bytes 0-18446744073709551615/1",
        ] {
            assert_eq!(parse_content_range(bad), None, "{bad}");
        }
    }
}
