//! The HTTP client for services that are neither the store nor a collector: logins by an endpoint, events.
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
        /// What is wrong.
        reason: String,
    },
    /// The TLS library refused its settings.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// Idle connections are closed after this; most servers keep theirs for at least as long.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// The name that requests carry.
pub const USER_AGENT: &str = concat!("cosgate/", env!("CARGO_PKG_VERSION"));

/// A client that trusts the authorities in `ca_file` alone, or without one those of the system, and keeps up to `idle` connections for
/// the next requests.
pub fn client(ca_file: Option<&Path>, idle: usize) -> Result<HttpClient, TlsSetupError> {
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls(ca_file)?)
        .https_or_http()
        .enable_http1()
        .build();
    Ok(Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(idle)
        .build(connector))
}

/// TLS 1.2 and 1.3, trusting the bundle alone or, without one, what the system trusts.
pub fn tls(ca_file: Option<&Path>) -> Result<rustls::ClientConfig, TlsSetupError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?;
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(path) => add_bundle(&mut roots, path)?,
        None => {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
        }
    }
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
