//! What is known of one control connection, and how the edge and the storage backend meet in it.
//!
//! libunftp calls the backend with a path. Everything else that a command means (the client's data connection, the restart
//! offset, the listing's format) the edge leaves here as an [`Order`] right before it sends the command, and what came of
//! it the backend leaves here as an outcome. One command is in flight at a time, so there is one place for each.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Instant, SystemTime};

use secrecy::SecretString;
use tokio::sync::oneshot;
use tracing::Span;

use crate::ftp::auth::User;
use crate::ftp::listformat::Format;
use crate::ftp::transfer::{ClientData, Transfer};
use crate::store::{Entry, Hashes, Interruption, Renamed, Start, StoreError, Stored};

/// One control connection.
#[derive(Debug)]
pub struct Session {
    /// Counts the connections of this process; stands in every log line.
    pub id: u64,
    /// The client.
    pub peer: SocketAddr,
    /// Where the client connected to.
    pub local: SocketAddr,
    /// What the edge logs in to the engine with, made anew for each session.
    pub engine_password: SecretString,
    /// When the client connected.
    pub since: SystemTime,
    user: OnceLock<Arc<User>>,
    order: Mutex<Option<Order>>,
    transfer: Mutex<Option<Arc<Transfer>>>,
    outcome: Mutex<Option<Result<Done, StoreError>>>,
    span: Mutex<Span>,
    at_work: AtomicBool,
    secured: AtomicBool,
    doing: Mutex<Doing>,
}

/// What the client does; for whoever looks on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Doing {
    /// The last command's verb; empty before the first.
    pub verb: &'static str,
    /// Whether it is still being obeyed.
    pub is_running: bool,
    /// When it came; or when it was answered.
    pub since: Instant,
}

/// What the storage has to do with the name that libunftp brings it; without one it is asked what the name is.
#[derive(Debug)]
pub enum Order {
    /// `STOR`, `APPE`, `STOU`
    Upload {
        /// What is kept of the object that is there.
        start: Start,
        /// Bytes that the client announced with ALLO.
        announced: Option<u64>,
        /// Line ends are converted.
        ascii: bool,
        /// Where the bytes come from.
        gate: Gate,
    },
    /// `RETR`
    Download {
        /// From which byte on.
        offset: u64,
        /// Line ends are converted.
        ascii: bool,
        /// Where the bytes go.
        gate: Gate,
    },
    /// `LIST`, `NLST`, `MLSD`, `STAT`
    List {
        /// The kind of lines.
        format: Format,
        /// A shell pattern that names must fit, unless something has just this name.
        pattern: Option<String>,
        /// Stands before names in NLST.
        directory: String,
        /// Where the lines go; none collects a bounded number for a reply.
        gate: Option<Gate>,
    },
    /// `MFMT`
    SetTime(SystemTime),
    /// `HASH`
    Hash,
}

/// The storage says when it is ready, and then gets the client's data connection.
///
/// So a missing file is refused before the client is told to expect data, and under TLS the handshake follows the 150.
#[derive(Debug)]
pub struct Gate {
    ready: oneshot::Sender<()>,
    data: oneshot::Receiver<ClientData>,
}

/// The edge's end of a [`Gate`].
#[derive(Debug)]
pub struct GateKeeper {
    /// Resolves when the storage is ready; fails when it ended before.
    pub ready: oneshot::Receiver<()>,
    /// Takes the client's data connection. Dropping it ends the storage's wait.
    pub data: oneshot::Sender<ClientData>,
}

/// What a storage call came to.
#[derive(Debug)]
pub enum Done {
    /// Nothing more to say.
    Plain,
    /// What a name is.
    Entry(Entry),
    /// What the store knows of a file's content, with the file's size.
    Hashes(Hashes),
    /// A rename.
    Renamed(Renamed),
    /// An upload.
    Stored(Stored),
    /// A download, with its bytes.
    Sent(u64),
    /// A listing: how many lines, and the lines themselves if no data connection took them.
    Listed {
        /// Lines.
        entries: u64,
        /// Keys that no path leads to, and so have no line.
        left_out: u64,
        /// The lines for a reply, cut after a bounded number.
        text: String,
        /// There were more.
        is_cut: bool,
    },
}

impl Gate {
    /// A gate and its keeper.
    pub fn new() -> (Gate, GateKeeper) {
        let (ready, is_ready) = oneshot::channel();
        let (data, take_data) = oneshot::channel();
        (
            Gate {
                ready,
                data: take_data,
            },
            GateKeeper {
                ready: is_ready,
                data,
            },
        )
    }

