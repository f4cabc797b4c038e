//! The errors of a start.

use std::net::SocketAddr;
use std::path::PathBuf;

/// Why a store did not start.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// The address is not a loopback one.
    #[error(
        "embedded store cannot listen on {0}: it speaks plain HTTP, so use a loopback address such as 127.0.0.1:0"
    )]
    NotLoopback(SocketAddr),
    /// S3 does not allow this name.
    #[error(
        "embedded store cannot have a bucket named {0:?}: use 3 to 63 lower-case letters, digits, dots and hyphens"
    )]
    BucketName(String),
    /// Another store has the directory open.
    #[error(
        "data directory {path} of the embedded store is in use by another process: stop that process or use another directory"
    )]
    InUse {
        /// The data directory.
        path: PathBuf,
    },
    /// The directory cannot be created, read or written.
    #[error(
        "data directory {path} of the embedded store cannot be used: it must be a directory that this process may write to"
    )]
    DataDir {
        /// The data directory.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// The index is damaged or of a later version.
    #[error(
        "index {path} of the embedded store cannot be opened: restore the data directory from a backup, or remove it to start empty"
    )]
    Index {
        /// The file of the index.
        path: PathBuf,
        /// Its fault.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// There are bodies of objects, and nothing that names them.
    #[error(
        "index {path} of the embedded store is missing or empty, though there are files of it beside it: restore the data \
         directory from a backup, or remove it to start empty"
    )]
    NoIndex {
        /// The file of the index.
        path: PathBuf,
    },
    /// The port is taken or not allowed.
    #[error("embedded store cannot listen on {address}: use another port, or port 0 for any")]
    Listen {
        /// The address that was asked for.
        address: SocketAddr,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// The system has no random numbers.
    #[error("embedded store could not draw random credentials")]
    Random(#[source] std::io::Error),
}
