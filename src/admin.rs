//! The admin port: probes, metrics and the status page over HTTP.
//!
//! `/livez` answers as long as the runtime does. `/readyz` says whether clients should be sent here, and if not, why.
//! `/metrics` is for Prometheus. `/` is the status page, for those whom [`access`] lets in; `/status` is its content alone,
//! with which it keeps itself up to date.

pub mod access;
pub mod page;
pub mod probe;
pub mod readiness;
pub mod readings;
mod server;
pub mod snapshot;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tracing::{info, warn};

use parking_lot::Mutex;

use crate::chain::Chain;
use crate::config::{self, StoreOutage};
use crate::ftp::frontend::Frontend;
use crate::metrics::{Exposition, Format};
use crate::store::Store;
use access::{Access, Refused};
use probe::StoreProbe;
use readiness::Readiness;
use server::Client;
use snapshot::Snapshot;

/// A snapshot serves everybody who looks within this time, so that many who look cost no more than one.
const SNAPSHOT_HOLDS: Duration = Duration::from_millis(500);

/// A wrong token is answered after this pause: with the bound on connections an address has 16 guesses in it.
const WRONG_TOKEN_PAUSE: Duration = Duration::from_secs(1);

struct Admin {
    frontend: Arc<Frontend>,
    metrics: Exposition,
    store: Arc<StoreProbe>,
    store_outage: StoreOutage,
    access: Access,
    last: Mutex<Option<(Instant, Arc<Snapshot>)>>,
}

/// The interval at which the store is asked when nobody asks here.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Serves the admin port until the gateway has stopped.
pub async fn serve(
    listener: TcpListener,
    settings: config::Admin,
    frontend: Arc<Frontend>,
    store: Arc<StoreProbe>,
    metrics: Exposition,
) {
    let stop = frontend.stop.clone();
    let Ok(address) = listener.local_addr() else {
        return;
    };
    let access = Access::new(&settings, address.ip());
    if matches!(access, Access::Unprotected) {
        info!(%address, "no status page, since admin.listen can be reached from other machines: set admin.token to have one");
    }
    let admin = Arc::new(Admin {
        frontend,
        metrics,
        store,
        store_outage: settings.store_outage,
        access,
        last: Mutex::new(None),
    });
    let routes = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics_text))
        .route("/", get(status_page))
        .route("/status", get(status_content))
        .with_state(Arc::clone(&admin));
    // who asks seldom, as Prometheus does, gets an answer that is not older than this
    let looks = async {
        loop {
            admin.store.verdict().await;
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::select! {
        () = server::serve(listener, routes, stop) => {}
        () = looks => {}
    }
}

/// Asks `store` for whoever wants to know whether it can be reached.
pub fn store_probe(store: Store) -> StoreProbe {
    StoreProbe::new(move || {
        let store = store.clone();
        Box::pin(async move {
            let answer = store.probe().await;
            answer.map_err(|error| Chain(&error).to_string())
        })
    })
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
    let store = admin.store.verdict().await;
    let readiness = Readiness::of(&admin.frontend, &store, admin.store_outage);
    let status = if readiness.is_ready() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, readiness.text())
}

async fn status_page(
    State(admin): State<Arc<Admin>>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
) -> Response {
    admin.show(client, &headers, page::page).await
}

async fn status_content(
    State(admin): State<Arc<Admin>>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
) -> Response {
    let content = |snapshot: &Snapshot| page::content(snapshot).into_string();
    admin.show(client, &headers, content).await
}

impl Admin {
    /// The page that `render` makes of the gateway as it is now, for who may see it.
    async fn show(
        &self,
        client: Client,
        headers: &HeaderMap,
        render: impl Fn(&Snapshot) -> String,
    ) -> Response {
        let mut answer = match self.access.check(headers) {
            Ok(()) => {
                let html = render(&*self.snapshot().await);
                ([(CONTENT_TYPE, "text/html; charset=utf-8")], html).into_response()
            }
            Err(refused) => {
                if refused == Refused::WrongToken {
                    warn!(event = "token_refused", client = %client.0, "somebody asked for the status page with a wrong token");
                    tokio::time::sleep(WRONG_TOKEN_PAUSE).await;
                }
                refused.into_response()
            }
        };
        let policies: [(HeaderName, &'static str); 6] = [
            (CONTENT_SECURITY_POLICY, page::policy()),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (X_FRAME_OPTIONS, "DENY"),
            (REFERRER_POLICY, "no-referrer"),
            (CACHE_CONTROL, "no-store"),
            (
                HeaderName::from_static("cross-origin-resource-policy"),
                "same-origin",
            ),
        ];
        for (name, value) in policies {
            let value = HeaderValue::from_static(value);
            answer.headers_mut().insert(name, value);
        }
        answer
    }

    async fn snapshot(&self) -> Arc<Snapshot> {
        // asked before the lock: it may wait for the store
        let store = self.store.verdict().await;
        let mut last = self.last.lock();
        if let Some((at, snapshot)) = &*last
            && at.elapsed() < SNAPSHOT_HOLDS
        {
            return Arc::clone(snapshot);
        }
        let snapshot = Arc::new(Snapshot::of(&self.frontend, store, self.store_outage));
        *last = Some((Instant::now(), Arc::clone(&snapshot)));
        snapshot
    }
}
