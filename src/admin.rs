//! The admin port: probes and metrics over HTTP.
//!
//! `/livez` answers as long as the runtime does. `/readyz` says whether clients should be sent here, and if not, why.
//! `/metrics` is for Prometheus.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tracing::warn;

use crate::ftp::listener::Frontend;
use crate::metrics::{Exposition, Format};
use crate::store::Chain;

/// An answer of the store is good for so long, so that probes can't load it.
const STORE_ANSWER_HOLDS: Duration = Duration::from_secs(10);

/// How long a probe waits for the store.
const STORE_WITHIN: Duration = Duration::from_secs(5);

struct Admin {
    frontend: Arc<Frontend>,
    metrics: Exposition,
    store: Mutex<Option<(Instant, Result<(), String>)>>,
}

/// Serves the admin port until the gateway has stopped.
pub async fn serve(listener: TcpListener, frontend: Arc<Frontend>, metrics: Exposition) {
    let stop = frontend.stop.clone();
    let admin = Arc::new(Admin {
        frontend,
        metrics,
        store: Mutex::new(None),
    });
    let routes = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics_text))
        .with_state(admin);
    let served = axum::serve(listener, routes)
        .with_graceful_shutdown(async move { stop.cancelled().await })
        .await;
    if let Err(error) = served {
        warn!(%error, "the admin port failed");
    }
}

/// Binds the admin port.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

async fn metrics_text(State(admin): State<Arc<Admin>>, headers: HeaderMap) -> Response {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    let format = Format::accepted(accept.unwrap_or_default());
    match admin.metrics.text(format) {
        Ok(text) => ([(CONTENT_TYPE, format.content_type())], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn ready(State(admin): State<Arc<Admin>>) -> (StatusCode, String) {
    let mut reasons = Vec::new();
    if admin.frontend.drain.is_cancelled() {
        reasons.push("the gateway is stopping".to_owned());
    }
    reasons.extend(admin.frontend.masquerade.not_ready());
    if let Err(reason) = admin.store_answer().await {
        reasons.push(reason);
    }
    if reasons.is_empty() {
        let notes = admin.frontend.masquerade.notes();
        let notes: String = notes.iter().map(|note| format!("note: {note}\n")).collect();
        (StatusCode::OK, format!("ready\n{notes}"))
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("not ready\n{}\n", reasons.join("\n")),
        )
    }
}

impl Admin {
    /// The store's last answer, asked again when it is old. Probes that come meanwhile wait for the same answer.
    async fn store_answer(&self) -> Result<(), String> {
        let mut last = self.store.lock().await;
        if let Some((at, answer)) = &*last
            && at.elapsed() < STORE_ANSWER_HOLDS
        {
            return answer.clone();
        }
        let answer = match tokio::time::timeout(STORE_WITHIN, self.frontend.store.probe()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                warn!(error = %Chain(&error), "the store does not answer the probe");
                Err(format!("the store: {error}"))
            }
            Err(_) => Err("the store does not answer in time".to_owned()),
        };
        *last = Some((Instant::now(), answer.clone()));
        answer
    }
}
