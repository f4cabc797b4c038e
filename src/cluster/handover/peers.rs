//! Where the other gateways are.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::net::{TcpStream, lookup_host};
use tokio::sync::Mutex;

use crate::config::Peers;

/// The addresses of the gateways' handover ports, by ordinal.
#[derive(Debug)]
pub(super) struct Directory {
    peers: Peers,
    /// One lookup of a name at a time.
    looked_up: Vec<Mutex<Option<LookedUp>>>,
}

/// The addresses of a name.
#[derive(Debug)]
struct LookedUp {
    at: Instant,
    addresses: Vec<SocketAddr>,
}

/// The time for which an answer of the resolver is used, that of CoreDNS's own answers (its plugin `kubernetes`, ttl).
const GOOD_FOR: Duration = Duration::from_secs(5);

/// The time for which a name without an address isn't looked up again.
const MISSING_FOR: Duration = Duration::from_secs(1);

impl Directory {
    pub(super) fn new(peers: Peers, replicas: u16) -> Self {
        Directory {
            peers,
            looked_up: (0..replicas).map(|_| Mutex::default()).collect(),
        }
    }

    /// A connection to a gateway's handover port. The caller bounds the time.
    pub(super) async fn connect(&self, ordinal: u16) -> io::Result<TcpStream> {
        let mut last = io::Error::new(
            io::ErrorKind::NotFound,
            "its name in handover.peers has no address",
        );
        for address in self.addresses(ordinal).await? {
            match TcpStream::connect(address).await {
                Ok(socket) => return Ok(socket),
                Err(error) => last = error,
            }
        }
        // it may have another address by now
        if let Some(place) = self.looked_up.get(usize::from(ordinal))
            && let Ok(mut known) = place.try_lock()
            && known
                .as_ref()
                .is_some_and(|known| !known.addresses.is_empty())
        {
            *known = None;
        }
        Err(last)
    }

    /// True if the resolver has an address for the name of a gateway at this moment.
    pub(super) async fn has_address(&self, ordinal: u16) -> bool {
        let Some(peer) = self.peers.of(ordinal) else {
            return false;
        };
        let found = lookup_host(peer).await;
        found.is_ok_and(|mut addresses| addresses.next().is_some())
    }

    async fn addresses(&self, ordinal: u16) -> io::Result<Vec<SocketAddr>> {
        let place = self.looked_up.get(usize::from(ordinal));
        let (Some(place), Some(peer)) = (place, self.peers.of(ordinal)) else {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "handover.peers has no such replica",
            ));
        };
        let mut known = place.lock().await;
        if let Some(LookedUp { at, addresses }) = &*known {
            let good_for = if addresses.is_empty() {
                MISSING_FOR
            } else {
                GOOD_FOR
            };
            if at.elapsed() < good_for {
                return Ok(addresses.clone());
            }
        }
        let found = lookup_host(peer).await;
        let addresses: Vec<_> = found.map(Iterator::collect).unwrap_or_default();
        *known = Some(LookedUp {
            at: Instant::now(),
            addresses: addresses.clone(),
        });
        Ok(addresses)
    }
}
