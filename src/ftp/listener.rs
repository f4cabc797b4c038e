//! The control ports: accept loops and limits.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::cluster::handover::Handover;
use crate::config;
use crate::ftp::frontend::{ControlPorts, Frontend};
use crate::ftp::passive_ports::{self, BindError};
use crate::ftp::reply::Reply;
use crate::ftp::session::{self, state::Client};
use crate::net::{ACCEPT_PAUSE, BACKLOG, bind, tune_control};
use crate::passive::PassivePool;
use crate::proxy_protocol::{Arrived, HeaderWait, TrustedProxies};
use crate::telemetry::LineLimit;

/// One line in a while says that accepting fails, not one for each try.
static NOT_ACCEPTED: LineLimit = LineLimit::per(Duration::from_secs(10));

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

/// The bound control ports; nothing is accepted before [`Listeners::serve`].
pub struct Listeners {
    listeners: Vec<Listener>,
    proxies: Arc<TrustedProxies>,
}

struct Listener {
    socket: TcpListener,
    port: ControlPort,
}

/// The properties that the connections to one control port share.
#[derive(Debug, Clone)]
struct ControlPort {
    number: u16,
    pool: Arc<PassivePool>,
    /// TLS begins with the first byte.
    implicit: bool,
}

impl Listeners {
    /// Binds every control port, and the passive ports on each of their addresses, or nothing.
    /// With `handover` those of other gateways are among the passive ports.
    pub fn bind(
        config: &config::Config,
        handover: Option<&Arc<Handover>>,
        stop: &CancellationToken,
    ) -> Result<Self, ListenError> {
        let proxies = TrustedProxies::new(config.proxy_protocol.trusted.clone());
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
                    let (ip, trusted) = (address.ip(), &proxies);
                    let pool = passive_ports::bind(ip, ports, handover, timeout, trusted, stop)?;
                    pools.insert(ip, Arc::clone(&pool));
                    pool
                }
            };
            let number = socket
                .local_addr()
                .map_or(address.port(), |bound| bound.port());
            listeners.push(Listener {
                socket,
                port: ControlPort {
                    number,
                    pool,
                    implicit,
                },
            });
        }
        Ok(Listeners { listeners, proxies })
    }

    /// The proxies whose headers are believed.
    pub fn proxies(&self) -> Arc<TrustedProxies> {
        Arc::clone(&self.proxies)
    }

    /// The control addresses, with the real port where 0 was asked for.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners
            .iter()
            .filter_map(|listener| listener.socket.local_addr().ok())
            .collect()
    }

    /// The control ports, none of which is served yet.
    pub fn control_ports(&self) -> ControlPorts {
        ControlPorts::new(self.listeners.len())
    }

    /// The passive ports, one pool per address.
    pub fn pools(&self) -> Vec<Arc<PassivePool>> {
        let mut pools: Vec<Arc<PassivePool>> = Vec::new();
        for Listener { port, .. } in &self.listeners {
            if !pools.iter().any(|pool| Arc::ptr_eq(pool, &port.pool)) {
                pools.push(Arc::clone(&port.pool));
            }
        }
        pools
    }

    /// Accepts until the drain begins.
    pub fn serve(self, frontend: &Arc<Frontend>) {
        for listener in self.listeners {
            let served = frontend.control_ports.serve();
            let accepting = accept(Arc::clone(frontend), listener);
            frontend.tasks.spawn(async move {
                accepting.await;
                drop(served);
            });
        }
    }
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
            Ok((socket, peer)) => receive(&frontend, socket, peer, &listener.port),
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
            Some(Ok((socket, peer))) => receive(frontend, socket, peer, &listener.port),
            // a client that has gone meanwhile
            Some(Err(error)) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Some(Err(_)) | None => return,
        }
    }
}

/// Admits a client that connects by itself; one that a trusted proxy relays has to wait for its PROXY header.
fn receive(frontend: &Arc<Frontend>, socket: TcpStream, peer: SocketAddr, port: &ControlPort) {
    tune_control(&socket);
    if !frontend.proxies.trusts(peer.ip()) {
        let client = Client {
            address: peer,
            destination: None,
        };
        return admit(frontend, socket, client, port);
    }
    if let Some(wait) = frontend.proxies.admit(peer.ip()) {
        let (task, port) = (Arc::clone(frontend), port.clone());
        frontend.tasks.spawn(async move {
            tokio::select! {
                () = receive_relayed(&task, socket, peer, &port, wait) => {}
                () = task.stop.cancelled() => {}
            }
        });
    }
}

/// Admits the client that the PROXY header names.
async fn receive_relayed(
    frontend: &Arc<Frontend>,
    mut socket: TcpStream,
    proxy: SocketAddr,
    port: &ControlPort,
    wait: HeaderWait,
) {
    match wait.header(&mut socket, proxy, port.number).await {
        Arrived::Client(proxied) => {
            let client = Client {
                address: proxied.source,
                destination: Some(proxied.destination),
            };
            admit(frontend, socket, client, port);
        }
        Arrived::Probe | Arrived::WithoutHeader => {}
    }
}

/// Starts a session, or turns the client away with a reason.
fn admit(frontend: &Arc<Frontend>, socket: TcpStream, client: Client, port: &ControlPort) {
    let address = client.address.ip().to_canonical();
    let descriptor = u64::try_from(socket.as_raw_fd()).unwrap_or(u64::MAX);
    let admitted = frontend.access.check(address);
    match admitted.and_then(|()| frontend.connections.admit(address, descriptor)) {
        Ok(permit) => {
            let id = frontend.connections.next_id();
            let (frontend, pool) = (Arc::clone(frontend), Arc::clone(&port.pool));
            let implicit = port.implicit;
            let tasks = frontend.tasks.clone();
            tasks.spawn(async move {
                session::run(frontend, socket, client, id, pool, implicit, permit).await;
            });
        }
        Err(refusal) => {
            frontend.metrics.connection_refused(refusal);
            // a flood of refused connections must not become a flood of log lines
            debug!(client = %client.address, reason = refusal.word(), "connection refused");
            // the socket's buffer is empty, so this can't block; nobody is owed more than a try
            if !port.implicit {
                let _ = socket.try_write(Reply::new(421, refusal.text()).to_string().as_bytes());
            }
        }
    }
}
