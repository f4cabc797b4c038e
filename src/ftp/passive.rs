//! Passive ports: bound once, for good, and shared by all sessions.
//!
//! Behind a load balancer passive ports are scarce (CLB and NLB take 50 listeners), so a port is no session's own. A
//! session reserves the pair (port, client address); the connection that arrives on that port from that address is handed
//! to it, any other is reset. So each client address can have as many transfers waiting as there are ports, all addresses
//! together far more, and nobody can take another address's data connection.
//!
//! Invariant: a data connection never reaches another session than the one that was given its port. Several clients may share an
//! address (NAT, `externalTrafficPolicy: Cluster`), and a connection may be late: its session has ended, has sent ABOR, or was given up.
//! So a reservation that ends without its connection leaves its pair in *quarantine* for `passive.accept_timeout`, the time that a
//! connection may take to come: what arrives then is reset, and no other session gets the pair. The session itself may have it again,
//! since what arrives there is its own client's. The price is that a client that asks for ports and never comes keeps those of its own
//! address from others for a while; they wait, bounded, and then get a 425.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::cluster::handover::Handover;
use crate::ftp::net::{bind, reset_on_close, tune};
use crate::ftp::trusted_proxies::{Arrived, HeaderWait, TrustedProxies};

/// The passive ports on one local address.
#[derive(Debug)]
pub struct PassivePool {
    address: IpAddr,
    /// Those of this gateway; with handover those of others are bound, too.
    ports: Vec<u16>,
    pairs: Mutex<HashMap<Pair, State>>,
    /// The last connection to each port that nobody had asked for; for the diagnosis of a connection that never came.
    last_strays: Mutex<HashMap<u16, (Stray, Instant)>>,
    /// Where the search for a port begins. It rotates, so that a port comes back to the same client as late as possible.
    next: AtomicUsize,
    freed: Notify,
    /// The longest time that a connection may take to come: how long a reservation is worth keeping when others need the port, and how long a pair
    /// is in quarantine.
    accept_timeout: Duration,
    serial: AtomicU64,
    strays: AtomicU64,
    proxies: Arc<TrustedProxies>,
}

/// A connection that reached no session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stray {
    /// From this client, which had not asked for it.
    Client(IpAddr),
    /// From this trusted proxy, without a PROXY header.
    WithoutHeader(IpAddr),
}

/// A port and a client address.
type Pair = (u16, IpAddr);

/// The holder of a pair. A pair that is free has no state.
#[derive(Debug)]
enum State {
    /// A session waits for a connection.
    Reserved {
        serial: u64,
        owner: u64,
        since: Instant,
        connection: oneshot::Sender<TcpStream>,
        /// The session took its own pair out of quarantine: the connection of the reservation before may still come, beside its own.
        is_reused: bool,
    },
    /// The connection of an earlier reservation may still come.
    Quarantined {
        /// The session that had reserved it.
        owner: u64,
        until: Instant,
    },
}

/// The next connection to one port from one client address. Given back on drop.
#[derive(Debug)]
pub struct Reservation {
    pool: Arc<PassivePool>,
    pair: Pair,
    serial: u64,
    since: Instant,
    connection: oneshot::Receiver<TcpStream>,
}

/// No port could be reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoPort {
    /// None of the ports is usable for this client.
    Unusable,
    /// All of them are taken, or in quarantine, for its address.
    Busy,
}

/// A passive port can't be bound.
#[derive(Debug, thiserror::Error)]
#[error(
    "passive port {address} can't be bound; choose passive.ports that no other program uses, outside the kernel's \
     ephemeral range (net.ipv4.ip_local_port_range)"
)]
pub struct BindError {
    address: SocketAddr,
    #[source]
    source: io::Error,
}

