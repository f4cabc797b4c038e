//! The composition root: builds everything, starts it, and takes it down in order.

mod error;

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use secrecy::{ExposeSecret, SecretString};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::admin::readiness::Readiness;
pub use crate::app::error::StartError;
use crate::auth::{HashError, Users, hash_password, random_password};
use crate::cluster::handover::Receiver;
use crate::cluster::lockouts::Lockouts;
use crate::config::{Config, MasqueradeAddress, MemoryLimit, Provider, StaticCredentials, User};
use crate::descriptors::{self, Descriptors};
use crate::events::Events;
use crate::ftp::access::Access;
use crate::ftp::bandwidth::Bandwidth;
use crate::ftp::connections::ControlConnections;
use crate::ftp::engine::Loopback;
use crate::ftp::frontend::{Drained, Frontend};
use crate::ftp::kernel_queues::KernelQueues;
use crate::ftp::listener::Listeners;
use crate::ftp::metrics::FtpMetrics;
use crate::ftp::own::OwnPorts;
use crate::ftp::registry::SessionRegistry;
use crate::ftp::tls::Tls;
use crate::masquerade::Masquerade;
use crate::metrics::{Counters, Exposition};
use crate::password::PasswordHash;
use crate::reload::{Reload, Watched};
use crate::store::Store;
use crate::store::embedded::{EmbeddedStore, Options};
use crate::store::follow::{Followed, follow_memory_limit};
use crate::store::sweeper;
use crate::store::trim::return_freed_memory;
use crate::{admin, kubernetes, store};

/// A running gateway.
pub struct Gateway {
    frontend: Arc<Frontend>,
    addresses: Vec<SocketAddr>,
    admin_address: Option<SocketAddr>,
    passive_ports: RangeInclusive<u16>,
    drain_deadline: Duration,
    flush_timeout: Duration,
    demo_password: Option<SecretString>,
    /// Outlives the sessions, since they store into it.
    embedded: Option<EmbeddedStore>,
}

/// Time for the aborts of uploads that were cut off, after everything else has ended.
const ABORTS_TIMEOUT: Duration = Duration::from_secs(5);

/// The user of a gateway without users on the embedded store.
pub const DEMO_USER: &str = "demo";

