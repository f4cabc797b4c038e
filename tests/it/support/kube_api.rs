//! A Kubernetes API server with one Service: lists, watches and versions as the real one has them, and its failures.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

/// The namespace of the kubeconfig.
const NAMESPACE: &str = "ftp";
/// The only Service that may be read, as a rule with `resourceNames` says.
const SERVICE: &str = "control";
/// Real servers send one a minute.
const BOOKMARK_EVERY: Duration = Duration::from_millis(200);

type Frames =
    Pin<Box<dyn futures::Stream<Item = Result<Frame<Bytes>, std::io::Error>> + Send + Sync>>;

/// The API server. It ends with the value.
pub struct KubeApi {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    news: watch::Sender<()>,
    /// The thing before it, if anything does.
    way: Option<SocketAddr>,
    serving: Option<JoinHandle<()>>,
    directory: TempDir,
}

/// The way a version that is forgotten is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// As the answer to the request.
    Status,
    /// As the first event of the watch.
    Event,
}

/// The next step of a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// It ends in the middle of the body.
    Short,
    /// It ends in order.
    Orderly,
}

struct State {
    /// The version of the whole cluster.
    version: u64,
    service: Option<Value>,
    uid: u64,
    /// Version, kind and object of each change.
    history: Vec<(u64, &'static str, Value)>,
    /// Versions below are forgotten.
    oldest: u64,
    gone: Gone,
    /// Watches that began before the first of these end as the second says.
    cut: (u64, Cut),
    watches: u64,
    lists: u64,
    forbidden: bool,
    events_forbidden: bool,
    events: Vec<Value>,
}

impl KubeApi {
    /// A server without the Service.
    pub async fn start() -> Self {
        let state = State {
            version: 100,
            service: None,
            uid: 0,
            history: Vec::new(),
            oldest: 0,
            gone: Gone::Status,
            cut: (0, Cut::Orderly),
            watches: 0,
            lists: 0,
            forbidden: false,
            events_forbidden: false,
            events: Vec::new(),
        };
        let mut api = KubeApi {
            address: ([127, 0, 0, 1], 0).into(),
            state: Arc::new(Mutex::new(state)),
            news: watch::Sender::new(()),
            way: None,
            serving: None,
            directory: tempfile::tempdir().expect("a temporary directory"),
        };
        api.come_back().await;
        api
    }

    /// The settings that have a gateway in a pod watch the Service of this server.
    pub fn settings(&self) -> Vec<String> {
        vec![
            "KUBERNETES__IN_CLUSTER=true".to_owned(),
            format!("KUBERNETES__SERVICE={SERVICE}"),
            format!("KUBERNETES__KUBECONFIG={}", self.kubeconfig().display()),
        ]
    }

    fn kubeconfig(&self) -> PathBuf {
        let path = self.directory.path().join("kubeconfig");
        let text = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": format!("http://{}", self.way.unwrap_or(self.address))}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", "namespace": NAMESPACE}}],
            "users": [{"name": "u", "user": {}}]});
        std::fs::write(&path, text.to_string()).expect("written");
        path
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Has gateways look for it at `address`, which leads to it.
    pub fn reached_at(&mut self, address: SocketAddr) {
        self.way = Some(address);
    }

