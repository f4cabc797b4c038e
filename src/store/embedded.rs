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
//! The answers are meant to be those of AWS S3, as far as the gateway and its README need them: CRC32 and CRC64NVME, conditions
//! on ETags, ranges, listings, copies, multipart uploads, tags. What would be ignored otherwise is answered with
//! `NotImplemented`: other checksums, conditions on dates, versions, ACLs, encryption, lifecycle rules, the end of a bucket.
//! Path-style addresses only; requests may be signed for any region.
//!
//! # What survives
//!
//! A request that was answered with success is on the disk: the body is synced, then the index
//! names it in a synced transaction, then the answer is sent. So the death of the process or of
//! the machine loses nothing that was acknowledged, as far as the disk keeps what it promised.
//! A request that was not answered happened as a whole or not at all. Uploads in progress and
//! their acknowledged parts survive as well; bodies that nothing names are deleted at start.
//!
//! A damaged index is found at start, and is an error: pages that are torn, zeroed or flipped serve
//! nothing. So is an index that is gone while bodies are there, which would be deleted otherwise.
//!
//! When the disk is nearly full ([`DiskSpace`]), bodies and names are refused with `507
//! InsufficientStorage`; reading and deleting go on. If other programs take the last block under a
//! change of the index, the change fails, and the index is opened anew with the next request.
//!
//! # What it costs
//!
//! A body of up to 16 KiB lives in the index and costs one sync; a larger one costs a second for
//! its file. Changes that wait at the same time share the sync of the index. Copying an object and
//! completing an upload write no body. Memory per transfer is about 512 KiB.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::{info, warn};

pub use self::error::EmbeddedError;
use self::index::Closing;
use self::server::Credentials;
pub use self::space::DiskSpace;

mod announced;
mod attributes;
mod backend;
mod blobs;
mod buckets;
mod checksum;
mod conditions;
mod copy;
mod error;
mod fault;
mod index;
mod list;
mod list_uploads;
mod listing;
mod multipart;
mod objects;
mod open;
mod read;
mod receive;
mod records;
mod server;
mod service;
mod space;
mod tables;
mod tag_set;
mod tags;

/// Settings of an [`EmbeddedStore`].
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
    space: Arc<DiskSpace>,
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
        let open::Opened {
            backend,
            closing,
            swept,
            space,
        } = open::open(data_dir.clone(), bucket.clone()).await?;
        let (listener, address) =
            server::bind(listen)
                .await
                .map_err(|source| EmbeddedError::Listen {
                    address: listen,
                    source,
                })?;

        let service = server::service(backend, Arc::clone(&credentials));
        let (stop, stopped) = watch::channel(());
        let server = tokio::spawn(server::serve(listener, service, stopped));
        let store = Self {
            address,
            credentials,
            stop,
            server,
            closing,
            space,
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

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
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

    /// True if there is space for uploads.
    #[must_use]
    pub fn space(&self) -> &Arc<DiskSpace> {
        &self.space
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

fn random_credentials() -> std::io::Result<Credentials> {
    Ok(Credentials {
        access_key_id: format!("EMBEDDED{:012X}", blobs::random_id()? >> 80),
        secret_access_key: format!("{:032x}", blobs::random_id()?).into(),
    })
}

/// The longest time that the index may take to close after the last request, as a synced write may be running.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory that is removed with the test.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new() -> Self {
            let name = format!("embedded-store-{:x}", blobs::random_id().unwrap());
            Self(std::env::temp_dir().join(name))
        }

        fn options(&self) -> Options {
            Options {
                data_dir: self.0.clone(),
                bucket: "trial".to_owned(),
                listen: SocketAddr::from(([127, 0, 0, 1], 0)),
                credentials: None,
            }
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[tokio::test]
    async fn an_address_that_others_could_reach_is_refused() {
        let scratch = Scratch::new();
        let listen = SocketAddr::from(([0, 0, 0, 0], 0));
        let error = EmbeddedStore::start(Options {
            listen,
            ..scratch.options()
        })
        .await;
        assert!(matches!(error, Err(EmbeddedError::NotLoopback(address)) if address == listen));
        assert!(!scratch.0.exists());
    }

    #[tokio::test]
    async fn a_bucket_name_that_s3_does_not_allow_is_refused() {
        let scratch = Scratch::new();
        let options = Options {
            bucket: "No_Bucket".to_owned(),
            ..scratch.options()
        };
        let error = EmbeddedStore::start(options).await;
        assert!(matches!(error, Err(EmbeddedError::BucketName(_))));
    }

    #[tokio::test]
    async fn a_directory_is_used_once_at_a_time_and_again_after_stop() {
        let scratch = Scratch::new();
        let store = EmbeddedStore::start(scratch.options()).await.unwrap();
        let error = EmbeddedStore::start(scratch.options()).await;
        assert!(matches!(error, Err(EmbeddedError::InUse { path }) if path == scratch.0));
        store.stop().await;
        EmbeddedStore::start(scratch.options())
            .await
            .unwrap()
            .stop()
            .await;
    }

    #[tokio::test]
    async fn a_file_in_place_of_the_directory_is_reported() {
        let scratch = Scratch::new();
        std::fs::write(&scratch.0, b"").unwrap();
        let error = EmbeddedStore::start(scratch.options()).await;
        assert!(matches!(error, Err(EmbeddedError::DataDir { .. })));
        std::fs::remove_file(&scratch.0).unwrap();
    }

    #[tokio::test]
    async fn a_damaged_index_is_reported() {
        let scratch = Scratch::new();
        std::fs::create_dir_all(&scratch.0).unwrap();
        std::fs::write(scratch.0.join("index.redb"), [b'x'; 8192]).unwrap();
        let error = EmbeddedStore::start(scratch.options()).await;
        assert!(
            matches!(error, Err(EmbeddedError::Index { .. })),
            "{error:?}"
        );
    }

    #[tokio::test]
    async fn random_credentials_differ_and_are_not_printed() {
        use secrecy::ExposeSecret as _;
        let (one, two) = (Scratch::new(), Scratch::new());
        let one = EmbeddedStore::start(one.options()).await.unwrap();
        let two = EmbeddedStore::start(two.options()).await.unwrap();
        let secret = one.secret_access_key().expose_secret();
        assert_ne!(one.access_key_id(), two.access_key_id());
        assert_ne!(secret, two.secret_access_key().expose_secret());
        assert!(!format!("{one:?}").contains(secret));
    }
}
