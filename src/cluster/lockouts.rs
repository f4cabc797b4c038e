//! Lockouts: failed logins at one replica count at all of them.
//!
//! ```text
//! guard ── events ──> one sender for each other replica ──stream──> handover port of that replica ──> its receiver ──> its guard
//! ```
//!
//! Each replica opens one stream to each other one, at the same port, by the same names and with the same key as for handover, and sends
//! what ends at its own guard: failures and successes, with their age. A stream is introduced by a header that is used once and at its
//! receiver only, which answers with a challenge; its messages are sealed and numbered (`message`). A stranger can neither read them, nor
//! add, repeat or change one, nor show one to another replica, to one that has restarted, or later.
//!
//! Nothing is acknowledged, and nothing is sent twice: an event reaches a replica once or never. What a lost one means, and when the
//! events of others count, is in the guard (`auth::guard::others`). For that this module knows of each replica whether it is
//!
//! - current: its stream is open, and a message comes at least every `HEARTBEAT`, on time within [`SILENCE`];
//! - gone: it has said that it leaves, or its name has no address, or its machine refuses the connection. Anybody on the way can refuse one.
//!   So where a stream was cut, its replica counts as gone only when what it sent last has left the window (`auth.lockout.window`), or
//!   when it leaves after it has come back. A replica that starts has no stream that could have been cut, and takes a refusal for what it is;
//! - silent: anything else, such as a network that is cut, another key or an older version. While one is silent, others' failures for one
//!   user do not count here, since it may have let that user in; their failures for the address do.
//!
//! Bounds: one stream from and to each replica, some thousand events that wait for all of them together, one message per
//! `MESSAGE_INTERVAL`, a wait between attempts to connect that grows to `MAX_PAUSE`, and a timeout on each wait. A replica that starts
//! begins with no counts.

pub mod counts;
mod message;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{Notify, broadcast, mpsc};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info};

use crate::auth::guard::{Event, Guard, SILENCE, Scope};
use crate::cluster::handover::{Handover, Stream, Unreachable};
use crate::cluster::lockouts::counts::{Fate, LockoutCounts};
use crate::cluster::lockouts::message::{Cipher, MAX_EVENTS, Message};
use crate::net::limit_unacknowledged;
use crate::telemetry::LineLimit;

/// A message is sent this often at least.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// The shortest time between two messages; events that come meanwhile share one.
const MESSAGE_INTERVAL: Duration = Duration::from_millis(50);

/// The time to connect to a replica, or to write one message to it.
const SEND_TIMEOUT: Duration = SILENCE;

/// The first pause between two attempts to connect, and the shortest; it doubles with each further one.
const MIN_PAUSE: Duration = Duration::from_millis(500);

/// The longest of these pauses. A replica that starts connects at once, and is then connected to at once.
const MAX_PAUSE: Duration = Duration::from_secs(15);

/// A replica is gone for this time before the pauses grow beyond [`SILENCE`]: it may come back as an earlier version, which doesn't connect.
const RECENTLY: Duration = Duration::from_secs(60);

/// The time for the last message to all replicas, when this one leaves.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);

/// Streams that have arrived and are not taken yet.
const ARRIVING: usize = 16;

/// One line in a while names an address that others have locked out, not one for each.
static LOCKED: LineLimit = LineLimit::per(Duration::from_secs(10));

/// This replica's part in sharing failed logins.
#[derive(Debug)]
pub struct Lockouts {
    guard: Arc<Guard>,
    handover: Arc<Handover>,
    peers: Vec<Peer>,
    /// The states of the peers, in their order.
    states: Mutex<Vec<State>>,
    counts: LockoutCounts,
    tasks: TaskTracker,
    leave: CancellationToken,
}

/// Another replica.
#[derive(Debug)]
struct Peer {
    ordinal: u16,
    /// Notified when an attempt to connect is worth it at once.
    connect: Notify,
}

/// The state of another replica.
#[derive(Debug, Default)]
struct State {
    incoming: Incoming,
    /// The last attempt to connect found that there is none.
    is_gone: bool,
    /// It is gone, or has left, since then.
    absent_since: Option<Instant>,
    /// The last message of a stream that was cut, until another one comes.
    cut: Option<Instant>,
    /// Ends the newest stream from it, when a newer one comes.
    stream: CancellationToken,
}

