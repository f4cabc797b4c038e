//! The embedded store: an S3 server inside this process, for trials and tests.
//!
//! The gateway talks to it over a loopback socket with the same client, the same requests and the
//! same error codes as to a store in production, so a trial runs the code that production runs.
//!
//! ```text
//! hyper ── s3s (routing, SigV4, XML) ──> backend
//!                                          ├─ index    one redb file: names, metadata, layouts, uploads
//!                                          └─ blobs    bodies: immutable files with random names
//! ```
//!
//! The answers are meant to be those of AWS S3: checksums, conditions, ranges, listings and
//! multipart uploads. Versions, ACLs, tags, encryption and lifecycle rules are answered with
//! `NotImplemented`. Path-style addresses only; requests may be signed for any region.
//!
//! # What survives
//!
//! A request that was answered with success is on the disk: the body is synced, then the index
//! names it in a synced transaction, then the answer is sent. So the death of the process or of
//! the machine loses nothing that was acknowledged, as far as the disk keeps what it promised.
//! A request that was not answered happened as a whole or not at all. Uploads in progress and
//! their acknowledged parts survive as well; bodies that nothing names are deleted at start.
//!
//! # What it costs
//!
//! A body of up to 16 KiB lives in the index and costs one sync; a larger one costs a second for
//! its file. Changes that wait at the same time share the sync of the index. Copying an object and
//! completing an upload write no body. Memory per transfer is about 512 KiB.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::{info, warn};

use self::backend::Backend;
use self::blobs::Blobs;
use self::fault::Fault;
use self::index::{Closing, Index};
use self::server::Credentials;

mod attributes;
mod backend;
mod blobs;
mod buckets;
mod checksum;
mod conditions;
mod copy;
mod fault;
mod index;
mod list;
mod listing;
mod multipart;
mod objects;
mod read;
mod receive;
mod records;
mod server;
mod tables;

/// How to start an [`EmbeddedStore`].
#[derive(Debug)]
pub struct Options {
    /// Where index and bodies are kept; created if it is missing. One process at a time.
    pub data_dir: PathBuf,
    /// Created if it is missing; must follow the naming rules of S3.
    pub bucket: String,
    /// Must be a loopback address, as the store speaks plain HTTP. Port 0 takes any free port.
    pub listen: SocketAddr,
    /// Access key id and secret access key. `None` draws a random pair for this process.
    pub credentials: Option<(String, SecretString)>,
}

/// A running store. Dropping it stops it in the background.
pub struct EmbeddedStore {
    address: SocketAddr,
    credentials: Arc<Credentials>,
    /// Dropping it is the signal to stop.
    stop: watch::Sender<()>,
    server: JoinHandle<()>,
    closing: Closing,
}

/// Why a store did not start.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    #[error(
        "embedded store cannot listen on {0}: it speaks plain HTTP, so use a loopback address such as 127.0.0.1:0"
    )]
    NotLoopback(SocketAddr),
    #[error(
        "embedded store cannot have a bucket named {0:?}: use 3 to 63 lower-case letters, digits, dots and hyphens"
    )]
    BucketName(String),
    #[error(
        "data directory {path} of the embedded store is in use by another process: stop that process or use another directory"
    )]
    InUse { path: PathBuf },
    #[error(
        "data directory {path} of the embedded store cannot be used: it must be a directory that this process may write to"
    )]
    DataDir {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(
        "index {path} of the embedded store cannot be opened: restore the data directory or remove it to start empty"
    )]
    Index {
        path: PathBuf,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("embedded store cannot listen on {address}: use another port, or port 0 for any")]
    Listen {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("embedded store could not draw random credentials")]
    Random(#[source] std::io::Error),
}

