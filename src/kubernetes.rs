//! The watcher: what one Service says of its load balancer, from the API server to [`crate::masquerade`].
//!
//! ```text
//! API server ──list, watch──> watch_service ──Service or none──> ServiceStatus ──> masquerade ──changes──> Event
//!                  ▲                │ errors
//!                  └── backoff, and a new stream where the old one can't recover
//! ```
//!
//! It needs `get`, `list` and `watch` on that one Service and nothing else (`resourceNames`; the field selector that
//! `watch_service` sends makes the rule apply to list and watch, too), and `create` on `events` of `events.k8s.io` if changes
//! are to be announced.
//!
//! Invariants:
//! - No error ends it, and none makes it forget an address. It ends when the gateway stops.
//! - What is wrong is logged once, when it begins and when it changes, and stands in the status as long as it lasts.

mod announce;
mod contact;
pub mod examine;
#[cfg(test)]
mod tests;
mod unready;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use futures::{Stream, StreamExt};
use hyper::header::{HeaderValue, USER_AGENT};
use k8s_openapi::api::core::v1::{ObjectReference, Service};
use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, DefaultBackoff, Event};
use kube::{Api, Client, Resource};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tower::util::MapResponseLayer;
use tracing::{info, warn};

use crate::config;
use crate::masquerade::{ServiceStatus, is_usable};

pub use contact::Contact;
pub use unready::PodEvents;

/// A watched Service.
pub struct ServiceWatch {
    /// Its content.
    pub status: watch::Receiver<ServiceStatus>,
    /// When the API server has answered last.
    pub contact: Contact,
    client: Client,
    /// The Service as Events name it, once it has been seen.
    reference: watch::Receiver<Option<ObjectReference>>,
    namespace: String,
    pod_name: Option<String>,
    pod_uid: Option<String>,
}

