//! HTTP in front of the store: accepting, signatures, and an end in bounded time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use hyper::body::Incoming;
use hyper::header::{DATE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use s3s::auth::{S3Auth, SecretKey};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, HttpError, S3Result, s3_error};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::backend::Backend;
use crate::telemetry::LineLimit;

/// One line in a while says that accepting fails, not one for each try.
static NOT_ACCEPTED: LineLimit = LineLimit::per(Duration::from_secs(10));

/// Serves until `stop` closes, and then for at most [`GRACE`] what was going on.
pub(super) async fn serve(
    listener: TcpListener,
    service: S3Service,
    mut stop: watch::Receiver<()>,
) {
    let mut connections = JoinSet::new();
    loop {
        let full = connections.len() >= MAX_CONNECTIONS;
        tokio::select! {
            // `changed` fails when the sender is dropped, which is the one signal to stop.
            _ = stop.changed() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if !full => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve_one(stream, service.clone(), stop.clone()));
                }
                Err(error) => {
                    // Without a pause a full table of file descriptors becomes a busy loop, and without a limit a flood of lines.
                    if let Some(left_out) = NOT_ACCEPTED.pass() {
                        warn!(%error, left_out, "embedded store could not accept a connection");
                    }
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    let drained = timeout(GRACE, async {
        while connections.join_next().await.is_some() {}
    })
    .await;
    if drained.is_err() {
        warn!(
            connections = connections.len(),
            "embedded store cuts connections to stop in time"
        );
        connections.shutdown().await;
    }
}

async fn serve_one(stream: TcpStream, service: S3Service, mut stop: watch::Receiver<()>) {
    // Answers are small and waited for. A socket that refuses the option is dead, and says so soon.
    let _ = stream.set_nodelay(true);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(
            TokioIo::new(stream),
            service_fn(|request| dated(&service, request)),
        );
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        _ = stop.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        debug!(%error, "connection to the embedded store ended");
    }
}

/// An answer with the time of now. hyper writes one that it keeps: after the clock was set back, that is the time of before, and
/// clients that sign with the store's time, as SDKs do, are refused until the clock has come there again.
async fn dated(
    service: &S3Service,
    request: Request<Incoming>,
) -> Result<Response<Body>, HttpError> {
    let mut response = Service::call(service, request).await?;
    let now = DateTime::from(SystemTime::now()).fmt(Format::HttpDate);
    if let Some(now) = now.ok().and_then(|now| HeaderValue::try_from(now).ok()) {
        response.headers_mut().insert(DATE, now);
    }
    Ok(response)
}

/// The S3 protocol on top of a backend, for one pair of credentials.
pub(super) fn service(backend: Backend, credentials: Arc<Credentials>) -> S3Service {
    let mut builder = S3ServiceBuilder::new(backend);
    builder.set_auth(Auth(credentials));
    builder.build()
}

pub(super) struct Credentials {
    pub(super) access_key_id: String,
    pub(super) secret_access_key: SecretString,
}

struct Auth(Arc<Credentials>);

#[async_trait]
impl S3Auth for Auth {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        if access_key == self.0.access_key_id {
            Ok(SecretKey::from(self.0.secret_access_key.expose_secret()))
        } else {
            Err(s3_error!(
                InvalidAccessKeyId,
                "The AWS Access Key Id you provided does not exist in our records."
            ))
        }
    }
}

/// Binds the address, which the caller has checked to be a loopback one.
pub(super) async fn bind(address: SocketAddr) -> std::io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// The longest time that requests may go on after the signal to stop.
pub(super) const GRACE: Duration = Duration::from_secs(5);

/// Connections at once; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 4096;

/// The longest time that a client may take to send the head of a request, and so to be idle between two. Longer
/// than the 90 seconds after which SDKs drop idle connections: when the server closes first, a
/// request may be on its way.
const HEADER_TIMEOUT: Duration = Duration::from_secs(120);

/// The pause after a connection that could not be accepted, as without descriptors; others may end meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
