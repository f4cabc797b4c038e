//! A client of LDAP directories (RFC 4511), as far as logins need one: TLS, simple binds, and searches for names of entries.
//!
//! Filters, escapes and the encoding are ldap3's. The exchange is not: its connections buffer without a bound what a server sends, and
//! end in a panic where that is no LDAP. One request is sent, and its answers are read, before the next one.
//!
//! Invariants: a password goes out only to who has a certificate for the directory's name, unless the configuration allows it in the
//! clear, and never an empty one, which a directory takes for no login at all (RFC 4513, section 5.1.2); no referral is followed; what
//! is read of a connection is bounded. Time is bounded by the caller.

mod connection;
mod fault;
mod messages;
pub mod template;

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::ServerName;
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::TlsConnector;

pub use connection::{Connection, Found};
pub use fault::Fault;
pub use messages::Outcome;

use crate::http_client::{self, TlsSetupError};

/// Where a directory is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// A DNS name or an address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The protection of connections to it.
    pub security: Security,
}

/// When TLS begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// With the first byte.
    Tls,
    /// With the first request.
    StartTls,
    /// Never.
    Off,
}

/// A directory that can be connected to.
pub struct Directory {
    place: Place,
    tls: TlsConnector,
}

impl Directory {
    /// The directory at `place`, which the authorities in `ca_file` vouch for, or without one those of the system.
    pub fn new(place: Place, ca_file: Option<&Path>) -> Result<Self, TlsSetupError> {
        let tls = TlsConnector::from(Arc::new(http_client::tls(ca_file)?));
        Ok(Directory { place, tls })
    }

    /// A connection, protected as the place wants it; nobody is logged in. Each of the host's addresses has its part of `timeout`.
    pub async fn connect(&self, timeout: Duration) -> Result<Connection, Fault> {
        let socket = self.tcp(timeout).await?;
        match self.place.security {
            Security::Off => Ok(Connection::new(socket)),
            Security::Tls => self.protect(socket).await,
            Security::StartTls => {
                let mut plain = Connection::new(socket);
                plain.start_tls().await?;
                // what was sent in the clear behind the answer is nobody's, and is lost with `plain`
                self.protect(plain.into_wire()).await
            }
        }
    }

    async fn tcp(&self, timeout: Duration) -> Result<TcpStream, Fault> {
        let Place { host, port, .. } = &self.place;
        let unknown = |error| Fault::Name(host.clone(), error);
        let addresses = lookup_host((host.as_str(), *port)).await.map_err(unknown)?;
        let addresses: Vec<SocketAddr> = addresses.take(MAX_ADDRESSES).collect();
        let part = timeout / u32::try_from(addresses.len().max(1)).unwrap_or(1);
        let mut fault = unknown(io::ErrorKind::NotFound.into());
        for address in addresses {
            let connected = tokio::time::timeout(part, TcpStream::connect(address)).await;
            match connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(socket) => {
                    // a request is one small packet
                    let _ = socket.set_nodelay(true);
                    return Ok(socket);
                }
                Err(error) => fault = Fault::Connect(address, error),
            }
        }
        Err(fault)
    }

    async fn protect(&self, wire: impl connection::Wire + 'static) -> Result<Connection, Fault> {
        let host = &self.place.host;
        let failed = |error| Fault::Tls(host.clone(), error);
        let name = ServerName::try_from(host.clone())
            .map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
        let wire = self.tls.connect(name, wire).await.map_err(failed)?;
        Ok(Connection::new(wire))
    }
}

impl std::fmt::Debug for Directory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.place.fmt(f)
    }
}

/// A name may have many addresses; the first few have to do.
const MAX_ADDRESSES: usize = 4;
