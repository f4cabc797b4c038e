//! Bytes from one connection to another, and what ends them.
//!
//! An end of data (FIN) is passed on when it is read, so each direction ends by itself. Anything else, an error of reading or writing on
//! either side, ends both at once, and the caller resets both sockets. Linux reports a reset once, and then an end of data; so an error
//! is never read past, whichever call got it.

use std::io;
use std::net::Shutdown;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;
use socket2::SockRef;
use tokio::net::TcpStream;

#[cfg(target_os = "linux")]
use super::splice;

/// The end of a relayed connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Both directions came to their end.
    Complete,
    /// One of the two sides reset it, or was lost.
    Reset,
    /// Nothing moved for too long.
    Idle,
    /// The gateway whose port it is could not be reached.
    Unreachable,
    /// There were too many.
    Limit,
    /// This gateway was stopped.
    Stopped,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Outcome; 6] = [
        Outcome::Complete,
        Outcome::Reset,
        Outcome::Idle,
        Outcome::Unreachable,
        Outcome::Limit,
        Outcome::Stopped,
    ];

    /// One word, for a metric's label.
    pub fn word(self) -> &'static str {
        match self {
            Outcome::Complete => "complete",
            Outcome::Reset => "reset",
            Outcome::Idle => "idle",
            Outcome::Unreachable => "unreachable",
            Outcome::Limit => "limit",
            Outcome::Stopped => "stopped",
        }
    }
}

/// Bytes that are copied before splice(2) is worth the two descriptors and the calls that a pipe costs.
const COPIED_FIRST: usize = 64 << 10;

/// Room for copies. A relay that hasn't spliced yet has one in each direction, at the most.
const BUFFER: usize = 16 << 10;

/// The time for a client to end its direction after the owner has: as long as the kernel keeps a connection in this state
/// whose owner has closed (net.ipv4.tcp_fin_timeout).
const AFTER_THE_END: Duration = Duration::from_secs(60);

/// Passes bytes on in both directions until both have ended, or the connection is broken. `moved` counts them.
pub(super) async fn run(
    client: &TcpStream,
    owner: &TcpStream,
    idle_timeout: Duration,
    moved: &Counter,
) -> Outcome {
    let progress = Progress {
        began: Instant::now(),
        last: AtomicU64::new(0),
        moved,
    };
    let mut up = std::pin::pin!(pass(client, owner, &progress));
    let mut down = std::pin::pin!(pass(owner, client, &progress));
    let both = async {
        tokio::select! {
            up = &mut up => match up {
                Ok(()) => down.await.map_or(Outcome::Reset, |()| Outcome::Complete),
                Err(_) => Outcome::Reset,
            },
            down = &mut down => match down {
                // what the client still says has no reader, and must not cut what it is about to read
                Ok(()) => {
                    let _ = tokio::time::timeout(AFTER_THE_END, up).await;
                    Outcome::Complete
                }
                Err(_) => Outcome::Reset,
            },
        }
    };
    tokio::select! {
        outcome = both => outcome,
        () = progress.rests_for(idle_timeout) => Outcome::Idle,
    }
}

/// The time of the last byte.
struct Progress<'a> {
    began: Instant,
    /// In milliseconds since `began`.
    last: AtomicU64,
    moved: &'a Counter,
}

impl Progress<'_> {
    fn note(&self, bytes: usize) {
        self.moved.inc_by(bytes as u64);
        self.last.store(self.now(), Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    async fn rests_for(&self, limit: Duration) {
        loop {
            let rested = self.now() - self.last.load(Ordering::Relaxed).min(self.now());
            let left = limit.saturating_sub(Duration::from_millis(rested));
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left).await;
        }
    }
}

/// Passes bytes on until the end of data, and then the end.
async fn pass(from: &TcpStream, to: &TcpStream, progress: &Progress<'_>) -> io::Result<()> {
    let mut ended = copy(from, to, progress, COPIED_FIRST).await?;
    #[cfg(target_os = "linux")]
    // without a descriptor for the pipe, it is copied on
    if !ended && let Ok(pipe) = splice::Pipe::new() {
        ended = pipe.pass(from, to, |bytes| progress.note(bytes)).await?;
    }
    if !ended {
        copy(from, to, progress, usize::MAX).await?;
    }
    SockRef::from(to).shutdown(Shutdown::Write)
}

/// Copies `at_least` so many bytes, if there are so many; true at the end of data.
async fn copy(
    from: &TcpStream,
    to: &TcpStream,
    progress: &Progress<'_>,
    at_least: usize,
) -> io::Result<bool> {
    let (mut buffer, mut copied) = (Vec::new(), 0);
    while copied < at_least {
        from.readable().await?;
        buffer.clear();
        buffer.reserve_exact(BUFFER);
        match from.try_read_buf(&mut buffer) {
            Ok(0) => return Ok(true),
            Ok(bytes) => copied += bytes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        }
        write_all(to, &buffer, progress).await?;
    }
    Ok(false)
}

