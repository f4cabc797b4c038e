//! FTPS (RFC 4217): the certificates in force, handshakes, and what ties a data connection to its session.
//!
//! ```text
//! AUTH TLS ──> 234 ──> handshake on the control connection ──> Secured, the session's own state
//! PROT P, STOR ──> 150 ──> handshake on the data connection ──> bytes
//! ```
//!
//! Rules that are easy to get wrong:
//! - On data connections of uploads no TLS 1.3 tickets are sent. An uploader never reads, so the tickets would turn its
//!   close into a reset and cut the tail of the file. Clients resume the control connection's session instead; its
//!   tickets are stateless, so one of them serves any number of data connections, and a client that uses each ticket
//!   once gets fresh ones with every download and listing.
//! - What a data connection resumes says whose it is; see `resumption.rs`.
//! - A data connection shows the certificate that its control connection showed: no other one, and not none either, which
//!   `tls.client_auth: optional` would let through; nor one where that showed none.
//! - Sessions keep the certificates with which they began; new ones get the newest.
//! - Other authorities of clients come with other keys for tickets, and an empty store of TLS 1.2 sessions: what was resumed
//!   would not be verified.

mod resumption;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use rustls::server::{ProducesTickets, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::version::{TLS12, TLS13};
use rustls::{HandshakeKind, RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::certificates::{self, CertificateError, Pair, Part, Validity, common_name};
use crate::chain::Chain;
use crate::config::{self, CertificateSource, SessionReuse};
use crate::ftp::tls::resumption::{Lineage, Marked, Own, Users};
use crate::net::{ReadAhead, Stream, reset_on_close};
use crate::reload::{self, Digest, ReadError, Reload, Watched};

/// Bytes of an upload that are read from its socket at once.
const READ_AHEAD: usize = 128 * 1024;

/// No buffer of its own: TLS always asks for more than that.
const BARE: usize = 1;

/// The certificates in force, replaced when their files change.
#[derive(Debug)]
pub struct Tls {
    settings: config::Tls,
    tickets: Arc<dyn ProducesTickets>,
    users: Users,
    current: watch::Sender<Arc<Acceptors>>,
    /// The state of the files.
    state: watch::Sender<Reload>,
    /// Of the files as they were at the start.
    digest: Digest,
    /// Of the authorities of clients alone.
    authorities: Digest,
}

/// The settings of handshakes; one for each state of the files.
#[derive(Debug)]
struct Acceptors {
    /// For connections that the client reads from.
    common: Arc<ServerConfig>,
    /// For those that it only writes to: without tickets.
    upload: Arc<ServerConfig>,
    validity: Validity,
}

/// A session whose control connection is protected.
#[derive(Debug)]
pub struct Secured {
    acceptors: Arc<Acceptors>,
    tie: Tie,
    certificate: Option<CertificateDer<'static>>,
    /// The common name of the client's certificate, if it showed one that has a name.
    pub client_name: Option<String>,
}

/// The tie between data connections to their control connection.
#[derive(Debug)]
enum Tie {
    /// They must resume its session.
    Required(Own),
    /// They must not resume another user's.
    Optional(Lineage),
}

/// The TLS handshake of a data connection came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum DataRefused {
    /// The handshake failed or took too long.
    #[error("TLS handshake on the data connection")]
    Handshake(#[source] io::Error),
    /// It doesn't resume the session of its control connection, and `tls.session_reuse` is `required`.
    #[error("the data connection doesn't resume the TLS session of its control connection")]
    NotResumed,
    /// It resumes the session of another user's control connection.
    #[error("the data connection resumes the TLS session of another user's control connection")]
    OtherUser,
    /// Its client certificate is not that of the control connection, or only one of the two has one.
    #[error("the data connection doesn't show the client certificate of the control connection")]
    OtherClient,
}

/// TLS can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A certificate, a key or the client authorities.
    #[error("{} can't be used", key_of(&.0.part))]
    Certificate(#[from] CertificateError),
    /// A file can't be read any more.
    #[error(transparent)]
    Unreadable(#[from] ReadError),
    /// The library refuses.
    #[error("TLS can't be set up")]
    Library(#[from] rustls::Error),
    /// The client authorities hold nothing to verify with.
    #[error("tls.client_ca can't be used")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// The key of the configuration that names a file.
fn key_of(part: &Part) -> &'static str {
    match part {
        Part::Certificate => "tls.cert",
        Part::Key => "tls.key",
        Part::ClientAuthorities => "tls.client_ca",
    }
}

impl Tls {
    /// Reads the certificates; `names` go into a self-signed one.
    pub fn new(settings: config::Tls, names: Vec<String>) -> Result<Arc<Self>, TlsError> {
        let tickets = rustls::crypto::aws_lc_rs::Ticketer::new()?;
        let (acceptors, digest, authorities) = match &settings.source {
            CertificateSource::Files { .. } => {
                let files = files(&settings);
                let contents = files
                    .iter()
                    .map(|(part, file)| certificates::contents(*part, file));
                let contents: Vec<Vec<u8>> = contents.collect::<Result<_, _>>()?;
                let acceptors = Acceptors::from_files(&settings, &contents, &tickets)?;
                (
                    acceptors,
                    reload::digest(&contents),
                    authorities_digest(&contents),
                )
            }
            CertificateSource::SelfSigned => {
                let pair = Pair::self_signed(names)?;
                let authorities = match &settings.clients {
                    Some(clients) => Some(certificates::client_authorities(&clients.authorities)?),
                    None => None,
                };
                (
                    Acceptors::new(&settings, &pair, authorities, &tickets)?,
                    Digest::default(),
                    Digest::default(),
                )
            }
        };
        Ok(Arc::new(Tls {
            settings,
            tickets,
            users: Users::default(),
            current: watch::Sender::new(Arc::new(acceptors)),
            state: watch::Sender::new(Reload::now()),
            digest,
            authorities,
        }))
    }

    /// The state of the files.
    pub fn state(&self) -> Reload {
        self.state.borrow().clone()
    }

    /// When the certificate in force is valid.
    pub fn validity(&self) -> Validity {
        self.current.borrow().validity
    }

    /// When the certificate in force expires.
    pub fn not_after(&self) -> SystemTime {
        self.validity().until
    }

    /// True if there are clients that can't do without: FTPS is required, or there is a port for nothing else.
    pub fn is_needed(&self) -> bool {
        let settings = &self.settings;
        settings.required != config::TlsRequired::None || !settings.implicit_listen.is_empty()
    }

    /// `tls.required`
    pub fn required(&self) -> config::TlsRequired {
        self.settings.required
    }

    /// Follows the files, looking every `interval`, until `stop`; returns at once where there are none.
    pub async fn follow_files(self: Arc<Self>, interval: Duration, stop: CancellationToken) {
        if !matches!(self.settings.source, CertificateSource::Files { .. }) {
            return;
        }
        let paths = files(&self.settings).into_iter().map(|(_, path)| path);
        let mut files = Watched::new(paths.collect(), interval).seen(self.digest);
        let (mut tickets, mut authorities) = (Arc::clone(&self.tickets), self.authorities);
        loop {
            let changed = tokio::select! {
                changed = files.changed() => changed,
                () = stop.cancelled() => return,
            };
            let made = match changed {
                Ok(contents) => {
                    let of_contents = authorities_digest(&contents);
                    let its_tickets = if of_contents == authorities {
                        Ok(Arc::clone(&tickets))
                    } else {
                        // who resumes is not verified again: an old ticket would outlive its authority
                        rustls::crypto::aws_lc_rs::Ticketer::new().map_err(TlsError::from)
                    };
                    its_tickets.and_then(|its_tickets| {
                        let made = Acceptors::from_files(&self.settings, &contents, &its_tickets)?;
                        (tickets, authorities) = (its_tickets, of_contents);
                        Ok(made)
                    })
                }
                Err(error) => Err(error.into()),
            };
            match made {
                Ok(acceptors) => {
                    let expires = humantime::format_rfc3339_seconds(acceptors.validity.until);
                    self.current.send_replace(Arc::new(acceptors));
                    self.state.send_replace(Reload::now());
                    info!(event = "certificate", %expires, "new certificate in force");
                }
                Err(error) => {
                    error!(
                        event = "certificate_refused", error = %Chain(&error),
                        "the changed certificate files can't be used, the last good ones stay in force"
                    );
                    let text = Chain(&error).to_string();
                    self.state.send_modify(|state| state.failed(text));
                }
            }
        }
    }
}

/// Stands for the authorities of clients among the contents of [`files`].
fn authorities_digest(contents: &[Vec<u8>]) -> Digest {
    reload::digest(contents.get(2..).unwrap_or_default())
}

/// The files that make one state together: the chain, its key, and the authorities of clients if there are any.
fn files(settings: &config::Tls) -> Vec<(Part, PathBuf)> {
    let mut files = Vec::new();
    if let CertificateSource::Files { cert, key } = &settings.source {
        files.extend([(Part::Certificate, cert.clone()), (Part::Key, key.clone())]);
    }
    let clients = settings.clients.iter();
    files.extend(clients.map(|clients| (Part::ClientAuthorities, clients.authorities.clone())));
    files
}

impl Acceptors {
    /// From the contents of [`files`].
    fn from_files(
        settings: &config::Tls,
        contents: &[Vec<u8>],
        tickets: &Arc<dyn ProducesTickets>,
    ) -> Result<Self, TlsError> {
        let [chain, key, clients @ ..] = contents else {
            unreachable!("files() names a chain and a key, and each has its contents");
        };
        let pair = Pair::from_pem(chain, key)?;
        let authorities = match clients.first() {
            Some(pem) => Some(certificates::authorities_from_pem(pem)?),
            None => None,
        };
        Acceptors::new(settings, &pair, authorities, tickets)
    }

    fn new(
        settings: &config::Tls,
        pair: &Pair,
        authorities: Option<RootCertStore>,
        tickets: &Arc<dyn ProducesTickets>,
    ) -> Result<Self, TlsError> {
        let mut common = server_config(settings, pair, authorities)?;
        common.ticketer = Arc::clone(tickets);
        let mut upload = common.clone();
        upload.send_tls13_tickets = 0;
        Ok(Acceptors {
            common: Arc::new(common),
            upload: Arc::new(upload),
            validity: pair.validity,
        })
    }
}

impl Secured {
    /// Notes who has logged in, for data connections that resume this session.
    pub fn log_in(&self, user: &str) {
        if let Tie::Optional(lineage) = &self.tie {
            lineage.log_in(user);
        }
    }
}

impl Tls {
    /// The handshake on a control connection, within `tls.handshake_timeout`.
    pub async fn accept_control(&self, socket: TcpStream) -> io::Result<(Stream, Secured)> {
        let acceptors = self.current.borrow().clone();
        let config = &acceptors.common;
        let (stream, tie) = if self.settings.session_reuse == SessionReuse::Required {
            let own = Own::default();
            let stream = self.accept(&own.control(config)?, socket, BARE).await?;
            (stream, Tie::Required(own))
        } else {
            let mut lineage = Lineage::new(&self.users)?;
            let marked = lineage.control(config);
            let stream = self
                .accept(&marked.configured(config), socket, BARE)
                .await?;
            if is_resumed(&stream) {
                lineage.resumes(marked.shown());
            }
            (stream, Tie::Optional(lineage))
        };
        let certificate = client_certificate(&stream);
        let secured = Secured {
            acceptors,
            tie,
            client_name: certificate.as_ref().and_then(common_name),
            certificate,
        };
        Ok((Stream::Tls(Box::new(stream)), secured))
    }

    /// The handshake on one of a session's data connections. The socket is gone if it fails.
    pub async fn accept_data(
        &self,
        session: &Secured,
        socket: TcpStream,
        upload: bool,
    ) -> Result<Stream, DataRefused> {
        let (config, ahead) = if upload {
            (&session.acceptors.upload, READ_AHEAD)
        } else {
            (&session.acceptors.common, BARE)
        };
        let stream = match &session.tie {
            Tie::Required(own) => self.accept_own(config, socket, ahead, own).await?,
            Tie::Optional(lineage) => self.accept_of_user(config, socket, ahead, lineage).await?,
        };
        // a session that is resumed brings the certificate of its first handshake along
        if session.certificate != client_certificate(&stream) {
            return Err(DataRefused::OtherClient);
        }
        Ok(Stream::Tls(Box::new(stream)))
    }

    async fn accept_own(
        &self,
        config: &ServerConfig,
        socket: TcpStream,
        ahead: usize,
        own: &Own,
    ) -> Result<TlsStream<ReadAhead>, DataRefused> {
        let (config, mark) = own.data(config).map_err(DataRefused::Handshake)?;
        let accepted = self.accept(&config, socket, ahead).await;
        let stream = accepted.map_err(DataRefused::Handshake)?;
        if !is_resumed(&stream) {
            return Err(DataRefused::NotResumed);
        }
        own.remember(mark);
        Ok(stream)
    }

    async fn accept_of_user(
        &self,
        config: &ServerConfig,
        socket: TcpStream,
        ahead: usize,
        lineage: &Lineage,
    ) -> Result<TlsStream<ReadAhead>, DataRefused> {
        let marked = Marked::new(config);
        let accepted = self.accept(&marked.configured(config), socket, ahead).await;
        let stream = accepted.map_err(DataRefused::Handshake)?;
        match marked.shown() {
            Some(shown) if is_resumed(&stream) && lineage.is_foreign(shown) => {
                reset_on_close(stream.get_ref().0.get_ref());
                Err(DataRefused::OtherUser)
            }
            _ => Ok(stream),
        }
    }

    /// Reads up to `ahead` bytes from the socket at once, or as many as TLS asks for, if that is more.
    async fn accept(
        &self,
        config: &Arc<ServerConfig>,
        socket: TcpStream,
        ahead: usize,
    ) -> io::Result<TlsStream<ReadAhead>> {
        let socket = ReadAhead::with_capacity(ahead, socket);
        let handshake = TlsAcceptor::from(Arc::clone(config)).accept(socket);
        tokio::time::timeout(self.settings.handshake_timeout, handshake)
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }
}

fn is_resumed(stream: &TlsStream<ReadAhead>) -> bool {
    stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed)
}

fn client_certificate(stream: &TlsStream<ReadAhead>) -> Option<CertificateDer<'static>> {
    let chain = stream.get_ref().1.peer_certificates()?;
    chain
        .first()
        .map(|certificate| certificate.clone().into_owned())
}

fn server_config(
    settings: &config::Tls,
    pair: &Pair,
    authorities: Option<RootCertStore>,
) -> Result<ServerConfig, TlsError> {
    let versions = match settings.min_version {
        config::TlsVersion::Tls12 => &[&TLS13, &TLS12][..],
        config::TlsVersion::Tls13 => &[&TLS13][..],
    };
    let builder = ServerConfig::builder_with_provider(certificates::provider())
        .with_protocol_versions(versions)?;
    let builder = match authorities {
        None => builder.with_no_client_auth(),
        Some(roots) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(
                Arc::new(roots),
                certificates::provider(),
            );
            let verifier = if settings
                .clients
                .as_ref()
                .is_none_or(|clients| clients.required)
            {
                verifier
            } else {
                verifier.allow_unauthenticated()
            };
            builder.with_client_cert_verifier(verifier.build()?)
        }
    };
    let resolver = SingleCertAndKey::from(pair.certified.as_ref().clone());
    Ok(builder.with_cert_resolver(Arc::new(resolver)))
}
