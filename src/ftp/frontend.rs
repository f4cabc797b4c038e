//! The shared state of all sessions, and their common end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::auth::Users;
use crate::charset::Charset;
use crate::cluster::handover::Handover;
use crate::cluster::lockouts::Lockouts;
use crate::config;
use crate::events::Events;
use crate::ftp::access::Access;
use crate::ftp::bandwidth::Bandwidth;
use crate::ftp::connections::ControlConnections;
use crate::ftp::engine::Loopback;
use crate::ftp::kernel_queues::KernelQueues;
use crate::ftp::metrics::{Ended, FtpMetrics};
use crate::ftp::own::OwnPorts;
use crate::ftp::registry::SessionRegistry;
use crate::ftp::tls::Tls;
use crate::kubernetes::Contact;
use crate::masquerade::Masquerade;
use crate::passive::PassivePool;
use crate::permits::{Permit, Permits};
use crate::proxy_protocol::TrustedProxies;
use crate::store::Store;
use crate::store::embedded::DiskSpace;

/// The shared state of all sessions, built once.
pub struct Frontend {
    /// `greeting`
    pub greeting: String,
    /// `charset`
    pub charset: Charset,
    /// `sessions.*`
    pub sessions: config::Sessions,
    /// `passive.accept_timeout`
    pub accept_timeout: Duration,
    /// `listing.times`
    pub listing_times: config::Times,
    /// `upload.stall_timeout`
    pub upload_stall: Duration,
    /// `download.stall_timeout`
    pub download_stall: Duration,
    /// The users.
    pub users: Arc<Users>,
    /// Where files go.
    pub store: Store,
    /// The disk of the embedded store, if that is where files go.
    pub disk: Option<Arc<DiskSpace>>,
    /// FTPS, if it is offered.
    pub tls: Option<Arc<Tls>>,
    /// `active.*`
    pub active: config::Active,
    /// Where active mode doesn't connect to.
    pub own_ports: OwnPorts,
    /// The consumers of events about commits.
    pub events: Events,
    /// The address in PASV replies.
    pub masquerade: Masquerade,
    /// When the API server has last answered, if a Service is watched.
    pub contact: Option<Contact>,
    /// Makes the engines' connections.
    pub loopback: Loopback,
    /// Cancelled when the gateway drains: no new session, those that rest end, the others and transfers go on.
    pub drain: CancellationToken,
    /// `drain.idle`
    pub drain_idle: Duration,
    /// Cancelled shortly before the drain's deadline, and with `stop`: every session ends between two commands.
    pub last_call: CancellationToken,
    /// Cancelled when the drain's deadline has passed: transfers end, too.
    pub stop: CancellationToken,
    /// The session tasks.
    pub tasks: TaskTracker,
    /// The control connections that are open.
    pub connections: Arc<ControlConnections>,
    /// The open sessions, and the latest failures.
    pub registry: SessionRegistry,
    /// The control ports.
    pub control_ports: ControlPorts,
    /// When the gateway started.
    pub started: Instant,
    /// The passive ports, one pool per address.
    pub pools: Vec<Arc<PassivePool>>,
    /// Data connections that are handed over between gateways, if they are.
    pub handover: Option<Arc<Handover>>,
    /// Failed logins that gateways share, if they do.
    pub lockouts: Option<Arc<Lockouts>>,
    /// `proxy_protocol.trusted`
    pub proxies: Arc<TrustedProxies>,
    /// Limits of bandwidth.
    pub bandwidth: Bandwidth,
    /// What the kernel may hold of each transfer.
    pub kernel_queues: Arc<KernelQueues>,
    /// `access.*`
    pub access: Access,
    /// The counters.
    pub metrics: FtpMetrics,
}

/// The control ports that ought to be served, and how many are.
#[derive(Debug)]
pub struct ControlPorts {
    bound: usize,
    served: Arc<Permits<()>>,
}

impl ControlPorts {
    /// So many that are bound, none of which is served yet.
    pub(super) fn new(bound: usize) -> Self {
        ControlPorts {
            bound,
            served: Arc::default(),
        }
    }

    /// Counts one as served until the permit is dropped, whatever ends its accept loop.
    pub(super) fn serve(&self) -> Permit<()> {
        self.served.acquire(())
    }

    /// The reason why clients can't connect to one of the ports, if there is one.
    pub fn not_ready(&self) -> Option<String> {
        let (served, bound) = (self.served.held(&()), self.bound);
        (served < bound).then(|| format!("{served} of {bound} control ports are served"))
    }
}

/// The result of a drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Sessions that were open when it began.
    pub sessions: usize,
    /// Transfers that ended meanwhile.
    pub transfers: Ended<u64>,
    /// The time it took.
    pub took: Duration,
}

impl Frontend {
    /// Ends all sessions: each when it has rested for `drain.idle`, or else when `deadline` has nearly passed, between two
    /// commands; transfers when they are done or when it has passed.
    pub async fn drain(&self, deadline: Duration) -> Drained {
        let (begun, before) = (Instant::now(), self.metrics.ended());
        let open = self.connections.count();
        self.drain.cancel();
        self.tasks.close();
        if open > 0 {
            info!(sessions = open, "draining");
        }
        let last_call = deadline - (deadline / 10).min(LAST_CALL);
        let ending = async {
            if tokio::time::timeout(last_call, self.tasks.wait())
                .await
                .is_err()
            {
                // one that stores file after file is better refused its next file than cut in the middle of it
                self.last_call.cancel();
                self.tasks.wait().await;
            }
        };
        if tokio::time::timeout(deadline, ending).await.is_err() {
            warn!(
                sessions = self.connections.count(),
                "the drain deadline has passed, transfers are ended"
            );
            self.stop.cancel();
            if tokio::time::timeout(STOP_TIMEOUT, self.tasks.wait())
                .await
                .is_err()
            {
                warn!(
                    sessions = self.connections.count(),
                    "sessions did not end in time"
                );
            }
        }
        self.stop.cancel();
        let after = self.metrics.ended();
        Drained {
            sessions: open,
            transfers: Ended {
                complete: after.complete - before.complete,
                incomplete: after.incomplete - before.incomplete,
            },
            took: begun.elapsed(),
        }
    }
}

/// The time before the drain's deadline in which no session begins another command; a tenth of a deadline that is short.
const LAST_CALL: Duration = Duration::from_secs(30);

/// The longest time that transfers may take to end after they were interrupted: time to complete or abort at the store.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
