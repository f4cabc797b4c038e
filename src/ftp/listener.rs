//! The front door: accept loops, limits, and what all sessions share.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use crate::auth::Users;
use crate::charset::Charset;
use crate::config;
use crate::events::Events;
use crate::ftp::connections::ControlConnections;
use crate::ftp::edge;
use crate::ftp::engine::Loopback;
use crate::ftp::net::tune_control;
use crate::ftp::own::OwnPorts;
use crate::ftp::passive::{ACCEPT_PAUSE, BindError, PassivePool};
use crate::ftp::reply::Reply;
use crate::ftp::roster::Roster;
use crate::ftp::tls::Tls;
use crate::kubernetes::Contact;
use crate::masquerade::Masquerade;
use crate::metrics::{Ended, Front};
use crate::store::Store;
use crate::store::embedded::DiskSpace;
use crate::telemetry::LineLimit;

/// Connections that the kernel holds while the accept loop is busy.
const BACKLOG: i32 = 1024;

/// One line in a while says that accepting fails, not one for each try.
static NOT_ACCEPTED: LineLimit = LineLimit::per(Duration::from_secs(10));

/// What every session needs, built once.
pub struct Frontend {
    /// `greeting`
    pub greeting: String,
    /// `charset`
    pub charset: Charset,
    /// `sessions.*`
    pub sessions: config::Sessions,
    /// `passive.accept_timeout`
    pub accept_timeout: Duration,
    /// `listing.times`
    pub listing_times: config::Times,
    /// `upload.stall_timeout`
    pub upload_stall: Duration,
    /// `download.stall_timeout`
    pub download_stall: Duration,
    /// Who may come in.
    pub users: Arc<Users>,
    /// Where files go.
    pub store: Store,
    /// The disk of the embedded store, if that is where files go.
    pub disk: Option<Arc<DiskSpace>>,
    /// FTPS, if it is offered.
    pub tls: Option<Arc<Tls>>,
    /// `active.*`
    pub active: config::Active,
    /// Where active mode doesn't connect to.
    pub own_ports: OwnPorts,
    /// Who is told of commits.
    pub events: Events,
    /// What PASV tells.
    pub masquerade: Masquerade,
    /// When the API server has last answered, if a Service is watched.
    pub contact: Option<Contact>,
    /// Makes the engines' connections.
    pub loopback: Loopback,
    /// Cancelled when the gateway drains: no new session, those that rest end, the others and transfers go on.
    pub drain: CancellationToken,
    /// `drain.idle`
    pub drain_idle: Duration,
    /// Cancelled shortly before the drain's deadline, and with `stop`: every session ends between two commands.
    pub last_call: CancellationToken,
    /// Cancelled when the drain's deadline has passed: transfers end, too.
    pub stop: CancellationToken,
    /// The session tasks.
    pub tasks: TaskTracker,
    /// The control connections that are open.
    pub connections: Arc<ControlConnections>,
    /// Who is connected, and what went wrong lately.
    pub roster: Roster,
    /// The control ports.
    pub doors: Doors,
    /// When the gateway started.
    pub started: Instant,
    /// The passive ports, one pool per address.
    pub pools: Vec<Arc<PassivePool>>,
    /// What is counted.
    pub metrics: Front,
}

/// The control ports that ought to be served, and how many are.
#[derive(Debug)]
pub struct Doors {
    bound: usize,
    open: AtomicUsize,
}

/// One control port that is served; closed on drop, whatever ends its loop.
struct Door(Arc<Frontend>);

/// A control port can't be bound.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// A control port.
    #[error("{key} = {address} can't be bound")]
    Control {
        /// `listen` or `tls.implicit_listen`.
        key: &'static str,
        /// From there.
        address: SocketAddr,
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
    /// A passive port.
    #[error(transparent)]
    Passive(#[from] BindError),
}

/// The bound front door; nothing is accepted before [`Listeners::serve`].
pub struct Listeners(Vec<Listener>);

struct Listener {
    socket: TcpListener,
    pool: Arc<PassivePool>,
    /// TLS begins with the first byte.
    implicit: bool,
}

impl Listeners {
    /// Binds every control port, and the passive ports on each of their addresses, or nothing.
    pub fn bind(config: &config::Config, stop: &CancellationToken) -> Result<Self, ListenError> {
        let mut pools: HashMap<IpAddr, Arc<PassivePool>> = HashMap::new();
        let mut listeners = Vec::new();
        let explicit = config.listen.iter().map(|address| (*address, false));
        let implicit = config.tls.iter().flat_map(|tls| &tls.implicit_listen);
        for (address, implicit) in explicit.chain(implicit.map(|address| (*address, true))) {
            let key = if implicit {
                "tls.implicit_listen"
            } else {
                "listen"
            };
            let socket = bind(address).map_err(|source| ListenError::Control {
                key,
                address,
                source,
            })?;
            let pool = match pools.get(&address.ip()) {
                Some(pool) => Arc::clone(pool),
                None => {
                    let (ports, timeout) =
                        (config.passive.ports.clone(), config.passive.accept_timeout);
                    let pool = PassivePool::bind(address.ip(), ports, timeout, stop)?;
                    pools.insert(address.ip(), Arc::clone(&pool));
                    pool
                }
            };
            listeners.push(Listener {
                socket,
                pool,
                implicit,
            });
        }
        Ok(Listeners(listeners))
    }

    /// The control addresses, with the real port where 0 was asked for.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.0
            .iter()
            .filter_map(|listener| listener.socket.local_addr().ok())
            .collect()
    }

    /// The control ports, none of which is served yet.
    pub fn doors(&self) -> Doors {
        Doors {
            bound: self.0.len(),
            open: AtomicUsize::new(0),
        }
    }

    /// The passive ports, one pool per address.
    pub fn pools(&self) -> Vec<Arc<PassivePool>> {
        let mut pools: Vec<Arc<PassivePool>> = Vec::new();
        for listener in &self.0 {
            if !pools.iter().any(|pool| Arc::ptr_eq(pool, &listener.pool)) {
                pools.push(Arc::clone(&listener.pool));
            }
        }
        pools
    }

    /// Accepts until the drain begins.
    pub fn serve(self, frontend: &Arc<Frontend>) {
        for listener in self.0 {
            let door = Door::open(frontend);
            let accepting = accept(Arc::clone(frontend), listener);
            frontend.tasks.spawn(async move {
                accepting.await;
                drop(door);
            });
        }
    }
}