/// There is no way to the API server.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The file is missing or wrong.
    #[error(
        "kubernetes.kubeconfig = {path} is not usable; give the path of a kubeconfig with a current context"
    )]
    Kubeconfig {
        /// From `kubernetes.kubeconfig`.
        path: PathBuf,
        /// The fault.
        #[source]
        source: kube::config::KubeconfigError,
    },
    /// A pod without a service account's token.
    #[error(
        "kubernetes.service is set, and this pod has no credentials for the API server; set \
         automountServiceAccountToken: true in the pod, or use masquerade_address instead"
    )]
    InCluster(#[source] kube::config::InClusterError),
    /// The credentials or certificates are of no use.
    #[error("the client for the API server can't be built")]
    Client(#[source] kube::Error),
}

/// A list has to be answered in this time; of a watch, nobody knows when it says something.
const LIST_TIMEOUT: Duration = Duration::from_secs(30);

/// A watch that has run for this long after an error without another one works again. An idle Service says nothing.
const WORKS_AFTER: Duration = Duration::from_secs(10);

/// The API server ends a watch after so many seconds, and the next one begins: an idle Service says nothing, so this is the
/// only sign that there is still a way to the API server.
const WATCH_SECONDS: u32 = 12;

/// A connection that has said nothing for longer than a watch lasts is dead. Where packets are dropped, this, another dead
/// connection in the pool and [`CONNECT_TIMEOUT`] make less than 45 s.
const READ_TIMEOUT: Duration = Duration::from_secs(15);

/// Time to connect to the API server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// After so many failed starts of a watch in a row, it begins anew with a list.
const STARTS: u32 = 3;

/// Begins to watch `service` and goes on until `stop`.
pub async fn watch(
    service: &str,
    config: &config::Kubernetes,
    stop: CancellationToken,
) -> Result<ServiceWatch, ClientError> {
    let contact = Contact::default();
    let (client, namespace) = client(config, &contact).await?;
    info!(namespace, service, "watching a Service for its address");
    let mut watch = watch_with(client, &namespace, service, contact, stop);
    watch.pod_name.clone_from(&config.pod_name);
    watch.pod_uid.clone_from(&config.pod_uid);
    Ok(watch)
}

/// The way to the API server, whose answers `contact` notes, and the namespace of the Service.
async fn client(
    config: &config::Kubernetes,
    contact: &Contact,
) -> Result<(Client, String), ClientError> {
    let mut client_config = match &config.kubeconfig {
        Some(path) => from_file(path).await?,
        // not `Config::infer`, which takes a kubeconfig that happens to lie about before the pod's own credentials
        None => kube::Config::incluster().map_err(ClientError::InCluster)?,
    };
    client_config.read_timeout = Some(READ_TIMEOUT);
    client_config.connect_timeout = Some(CONNECT_TIMEOUT);
    client_config.reset_reader_on_write = true;
    let agent = concat!("cosgate/", env!("CARGO_PKG_VERSION"));
    client_config
        .headers
        .push((USER_AGENT, HeaderValue::from_static(agent)));
    // retries are made here, where they are counted and logged
    client_config.default_retry = false;
    let namespace = match &config.namespace {
        Some(namespace) => namespace.clone(),
        None => client_config.default_namespace.clone(),
    };
    let noting = contact.clone();
    let noting = MapResponseLayer::new(move |response| {
        noting.note();
        response
    });
    let client = ClientBuilder::try_from(client_config).map_err(ClientError::Client)?;
    Ok((client.with_layer(&noting).build(), namespace))
}

async fn from_file(path: &PathBuf) -> Result<kube::Config, ClientError> {
    let not_usable = |source| ClientError::Kubeconfig {
        path: path.clone(),
        source,
    };
    let kubeconfig = Kubeconfig::read_from(path).map_err(not_usable)?;
    let options = KubeConfigOptions::default();
    kube::Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .map_err(not_usable)
}

fn watch_with(
    client: Client,
    namespace: &str,
    service: &str,
    contact: Contact,
    stop: CancellationToken,
) -> ServiceWatch {
    let name = format!("{namespace}/{service}");
    let (publish, status) = watch::channel(ServiceStatus {
        address: None,
        hostname: None,
        missing: format!("the Service {name} has not been read yet"),
        trouble: None,
    });
    let (refer, reference) = watch::channel(None);
    let watcher = Watcher {
        api: Api::namespaced(client.clone(), namespace),
        service: service.to_owned(),
        name,
        publish,
        refer,
        failing: None,
    };
    tokio::spawn(async move {
        tokio::select! {
            never = watcher.run() => match never {},
            () = stop.cancelled() => {}
        }
    });
    ServiceWatch {
        status,
        contact,
        client,
        reference,
        namespace: namespace.to_owned(),
        pod_name: None,
        pod_uid: None,
    }
}

struct Watcher {
    api: Api<Service>,
    service: String,
    /// `namespace/service`, for people.
    name: String,
    publish: watch::Sender<ServiceStatus>,
    refer: watch::Sender<Option<ObjectReference>>,
    /// The fault at present.
    failing: Option<Failure>,
}

/// Failures of one kind are logged once. The words may differ from try to try.
type Failure = &'static str;

/// Why a stream is given up for a new one.
enum Stale {
    /// Its next try would fail in the same way.
    Stuck,
    /// The list was not answered.
    Silent,
}

impl Watcher {
    async fn run(mut self) -> std::convert::Infallible {
        let mut backoff = DefaultBackoff::default();
        loop {
            let stream = watch_service(self.api.clone(), &self.service);
            if let Stale::Silent = self.follow(pin!(stream), &mut backoff).await {
                self.fails("silent", "the API server does not answer".to_owned());
                pause(&mut backoff).await;
            }
        }
    }

    /// Follows one stream until another one is needed.
    async fn follow(
        &mut self,
        mut stream: std::pin::Pin<&mut impl Stream<Item = watcher::Result<Option<Service>>>>,
        backoff: &mut DefaultBackoff,
    ) -> Stale {
        // an error may be the last one, or the first of many: only time, or news, tells
        let (mut failed_starts, mut listed, mut uncertain) = (0, false, true);
        loop {
            let next = match (listed, uncertain) {
                // the first item is the list's, or what became of it
                (false, _) => tokio::time::timeout(LIST_TIMEOUT, stream.next()).await,
                (true, true) => tokio::time::timeout(WORKS_AFTER, stream.next()).await,
                (true, false) => Ok(stream.next().await),
            };
            match next {
                Ok(Some(Ok(object))) => {
                    // an answer to a list says nothing of the watch that follows
                    if listed {
                        uncertain = false;
                        self.works(backoff);
                    }
                    (listed, failed_starts) = (true, 0);
                    self.take(object);
                }
                Ok(Some(Err(error))) => {
                    uncertain = true;
                    let (kind, words) = describe(&error);
                    self.fails(kind, words);
                    pause(backoff).await;
                    match error {
                        watcher::Error::WatchStartFailed(error) => {
                            failed_starts += 1;
                            // a resource version that is too old stays so: only a list gives a new one
                            if failed_starts >= STARTS || is_gone(&error) {
                                return Stale::Stuck;
                            }
                        }
                        // the stream begins with a list again
                        watcher::Error::WatchError(status) if status.code == 410 => listed = false,
                        _ => {}
                    }
                }
                Err(_) if listed => {
                    (failed_starts, uncertain) = (0, false);
                    self.works(backoff);
                }
                Ok(None) => return Stale::Stuck,
                Err(_) => return Stale::Silent,
            }
        }
    }

    /// Notes what the Service says now; nothing is forgotten that is not replaced.
    fn take(&self, object: Option<Service>) {
        let name = &self.name;
        let new = object.as_ref().map(ingress);
        if let Some(service) = &object {
            let reference = service.object_ref(&());
            self.refer.send_if_modified(|last| {
                let is_new = last.as_ref() != Some(&reference);
                *last = Some(reference);
                is_new
            });
        }
        self.publish.send_if_modified(|status| {
            let before = status.clone();
            match new {
                Some((address, hostname)) if address.is_some() || hostname.is_some() => {
                    (status.address, status.hostname) = (address, hostname);
                    status.missing.clear();
                }
                Some(_) => status.missing = without_ingress(name, object.as_ref()),
                None => status.missing = format!("the Service {name} does not exist"),
            }
            let is_known = status.address.is_some() || status.hostname.is_some();
            if is_known && !status.missing.is_empty() && before.missing != status.missing {
                warn!(
                    reason = status.missing,
                    "the last known masquerade address stays"
                );
            }
            *status != before
        });
    }

    fn fails(&mut self, kind: Failure, words: String) {
        if kind == DISCONNECTED {
            return;
        }
        let words = match kind {
            FORBIDDEN => format!(
                "{words}; allow get, list and watch on services, resourceNames: [{}], to this pod's service account",
                self.service
            ),
            UNAUTHORIZED => format!(
                "{words}; the API server doesn't know this token: is the service account's token mounted \
                 (automountServiceAccountToken) and the service account still there? Outside of a cluster renew the \
                 credentials in kubernetes.kubeconfig"
            ),
            _ => words,
        };
        if self.failing != Some(kind) {
            warn!(
                service = self.name,
                reason = words,
                "the Service can't be watched, trying again"
            );
            self.failing = Some(kind);
            self.publish
                .send_modify(|status| status.trouble = Some(words));
        }
    }

    fn works(&mut self, backoff: &mut DefaultBackoff) {
        if self.failing.take().is_some() {
            info!(service = self.name, "the Service is watched again");
            self.publish.send_modify(|status| status.trouble = None);
        }
        backoff.reset();
    }
}

/// The Service as it is, and each time that it changes; `None` while there is none.
///
/// As kube's `watch_object`, which takes no timeout for the watch.
fn watch_service(
    api: Api<Service>,
    name: &str,
) -> impl Stream<Item = watcher::Result<Option<Service>>> + use<> {
    let only = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut listed = false;
    watcher::watcher(api, only.timeout(WATCH_SECONDS)).filter_map(move |event| {
        let item = match event {
            Ok(Event::Init) => {
                listed = false;
                None
            }
            Ok(Event::InitApply(service)) => {
                listed = true;
                Some(Ok(Some(service)))
            }
            Ok(Event::Apply(service)) => Some(Ok(Some(service))),
            Ok(Event::Delete(_)) => Some(Ok(None)),
            // the list is complete, and it was not there
            Ok(Event::InitDone) => (!listed).then_some(Ok(None)),
            Err(error) => Some(Err(error)),
        };
        std::future::ready(item)
    })
}

async fn pause(backoff: &mut DefaultBackoff) {
    // the default never ends, and its longest pause is 30 s
    let pause = backoff.next().unwrap_or(Duration::from_secs(30));
    tokio::time::sleep(pause).await;
}

/// The first IPv4 address and the first host name of the load balancer.
fn ingress(service: &Service) -> (Option<Ipv4Addr>, Option<String>) {
    let status = service.status.as_ref();
    let balancer = status.and_then(|status| status.load_balancer.as_ref());
    let points = balancer.and_then(|balancer| balancer.ingress.as_deref());
    let points = points.unwrap_or_default();
    let ips = points.iter().filter_map(|point| point.ip.as_deref());
    let address = ips
        .filter_map(|ip| ip.parse::<Ipv4Addr>().ok())
        .find(|ip| is_usable(*ip));
    let mut hostnames = points.iter().filter_map(|point| point.hostname.as_deref());
    let hostname = hostnames.find(|name| !name.is_empty()).map(str::to_owned);
    (address, hostname)
}

/// Why a Service has no address.
fn without_ingress(name: &str, service: Option<&Service>) -> String {
    let spec = service.and_then(|service| service.spec.as_ref());
    match spec.and_then(|spec| spec.type_.as_deref()) {
        None | Some("LoadBalancer") => {
            format!("the load balancer of the Service {name} has no IPv4 address or host name yet")
        }
        Some(other) => format!(
            "the Service {name} is of type {other}, and only one of type LoadBalancer gets an address"
        ),
    }
}

/// The kind of a failure, and the advice on it.
fn describe(error: &watcher::Error) -> (Failure, String) {
    use watcher::Error::{
        InitialListFailed, NoResourceVersion, WatchError, WatchFailed, WatchStartFailed,
    };
    match error {
        InitialListFailed(error) | WatchStartFailed(error) => describe_answer(error),
        WatchError(status) => (status_kind(status.code), status.message.clone()),
        // a cut connection is taken up again with the next request; that one counts
        WatchFailed(_) => (DISCONNECTED, String::new()),
        NoResourceVersion => (
            "no version",
            "the API server sends no resource version".to_owned(),
        ),
    }
}

fn describe_answer(error: &kube::Error) -> (Failure, String) {
    if let kube::Error::Api(status) = error {
        let text = if status.message.is_empty() {
            format!("the API server answers {}", status.code)
        } else {
            status.message.clone()
        };
        return (status_kind(status.code), text);
    }
    // kube's texts repeat their causes, so the innermost one says it all
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    (
        "unreachable",
        format!("the API server can't be reached: {cause}"),
    )
}

fn status_kind(code: u16) -> Failure {
    match code {
        401 => UNAUTHORIZED,
        403 => FORBIDDEN,
        410 => DISCONNECTED,
        429 => "throttled",
        500.. => "server error",
        _ => "refused",
    }
}

fn is_gone(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 410)
}

fn is_forbidden(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 403)
}

const FORBIDDEN: Failure = "forbidden";

const UNAUTHORIZED: Failure = "unauthorized";

/// Part of a watch's life: it is cut now and then, and old versions are forgotten.
const DISCONNECTED: Failure = "disconnected";
