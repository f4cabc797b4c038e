//! The client's data connection in the hands of the storage: bounded reads and writes, and an end that can't be mistaken.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::time::Instant;

use crate::ftp::bandwidth::Pace;
use crate::ftp::kernel_queues::QueueShare;
use crate::ftp::transfer::Transfer;
use crate::net::{Stream, reset_on_close};
use crate::records::Records;
use crate::store::{Interruption, Sink, Source};

/// The client's data connection in the hands of the storage.
///
/// Whatever happens to it, the client can distinguish a whole transfer from a broken one: unless [`DataConnection::close`] or a clean
/// end of an upload came first, dropping it resets the connection.
#[derive(Debug)]
pub struct DataConnection {
    /// Taken only by [`DataConnection::close`].
    stream: Option<Stream>,
    transfer: Arc<Transfer>,
    stall: Duration,
    closed: bool,
    /// TLS's close_notify has come: the client itself ended its data.
    notified: bool,
    records: Records,
    end: TlsEnd,
    pace: Arc<Pace>,
    queue: QueueShare,
    /// Bytes that were read since other tasks had their turn.
    in_turn: usize,
    /// The most of them.
    turn: usize,
}

/// The end of the data of an upload under TLS (`require_close_notify`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsEnd {
    /// close_notify alone: without it the data were cut (RFC 8446, section 6.1).
    CloseNotify,
    /// The connection's own end, too, which anybody on the way can forge: for clients that never send close_notify.
    Any,
}

/// The longest time that an upload's end may take to close our side, and that a client may take to close its own.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

impl DataConnection {
    /// `stall` bounds each wait for the client to send or to take something, `pace` says when it may, and `queue` how much of it the
    /// kernel holds.
    pub fn new(
        stream: Stream,
        transfer: Arc<Transfer>,
        stall: Duration,
        end: TlsEnd,
        pace: Arc<Pace>,
        mut queue: QueueShare,
    ) -> Self {
        queue.begin(stream.tcp());
        DataConnection {
            stream: Some(stream),
            transfer,
            stall,
            closed: false,
            notified: false,
            records: Records::default(),
            end,
            pace,
            turn: turn(queue.transfers()),
            queue,
            in_turn: 0,
        }
    }

    /// The state shared with the edge.
    pub fn transfer(&self) -> &Arc<Transfer> {
        &self.transfer
    }

    /// Waits until bytes may move; how many.
    async fn permit(&self) -> Result<usize, Interruption> {
        loop {
            let (most, from) = self.pace.permit();
            let Some(from) = from else {
                return Ok(most);
            };
            tokio::select! {
                biased;
                () = self.transfer.interrupted() => {
                    return Err(self.transfer.interruption().unwrap_or(Interruption::Abort));
                }
                () = self.transfer.pausing(self.pace.wait(from)) => {}
            }
        }
    }

    /// Ends the connection well after everything was sent.
    pub async fn close(mut self) -> Result<(), Interruption> {
        let Some(mut stream) = self.stream.take() else {
            return Ok(());
        };
        // Up to 64 KiB of what was written are still rustls's, and wait for the client as long as a write before. The commit has been, so
        // an interruption changes nothing any more, but an ABOR or the gateway's end need not wait for the client.
        let shutdown = tokio::select! {
            biased;
            () = self.transfer.unwanted() => {
                Err(self.transfer.interruption().unwrap_or(Interruption::Abort))
            }
            shutdown = bounded(&self.transfer, self.stall, stream.shutdown()) => shutdown,
        };
        match &shutdown {
            Ok(()) if stream.is_tls() => {
                // The client answers with its own close_notify. A closed socket would answer that with a reset, and on some
                // systems a reset throws away what the client hasn't read yet.
                tokio::spawn(tokio::time::timeout(CLOSE_TIMEOUT, drain(stream)));
            }
            Ok(()) => {}
            Err(_) => reset_on_close(stream.tcp()),
        }
        shutdown
    }
}

fn open(stream: &mut Option<Stream>) -> &mut Stream {
    stream
        .as_mut()
        .expect("only close() takes the stream, and it takes the whole DataConnection")
}

const MIB: usize = 1024 * 1024;

/// The bytes of an upload after which the other tasks of the thread run, with so many uploads in all. A socket that is always ready would keep
/// them waiting for milliseconds, a NOOP of another session among them, and so do all the uploads that have their turns before.
/// It is also the most that is read in one go: to decrypt these takes less than a millisecond. Turns that are short for a few uploads, too, cost
/// these 8 % more CPU time. A download waits for the store after each piece anyway, and turns besides cost it a fifth more.
fn turn(uploads: usize) -> usize {
    (8 * MIB / uploads.max(1)).clamp(MIB / 4, MIB / 2)
}

