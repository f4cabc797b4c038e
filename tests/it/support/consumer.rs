//! A consumer of events by HTTP, which behaves well or badly.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::Value;
use tokio::net::TcpSocket;

use super::eventually;

/// An address that nobody listens at, and nobody else gets: connections are refused.
pub struct Absent(TcpSocket);

impl Absent {
    pub fn new() -> (Self, SocketAddr) {
        let socket = TcpSocket::new_v4().expect("a socket");
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        socket.bind(any).expect("a free port");
        let address = socket.local_addr().expect("bound");
        (Absent(socket), address)
    }
}

/// A consumer: what it was sent, and what it answers.
#[derive(Clone, Default)]
pub struct Consumer(Arc<Mutex<Inner>>);

#[derive(Default)]
pub struct Inner {
    pub taken: Vec<Value>,
    pub headers: Vec<HeaderMap>,
    /// Answers to the next requests, before it takes what comes.
    answers: Vec<StatusCode>,
    asked: usize,
}

impl Consumer {
    pub async fn start() -> (Self, SocketAddr) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a free port");
        let address = listener.local_addr().expect("bound");
        let consumer = Consumer::default();
        consumer.serve(listener);
        (consumer, address)
    }

    /// Begins to take what comes to `place`.
    pub fn serve_at(&self, place: Absent) {
        self.serve(place.0.listen(64).expect("it is bound"));
    }

    pub fn serve(&self, listener: tokio::net::TcpListener) {
        let app = Router::new()
            .route("/hook", post(take))
            .with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
    }

    pub fn answers(&self, answers: &[StatusCode]) {
        self.inner().answers = answers.to_vec();
    }

    pub fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().expect("not poisoned")
    }

    pub fn taken(&self) -> Vec<Value> {
        self.inner().taken.clone()
    }

    pub fn asked(&self) -> usize {
        self.inner().asked
    }

    /// The events, once there are `count` of them.
    pub async fn wait_for(&self, count: usize) -> Vec<Value> {
        eventually("the events came", async || self.taken().len() >= count).await;
        let taken = self.taken();
        assert_eq!(taken.len(), count, "{taken:?}");
        taken
    }
}

async fn take(State(consumer): State<Consumer>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let refusal = {
        let mut inner = consumer.inner();
        inner.asked += 1;
        (!inner.answers.is_empty()).then(|| inner.answers.remove(0))
    };
    if let Some(refusal) = refusal {
        // longer than the shortest time that a scenario gives an event
        tokio::time::sleep(Duration::from_millis(5)).await;
        return refusal;
    }
    let mut inner = consumer.inner();
    inner
        .taken
        .push(serde_json::from_slice(&body).expect("JSON"));
    inner.headers.push(headers);
    StatusCode::ACCEPTED
}