/// The stream from another replica.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Incoming {
    #[default]
    None,
    Current,
    /// It has ended in order.
    Left,
}

/// The other replicas by their state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replicas {
    /// Replicas whose events come.
    pub current: usize,
    /// Replicas that are not running.
    pub gone: usize,
    /// The ordinals of the others.
    pub silent: Vec<u16>,
}

impl State {
    /// No success at this replica can be missed.
    fn is_certain(&self) -> bool {
        self.is_gone || self.incoming != Incoming::None
    }

    /// The state of a stream that `replaced` ends; of an earlier one it means nothing any more.
    fn set(&mut self, replaced: &CancellationToken, incoming: Incoming) {
        if !replaced.is_cancelled() {
            self.incoming = incoming;
            // what an attempt to connect has shown is no news any more
            self.is_gone = false;
            self.cut = None;
        }
    }

    /// The stream was cut.
    fn cut(&mut self, replaced: &CancellationToken, last: Instant) {
        if !replaced.is_cancelled() {
            self.set(replaced, Incoming::None);
            self.cut = Some(last);
        }
    }

    /// `stream` takes the place of an earlier one. Where that is still open, what was written on it last may not have arrived.
    fn replace(&mut self, stream: CancellationToken) {
        std::mem::replace(&mut self.stream, stream).cancel();
        if self.incoming == Incoming::Current {
            self.incoming = Incoming::None;
        }
    }

    /// An attempt to connect has failed.
    fn fail(&mut self, unreachable: Unreachable, window: Duration) {
        self.is_gone = unreachable == Unreachable::Gone
            && self.incoming != Incoming::Current
            && self.cut.is_none_or(|last| last.elapsed() >= window);
        if unreachable == Unreachable::Unanswered {
            self.is_back();
        }
    }

    /// It is back, or another one is: its stream decides.
    fn is_back(&mut self) {
        self.is_gone = false;
        if self.incoming == Incoming::Left {
            self.incoming = Incoming::None;
        }
    }

    fn note_absence(&mut self) {
        let is_absent = self.is_certain() && self.incoming != Incoming::Current;
        let since = self.absent_since.unwrap_or_else(Instant::now);
        self.absent_since = is_absent.then_some(since);
    }

    /// The longest pause before the next attempt to connect.
    fn longest_pause(&self) -> Duration {
        match self.absent_since {
            Some(since) if since.elapsed() < RECENTLY => SILENCE,
            _ => MAX_PAUSE,
        }
    }
}

impl Lockouts {
    /// Shares the events of `guard` until [`Lockouts::leave`]. Streams from other replicas go to the sender that this returns.
    pub fn start(
        guard: Arc<Guard>,
        handover: Arc<Handover>,
        counts: LockoutCounts,
    ) -> (Arc<Self>, mpsc::Sender<Stream>) {
        let peers: Vec<Peer> = handover
            .others()
            .map(|ordinal| Peer {
                ordinal,
                connect: Notify::new(),
            })
            .collect();
        let lockouts = Arc::new(Lockouts {
            states: Mutex::new(peers.iter().map(|_| State::default()).collect()),
            guard,
            handover,
            peers,
            counts,
            tasks: TaskTracker::new(),
            leave: CancellationToken::new(),
        });
        for at in 0..lockouts.peers.len() {
            // nothing that ends from now on is missing on the first stream
            let events = lockouts.guard.subscribe();
            let sender = Arc::clone(&lockouts);
            lockouts
                .tasks
                .spawn(async move { sender.send(at, events).await });
        }
        let (arrivals, streams) = mpsc::channel(ARRIVING);
        let receiver = Arc::clone(&lockouts);
        lockouts
            .tasks
            .spawn(async move { receiver.take(streams).await });
        (lockouts, arrivals)
    }

    /// Lets the other replicas know that this one checks no password any more.
    pub async fn leave(&self) {
        self.leave.cancel();
        self.tasks.close();
        if timeout(LEAVE_TIMEOUT, self.tasks.wait()).await.is_err() {
            debug!("the other replicas could not be notified of the end in time");
        }
    }

