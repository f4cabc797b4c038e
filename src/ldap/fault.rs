//! The reasons why a directory gave no usable answer.

use std::io;
use std::net::SocketAddr;

use super::messages::{Malformed, Outcome};

/// No usable answer came from the directory.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// No address is known.
    #[error("the name {0} does not resolve")]
    Name(String, #[source] io::Error),
    /// No connection.
    #[error("{0} does not connect")]
    Connect(SocketAddr, #[source] io::Error),
    /// The directory speaks no TLS.
    #[error("the directory refuses StartTLS: {0}")]
    StartTls(Outcome),
    /// The handshake fails, mostly for the certificate.
    #[error("TLS with {0}")]
    Tls(String, #[source] io::Error),
    /// The connection ended too early.
    #[error("the directory closed the connection")]
    Closed,
    /// The connection broke.
    #[error("the connection to the directory broke")]
    Broken(#[source] io::Error),
    /// The answer is none of LDAP, or longer than any.
    #[error("the directory's answer is malformed, or longer than 64 KiB")]
    Malformed,
    /// A filter is none.
    #[error("{0} is no filter")]
    Filter(String),
    /// An operation that should succeed doesn't.
    #[error("{0} fails: {1}")]
    Refused(&'static str, Outcome),
}

impl From<Malformed> for Fault {
    fn from(Malformed: Malformed) -> Self {
        Fault::Malformed
    }
}