    /// Stops listening and resets every connection.
    pub async fn die(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
            let _ = serving.await;
        }
    }

    /// Listens again, where it did before.
    pub async fn come_back(&mut self) {
        let listener = TcpListener::bind(self.address)
            .await
            .expect("the port is free");
        self.address = listener.local_addr().expect("bound");
        let (state, news) = (Arc::clone(&self.state), self.news.clone());
        self.serving = Some(tokio::spawn(async move {
            // aborted with this task
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let (state, news) = (Arc::clone(&state), news.clone());
                let service = hyper::service::service_fn(move |request| {
                    let (state, news) = (Arc::clone(&state), news.clone());
                    async move { Ok::<_, Infallible>(answer(request, &state, &news).await) }
                });
                connections.spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(socket), service),
                );
            }
        }));
    }

    /// Creates the Service, or changes its status: `[{"ip": ...}]`, `[{"hostname": ...}]`.
    pub fn set_ingress(&self, ingress: Value) {
        self.change(|state| {
            let kind = if state.service.is_some() {
                "MODIFIED"
            } else {
                state.uid += 1;
                "ADDED"
            };
            state.service = Some(json!({"apiVersion": "v1", "kind": "Service",
                "metadata": {"name": SERVICE, "namespace": NAMESPACE, "uid": state.uid.to_string()},
                "spec": {"type": "LoadBalancer"}, "status": {"loadBalancer": {"ingress": ingress}}}));
            Some(kind)
        });
    }

    /// Deletes the Service.
    pub fn delete(&self) {
        self.change(|state| state.service.is_some().then_some("DELETED"));
        self.lock().service = None;
    }

    /// Ends every open watch.
    pub fn cut(&self, how: Cut) {
        let mut state = self.lock();
        state.cut = (state.watches, how);
        drop(state);
        self.news.send_replace(());
    }

    /// Forgets all versions up to now, as etcd's compaction does, while other objects change.
    pub fn forget(&self, gone: Gone) {
        let mut state = self.lock();
        state.version += 10;
        state.oldest = state.version;
        state.gone = gone;
        state.history.clear();
    }

    /// Answers 403 to everything, or not any more. Open watches go on, as they do.
    pub fn forbid(&self, forbidden: bool) {
        self.lock().forbidden = forbidden;
    }

    /// Answers 403 to Events only.
    pub fn forbid_events(&self) {
        self.lock().events_forbidden = true;
    }

    /// The Events that were written.
    pub fn events(&self) -> Vec<Value> {
        self.lock().events.clone()
    }

    /// Lists and watches so far.
    pub fn requests(&self) -> (u64, u64) {
        let state = self.lock();
        (state.lists, state.watches)
    }

    fn change(&self, change: impl FnOnce(&mut State) -> Option<&'static str>) {
        let mut state = self.lock();
        let Some(kind) = change(&mut state) else {
            return;
        };
        state.version += 1;
        let version = state.version;
        let service = state.service.as_mut().expect("it is changed");
        service["metadata"]["resourceVersion"] = version.to_string().into();
        let service = service.clone();
        state.history.push((version, kind, service));
        drop(state);
        self.news.send_replace(());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("not poisoned")
    }
}

impl Drop for KubeApi {
    fn drop(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
        }
    }
}

async fn answer(
    request: Request<Incoming>,
    state: &Arc<Mutex<State>>,
    news: &watch::Sender<()>,
) -> Response<StreamBody<Frames>> {
    let (head, body) = request.into_parts();
    let agent = head.headers.get("user-agent");
    if !agent.is_some_and(|agent| agent.as_bytes().starts_with(b"cosgate/")) {
        return whole(400, &json!({"message": "who asks?"}));
    }
    let Ok(body) = body.collect().await else {
        return whole(400, &Value::Null);
    };
    let query: Vec<(String, String)> = head
        .uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.replace("%3D", "=")))
        .collect();
    let parameter = |name: &str| {
        let found = query.iter().find(|(key, _)| key == name);
        found.map_or("", |(_, value)| value.as_str())
    };
    let mut locked = state.lock().expect("not poisoned");
    if locked.forbidden {
        return whole(403, &status(403, "services is forbidden: not allowed"));
    }
    if head.method == "POST"
        && head.uri.path() == format!("/apis/events.k8s.io/v1/namespaces/{NAMESPACE}/events")
    {
        if locked.events_forbidden {
            return whole(403, &status(403, "events.events.k8s.io is forbidden"));
        }
        let event: Value = serde_json::from_slice(&body.to_bytes()).expect("JSON");
        locked.events.push(event.clone());
        return whole(201, &event);
    }
    let path = format!("/api/v1/namespaces/{NAMESPACE}/services/{SERVICE}");
    if head.method == "GET" && head.uri.path() == path {
        return match &locked.service {
            Some(service) => whole(200, service),
            None => whole(404, &status(404, "services \"control\" not found")),
        };
    }
    // a rule with resourceNames allows list and watch only with this selector
    if head.method != "GET"
        || head.uri.path() != format!("/api/v1/namespaces/{NAMESPACE}/services")
        || parameter("fieldSelector") != format!("metadata.name={SERVICE}")
    {
        let message = format!("{} {} is forbidden", head.method, head.uri);
        return whole(403, &status(403, &message));
    }
    if parameter("watch") != "true" {
        locked.lists += 1;
        let list = json!({"apiVersion": "v1", "kind": "ServiceList",
            "metadata": {"resourceVersion": locked.version.to_string()},
            "items": locked.service.iter().collect::<Vec<_>>()});
        return whole(200, &list);
    }
    locked.watches += 1;
    let from: u64 = parameter("resourceVersion")
        .parse()
        .expect("a watch continues a list");
    let expired = status(410, "too old resource version");
    if from < locked.oldest {
        return match locked.gone {
            Gone::Status => whole(410, &expired),
            Gone::Event => whole(200, &json!({"type": "ERROR", "object": expired})),
        };
    }
    let (sender, mut receiver) = mpsc::channel(64);
    let feed = Feed {
        number: locked.watches,
        from,
        bookmarks: parameter("allowWatchBookmarks") == "true",
        seconds: parameter("timeoutSeconds").parse().unwrap_or(1800),
        state: Arc::clone(state),
        news: news.subscribe(),
        sender,
    };
    tokio::spawn(feed.run());
    let frames: Frames = Box::pin(futures::stream::poll_fn(move |cx| receiver.poll_recv(cx)));
    Response::new(StreamBody::new(frames))
}

