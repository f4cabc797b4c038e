//! The public address and ports that clients get for their data connections, and where they come from.
//!
//! One value is published here and read at every PASV and EPSV, so that a change reaches open sessions too.
//!
//! ```text
//! masquerade_address ───────────┐
//! masquerade.mapping_file ──────┤  (mapping)
//! Service's status ─────────────┼─> decision ──> published value ──> PASV, EPSV, readiness, log, Event
//!   (crate::kubernetes)         │      │  ▲
//! none of these ────────────────┘      ▼  │
//!                                    lookup: names to addresses, every 30 s
//! ```
//!
//! The order: `masquerade_address`, an IPv4 address or a name; the address in the mapping file; the first IPv4 address of the
//! watched Service's load balancer; its host name; and only outside of a cluster the address that the client connected to. Before all
//! of them comes, with `proxy_protocol.masquerade`, the public address that the client connected to by its connection's PROXY header.
//! Clients inside (`masquerade.internal_cidrs`) get the address they connected to, with the bound port, always.
//!
//! Invariants:
//! - In a cluster no client gets the address that its control connection reached, a pod's, unless it comes from
//!   `masquerade.internal_cidrs`, or a source says that very address.
//! - An address that was known stays until a source says another: lost watches, names that don't resolve, a deleted
//!   Service change nothing.
//! - As long as no address is known PASV is refused with the reason. EPSV, which names none, works, unless the ports are
//!   mapped and the mapping is not known.

mod address;
mod decision;
mod lookup;
pub mod mapping;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub(crate) use address::{is_private, is_usable};
pub use decision::{Decision, Origin, Ports, ServiceStatus};
use decision::{Selected, Sources, decide, ports, select};

use crate::config::{self, AfterGrace};
use crate::networks::Networks;

/// The published address and ports. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Masquerade {
    published: watch::Receiver<Published>,
    internal: Arc<Networks>,
    /// `proxy_protocol.masquerade`
    proxy_header: bool,
    /// When an address that was never known becomes unusual.
    grace_ends: Instant,
    after_grace: AfterGrace,
}

/// The published decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The address for clients from outside.
    pub decision: Decision,
    /// The ports for clients from outside.
    pub ports: Ports,
    /// The number of times that one address took the place of another.
    pub changes: u64,
    /// Why the Service can't be watched at present; the address above still holds.
    pub trouble: Option<String>,
}

/// The address and ports for one client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advertised {
    /// The address for PASV.
    pub address: Result<Ipv4Addr, NoAddress>,
    /// The ports for PASV and EPSV.
    pub ports: Ports,
}

/// There is no address for clients now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoAddress {
    /// No source has said one yet.
    #[error("the public address is not known yet, use EPSV")]
    Unknown,
    /// Only PROXY headers say one, and this connection's doesn't.
    #[error("the proxy names no public address, use EPSV")]
    NotInHeader,
    /// The 227 reply has room for IPv4 only (RFC 959); RFC 2428's EPSV is for the rest.
    #[error("PASV has no room for an IPv6 address, use EPSV")]
    Ipv6,
}

/// The IPv4 addresses that `name` has now, in ascending order, at least one.
pub async fn resolve(name: &str) -> Result<Vec<Ipv4Addr>, String> {
    lookup::by_system(name.to_owned()).await
}

impl Masquerade {
    /// Publishes what the sources say, until `stop`. `proxy_header` is `proxy_protocol.masquerade`, `service` the watched Service's
    /// status, if one is watched.
    pub fn start(
        config: &config::Masquerade,
        proxy_header: bool,
        in_cluster: bool,
        service: Option<watch::Receiver<ServiceStatus>>,
        stop: CancellationToken,
    ) -> Self {
        Self::start_with(
            config,
            proxy_header,
            in_cluster,
            service,
            stop,
            lookup::by_system,
        )
    }