impl EmbeddedStore {
    /// Opens or creates the store, deletes what a crash left behind, and serves.
    ///
    /// # Errors
    ///
    /// An address that is not a loopback one, a bucket name that S3 does not allow, a directory
    /// that is in use or cannot be written, an index that cannot be read, or a port that is taken.
    pub async fn start(options: Options) -> Result<Self, EmbeddedError> {
        let Options {
            data_dir,
            bucket,
            listen,
            credentials,
        } = options;
        if !listen.ip().is_loopback() {
            return Err(EmbeddedError::NotLoopback(listen));
        }
        if !s3s::path::check_bucket_name(&bucket) {
            return Err(EmbeddedError::BucketName(bucket));
        }
        let credentials = match credentials {
            Some((access_key_id, secret_access_key)) => Credentials {
                access_key_id,
                secret_access_key,
            },
            None => random_credentials().map_err(EmbeddedError::Random)?,
        };
        let credentials = Arc::new(credentials);
        let (backend, swept) = open(data_dir.clone(), bucket.clone()).await?;
        let (listener, address) =
            server::bind(listen)
                .await
                .map_err(|source| EmbeddedError::Listen {
                    address: listen,
                    source,
                })?;

        let closing = backend.index.closing();
        let service = server::service(backend, Arc::clone(&credentials));
        let (stop, stopped) = watch::channel(());
        let server = tokio::spawn(server::serve(listener, service, stopped));
        let store = Self {
            address,
            credentials,
            stop,
            server,
            closing,
        };
        if swept > 0 {
            info!(
                swept,
                "embedded store deleted bodies of unfinished requests"
            );
        }
        warn!(
            data_dir = %data_dir.display(),
            endpoint = store.endpoint(),
            bucket,
            "embedded store started: it is for trials and tests, not for production"
        );
        Ok(store)
    }

    /// The URL for S3 clients, which must use path-style addresses: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The access key id that requests must be signed with.
    #[must_use]
    pub fn access_key_id(&self) -> &str {
        &self.credentials.access_key_id
    }

    /// The secret access key that requests must be signed with.
    #[must_use]
    pub fn secret_access_key(&self) -> &SecretString {
        &self.credentials.secret_access_key
    }

    /// Stops: no new connections, at most five seconds for running requests, then the index is
    /// closed. When it returns in time the directory may be opened again; it always returns
    /// within eight seconds.
    pub async fn stop(self) {
        let Self {
            stop,
            server,
            closing,
            ..
        } = self;
        drop(stop);
        let closed = timeout(server::GRACE + CLOSE_TIMEOUT, async {
            // Whether the task ended or panicked, its connections are gone.
            let _ = server.await;
            closing.wait().await;
        })
        .await;
        match closed {
            Ok(()) => info!("embedded store stopped"),
            Err(_) => warn!("embedded store is still closing its index"),
        }
    }
}

impl std::fmt::Debug for EmbeddedStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedStore")
            .field("endpoint", &self.endpoint())
            .finish_non_exhaustive()
    }
}

/// Opens the directory; returns the number of deleted orphans with the backend.
async fn open(data_dir: PathBuf, bucket: String) -> Result<(Backend, u64), EmbeddedError> {
    let path = data_dir.join("index.redb");
    let unreadable = |source: Fault| EmbeddedError::Index {
        path: path.clone(),
        source: source.into(),
    };
    let opened = index::spawn_blocking(move || Ok(open_blocking(&data_dir))).await;
    let (backend, swept) = opened.map_err(unreadable)??;
    let created = backend
        .index
        .write(move |tables| buckets::ensure(tables, &bucket))
        .await;
    created.map_err(unreadable)?;
    Ok((backend, swept))
}

fn open_blocking(data_dir: &Path) -> Result<(Backend, u64), EmbeddedError> {
    let unusable = |source| EmbeddedError::DataDir {
        path: data_dir.to_owned(),
        source,
    };
    let blobs = Blobs::open(data_dir.join("blobs")).map_err(unusable)?;
    let path = data_dir.join("index.redb");
    let index = Index::open(&path, Arc::clone(&blobs)).map_err(|error| match error {
        redb::DatabaseError::DatabaseAlreadyOpen => EmbeddedError::InUse {
            path: data_dir.to_owned(),
        },
        redb::DatabaseError::Storage(redb::StorageError::Io(source)) => unusable(source),
        other => EmbeddedError::Index {
            path: path.clone(),
            source: other.into(),
        },
    })?;
    let swept = index.sweep(&blobs).map_err(|fault| EmbeddedError::Index {
        path,
        source: fault.into(),
    })?;
    Ok((Backend { index, blobs }, swept))
}

fn random_credentials() -> std::io::Result<Credentials> {
    Ok(Credentials {
        access_key_id: format!("EMBEDDED{:012X}", blobs::random_id()? >> 80),
        secret_access_key: format!("{:032x}", blobs::random_id()?).into(),
    })
}

/// How long the index may take to close after the last request, as a synced write may be running.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);
