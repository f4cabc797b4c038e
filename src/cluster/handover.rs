//! Handover: any gateway takes any data connection, and brings it to the one that waits for it.
//!
//! ```text
//! client ──> balancer ──> gateway 1: port of gateway 0's slice ──relay──> gateway 0: handover port
//!                           (splice, no TLS, no store)    PROXY v2 header    └─> its passive pool, as its own arrival
//! ```
//!
//! Each gateway binds the passive ports of all, and a port belongs to the gateway in whose slice it is. A balancer may then spread
//! connections as it likes, and may take a gateway that ends out of its rotation: the data connections of that one's sessions come by
//! way of the others.
//!
//! The same port takes streams of lockout events ([`cluster::lockouts`](crate::cluster::lockouts)), introduced by the same header.
//!
//! Invariants:
//! - The owner takes only what was authenticated (`header`), for its own ports, and pairs it by the client's address like any other
//!   connection (see [`crate::passive`]).
//! - An end of data is passed on as one only if it was read as one. Both sockets of a relay are set to reset when they are closed, until
//!   both directions have ended: a relay that fails, or whose process dies, must not make half a file look whole (`relay`).
//! - Relayed connections are bounded in number, in all and from one client network, and in time.

pub mod counts;
mod header;
mod nonces;
mod peers;
mod relay;
#[cfg(target_os = "linux")]
mod splice;
mod streams;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use secrecy::ExposeSecret;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::cluster::handover::counts::HandoverCounts;
pub use crate::cluster::handover::header::Refused;
use crate::cluster::handover::header::{Header, Purpose};
use crate::cluster::handover::nonces::Nonces;
use crate::cluster::handover::peers::Directory;
pub use crate::cluster::handover::relay::Outcome;
pub use crate::cluster::handover::streams::{Stream, Unreachable};
use crate::config;
use crate::net::{ACCEPT_PAUSE, PunctualListener, bind, network, reset_on_close, tune};
use crate::passive::PassivePool;
use crate::permits::{Permit, Permits};
use crate::telemetry::LineLimit;

/// Connections to the handover port whose header has not arrived yet; one more is reset.
pub(crate) const MAX_UNVERIFIED: usize = 256;

/// The time for another gateway's header, which it sends at once.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// One line in a while says what was refused, not one for each stranger.
static REFUSED: LineLimit = LineLimit::per(Duration::from_secs(10));

/// One line in a while says that accepting fails, not one for each try.
static NOT_ACCEPTED: LineLimit = LineLimit::per(Duration::from_secs(10));

/// As above, for connections that could not be handed over.
static UNREACHABLE: LineLimit = LineLimit::per(Duration::from_secs(10));

/// This gateway's part in handover.
#[derive(Debug)]
pub struct Handover {
    settings: config::Handover,
    /// The time for a connection to the owner of a port.
    connect_timeout: Duration,
    peers: Directory,
    nonces: Nonces,
    max_connections: usize,
    /// While an owner doesn't answer, one client's connections must not take the place of all others.
    max_per_network: usize,
    relays: Arc<Permits<()>>,
    relays_by_network: Arc<Permits<IpAddr>>,
    unverified: Arc<Semaphore>,
    tasks: TaskTracker,
    stop: CancellationToken,
    counts: HandoverCounts,
}

/// The handover port can't be bound.
#[derive(Debug, thiserror::Error)]
#[error("handover.listen = {address} can't be bound; choose another port")]
pub struct BindError {
    address: SocketAddr,
    #[source]
    source: io::Error,
}

/// The bound handover port; nothing is accepted before [`Receiver::serve`].
#[derive(Debug)]
pub struct Receiver {
    handover: Arc<Handover>,
    listener: TcpListener,
}

impl Handover {
    /// True if `port` is one of another gateway's slice.
    pub fn is_foreign(&self, port: u16) -> bool {
        let owner = self.settings.owner(port);
        owner.is_some_and(|owner| owner != self.settings.ordinal)
    }

    /// The passive ports of all gateways.
    pub fn ports(&self) -> std::ops::RangeInclusive<u16> {
        self.settings.ports.clone()
    }

    /// Connections that are relayed at this moment.
    pub fn open(&self) -> usize {
        self.relays.held(&())
    }

