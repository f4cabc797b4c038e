//! Connections to a server, and the reasons why there is none.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::ftp_client;

/// Any way bytes go: TCP, or TLS over it.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

pub(super) type Wire = Box<dyn Duplex>;

/// A control connection, in clear or under TLS.
pub(super) type Control = ftp_client::Control<Wire>;

/// The control connection over a fresh `socket`.
pub(super) fn control(socket: TcpStream) -> io::Result<Control> {
    socket.set_nodelay(true)?;
    let peer = socket.peer_addr()?;
    Ok(Control::new(Box::new(socket), peer))
}

/// Why no connection came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unreachable {
    /// Nobody listens, or a firewall says so.
    Refused,
    /// Nothing answers.
    Silent,
    /// The network knows no way.
    NoRoute,
    /// It was accepted and then closed: what accepted is not what was meant.
    ClosedAtOnce,
    /// Anything else.
    Other(io::ErrorKind),
}

impl Unreachable {
    pub fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Unreachable::Refused,
            io::ErrorKind::TimedOut => Unreachable::Silent,
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                Unreachable::NoRoute
            }
            io::ErrorKind::ConnectionReset => Unreachable::ClosedAtOnce,
            other => Unreachable::Other(other),
        }
    }

    /// The usual cause.
    pub fn cause(self) -> &'static str {
        match self {
            Unreachable::Refused => "nobody listens there, or a firewall refuses",
            Unreachable::Silent => "a firewall, security group or balancer drops the packets",
            Unreachable::NoRoute => {
                "the address is not routed from here, or a firewall says that it is not"
            }
            Unreachable::ClosedAtOnce => {
                "a balancer or proxy accepts there, and has nothing behind it, or the connection reaches the gateway from \
                 another address than the control connection's"
            }
            Unreachable::Other(_) => "see the error",
        }
    }
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unreachable::Refused => f.write_str("connection refused"),
            Unreachable::Silent => f.write_str("no answer"),
            Unreachable::NoRoute => f.write_str("no route to host"),
            Unreachable::ClosedAtOnce => f.write_str("closed at once"),
            Unreachable::Other(kind) => write!(f, "{kind}"),
        }
    }
}

/// A connection to `address`, within `within`.
pub(super) async fn connect(
    address: SocketAddr,
    within: Duration,
) -> Result<TcpStream, Unreachable> {
    match tokio::time::timeout(within, TcpStream::connect(address)).await {
        Ok(Ok(socket)) => Ok(socket),
        Ok(Err(error)) => Err(Unreachable::of(&error)),
        Err(_) => Err(Unreachable::Silent),
    }
}

/// A data connection to `address` that stays open: a balancer without anybody behind it accepts, and closes.
pub(super) async fn connect_data(
    address: (IpAddr, u16),
    within: Duration,
) -> Result<TcpStream, Unreachable> {
    let socket = connect(address.into(), within).await?;
    let mut byte = [0];
    match tokio::time::timeout(STAYS_OPEN, socket.peek(&mut byte)).await {
        Err(_) | Ok(Ok(1..)) => Ok(socket),
        Ok(Ok(0) | Err(_)) => Err(Unreachable::ClosedAtOnce),
    }
}

/// Longer than a balancer on the same continent takes to say that nobody is there.
const STAYS_OPEN: Duration = Duration::from_millis(60);