impl Gateway {
    /// Builds, binds and serves, in this order: nothing is accepted before everything is there.
    pub async fn start(mut config: Config) -> Result<Self, StartError> {
        crate::install_crypto_provider();
        let (drain, stop) = (CancellationToken::new(), CancellationToken::new());
        // if anything below fails, this stops what was started before it
        let undo = stop.clone().drop_guard();

        let demo_password = add_demo_user(&mut config)?;
        let watch = match &config.kubernetes.service {
            Some(service) => {
                Some(kubernetes::watch(service, &config.kubernetes, stop.clone()).await?)
            }
            None => None,
        };
        let masquerade = Masquerade::start(
            &config.masquerade,
            config.proxy_protocol.masquerade,
            config.kubernetes.in_cluster,
            watch.as_ref().map(|watch| watch.status.clone()),
            stop.clone(),
        );
        let contact = watch.as_ref().map(|watch| watch.contact.clone());
        let pod_events = watch.as_ref().and_then(|watch| watch.pod_events());
        if let Some(watch) = watch {
            tokio::spawn(watch.announce(masquerade.subscribe(), stop.clone()));
        }
        let limit = Descriptors::of(&config, descriptors::raise_limit());
        if let Some(shortage) = limit.shortage() {
            warn!(event = "descriptors_short", "{shortage}");
        }
        let connections = ControlConnections::new(&config.sessions, &limit);
        let tasks = TaskTracker::new();
        let metrics = FtpMetrics::default();
        let counts = &metrics.handover;
        let receiver = Receiver::bind(&config, limit.relays, &tasks, &stop, counts)?;
        let handover = receiver.as_ref().map(Receiver::handover);
        let listeners = Listeners::bind(&config, handover.as_ref(), &stop)?;
        let admin = match config.admin.listen {
            Some(address) => Some(
                admin::bind(address)
                    .await
                    .map_err(|source| StartError::Admin { address, source })?,
            ),
            None => None,
        };
        let tls = match &config.tls {
            Some(settings) => Some(Tls::new(settings.clone(), certificate_names(&config))?),
            None => None,
        };
        if let Some(tls) = &tls {
            tokio::spawn(Arc::clone(tls).follow_files(config.reload_interval, stop.clone()));
        }
        let embedded = start_embedded(&mut config).await?;
        let store = Store::new(
            &config.storage,
            &config.upload,
            &config.download,
            config.sessions.max,
        )
        .await?;
        tokio::spawn(follow_memory_limit(
            store.clone(),
            Followed {
                limit: MemoryLimit::default(),
                upload: config.upload.follows_memory_limit,
                download: config.download.follows_memory_limit,
            },
            stop.clone(),
        ));
        tokio::spawn(return_freed_memory(store.clone(), stop.clone()));
        let users = Arc::new(Users::new(&config, store.clone())?);
        let (swept, base) = (Arc::clone(&users), store.clone());
        tokio::spawn(sweeper::run(
            move || swept.places(&base),
            config.upload.sweep,
            config.upload.stale_after,
            stop.clone(),
        ));
        if let Some(file) = &config.users_file {
            let watched = Watched::new(vec![file.path.clone()], config.reload_interval);
            let (users, path, stop) = (Arc::clone(&users), file.path.clone(), stop.clone());
            let watched = watched.seen(file.digest);
            tokio::spawn(async move { users.follow(path, watched, stop).await });
        }
        let events = Events::start(&config.events)?;
        let (watched, base) = (Arc::clone(&users), store.clone());
        let watch = events.clone();
        tokio::spawn(watch.watch_outbox(move || watched.places(&base), stop.clone()));
        let loopback = Loopback::bind().await.map_err(StartError::Loopback)?;
        let addresses = listeners.addresses();
        let admin_address = admin
            .as_ref()
            .and_then(|listener| listener.local_addr().ok());
        let listening = [
            Some(loopback.address().await.map_err(StartError::Loopback)?),
            admin_address,
            embedded.as_ref().map(EmbeddedStore::address),
            receiver.as_ref().and_then(Receiver::address),
        ];
        let listening = addresses
            .iter()
            .copied()
            .chain(listening.into_iter().flatten());
        let own_ports = OwnPorts::new(
            listening
                .map(|address| address.port())
                .chain(config.bound_ports()),
        );
        let shared = handover
            .as_ref()
            .filter(|_| config.auth.lockout.shared)
            .map(|handover| {
                let (guard, counts) = (Arc::clone(users.guard()), metrics.lockouts.clone());
                Lockouts::start(guard, Arc::clone(handover), counts)
            });
        let (lockouts, lockout_streams) = shared.unzip();
        let frontend = Arc::new(Frontend {
            users,
            events,
            greeting: config.greeting,
            charset: config.charset,
            sessions: config.sessions,
            accept_timeout: config.passive.accept_timeout,
            listing_times: config.listing_times,
            upload_stall: config.upload.stall_timeout,
            download_stall: config.download.stall_timeout,
            kernel_queues: KernelQueues::new(store.clone()),
            store,
            disk: embedded
                .as_ref()
                .map(|embedded| Arc::clone(embedded.space())),
            tls,
            active: config.active,
            own_ports,
            masquerade,
            contact,
            loopback,
            drain,
            drain_idle: config.drain.idle,
            last_call: stop.child_token(),
            stop,
            tasks,
            connections,
            registry: SessionRegistry::default(),
            control_ports: listeners.control_ports(),
            started: Instant::now(),
            pools: listeners.pools(),
            proxies: listeners.proxies(),
            bandwidth: Bandwidth::new(&config.limits, &metrics),
            access: Access::new(&config.access),
            handover,
            lockouts,
            metrics,
        });

        if let Some(file) = config.access.file {
            let (followed, stop) = (Arc::clone(&frontend), frontend.stop.clone());
            let interval = config.reload_interval;
            tokio::spawn(async move { followed.access.follow(file, interval, stop).await });
        }
        tokio::spawn(follow_limits(Arc::clone(&frontend)));
        if let Some(receiver) = receiver {
            tokio::spawn(receiver.serve(frontend.pools.clone(), lockout_streams));
        }
        listeners.serve(&frontend);
        if let Some(listener) = admin {
            let read = Arc::clone(&frontend);
            let store = Arc::new(admin::store_probe(frontend.store.clone()));
            let asked = Arc::clone(&store);
            let counters: [&dyn Counters; 2] = [&frontend.metrics, frontend.store.requests()];
            let metrics = Exposition::new(&counters, move || {
                admin::readings::readings(&read, asked.is_answering())
            });
            if let Some(events) = pod_events {
                let (read, probe) = (Arc::clone(&frontend), Arc::clone(&store));
                let outage = config.admin.store_outage;
                let reasons = move || match read.drain.is_cancelled() {
                    // that it ends is no fault
                    true => Vec::new(),
                    false => Readiness::of(&read, &probe.known(), outage).reasons,
                };
                tokio::spawn(events.announce_unreadiness(reasons, frontend.stop.clone()));
            }
            tokio::spawn(admin::serve(
                listener,
                config.admin,
                Arc::clone(&frontend),
                store,
                metrics,
            ));
        }
        undo.disarm();
        info!(
            listen = ?addresses, passive_ports = ?config.passive.ports, admin = admin_address.map(tracing::field::display),
            handover = config.handover.as_ref().map(|handover| tracing::field::display(handover.listen)),
            provider = %config.storage.provider, bucket = config.storage.bucket, "cosgate {} is serving", env!("CARGO_PKG_VERSION")
        );
        let drain_deadline = config.drain.deadline;
        let flush_timeout = config.events.flush_timeout;
        Ok(Gateway {
            frontend,
            addresses,
            admin_address,
            passive_ports: config.passive.ports,
            drain_deadline,
            flush_timeout,
            demo_password,
            embedded,
        })
    }

