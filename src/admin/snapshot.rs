//! The content of the status page, gathered in one moment. Plain values: nothing here is looked at twice, or held.

use std::cmp::Reverse;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::admin::probe::Verdict;
use crate::admin::readiness::Readiness;
use crate::certificates::Validity;
use crate::cluster::lockouts::Replicas;
use crate::config::StoreOutage;
use crate::events::OutboxState;
use crate::failures::{Failure, MAX_FAILURES};
use crate::ftp::frontend::Frontend;
use crate::ftp::session::state::Session;
use crate::masquerade::{Decision, Ports};

/// Sessions, and transfers, that are shown; of more only the number is.
pub const SHOWN: usize = 200;

/// A gateway as it is now.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Now.
    pub at: SystemTime,
    /// For how long it has been running.
    pub uptime: Duration,
    /// The answer of `/readyz`.
    pub readiness: Readiness,
    /// The verdict on the store's answers.
    pub store: Verdict,
    /// It is stopping: no new sessions, transfers go on.
    pub is_draining: bool,
    /// Up to [`SHOWN`] sessions, the oldest first.
    pub sessions: Vec<SessionRow>,
    /// All sessions.
    pub session_count: usize,
    /// `sessions.max`
    pub session_limit: usize,
    /// Up to [`SHOWN`] transfers, the oldest first.
    pub transfers: Vec<TransferRow>,
    /// All transfers.
    pub transfer_count: usize,
    /// The address in PASV replies.
    pub masquerade: MasqueradeRow,
    /// Passive ports that are bound.
    pub passive_ports: usize,
    /// Data connections that clients have asked for and not made yet.
    pub passive_waiting: usize,
    /// Connections to passive ports that nobody had asked for.
    pub passive_strays: u64,
    /// Data connections of other replicas, and those that came by way of them; none without handover.
    pub handover: Option<HandoverRow>,
    /// The replicas that share failed logins; none if they aren't shared.
    pub lockouts: Option<Replicas>,
    /// Buffer memory of uploads.
    pub upload_memory: Budget,
    /// Memory of what downloads read ahead.
    pub download_memory: Budget,
    /// The certificate in force, with FTPS.
    pub certificate: Option<Validity>,
    /// The sinks of events.
    pub sinks: Vec<SinkRow>,
    /// The outbox, with durable events.
    pub outbox: Option<OutboxState>,
    /// The failures, the newest first.
    pub failures: Vec<Failure>,
}

/// One session.
#[derive(Debug, Clone)]
pub struct SessionRow {
    /// Its number, as in the log.
    pub id: u64,
    /// Empty before the login.
    pub user: String,
    /// The client.
    pub client: IpAddr,
    /// When it connected.
    pub since: SystemTime,
    /// True if the control connection is protected.
    pub is_secured: bool,
    /// The last command.
    pub verb: &'static str,
    /// True if it is still running.
    pub is_running: bool,
    /// The time for which it has been idle, or at that command.
    pub for_time: Duration,
}

/// One transfer.
#[derive(Debug, Clone)]
pub struct TransferRow {
    /// The number of its session.
    pub session: u64,
    /// Whose.
    pub user: String,
    /// The client.
    pub client: IpAddr,
    /// `STOR`, `RETR`, `LIST` and the like.
    pub verb: &'static str,
    /// The name.
    pub path: String,
    /// Bytes that have crossed the data connection.
    pub bytes: u64,
    /// Bytes that will, if that is known.
    pub expected: Option<u64>,
    /// Bytes per second.
    pub rate: u64,
    /// Since its command.
    pub for_time: Duration,
    /// False while the data connection is waited for.
    pub is_connected: bool,
}

/// The address in PASV replies, and its source.
#[derive(Debug, Clone)]
pub struct MasqueradeRow {
    /// The address, or in words what stands for it.
    pub address: String,
    /// Where it comes from, or why there is none.
    pub origin: String,
    /// False while one is waited for.
    pub is_known: bool,
    /// Of the public ports, if they aren't the bound ones; and of the watch, if it doesn't work.
    pub remarks: Vec<String>,
}

/// A sink of events.
#[derive(Debug, Clone)]
pub struct SinkRow {
    /// `events.sinks[].name`
    pub name: String,
    /// Events that it has taken.
    pub accepted: u64,
    /// Events that it has not taken yet.
    pub backlog: usize,
    /// The time that the oldest of them has waited.
    pub oldest: Option<Duration>,
    /// Events that are lost.
    pub lost: u64,
    /// Why the last attempt failed, if it did.
    pub failure: Option<String>,
}

/// Data connections that go from replica to replica.
#[derive(Debug, Clone, Copy)]
pub struct HandoverRow {
    /// On their way to others at this moment.
    pub open: usize,
    /// The most.
    pub limit: usize,
    /// That others have handed over to this gateway so far.
    pub received: u64,
    /// Connections to the handover port that were refused so far.
    pub refused: u64,
}

/// Memory in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Granted.
    pub used: u64,
    /// The most.
    pub limit: u64,
}