    fn start_with<R, F>(
        config: &config::Masquerade,
        proxy_header: bool,
        in_cluster: bool,
        service: Option<watch::Receiver<ServiceStatus>>,
        stop: CancellationToken,
        resolve: R,
    ) -> Self
    where
        R: Fn(String) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Vec<Ipv4Addr>, String>> + Send,
    {
        let sources = Sources {
            configured: config.address.clone(),
            mapping: config.mapping_file.as_ref().map(|path| {
                let path = path.display();
                Err(format!(
                    "masquerade.mapping_file {path} has not been read yet"
                ))
            }),
            service: service.as_ref().map(|status| status.borrow().clone()),
            proxy_header,
            in_cluster,
            multiple: config.multiple,
            looked_up: None,
        };
        let nothing = Published {
            decision: Decision::Unknown("nothing has been decided yet".into()),
            ports: Ports::AsBound,
            changes: 0,
            trouble: None,
        };
        let (publish, published) = watch::channel(next(&sources, &nothing));
        let mapping_file = config.mapping_file.clone();
        let grace_ends = Instant::now() + config.grace;
        tokio::spawn(async move {
            let (name, names) = watch::channel(None);
            let (answer, answers) = watch::channel(None);
            let (mapping, mappings) = watch::channel(None);
            let reading = async {
                match mapping_file {
                    Some(path) => mapping::keep_reading(path, mapping).await,
                    // keeps the channel open
                    None => mapping.closed().await,
                }
            };
            let deciding = keep_deciding(
                sources, publish, name, answers, mappings, service, grace_ends,
            );
            tokio::select! {
                () = lookup::keep_resolving(names, answer, resolve) => {}
                () = reading => {}
                () = deciding => {}
                () = stop.cancelled() => {}
            }
        });
        Masquerade {
            published,
            internal: Arc::new(config.internal_cidrs.iter().copied().collect()),
            proxy_header,
            grace_ends,
            after_grace: config.after_grace,
        }
    }

    /// The address and ports for a client at `peer` whose control connection ends at `local`; `destination` is where the client
    /// connected to by the PROXY header, if there is one.
    pub fn advertised_to(
        &self,
        local: IpAddr,
        peer: IpAddr,
        destination: Option<IpAddr>,
    ) -> Advertised {
        let (local, peer) = (local.to_canonical(), peer.to_canonical());
        let destination = destination.map(|address| address.to_canonical());
        let own = match local {
            IpAddr::V4(local) => Ok(local),
            IpAddr::V6(_) => Err(NoAddress::Ipv6),
        };
        if self.internal.contains(peer) {
            return Advertised {
                address: own,
                ports: Ports::AsBound,
            };
        }
        let published = self.published.borrow();
        let address = match (destination.unwrap_or(local), &published.decision) {
            (IpAddr::V6(_), _) => Err(NoAddress::Ipv6),
            (IpAddr::V4(public), _) if self.proxy_header && names_public(destination) => Ok(public),
            (_, Decision::Known { address, .. }) => Ok(*address),
            (_, Decision::ControlConnection) => own,
            (_, Decision::ProxyHeader) => Err(NoAddress::NotInHeader),
            (_, Decision::Unknown(_)) => Err(NoAddress::Unknown),
        };
        Advertised {
            address,
            ports: published.ports.clone(),
        }
    }

    /// Why the gateway is not ready yet, if it isn't: it has never known its address, and either `masquerade.grace` has not
    /// passed, or `masquerade.after_grace` wants one.
    pub fn not_ready(&self) -> Option<String> {
        let reason = self.unknown()?;
        match (Instant::now() < self.grace_ends, self.after_grace) {
            (true, _) => Some(format!("masquerade address unknown: {reason}")),
            (false, AfterGrace::Unready) => Some(format!(
                "masquerade address unknown, also after masquerade.grace: {reason} ({SERVE})"
            )),
            (false, AfterGrace::Serve) => None,
        }
    }

    /// True if there is an address for clients from outside and the ports that go with it.
    pub fn is_known(&self) -> bool {
        self.unknown().is_none()
    }

    /// The warnings of a ready gateway.
    pub fn notes(&self) -> Vec<String> {
        let unknown = self
            .unknown()
            .map(|reason| format!("masquerade address unknown, PASV is refused: {reason}"));
        let trouble = self.published.borrow().trouble.clone();
        let trouble = trouble.map(|trouble| {
            format!("the Service is not watched, its last known address holds: {trouble}")
        });
        unknown.or(trouble).into_iter().collect()
    }

    /// Each value from now on, the present one first.
    pub fn subscribe(&self) -> watch::Receiver<Published> {
        self.published.clone()
    }

    fn unknown(&self) -> Option<Arc<str>> {
        self.published.borrow().unknown()
    }
}

impl Published {
    /// The reason why there is no address for clients from outside, if there is none.
    fn unknown(&self) -> Option<Arc<str>> {
        match (&self.decision, &self.ports) {
            (Decision::Unknown(reason), _) | (_, Ports::Unknown(reason)) => Some(reason.clone()),
            _ => None,
        }
    }
}

