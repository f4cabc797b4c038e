//! cosgate: an FTP and FTPS gateway in front of object storage, Tencent COS and any S3-compatible store.
//!
//! ```text
//! TCP accept (ftp::listener) ── limits, keepalive, drain ──> one session (ftp::session)
//!      │  AUTH, PROT: ftp::session::protection, ftp::tls    USER, PASS: auth
//!      │  PASV: passive, masquerade <── kubernetes (watches one Service)
//!      │  data connections of other replicas: cluster::handover    failed logins there: cluster::lockouts
//!      └─> engine: libunftp over a loopback pair, one command at a time (ftp::engine)
//!              └─> storage backend, handlers of transfers ── the data connection comes in the session's request
//!                      └─> store: upload, download, listing, copy ──> aws-sdk-s3 ──> COS, S3, or the embedded store
//!      └─> events: what was committed, to HTTP and NATS
//! ```
//!
//! Invariants, each with a test:
//!
//! 1. 226 is sent only after the store acknowledged the whole object.
//! 2. An upload ends in exactly one of: stored, or not stored with its multipart upload aborted.
//! 3. An existing object is not touched before the first byte of its replacement has arrived and the new object is
//!    complete.
//! 4. Memory for part buffers never exceeds the budget; a full budget slows clients down by TCP backpressure.
//! 5. A path never leaves the user's home, or the mount that it is in.
//! 6. A data connection never serves another session than the one that was given its port (see [`passive`]).
//! 7. Nothing is ever logged that authenticates: passwords, keys, tokens.
//! 8. Every number that bounds something is configurable, or a named constant with its reason.
//! 9. In a cluster no client gets a pod's address, unless it comes from `masquerade.internal_cidrs` (see [`masquerade`]).
//!
//! Types of the SDK stay in [`store`], libunftp's in [`ftp`], kube's in [`kubernetes`]; `store` never imports `ftp`. [`app`]
//! alone knows every module that runs; [`doctor`] is beside it, and examines what `app` would use. No module, and no file,
//! depends on itself by way of others; a test (`tests/it/modules.rs`) reads the paths in the code.

pub mod admin;
pub mod app;
pub mod auth;
pub mod certificates;
pub mod chain;
pub mod charset;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod descriptors;
pub mod doctor;
pub mod escape;
pub mod events;
pub mod failures;
pub mod ftp;
pub mod ftp_client;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(doc)]
pub mod guide;
pub mod health;
pub mod http_client;
pub mod import;
pub mod kubernetes;
pub mod ldap;
pub mod masquerade;
pub mod metrics;
pub mod net;
pub mod networks;
pub mod passive;
pub mod password;
pub mod permits;
pub mod proxy_protocol;
mod records;
pub mod reload;
pub mod store;
pub mod telemetry;
mod utc;

/// Makes aws-lc-rs the process's provider of TLS's cryptography, before anything speaks TLS. Does nothing the second time.
pub fn install_crypto_provider() {
    // an error means that there is one already
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}
