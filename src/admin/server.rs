//! Serves HTTP to few, and for a bounded time: what is asked here is small, and must be answered when much else fails.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// Connections at a time: probes, Prometheus, and a few browsers. More are closed at once, so that none waits.
const CONNECTIONS: usize = 128;

/// Time for the head of a request, so also between two.
const HEAD_WITHIN: Duration = Duration::from_secs(10);

/// Bytes of a head.
const HEAD_BYTES: usize = 16 * 1024;

/// A connection is asked to end after this time, and ended after [`END_WITHIN`] more, whether its client reads or not.
const LIFETIME: Duration = Duration::from_secs(60);

/// See [`LIFETIME`].
const END_WITHIN: Duration = Duration::from_secs(10);

/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves `routes` until `stop`.
pub async fn serve(listener: TcpListener, routes: Router, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        let socket = match accepted {
            Ok((socket, _)) => socket,
            Err(error) => {
                // out of descriptors, most likely: the loop must not spin
                warn!(%error, "a connection to the admin port could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            debug!("too many connections to the admin port");
            continue;
        };
        let (routes, stop) = (routes.clone(), stop.clone());
        tokio::spawn(async move {
            connection(socket, routes, stop).await;
            drop(place);
        });
    }
}

async fn connection(socket: TcpStream, routes: Router, stop: CancellationToken) {
    let _ = socket.set_nodelay(true);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(socket), TowerToHyperService::new(routes));
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        () = tokio::time::sleep(LIFETIME) => {}
        () = stop.cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    // an error is the client's own affair
    let _ = tokio::time::timeout(END_WITHIN, connection).await;
}
