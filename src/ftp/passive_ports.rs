//! The listeners of the passive ports: bound once, for good, and shared by all sessions.
//!
//! A connection to one of this gateway's own ports is delivered to the [pool](PassivePool), one to a port of another
//! gateway is brought there by [`Handover`]. One that a trusted proxy relays waits for its PROXY header before that.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::cluster::handover::Handover;
use crate::net::{self, ACCEPT_PAUSE, PunctualListener, reset_on_close};
use crate::passive::{PassivePool, Stray};
use crate::proxy_protocol::{Arrived, HeaderWait, TrustedProxies};
use crate::telemetry::LineLimit;

/// One line in a while says that accepting fails, not one for each try and each port.
static NOT_ACCEPTED: LineLimit = LineLimit::per(Duration::from_secs(10));

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

/// Binds every port of the range on `address`, with `handover` those of the other gateways, too; or none. Stops listening when `stop`
/// is cancelled.
pub fn bind(
    address: IpAddr,
    ports: RangeInclusive<u16>,
    handover: Option<&Arc<Handover>>,
    accept_timeout: Duration,
    proxies: &Arc<TrustedProxies>,
    stop: &CancellationToken,
) -> Result<Arc<PassivePool>, BindError> {
    let bound = handover.map_or_else(|| ports.clone(), |handover| handover.ports());
    let listeners: Result<Vec<(u16, TcpListener)>, BindError> = bound
        .map(|port| {
            let address = SocketAddr::new(address, port);
            let listener = net::bind(address).map_err(|source| BindError { address, source })?;
            Ok((port, listener))
        })
        .collect();
    let listeners = listeners?;
    let pool = Arc::new(PassivePool::new(address, ports, accept_timeout));
    for (number, listener) in listeners {
        let handover = handover.filter(|handover| handover.is_foreign(number));
        let port = Arc::new(PassivePort {
            number,
            pool: Arc::clone(&pool),
            handover: handover.cloned(),
            proxies: Arc::clone(proxies),
            stop: stop.clone(),
        });
        tokio::spawn(port.serve(listener));
    }
    Ok(pool)
}

/// A bound port.
struct PassivePort {
    number: u16,
    pool: Arc<PassivePool>,
    /// For a port of another gateway.
    handover: Option<Arc<Handover>>,
    proxies: Arc<TrustedProxies>,
    stop: CancellationToken,
}

impl PassivePort {
    async fn serve(self: Arc<Self>, listener: TcpListener) {
        let mut listener = PunctualListener::new(listener);
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.stop.cancelled() => return,
            };
            match accepted {
                Ok((socket, peer)) => self.receive(socket, peer),
                Err(error) => {
                    // out of descriptors, most likely: neither the loop nor the log must spin, and all ports fail at once
                    if let Some(left_out) = NOT_ACCEPTED.pass() {
                        warn!(port = self.number, %error, left_out, "a data connection could not be accepted");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Delivers a connection from `peer`; one that a trusted proxy relays has to wait for its PROXY header.
    fn receive(self: &Arc<Self>, socket: TcpStream, peer: SocketAddr) {
        if !self.proxies.trusts(peer.ip()) {
            return self.deliver_or_relay(socket, peer);
        }
        let Some(wait) = self.proxies.admit(peer.ip()) else {
            // a client that downloads must not take it for an empty file
            return reset_on_close(&socket);
        };
        let port = Arc::clone(self);
        tokio::spawn(async move {
            tokio::select! {
                () = port.receive_relayed(socket, peer, wait) => {}
                () = port.stop.cancelled() => {}
            }
        });
    }

    /// Delivers a connection for the client that its PROXY header names.
    async fn receive_relayed(&self, mut socket: TcpStream, proxy: SocketAddr, wait: HeaderWait) {
        match wait.header(&mut socket, proxy, self.number).await {
            Arrived::Client(proxied) => self.deliver_or_relay(socket, proxied.source),
            Arrived::Probe => {}
            Arrived::WithoutHeader => {
                let stray = Stray::WithoutHeader(proxy.ip().to_canonical());
                self.pool.note_stray(self.number, stray);
            }
        }
    }

    /// Delivers the connection of `client`; one to a port of another gateway is brought there.
    fn deliver_or_relay(&self, socket: TcpStream, client: SocketAddr) {
        match &self.handover {
            Some(handover) => {
                let local = SocketAddr::new(self.pool.address(), self.number);
                handover.relay(socket, client, local);
            }
            None => {
                let client = client.ip().to_canonical();
                self.pool.deliver(self.number, socket, client);
            }
        }
    }
}

#[cfg(test)]
mod tests;