impl Snapshot {
    /// Looks at everything once.
    pub fn of(frontend: &Frontend, store: Verdict, outage: StoreOutage) -> Self {
        let (sessions, transferring, session_count) = frontend.registry.look(SHOWN);
        let mut transfers: Vec<TransferRow> =
            transferring.iter().filter_map(transfer_row).collect();
        let transfer_count = transfers.len();
        transfers.sort_by_key(|row| Reverse(row.for_time));
        transfers.truncate(SHOWN);
        let ((upload, download), read_ahead) = (
            frontend.store.memory_limits(),
            frontend.store.read_ahead_bytes(),
        );
        Snapshot {
            at: SystemTime::now(),
            uptime: frontend.started.elapsed(),
            readiness: Readiness::of(frontend, &store, outage),
            store,
            is_draining: frontend.drain.is_cancelled(),
            sessions: sessions.iter().map(session_row).collect(),
            session_count,
            session_limit: frontend.sessions.max,
            transfers,
            transfer_count,
            masquerade: masquerade(frontend),
            passive_ports: frontend.pools.iter().map(|pool| pool.size()).sum(),
            passive_waiting: frontend.pools.iter().map(|pool| pool.reserved()).sum(),
            passive_strays: frontend.pools.iter().map(|pool| pool.strays()).sum(),
            handover: frontend.handover.as_ref().map(|handover| {
                let (received, refused) = (
                    handover.counts().all_received(),
                    handover.counts().all_refused(),
                );
                HandoverRow {
                    open: handover.open(),
                    limit: handover.limit(),
                    received,
                    refused,
                }
            }),
            lockouts: frontend
                .lockouts
                .as_ref()
                .map(|lockouts| lockouts.replicas()),
            upload_memory: Budget {
                used: frontend.store.buffered_bytes(),
                limit: upload,
            },
            download_memory: Budget {
                used: read_ahead,
                limit: download,
            },
            certificate: frontend.tls.as_ref().map(|tls| tls.validity()),
            sinks: sinks(frontend),
            outbox: frontend.events.outbox_state(),
            failures: failures(frontend),
        }
    }
}

fn sinks(frontend: &Frontend) -> Vec<SinkRow> {
    let states = frontend.events.states().into_iter();
    let rows = states.map(|(name, state)| {
        let [accepted, _, _, lost, _] = state.counts.values();
        SinkRow {
            name: name.to_owned(),
            accepted,
            backlog: state.backlog,
            oldest: state.oldest,
            lost,
            failure: state.failure,
        }
    });
    rows.collect()
}

fn session_row(session: &Arc<Session>) -> SessionRow {
    let doing = session.doing();
    SessionRow {
        id: session.id,
        user: user_name(session),
        client: session.peer.ip().to_canonical(),
        since: session.since,
        is_secured: session.is_secured(),
        verb: doing.verb,
        is_running: doing.is_running,
        for_time: doing.since.elapsed(),
    }
}

fn transfer_row(session: &Arc<Session>) -> Option<TransferRow> {
    // it may have ended since the registry was looked at
    let transfer = session.transfer()?;
    let subject = transfer.subject();
    Some(TransferRow {
        session: session.id,
        user: user_name(session),
        client: session.peer.ip().to_canonical(),
        verb: subject.verb,
        path: subject.path.to_string(),
        bytes: transfer.bytes(),
        expected: transfer.expected(),
        rate: transfer.rate(),
        for_time: transfer.began().elapsed(),
        is_connected: transfer.is_connected(),
    })
}

fn user_name(session: &Session) -> String {
    session
        .user()
        .map_or_else(String::new, |user| user.name.clone())
}

fn masquerade(frontend: &Frontend) -> MasqueradeRow {
    let published = frontend.masquerade.subscribe().borrow().clone();
    let (address, origin, is_known) = match published.decision {
        Decision::Known { address, origin } => {
            (address.to_string(), format!("from {origin}"), true)
        }
        Decision::ControlConnection => (
            "Each client's own".to_owned(),
            "the address that it connected to, since no other is configured".to_owned(),
            true,
        ),
        Decision::ProxyHeader => (
            "Each client's own".to_owned(),
            "the public address that its PROXY header names (proxy_protocol.masquerade)".to_owned(),
            true,
        ),
        Decision::Unknown(reason) => ("Not known".to_owned(), reason.to_string(), false),
    };
    let ports = match published.ports {
        Ports::AsBound => None,
        Ports::Mapped(map) => Some(format!(
            "{} passive ports have other public ports",
            map.len()
        )),
        Ports::Unknown(reason) => Some(format!("the public ports are not known: {reason}")),
    };
    let trouble = published.trouble.map(|trouble| {
        let holds = if is_known {
            "what is known holds"
        } else {
            "nothing is known yet"
        };
        format!("the Service is not watched, {holds}: {trouble}")
    });
    MasqueradeRow {
        address,
        origin,
        is_known,
        remarks: ports.into_iter().chain(trouble).collect(),
    }
}

/// Transfers and logins have rings of their own, so that who guesses passwords can't push transfers out.
fn failures(frontend: &Frontend) -> Vec<Failure> {
    let mut failures = frontend.registry.failures.list();
    failures.extend(frontend.users.failed_logins());
    failures.sort_by_key(|failure| Reverse(failure.at));
    failures.truncate(2 * MAX_FAILURES);
    failures
}
