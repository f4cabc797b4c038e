//! Every metric: its name, unit, labels and meaning, in one table; and how they are written for Prometheus.
//!
//! Label values come from the program, never from a client: no path, key, user or address is one, so their number is
//! bounded. What is counted as it happens lives in [`Counters`] of the FTP side, of handover and in [`Requests`]; what can be asked for when somebody looks
//! is read then, by [`readings`](crate::admin::readings).
//!
//! The crate is `prometheus-client`, the one that the Prometheus project keeps itself: labels and units are typed, and
//! nothing is registered behind the program's back in a global registry, as libunftp's metrics are.

mod exposition;
mod process;
mod reading;

use std::time::Duration;

use prometheus_client::encoding::EncodeMetric;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

pub use exposition::{Exposition, Format};
pub(crate) use process::readings as process_readings;
pub use reading::Reading;

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Without unit and without `_total`.
    name: &'static str,
    /// The kind of number.
    pub kind: Kind,
    unit: In,
    /// Names of the labels.
    pub labels: &'static [&'static str],
    /// One sentence, without its full stop.
    pub help: &'static str,
}

/// The kind of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by size.
    Histogram,
}

/// In what a metric is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum In {
    Number,
    Seconds,
    Bytes,
}

impl Metric {
    /// The name as Prometheus knows it.
    pub fn exported(&self) -> String {
        let unit = match self.unit {
            In::Number => "",
            In::Seconds => "_seconds",
            In::Bytes => "_bytes",
        };
        let end = if self.kind == Kind::Counter {
            "_total"
        } else {
            ""
        };
        format!("{}{unit}{end}", self.name)
    }

    fn unit(&self) -> Option<Unit> {
        match self.unit {
            In::Number => None,
            In::Seconds => Some(Unit::Seconds),
            In::Bytes => Some(Unit::Bytes),
        }
    }
}

macro_rules! metrics {
    ($($name:ident = $metric:literal $kind:ident $unit:ident [$($label:literal)*] $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $name: Metric = Metric {
                name: $metric, kind: Kind::$kind, unit: In::$unit, labels: &[$($label),*], help: $help,
            };
        )*
        /// All metrics.
        pub const TABLE: &[Metric] = &[$($name),*];
    };
}

