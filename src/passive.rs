//! Passive ports and the sessions that wait for a connection to them. [`passive_ports`](crate::ftp::passive_ports) binds and serves them.
//!
//! Behind a load balancer passive ports are scarce (CLB and NLB take 50 listeners), so a port is no session's own. A
//! session reserves the pair (port, client address); the connection that arrives on that port from that address is handed
//! to it, any other is reset. So each client address can have as many transfers waiting as there are ports, all addresses
//! together far more, and nobody can take another address's data connection.
//!
//! Invariant: a data connection never reaches another session than the one that was given its port. Several clients may share an
//! address (NAT, `externalTrafficPolicy: Cluster`), and a connection may be late: its session has ended, has sent ABOR, or was given up.
//! So a reservation that ends without its connection leaves its pair in *quarantine* for `passive.accept_timeout`, the time that a
//! connection may take to come: what arrives then is reset, and no other session gets the pair. The price is that a client that asks for
//! ports and never comes keeps those of its own address from others for a while; they wait, bounded, and then get a 425.
//!
//! The session itself may have its pair again where ports are scarce, since what arrives there is its own client's, and of several the one
//! that would be free first. One that its client has closed already is that of the reservation before, and an upload would take it for an
//! empty file: it is reset. What remains: a balancer that lets a data connection come only after `passive.accept_timeout`, when the client
//! has had its 425, gives the session's next transfer the one before.
//!
//! While a port takes no connections, for lack of descriptors, they wait in its backlog for longer than any quarantine: they are reset
//! then (`PunctualListener` in `net.rs`).

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use tracing::debug;

use crate::net::{is_peer_gone, reset_on_close, tune};

/// The passive ports on one local address.
#[derive(Debug)]
pub struct PassivePool {
    address: IpAddr,
    /// Those of this gateway; with handover those of others are bound, too.
    ports: Vec<u16>,
    taken: Mutex<Taken>,
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
}

/// A connection that reached no session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stray {
    /// From this client, which had not asked for it.
    Client(IpAddr),
    /// From this trusted proxy, without a PROXY header.
    WithoutHeader(IpAddr),
}

/// A client address and a port: in this order, so that those of one address lie beside each other.
type Pair = (IpAddr, u16);

/// The pairs that are not free, and those whose quarantine is over and nobody has looked since.
#[derive(Debug, Default)]
struct Taken {
    pairs: BTreeMap<Pair, State>,
    /// With this many all are looked at.
    crowded: usize,
}

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