    /// Connections that may be relayed at a time.
    pub fn limit(&self) -> usize {
        self.max_connections
    }

    /// The ordinals of the other replicas, be they running or not.
    pub fn others(&self) -> impl Iterator<Item = u16> + use<> {
        let own = self.settings.ordinal;
        (0..self.settings.replicas()).filter(move |ordinal| *ordinal != own)
    }

    /// Opens a stream of lockout events to a replica. `limit` bounds the time to connect, and that for the answer.
    pub async fn open_lockouts(
        &self,
        ordinal: u16,
        limit: Duration,
    ) -> Result<Stream, Unreachable> {
        let socket = timeout(limit, self.connect_lockouts(ordinal)).await;
        let socket = socket.unwrap_or(Err(Unreachable::Unknown))?;
        let opening = streams::open(socket, self.settings.ordinal, ordinal, &self.settings);
        match timeout(limit, opening).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(_)) | Err(_) => Err(Unreachable::Unanswered),
        }
    }

    async fn connect_lockouts(&self, ordinal: u16) -> Result<TcpStream, Unreachable> {
        let error = match self.peers.connect(ordinal).await {
            Ok(socket) => return Ok(socket),
            Err(error) => error,
        };
        let is_gone = match error.kind() {
            io::ErrorKind::ConnectionRefused => true,
            // or the resolver fails; then this replica's own name has no address either
            io::ErrorKind::NotFound => self.peers.has_address(self.settings.ordinal).await,
            _ => false,
        };
        Err(match is_gone {
            true => Unreachable::Gone,
            false => Unreachable::Unknown,
        })
    }

    /// Counts a stream that ends since a message on it is not authentic.
    pub fn refuse_message(&self, stream: &TcpStream) {
        if let Ok(from) = stream.peer_addr() {
            self.refuse(stream, from, Refused::Message);
        }
    }

    /// The counters.
    pub fn counts(&self) -> &HandoverCounts {
        &self.counts
    }

    /// Brings a connection of `client` that came to `local`, on a port of another gateway, to its owner. Doesn't wait.
    pub fn relay(self: &Arc<Self>, socket: TcpStream, client: SocketAddr, local: SocketAddr) {
        // until both directions have ended, whatever ends it is no end of data
        reset_on_close(&socket);
        let Some(permit) = self.permit(client.ip()) else {
            self.counts.relayed(Outcome::Limit);
            debug!(%client, port = local.port(), "no connection more is relayed: handover.max_connections");
            return;
        };
        let handover = Arc::clone(self);
        self.tasks.spawn(async move {
            let began = Instant::now();
            let outcome = tokio::select! {
                outcome = handover.run(&socket, client, local) => outcome,
                () = handover.stop.cancelled() => Outcome::Stopped,
            };
            if outcome == Outcome::Complete {
                close_in_order(&socket);
            }
            drop(permit);
            handover.counts.relayed(outcome);
            debug!(
                event = "handover_relayed", %client, port = local.port(), outcome = outcome.word(),
                seconds = began.elapsed().as_secs_f64(), "a data connection of another gateway has ended"
            );
        });
    }

    fn permit(&self, client: IpAddr) -> Option<(Permit<()>, Permit<IpAddr>)> {
        let of_all = self.relays.try_acquire((), self.max_connections)?;
        let of_network = self
            .relays_by_network
            .try_acquire(network(client), self.max_per_network)?;
        Some((of_all, of_network))
    }

    async fn run(&self, socket: &TcpStream, client: SocketAddr, local: SocketAddr) -> Outcome {
        tune(socket);
        let Some(ordinal) = self.settings.owner(local.port()) else {
            return Outcome::Unreachable;
        };
        let connecting = self.connect(ordinal, Purpose::Connection { client, local });
        let owner = match timeout(self.connect_timeout, connecting).await {
            Ok(Ok(owner)) => owner,
            Ok(Err(error)) => return self.unreachable(ordinal, client, local, &error),
            Err(_) => {
                return self.unreachable(ordinal, client, local, &io::ErrorKind::TimedOut.into());
            }
        };
        let outcome = relay::run(
            socket,
            &owner,
            self.settings.idle_timeout,
            self.counts.bytes(),
        )
        .await;
        if outcome == Outcome::Complete {
            close_in_order(&owner);
        }
        outcome
    }

    fn unreachable(
        &self,
        ordinal: u16,
        client: SocketAddr,
        local: SocketAddr,
        error: &io::Error,
    ) -> Outcome {
        if let Some(left_out) = UNREACHABLE.pass() {
            warn!(
                event = "handover_unreachable", replica = ordinal, %client, port = local.port(), %error, left_out,
                "a data connection could not be handed over, its gateway doesn't answer: it has ended, or handover.peers leads elsewhere"
            );
        }
        Outcome::Unreachable
    }

    /// A connection to a gateway's handover port, with its header.
    async fn connect(&self, ordinal: u16, purpose: Purpose) -> io::Result<TcpStream> {
        let mut owner = self.peers.connect(ordinal).await?;
        // from the header on it is a data connection, and an end of it would be an empty file
        reset_on_close(&owner);
        tune(&owner);
        let header = Header::new(purpose)?.sign(self.settings.key.expose_secret().as_bytes())?;
        owner.write_all(&header).await?;
        Ok(owner)
    }
}

