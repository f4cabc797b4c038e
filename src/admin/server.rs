//! Serves HTTP to few, and for a bounded time: what is asked here is small, and must be answered when much else fails.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use parking_lot::{Mutex, MutexGuard};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::net::{ACCEPT_PAUSE, network};
use crate::telemetry::LineLimit;

/// Connections at a time: probes, Prometheus, and a few browsers. For one more the oldest without a request is closed; if
/// all have one, it is refused, so that none waits.
const CONNECTIONS: usize = 128;

/// Connections of one network (IPv4 address or IPv6 /64) at a time, by the same rule.
const PER_NETWORK: usize = 16;

/// Time for the head of a request, so also between two.
const REQUEST_HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of a head.
const HEAD_BYTES: usize = 16 * 1024;

/// A connection is asked to end after this time, and ended after [`SHUTDOWN_TIMEOUT`] more, whether its client reads or not.
const LIFETIME: Duration = Duration::from_secs(60);

/// See [`LIFETIME`].
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

/// One line in a while says that accepting fails, not one for each try.
static NOT_ACCEPTED: LineLimit = LineLimit::per(Duration::from_secs(10));

/// The client of a request, for the routes.
#[derive(Debug, Clone, Copy)]
pub struct Client(pub IpAddr);

/// Serves `routes` until `stop`.
pub async fn serve(listener: TcpListener, routes: Router, stop: CancellationToken) {
    let connections = Arc::new(Connections::default());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        let (socket, address) = match accepted {
            Ok((socket, peer)) => (socket, peer.ip().to_canonical()),
            Err(error) => {
                // out of descriptors, most likely: neither the loop nor the log must spin
                if let Some(left_out) = NOT_ACCEPTED.pass() {
                    warn!(%error, left_out, "a connection to the admin port could not be accepted");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(permit) = Permit::take(&connections, network(address)) else {
            debug!(client = %address, "too many connections to the admin port");
            continue;
        };
        let routes = routes.clone().layer(Extension(Client(address)));
        let stop = stop.clone();
        tokio::spawn(async move {
            let entry = Arc::clone(&permit.entry);
            let routes = routes.layer(middleware::from_fn(move |request: Request, next: Next| {
                let running = Running::begin(&entry);
                async move {
                    let answer = next.run(request).await;
                    drop(running);
                    answer
                }
            }));
            tokio::select! {
                () = connection(socket, routes, stop) => {}
                () = permit.entry.closed.cancelled() => {}
            }
        });
    }
}

/// The connections that are open, the oldest first.
#[derive(Debug, Default)]
struct Connections(Mutex<Vec<Arc<Entry>>>);

/// One connection.
#[derive(Debug)]
struct Entry {
    network: IpAddr,
    /// Requests that are being answered: 0 or 1.
    running: AtomicUsize,
    /// It has had a request.
    used: AtomicBool,
    /// Cancelled when it has to make room.
    closed: CancellationToken,
}

/// Leave for one connection, given back on drop.
struct Permit {
    connections: Arc<Connections>,
    entry: Arc<Entry>,
}

/// A request that is being answered.
struct Running(Arc<Entry>);

impl Running {
    fn begin(entry: &Arc<Entry>) -> Self {
        entry.used.store(true, Ordering::Relaxed);
        entry.running.fetch_add(1, Ordering::Relaxed);
        Running(Arc::clone(entry))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Connections {
    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Entry>>> {
        self.0.lock()
    }
}

impl Permit {
    fn take(connections: &Arc<Connections>, network: IpAddr) -> Option<Self> {
        let mut open = connections.lock();
        let own = open.iter().filter(|entry| entry.network == network).count();
        if own >= PER_NETWORK {
            make_room(&mut open, |entry| entry.network == network)?;
        } else if open.len() >= CONNECTIONS {
            make_room(&mut open, |_| true)?;
        }
        let entry = Arc::new(Entry {
            network,
            running: AtomicUsize::new(0),
            used: AtomicBool::new(false),
            closed: CancellationToken::new(),
        });
        open.push(Arc::clone(&entry));
        Some(Permit {
            connections: Arc::clone(connections),
            entry,
        })
    }
}

/// Closes the oldest of the connections that never had a request, or else of those that wait for the next one; none if all
/// of them are being answered.
fn make_room(open: &mut Vec<Arc<Entry>>, among: impl Fn(&Entry) -> bool) -> Option<()> {
    let idle = |entry: &Entry| among(entry) && entry.running.load(Ordering::Relaxed) == 0;
    let unused = |entry: &Entry| idle(entry) && !entry.used.load(Ordering::Relaxed);
    let first = open.iter().position(|entry| unused(entry));
    let first = first.or_else(|| open.iter().position(|entry| idle(entry)))?;
    open.remove(first).closed.cancel();
    Some(())
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut open = self.connections.lock();
        open.retain(|entry| !Arc::ptr_eq(entry, &self.entry));
    }
}

async fn connection(socket: TcpStream, routes: Router, stop: CancellationToken) {
    let _ = socket.set_nodelay(true);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(socket), TowerToHyperService::new(routes));
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        () = tokio::time::sleep(LIFETIME) => {}
        () = stop.cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    // an error is the client's own affair
    let _ = tokio::time::timeout(SHUTDOWN_TIMEOUT, connection).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn take(connections: &Arc<Connections>, last: u8) -> Permit {
        Permit::take(connections, address(last)).expect("room")
    }

    #[test]
    fn the_oldest_without_a_request_makes_room_for_its_own_network() {
        let connections = Arc::new(Connections::default());
        let other = take(&connections, 2);
        let held: Vec<_> = (0..PER_NETWORK).map(|_| take(&connections, 1)).collect();
        let running = Running::begin(&held[0].entry);
        drop(Running::begin(&held[1].entry));
        let one_more = take(&connections, 1);
        let closed = |permit: &Permit| permit.entry.closed.is_cancelled();
        let which: Vec<usize> = (0..held.len()).filter(|at| closed(&held[*at])).collect();
        assert_eq!(
            which,
            [2],
            "the first is being answered, the second waits for its next"
        );
        assert!(!closed(&other) && !closed(&one_more));
        drop((running, held, one_more, other));
        assert!(connections.lock().is_empty());
    }

    #[test]
    fn nobody_makes_room_while_all_are_being_answered() {
        let connections = Arc::new(Connections::default());
        let held: Vec<_> = (0..PER_NETWORK).map(|_| take(&connections, 1)).collect();
        let running: Vec<_> = held
            .iter()
            .map(|held| Running::begin(&held.entry))
            .collect();
        assert!(Permit::take(&connections, address(1)).is_none());
        take(&connections, 2);
        drop(running);
        take(&connections, 1);
        assert!(held[0].entry.closed.is_cancelled());
    }

    #[test]
    fn all_networks_together_have_their_bound() {
        let connections = Arc::new(Connections::default());
        let held: Vec<_> = (0..200).map(|last| take(&connections, last)).collect();
        assert_eq!(connections.lock().len(), CONNECTIONS);
        let closed = held.iter().filter(|held| held.entry.closed.is_cancelled());
        assert_eq!(closed.count(), 200 - CONNECTIONS);
    }
}
