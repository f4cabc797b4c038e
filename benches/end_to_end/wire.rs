//! The benchmark's connections, in clear and under TLS. Any certificate will do: what is measured is on this machine.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use clap::ValueEnum;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::TLS13;
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, StreamOwned,
};

/// A connection.
pub enum Wire {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// Makes connections private. Its memory of sessions is its own: the data connections of an FTP session resume that of
/// the control connection, as servers may ask.
#[derive(Debug, Clone)]
pub struct Privacy(Arc<ClientConfig>);

/// The one way of encryption that both ends of a measurement speak, so that all contenders do the same work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Cipher {
    #[value(name = "aes-128")]
    Aes128,
    #[value(name = "aes-256")]
    Aes256,
}

impl Cipher {
    /// TLS 1.3 with this cipher alone.
    pub fn provider(self) -> Arc<CryptoProvider> {
        let suite = match self {
            Cipher::Aes128 => aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
            Cipher::Aes256 => aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384,
        };
        Arc::new(CryptoProvider {
            cipher_suites: vec![suite],
            ..aws_lc_rs::default_provider()
        })
    }
}

/// The way a client of FTPS makes its connections private.
#[derive(Debug, Clone, Copy)]
pub struct Ftps {
    pub cipher: Cipher,
    /// Data connections resume the session of the control connection.
    pub resumes: bool,
}

impl Privacy {
    pub fn new(ftps: Ftps) -> io::Result<Self> {
        let provider = ftps.cipher.provider();
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])
            .map_err(io::Error::other)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
            .with_no_client_auth();
        if !ftps.resumes {
            config.resumption = Resumption::disabled();
        }
        Ok(Privacy(Arc::new(config)))
    }

    /// The handshake, to its end.
    pub fn wrap(&self, mut socket: TcpStream) -> io::Result<Wire> {
        // a handshake is several small writes
        socket.set_nodelay(true)?;
        let name = ServerName::IpAddress(socket.peer_addr()?.ip().into());
        let mut tls = ClientConnection::new(Arc::clone(&self.0), name).map_err(io::Error::other)?;
        while tls.is_handshaking() {
            tls.complete_io(&mut socket)?;
        }
        Ok(Wire::Tls(Box::new(StreamOwned::new(tls, socket))))
    }
}

impl Wire {
    /// Ends what is sent, with TLS's goodbye. Session tickets that came meanwhile are read first: the kernel answers a close beside
    /// unread bytes with RST, which takes the last bytes of an upload from a server that has not read them yet.
    pub fn finish(self) -> io::Result<()> {
        if let Wire::Tls(mut stream) = self {
            stream.conn.send_close_notify();
            stream.flush()?;
            stream.sock.set_nonblocking(true)?;
            let mut unread = [0; 4096];
            while stream.sock.read(&mut unread).is_ok_and(|length| length > 0) {}
        }
        Ok(())
    }
}

impl Read for Wire {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Wire::Plain(socket) => socket.read(buf),
            Wire::Tls(stream) => stream.read(buf),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Wire::Plain(socket) => socket.write(buf),
            Wire::Tls(stream) => stream.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Wire::Plain(socket) => socket.flush(),
            Wire::Tls(stream) => stream.flush(),
        }
    }
}

/// Takes every certificate, and checks that who shows it has its key, as every client does.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