async fn write_all(to: &TcpStream, mut bytes: &[u8], progress: &Progress<'_>) -> io::Result<()> {
    while !bytes.is_empty() {
        to.writable().await?;
        match to.try_write(bytes) {
            Ok(written) => {
                progress.note(written);
                bytes = &bytes[written..];
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::task::JoinHandle;

    use super::*;
    use crate::net::reset_on_close;
    use crate::net::testing::pair;

    /// A client and an owner with a relay between them, which closes as [`super::super::Handover::relay`] does.
    async fn relayed(idle_timeout: Duration) -> (TcpStream, TcpStream, JoinHandle<(Outcome, u64)>) {
        let (client, near) = pair().await;
        let (far, owner) = pair().await;
        let relay = tokio::spawn(async move {
            let moved = Counter::default();
            reset_on_close(&near);
            reset_on_close(&far);
            let outcome = run(&near, &far, idle_timeout, &moved).await;
            if outcome == Outcome::Complete {
                super::super::close_in_order(&near);
                super::super::close_in_order(&far);
            }
            (outcome, moved.get())
        });
        (client, owner, relay)
    }

    fn bytes(length: usize) -> Vec<u8> {
        (0..length).map(|i| (i * 7 + i / 251) as u8).collect()
    }

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn bytes_arrive_as_they_were_however_many_and_the_ends_of_both_directions() {
        for length in [0, 1, COPIED_FIRST - 1, COPIED_FIRST, 3_000_001] {
            let (mut client, mut owner, relay) = relayed(LONG).await;
            let sent = bytes(length);
            let uploading = async {
                client.write_all(&sent).await.expect("writes");
                client.shutdown().await.expect("ends");
                let mut answer = Vec::new();
                client.read_to_end(&mut answer).await.expect("a clean end");
                answer
            };
            let receiving = async {
                let mut received = Vec::new();
                owner.read_to_end(&mut received).await.expect("a clean end");
                // the other direction is still open
                owner.write_all(&received).await.expect("writes");
                owner.shutdown().await.expect("ends");
                received
            };
            let (answer, received) = tokio::join!(uploading, receiving);
            assert!(received == sent && answer == sent, "{length}");
            let (outcome, moved) = relay.await.expect("no panic");
            assert_eq!((outcome, moved), (Outcome::Complete, 2 * length as u64));
        }
    }

    #[tokio::test]
    async fn a_reset_arrives_as_a_reset_in_either_direction_and_after_any_number_of_bytes() {
        for length in [0, 1, 3_000_001] {
            for client_resets in [true, false] {
                let (client, owner, relay) = relayed(LONG).await;
                let (mut sender, mut reader) = match client_resets {
                    true => (client, owner),
                    false => (owner, client),
                };
                let sending = async {
                    sender.write_all(&bytes(length)).await.expect("writes");
                    reset_on_close(&sender);
                    drop(sender);
                };
                let reading = async {
                    let mut received = Vec::new();
                    reader.read_to_end(&mut received).await
                };
                let ((), read) = tokio::join!(sending, reading);
                assert!(
                    read.is_err(),
                    "{length} bytes, by the client: {client_resets}"
                );
                assert_eq!(relay.await.expect("no panic").0, Outcome::Reset);
            }
        }
    }

    #[tokio::test]
    async fn a_relay_that_is_dropped_resets_both_sides() {
        let (mut client, mut owner, relay) = relayed(LONG).await;
        client.write_all(b"half").await.expect("writes");
        let mut half = [0; 4];
        owner.read_exact(&mut half).await.expect("arrives");
        relay.abort();
        assert!(owner.read_u8().await.is_err_and(is_reset));
        assert!(client.read_u8().await.is_err_and(is_reset));
    }

    fn is_reset(error: io::Error) -> bool {
        error.kind() == io::ErrorKind::ConnectionReset
    }

    #[tokio::test]
    async fn a_relay_on_which_nothing_moves_ends_in_a_reset() {
        let (mut client, mut owner, relay) = relayed(Duration::from_millis(50)).await;
        assert!(owner.read_u8().await.is_err_and(is_reset));
        assert!(client.read_u8().await.is_err_and(is_reset));
        assert_eq!(relay.await.expect("no panic").0, Outcome::Idle);
    }

    #[tokio::test]
    async fn what_the_client_says_after_the_owners_end_changes_nothing() {
        let (mut client, mut owner, relay) = relayed(LONG).await;
        let sent = bytes(100_000);
        owner.write_all(&sent).await.expect("writes");
        drop(owner);
        let mut received = Vec::new();
        client
            .read_to_end(&mut received)
            .await
            .expect("a clean end");
        assert!(received == sent);
        // nobody reads it; the kernel of the owner resets
        client.write_all(b"close_notify").await.expect("writes");
        drop(client);
        assert_eq!(relay.await.expect("no panic").0, Outcome::Complete);
    }
}
