//! Passive ports: bound once, for good, and shared by all sessions.
//!
//! Behind a load balancer passive ports are scarce (CLB and NLB take 50 listeners), so a port is no session's own. A
//! session reserves the pair (port, client address); the connection that arrives on that port from that address is handed
//! to it, any other is reset. So each client address can have as many transfers waiting as there are ports, all addresses
//! together far more, and nobody can take another address's data connection.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::ftp::listener::bind;
use crate::ftp::net::{reset_on_close, tune};

/// The passive ports on one local address.
#[derive(Debug)]
pub struct PassivePool {
    ports: Vec<u16>,
    waiting: Mutex<HashMap<Key, Waiting>>,
    /// Where the search for a port begins. It rotates, so that a port comes back to the same client as late as possible.
    next: AtomicUsize,
    freed: Notify,
    /// How long a reservation is worth keeping when others need the port.
    accept_timeout: Duration,
    serial: AtomicU64,
    strays: AtomicU64,
}

type Key = (u16, IpAddr);

#[derive(Debug)]
struct Waiting {
    serial: u64,
    since: Instant,
    connection: oneshot::Sender<TcpStream>,
}

/// The next connection to one port from one client address. Given back on drop.
#[derive(Debug)]
pub struct Reservation {
    pool: Arc<PassivePool>,
    key: Key,
    serial: u64,
    since: Instant,
    connection: oneshot::Receiver<TcpStream>,
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
    /// Binds every port of the range on `address`, or none. Stops listening when `stop` is cancelled.
    pub fn bind(
        address: IpAddr,
        ports: RangeInclusive<u16>,
        accept_timeout: Duration,
        stop: &CancellationToken,
    ) -> Result<Arc<Self>, BindError> {
        let listeners: Result<Vec<(u16, TcpListener)>, BindError> = ports
            .map(|port| {
                let address = SocketAddr::new(address, port);
                let listener = bind(address).map_err(|source| BindError { address, source })?;
                Ok((port, listener))
            })
            .collect();
        let listeners = listeners?;
        let pool = Arc::new(PassivePool {
            ports: listeners.iter().map(|(port, _)| *port).collect(),
            waiting: Mutex::default(),
            next: AtomicUsize::new(0),
            freed: Notify::new(),
            accept_timeout,
            serial: AtomicU64::new(0),
            strays: AtomicU64::new(0),
        });
        for (port, listener) in listeners {
            tokio::spawn(Arc::clone(&pool).serve(port, listener, stop.clone()));
        }
        Ok(pool)
    }

    /// A port that is `usable` and on which `client` has no reservation yet. Waits up to `within` for one to become free.
    pub async fn reserve(
        self: &Arc<Self>,
        client: IpAddr,
        within: Duration,
        usable: impl Fn(u16) -> bool,
    ) -> Option<Reservation> {
        let client = client.to_canonical();
        let deadline = Instant::now() + within;
        loop {
            // enabled first, so that a port that is freed right after the look isn't missed
            let mut freed = std::pin::pin!(self.freed.notified());
            freed.as_mut().enable();
            let stale_at = match self.try_reserve(client, &usable) {
                Ok(reservation) => return Some(reservation),
                Err(stale_at) => stale_at?,
            };
            if Instant::now() >= deadline {
                return None;
            }
            tokio::select! {
                () = freed => {}
                () = tokio::time::sleep_until(stale_at.min(deadline)) => {}
            }
        }
    }