    /// The control addresses.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The admin port's address, if it is on.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin_address
    }

    /// The passive ports that are bound on each address.
    pub fn passive_ports(&self) -> RangeInclusive<u16> {
        self.passive_ports.clone()
    }

    /// The password of the user `demo`, if there is one.
    pub fn demo_password(&self) -> Option<&SecretString> {
        self.demo_password.as_ref()
    }

    /// The embedded store, if that is where files go.
    pub fn embedded(&self) -> Option<&EmbeddedStore> {
        self.embedded.as_ref()
    }

    /// The state of the certificate files, if there is FTPS.
    pub fn certificates(&self) -> Option<Reload> {
        self.frontend.tls.as_ref().map(|tls| tls.state())
    }

    /// Sessions at this moment.
    pub fn sessions(&self) -> usize {
        self.frontend.connections.count()
    }

    /// The users who may log in.
    pub fn users(&self) -> &Users {
        &self.frontend.users
    }

    /// The store that uploads go to.
    pub fn store(&self) -> &store::Store {
        &self.frontend.store
    }

    /// Serves until SIGTERM or SIGINT, then drains. A second signal ends the drain at once.
    pub async fn run_until_signal(self) {
        signalled().await;
        info!(deadline = ?self.drain_deadline, "stopping; a second signal ends running transfers");
        let frontend = Arc::clone(&self.frontend);
        let hurry = tokio::spawn(async move {
            signalled().await;
            frontend.stop.cancel();
        });
        let Drained {
            sessions,
            transfers,
            took,
        } = self.stop().await;
        hurry.abort();
        info!(
            event = "stopped",
            sessions,
            transfers_complete = transfers.complete,
            transfers_incomplete = transfers.incomplete,
            seconds = took.as_secs_f64(),
            "stopped"
        );
    }

    /// Ends all sessions, see [`Frontend::drain`], running transfers within `drain.deadline`, and then the store.
    pub async fn stop(self) -> Drained {
        let drained = self.frontend.drain(self.drain_deadline).await;
        if let Some(lockouts) = &self.frontend.lockouts {
            lockouts.leave().await;
        }
        self.frontend.events.flush(self.flush_timeout).await;
        self.frontend.store.settle(ABORTS_TIMEOUT).await;
        if let Some(embedded) = self.embedded {
            embedded.stop().await;
        }
        drained
    }
}

