//! One data transfer: who may end it, and how.
//!
//! Invariant: a transfer ends by commit XOR interruption. One compare-and-swap decides, whoever comes first: the storage
//! right before it makes the object visible, or the edge that read ABOR or must stop.
//!
//! What an upload is, the end of its *data* connection says. Cameras and scripts send everything, close, and leave without waiting for the
//! 226; bytes that the kernel still holds then are the file's tail. So an upload whose control connection has ended reads its data to
//! their own end, for at most two minutes:
//!
//! | the data end with | and the control connection | the upload is |
//! |---|---|---|
//! | FIN in the clear | is there, or its last command was QUIT | whole |
//! | close_notify under TLS | whatever it does | whole |
//! | FIN in the clear | ended without QUIT | interrupted, with all that was sent: a killed client looks like that, too |
//! | FIN under TLS, without close_notify | | interrupted; like FIN in the clear where `require_close_notify` is false |
//! | reset, stall, TLS without close_notify, ABOR | | interrupted |

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::ftp::net::{PeerWatch, Stream, reset_on_close};
use crate::store::{Interruption, Sink, Source, VirtualPath};

/// The state that the edge and the storage share while data moves.
#[derive(Debug)]
pub struct Transfer {
    state: AtomicU8,
    bytes: AtomicU64,
    interrupted: CancellationToken,
    control: PeerWatch,
    /// Cancelled when all that the client said on its control connection has been read, to the end.
    control_ended: CancellationToken,
    /// When that was.
    control_ended_at: OnceLock<Instant>,
    /// The client said QUIT.
    quit: AtomicBool,
    counter: Counter,
    subject: Subject,
    began: Instant,
    /// The data connection is there.
    connected: AtomicBool,
    /// Bytes that will cross it in all; 0 if nobody knows.
    expected: AtomicU64,
    pace: Mutex<Pace>,
}

/// What a transfer is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The client's command.
    pub verb: &'static str,
    /// The name that it is about.
    pub path: VirtualPath,
}

/// How fast a transfer was when somebody looked last. Only who looks touches it.
#[derive(Debug)]
struct Pace {
    at: Instant,
    bytes: u64,
    rate: u64,
}

/// A rate is measured over at least this long: over less it would jump with every chunk.
const PACE_OVER: Duration = Duration::from_secs(1);

/// How long an upload may go on after its control connection has ended: time for what the kernels of both sides hold, some MiB, over a
/// slow line.
const WITHOUT_CONTROL: Duration = Duration::from_secs(120);

/// How long a commit waits until what the client said before it left has been read: it is in the kernel already.
const CONTROL_SETTLES: Duration = Duration::from_secs(1);

const RUNNING: u8 = 0;
const COMMITTED: u8 = 1;
/// The codes of the interruptions, from 2 on.
const INTERRUPTIONS: [Interruption; 9] = [
    Interruption::Abort,
    Interruption::ControlLost,
    Interruption::NotConnected,
    Interruption::DataReset,
    Interruption::TlsTruncated,
    Interruption::TlsHandshake,
    Interruption::TlsNotResumed,
    Interruption::Stalled,
    Interruption::Stopping,
];

impl Transfer {
    /// `control` is watched for the client's death; see [`Transfer::commit`]. Bytes are counted in `counter`, too, while
    /// they move.
    pub fn new(subject: Subject, control: PeerWatch, counter: Counter) -> Arc<Self> {
        let began = Instant::now();
        Arc::new(Transfer {
            state: AtomicU8::new(RUNNING),
            bytes: AtomicU64::new(0),
            interrupted: CancellationToken::new(),
            control,
            control_ended: CancellationToken::new(),
            control_ended_at: OnceLock::new(),
            quit: AtomicBool::new(false),
            counter,
            subject,
            began,
            connected: AtomicBool::new(false),
            expected: AtomicU64::new(0),
            pace: Mutex::new(Pace {
                at: began,
                bytes: 0,
                rate: 0,
            }),
        })
    }

    /// What it is about.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// When its command came.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// Notes that the data connection is there.
    pub fn connect(&self) {
        self.connected.store(true, Ordering::Relaxed);
    }

    /// False while the data connection is waited for.
    pub fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    /// Notes how many bytes will cross the data connection.
    pub fn expect(&self, bytes: u64) {
        self.expected.store(bytes, Ordering::Relaxed);
    }