impl Receiver {
    /// Binds the handover port; `None` where handover is off. At most `max_connections` relays run at a time, in `tasks`, so that a gateway
    /// that drains waits for them, until `stop`.
    pub fn bind(
        config: &config::Config,
        max_connections: usize,
        tasks: &TaskTracker,
        stop: &CancellationToken,
        counts: &HandoverCounts,
    ) -> Result<Option<Receiver>, BindError> {
        let Some(settings) = config.handover.clone() else {
            return Ok(None);
        };
        let address = settings.listen;
        let listener = bind(address).map_err(|source| BindError { address, source })?;
        let handover = Handover {
            connect_timeout: config.passive.accept_timeout,
            peers: Directory::new(settings.peers.clone(), settings.replicas()),
            nonces: Nonces::default(),
            max_connections,
            max_per_network: config.sessions.max_per_ip,
            relays: Arc::default(),
            relays_by_network: Arc::default(),
            unverified: Arc::new(Semaphore::new(MAX_UNVERIFIED)),
            settings,
            tasks: tasks.clone(),
            stop: stop.clone(),
            counts: counts.clone(),
        };
        Ok(Some(Receiver {
            handover: Arc::new(handover),
            listener,
        }))
    }

    /// This gateway's part in handover, for its passive ports.
    pub fn handover(&self) -> Arc<Handover> {
        Arc::clone(&self.handover)
    }

    /// The address to which other gateways connect.
    pub fn address(&self) -> Option<SocketAddr> {
        self.listener.local_addr().ok()
    }

    /// Takes connections that other gateways hand over, for reservations in `pools`, until the gateway stops. Streams of lockout events go
    /// to `lockouts`; without it they are closed in order.
    pub async fn serve(self, pools: Vec<Arc<PassivePool>>, lockouts: Option<mpsc::Sender<Stream>>) {
        let Receiver { handover, listener } = self;
        let mut listener = PunctualListener::new(listener);
        let pools: Arc<[Arc<PassivePool>]> = pools.into();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = handover.stop.cancelled() => return,
            };
            let (socket, from) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // out of descriptors, most likely: neither the loop nor the log must spin
                    if let Some(left_out) = NOT_ACCEPTED.pass() {
                        warn!(%error, left_out, "a connection of another gateway could not be accepted");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(permit) = Arc::clone(&handover.unverified).try_acquire_owned() else {
                handover.refuse(&socket, from, Refused::Busy);
                continue;
            };
            let (handover, pools) = (Arc::clone(&handover), Arc::clone(&pools));
            let lockouts = lockouts.clone();
            tokio::spawn(async move {
                tokio::select! {
                    () = handover.receive(socket, from, &pools, lockouts) => {}
                    () = handover.stop.cancelled() => {}
                }
                drop(permit);
            });
        }
    }
}

/// Where a connection to the handover port belongs.
enum Destination<'a> {
    /// The pool, and the client and port of its reservation.
    Reservation(&'a Arc<PassivePool>, IpAddr, u16),
    /// The stream of a replica.
    Lockouts(u16),
    /// Nowhere: it is a check.
    Check,
}

