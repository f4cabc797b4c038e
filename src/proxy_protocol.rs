//! Connections from trusted proxies (`proxy_protocol.trusted`): each begins with a PROXY header, which names the client.
//!
//! A header is believed only from a trusted address, and there it is required: a connection without one is closed, so that nobody is
//! taken for the proxy. From elsewhere nothing is read here, and a header is what the client's first command would be.
//!
//! Invariant: a connection waits [`HEADER_TIMEOUT`] at most, and of those that wait no more than [`MAX_WAITING_PER_PROXY`] come from one
//! address and [`MAX_WAITING`] from all, so that a proxy that sends nothing takes no place of a session and none of another proxy's.

pub mod header;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ipnet::IpNet;
use tokio::net::TcpStream;
use tracing::{debug, warn};

use crate::chain::Chain;
use crate::net::reset_on_close;
use crate::networks::Networks;
use crate::permits::{Permit, Permits};
use crate::proxy_protocol::header::{HeaderError, Proxied, ProxyHeader};
use crate::telemetry::LineLimit;

/// The time that a header may take. The specification wants at least 3 s, for a segment that is lost and sent again.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections of all proxies that wait for their header. Proxies send it at once, so few do.
pub const MAX_WAITING: usize = 512;

/// Connections of one proxy that wait for their header.
pub const MAX_WAITING_PER_PROXY: usize = MAX_WAITING / 4;

/// A proxy that sends no headers is a wrong configuration, and fills no log.
static REFUSED: LineLimit = LineLimit::per(Duration::from_secs(10));

/// The proxies whose headers are believed.
#[derive(Debug, Default)]
pub struct TrustedProxies {
    networks: Networks,
    /// Connections that wait for their header.
    waiting: Arc<Permits<()>>,
    waiting_by_proxy: Arc<Permits<IpAddr>>,
    refused: Counts<AtomicU64>,
}

/// Connections that were closed for want of a header, by the reason.
#[derive(Debug, Default)]
struct Counts<T> {
    timeout: T,
    malformed: T,
    cut: T,
    waiting: T,
}

/// Leave to wait for a connection's header, given back on drop.
#[derive(Debug)]
pub struct HeaderWait {
    proxies: Arc<TrustedProxies>,
    _permits: (Permit<IpAddr>, Permit<()>),
}

impl TrustedProxies {
    /// The proxies in these networks.
    pub fn new(networks: Vec<IpNet>) -> Arc<Self> {
        Arc::new(TrustedProxies {
            networks: networks.into_iter().collect(),
            ..TrustedProxies::default()
        })
    }

    /// True if connections from `address` begin with a header.
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.networks.contains(address)
    }

    /// Leave for a connection from `proxy` to wait for its header; none if too many wait.
    pub fn admit(self: &Arc<Self>, proxy: IpAddr) -> Option<HeaderWait> {
        let proxy = proxy.to_canonical();
        let own = self
            .waiting_by_proxy
            .try_acquire(proxy, MAX_WAITING_PER_PROXY);
        let Some(permits) = own.zip(self.waiting.try_acquire((), MAX_WAITING)) else {
            self.refused.waiting.fetch_add(1, Ordering::Relaxed);
            if let Some(left_out) = REFUSED.pass() {
                warn!(
                    event = "proxy_header_refused", %proxy, left_out,
                    "a connection from a trusted proxy was closed: too many others wait for their PROXY header"
                );
            }
            return None;
        };
        Some(HeaderWait {
            proxies: Arc::clone(self),
            _permits: permits,
        })
    }

    /// Connections that were closed for want of a header, by the reason.
    pub fn refused(&self) -> [(&'static str, u64); 4] {
        let Counts {
            timeout,
            malformed,
            cut,
            waiting,
        } = &self.refused;
        [
            ("timeout", timeout),
            ("malformed", malformed),
            ("cut", cut),
            ("waiting", waiting),
        ]
        .map(|(reason, count)| (reason, count.load(Ordering::Relaxed)))
    }
}

/// The outcome of the wait for a header.
#[derive(Debug)]
pub enum Arrived {
    /// The connection of a client.
    Client(Proxied),
    /// A health check, or something as quiet. The connection is to be closed without a word.
    Probe,
    /// The header is missing, which was logged. The connection is closed with a reset.
    WithoutHeader,
}

impl HeaderWait {
    /// Reads the header of `socket`, which `proxy` has connected to `port`.
    pub async fn header(self, socket: &mut TcpStream, proxy: SocketAddr, port: u16) -> Arrived {
        let error = match ProxyHeader::read(socket, HEADER_TIMEOUT).await {
            Ok(ProxyHeader::Proxied(proxied)) => {
                debug!(
                    %proxy, port, client = %proxied.source, destination = %proxied.destination, "a proxy relays a connection"
                );
                return Arrived::Client(proxied);
            }
            Ok(ProxyHeader::Local) | Err(HeaderError::Nothing) => return Arrived::Probe,
            Err(error) => error,
        };
        let refused = &self.proxies.refused;
        let count = match error {
            HeaderError::TimedOut(_) => &refused.timeout,
            HeaderError::Malformed(_) => &refused.malformed,
            HeaderError::Cut(_) | HeaderError::Nothing => &refused.cut,
        };
        count.fetch_add(1, Ordering::Relaxed);
        if let Some(left_out) = REFUSED.pass() {
            warn!(
                event = "proxy_header_refused", %proxy, port, reason = %Chain(&error), left_out,
                "a connection from a trusted proxy was closed: turn the PROXY protocol on there for this port, or take the address out \
                 of proxy_protocol.trusted"
            );
        }
        reset_on_close(socket);
        Arrived::WithoutHeader
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn only_what_is_in_the_networks_is_trusted() {
        let networks = ["10.1.0.0/16", "fd00::/8", "192.0.2.1/32"];
        let networks = networks.map(|network| network.parse().expect("a network"));
        let proxies = TrustedProxies::new(networks.to_vec());
        for (from, trusted) in [
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("192.0.2.1", true),
            ("fd00::1", true),
            ("10.2.0.1", false),
            ("192.0.2.2", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(proxies.trusts(address(from)), trusted, "{from}");
        }
        assert!(!TrustedProxies::default().trusts(address("127.0.0.1")));
    }

    #[test]
    fn a_proxy_whose_connections_wait_leaves_room_for_others() {
        let proxies = TrustedProxies::new(vec!["10.0.0.0/8".parse().expect("a network")]);
        let mut waits = Vec::new();
        let mut fill = |from: &str| {
            let before = waits.len();
            waits.extend((0..MAX_WAITING).map_while(|_| proxies.admit(address(from))));
            waits.len() - before
        };
        for from in ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"] {
            assert_eq!(fill(from), MAX_WAITING_PER_PROXY);
        }
        assert_eq!(fill("10.0.0.5"), 0);
        assert_eq!(proxies.refused()[3], ("waiting", 5));
        waits.truncate(MAX_WAITING - 1);
        assert!(proxies.admit(address("10.0.0.5")).is_some());
        drop(waits);
        assert_eq!(proxies.waiting.held(&()), 0);
        assert_eq!(proxies.waiting_by_proxy.held(&address("10.0.0.1")), 0);
    }
}
