//! One object out to one client.
//!
//! Invariant: what the client gets is one version of the object, whole from the offset on, or an error. The object's ETag
//! is pinned with the first answer; a body that the store cuts short is taken up again at the very byte with `If-Match`.

use aws_sdk_s3::primitives::ByteStream;
use tracing::debug;

use crate::store::Sink;
use crate::store::client::Store;
use crate::store::error::{Chain, StoreError};
use crate::store::key::ObjectKey;

/// An object that the store has begun to send.
pub struct Download {
    store: Store,
    key: ObjectKey,
    etag: String,
    /// The next byte of the object that the client needs.
    position: u64,
    end: u64,
    body: ByteStream,
}

impl Store {
    /// Opens `key` from byte `offset` on.
    ///
    /// [`StoreError::BeyondEnd`] if the offset lies behind the end; exactly at the end is an empty download.
    pub async fn open(&self, key: &ObjectKey, offset: u64) -> Result<Download, StoreError> {
        if offset > 0 {
            // A range behind the end is an error that doesn't say the size, and a range at the end is one, too.
            let size = self.head(key).await?.size;
            if offset > size {
                return Err(StoreError::BeyondEnd { offset, size });
            }
            if offset == size {
                let (store, key) = (self.clone(), key.clone());
                let (etag, body) = (String::new(), ByteStream::from_static(b""));
                return Ok(Download {
                    store,
                    key,
                    etag,
                    position: offset,
                    end: offset,
                    body,
                });
            }
        }
        let (etag, bytes, body) = self.get(key, offset, None).await?;
        Ok(Download {
            store: self.clone(),
            key: key.clone(),
            etag,
            position: offset,
            end: offset + bytes,
            body,
        })
    }

    /// One GetObject: the ETag, how many bytes follow, and the bytes.
    async fn get(
        &self,
        key: &ObjectKey,
        offset: u64,
        etag: Option<String>,
    ) -> Result<(String, u64, ByteStream), StoreError> {
        let request = self
            .client()
            .get_object()
            .bucket(self.bucket())
            .key(key.as_str());
        let range = (offset > 0).then(|| format!("bytes={offset}-"));
        let answer = request.set_range(range).set_if_match(etag).send().await;
        let answer = answer.map_err(|error| StoreError::from_sdk("GetObject", error))?;
        if offset > 0 && answer.content_range().is_none() {
            // a store that ignores ranges would send the wrong bytes
            return Err(StoreError::Integrity {
                detail: "the store ignored the requested range".to_owned(),
            });
        }
        let bytes = answer
            .content_length()
            .and_then(|bytes| u64::try_from(bytes).ok());
        let bytes = bytes.ok_or(StoreError::Integrity {
            detail: "the store told no length".to_owned(),
        })?;
        Ok((answer.e_tag.unwrap_or_default(), bytes, answer.body))
    }
}

impl Download {
    /// Bytes from here to the end.
    pub fn remaining(&self) -> u64 {
        self.end - self.position
    }

    /// Sends everything to `sink`; returns the bytes sent.
    pub async fn send(mut self, sink: &mut impl Sink) -> Result<u64, StoreError> {
        let start = self.position;
        let mut attempts = 1;
        loop {
            let before = self.position;
            match self.body.next().await {
                Some(Ok(bytes)) => {
                    if bytes.len() as u64 > self.remaining() {
                        return Err(StoreError::Integrity {
                            detail: "the store sent more than it announced".to_owned(),
                        });
                    }
                    let written = sink.write(&bytes).await;
                    written.map_err(StoreError::Interrupted)?;
                    self.position += bytes.len() as u64;
                    attempts = 1;
                    continue;
                }
                None if self.remaining() == 0 => return Ok(self.position - start),
                None => {
                    debug!(key = %self.key, position = before, "the store ended the body early")
                }
                Some(Err(error)) => {
                    debug!(key = %self.key, position = before, error = %Chain(&error), "the body broke off")
                }
            }
            if attempts >= self.store.settings().max_attempts {
                let detail = format!(
                    "the store cut the body at byte {} of {}",
                    self.position, self.end
                );
                return Err(StoreError::Integrity { detail });
            }
            attempts += 1;
            self.reopen().await?;
        }
    }

    async fn reopen(&mut self) -> Result<(), StoreError> {
        let etag = Some(self.etag.clone()).filter(|etag| !etag.is_empty());
        let (_, bytes, body) = self.store.get(&self.key, self.position, etag).await?;
        if self.position + bytes != self.end {
            return Err(StoreError::Integrity {
                detail: "the object changed meanwhile".to_owned(),
            });
        }
        self.body = body;
        Ok(())
    }
}
