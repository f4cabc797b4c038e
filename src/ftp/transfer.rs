//! One data transfer: who may end it, and how.
//!
//! Invariant: a transfer ends by commit XOR interruption. One [`OnceLock`] decides, whoever comes first: the storage
//! right before it makes the object visible, or the edge that read ABOR or must stop.
//!
//! The outcome of an upload is decided by the end of its *data* connection says. Cameras and scripts send everything, close, and leave without waiting for the
//! 226; bytes that the kernel still holds then are the file's tail. So an upload whose control connection has ended reads its data to
//! their own end, for at most two minutes, and an hour where limits of bandwidth make it pause:
//!
//! | the data end with | and the control connection | the upload is |
//! |---|---|---|
//! | FIN in the clear | is there, or its last command was QUIT | whole |
//! | close_notify under TLS | whatever it does | whole |
//! | FIN in the clear | ended without QUIT | interrupted, with all that was sent: a killed client looks like that, too |
//! | FIN under TLS, without close_notify | | interrupted; like FIN in the clear where `require_close_notify` is false |
//! | reset, stall, TLS without close_notify, ABOR | | interrupted |

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::net::PeerWatch;
use crate::store::{Interruption, VirtualPath};

/// The state that the edge and the storage share while data moves.
#[derive(Debug)]
pub struct Transfer {
    /// Set once, by whoever comes first.
    end: OnceLock<End>,
    bytes: AtomicU64,
    interrupted: CancellationToken,
    /// Somebody wanted it to end early, committed or not.
    unwanted: CancellationToken,
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
    pauses: Mutex<Pauses>,
}

/// Time in which the gateway itself held the transfer up.
#[derive(Debug, Default)]
struct Pauses {
    /// Of pauses that are over.
    past: Duration,
    /// When the current one began.
    since: Option<Instant>,
}

/// The subject of a transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The client's command.
    pub verb: &'static str,
    /// The name that it is about.
    pub path: VirtualPath,
}

/// A transfer's speed at the last look. Only who looks touches it.
#[derive(Debug)]
struct Pace {
    at: Instant,
    bytes: u64,
    rate: u64,
}

/// A rate is measured over at least this long: over less it would jump with every chunk.
const PACE_OVER: Duration = Duration::from_secs(1);

/// The longest time that an upload may go on after its control connection has ended: time for what the kernels of both sides hold, some MiB, over a
/// slow line.
const WITHOUT_CONTROL: Duration = Duration::from_secs(120);

/// The longest time of pauses for limits of bandwidth that comes on top: what some MiB take at the smallest limit.
const MOST_PAUSED: Duration = Duration::from_secs(3600);

/// The longest time that a commit waits until what the client said before it left has been read: it is in the kernel already.
const CONTROL_SETTLES: Duration = Duration::from_secs(1);

/// The one end of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Committed,
    Interrupted(Interruption),
}

impl Transfer {
    /// `control` is watched for the client's death; see [`Transfer::commit`]. Bytes are counted in `counter`, too, while
    /// they move.
    pub fn new(subject: Subject, control: PeerWatch, counter: Counter) -> Arc<Self> {
        let began = Instant::now();
        Arc::new(Transfer {
            end: OnceLock::new(),
            bytes: AtomicU64::new(0),
            interrupted: CancellationToken::new(),
            unwanted: CancellationToken::new(),
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
            pauses: Mutex::default(),
        })
    }

    /// The subject.
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

    /// Counts bytes that have crossed the data connection.
    pub(super) fn count(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.counter.inc_by(bytes);
    }

    /// Ends the transfer early. False if it had ended before, by commit or by another interruption.
    pub fn interrupt(&self, reason: Interruption) -> bool {
        let won = self.end.set(End::Interrupted(reason)).is_ok();
        if won {
            self.interrupted.cancel();
        }
        self.unwanted.cancel();
        won
    }

    /// Why it was interrupted, if it was.
    pub fn interruption(&self) -> Option<Interruption> {
        match self.end.get() {
            Some(End::Interrupted(reason)) => Some(*reason),
            Some(End::Committed) | None => None,
        }
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
    pub(super) async fn left_without_quit(&self) {
        self.control_ended.cancelled().await;
        if self.quit.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
    }

    /// Resolves when a transfer without its control connection has had its time. Pauses for limits of bandwidth don't count: what the
    /// kernels hold takes its time then.
    pub async fn control_missed(&self) {
        self.control_ended.cancelled().await;
        let since = self.control_ended_at.get().copied();
        let since = since.unwrap_or_else(Instant::now);
        let before = self.paused();
        loop {
            let paused = self.paused().saturating_sub(before).min(MOST_PAUSED);
            let until = since + WITHOUT_CONTROL + paused;
            if until <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }

    /// Runs `pause`, which is no fault of the client's.
    pub(super) async fn pausing<F: Future>(&self, pause: F) -> F::Output {
        let _pausing = Pausing::begin(self);
        pause.await
    }

    /// The time of all pauses so far.
    fn paused(&self) -> Duration {
        let pauses = self.pauses.lock();
        pauses.past + pauses.since.map_or(Duration::ZERO, |since| since.elapsed())
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
        match self.end.get_or_init(|| End::Committed) {
            End::Committed => Ok(()),
            End::Interrupted(reason) => Err(*reason),
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

    /// Resolves when somebody has tried to interrupt the transfer, also when it had been committed: for what comes after that and can still
    /// be left.
    pub(super) async fn unwanted(&self) {
        self.unwanted.cancelled().await;
    }
}

/// Counts a pause until it is dropped.
struct Pausing<'a>(&'a Transfer);

impl<'a> Pausing<'a> {
    fn begin(transfer: &'a Transfer) -> Self {
        transfer.pauses.lock().since = Some(Instant::now());
        Pausing(transfer)
    }
}

impl Drop for Pausing<'_> {
    fn drop(&mut self) {
        let mut pauses = self.0.pauses.lock();
        if let Some(since) = pauses.since.take() {
            pauses.past += since.elapsed();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::testing::pair;

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
    async fn a_pause_of_our_own_is_no_time_without_a_control_connection() {
        let (_client, server) = pair().await;
        let control = PeerWatch::new(&server).expect("a descriptor");
        tokio::time::pause();
        let transfer = Transfer::new(subject(), control, Counter::default());
        transfer.pausing(tokio::time::sleep(WITHOUT_CONTROL)).await;
        transfer.control_ended();
        let began = Instant::now();
        let pause = Duration::from_secs(500);
        tokio::join!(
            transfer.pausing(tokio::time::sleep(pause)),
            transfer.control_missed()
        );
        assert_eq!(
            began.elapsed().as_secs(),
            (WITHOUT_CONTROL + pause).as_secs()
        );
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
    async fn the_first_interruption_is_the_reason() {
        let (_client, server) = pair().await;
        let transfer = Transfer::new(
            subject(),
            PeerWatch::new(&server).expect("a descriptor"),
            Counter::default(),
        );
        assert!(transfer.interrupt(Interruption::Stalled));
        assert!(!transfer.interrupt(Interruption::Abort));
        assert_eq!(transfer.interruption(), Some(Interruption::Stalled));
        assert_eq!(transfer.commit(false).await, Err(Interruption::Stalled));
    }
}