metrics! {
    BUILD = "cosgate_build_info" Gauge Number ["version"]
        "Always 1, with the version that runs";
    SESSIONS = "cosgate_sessions" Gauge Number []
        "Control connections that are open";
    CONNECTIONS_REFUSED = "cosgate_connections_refused" Counter Number ["reason"]
        "Control connections that were answered with 421: too many `sessions` in all, `descriptors` nearly used up, too many from one `address`, too many from one address that were `unauthenticated`, or an address that is `denied` by `access.deny` or `not_allowed` by `access.allow`";
    PROXY_HEADERS_REFUSED = "cosgate_proxy_headers_refused" Counter Number ["reason"]
        "Connections from `proxy_protocol.trusted` that were closed for want of a PROXY header: none within 5 s (`timeout`), something else or a damaged one (`malformed`), one that was `cut`, or too many connections of the proxy that are `waiting` for theirs; health checks don't count";
    LOGINS = "cosgate_logins" Counter Number ["result"]
        "Logins: `ok`, `wrong` (name or password), `locked` (after too many failures), `busy` (too many at once), `unavailable` (the endpoint or directory), `too_many_sessions`";
    LOCKOUTS = "cosgate_lockouts" Counter Number ["scope"]
        "Lockouts after too many failed logins: of an `address`, or of an address for one `user`";
    LOCKOUTS_SHARED = "cosgate_lockouts_shared" Counter Number ["scope"]
        "Lockouts here by failed logins at other replicas (`auth.lockout.shared`); not among those above";
    LOCKOUT_EVENTS = "cosgate_lockout_events" Counter Number ["outcome"]
        "Failed and successful logins as replicas report them: `sent` (to each), `received`, `dropped` (the oldest, where a replica takes none)";
    LOCKOUT_REPLICAS = "cosgate_lockout_replicas" Gauge Number ["state"]
        "The other replicas, as far as failed logins are shared: `current`, `gone` (not running), `silent` (while there is one, failed logins at other replicas don't count for users, only for addresses); absent if nothing is shared";
    TRANSFERS = "cosgate_transfers" Counter Number ["command" "outcome"]
        "Transfers by their end: `complete`, `kept`, `held`, `discarded`, `too_large`, `failed`, `no_data_connection`, `refused`";
    TRANSFERRED = "cosgate_transfer" Counter Bytes ["direction"]
        "Bytes on data connections while they move, `received` from clients and `sent` to them";
    BANDWIDTH_WAITED = "cosgate_bandwidth_waited" Counter Seconds ["direction"]
        "Time that transfers have waited for limits of bandwidth (`limits.*`, `users[].limits.*`), of bytes `received` from clients and `sent` to them; several wait at a time";
    TRANSFER_DURATION = "cosgate_transfer_duration" Histogram Seconds ["command"]
        "Time from a transfer's command to its last reply";
    INTEGRITY = "cosgate_integrity_failures" Counter Number []
        "Commands that failed because the store has other bytes than were sent, by length or checksum; nothing of them counts as stored";
    REQUESTS = "cosgate_s3_requests" Counter Number ["operation" "outcome"]
        "Requests to the store, retries included in each: `ok`, `not_found`, `refused` (other 4xx), `throttled`, `server_error`, `timeout`, `transport`, `cancelled` (also by the limit on all attempts)";
    REQUEST_DURATION = "cosgate_s3_request_duration" Histogram Seconds ["operation"]
        "Time from a request to the head of the answer to its last attempt";
    RETRIES = "cosgate_s3_retries" Counter Number ["operation"]
        "Attempts after the first";
    RETRIES_REFUSED = "cosgate_s3_retries_refused" Counter Number []
        "Attempts that were not made, since so many requests fail at once that the retries of all sessions together are used up";
    SWEPT = "cosgate_stale_uploads_aborted" Counter Number []
        "Multipart uploads of dead gateways that the sweeper found and aborted";
    HELD_UPLOADS = "cosgate_held_uploads" Counter Number ["outcome"]
        "Uploads that broke off with `upload.on_interrupt: hold`, by what became of them: `held`, `continued` by a client, `discarded` by a new upload or DELE, `expired` after `upload.stale_after`, with what dead gateways left";
    STORE_REACHABLE = "cosgate_store_reachable" Gauge Number []
        "1 if the store answered the last probe, 0 if it did not, or was not asked yet; absent if `admin.listen` is off";
    MEMORY_USED = "cosgate_buffer_memory_used" Gauge Bytes ["budget"]
        "Memory granted for parts of uploads (`upload`) and for what downloads read ahead (`download`)";
    MEMORY_LIMIT = "cosgate_buffer_memory_limit" Gauge Bytes ["budget"]
        "`upload.memory_budget` and `download.memory_budget`";
    MEMORY_WAITS = "cosgate_buffer_memory_waits" Counter Number []
        "Times that an upload had to wait for buffer memory";
    MEMORY_WAITED = "cosgate_buffer_memory_waited" Counter Seconds []
        "Time that uploads have waited for buffer memory";
    PASSIVE_PORTS = "cosgate_passive_ports" Gauge Number []
        "Passive ports that clients are given; with handover those of other replicas are bound, too";
    PASSIVE_RESERVED = "cosgate_passive_reservations" Gauge Number []
        "Data connections that clients have asked for and not made yet; each takes one port for one client address";
    PASSIVE_MISSED = "cosgate_passive_connections_missed" Counter Number []
        "Transfers whose passive data connection never came: a firewall, or a wrong masquerade address";
    PASSIVE_STRAYS = "cosgate_passive_connections_stray" Counter Number []
        "Connections to passive ports that no session had asked for";
    HANDOVER_RELAYS = "cosgate_handover_relays" Counter Number ["outcome"]
        "Data connections on ports of other replicas that have ended: `complete`, `reset` (by client or owner), `idle`, `unreachable` (the owner didn't answer), `limit` (`handover.max_connections`), `stopped`";
    HANDOVER_RELAYED = "cosgate_handover_relayed" Counter Bytes []
        "Bytes of such connections, both directions together, while they move";
    HANDOVER_OPEN = "cosgate_handover_open" Gauge Number []
        "Such connections at this moment; absent without handover";
    HANDOVER_RECEIVED = "cosgate_handover_received" Counter Number []
        "Data connections that other replicas have handed over to this one";
    HANDOVER_REFUSED = "cosgate_handover_refused" Counter Number ["reason"]
        "Connections to the handover port that were refused: `header` (no header of a gateway), `key` (another `handover.key`), `stale` (clocks differ by more than 30 s), `replayed` (a header used twice), `port` (of another replica), `message` (one on a stream of lockout events was changed, repeated or cut), `busy`";
    MASQUERADE_KNOWN = "cosgate_masquerade_address_known" Gauge Number []
        "1 if PASV has an address to reply with, 0 while it is waited for";
    MASQUERADE_CHANGES = "cosgate_masquerade_address_changes" Counter Number []
        "How often one masquerade address took the place of another";
    API_SERVER_SILENCE = "cosgate_api_server_silence" Gauge Seconds []
        "How long ago the API server last answered the watcher of the Service, which asks every few seconds; absent without `kubernetes.service`";
    USERS_FAILING = "cosgate_users_reload_failing_since_timestamp" Gauge Seconds []
        "Since when a changed users file can't be used, in Unix time, or 0";
    ACCESS_FAILING = "cosgate_access_reload_failing_since_timestamp" Gauge Seconds []
        "Since when a changed `access.file` can't be used, in Unix time, or 0";
    CERTIFICATE_EXPIRY = "cosgate_certificate_expiry_timestamp" Gauge Seconds []
        "When the certificate in force ends, in Unix time; absent without FTPS";
    CERTIFICATE_FAILING = "cosgate_certificate_reload_failing_since_timestamp" Gauge Seconds []
        "Since when changed certificate files can't be used, in Unix time, or 0; absent without FTPS";
    EVENTS = "cosgate_events" Counter Number ["sink" "outcome"]
        "Events about committed files, by sink of the configuration: `accepted`, `refused` (an attempt that the sink refused), `retried`, `lost` (no room, or given up), `deferred` (no room, left in the outbox)";
    EVENTS_BACKLOG = "cosgate_events_backlog" Gauge Number ["sink"]
        "Events that a sink has not taken yet";
    EVENTS_OLDEST = "cosgate_events_oldest" Gauge Seconds ["sink"]
        "How long the oldest of them has waited, or 0";
    OUTBOX = "cosgate_outbox" Counter Number ["outcome"]
        "Entries of the outbox: `written`, `unwritten` (their changes were refused with 451), `deleted`, and of those that gateways have left behind `replayed`, `unconfirmed` (sent, though another object has taken the place) and `dropped`; absent unless `events.delivery` is `durable`, as the next two are";
    OUTBOX_ENTRIES = "cosgate_outbox_entries" Gauge Number []
        "Events in the outboxes at the last look, of all replicas, up to 10,000 for each bucket";
    OUTBOX_OLDEST = "cosgate_outbox_oldest" Gauge Seconds []
        "How long this process has seen the oldest of them there unchanged, or 0";
    LOG_DROPPED = "cosgate_log_lines_dropped" Counter Number []
        "Log lines that were dropped because nobody read standard output";
    SPANS_ENDED = "cosgate_trace_spans" Counter Number []
        "Spans that were to be sent to the collector";
    SPANS_EXPORTED = "cosgate_trace_spans_exported" Counter Number []
        "Spans that the collector has taken; the rest waits or is lost";
    TASKS = "cosgate_tasks" Gauge Number []
        "Tasks of the program that have not ended, those that wait among them: some for each connection and request; flat under the same load";
    PROCESS_CPU = "process_cpu" Counter Seconds []
        "User and system CPU time";
    PROCESS_MEMORY = "process_resident_memory" Gauge Bytes []
        "Resident memory";
    PROCESS_FDS = "process_open_fds" Gauge Number []
        "Open file descriptors";
    PROCESS_MAX_FDS = "process_max_fds" Gauge Number []
        "File descriptors that may be open";
    PROCESS_START = "process_start_time" Gauge Seconds []
        "When the process started, in Unix time";
}