impl PassivePool {
    /// Binds every port of the range on `address`, with `handover` those of the other gateways, too; or none. Stops listening when `stop`
    /// is cancelled.
    pub fn bind(
        address: IpAddr,
        ports: RangeInclusive<u16>,
        handover: Option<&Arc<Handover>>,
        accept_timeout: Duration,
        proxies: &Arc<TrustedProxies>,
        stop: &CancellationToken,
    ) -> Result<Arc<Self>, BindError> {
        let bound = handover.map_or_else(|| ports.clone(), |handover| handover.ports());
        let listeners: Result<Vec<(u16, TcpListener)>, BindError> = bound
            .map(|port| {
                let address = SocketAddr::new(address, port);
                let listener = bind(address).map_err(|source| BindError { address, source })?;
                Ok((port, listener))
            })
            .collect();
        let listeners = listeners?;
        let pool = Arc::new(PassivePool {
            address,
            ports: ports.collect(),
            pairs: Mutex::default(),
            last_strays: Mutex::default(),
            next: AtomicUsize::new(0),
            freed: Notify::new(),
            accept_timeout,
            serial: AtomicU64::new(0),
            strays: AtomicU64::new(0),
            proxies: Arc::clone(proxies),
        });
        for (port, listener) in listeners {
            let handover = handover.filter(|handover| handover.is_foreign(port));
            let serving = Arc::clone(&pool).serve(port, listener, handover.cloned(), stop.clone());
            tokio::spawn(serving);
        }
        Ok(pool)
    }

    /// A port that is `usable` and free for `client`, for the session `owner`. Waits up to `limit` for one to become free.
    pub async fn reserve(
        self: &Arc<Self>,
        client: IpAddr,
        owner: u64,
        limit: Duration,
        usable: impl Fn(u16) -> bool,
    ) -> Result<Reservation, NoPort> {
        let client = client.to_canonical();
        let deadline = Instant::now() + limit;
        loop {
            // enabled first, so that a port that is freed right after the look isn't missed
            let mut freed = std::pin::pin!(self.freed.notified());
            freed.as_mut().enable();
            let next_look = match self.try_reserve(client, owner, &usable) {
                Ok(reservation) => return Ok(reservation),
                Err(next_look) => next_look.ok_or(NoPort::Unusable)?,
            };
            if Instant::now() >= deadline {
                return Err(NoPort::Busy);
            }
            tokio::select! {
                () = freed => {}
                () = tokio::time::sleep_until(next_look.min(deadline)) => {}
            }
        }
    }

    /// A reservation, or when the first of the pairs that are taken may change by itself; none if no port is usable.
    fn try_reserve(
        self: &Arc<Self>,
        client: IpAddr,
        owner: u64,
        usable: impl Fn(u16) -> bool,
    ) -> Result<Reservation, Option<Instant>> {
        let now = Instant::now();
        let mut pairs = self.pairs();
        let start = self.next.fetch_add(1, Ordering::Relaxed);
        let candidates: Vec<Pair> = (0..self.ports.len())
            .map(|i| (self.ports[(start + i) % self.ports.len()], client))
            .filter(|(port, _)| usable(*port))
            .collect();
        for pair in &candidates {
            let is_over =
                matches!(pairs.get(pair), Some(State::Quarantined { until, .. }) if *until <= now);
            if is_over {
                pairs.remove(pair);
            }
        }
        let mut free = candidates.iter().filter(|pair| !pairs.contains_key(pair));
        let own = candidates.iter().find(|pair| {
            matches!(pairs.get(pair), Some(State::Quarantined { owner: of, .. }) if *of == owner)
        });
        // A session that asks again and again takes one pair after the other out of use, if it gets a new one each time. While most are
        // free that does no harm, and keeps its own late connections apart from those that it waits for.
        let is_scarce = free.clone().count() * 2 < candidates.len();
        let (pair, is_reused) = match (free.next(), own) {
            (Some(_), Some(own)) if is_scarce => (*own, true),
            (Some(free), _) => (*free, false),
            (None, Some(own)) => (*own, true),
            (None, None) => return Err(self.make_way(&mut pairs, &candidates, now)),
        };
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let (sender, connection) = oneshot::channel();
        pairs.insert(
            pair,
            State::Reserved {
                serial,
                owner,
                since: now,
                connection: sender,
                is_reused,
            },
        );
        Ok(Reservation {
            pool: Arc::clone(self),
            pair,
            serial,
            since: now,
            connection,
        })
    }

