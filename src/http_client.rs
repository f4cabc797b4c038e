//! The HTTP client for everything but the store: logins by an endpoint, events, credentials, traces.
//!
//! Its requests are small and come whole. It follows no redirect, since a password or a token would travel along, and it uses no proxy.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// A client with a pool of connections. Cheap to clone.
pub type HttpClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// TLS can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsSetupError {
    /// The bundle can't be read or holds no certificate.
    #[error("{}: {reason}; give the path of a PEM file with certificates", file.display())]
    CaFile {
        /// The path.
        file: PathBuf,
        /// The fault.
        reason: String,
    },
    /// The TLS library refused its settings.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// Idle connections are closed after this; most servers and stores keep theirs for at least as long.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// The name that requests carry.
pub const USER_AGENT: &str = concat!("cosgate/", env!("CARGO_PKG_VERSION"));

/// A client that trusts the authorities in `ca_file` alone, or without one those of the system, and keeps up to `idle` connections for
/// the next requests.
pub fn client(ca_file: Option<&Path>, idle: usize) -> Result<HttpClient, TlsSetupError> {
    Ok(build(tls(ca_file)?, idle, None))
}

/// A client that trusts the authorities of the system, keeps one connection, and gives up connecting after `connect_timeout`.
pub fn client_with_connect_timeout(connect_timeout: Duration) -> Result<HttpClient, TlsSetupError> {
    Ok(build(tls(None)?, 1, Some(connect_timeout)))
}

fn build(tls: rustls::ClientConfig, idle: usize, connect_timeout: Option<Duration>) -> HttpClient {
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(idle)
        .build(connector(tls, connect_timeout))
}

/// Connects over TCP, and over TLS with the settings `tls` where the scheme is https.
pub fn connector(
    tls: rustls::ClientConfig,
    connect_timeout: Option<Duration>,
) -> HttpsConnector<HttpConnector> {
    let mut tcp = HttpConnector::new();
    // the connector around it speaks https
    tcp.enforce_http(false);
    tcp.set_connect_timeout(connect_timeout);
    HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp)
}

/// TLS 1.2 and 1.3, trusting what the system trusts and the certificates in `pem` besides.
pub fn tls_with(pem: &[u8]) -> Result<rustls::ClientConfig, String> {
    let mut roots = system_roots();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        certificate
            .map_err(|error| error.to_string())
            .and_then(|certificate| roots.add(certificate).map_err(|error| error.to_string()))?;
    }
    trusting(roots).map_err(|error| error.to_string())
}

/// TLS 1.2 and 1.3, trusting the bundle alone or, without one, what the system trusts.
pub fn tls(ca_file: Option<&Path>) -> Result<rustls::ClientConfig, TlsSetupError> {
    let roots = match ca_file {
        Some(path) => {
            let mut roots = RootCertStore::empty();
            add_bundle(&mut roots, path)?;
            roots
        }
        None => system_roots(),
    };
    Ok(trusting(roots)?)
}

/// Something among the system's certificates that is none is no reason to do without the rest.
fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

fn trusting(roots: RootCertStore) -> Result<rustls::ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn add_bundle(roots: &mut RootCertStore, path: &Path) -> Result<(), TlsSetupError> {
    let failed = |reason: String| TlsSetupError::CaFile {
        file: path.to_owned(),
        reason,
    };
    let pem = crate::reload::read_bounded(path).map_err(|reason| failed(format!("it {reason}")))?;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| failed(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| failed(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(failed("there is no certificate in it".to_owned()));
    }
    Ok(())
}