/// The table for the guide.
pub fn markdown_rows() -> String {
    let row = |metric: &Metric| {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let labels: Vec<String> = metric.labels.iter().map(|l| format!("`{l}`")).collect();
        let (name, labels) = (metric.exported(), labels.join(", "));
        format!("| `{name}` | {kind} | {labels} | {}. |\n", metric.help)
    };
    TABLE.iter().map(row).collect()
}

/// Names and values of `N` labels.
pub(crate) type Labels<const N: usize> = [(&'static str, &'static str); N];
/// Histograms by the value of a label.
pub(crate) type Histograms = Family<Labels<1>, Histogram, fn() -> Histogram>;

/// Metrics that are counted as it happens.
pub trait Counters {
    /// Exposes each of them under its row of the table.
    fn register(&self, registry: &mut Registry);
}

/// The counters of the requests to the store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Requests {
    requests: Family<Labels<2>, Counter>,
    durations: Histograms,
    retries: Family<Labels<1>, Counter>,
    retries_refused: Counter,
    swept: Counter,
    held: Family<Labels<1>, Counter>,
}

impl Default for Requests {
    fn default() -> Self {
        let held = Family::<Labels<1>, Counter>::default();
        // there from the start, so that a rate sees the first one
        for outcome in ["held", "continued", "discarded", "expired"] {
            drop(held.get_or_create(&[("outcome", outcome)]));
        }
        Requests {
            requests: Family::default(),
            durations: Family::new_with_constructor(request_histogram),
            retries: Family::default(),
            retries_refused: Counter::default(),
            swept: Counter::default(),
            held,
        }
    }
}