    /// A client that asked for a port and never came must not keep it from the others behind its address for ever: its reservation ends,
    /// and the pair is free after its quarantine. When to look again; none if there are no candidates.
    fn make_way(
        &self,
        pairs: &mut HashMap<Pair, State>,
        candidates: &[Pair],
        now: Instant,
    ) -> Option<Instant> {
        let mut next_look = None;
        for pair in candidates {
            let Some(state) = pairs.get_mut(pair) else {
                continue;
            };
            let change = match state {
                State::Quarantined { until, .. } => *until,
                State::Reserved { owner, since, .. } => {
                    let stale_at = *since + self.accept_timeout;
                    if stale_at <= now {
                        *state = State::Quarantined {
                            owner: *owner,
                            until: now + self.accept_timeout,
                        };
                        now + self.accept_timeout
                    } else {
                        stale_at
                    }
                }
            };
            next_look = Some(next_look.map_or(change, |other: Instant| other.min(change)));
        }
        next_look
    }

    fn pairs(&self) -> MutexGuard<'_, HashMap<Pair, State>> {
        self.pairs.lock()
    }

    /// The local address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Ports that sessions of this gateway may have.
    pub fn size(&self) -> usize {
        self.ports.len()
    }

    /// Reservations whose connection has not come yet.
    pub fn reserved(&self) -> usize {
        let pairs = self.pairs();
        let reserved = pairs
            .values()
            .filter(|state| matches!(state, State::Reserved { .. }));
        reserved.count()
    }

    /// Where the last connection to `port` that nobody had asked for came from, if it came after `since`.
    pub fn stray_since(&self, port: u16, since: Instant) -> Option<Stray> {
        let strays = self.last_strays.lock();
        let (stray, at) = strays.get(&port)?;
        (*at >= since).then_some(*stray)
    }

    fn note_stray(&self, port: u16, stray: Stray) {
        self.last_strays
            .lock()
            .insert(port, (stray, Instant::now()));
    }

    /// Connections that nobody had asked for.
    pub fn strays(&self) -> u64 {
        self.strays.load(Ordering::Relaxed)
    }

    /// Accepts on one port; what comes to a port of another gateway goes there by `handover`.
    async fn serve(
        self: Arc<Self>,
        port: u16,
        listener: TcpListener,
        handover: Option<Arc<Handover>>,
        stop: CancellationToken,
    ) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.cancelled() => return,
            };
            match accepted {
                Ok((socket, peer)) => self.receive(port, socket, peer, handover.as_ref(), &stop),
                Err(error) => {
                    // out of descriptors, most likely: the loop must not spin
                    warn!(port, %error, "a data connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Delivers a connection from `peer`; one that a trusted proxy relays has to wait for its PROXY header.
    fn receive(
        self: &Arc<Self>,
        port: u16,
        socket: TcpStream,
        peer: SocketAddr,
        handover: Option<&Arc<Handover>>,
        stop: &CancellationToken,
    ) {
        if !self.proxies.trusts(peer.ip()) {
            return self.deliver_or_relay(port, socket, peer, handover);
        }
        let Some(wait) = self.proxies.admit(peer.ip()) else {
            // a client that downloads must not take it for an empty file
            return reset_on_close(&socket);
        };
        let (pool, stop, handover) = (Arc::clone(self), stop.clone(), handover.cloned());
        tokio::spawn(async move {
            tokio::select! {
                () = pool.receive_relayed(port, socket, peer, wait, handover) => {}
                () = stop.cancelled() => {}
            }
        });
    }

    /// Delivers a connection for the client that its PROXY header names.
    async fn receive_relayed(
        &self,
        port: u16,
        mut socket: TcpStream,
        proxy: SocketAddr,
        wait: HeaderWait,
        handover: Option<Arc<Handover>>,
    ) {
        match wait.header(&mut socket, proxy, port).await {
            Arrived::Client(proxied) => {
                self.deliver_or_relay(port, socket, proxied.source, handover.as_ref());
            }
            Arrived::Probe => {}
            Arrived::WithoutHeader => {
                self.note_stray(port, Stray::WithoutHeader(proxy.ip().to_canonical()));
            }
        }
    }

    /// Delivers the connection of `client`; one to a port of another gateway is brought there.
    fn deliver_or_relay(
        &self,
        port: u16,
        socket: TcpStream,
        client: SocketAddr,
        handover: Option<&Arc<Handover>>,
    ) {
        match handover {
            Some(handover) => {
                let local = SocketAddr::new(self.address, port);
                handover.relay(socket, client, local);
            }
            None => self.deliver(port, socket, client.ip().to_canonical()),
        }
    }

    /// Hands a connection that `client`, in canonical form, made to `port` to the session that waits for it, or resets it.
    pub fn deliver(&self, port: u16, socket: TcpStream, client: IpAddr) {
        let pair = (port, client);
        let mut pairs = self.pairs();
        let reserved = match pairs.remove(&pair) {
            Some(State::Reserved {
                connection,
                owner,
                is_reused,
                ..
            }) => {
                if is_reused {
                    let until = Instant::now() + self.accept_timeout;
                    pairs.insert(pair, State::Quarantined { owner, until });
                }
                Some(connection)
            }
            // for as long as it was to be, since a client may try more than once
            Some(quarantined @ State::Quarantined { .. }) => {
                pairs.insert(pair, quarantined);
                None
            }
            None => None,
        };
        drop(pairs);
        match reserved {
            Some(connection) => {
                tune(&socket);
                // the session may have gone this very moment; the socket then closes here
                let _ = connection.send(socket);
                self.freed.notify_waiters();
            }
            None => {
                self.strays.fetch_add(1, Ordering::Relaxed);
                debug!(port, %client, "a data connection that nobody asked for was reset");
                self.note_stray(port, Stray::Client(client));
                reset_on_close(&socket);
            }
        }
    }
}

/// Pause after a failed accept.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

impl Reservation {
    /// The port of the pair.
    pub fn port(&self) -> u16 {
        self.pair.0
    }

    /// When the port was taken for the client, which gets it right away.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// The client's connection; `None` when the reservation was taken over because it had become stale.
    /// Cancel safe.
    pub async fn connection(&mut self) -> Option<TcpStream> {
        (&mut self.connection).await.ok()
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut pairs = self.pool.pairs();
        // it has its connection, or was ended before, or the connection may still come
        if let Some(state) = pairs.get_mut(&self.pair)
            && let State::Reserved { serial, owner, .. } = state
            && *serial == self.serial
        {
            *state = State::Quarantined {
                owner: *owner,
                until: Instant::now() + self.pool.accept_timeout,
            };
        }
        drop(pairs);
        self.pool.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    /// A pool of `count` ports that happened to be free just now.
    fn pool(count: u16, accept_timeout: Duration) -> (Arc<PassivePool>, CancellationToken) {
        static FROM: std::sync::atomic::AtomicU16 = std::sync::atomic::AtomicU16::new(18_000);
        let stop = CancellationToken::new();
        for _ in 0..100 {
            let from = FROM.fetch_add(count, Ordering::Relaxed);
            if let Ok(pool) = PassivePool::bind(
                LOCAL,
                from..=from + count - 1,
                None,
                accept_timeout,
                &Arc::default(),
                &stop,
            ) {
                return (pool, stop);
            }
        }
        panic!(
            "no free ports between 18000 and {}",
            FROM.load(Ordering::Relaxed)
        );
    }

    #[tokio::test]
    async fn a_connection_reaches_the_session_that_reserved_its_port() {
        let (pool, _stop) = pool(2, Duration::from_secs(10));
        let mut first = pool
            .reserve(LOCAL, 1, Duration::ZERO, |_| true)
            .await
            .expect("a port");
        let mut second = pool
            .reserve(LOCAL, 1, Duration::ZERO, |_| true)
            .await
            .expect("another port");
        assert_ne!(first.port(), second.port());
        let client = TcpStream::connect((LOCAL, second.port()))
            .await
            .expect("connects");
        let server = second.connection().await.expect("is handed over");
        assert_eq!(
            server.peer_addr().expect("connected"),
            client.local_addr().expect("connected")
        );
        assert!(
            tokio::time::timeout(Duration::from_millis(50), first.connection())
                .await
                .is_err()
        );
    }

    #[tokio::test]
    async fn a_stranger_is_reset_and_counted() {
        use tokio::io::AsyncReadExt;
        let (pool, _stop) = pool(1, Duration::from_secs(10));
        let other: IpAddr = "127.0.0.2".parse().expect("an address");
        let reservation = pool
            .reserve(other, 1, Duration::ZERO, |_| true)
            .await
            .expect("a port");
        let mut stranger = TcpStream::connect((LOCAL, reservation.port()))
            .await
            .expect("connects");
        assert!(stranger.read_u8().await.is_err());
        assert_eq!(pool.strays(), 1);
    }

    /// A connection to `port`: true if it is reset, false if it stays open for a moment.
    async fn is_reset(port: u16) -> bool {
        use tokio::io::AsyncReadExt;
        let mut client = TcpStream::connect((LOCAL, port)).await.expect("connects");
        let read = tokio::time::timeout(Duration::from_millis(100), client.read_u8());
        matches!(read.await, Ok(Err(_)))
    }

    #[tokio::test]
    async fn a_late_connection_is_reset_and_reaches_no_other_session() {
        let (pool, _stop) = pool(1, Duration::from_millis(400));
        let given_up = pool.reserve(LOCAL, 1, Duration::ZERO, |_| true).await;
        let port = given_up.as_ref().expect("a port").port();
        drop(given_up);
        // nobody else gets the pair, and what arrives meanwhile is reset, however often
        let other = pool.reserve(LOCAL, 2, Duration::ZERO, |_| true).await;
        assert_eq!(other.err(), Some(NoPort::Busy));
        assert!(is_reset(port).await && is_reset(port).await);
        assert_eq!(pool.strays(), 2);
        // another session waits for it
        let begun = Instant::now();
        let mut fresh = pool
            .reserve(LOCAL, 2, Duration::from_secs(10), |_| true)
            .await
            .expect("after the quarantine");
        assert!(begun.elapsed() < Duration::from_secs(5));
        let _client = TcpStream::connect((LOCAL, port)).await.expect("connects");
        assert!(fresh.connection().await.is_some());
    }

    #[tokio::test]
    async fn a_session_has_its_own_pair_again_at_once() {
        let (pool, _stop) = pool(1, Duration::from_secs(100));
        for _ in 0..3 {
            let again = pool.reserve(LOCAL, 1, Duration::ZERO, |_| true).await;
            assert!(again.is_ok());
        }
        let other = pool.reserve(LOCAL, 2, Duration::ZERO, |_| true).await;
        assert_eq!(other.err(), Some(NoPort::Busy));
        // another address has pairs of its own
        let elsewhere: IpAddr = "127.0.0.2".parse().expect("an address");
        let elsewhere = pool.reserve(elsewhere, 2, Duration::ZERO, |_| true).await;
        assert!(elsewhere.is_ok());
    }

    #[tokio::test]
    async fn of_two_connections_for_a_pair_that_a_session_had_twice_none_reaches_another_session() {
        let (pool, _stop) = pool(1, Duration::from_secs(100));
        drop(pool.reserve(LOCAL, 1, Duration::ZERO, |_| true).await);
        let mut again = pool
            .reserve(LOCAL, 1, Duration::ZERO, |_| true)
            .await
            .expect("its own pair");
        let port = again.port();
        let _first = TcpStream::connect((LOCAL, port)).await.expect("connects");
        assert!(again.connection().await.is_some());
        let other = pool.reserve(LOCAL, 2, Duration::ZERO, |_| true).await;
        assert_eq!(other.err(), Some(NoPort::Busy), "the second may still come");
        assert!(is_reset(port).await);
    }

    #[tokio::test]
    async fn a_session_that_asks_again_and_again_leaves_half_of_the_ports_to_others() {
        let (pool, _stop) = pool(8, Duration::from_secs(100));
        let mut held = None;
        for _ in 0..20 {
            // the new one takes the place of the old one, as after a second EPSV
            drop(held.take());
            held = pool.reserve(LOCAL, 1, Duration::ZERO, |_| true).await.ok();
            assert!(held.is_some());
        }
        for other in 2..5 {
            let reserved = pool.reserve(LOCAL, other, Duration::ZERO, |_| true).await;
            assert!(reserved.is_ok(), "session {other}");
            std::mem::forget(reserved);
        }
    }

    #[tokio::test]
    async fn a_port_is_free_for_others_once_its_connection_has_come() {
        let (pool, _stop) = pool(1, Duration::from_secs(100));
        let mut first = pool
            .reserve(LOCAL, 1, Duration::ZERO, |_| true)
            .await
            .expect("a port");
        let waiting = tokio::spawn({
            let pool = pool.clone();
            async move {
                pool.reserve(LOCAL, 2, Duration::from_secs(10), |_| true)
                    .await
            }
        });
        let _client = TcpStream::connect((LOCAL, first.port()))
            .await
            .expect("connects");
        assert!(first.connection().await.is_some());
        assert!(waiting.await.expect("no panic").is_ok());
        drop(first);
    }

    #[tokio::test]
    async fn a_client_that_never_comes_loses_its_port_to_one_that_needs_it_after_a_quarantine() {
        let timeout = Duration::from_millis(50);
        let (pool, _stop) = pool(1, timeout);
        let mut stale = pool
            .reserve(LOCAL, 1, Duration::ZERO, |_| true)
            .await
            .expect("a port");
        let begun = Instant::now();
        let fresh = pool
            .reserve(LOCAL, 2, Duration::from_secs(10), |_| true)
            .await;
        assert!(fresh.is_ok());
        assert!(begun.elapsed() >= 2 * timeout, "{:?}", begun.elapsed());
        assert!(stale.connection().await.is_none());
        // the stale one's end must not free the port of the fresh one
        drop(stale);
        assert_eq!(pool.reserved(), 1);
    }

    #[tokio::test]
    async fn where_a_stray_came_from_is_known_for_the_diagnosis() {
        let (pool, _stop) = pool(1, Duration::from_secs(10));
        let elsewhere: IpAddr = "127.0.0.2".parse().expect("an address");
        let reservation = pool
            .reserve(elsewhere, 1, Duration::ZERO, |_| true)
            .await
            .expect("a port");
        assert_eq!(
            pool.stray_since(reservation.port(), reservation.since()),
            None
        );
        assert!(is_reset(reservation.port()).await);
        let stray = pool.stray_since(reservation.port(), reservation.since());
        assert_eq!(stray, Some(Stray::Client(LOCAL)));
        assert_eq!(pool.stray_since(reservation.port(), Instant::now()), None);
    }

    #[tokio::test]
    async fn a_port_that_clients_cannot_reach_is_never_chosen() {
        let (pool, _stop) = pool(3, Duration::from_secs(10));
        let only = pool.ports[1];
        let reserve = |owner| pool.reserve(LOCAL, owner, Duration::ZERO, |port| port == only);
        let first = reserve(1).await.expect("a port");
        assert_eq!(first.port(), only);
        assert_eq!(
            reserve(2).await.err(),
            Some(NoPort::Busy),
            "the others are not usable"
        );
        let at_once = std::time::Instant::now();
        let none = pool.reserve(LOCAL, 1, Duration::from_secs(10), |_| false);
        assert_eq!(none.await.err(), Some(NoPort::Unusable));
        assert!(
            at_once.elapsed() < Duration::from_secs(5),
            "nothing to wait for"
        );
    }

    #[tokio::test]
    async fn a_taken_port_is_an_error_that_names_it() {
        let taken = TcpListener::bind((LOCAL, 0)).await.expect("a free port");
        let port = taken.local_addr().expect("bound").port();
        let stop = CancellationToken::new();
        let second = Duration::from_secs(1);
        let error = PassivePool::bind(LOCAL, port..=port, None, second, &Arc::default(), &stop)
            .expect_err("it is taken");
        assert!(
            error.to_string().contains(&format!("127.0.0.1:{port}")),
            "{error}"
        );
    }
}
