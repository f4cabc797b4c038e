//! Connections to the store: HTTP/1.1 over TCP or TLS, kept for the next request.
//!
//! The SDK's own client (`aws-smithy-http-client`) is made of the same crates, but two things can't be set there:
//!
//! - The read buffer of a connection. hyper's own grows to 408 KiB, and a body that its reader takes slowly holds more than one of
//!   them, so hundreds of slow downloads cost more than the budget that they are given. See [`READ_BUFFER`].
//! - The end of a request that is given up. hyper flushes what it has begun to send before it closes a connection, and a
//!   store that reads nothing keeps it from that for good, with the part of an aborted upload. Here the connection is
//!   closed at once; see [`Exchange`].
//!
//! HTTP/1.1 only: each request has a connection of its own, whose end concerns no other request. With HTTP/2 all would share one,
//! and up to 2 MiB of each answer would wait in memory before anybody asks for it.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use aws_sdk_s3::config::http::HttpRequest;
use aws_sdk_s3::error::{BoxError, ConnectorError};
use aws_smithy_runtime_api::client::connection::{CaptureSmithyConnection, ConnectionMetadata};
use aws_smithy_types::retry::ErrorKind;
use bytes::Bytes;
use futures::task::AtomicWaker;
use hyper::body::{Body, Incoming};
use hyper::header::PROXY_AUTHORIZATION;
use hyper::http::Extensions;
use hyper::http::uri::Scheme;
use hyper::{Request, Response, Uri};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{
    CaptureConnection, Connected, HttpConnector, HttpInfo, capture_connection,
};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tower::Service;

use crate::http_client::IDLE_TIMEOUT;
use crate::records::Records;

/// The most bytes that are read from the store at a time. A body that its reader takes slowly holds up to [`HELD_PIECES`] of this size.
/// Each piece wakes its reader: with 256 KiB a download of 1 GiB costs 3 to 9 % more CPU time, with 128 and 64 KiB a fifth more.
/// 400 slow downloads hold 0.20 MiB each beyond the budget as it is, 0.12 with 256 KiB, 0.09 with 128 KiB.
pub(super) const READ_BUFFER: usize = 512 * 1024;

/// The pieces that are held of a body that isn't taken: one with its reader, one that waits, and the buffer for the next one.
pub(super) const HELD_PIECES: usize = 3;

/// The same as [`READ_BUFFER`] for an answer that is asked for by [`in_small_pieces`]. hyper keeps a buffer also with an idle connection,
/// so these have connections of their own. The head of an answer must fit into half of it; S3 limits its largest part, metadata, to 2 KiB.
const SMALL_READ_BUFFER: usize = 32 * 1024;

/// Marks a request whose answer is to cost little memory.
#[derive(Debug, Clone, Copy)]
struct InSmallPieces;

/// Has the answer read in small pieces, since memory is short.
pub(super) fn in_small_pieces(request: &mut HttpRequest) {
    request.add_extension(InSmallPieces);
}

/// The connections of one process to its stores, for requests with bodies of type `B`.
pub(super) struct Connections<B> {
    client: legacy::Client<Dialer, B>,
    /// For answers that cost little memory.
    small: legacy::Client<Dialer, B>,
    proxies: Arc<Matcher>,
}

impl<B> fmt::Debug for Connections<B> {
    /// Without the proxies, whose addresses may hold passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").finish_non_exhaustive()
    }
}

impl<B> Connections<B>
where
    B: Body<Data = Bytes, Error = BoxError> + Send + Unpin + 'static,
{
    /// Makes no connection yet. One that isn't there after `connect_timeout` is given up, and so is one whose peer takes nothing
    /// for `silence`. A proxy comes from the environment.
    pub fn new(tls: rustls::ClientConfig, connect_timeout: Duration, silence: Duration) -> Self {
        let proxies = Arc::new(Matcher::from_env());
        let dialer = Dialer {
            https: Dialer::https(tls, &proxies, silence),
            proxies: Arc::clone(&proxies),
            timeout: connect_timeout,
        };
        let client = |read_buffer| {
            legacy::Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(IDLE_TIMEOUT)
                // the buffer doubles when it grows, and a read fills all of it
                .http1_max_buf_size(read_buffer / 2)
                .build(dialer.clone())
        };
        Connections {
            client: client(READ_BUFFER),
            small: client(SMALL_READ_BUFFER),
            proxies,
        }
    }

    /// Sends a request, whose body `in_http` watches, and returns the head of the answer. Dropped before that, it ends the
    /// connection; so does the [`Exchange`] if the store answers before it has the whole request.
    pub fn send(
        &self,
        mut request: Request<B>,
        in_http: Weak<()>,
    ) -> impl Future<Output = Result<(Response<Incoming>, Exchange), ConnectorError>> + Send + 'static
    {
        self.authorize(&mut request);
        let connection = capture_connection(&mut request);
        if let Some(sdk) = request.extensions().get::<CaptureSmithyConnection>() {
            let connection = connection.clone();
            // the SDK poisons a connection whose request failed in a way that may pass, so that the next attempt gets another
            sdk.set_connection_retriever(move || metadata(&connection));
        }
        let client = match request.extensions().get::<InSmallPieces>() {
            Some(InSmallPieces) => &self.small,
            None => &self.client,
        };
        let answer = client.request(request);
        async move {
            let mut answer = std::pin::pin!(answer);
            // behind the answer, so that it is dropped first: a connection goes back to the pool as a closed one
            let mut exchange = Exchange {
                connection,
                in_http,
                is_answered: false,
            };
            let head = answer.as_mut().await.map_err(sort)?;
            exchange.is_answered = true;
            Ok((head, exchange))
        }
    }

    /// A proxy that gets the request itself wants its credentials in there; a tunnel has them in its own request.
    fn authorize(&self, request: &mut Request<B>) {
        let proxy = forward_proxy(&self.proxies, request.uri());
        if let Some(authorization) = proxy.as_ref().and_then(Intercept::basic_auth) {
            let headers = request.headers_mut();
            headers.insert(PROXY_AUTHORIZATION, authorization.clone());
        }
    }
}