    /// The states of the other replicas.
    pub fn replicas(&self) -> Replicas {
        let mut replicas = Replicas::default();
        for (peer, state) in self.peers.iter().zip(&*self.states.lock()) {
            if state.incoming == Incoming::Current {
                replicas.current += 1;
            } else if state.is_certain() {
                replicas.gone += 1;
            } else {
                replicas.silent.push(peer.ordinal);
            }
        }
        replicas
    }

    /// Changes a peer's state, and with it the worth of what others report.
    fn update(&self, at: usize, change: impl FnOnce(&mut State)) {
        let mut states = self.states.lock();
        let state = &mut states[at];
        change(state);
        state.note_absence();
        // under the lock, so that the guard's state is that of the last change
        self.guard.trust(states.iter().all(State::is_certain));
    }

    /// Keeps a stream to a peer open.
    async fn send(&self, at: usize, mut events: broadcast::Receiver<Event>) {
        let peer = &self.peers[at];
        let (mut pause, mut lost) = (MIN_PAUSE, false);
        while !self.leave.is_cancelled() {
            let opened = tokio::select! {
                opened = self.handover.open_lockouts(peer.ordinal, SEND_TIMEOUT) => opened,
                () = self.leave.cancelled() => return,
            };
            match opened {
                Ok(stream) => {
                    self.update(at, State::is_back);
                    let began = Instant::now();
                    let ended = self.feed(stream, &mut events, &mut lost).await;
                    // what was written last has not arrived, perhaps
                    lost = true;
                    debug!(
                        replica = peer.ordinal,
                        ?ended,
                        "a stream of lockout events has ended"
                    );
                    if began.elapsed() > MAX_PAUSE {
                        pause = MIN_PAUSE;
                    }
                }
                Err(unreachable) => {
                    self.update(at, |state| state.fail(unreachable, self.guard.window()));
                    if unreachable == Unreachable::Gone {
                        // one that starts has missed nothing that it could have counted
                        events = events.resubscribe();
                        lost = true;
                    }
                }
            }
            pause = pause.min(self.states.lock()[at].longest_pause());
            tokio::select! {
                () = async {
                    sleep(MIN_PAUSE).await;
                    let _ = timeout(pause - MIN_PAUSE, peer.connect.notified()).await;
                } => {}
                () = self.leave.cancelled() => return,
            }
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    /// Sends events on a stream until it breaks, or this replica leaves. `lost`: events before those that come now were lost.
    async fn feed(
        &self,
        stream: Stream,
        events: &mut broadcast::Receiver<Event>,
        lost: &mut bool,
    ) -> io::Result<()> {
        let (mut cipher, opened) = (Cipher::new(&stream.key), stream.opened);
        // a network that is back is noticed by a new stream, not by an old one that is sent again after minutes
        limit_unacknowledged(&stream.socket, SEND_TIMEOUT);
        let (mut read, mut write) = stream.socket.into_split();
        // the first message at once
        let mut rest = Duration::ZERO;
        loop {
            let mut message = Message::default();
            let mut nothing = [0];
            tokio::select! {
                event = events.recv() => match event {
                    Ok(event) => message.events.push(event),
                    Err(RecvError::Lagged(count)) => self.drop_events(count, lost),
                    // the guard, which is held, has the sender
                    Err(RecvError::Closed) => return Ok(()),
                },
                () = sleep(rest) => {}
                // nothing comes this way: it is the end
                _ = read.read(&mut nothing) => return Err(io::ErrorKind::ConnectionReset.into()),
                () = self.leave.cancelled() => {}
            }
            if let Some(count) = fill(&mut message, events, self.leave.is_cancelled()) {
                self.drop_events(count, lost);
            }
            message.lost = *lost;
            message.elapsed = opened.elapsed();
            let sealed = cipher.seal(&message)?;
            timeout(SEND_TIMEOUT, write.write_all(&sealed)).await??;
            (*lost, rest) = (false, HEARTBEAT);
            self.counts.count(Fate::Sent, message.events.len() as u64);
            if message.leaves {
                return Ok(());
            }
            tokio::select! {
                () = sleep(MESSAGE_INTERVAL) => {}
                () = self.leave.cancelled() => {}
            }
        }
    }

    fn drop_events(&self, count: u64, lost: &mut bool) {
        self.counts.count(Fate::Dropped, count);
        *lost = true;
    }

    /// Takes streams of other replicas, until this one leaves.
    async fn take(self: Arc<Self>, mut streams: mpsc::Receiver<Stream>) {
        loop {
            let stream = tokio::select! {
                stream = streams.recv() => stream,
                () = self.leave.cancelled() => return,
            };
            let Some(stream) = stream else { return };
            let Some(at) = self
                .peers
                .iter()
                .position(|peer| peer.ordinal == stream.ordinal)
            else {
                continue;
            };
            let replaced = CancellationToken::new();
            let receiver = Arc::clone(&self);
            self.tasks.spawn(async move {
                tokio::select! {
                    () = receiver.receive(at, stream, &replaced) => {}
                    () = replaced.cancelled() => {}
                    () = receiver.leave.cancelled() => {}
                }
            });
        }
    }

    /// Takes the events of a stream into account until it ends. `replaced`: a newer stream has taken its place.
    async fn receive(&self, at: usize, mut stream: Stream, replaced: &CancellationToken) {
        let mut cipher = Cipher::new(&stream.key);
        let mut last = None;
        let ended = loop {
            let message = match next(&mut cipher, &mut stream.socket, stream.opened).await {
                Ok(message) => message,
                Err(error) => break error,
            };
            // not before: a header alone may be one that somebody has kept
            if last.replace(Instant::now()).is_none() {
                self.update(at, |state| state.replace(replaced.clone()));
                // it has started, or the network is back
                self.peers[at].connect.notify_one();
            }
            self.counts
                .count(Fate::Received, message.events.len() as u64);
            if message.lost {
                self.guard.lose_events();
            }
            self.update(at, |state| state.set(replaced, Incoming::Current));
            for event in message.events {
                if let Some(scope) = self.guard.receive(event) {
                    report(event, scope, stream.ordinal);
                }
            }
            if message.leaves {
                return self.update(at, |state| state.set(replaced, Incoming::Left));
            }
        };
        debug!(replica = stream.ordinal, %ended, "a stream of lockout events was cut");
        if ended.kind() == io::ErrorKind::InvalidData {
            self.handover.refuse_message(&stream.socket);
        }
        let Some(last) = last else { return };
        self.update(at, |state| state.cut(replaced, last));
        // if it has ended, that shows at once
        self.peers[at].connect.notify_one();
    }
}

/// Adds events that wait, as many as there is room for. Returns the number of those that were dropped before them, if any: the message
/// must say so. The last message of one that leaves is the one behind which none wait.
fn fill(
    message: &mut Message,
    events: &mut broadcast::Receiver<Event>,
    leaves: bool,
) -> Option<u64> {
    let mut dropped = None;
    while message.events.len() < MAX_EVENTS {
        match events.try_recv() {
            Ok(event) => message.events.push(event),
            Err(TryRecvError::Lagged(count)) => *dropped.get_or_insert(0) += count,
            Err(TryRecvError::Empty | TryRecvError::Closed) => break,
        }
    }
    message.leaves = leaves && events.is_empty();
    dropped
}

/// The next message, if it is on time.
async fn next(cipher: &mut Cipher, socket: &mut TcpStream, opened: Instant) -> io::Result<Message> {
    let message = timeout(SILENCE, cipher.read(socket)).await??;
    // its age is not that of the events in it: a process that was stopped finds messages that have waited for it
    match opened.elapsed() > message.elapsed + SILENCE {
        true => Err(io::ErrorKind::TimedOut.into()),
        false => Ok(message),
    }
}

fn report(event: Event, scope: Scope, replica: u16) {
    let (client, scope) = (
        event.address,
        match scope {
            Scope::Address => "address",
            Scope::User => "address and user",
        },
    );
    match LOCKED.pass() {
        Some(left_out) => {
            info!(event = "lockout_shared", %client, scope, replica, left_out, "locked out after failed logins at other replicas");
        }
        None => debug!(%client, scope, replica, "locked out after failed logins at other replicas"),
    }
}

#[cfg(test)]
mod tests;
