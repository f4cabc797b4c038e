//! One scenario per thing that an API server does to a watcher, with a double in place of the HTTP client.

use std::pin::Pin;

use http_body_util::StreamBody;
use hyper::body::{Bytes, Frame};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tower_test::mock::{Handle, SendResponse};

use super::*;

type Request = http::Request<Body>;
type Frames = Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, std::io::Error>> + Send>>;
type Response = http::Response<StreamBody<Frames>>;

/// The API server's end of the client.
struct ApiServer {
    requests: Pin<Box<Handle<Request, Response>>>,
    watch: ServiceWatch,
    _stop: tokio_util::sync::DropGuard,
}

/// An answer that is awaited.
struct Asked {
    query: String,
    answer: SendResponse<Response>,
}

/// An open watch.
struct Watching(mpsc::UnboundedSender<Result<Frame<Bytes>, std::io::Error>>);

impl ApiServer {
    fn start() -> Self {
        let (service, handle) = tower_test::mock::pair::<Request, Response>();
        let stop = CancellationToken::new();
        let client = Client::new(service, "default");
        let watch = watch_with(client, "ftp", "control", Contact::default(), stop.clone());
        ApiServer {
            requests: Box::pin(handle),
            watch,
            _stop: stop.drop_guard(),
        }
    }

    async fn next(&mut self) -> Asked {
        let next = tokio::time::timeout(Duration::from_secs(600), self.requests.next_request());
        let (request, answer) = next.await.expect("a request").expect("a client");
        assert_eq!(request.method(), "GET");
        assert_eq!(request.uri().path(), "/api/v1/namespaces/ftp/services");
        let query = request.uri().query().unwrap_or_default().to_owned();
        // without it, a rule with resourceNames would forbid list and watch
        assert!(
            query.contains("fieldSelector=metadata.name%3Dcontrol"),
            "{query}"
        );
        Asked { query, answer }
    }

    async fn list(&mut self) -> Asked {
        let asked = self.next().await;
        assert!(!asked.query.contains("watch=true"), "{}", asked.query);
        asked
    }

    async fn watch(&mut self, version: u32) -> Asked {
        let asked = self.next().await;
        assert!(asked.query.contains("watch=true"), "{}", asked.query);
        // a lost way to the API server is noticed by the end of a watch that doesn't come
        let seconds = format!("timeoutSeconds={WATCH_SECONDS}");
        assert!(asked.query.contains(&seconds), "{}", asked.query);
        let version = format!("resourceVersion={version}");
        assert!(asked.query.contains(&version), "{}", asked.query);
        asked
    }

    /// Answers a list with `items` and opens the watch that follows.
    async fn list_and_watch(&mut self, version: u32, items: &[Value]) -> Watching {
        self.list().await.items(version, items);
        self.watch(version).await.open()
    }

    async fn eventually(&self, what: &str, condition: impl Fn(&ServiceStatus) -> bool) {
        let mut status = self.watch.status.clone();
        let held = status.wait_for(|status| condition(status));
        tokio::time::timeout(Duration::from_secs(600), held)
            .await
            .unwrap_or_else(|_| panic!("never: {what}"))
            .expect("still watching");
    }

    async fn says(&self, address: &str) {
        let address: Ipv4Addr = address.parse().expect("an address");
        let what = format!("{address} is seen");
        self.eventually(&what, |status| status.address == Some(address))
            .await;
    }

    fn status(&self) -> ServiceStatus {
        self.watch.status.borrow().clone()
    }

    /// Nothing more is asked for `time`.
    async fn is_left_alone_for(&mut self, time: Duration) {
        let asked = tokio::time::timeout(time, self.requests.next_request()).await;
        assert!(asked.is_err(), "there was a request");
    }
}

impl Asked {
    fn json(self, code: u16, body: &Value) {
        let response = http::Response::builder().status(code);
        let frame = Frame::data(Bytes::from(body.to_string()));
        let frames: Frames = Box::pin(futures::stream::iter([Ok(frame)]));
        let response = response.body(StreamBody::new(frames));
        self.answer.send_response(response.expect("a response"));
    }

    fn items(self, version: u32, items: &[Value]) {
        self.json(
            200,
            &json!({"apiVersion": "v1", "kind": "ServiceList",
                "metadata": {"resourceVersion": version.to_string()}, "items": items}),
        );
    }

    fn fails(self, code: u16, message: &str) {
        self.json(code, &failure(code, message));
    }

    fn refuse_connection(self) {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        self.answer.send_error(refused);
    }

    fn open(self) -> Watching {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let frames: Frames = Box::pin(futures::stream::poll_fn(move |cx| receiver.poll_recv(cx)));
        let response = http::Response::new(StreamBody::new(frames));
        self.answer.send_response(response);
        Watching(sender)
    }
}

