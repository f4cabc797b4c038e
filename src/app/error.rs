//! The errors of a start.

use std::io;
use std::net::SocketAddr;

use crate::auth::{HashError, UsersError};
use crate::cluster::handover;
use crate::events::SinkError;
use crate::ftp::listener::ListenError;
use crate::ftp::tls::TlsError;
use crate::kubernetes::ClientError;
use crate::store::embedded::EmbeddedError;
use crate::store::settings::SetupError;

/// The gateway could not start; nothing of it is left running.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A port is not to be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The handover port is not to be had.
    #[error(transparent)]
    Handover(#[from] handover::BindError),
    /// The admin port is not to be had.
    #[error("admin.listen = {address} can't be bound; choose another address, or `off`")]
    Admin {
        /// From `admin.listen`.
        address: SocketAddr,
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
    /// The settings of the store contradict each other.
    #[error(transparent)]
    Store(#[from] SetupError),
    /// The certificates can't be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The embedded store can't use its directory.
    #[error("embedded store")]
    Embedded(#[from] EmbeddedError),
    /// `storage.endpoint` of the embedded store is no loopback address.
    #[error(
        "storage.endpoint = {0}: the embedded store listens on a loopback address such as http://127.0.0.1:9000"
    )]
    Endpoint(String),
    /// The users can't be set up.
    #[error(transparent)]
    Users(#[from] UsersError),
    /// The sinks of events can't be set up.
    #[error(transparent)]
    Events(#[from] SinkError),
    /// No password could be made or hashed.
    #[error(transparent)]
    Hash(#[from] HashError),
    /// There is no way to the API server.
    #[error(transparent)]
    Kubernetes(#[from] ClientError),
    /// No loopback socket for the engine.
    #[error("loopback socket")]
    Loopback(#[source] io::Error),
}

impl StartError {
    /// True if another configuration would help, rather than another state of the machine.
    pub fn is_configuration(&self) -> bool {
        matches!(
            self,
            StartError::Store(_)
                | StartError::Endpoint(_)
                | StartError::Tls(_)
                | StartError::Users(UsersError::External(_))
                | StartError::Kubernetes(_)
                | StartError::Events(_)
        )
    }
}