    /// A reservation, or when the first of those that are in the way will be stale; none if no port is usable.
    fn try_reserve(
        self: &Arc<Self>,
        client: IpAddr,
        usable: impl Fn(u16) -> bool,
    ) -> Result<Reservation, Option<Instant>> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let start = self.next.fetch_add(1, Ordering::Relaxed);
        let candidates = || {
            (0..self.ports.len())
                .map(|i| (self.ports[(start + i) % self.ports.len()], client))
                .filter(|(port, _)| usable(*port))
        };
        let key = match candidates().find(|key| !waiting.contains_key(key)) {
            Some(free) => free,
            // A client that asked for a port and never came must not keep it from the others behind the same address.
            None => {
                let oldest = candidates().filter_map(|key| Some((waiting.get(&key)?.since, key)));
                let (since, key) = oldest.min().ok_or(None)?;
                let stale_at = since + self.accept_timeout;
                if stale_at > Instant::now() {
                    return Err(Some(stale_at));
                }
                key
            }
        };
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let (sender, connection) = oneshot::channel();
        let since = Instant::now();
        waiting.insert(
            key,
            Waiting {
                serial,
                since,
                connection: sender,
            },
        );
        Ok(Reservation {
            pool: Arc::clone(self),
            key,
            serial,
            since,
            connection,
        })
    }

    /// Ports that are bound.
    pub fn size(&self) -> usize {
        self.ports.len()
    }

    /// Reservations whose connection has not come yet.
    pub fn reserved(&self) -> usize {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.len()
    }

    /// Connections that nobody had asked for.
    pub fn strays(&self) -> u64 {
        self.strays.load(Ordering::Relaxed)
    }

    async fn serve(self: Arc<Self>, port: u16, listener: TcpListener, stop: CancellationToken) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.cancelled() => return,
            };
            match accepted {
                Ok((socket, peer)) => self.deliver(port, socket, peer.ip().to_canonical()),
                Err(error) => {
                    // out of descriptors, most likely: the loop must not spin
                    warn!(port, %error, "a data connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn deliver(&self, port: u16, socket: TcpStream, client: IpAddr) {
        let reserved = self
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&(port, client));
        match reserved {
            Some(waiting) => {
                tune(&socket);
                // the session may have gone this very moment; the socket then closes here
                let _ = waiting.connection.send(socket);
                self.freed.notify_waiters();
            }
            None => {
                self.strays.fetch_add(1, Ordering::Relaxed);
                debug!(port, %client, "a data connection that nobody asked for was reset");
                reset_on_close(&socket);
            }
        }
    }
}

/// Pause after a failed accept.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

impl Reservation {
    /// The port that the client is told.
    pub fn port(&self) -> u16 {
        self.key.0
    }

    /// When the port was taken for the client, which is told of it right away.
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
        let mut waiting = self
            .pool
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if waiting
            .get(&self.key)
            .is_some_and(|waiting| waiting.serial == self.serial)
        {
            waiting.remove(&self.key);
        }
        drop(waiting);
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
            if let Ok(pool) =
                PassivePool::bind(LOCAL, from..=from + count - 1, accept_timeout, &stop)
            {
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
            .reserve(LOCAL, Duration::ZERO, |_| true)
            .await
            .expect("a port");
        let mut second = pool
            .reserve(LOCAL, Duration::ZERO, |_| true)
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
            .reserve(other, Duration::ZERO, |_| true)
            .await
            .expect("a port");
        let mut stranger = TcpStream::connect((LOCAL, reservation.port()))
            .await
            .expect("connects");
        assert!(stranger.read_u8().await.is_err());
        assert_eq!(pool.strays(), 1);
    }

    #[tokio::test]
    async fn the_last_port_is_waited_for_and_comes_back_on_drop() {
        let (pool, _stop) = pool(1, Duration::from_secs(10));
        let held = pool
            .reserve(LOCAL, Duration::ZERO, |_| true)
            .await
            .expect("a port");
        assert!(
            pool.reserve(LOCAL, Duration::from_millis(20), |_| true)
                .await
                .is_none()
        );
        let waiting = tokio::spawn({
            let pool = pool.clone();
            async move {
                pool.reserve(LOCAL, Duration::from_secs(10), |_| true)
                    .await
                    .is_some()
            }
        });
        drop(held);
        assert!(waiting.await.expect("no panic"));
    }

    #[tokio::test]
    async fn a_client_that_never_comes_loses_its_port_to_one_that_needs_it() {
        let (pool, _stop) = pool(1, Duration::from_millis(50));
        let mut stale = pool
            .reserve(LOCAL, Duration::ZERO, |_| true)
            .await
            .expect("a port");
        // asked for before it is stale, it is waited for
        let fresh = pool.reserve(LOCAL, Duration::from_secs(10), |_| true).await;
        assert!(fresh.is_some());
        assert!(stale.connection().await.is_none());
        // the stale one's end must not free the port of the fresh one
        drop(stale);
        assert!(pool.waiting.lock().expect("not poisoned").len() == 1);
    }

    #[tokio::test]
    async fn a_port_that_clients_cannot_reach_is_never_chosen() {
        let (pool, _stop) = pool(3, Duration::from_secs(10));
        let only = pool.ports[1];
        let reserve = || pool.reserve(LOCAL, Duration::ZERO, |port| port == only);
        let first = reserve().await.expect("a port");
        assert_eq!(first.port(), only);
        assert!(reserve().await.is_none(), "the others are not usable");
        let at_once = std::time::Instant::now();
        let none = pool.reserve(LOCAL, Duration::from_secs(10), |_| false);
        assert!(none.await.is_none());
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
        let error = PassivePool::bind(LOCAL, port..=port, Duration::from_secs(1), &stop)
            .expect_err("it is taken");
        assert!(
            error.to_string().contains(&format!("127.0.0.1:{port}")),
            "{error}"
        );
    }
}