impl Doors {
    /// Why clients would stand before a closed door, if they would.
    pub fn not_ready(&self) -> Option<String> {
        let (open, bound) = (self.open.load(Ordering::SeqCst), self.bound);
        (open < bound).then(|| format!("{open} of {bound} control ports are served"))
    }
}

impl Door {
    fn open(frontend: &Arc<Frontend>) -> Self {
        frontend.doors.open.fetch_add(1, Ordering::SeqCst);
        Door(Arc::clone(frontend))
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.0.doors.open.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Binds a listening socket. IPv6 sockets take IPv6 only, so that `0.0.0.0` and `[::]` can stand side by side and no
/// client's IPv4 address appears in IPv6 clothes.
pub(super) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket.into())
}

async fn accept(frontend: Arc<Frontend>, listener: Listener) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.socket.accept() => accepted,
            () = frontend.drain.cancelled() => {
                admit_waiting(&frontend, &listener);
                return;
            }
        };
        match accepted {
            Ok((socket, peer)) => admit(&frontend, socket, peer, &listener),
            Err(error) => {
                // out of descriptors, most likely: neither the loop nor the log must spin
                if let Some(left_out) = NOT_ACCEPTED.pass() {
                    warn!(%error, left_out, "a connection could not be accepted");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Admits the clients whose connections the kernel has already taken: closing the listener would reset them.
fn admit_waiting(frontend: &Arc<Frontend>, listener: &Listener) {
    for _ in 0..BACKLOG {
        match listener.socket.accept().now_or_never() {
            Some(Ok((socket, peer))) => admit(frontend, socket, peer, listener),
            // a client that has gone meanwhile
            Some(Err(error)) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Some(Err(_)) | None => return,
        }
    }
}

/// Starts a session, or turns the client away with a reason.
fn admit(frontend: &Arc<Frontend>, socket: TcpStream, peer: SocketAddr, listener: &Listener) {
    tune_control(&socket);
    let address = peer.ip().to_canonical();
    let descriptor = u64::try_from(socket.as_raw_fd()).unwrap_or(u64::MAX);
    match frontend.connections.admit(address, descriptor) {
        Ok(permit) => {
            let id = frontend.connections.next_id();
            let (frontend, pool) = (Arc::clone(frontend), Arc::clone(&listener.pool));
            let implicit = listener.implicit;
            let tasks = frontend.tasks.clone();
            tasks.spawn(async move {
                edge::run(frontend, socket, peer, id, pool, implicit, permit).await;
            });
        }
        Err(refusal) => {
            frontend.metrics.connection_refused(refusal);
            // a flood of refused connections must not become a flood of log lines
            debug!(client = %peer, reason = refusal.word(), "connection refused");
            // the socket's buffer is empty, so this can't block; nobody is owed more than a try
            if !listener.implicit {
                let _ = socket.try_write(Reply::new(421, refusal.text()).to_string().as_bytes());
            }
        }
    }
}

/// What a drain came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Sessions that were open when it began.
    pub sessions: usize,
    /// Transfers that ended meanwhile.
    pub transfers: Ended<u64>,
    /// How long it took.
    pub took: Duration,
}

impl Frontend {
    /// Ends all sessions: each when it has rested for `drain.idle`, or else when `deadline` has nearly passed, between two
    /// commands; transfers when they are done or when it has passed.
    pub async fn drain(&self, deadline: Duration) -> Drained {
        let (begun, before) = (Instant::now(), self.metrics.ended());
        let open = self.connections.count();
        self.drain.cancel();
        self.tasks.close();
        if open > 0 {
            info!(sessions = open, "draining");
        }
        let last_call = deadline - (deadline / 10).min(LAST_CALL);
        let ending = async {
            if tokio::time::timeout(last_call, self.tasks.wait())
                .await
                .is_err()
            {
                // one that stores file after file is better refused its next file than cut in the middle of it
                self.last_call.cancel();
                self.tasks.wait().await;
            }
        };
        if tokio::time::timeout(deadline, ending).await.is_err() {
            warn!(
                sessions = self.connections.count(),
                "the drain deadline has passed, transfers are ended"
            );
            self.stop.cancel();
            if tokio::time::timeout(STOP_WITHIN, self.tasks.wait())
                .await
                .is_err()
            {
                warn!(
                    sessions = self.connections.count(),
                    "sessions did not end in time"
                );
            }
        }
        self.stop.cancel();
        let after = self.metrics.ended();
        Drained {
            sessions: open,
            transfers: Ended {
                complete: after.complete - before.complete,
                incomplete: after.incomplete - before.incomplete,
            },
            took: begun.elapsed(),
        }
    }
}

/// How long before the drain's deadline no session begins another command; a tenth of a deadline that is short.
const LAST_CALL: Duration = Duration::from_secs(30);

/// How long transfers may take to end after they were interrupted: time to complete or abort at the store.
const STOP_WITHIN: Duration = Duration::from_secs(60);