    /// Bytes that will cross the data connection, if that is known.
    pub fn expected(&self) -> Option<u64> {
        let bytes = self.expected.load(Ordering::Relaxed);
        (bytes > 0).then_some(bytes)
    }

    /// Bytes per second since somebody asked last, a second ago or more; at first since the command.
    pub fn rate(&self) -> u64 {
        let mut pace = self.pace.lock();
        let (now, bytes) = (Instant::now(), self.bytes());
        let over = now.duration_since(pace.at);
        if over >= PACE_OVER {
            let moved = bytes.saturating_sub(pace.bytes) as f64;
            let rate = (moved / over.as_secs_f64()).round() as u64;
            *pace = Pace {
                at: now,
                bytes,
                rate,
            };
        }
        pace.rate
    }

    fn count(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.counter.inc_by(bytes);
    }

    /// Ends the transfer early. False if it had ended before, by commit or by another interruption.
    pub fn interrupt(&self, reason: Interruption) -> bool {
        let code = INTERRUPTIONS
            .iter()
            .position(|known| *known == reason)
            .map_or(RUNNING, |at| at as u8 + 2);
        let won = self
            .state
            .compare_exchange(RUNNING, code, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok();
        if won {
            self.interrupted.cancel();
        }
        won
    }

    /// Why it was interrupted, if it was.
    pub fn interruption(&self) -> Option<Interruption> {
        let code = self.state.load(Ordering::SeqCst);
        code.checked_sub(2)
            .and_then(|at| INTERRUPTIONS.get(usize::from(at)))
            .copied()
    }

    /// True for a transfer from the client.
    fn is_upload(&self) -> bool {
        matches!(self.subject.verb, "STOR" | "STOU" | "APPE")
    }

    /// Notes that the client has said QUIT, which waits for the end of the transfer.
    pub fn quit(&self) {
        self.quit.store(true, Ordering::SeqCst);
    }

    /// Notes that the control connection has ended. An upload goes on to the end of its data; of a download nobody would read the reply,
    /// unless the client said so.
    pub fn control_ended(&self) {
        let _ = self.control_ended_at.set(Instant::now());
        self.control_ended.cancel();
        if !self.is_upload() && !self.quit.load(Ordering::SeqCst) {
            self.interrupt(Interruption::ControlLost);
        }
    }

    /// Resolves when the control connection has ended and the client never said QUIT on it.
    async fn left_without_quit(&self) {
        self.control_ended.cancelled().await;
        if self.quit.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
    }

    /// Resolves when a transfer without its control connection has had its time.
    pub async fn control_missed(&self) {
        self.control_ended.cancelled().await;
        let since = self.control_ended_at.get().copied();
        tokio::time::sleep_until(since.unwrap_or_else(Instant::now) + WITHOUT_CONTROL).await;
    }

    /// Ends the transfer well, unless it was interrupted. `proved`: the end of the data can't be mistaken for that of a killed client.
    ///
    /// Without such a proof the control connection is looked at, at the last point where it still helps: when a client is killed, the
    /// kernel closes both in order, at the same moment. It is best effort: over a real network the two closes can arrive far apart.
    pub async fn commit(&self, proved: bool) -> Result<(), Interruption> {
        if !proved && self.control.is_gone() {
            let settled = tokio::time::timeout(CONTROL_SETTLES, self.control_ended.cancelled());
            if settled.await.is_err() || !self.quit.load(Ordering::SeqCst) {
                self.interrupt(Interruption::ControlLost);
            }
        }
        match self
            .state
            .compare_exchange(RUNNING, COMMITTED, Ordering::SeqCst, Ordering::SeqCst)
        {
            Ok(_) | Err(COMMITTED) => Ok(()),
            Err(_) => Err(self.interruption().unwrap_or(Interruption::ControlLost)),
        }
    }

    /// Bytes that have crossed the data connection.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Resolves when the transfer is interrupted.
    pub async fn interrupted(&self) {
        self.interrupted.cancelled().await;
    }
}

/// The client's data connection in the hands of the storage.
///
/// Whatever happens to it, the client can tell a whole transfer from a broken one: unless [`DataConnection::close`] or a clean
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
    end: TlsEnd,
}