impl Requests {
    /// A request that has ended.
    pub fn request(&self, operation: &'static str, outcome: &'static str, took: Duration) {
        let labels = [("operation", operation), ("outcome", outcome)];
        self.requests.get_or_create(&labels).inc();
        let histogram = self.durations.get_or_create(&[("operation", operation)]);
        histogram.observe(took.as_secs_f64());
        // from its first request on an operation has a number of retries, be it 0
        drop(self.retries.get_or_create(&[("operation", operation)]));
    }

    /// Another attempt.
    pub fn retry(&self, operation: &'static str) {
        self.retries
            .get_or_create(&[("operation", operation)])
            .inc();
    }

    /// There was no other attempt, for want of quota.
    pub fn retry_refused(&self) {
        self.retries_refused.inc();
    }

    /// A stale multipart upload was aborted.
    pub fn swept(&self) {
        self.swept.inc();
    }

    /// Counts an upload that broke off and was held, by its outcome.
    pub fn held(&self, outcome: &'static str) {
        self.held.get_or_create(&[("outcome", outcome)]).inc();
    }
}

impl Counters for Requests {
    fn register(&self, registry: &mut Registry) {
        register(registry, REQUESTS, self.requests.clone());
        register(registry, REQUEST_DURATION, self.durations.clone());
        register(registry, RETRIES, self.retries.clone());
        register(registry, RETRIES_REFUSED, self.retries_refused.clone());
        register(registry, SWEPT, self.swept.clone());
        register(registry, HELD_UPLOADS, self.held.clone());
    }
}

/// Exposes `metric` under its row of the table.
pub(crate) fn register<M>(registry: &mut Registry, row: Metric, metric: M)
where
    M: EncodeMetric + Send + Sync + std::fmt::Debug + 'static,
{
    match row.unit() {
        Some(unit) => registry.register_with_unit(row.name, row.help, unit, metric),
        None => registry.register(row.name, row.help, metric),
    }
}

/// From a store next door to the limit on all attempts.
fn request_histogram() -> Histogram {
    Histogram::new([
        0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
    ])
}