/// Throws away what the peer still sends, until it closes.
async fn drain(mut stream: Stream) {
    let mut chunk = [0; 512];
    // a peer that goes on sending is no longer a client that closes
    for _ in 0..64 {
        if !matches!(stream.read(&mut chunk).await, Ok(1..)) {
            return;
        }
    }
}

/// Runs one socket operation within `limit`, unless the transfer is interrupted; an error interrupts the transfer.
///
/// The interruption is looked at first: a socket that is always ready would starve an ABOR.
async fn bounded<T>(
    transfer: &Transfer,
    limit: Duration,
    operation: impl Future<Output = io::Result<T>>,
) -> Result<T, Interruption> {
    if let Some(reason) = transfer.interruption() {
        return Err(reason);
    }
    let reason = tokio::select! {
        biased;
        done = operation => match done {
            Ok(value) => return Ok(value),
            // rustls reports an end without close_notify this way
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Interruption::TlsTruncated,
            Err(_) => Interruption::DataReset,
        },
        () = transfer.interrupted() => Interruption::Abort,
        () = tokio::time::sleep_until(Instant::now() + limit) => Interruption::Stalled,
    };
    transfer.interrupt(reason);
    Err(transfer.interruption().unwrap_or(reason))
}

impl Source for DataConnection {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Interruption> {
        if self.closed {
            return Ok(0);
        }
        if self.in_turn >= self.turn {
            self.in_turn = 0;
            self.queue.follow(open(&mut self.stream).tcp());
            self.turn = turn(self.queue.transfers());
            tokio::task::yield_now().await;
        }
        let most = self.permit().await?.min(buffer.len()).min(self.turn);
        let buffer = &mut buffer[..most];
        let stream = open(&mut self.stream);
        let (end, records, mut is_cut) = (self.end, &mut self.records, false);
        let reading = async {
            let read = match stream {
                Stream::Plain(socket) => socket.read(buffer).await,
                Stream::Tls(tls) => {
                    let mut buffer = ReadBuf::new(buffer);
                    poll_fn(|context| {
                        let tls = Pin::new(&mut *tls);
                        records.poll_read(tls, context, &mut buffer)
                    })
                    .await
                    .map(|()| buffer.filled().len())
                }
            };
            match read {
                // rustls makes an end without close_notify an error of this kind
                Err(error)
                    if error.kind() == io::ErrorKind::UnexpectedEof && end == TlsEnd::Any =>
                {
                    is_cut = true;
                    Ok(0)
                }
                read => read,
            }
        };
        let read = bounded(&self.transfer, self.stall, reading).await?;
        if read == 0 {
            self.notified = open(&mut self.stream).is_tls() && !is_cut;
            // Our end closes at once: Python's FTP_TLS waits for the answer to its close before it reads the reply, and a
            // store may need half a minute to complete a large object. All bytes are here, so it doesn't matter if the
            // client has left without waiting for this.
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, open(&mut self.stream).shutdown()).await;
            self.closed = true;
        }
        self.in_turn += read;
        self.pace.moved(read);
        self.transfer.count(read as u64);
        Ok(read)
    }

    async fn commit(&mut self) -> Result<(), Interruption> {
        self.transfer.commit(self.notified).await
    }

    async fn interrupted(&self) -> Interruption {
        let interrupted = Sink::interrupted(self);
        if !self.closed || self.notified {
            return interrupted.await;
        }
        // All data have come, and their end proves nothing: how the commit would end is known as soon as the client has left.
        tokio::select! {
            biased;
            reason = interrupted => reason,
            () = self.transfer.left_without_quit() => {
                self.transfer.interrupt(Interruption::ControlLost);
                self.transfer.interruption().unwrap_or(Interruption::ControlLost)
            }
        }
    }
}

impl Sink for DataConnection {
    async fn write(&mut self, mut bytes: &[u8]) -> Result<(), Interruption> {
        // one wait per write(2), so that a slow client that moves at all isn't called stalled
        while !bytes.is_empty() {
            let most = self.permit().await?.min(bytes.len());
            let stream = open(&mut self.stream);
            self.queue.follow(stream.tcp());
            let written = bounded(&self.transfer, self.stall, stream.write(&bytes[..most])).await?;
            if written == 0 {
                self.transfer.interrupt(Interruption::DataReset);
                return Err(Interruption::DataReset);
            }
            self.pace.moved(written);
            self.transfer.count(written as u64);
            bytes = &bytes[written..];
        }
        Ok(())
    }

    async fn interrupted(&self) -> Interruption {
        self.transfer.interrupted().await;
        self.transfer
            .interruption()
            .unwrap_or(Interruption::ControlLost)
    }
}

impl Drop for DataConnection {
    fn drop(&mut self) {
        if let Some(stream) = self.stream.as_ref().filter(|_| !self.closed) {
            reset_on_close(stream.tcp());
        }
    }
}