impl PassivePool {
    /// The pool of `ports`, which listen on `address`; none is reserved yet.
    pub fn new(address: IpAddr, ports: RangeInclusive<u16>, accept_timeout: Duration) -> Self {
        PassivePool {
            address,
            ports: ports.collect(),
            taken: Mutex::default(),
            last_strays: Mutex::default(),
            next: AtomicUsize::new(0),
            freed: Notify::new(),
            accept_timeout,
            serial: AtomicU64::new(0),
            strays: AtomicU64::new(0),
        }
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
        let mut taken = self.taken.lock();
        taken.forget_those_over(client, now);
        let start = self.next.fetch_add(1, Ordering::Relaxed);
        let free = (0..self.ports.len())
            .map(|i| (client, self.ports[(start + i) % self.ports.len()]))
            .find(|pair| usable(pair.1) && !taken.pairs.contains_key(pair));
        let own = taken.longest_in_quarantine(client, owner, &usable);
        let (pair, is_reused) = match (free, own) {
            (Some(_), Some(own)) if self.is_scarce(&taken, client, &usable) => (own, true),
            (Some(free), _) => (free, false),
            (None, Some(own)) => (own, true),
            (None, None) => return Err(self.make_way(&mut taken, client, usable, now)),
        };
        taken.make_room(now);
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let (sender, connection) = oneshot::channel();
        taken.pairs.insert(
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

    /// Whether more than half of the ports that `client` can use are taken for it.
    ///
    /// A session that asks again and again takes one pair after the other out of use, if it gets a new one each time. While most are
    /// free that does no harm, and keeps its own late connections apart from those that it waits for.
    fn is_scarce(&self, taken: &Taken, client: IpAddr, usable: impl Fn(u16) -> bool) -> bool {
        let all = self.ports.iter().filter(|port| usable(**port)).count();
        let those = taken.pairs.range(of(client));
        those.filter(|((_, port), _)| usable(*port)).count() * 2 > all
    }

    /// A client that asked for a port and never came must not keep it from the others behind its address for ever: its reservation ends,
    /// and the pair is free after its quarantine. When to look again; none if no port is usable.
    fn make_way(
        &self,
        taken: &mut Taken,
        client: IpAddr,
        usable: impl Fn(u16) -> bool,
        now: Instant,
    ) -> Option<Instant> {
        let those = taken.pairs.range_mut(of(client));
        let changes = those
            .filter(|((_, port), _)| usable(*port))
            .map(|(_, state)| match state {
                State::Quarantined { until, .. } => *until,
                State::Reserved { owner, since, .. } => {
                    let stale_at = *since + self.accept_timeout;
                    if stale_at > now {
                        return stale_at;
                    }
                    let (owner, until) = (*owner, now + self.accept_timeout);
                    *state = State::Quarantined { owner, until };
                    until
                }
            });
        changes.min()
    }

    /// The local address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The ports that sessions of this gateway may have.
    pub fn ports(&self) -> &[u16] {
        &self.ports
    }

    /// Their number.
    pub fn size(&self) -> usize {
        self.ports.len()
    }

    /// Reservations whose connection has not come yet.
    pub fn reserved(&self) -> usize {
        let taken = self.taken.lock();
        let states = taken.pairs.values();
        states
            .filter(|state| matches!(state, State::Reserved { .. }))
            .count()
    }

    /// Where the last connection to `port` that nobody had asked for came from, if it came after `since`.
    pub fn stray_since(&self, port: u16, since: Instant) -> Option<Stray> {
        let strays = self.last_strays.lock();
        let (stray, at) = strays.get(&port)?;
        (*at >= since).then_some(*stray)
    }

    /// Keeps a connection that reached no session, for the diagnosis of one that never came.
    pub fn note_stray(&self, port: u16, stray: Stray) {
        self.last_strays
            .lock()
            .insert(port, (stray, Instant::now()));
    }

    /// Connections that nobody had asked for.
    pub fn strays(&self) -> u64 {
        self.strays.load(Ordering::Relaxed)
    }

    /// Hands a connection that `client`, in canonical form, made to `port` to the session that waits for it, or resets it.
    pub fn deliver(&self, port: u16, socket: TcpStream, client: IpAddr) {
        let pair = (client, port);
        let mut taken = self.taken.lock();
        let pairs = &mut taken.pairs;
        let reserved = match pairs.remove(&pair) {
            // that of the reservation before, which its client has given up; this one's may still come
            Some(
                reserved @ State::Reserved {
                    is_reused: true, ..
                },
            ) if is_peer_gone(&socket) => {
                pairs.insert(pair, reserved);
                None
            }
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
        drop(taken);
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

/// The range of all pairs of `client`.
fn of(client: IpAddr) -> RangeInclusive<Pair> {
    (client, 0)..=(client, u16::MAX)
}

impl Taken {
    /// Frees the pairs of `client` whose quarantine is over.
    fn forget_those_over(&mut self, client: IpAddr, now: Instant) {
        self.pairs
            .extract_if(of(client), |_, state| state.is_over(now))
            .for_each(drop);
    }

    /// The pair that `owner` has had before, if there is one, and of several the one that is free first.
    fn longest_in_quarantine(
        &self,
        client: IpAddr,
        owner: u64,
        usable: impl Fn(u16) -> bool,
    ) -> Option<Pair> {
        let those = self.pairs.range(of(client));
        let own = those.filter_map(|(pair, state)| match state {
            State::Quarantined { owner: of, until } if *of == owner => Some((*until, *pair)),
            _ => None,
        });
        own.filter(|(_, (_, port))| usable(*port))
            .min()
            .map(|(_, pair)| pair)
    }

    /// Makes room where many are taken: of clients that don't come back nobody else would take the pairs out of quarantine, and an IPv6
    /// customer has more addresses than there is memory. Where little is over, the next look is later, so that each is paid for by as many
    /// insertions.
    fn make_room(&mut self, now: Instant) {
        if self.pairs.len() >= self.crowded {
            self.pairs.retain(|_, state| !state.is_over(now));
            self.crowded = (self.pairs.len() * 2).max(1024);
        }
    }
}

impl State {
    /// The pair is free again.
    fn is_over(&self, now: Instant) -> bool {
        matches!(self, State::Quarantined { until, .. } if *until <= now)
    }
}

impl Reservation {
    /// The port of the pair.
    pub fn port(&self) -> u16 {
        self.pair.1
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
        let mut taken = self.pool.taken.lock();
        // it has its connection, or was ended before, or the connection may still come
        if let Some(state) = taken.pairs.get_mut(&self.pair)
            && let State::Reserved { serial, owner, .. } = state
            && *serial == self.serial
        {
            *state = State::Quarantined {
                owner: *owner,
                until: Instant::now() + self.pool.accept_timeout,
            };
        }
        drop(taken);
        self.pool.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests;
