//! Between libunftp's readers and the store's sources and sinks, for a server of libunftp's own on the storage backend.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::sync::mpsc;

use crate::store::download::Download;
use crate::store::{Interruption, Sink, Source};

/// Chunks of a download that wait for their reader.
const CHUNKS: usize = 2;

/// An upload that libunftp reads from its own data connection. Its end is taken for the end of the file: libunftp says no more.
pub(super) struct ReaderSource<R>(pub(super) R);

impl<R: AsyncRead + Send + Sync + Unpin> Source for ReaderSource<R> {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Interruption> {
        let read = self.0.read(buffer).await;
        read.map_err(|_| Interruption::DataReset)
    }

    async fn commit(&mut self) -> Result<(), Interruption> {
        Ok(())
    }

    async fn interrupted(&self) -> Interruption {
        std::future::pending().await
    }
}

/// A download as a reader. It ends with an error, not short, if the store fails half-way. Dropping it ends the download.
pub(super) fn download_reader(download: Download) -> DownloadReader {
    let (sender, chunks) = mpsc::channel(CHUNKS);
    tokio::spawn(async move {
        let mut sink = ChannelSink(sender);
        if let Err(error) = download.send(&mut sink).await {
            let _ = sink.0.send(Err(io::Error::other(error))).await;
        }
    });
    DownloadReader {
        chunks,
        chunk: Bytes::new(),
    }
}

struct ChannelSink(mpsc::Sender<io::Result<Bytes>>);

impl Sink for ChannelSink {
    async fn write(&mut self, bytes: &[u8]) -> Result<(), Interruption> {
        let sent = self.0.send(Ok(Bytes::copy_from_slice(bytes))).await;
        sent.map_err(|_| Interruption::DataReset)
    }

    async fn interrupted(&self) -> Interruption {
        self.0.closed().await;
        Interruption::DataReset
    }
}

/// See [`download_reader`].
pub(super) struct DownloadReader {
    chunks: mpsc::Receiver<io::Result<Bytes>>,
    chunk: Bytes,
}

impl AsyncRead for DownloadReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.chunk.is_empty() {
            match std::task::ready!(self.chunks.poll_recv(cx)) {
                Some(chunk) => self.chunk = chunk?,
                None => return Poll::Ready(Ok(())),
            }
        }
        let length = self.chunk.len().min(buffer.remaining());
        buffer.put_slice(&self.chunk.split_to(length));
        Poll::Ready(Ok(()))
    }
}
