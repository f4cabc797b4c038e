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
//! - With `tls.session_reuse: required` data connections must resume a session that began with their own control
//!   connection ([`OwnTickets`]). So no other client can take a data connection over, even from the same address.
//! - A client that showed a certificate on the control connection can't show another one on a data connection.
//! - Sessions keep the certificates with which they began; new ones get the newest.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustls::pki_types::CertificateDer;
use rustls::server::{NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::version::{TLS12, TLS13};
use rustls::{HandshakeKind, RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::certificates::{self, CertificateError, Pair, common_name};
use crate::config::{self, CertificateSource, ClientCertificates, SessionReuse};
use crate::ftp::net::Stream;

/// The certificates in force, replaced when their files change.
#[derive(Debug)]
pub struct Tls {
    settings: config::Tls,
    tickets: Arc<dyn ProducesTickets>,
    current: watch::Sender<Arc<Acceptors>>,
    /// Hashes of what the files held at the last look; an unchanged mistake is not told twice.
    seen: Mutex<Vec<Option<u64>>>,
    failing: watch::Sender<Option<Failing>>,
}

/// The files hold something that can't be used; the last good pair stays in force.
#[derive(Debug, Clone)]
pub struct Failing {
    /// When this was first seen.
    pub since: SystemTime,
    /// Why.
    pub error: CertificateError,
}

/// What handshakes need; one for each state of the files.
#[derive(Debug)]
struct Acceptors {
    /// For connections that the client reads from.
    common: Arc<ServerConfig>,
    /// For those that it only writes to: without tickets.
    upload: Arc<ServerConfig>,
    not_after: SystemTime,
}

/// A session whose control connection is protected.
#[derive(Debug)]
pub struct Secured {
    acceptors: Arc<Acceptors>,
    /// The marks of its tickets, where data connections must resume.
    marks: Option<Marks>,
    certificate: Option<CertificateDer<'static>>,
    /// The common name of the client's certificate, if it showed one that has a name.
    pub client_name: Option<String>,
}

type Mark = [u8; 16];
type Marks = Arc<Mutex<VecDeque<Mark>>>;

/// Tickets of one connection. What it gives carries its own random mark, encrypted; it takes what carries a mark of its
/// session. A data connection's mark becomes one of those only after it has itself resumed: a stranger whose full
/// handshake was refused has got nothing that would let it in the next time.
///
/// (rustls' resumption data would be simpler, but 0.23 hands it over in TLS 1.3 only.)
#[derive(Debug)]
struct OwnTickets {
    gives: Mark,
    takes: Marks,
    inner: Arc<dyn ProducesTickets>,
}

impl ProducesTickets for OwnTickets {
    fn enabled(&self) -> bool {
        self.inner.enabled()
    }

    fn lifetime(&self) -> u32 {
        self.inner.lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.inner.encrypt(&[&self.gives, plain].concat())
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        let marked = self.inner.decrypt(cipher)?;
        let (mark, plain) = marked.split_first_chunk()?;
        lock(&self.takes).contains(mark).then(|| plain.to_vec())
    }
}

fn lock(marks: &Marks) -> std::sync::MutexGuard<'_, VecDeque<Mark>> {
    marks.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Marks that one session remembers; clients use the newest tickets, or again and again the first, which stays.
const MAX_MARKS: usize = 16;

/// The TLS handshake of a data connection came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum DataRefused {
    /// The handshake failed or took too long.
    #[error("TLS handshake on the data connection")]
    Handshake(#[source] io::Error),
    /// It doesn't resume the session of its control connection, and `tls.session_reuse` is `required`.
    #[error("the data connection doesn't resume the TLS session of its control connection")]
    NotResumed,
    /// Its client certificate is not that of the control connection.
    #[error("the data connection shows another client certificate than the control connection")]
    OtherClient,
}

/// TLS can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A certificate, a key or the client authorities.
    #[error("{} can't be used", key_of(&.0.part))]
    Certificate(#[from] CertificateError),
    /// The library refuses.
    #[error("TLS can't be set up")]
    Library(#[from] rustls::Error),
    /// The client authorities hold nothing to verify with.
    #[error("tls.client_ca can't be used")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// The key of the configuration that names a file.
fn key_of(part: &certificates::Part) -> &'static str {
    match part {
        certificates::Part::Certificate => "tls.cert",
        certificates::Part::Key => "tls.key",
        certificates::Part::ClientAuthorities => "tls.client_ca",
    }
}

impl Tls {
    /// Reads the certificates; `names` go into a self-signed one.
    pub fn new(settings: config::Tls, names: Vec<String>) -> Result<Arc<Self>, TlsError> {
        let tickets = rustls::crypto::aws_lc_rs::Ticketer::new()?;
        let (pair, seen) = match &settings.source {
            CertificateSource::Files { cert, key } => {
                let seen = look(&settings);
                (Pair::read(cert, key)?, seen)
            }
            CertificateSource::SelfSigned => (Pair::self_signed(names)?, Vec::new()),
        };
        let acceptors = Acceptors::new(&settings, &pair, &tickets)?;
        Ok(Arc::new(Tls {
            settings,
            tickets,
            current: watch::Sender::new(Arc::new(acceptors)),
            seen: Mutex::new(seen),
            failing: watch::Sender::new(None),
        }))
    }

    /// The fault of the files, while there is one.
    pub fn failing(&self) -> Option<Failing> {
        self.failing.borrow().clone()
    }

    /// When the certificate in force expires.
    pub fn not_after(&self) -> SystemTime {
        self.current.borrow().not_after
    }

    /// `tls.required`
    pub fn required(&self) -> config::TlsRequired {
        self.settings.required
    }

    /// Looks at the files every `tls.reload_interval` until `stop`; returns at once where there are none.
    pub async fn watch_files(self: Arc<Self>, stop: CancellationToken) {
        if !matches!(self.settings.source, CertificateSource::Files { .. }) {
            return;
        }
        let mut ticks = tokio::time::interval(self.settings.reload_interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = stop.cancelled() => return,
            }
            let tls = Arc::clone(&self);
            // a mounted volume may hang; the runtime's threads must not
            let _ = tokio::task::spawn_blocking(move || tls.reload()).await;
        }
    }

    /// Takes what the files hold now, if they changed and are whole; else the last good pair stays in force.
    pub fn reload(&self) {
        let now = look(&self.settings);
        {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if *seen == now {
                return;
            }
            *seen = now;
        }
        let CertificateSource::Files { cert, key } = &self.settings.source else {
            return;
        };
        let made = Pair::read(cert, key)
            .map_err(TlsError::from)
            .and_then(|pair| Acceptors::new(&self.settings, &pair, &self.tickets));
        match made {
            Ok(acceptors) => {
                let expires = humantime::format_rfc3339_seconds(acceptors.not_after);
                self.current.send_replace(Arc::new(acceptors));
                self.failing.send_replace(None);
                info!(event = "certificate", %expires, "new certificate in force");
            }
            Err(fault) => {
                let error = match fault {
                    TlsError::Certificate(error) => error,
                    other => CertificateError {
                        part: certificates::Part::Certificate,
                        advice: other.to_string(),
                    },
                };
                error!(
                    event = "certificate", key = key_of(&error.part), %error,
                    "the changed certificate files can't be used, the last good pair stays in force"
                );
                self.failing.send_modify(|failing| {
                    let since = failing
                        .as_ref()
                        .map_or_else(SystemTime::now, |old| old.since);
                    *failing = Some(Failing { since, error });
                });
            }
        }
    }
}

/// Hashes of the files; `None` for one that can't be read.
fn look(settings: &config::Tls) -> Vec<Option<u64>> {
    let mut files: Vec<&PathBuf> = Vec::new();
    if let CertificateSource::Files { cert, key } = &settings.source {
        files.extend([cert, key]);
    }
    if let Some(clients) = &settings.clients {
        files.push(&clients.authorities);
    }
    files
        .into_iter()
        .map(|file| certificates::fingerprint(file))
        .collect()
}

impl Acceptors {
    fn new(
        settings: &config::Tls,
        pair: &Pair,
        tickets: &Arc<dyn ProducesTickets>,
    ) -> Result<Self, TlsError> {
        let authorities = match &settings.clients {
            Some(clients) => Some((
                certificates::client_authorities(&clients.authorities)?,
                clients,
            )),
            None => None,
        };
        let mut common = server_config(settings, pair, authorities)?;
        common.ticketer = Arc::clone(tickets);
        let mut upload = common.clone();
        upload.send_tls13_tickets = 0;
        Ok(Acceptors {
            common: Arc::new(common),
            upload: Arc::new(upload),
            not_after: pair.not_after,
        })
    }
}

/// The same configuration with tickets of its own, and the mark that they carry.
fn with_own_tickets(config: &ServerConfig, takes: &Marks) -> io::Result<(Arc<ServerConfig>, Mark)> {
    let mut gives = Mark::default();
    getrandom::fill(&mut gives).map_err(|error| io::Error::other(error.to_string()))?;
    let mut config = config.clone();
    config.ticketer = Arc::new(OwnTickets {
        gives,
        takes: Arc::clone(takes),
        inner: Arc::clone(&config.ticketer),
    });
    // the other way to resume in TLS 1.2, by the session's id, knows no marks
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok((Arc::new(config), gives))
}

impl Tls {
    /// The handshake on a control connection, within `tls.handshake_timeout`.
    pub async fn accept_control(&self, socket: TcpStream) -> io::Result<(Stream, Secured)> {
        let acceptors = self.current.borrow().clone();
        let mut config = Arc::clone(&acceptors.common);
        let mut marks = None;
        if self.settings.session_reuse == SessionReuse::Required {
            let takes = Marks::default();
            let (own, mark) = with_own_tickets(&config, &takes)?;
            config = own;
            lock(&takes).push_back(mark);
            marks = Some(takes);
        }
        let stream = self.accept(&config, socket).await?;
        let certificate = client_certificate(&stream);
        let secured = Secured {
            acceptors,
            marks,
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
        let config = if upload {
            &session.acceptors.upload
        } else {
            &session.acceptors.common
        };
        let stream = match &session.marks {
            None => self
                .accept(config, socket)
                .await
                .map_err(DataRefused::Handshake)?,
            Some(marks) => self.accept_resumed(config, socket, marks).await?,
        };
        match (&session.certificate, client_certificate(&stream)) {
            (Some(own), Some(shown)) if *own != shown => Err(DataRefused::OtherClient),
            (None, Some(_)) => Err(DataRefused::OtherClient),
            _ => Ok(Stream::Tls(Box::new(stream))),
        }
    }

    async fn accept_resumed(
        &self,
        config: &ServerConfig,
        socket: TcpStream,
        marks: &Marks,
    ) -> Result<TlsStream<TcpStream>, DataRefused> {
        let (config, mark) = with_own_tickets(config, marks).map_err(DataRefused::Handshake)?;
        let accepted = self.accept(&config, socket).await;
        let stream = accepted.map_err(DataRefused::Handshake)?;
        if stream.get_ref().1.handshake_kind() != Some(HandshakeKind::Resumed) {
            return Err(DataRefused::NotResumed);
        }
        let mut marks = lock(marks);
        if marks.len() == MAX_MARKS {
            marks.remove(1);
        }
        marks.push_back(mark);
        Ok(stream)
    }

    async fn accept(
        &self,
        config: &Arc<ServerConfig>,
        socket: TcpStream,
    ) -> io::Result<TlsStream<TcpStream>> {
        let handshake = TlsAcceptor::from(Arc::clone(config)).accept(socket);
        tokio::time::timeout(self.settings.handshake_timeout, handshake)
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }
}

fn client_certificate(stream: &TlsStream<TcpStream>) -> Option<CertificateDer<'static>> {
    let chain = stream.get_ref().1.peer_certificates()?;
    chain
        .first()
        .map(|certificate| certificate.clone().into_owned())
}

fn server_config(
    settings: &config::Tls,
    pair: &Pair,
    authorities: Option<(RootCertStore, &ClientCertificates)>,
) -> Result<ServerConfig, TlsError> {
    let versions = match settings.min_version {
        config::TlsVersion::Tls12 => &[&TLS13, &TLS12][..],
        config::TlsVersion::Tls13 => &[&TLS13][..],
    };
    let builder = ServerConfig::builder_with_provider(certificates::provider())
        .with_protocol_versions(versions)?;
    let builder = match authorities {
        None => builder.with_no_client_auth(),
        Some((roots, clients)) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(
                Arc::new(roots),
                certificates::provider(),
            );
            let verifier = if clients.required {
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