/// A request and its answer on a connection. Dropped before both are through, it closes the connection.
pub(super) struct Exchange {
    connection: CaptureConnection,
    /// Dead once HTTP has sent all of the request's body.
    in_http: Weak<()>,
    is_answered: bool,
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let is_sent = self.in_http.strong_count() == 0;
        if self.is_answered && is_sent {
            return;
        }
        if let Some(connected) = &*self.connection.connection_metadata() {
            let mut extras = Extensions::new();
            connected.get_extras(&mut extras);
            if let Some(closing) = extras.get::<Arc<Closing>>() {
                closing.close();
            }
        }
    }
}

/// The connection in the SDK's words.
fn metadata(captured: &CaptureConnection) -> Option<ConnectionMetadata> {
    let connection = captured.clone();
    let connected = captured.connection_metadata();
    let connected = (*connected).as_ref()?;
    let mut extras = Extensions::new();
    connected.get_extras(&mut extras);
    let addresses = extras.get::<HttpInfo>();
    let mut metadata = ConnectionMetadata::builder()
        .proxied(connected.is_proxied())
        .poison_fn(move || {
            if let Some(connected) = &*connection.connection_metadata() {
                connected.poison();
            }
        });
    metadata
        .set_local_addr(addresses.map(HttpInfo::local_addr))
        .set_remote_addr(addresses.map(HttpInfo::remote_addr));
    Some(metadata.build())
}

/// Connects to the store, directly or through a proxy, and speaks TLS where the scheme is https.
#[derive(Clone)]
struct Dialer {
    https: HttpsConnector<Hop>,
    proxies: Arc<Matcher>,
    timeout: Duration,
}

impl Dialer {
    fn https(
        mut tls: rustls::ClientConfig,
        proxies: &Arc<Matcher>,
        silence: Duration,
    ) -> HttpsConnector<Hop> {
        let mut tcp = HttpConnector::new();
        // the connectors around it speak https
        tcp.enforce_http(false);
        // a small request behind a large one would wait for an acknowledgement
        tcp.set_nodelay(true);
        // also for bytes that the kernel still has when the connection is closed
        tcp.set_tcp_user_timeout(Some(silence));
        let to_proxy = HttpsConnector::from((tcp.clone(), tls.clone()));
        let hop = Hop {
            tcp,
            to_proxy,
            proxies: Arc::clone(proxies),
        };
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        HttpsConnector::from((hop, tls))
    }
}

impl Service<Uri> for Dialer {
    type Response = TokioIo<Connection>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<TokioIo<Connection>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, destination: Uri) -> Self::Future {
        let has_forward_proxy = forward_proxy(&self.proxies, &destination).is_some();
        let connecting = tokio::time::timeout(self.timeout, self.https.call(destination));
        let limit = self.timeout;
        Box::pin(async move {
            let io = connecting.await.map_err(|_| ConnectTimeout(limit))??;
            Ok(TokioIo::new(Connection {
                io: TokioIo::new(io),
                records: Records::default(),
                has_forward_proxy,
                closing: Arc::default(),
            }))
        })
    }
}

/// Connects over TCP to the store, or so that what follows reaches the store through a proxy.
#[derive(Clone)]
struct Hop {
    tcp: HttpConnector,
    to_proxy: HttpsConnector<HttpConnector>,
    proxies: Arc<Matcher>,
}

/// TCP, in TLS if it leads to a proxy that wants it.
type HopStream = MaybeHttpsStream<TokioIo<TcpStream>>;

impl Service<Uri> for Hop {
    type Response = HopStream;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<HopStream, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, destination: Uri) -> Self::Future {
        let Some(proxy) = proxy(&self.proxies, &destination) else {
            let connecting = self.tcp.call(destination);
            return Box::pin(async move { Ok(MaybeHttpsStream::Http(connecting.await?)) });
        };
        if destination.scheme() != Some(&Scheme::HTTPS) {
            return self.to_proxy.call(proxy.uri().clone());
        }
        let mut tunnel = Tunnel::new(proxy.uri().clone(), self.to_proxy.clone());
        if let Some(authorization) = proxy.basic_auth() {
            tunnel = tunnel.with_auth(authorization.clone());
        }
        let tunnelling = tunnel.call(destination);
        Box::pin(async move { Ok(tunnelling.await?) })
    }
}

