//! Certificates and TLS clients for scenarios.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A client's connection.
pub enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Wire {
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Wire::Plain(socket) => socket,
            Wire::Tls(stream) => stream.get_ref().0,
        }
    }

    /// The socket without TLS's goodbye.
    pub fn into_tcp(self) -> TcpStream {
        match self {
            Wire::Plain(socket) => socket,
            Wire::Tls(stream) => stream.into_inner().0,
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Wire::Plain(io) => Pin::new(io).poll_read(cx, buf),
            Wire::Tls(io) => Pin::new(io.as_mut()).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Wire::Plain(io) => Pin::new(io).poll_write(cx, buf),
            Wire::Tls(io) => Pin::new(io.as_mut()).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Wire::Plain(io) => Pin::new(io).poll_flush(cx),
            Wire::Tls(io) => Pin::new(io.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Wire::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Wire::Tls(io) => Pin::new(io.as_mut()).poll_shutdown(cx),
        }
    }
}

/// An authority, and a directory with a server's pair that it signed: `tls.crt`, `tls.key` and the authority's `ca.crt`.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: TempDir,
}

impl Authority {
    pub fn new() -> Self {
        let mut parameters = CertificateParams::new(Vec::new()).expect("no names");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters
            .distinguished_name
            .push(DnType::CommonName, "test authority");
        let key = KeyPair::generate().expect("a key");
        let authority = Authority {
            issuer: CertifiedIssuer::self_signed(parameters, key).expect("signs"),
            directory: tempfile::tempdir().expect("a temporary directory"),
        };
        std::fs::write(authority.file("ca.crt"), authority.issuer.pem()).expect("writes");
        authority.write_server_pair(authority.directory.path(), "server");
        authority
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A new pair for 127.0.0.1 as `tls.crt` and `tls.key` in `directory`.
    pub fn write_server_pair(&self, directory: &Path, common_name: &str) {
        let (certificate, key) = self.sign(common_name, ExtendedKeyUsagePurpose::ServerAuth);
        std::fs::write(directory.join("tls.crt"), certificate.pem()).expect("writes");
        std::fs::write(directory.join("tls.key"), key.serialize_pem()).expect("writes");
    }

    /// The same, valid until then.
    pub fn write_server_pair_until(&self, directory: &Path, until: SystemTime) {
        let usage = ExtendedKeyUsagePurpose::ServerAuth;
        let (certificate, key) = self.sign_until("short-lived", usage, Some(until));
        std::fs::write(directory.join("tls.crt"), certificate.pem()).expect("writes");
        std::fs::write(directory.join("tls.key"), key.serialize_pem()).expect("writes");
    }

    fn sign(
        &self,
        common_name: &str,
        usage: ExtendedKeyUsagePurpose,
    ) -> (rcgen::Certificate, KeyPair) {
        self.sign_until(common_name, usage, None)
    }

    /// What a server of this name speaks TLS with.
    pub fn server(&self, host: &str) -> rustls::ServerConfig {
        let parameters = CertificateParams::new(vec![host.to_owned()]).expect("a name");
        let key = KeyPair::generate().expect("a key");
        let certificate = parameters.signed_by(&key, &self.issuer).expect("signs");
        rustls::ServerConfig::builder_with_provider(cosgate::certificates::provider())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::from(key))
            .expect("a pair")
    }

    fn sign_until(
        &self,
        common_name: &str,
        usage: ExtendedKeyUsagePurpose,
        until: Option<SystemTime>,
    ) -> (rcgen::Certificate, KeyPair) {
        let names = vec!["127.0.0.1".to_owned()];
        let mut parameters = CertificateParams::new(names).expect("an address");
        parameters
            .distinguished_name
            .push(DnType::CommonName, common_name);
        parameters.extended_key_usages = vec![usage];
        if let Some(until) = until {
            parameters.not_after = until.into();
        }
        let key = KeyPair::generate().expect("a key");
        let certificate = parameters.signed_by(&key, &self.issuer).expect("signs");
        (certificate, key)
    }

    /// The settings that turn FTPS on with this pair, and more.
    pub fn settings(&self, more: &[&str]) -> Vec<String> {
        let own = [
            format!("TLS__CERT={}", self.file("tls.crt").display()),
            format!("TLS__KEY={}", self.file("tls.key").display()),
            "RELOAD__INTERVAL=20ms".to_owned(),
        ];
        own.into_iter()
            .chain(more.iter().map(|setting| (*setting).to_owned()))
            .collect()
    }

    /// A client that trusts this authority and speaks any version.
    pub fn client(&self) -> TlsClient {
        TlsClient::new(self, &[&TLS13, &TLS12], None)
    }

    /// One that speaks TLS 1.2 only.
    pub fn client_12(&self) -> TlsClient {
        TlsClient::new(self, &[&TLS12], None)
    }

    /// One with a certificate of its own.
    pub fn client_named(&self, common_name: &str) -> TlsClient {
        self.client_named_by(common_name, &[&TLS13, &TLS12])
    }

    /// The same, speaking these versions only.
    pub fn client_named_by(
        &self,
        common_name: &str,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> TlsClient {
        let (certificate, key) = self.sign(common_name, ExtendedKeyUsagePurpose::ClientAuth);
        let own = (certificate.der().clone(), PrivateKeyDer::from(key));
        TlsClient::new(self, versions, Some(own))
    }
}

/// A client's TLS configuration, with a memory of sessions to resume.
#[derive(Clone)]
pub struct TlsClient(Arc<ClientConfig>);

impl TlsClient {
    fn new(
        authority: &Authority,
        versions: &[&'static rustls::SupportedProtocolVersion],
        own: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
    ) -> Self {
        let mut roots = RootCertStore::empty();
        roots
            .add(authority.issuer.der().clone())
            .expect("an authority");
        let builder = ClientConfig::builder_with_provider(cosgate::certificates::provider())
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(roots);
        let config = match own {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => builder
                .with_client_auth_cert(vec![certificate], key)
                .expect("a pair"),
        };
        TlsClient(Arc::new(config))
    }

    /// For a client that makes its connections itself.
    pub fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.0)
    }

    /// The same client without memory of earlier sessions.
    pub fn forgetful(&self) -> Self {
        let mut config = ClientConfig::clone(&self.0);
        config.resumption = rustls::client::Resumption::disabled();
        TlsClient(Arc::new(config))
    }

    pub async fn handshake(&self, socket: TcpStream) -> io::Result<Wire> {
        let name = ServerName::try_from("127.0.0.1").expect("an address");
        let connector = TlsConnector::from(Arc::clone(&self.0));
        let stream = connector.connect(name, socket).await?;
        Ok(Wire::Tls(Box::new(stream)))
    }
}