impl Watching {
    fn event(&self, kind: &str, object: &Value) {
        let line = json!({"type": kind, "object": object}).to_string() + "\n";
        self.0
            .send(Ok(Frame::data(line.into())))
            .expect("it is still watched");
    }

    fn cut(self) {
        let reset = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        self.0.send(Err(reset)).expect("it is still watched");
    }
}

fn failure(code: u16, message: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Status", "status": "Failure",
        "code": code, "reason": "Test", "message": message})
}

fn service(version: u32, ingress: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "control", "namespace": "ftp", "uid": "1", "resourceVersion": version.to_string()},
        "spec": {"type": "LoadBalancer"}, "status": {"loadBalancer": {"ingress": ingress}}})
}

fn at(version: u32, ip: &str) -> Value {
    service(version, json!([{"ip": ip}]))
}

#[tokio::test(start_paused = true)]
async fn the_address_follows_the_status_through_deletion_and_re_creation() {
    let mut server = ApiServer::start();
    assert!(server.status().missing.contains("has not been read yet"));
    let watching = server.list_and_watch(1, &[service(1, Value::Null)]).await;
    server
        .eventually("why there is none", |status| {
            status.missing.contains("ftp/control has no IPv4 address")
        })
        .await;
    watching.event("MODIFIED", &at(2, "203.0.113.7"));
    server.says("203.0.113.7").await;
    watching.event("DELETED", &at(3, "203.0.113.7"));
    server
        .eventually("that it is gone", |status| {
            status.missing.contains("does not exist")
        })
        .await;
    server.says("203.0.113.7").await;
    // the new one has no address at first, which is no reason to forget the old one's
    watching.event("ADDED", &service(4, json!([])));
    server
        .eventually("the new one", |status| status.missing.contains("yet"))
        .await;
    server.says("203.0.113.7").await;
    watching.event("MODIFIED", &at(5, "203.0.113.8"));
    server.says("203.0.113.8").await;
    assert_eq!(server.status().trouble, None);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_comes_later_is_waited_for() {
    let mut server = ApiServer::start();
    let watching = server.list_and_watch(1, &[]).await;
    server
        .eventually("that there is none", |status| {
            status.missing.contains("ftp/control does not exist")
        })
        .await;
    watching.event("ADDED", &at(2, "203.0.113.7"));
    server.says("203.0.113.7").await;
}

#[tokio::test(start_paused = true)]
async fn the_first_usable_ipv4_address_counts_and_then_the_host_name() {
    let ingress = json!([{"hostname": "a.example.com"}, {"ip": "2001:db8::1"}, {"ip": "0.0.0.0"}, {"ip": "203.0.113.7"}, {"ip": "203.0.113.8"}]);
    let mut server = ApiServer::start();
    let watching = server.list_and_watch(1, &[service(1, ingress)]).await;
    server.says("203.0.113.7").await;
    watching.event(
        "MODIFIED",
        &service(2, json!([{"hostname": "b.example.com"}])),
    );
    server
        .eventually("the name alone", |status| {
            status.address.is_none() && status.hostname.as_deref() == Some("b.example.com")
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_service_of_another_type_is_named_as_the_reason() {
    let mut service = service(1, Value::Null);
    service["spec"]["type"] = "ClusterIP".into();
    let mut server = ApiServer::start();
    let _watching = server.list_and_watch(1, &[service]).await;
    server
        .eventually("the type", |status| {
            status.missing.contains("of type ClusterIP")
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn an_old_version_as_an_event_leads_to_a_new_list() {
    let mut server = ApiServer::start();
    let watching = server.list_and_watch(1, &[at(1, "203.0.113.7")]).await;
    watching.event("ERROR", &failure(410, "too old resource version"));
    let _watching = server.list_and_watch(9, &[at(9, "203.0.113.9")]).await;
    server.says("203.0.113.9").await;
    assert_eq!(
        server.status().trouble,
        None,
        "it is part of a watch's life"
    );
}

#[tokio::test(start_paused = true)]
async fn an_old_version_as_the_answer_leads_to_a_new_list() {
    let mut server = ApiServer::start();
    server.list().await.items(1, &[at(1, "203.0.113.7")]);
    server.watch(1).await.fails(410, "too old resource version");
    let _watching = server.list_and_watch(9, &[at(9, "203.0.113.9")]).await;
    server.says("203.0.113.9").await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_calls_every_version_old_is_not_flooded() {
    let mut server = ApiServer::start();
    let begun = tokio::time::Instant::now();
    for version in 1..=20 {
        let address = format!("203.0.113.{version}");
        server.list().await.items(version, &[at(version, &address)]);
        server.watch(version).await.fails(410, "too old");
        server.says(&address).await;
    }
    let each = begun.elapsed() / 20;
    assert!(each >= Duration::from_secs(5), "a list every {each:?}");
}

#[tokio::test(start_paused = true)]
async fn a_cut_connection_is_taken_up_where_it_was() {
    let mut server = ApiServer::start();
    let watching = server.list_and_watch(1, &[at(1, "203.0.113.7")]).await;
    watching.event("MODIFIED", &at(2, "203.0.113.8"));
    server.says("203.0.113.8").await;
    watching.cut();
    let watching = server.watch(2).await.open();
    let bookmark =
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"resourceVersion": "7"}});
    watching.event("BOOKMARK", &bookmark);
    // and one that ends in order, as the server does every few minutes
    drop(watching);
    let watching = server.watch(7).await.open();
    watching.event("MODIFIED", &at(8, "203.0.113.9"));
    server.says("203.0.113.9").await;
    assert_eq!(server.status().trouble, None);
}

#[tokio::test(start_paused = true)]
async fn what_is_forbidden_stands_in_the_status_with_the_fix_until_it_is_allowed() {
    let mut server = ApiServer::start();
    for _ in 0..5 {
        let forbidden = "services is forbidden: User \"x\" cannot list";
        server.list().await.fails(403, forbidden);
    }
    let trouble = server.status().trouble.expect("it is told");
    assert!(trouble.contains("cannot list"), "{trouble}");
    assert!(trouble.contains("resourceNames: [control]"), "{trouble}");
    let _watching = server.list_and_watch(1, &[at(1, "203.0.113.7")]).await;
    server.says("203.0.113.7").await;
    server
        .eventually("all is well", |status| status.trouble.is_none())
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_not_known_is_reported_with_the_fix() {
    let mut server = ApiServer::start();
    server.list().await.fails(401, "Unauthorized");
    server
        .eventually("the trouble", |status| status.trouble.is_some())
        .await;
    let trouble = server.status().trouble.expect("it is told");
    assert!(trouble.starts_with("Unauthorized"), "{trouble}");
    assert!(
        trouble.contains("automountServiceAccountToken"),
        "{trouble}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_list_without_the_right_to_watch_is_no_recovery() {
    let mut server = ApiServer::start();
    let mut said = 0;
    let mut status = server.watch.status.clone();
    for _ in 0..4 {
        server.list().await.items(1, &[at(1, "203.0.113.7")]);
        for _ in 0..STARTS {
            server.watch(1).await.fails(403, "cannot watch");
            server
                .eventually("the trouble", |status| status.trouble.is_some())
                .await;
        }
        said += usize::from(status.has_changed().expect("still watching"));
        status.borrow_and_update();
    }
    assert_eq!(said, 1, "the address and the trouble, once");
    server.says("203.0.113.7").await;
}

#[tokio::test(start_paused = true)]
async fn a_dead_api_server_changes_nothing_and_is_found_again() {
    let mut server = ApiServer::start();
    let watching = server.list_and_watch(1, &[at(1, "203.0.113.7")]).await;
    server.says("203.0.113.7").await;
    watching.cut();
    for _ in 0..STARTS {
        server.watch(1).await.refuse_connection();
    }
    for _ in 0..10 {
        server.list().await.refuse_connection();
    }
    let status = server.status();
    assert_eq!(status.address, Some([203, 0, 113, 7].into()));
    let trouble = status.trouble.expect("it is told");
    assert!(trouble.contains("can't be reached"), "{trouble}");
    let _watching = server.list_and_watch(5, &[at(5, "203.0.113.8")]).await;
    server.says("203.0.113.8").await;
    server
        .eventually("all is well", |status| status.trouble.is_none())
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_cannot_be_started_again_and_again_begins_with_a_list() {
    let mut server = ApiServer::start();
    server.list().await.items(1, &[at(1, "203.0.113.7")]);
    for _ in 0..STARTS {
        server.watch(1).await.fails(500, "etcd is on fire");
    }
    let _watching = server.list_and_watch(4, &[at(4, "203.0.113.8")]).await;
    server.says("203.0.113.8").await;
}

#[tokio::test(start_paused = true)]
async fn a_list_that_is_never_answered_is_asked_for_again() {
    let mut server = ApiServer::start();
    let unanswered = server.list().await;
    let again = server.list().await;
    let trouble = server.status().trouble.expect("it is told");
    assert!(trouble.contains("does not answer"), "{trouble}");
    drop(unanswered);
    again.items(1, &[at(1, "203.0.113.7")]);
    server.says("203.0.113.7").await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_service_costs_no_request_beside_its_watches() {
    let mut server = ApiServer::start();
    let _watching = server.list_and_watch(1, &[at(1, "203.0.113.7")]).await;
    // the server itself ends a watch after the time that it was asked for
    let almost = Duration::from_secs(u64::from(WATCH_SECONDS) - 1);
    server.is_left_alone_for(almost).await;
}