    /// Says that the transfer can begin and waits for the client's data connection. `None`: the edge gave up.
    pub async fn open(self) -> Option<ClientData> {
        self.ready.send(()).ok()?;
        self.data.await.ok()
    }
}

impl Session {
    /// A session of a client that hasn't logged in.
    pub fn new(
        id: u64,
        peer: SocketAddr,
        local: SocketAddr,
        engine_password: SecretString,
    ) -> Self {
        Session {
            id,
            peer,
            local,
            engine_password,
            since: SystemTime::now(),
            user: OnceLock::new(),
            order: Mutex::new(None),
            transfer: Mutex::new(None),
            outcome: Mutex::new(None),
            span: Mutex::new(Span::none()),
            at_work: AtomicBool::new(false),
            secured: AtomicBool::new(false),
            doing: Mutex::new(Doing {
                verb: "",
                is_running: false,
                since: Instant::now(),
            }),
        }
    }

    /// Notes that the control connection is protected.
    pub fn secure(&self) {
        self.secured.store(true, Ordering::Relaxed);
    }

    /// True under TLS.
    pub fn is_secured(&self) -> bool {
        self.secured.load(Ordering::Relaxed)
    }

    /// Notes a command that is being obeyed.
    pub fn begin(&self, verb: &'static str) {
        *lock(&self.doing) = Doing {
            verb,
            is_running: true,
            since: Instant::now(),
        };
    }

    /// Notes that the last command has been answered.
    pub fn rest(&self) {
        let mut doing = lock(&self.doing);
        doing.is_running = false;
        doing.since = Instant::now();
    }

    /// What the client does.
    pub fn doing(&self) -> Doing {
        *lock(&self.doing)
    }

    /// The user, once logged in.
    pub fn user(&self) -> Option<&Arc<User>> {
        self.user.get()
    }

    /// Notes who has logged in; the first one stays.
    pub fn log_in(&self, user: Arc<User>) {
        let _ = self.user.set(user);
    }

    /// Leaves an order for the next storage call. An order that nobody took is dropped.
    pub fn place(&self, order: Order) {
        *lock(&self.order) = Some(order);
        lock(&self.outcome).take();
    }

    /// The order, for the storage; or back again, for the edge, if no storage call took it.
    pub fn take_order(&self) -> Option<Order> {
        lock(&self.order).take()
    }

    /// Notes the transfer that the next order belongs to, or that there is none.
    pub fn set_transfer(&self, transfer: Option<Arc<Transfer>>) {
        *lock(&self.transfer) = transfer;
    }

    /// The transfer in hand.
    pub fn transfer(&self) -> Option<Arc<Transfer>> {
        lock(&self.transfer).clone()
    }

    /// Notes the span of the command in hand, or [`Span::none`] after it.
    pub fn set_span(&self, span: Span) {
        *lock(&self.span) = span;
    }

    /// The span of the command in hand: the storage works in a task of the engine's, which knows nothing of it.
    pub fn span(&self) -> Span {
        lock(&self.span).clone()
    }

    /// Resolves when the transfer in hand is interrupted; never without one.
    pub async fn interrupted(&self) -> Interruption {
        let transfer = lock(&self.transfer).clone();
        match transfer {
            Some(transfer) => {
                transfer.interrupted().await;
                transfer.interruption().unwrap_or(Interruption::Abort)
            }
            None => std::future::pending().await,
        }
    }

    /// Why the transfer in hand was interrupted. Without a transfer, or an interruption, it is the edge that has gone.
    pub fn interruption(&self) -> Interruption {
        let transfer = lock(&self.transfer);
        transfer
            .as_ref()
            .and_then(|transfer| transfer.interruption())
            .unwrap_or(Interruption::ControlLost)
    }

    /// Leaves what came of a storage call.
    pub fn report(&self, outcome: Result<Done, StoreError>) {
        *lock(&self.outcome) = Some(outcome);
    }

    /// What the last storage call came to; `None` if there was none.
    pub fn take_outcome(&self) -> Option<Result<Done, StoreError>> {
        lock(&self.outcome).take()
    }

    /// Marks the storage as at work until the guard is dropped.
    pub fn begin_work(self: &Arc<Self>) -> AtWork {
        self.at_work.store(true, Ordering::SeqCst);
        AtWork(Arc::clone(self))
    }

    /// True while a storage call runs: its own bounds apply, and the engine's silence is no fault.
    pub fn is_at_work(&self) -> bool {
        self.at_work.load(Ordering::SeqCst)
    }
}

/// See [`Session::begin_work`].
#[derive(Debug)]
pub struct AtWork(Arc<Session>);

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.at_work.store(false, Ordering::SeqCst);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // the values are replaced whole, so a panic can't leave half of one
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