impl Advertised {
    /// The public port of the passive port `bound`; none if clients can't reach it.
    pub fn port(&self, bound: u16) -> Option<u16> {
        match &self.ports {
            Ports::AsBound => Some(bound),
            Ports::Mapped(map) => map.get(&bound).copied(),
            Ports::Unknown(_) => None,
        }
    }
}

/// True for a header's destination that clients can reach from anywhere.
fn names_public(destination: Option<IpAddr>) -> bool {
    match destination {
        Some(IpAddr::V4(address)) => is_usable(address) && !is_private(address.into()),
        Some(IpAddr::V6(_)) | None => false,
    }
}

/// The way out for who needs no address.
const SERVE: &str =
    "masquerade.after_grace: serve makes the gateway ready without one, for EPSV alone";

/// Decides whenever a source has news, and says which name is to be looked up.
async fn keep_deciding(
    mut sources: Sources,
    publish: watch::Sender<Published>,
    name: watch::Sender<Option<String>>,
    mut answers: watch::Receiver<Option<decision::LookUp>>,
    mut mappings: watch::Receiver<Option<Result<Arc<mapping::Mapping>, String>>>,
    mut service: Option<watch::Receiver<ServiceStatus>>,
    grace_ends: Instant,
) {
    log(None, &publish.borrow());
    let mut is_grace_over = false;
    loop {
        let new_name = match select(&sources) {
            Selected::Name(name, _) => Some(name),
            _ => None,
        };
        name.send_if_modified(|name| std::mem::replace(name, new_name.clone()) != new_name);
        let service_news = async {
            match &mut service {
                Some(service) => match service.changed().await {
                    Ok(()) => service.borrow_and_update().clone(),
                    // the watcher has stopped, so the gateway has, too
                    Err(_) => std::future::pending().await,
                },
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            status = service_news => sources.service = Some(status),
            Ok(()) = answers.changed() => sources.looked_up = answers.borrow_and_update().clone(),
            Ok(()) = mappings.changed() => {
                let new = mappings.borrow_and_update().clone();
                // a mapping that was good stays while the file is not
                if !matches!((&sources.mapping, &new), (Some(Ok(_)), Some(Err(_)))) {
                    sources.mapping = new;
                }
            }
            () = tokio::time::sleep_until(grace_ends), if !is_grace_over => {
                is_grace_over = true;
                if let Some(reason) = publish.borrow().unknown() {
                    warn!(event = "masquerade_unknown", %reason, "masquerade.grace has passed, and the masquerade address is unknown");
                }
                continue;
            }
            else => return,
        }
        publish.send_if_modified(|published| {
            let new = next(&sources, published);
            log(Some(published), &new);
            let changed = *published != new;
            *published = new;
            changed
        });
    }
}

/// The next decision after `last`.
fn next(sources: &Sources, last: &Published) -> Published {
    let decision = decide(sources, &last.decision);
    let changed = match (last.decision.address(), decision.address()) {
        (Some(last), Some(new)) => last != new,
        _ => false,
    };
    Published {
        ports: ports(sources),
        changes: last.changes + u64::from(changed),
        trouble: sources
            .service
            .as_ref()
            .and_then(|service| service.trouble.clone()),
        decision,
    }
}

impl Decision {
    /// The address, if it is known.
    pub fn address(&self) -> Option<Ipv4Addr> {
        match self {
            Decision::Known { address, .. } => Some(*address),
            Decision::ControlConnection | Decision::ProxyHeader | Decision::Unknown(_) => None,
        }
    }
}

fn log(last: Option<&Published>, new: &Published) {
    if last.is_some_and(|last| last.decision == new.decision) {
        return;
    }
    let previous = last.and_then(|last| last.decision.address());
    match (&new.decision, previous) {
        (Decision::Known { address, origin }, Some(previous)) if *address != previous => {
            info!(%address, %previous, source = %origin, "masquerade address changed");
        }
        (Decision::Known { address, origin }, _) => {
            info!(%address, source = %origin, "masquerade address known");
        }
        (Decision::Unknown(reason), _) if last.is_none() => {
            info!(%reason, "masquerade address not known yet");
        }
        (Decision::Unknown(reason), _) => {
            warn!(%reason, "masquerade address unknown, PASV is refused");
        }
        (Decision::ControlConnection | Decision::ProxyHeader, _) => {}
    }
}