/// One open watch.
struct Feed {
    number: u64,
    from: u64,
    bookmarks: bool,
    seconds: u64,
    state: Arc<Mutex<State>>,
    news: watch::Receiver<()>,
    sender: mpsc::Sender<Result<Frame<Bytes>, std::io::Error>>,
}

impl Feed {
    async fn run(mut self) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(self.seconds);
        let mut bookmark = tokio::time::interval(BOOKMARK_EVERY);
        loop {
            let (lines, cut) = self.due();
            for line in lines {
                if self.sender.send(Ok(line)).await.is_err() {
                    return;
                }
            }
            if let Some(cut) = cut {
                if cut == Cut::Short {
                    let reset = std::io::ErrorKind::ConnectionReset.into();
                    let _ = self.sender.send(Err(reset)).await;
                }
                return;
            }
            let line = tokio::select! {
                changed = self.news.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return,
                },
                _ = bookmark.tick(), if self.bookmarks => match self.bookmark() {
                    Some(line) => line,
                    None => continue,
                },
                () = tokio::time::sleep_until(deadline) => return,
            };
            if self.sender.send(Ok(line)).await.is_err() {
                return;
            }
        }
    }

    /// The changes since, and whether this is the end.
    fn due(&mut self) -> (Vec<Frame<Bytes>>, Option<Cut>) {
        let state = self.state.lock().expect("not poisoned");
        let (before, how) = state.cut;
        if self.number <= before {
            return (Vec::new(), Some(how));
        }
        let mut due = state.history.iter().filter(|entry| entry.0 > self.from);
        let lines = due
            .clone()
            .map(|(_, kind, object)| line(kind, object))
            .collect();
        self.from = due.next_back().map_or(self.from, |entry| entry.0);
        (lines, None)
    }

    /// None while something else is due: a bookmark promises that all before it has been reported.
    fn bookmark(&mut self) -> Option<Frame<Bytes>> {
        let state = self.state.lock().expect("not poisoned");
        let is_cut = self.number <= state.cut.0;
        if is_cut || state.history.iter().any(|entry| entry.0 > self.from) {
            return None;
        }
        self.from = state.version;
        let version = self.from.to_string();
        Some(line(
            "BOOKMARK",
            &json!({"apiVersion": "v1", "kind": "Service", "metadata": {"resourceVersion": version}}),
        ))
    }
}

fn line(kind: &str, object: &Value) -> Frame<Bytes> {
    let text = json!({"type": kind, "object": object}).to_string() + "\n";
    Frame::data(text.into())
}

fn status(code: u16, message: &str) -> Value {
    let reason = match code {
        403 => "Forbidden",
        404 => "NotFound",
        _ => "Expired",
    };
    json!({"apiVersion": "v1", "kind": "Status", "status": "Failure",
        "code": code, "reason": reason, "message": message})
}

fn whole(code: u16, body: &Value) -> Response<StreamBody<Frames>> {
    let frame = Frame::data(Bytes::from(body.to_string() + "\n"));
    let frames: Frames = Box::pin(futures::stream::iter([Ok(frame)]));
    let response = Response::builder()
        .status(code)
        .header("content-type", "application/json");
    response
        .body(StreamBody::new(frames))
        .expect("a sound response")
}