impl Handover {
    async fn receive(
        &self,
        mut socket: TcpStream,
        from: SocketAddr,
        pools: &[Arc<PassivePool>],
        lockouts: Option<mpsc::Sender<Stream>>,
    ) {
        let header = match timeout(HEADER_TIMEOUT, header::read(&mut socket)).await {
            Ok(Ok(header)) => header,
            Ok(Err(_)) | Err(_) => return self.refuse(&socket, from, Refused::Header),
        };
        match self.verify(&header, pools) {
            Ok(Destination::Reservation(pool, client, port)) => {
                self.counts.received();
                debug!(event = "handover_received", %client, port, relayed_by = %from.ip(), "a data connection was handed over");
                pool.deliver(port, socket, client);
            }
            Ok(Destination::Lockouts(ordinal)) => {
                if let Some(lockouts) = lockouts {
                    let answering = streams::answer(socket, ordinal, &header, &self.settings);
                    match timeout(HEADER_TIMEOUT, answering).await {
                        // an error means that they aren't shared any more: the gateway stops
                        Ok(Ok(stream)) => drop(lockouts.send(stream).await),
                        Ok(Err(_)) | Err(_) => {
                            debug!(
                                replica = ordinal,
                                "a stream of lockout events could not be answered"
                            );
                        }
                    }
                }
            }
            // an orderly end is the answer to a check
            Ok(Destination::Check) => {}
            Err(refused) => self.refuse(&socket, from, refused),
        }
    }

    /// The destination of a connection with this header.
    fn verify<'a>(
        &self,
        header: &[u8],
        pools: &'a [Arc<PassivePool>],
    ) -> Result<Destination<'a>, Refused> {
        let key = self.settings.key.expose_secret().as_bytes();
        let header = Header::verify(header, key, SystemTime::now())?;
        self.nonces.remember(header.nonce, Instant::now())?;
        let (client, local) = match header.purpose {
            Purpose::Connection { client, local } => (client, local),
            Purpose::Check => return Ok(Destination::Check),
            Purpose::Lockouts { from, to }
                if to == self.settings.ordinal && self.others().any(|other| other == from) =>
            {
                return Ok(Destination::Lockouts(from));
            }
            Purpose::Lockouts { .. } => return Err(Refused::Port),
        };
        let (client, port) = (client.ip().to_canonical(), local.port());
        if self.settings.owner(port) != Some(self.settings.ordinal) {
            return Err(Refused::Port);
        }
        let pool = pools
            .iter()
            .find(|pool| pool.address().is_ipv4() == client.is_ipv4());
        pool.map(|pool| Destination::Reservation(pool, client, port))
            .ok_or(Refused::Port)
    }

    fn refuse(&self, socket: &TcpStream, from: SocketAddr, refused: Refused) {
        self.counts.refused(refused);
        if let Some(left_out) = REFUSED.pass() {
            warn!(
                event = "handover_refused", from = %from.ip(), reason = refused.word(), left_out,
                "a connection to the handover port was refused: {refused}"
            );
        }
        reset_on_close(socket);
    }
}

/// Checks that a gateway takes what is handed over with this configuration. Returns the time it took, or the fault in words.
pub async fn examine(settings: &config::Handover, ordinal: u16) -> Result<Duration, String> {
    let began = Instant::now();
    let peers = Directory::new(settings.peers.clone(), settings.replicas());
    let checking = async {
        let mut peer = peers
            .connect(ordinal)
            .await
            .map_err(|error| format!("it can't be reached: {error}"))?;
        let header = Header::new(Purpose::Check)
            .and_then(|header| header.sign(settings.key.expose_secret().as_bytes()))
            .map_err(|error| error.to_string())?;
        let answer = async {
            peer.write_all(&header).await?;
            peer.read(&mut [0]).await
        };
        match answer.await {
            Ok(0) => Ok(began.elapsed()),
            Ok(_) => Err("something else than a gateway answers there".to_owned()),
            Err(_) => Err(
                "it refuses: its handover.key is another one, or the clocks differ by more than 30 s"
                    .to_owned(),
            ),
        }
    };
    timeout(HEADER_TIMEOUT, checking)
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {} s", HEADER_TIMEOUT.as_secs())))
}

/// Lets the kernel deliver what it still holds, and then close: both directions have ended.
fn close_in_order(socket: &TcpStream) {
    let _ = socket2::SockRef::from(socket).set_linger(None);
}
