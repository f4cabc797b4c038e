//! Serves HTTP to few, and for a bounded time: what is asked here is small, and must be answered when much else fails.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// Connections at a time: probes, Prometheus, and a few browsers. More are closed at once, so that none waits.
const CONNECTIONS: usize = 128;

/// Connections of one address at a time, so that nobody takes the places of the probes.
const PER_ADDRESS: usize = 16;

/// Time for the head of a request, so also between two.
const HEAD_WITHIN: Duration = Duration::from_secs(10);

/// Bytes of a head.
const HEAD_BYTES: usize = 16 * 1024;

/// A connection is asked to end after this time, and ended after [`END_WITHIN`] more, whether its client reads or not.
const LIFETIME: Duration = Duration::from_secs(60);

/// See [`LIFETIME`].
const END_WITHIN: Duration = Duration::from_secs(10);

/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Who asks, for the routes.
#[derive(Debug, Clone, Copy)]
pub struct Client(pub IpAddr);

/// Serves `routes` until `stop`.
pub async fn serve(listener: TcpListener, routes: Router, stop: CancellationToken) {
    let places = Arc::new(Places::default());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        let (socket, address) = match accepted {
            Ok((socket, peer)) => (socket, peer.ip().to_canonical()),
            Err(error) => {
                // out of descriptors, most likely: the loop must not spin
                warn!(%error, "a connection to the admin port could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(place) = Place::take(&places, address) else {
            debug!(client = %address, "too many connections to the admin port");
            continue;
        };
        let routes = routes.clone().layer(Extension(Client(address)));
        let stop = stop.clone();
        tokio::spawn(async move {
            connection(socket, routes, stop).await;
            drop(place);
        });
    }
}

/// Who is connected.
#[derive(Debug, Default)]
struct Places(Mutex<HashMap<IpAddr, usize>>);

/// One connection's place, given back on drop.
struct Place {
    places: Arc<Places>,
    address: IpAddr,
}

impl Places {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<IpAddr, usize>> {
        // numbers only: a panic leaves none half-way
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    fn take(places: &Arc<Places>, address: IpAddr) -> Option<Self> {
        let mut taken = places.lock();
        let (all, own) = (
            taken.values().sum::<usize>(),
            taken.get(&address).copied().unwrap_or(0),
        );
        if all >= CONNECTIONS || own >= PER_ADDRESS {
            return None;
        }
        taken.insert(address, own + 1);
        Some(Place {
            places: Arc::clone(places),
            address,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        match taken.get_mut(&self.address) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(taken.remove(&self.address)),
        }
    }
}

async fn connection(socket: TcpStream, routes: Router, stop: CancellationToken) {
    let _ = socket.set_nodelay(true);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
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
    let _ = tokio::time::timeout(END_WITHIN, connection).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_takes_no_place_from_another_and_places_come_back() {
        let places = Arc::new(Places::default());
        let address = |last: u8| IpAddr::from([10, 0, 0, last]);
        let mut held: Vec<_> = (0..PER_ADDRESS)
            .map(|_| Place::take(&places, address(1)).expect("free"))
            .collect();
        assert!(Place::take(&places, address(1)).is_none());
        let other = Place::take(&places, address(2)).expect("another's are free");
        held.pop();
        held.push(Place::take(&places, address(1)).expect("free again"));
        // and all together have their bound
        for last in 3..200 {
            held.extend((0..PER_ADDRESS).map_while(|_| Place::take(&places, address(last))));
        }
        assert_eq!(held.len() + 1, CONNECTIONS);
        drop((held, other));
        assert!(places.lock().is_empty());
    }
}