/// What ends the data of an upload under TLS (`require_close_notify`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsEnd {
    /// close_notify alone: without it the data were cut (RFC 8446, section 6.1).
    CloseNotify,
    /// The connection's own end, too, which anybody on the way can forge: for clients that never send close_notify.
    Any,
}

/// How long our end of the connection may take to close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

impl DataConnection {
    /// `stall` bounds each wait for the client to send or to take something.
    pub fn new(stream: Stream, transfer: Arc<Transfer>, stall: Duration, end: TlsEnd) -> Self {
        DataConnection {
            stream: Some(stream),
            transfer,
            stall,
            closed: false,
            notified: false,
            end,
        }
    }

    /// The state shared with the edge.
    pub fn transfer(&self) -> &Arc<Transfer> {
        &self.transfer
    }

    /// Ends the connection well after everything was sent.
    pub async fn close(mut self) -> Result<(), Interruption> {
        let Some(mut stream) = self.stream.take() else {
            return Ok(());
        };
        let shutdown = bounded(&self.transfer, CLOSE_TIMEOUT, stream.shutdown()).await;
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
        let stream = open(&mut self.stream);
        let (end, mut is_cut) = (self.end, false);
        let reading = async {
            match stream.read(buffer).await {
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
            let stream = open(&mut self.stream);
            let written = bounded(&self.transfer, self.stall, stream.write(bytes)).await?;
            if written == 0 {
                self.transfer.interrupt(Interruption::DataReset);
                return Err(Interruption::DataReset);
            }
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

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let client = TcpStream::connect(listener.local_addr().expect("bound"))
            .await
            .expect("connects");
        (client, listener.accept().await.expect("accepts").0)
    }

    fn subject() -> Subject {
        Subject {
            verb: "STOR",
            path: VirtualPath::root(),
        }
    }

    #[tokio::test]
    async fn a_rate_is_that_since_the_last_look() {
        let (_client, server) = pair().await;
        let control = PeerWatch::new(&server).expect("a descriptor");
        // from here on, since sockets need real time
        tokio::time::pause();
        let transfer = Transfer::new(subject(), control, Counter::default());
        transfer.count(1000);
        assert_eq!(transfer.rate(), 0, "too early to tell");
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(transfer.rate(), 500);
        tokio::time::advance(Duration::from_millis(500)).await;
        assert_eq!(transfer.rate(), 500, "the same for who asks right after");
        tokio::time::advance(Duration::from_millis(1500)).await;
        assert_eq!(transfer.rate(), 0, "nothing moves any more");
    }

    #[tokio::test]
    async fn commit_and_interrupt_exclude_each_other() {
        let (_client, server) = pair().await;
        for _ in 0..200 {
            let transfer = Transfer::new(
                subject(),
                PeerWatch::new(&server).expect("a descriptor"),
                Counter::default(),
            );
            let abort = std::thread::spawn({
                let transfer = transfer.clone();
                move || transfer.interrupt(Interruption::Abort)
            });
            let committed = transfer.commit(false).await.is_ok();
            let aborted = abort.join().expect("no panic");
            assert_ne!(committed, aborted);
            assert_eq!(transfer.interruption().is_some(), aborted);
        }
    }

    #[tokio::test]
    async fn a_dead_control_connection_wins_over_a_commit() {
        let (client, server) = pair().await;
        let transfer = Transfer::new(
            subject(),
            PeerWatch::new(&server).expect("a descriptor"),
            Counter::default(),
        );
        drop(client);
        while !transfer.control.is_gone() {
            tokio::task::yield_now().await;
        }
        assert_eq!(transfer.commit(false).await, Err(Interruption::ControlLost));
    }

    #[tokio::test]
    async fn every_interruption_is_told_apart() {
        let (_client, server) = pair().await;
        for reason in INTERRUPTIONS {
            let transfer = Transfer::new(
                subject(),
                PeerWatch::new(&server).expect("a descriptor"),
                Counter::default(),
            );
            assert!(transfer.interrupt(reason));
            assert!(!transfer.interrupt(Interruption::Abort));
            assert_eq!(transfer.interruption(), Some(reason));
            assert_eq!(transfer.commit(false).await, Err(reason));
        }
    }
}