/// The proxy for a destination. None for this machine itself, where the embedded store is: no proxy elsewhere reaches it.
fn proxy(proxies: &Matcher, destination: &Uri) -> Option<Intercept> {
    let host = destination.host()?.trim_matches(['[', ']']);
    let is_here = host == "localhost"
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback());
    if is_here {
        return None;
    }
    proxies.intercept(destination)
}

/// The proxy that gets requests for a destination itself, instead of a tunnel.
fn forward_proxy(proxies: &Matcher, destination: &Uri) -> Option<Intercept> {
    let is_plain = destination.scheme() == Some(&Scheme::HTTP);
    is_plain.then(|| proxy(proxies, destination)).flatten()
}

/// A connection that can be closed from outside, whatever it is waiting for.
struct Connection {
    io: TokioIo<MaybeHttpsStream<HopStream>>,
    records: Records,
    has_forward_proxy: bool,
    closing: Arc<Closing>,
}

/// The switch for it.
#[derive(Default)]
struct Closing {
    is_closed: AtomicBool,
    /// HTTP's task of the connection.
    waiting: AtomicWaker,
}

impl Closing {
    fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.waiting.wake();
    }

    fn check(&self) -> io::Result<()> {
        match self.is_closed.load(Ordering::Acquire) {
            false => Ok(()),
            true => Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "its request was given up",
            )),
        }
    }
}

impl Connection {
    /// Reads or writes, unless the connection is closed before that or meanwhile.
    fn poll<T>(
        &mut self,
        context: &mut Context<'_>,
        mut operation: impl FnMut(
            Pin<&mut TokioIo<MaybeHttpsStream<HopStream>>>,
            &mut Context<'_>,
        ) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        self.closing.check()?;
        let polled = operation(Pin::new(&mut self.io), context);
        if polled.is_pending() {
            self.closing.waiting.register(context.waker());
            // it may have been closed since
            self.closing.check()?;
        }
        polled
    }
}

impl Drop for Connection {
    /// A closed one is reset: the kernel would go on to send what the store may never take.
    fn drop(&mut self) {
        if self.closing.check().is_ok() {
            return;
        }
        let hop = match self.io.inner() {
            MaybeHttpsStream::Http(hop) => hop,
            MaybeHttpsStream::Https(tls) => tls.inner().get_ref().0.inner(),
        };
        let tcp = match hop {
            MaybeHttpsStream::Http(tcp) => tcp,
            MaybeHttpsStream::Https(tls) => tls.inner().get_ref().0.inner(),
        };
        let _ = tcp.inner().set_zero_linger();
    }
}

impl legacy::connect::Connection for Connection {
    fn connected(&self) -> Connected {
        let connected = self.io.inner().connected();
        connected
            .proxy(self.has_forward_proxy)
            .extra(Arc::clone(&self.closing))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if matches!(self.io.inner(), MaybeHttpsStream::Http(_)) {
            return self.poll(context, |io, context| io.poll_read(context, buffer));
        }
        let mut records = std::mem::take(&mut self.records);
        let polled = self.poll(context, |io, context| {
            records.poll_read(io, context, buffer)
        });
        self.records = records;
        polled
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll(context, |io, context| io.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll(context, |io, context| {
            io.poll_write_vectored(context, slices)
        })
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(context, |io, context| io.poll_flush(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(context, |io, context| io.poll_shutdown(context))
    }
}

/// No connection in time.
#[derive(Debug, thiserror::Error)]
#[error("no connection within {0:?} (storage.connect_timeout)")]
struct ConnectTimeout(Duration);

/// Sorts an error by what the SDK's retries and the caller make of it.
fn sort(error: legacy::Error) -> ConnectorError {
    let (is_of_connecting, error) = (error.is_connect(), BoxError::from(error));
    if find::<ConnectTimeout>(&*error).is_some() {
        return ConnectorError::timeout(error);
    }
    let has_io = find::<io::Error>(&*error).is_some();
    let Some(of_http) = find::<hyper::Error>(&*error) else {
        return match is_of_connecting || has_io {
            true => ConnectorError::io(error),
            false => ConnectorError::other(error, None),
        };
    };
    if of_http.is_timeout() {
        ConnectorError::timeout(error)
    } else if of_http.is_user() {
        ConnectorError::user(error)
    } else if of_http.is_closed() || of_http.is_canceled() || has_io {
        ConnectorError::io(error)
    } else if of_http.is_incomplete_message() {
        // the store closed the connection before it answered
        ConnectorError::other(error, Some(ErrorKind::TransientError))
    } else {
        ConnectorError::other(error, None)
    }
}

/// The first error of this type in a chain of causes.
fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    std::iter::successors(Some(error), |error| (*error).source())
        .find_map(|error| error.downcast_ref())
}

#[cfg(test)]
mod tests;
