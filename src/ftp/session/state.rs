//! Known facts about one control connection, and where the edge and the engine's storage meet: a slot for the
//! [request](crate::ftp::engine::request) in hand and one for what came of it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime};

use parking_lot::{Mutex, MutexGuard};
use secrecy::SecretString;
use tracing::Span;

use crate::auth::User;
use crate::events::Pending;
use crate::ftp::encoding::Shown;
use crate::ftp::engine::request::{StorageOutcome, StorageRequest};
use crate::ftp::transfer::Transfer;
use crate::store::{Interruption, StoreError};

/// The client at the other end of a control connection.
#[derive(Debug, Clone, Copy)]
pub struct Client {
    /// Its address, by the PROXY header if there is one.
    pub address: SocketAddr,
    /// Where it connected to by the PROXY header; none without one.
    pub destination: Option<SocketAddr>,
}

/// One control connection.
#[derive(Debug)]
pub struct Session {
    /// Counts the connections of this process; stands in every log line.
    pub id: u64,
    /// The client.
    pub peer: SocketAddr,
    /// Where the client connected to by the PROXY header; none without one.
    pub destination: Option<SocketAddr>,
    /// Where its connection arrived.
    pub local: SocketAddr,
    /// The password with which the edge logs in to the engine with, made anew for each session.
    pub engine_password: SecretString,
    /// When the client connected.
    pub since: SystemTime,
    user: OnceLock<Arc<User>>,
    request: Mutex<Option<StorageRequest>>,
    transfer: Mutex<Option<Arc<Transfer>>>,
    outcome: Mutex<Option<Result<StorageOutcome, StoreError>>>,
    event: Mutex<Option<Pending>>,
    span: Mutex<Span>,
    at_work: AtomicBool,
    secured: AtomicBool,
    doing: Mutex<Doing>,
    shown: Mutex<Shown>,
}

/// The client's current or last command, for the status page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Doing {
    /// The last command's verb; empty before the first.
    pub verb: &'static str,
    /// True if it is still running.
    pub is_running: bool,
    /// When it came; or when it was answered.
    pub since: Instant,
}

impl Session {
    /// A session of a client that hasn't logged in.
    pub fn new(id: u64, client: Client, local: SocketAddr, engine_password: SecretString) -> Self {
        Session {
            id,
            peer: client.address,
            destination: client.destination,
            local,
            engine_password,
            since: SystemTime::now(),
            user: OnceLock::new(),
            request: Mutex::new(None),
            transfer: Mutex::new(None),
            outcome: Mutex::new(None),
            event: Mutex::new(None),
            span: Mutex::new(Span::none()),
            at_work: AtomicBool::new(false),
            secured: AtomicBool::new(false),
            doing: Mutex::new(Doing {
                verb: "",
                is_running: false,
                since: Instant::now(),
            }),
            shown: Mutex::new(Shown::default()),
        }
    }

    /// Where the client connected to, as far as it is known: the gateway, or the proxy before it.
    pub fn reached(&self) -> SocketAddr {
        self.destination.unwrap_or(self.local)
    }

    /// The names that the client has been shown in a charset, of those that could be UTF-8 as well.
    pub fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock()
    }

    /// Notes that the control connection is protected.
    pub fn secure(&self) {
        self.secured.store(true, Ordering::Relaxed);
    }

    /// True under TLS.
    pub fn is_secured(&self) -> bool {
        self.secured.load(Ordering::Relaxed)
    }

    /// Notes a command that begins.
    pub fn begin(&self, verb: &'static str) {
        *self.doing.lock() = Doing {
            verb,
            is_running: true,
            since: Instant::now(),
        };
    }

    /// Notes that the last command has been answered.
    pub fn rest(&self) {
        let mut doing = self.doing.lock();
        doing.is_running = false;
        doing.since = Instant::now();
    }

    /// The client's current or last command.
    pub fn doing(&self) -> Doing {
        *self.doing.lock()
    }

    /// The user, once logged in.
    pub fn user(&self) -> Option<&Arc<User>> {
        self.user.get()
    }

    /// Notes who has logged in; the first one stays.
    pub fn log_in(&self, user: Arc<User>) {
        let _ = self.user.set(user);
    }

    /// Leaves a request for the engine's handler. One that nobody took is dropped.
    pub fn submit(&self, request: StorageRequest) {
        *self.request.lock() = Some(request);
        self.outcome.lock().take();
    }

    /// The request, for the handler; or back again, for the edge, if none took it.
    pub fn take_request(&self) -> Option<StorageRequest> {
        self.request.lock().take()
    }

    /// Notes the transfer that the next request belongs to, or that there is none.
    pub fn set_transfer(&self, transfer: Option<Arc<Transfer>>) {
        *self.transfer.lock() = transfer;
    }

    /// The transfer in hand.
    pub fn transfer(&self) -> Option<Arc<Transfer>> {
        self.transfer.lock().clone()
    }

    /// Notes the span of the command in hand, or [`Span::none`] after it.
    pub fn set_span(&self, span: Span) {
        *self.span.lock() = span;
    }

    /// The span of the command in hand: the storage works in a task of the engine's, which knows nothing of it.
    pub fn span(&self) -> Span {
        self.span.lock().clone()
    }

    /// Resolves when the transfer in hand is interrupted; never without one.
    pub async fn interrupted(&self) -> Interruption {
        let transfer = self.transfer.lock().clone();
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
        let transfer = self.transfer.lock();
        transfer
            .as_ref()
            .and_then(|transfer| transfer.interruption())
            .unwrap_or(Interruption::ControlLost)
    }

    /// Leaves what came of a storage call.
    pub fn report(&self, outcome: Result<StorageOutcome, StoreError>) {
        *self.outcome.lock() = Some(outcome);
    }

    /// The result of the last storage call; `None` if there was none.
    pub fn take_outcome(&self) -> Option<Result<StorageOutcome, StoreError>> {
        self.outcome.lock().take()
    }

    /// Leaves the event of a change that was made for the edge, or takes it; returns what was there.
    pub fn set_event(&self, event: Option<Pending>) -> Option<Pending> {
        std::mem::replace(&mut *self.event.lock(), event)
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