/// Takes over the limits of bandwidth of a changed users file for the sessions that run.
async fn follow_limits(frontend: Arc<Frontend>) {
    let mut reloads = frontend.users.reload_state();
    while let Some(Ok(())) = frontend.stop.run_until_cancelled(reloads.changed()).await {
        let users = &frontend.users;
        frontend.bandwidth.update(|name| users.limits(name));
    }
}

/// Resolves at SIGTERM or SIGINT.
async fn signalled() {
    match (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) {
        (Ok(mut terminate), Ok(mut interrupt)) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
        (Err(error), _) | (_, Err(error)) => {
            warn!(%error, "signals can't be caught");
            std::future::pending().await
        }
    }
}

/// The names that a self-signed certificate is made out to.
fn certificate_names(config: &Config) -> Vec<String> {
    let mut names = vec![
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
        "::1".to_owned(),
    ];
    let address = match &config.masquerade.address {
        Some(MasqueradeAddress::Ipv4(address)) => Some(address.to_string()),
        Some(MasqueradeAddress::Dns(name)) => Some(name.clone()),
        None => None,
    };
    names.extend(address.filter(|address| !names.contains(address)));
    names
}

/// Without users, the embedded store gets one with a random password.
fn add_demo_user(config: &mut Config) -> Result<Option<SecretString>, HashError> {
    let has_users =
        !config.users.is_empty() || config.users_file.is_some() || config.auth.has_authenticator();
    if has_users || config.storage.provider != Provider::Embedded {
        return Ok(None);
    }
    let password = random_password()?;
    let hash = PasswordHash::parse(hash_password(&password)?.expose_secret()).ok();
    let user = User::unconditional(DEMO_USER, "/", hash);
    config.users.push(user);
    Ok(Some(password))
}

/// Starts the embedded store, if it is asked for, and points the configuration at it.
async fn start_embedded(config: &mut Config) -> Result<Option<EmbeddedStore>, StartError> {
    let storage = &mut config.storage;
    if storage.provider != Provider::Embedded {
        return Ok(None);
    }
    let listen = match &storage.endpoint {
        None => SocketAddr::from(([127, 0, 0, 1], 0)),
        Some(endpoint) => {
            let address = endpoint
                .strip_prefix("http://")
                .unwrap_or(endpoint)
                .trim_end_matches('/')
                .parse();
            address.map_err(|_| StartError::Endpoint(endpoint.clone()))?
        }
    };
    let credentials = storage
        .credentials
        .as_ref()
        .map(|keys| (keys.access_key_id.clone(), keys.secret_access_key.clone()));
    let options = Options {
        data_dir: storage.data_dir.clone(),
        bucket: storage.bucket.clone(),
        listen,
        credentials,
    };
    let embedded = EmbeddedStore::start(options).await?;
    storage.endpoint = Some(embedded.endpoint());
    storage.credentials = Some(StaticCredentials {
        access_key_id: embedded.access_key_id().to_owned(),
        secret_access_key: embedded.secret_access_key().clone(),
        session_token: None,
    });
    Ok(Some(embedded))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_self_signed_certificate_has_each_name_once() {
        for (address, names) in [
            ("127.0.0.1", 3),
            ("localhost", 3),
            ("203.0.113.7", 4),
            ("ftp.example.com", 4),
        ] {
            let variable = ("COSGATE_MASQUERADE_ADDRESS".to_owned(), address.to_owned());
            let loaded = crate::config::load_from(None, [variable]);
            let config = loaded.expect("a good configuration").config;
            let found = certificate_names(&config);
            assert_eq!(found.len(), names, "{found:?}");
            assert!(found.iter().any(|name| name == address), "{found:?}");
        }
    }
}
