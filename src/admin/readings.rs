//! The metrics that are read when somebody scrapes, from the gateway's own state: nothing is kept a second time.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::events::{OUTBOX_OUTCOMES, OUTCOMES, SinkState};
use crate::ftp::frontend::Frontend;
use crate::metrics::*;
use crate::reload::Reload;
use crate::telemetry;

/// Everything of a gateway that is not counted as it happens.
pub fn readings(frontend: &Arc<Frontend>, is_store_reachable: bool) -> Vec<Reading> {
    let store = &frontend.store;
    let masquerade = frontend.masquerade.subscribe().borrow().clone();
    let users = frontend.users.reload_state().borrow().clone();
    let both = |upload: u64, download: u64| {
        [
            ("upload".to_owned(), upload as f64),
            ("download".to_owned(), download as f64),
        ]
    };
    let (waits, waited) = store.memory_waits();
    let sum = |of: fn(&crate::passive::PassivePool) -> u64| {
        frontend.pools.iter().map(|pool| of(pool)).sum::<u64>() as f64
    };
    let mut readings = vec![
        Reading::by_label(BUILD, [(env!("CARGO_PKG_VERSION").to_owned(), 1.0)]),
        Reading::of(SESSIONS, frontend.connections.count() as f64),
        Reading::by_label(
            PROXY_HEADERS_REFUSED,
            frontend
                .proxies
                .refused()
                .map(|(reason, count)| (reason.to_owned(), count as f64)),
        ),
        Reading::by_label(
            LOCKOUTS,
            frontend
                .users
                .guard()
                .lockouts()
                .map(|(scope, count)| (scope.to_owned(), count as f64)),
        ),
        Reading::by_label(
            LOCKOUTS_SHARED,
            frontend
                .users
                .guard()
                .lockouts_elsewhere()
                .map(|(scope, count)| (scope.to_owned(), count as f64)),
        ),
        Reading::by_label(
            MEMORY_USED,
            both(store.buffered_bytes(), store.read_ahead_bytes()),
        ),
        Reading::by_label(MEMORY_LIMIT, {
            let (upload, download) = store.memory_limits();
            both(upload, download)
        }),
        Reading::of(STORE_REACHABLE, f64::from(u8::from(is_store_reachable))),
        Reading::of(MEMORY_WAITS, waits as f64),
        Reading::of(MEMORY_WAITED, waited.as_secs_f64()),
        Reading::of(PASSIVE_PORTS, sum(|pool| pool.size() as u64)),
        Reading::of(PASSIVE_RESERVED, sum(|pool| pool.reserved() as u64)),
        Reading::of(PASSIVE_STRAYS, sum(|pool| pool.strays())),
        Reading::of(
            MASQUERADE_KNOWN,
            f64::from(u8::from(frontend.masquerade.is_known())),
        ),
        Reading::of(MASQUERADE_CHANGES, masquerade.changes as f64),
        Reading::of(USERS_FAILING, failing_since(&users)),
        Reading::of(
            ACCESS_FAILING,
            failing_since(&frontend.access.reload_state()),
        ),
        Reading::of(LOG_DROPPED, telemetry::log_lines_dropped() as f64),
        Reading::of(SPANS_ENDED, telemetry::spans_ended() as f64),
        Reading::of(SPANS_EXPORTED, telemetry::spans_exported() as f64),
    ];
    readings.extend(events(frontend));
    readings.extend(outbox(frontend));
    readings.push(match &frontend.contact {
        Some(contact) => Reading::of(API_SERVER_SILENCE, contact.age().as_secs_f64()),
        None => Reading {
            metric: API_SERVER_SILENCE,
            samples: Vec::new(),
        },
    });
    readings.push(match &frontend.handover {
        Some(handover) => Reading::of(HANDOVER_OPEN, handover.open() as f64),
        None => Reading {
            metric: HANDOVER_OPEN,
            samples: Vec::new(),
        },
    });
    let replicas = frontend
        .lockouts
        .as_ref()
        .map(|lockouts| lockouts.replicas());
    let states = replicas.iter().flat_map(|replicas| {
        [
            ("current".to_owned(), replicas.current as f64),
            ("gone".to_owned(), replicas.gone as f64),
            ("silent".to_owned(), replicas.silent.len() as f64),
        ]
    });
    readings.push(Reading::by_label(LOCKOUT_REPLICAS, states));
    readings.extend(certificate(frontend));
    readings.extend(process_readings());
    readings
}

/// Without sinks there are metrics, and no values of them.
fn events(frontend: &Frontend) -> [Reading; 3] {
    let states = frontend.events.states();
    let each = |value: fn(&SinkState<'_>) -> f64| {
        let of_sink = states
            .iter()
            .map(|(name, state)| ((*name).to_owned(), value(state)));
        of_sink.collect::<Vec<_>>()
    };
    let counts = states.iter().flat_map(|(name, state)| {
        let outcomes = OUTCOMES.into_iter().zip(state.counts.values());
        outcomes.map(move |(outcome, count)| {
            let labels = vec![
                ("sink", (*name).to_owned()),
                ("outcome", outcome.to_owned()),
            ];
            (labels, count as f64)
        })
    });
    [
        Reading {
            metric: EVENTS,
            samples: counts.collect(),
        },
        Reading::by_label(EVENTS_BACKLOG, each(|state| state.backlog as f64)),
        Reading::by_label(
            EVENTS_OLDEST,
            each(|state| state.oldest.map_or(0.0, |oldest| oldest.as_secs_f64())),
        ),
    ]
}

/// Without durable events there are metrics, and no values of them.
fn outbox(frontend: &Frontend) -> [Reading; 3] {
    let state = frontend.events.outbox_state();
    let reading = |metric: Metric, value: Option<f64>| Reading {
        metric,
        samples: value.map(|value| (Vec::new(), value)).into_iter().collect(),
    };
    let counts = state.iter().flat_map(|state| {
        let outcomes = OUTBOX_OUTCOMES.into_iter().zip(state.counts);
        outcomes.map(|(outcome, count)| (outcome.to_owned(), count as f64))
    });
    let oldest =
        |state: &crate::events::OutboxState| state.oldest.map_or(0.0, |age| age.as_secs_f64());
    [
        Reading::by_label(OUTBOX, counts),
        reading(
            OUTBOX_ENTRIES,
            state.as_ref().map(|state| state.entries as f64),
        ),
        reading(OUTBOX_OLDEST, state.as_ref().map(oldest)),
    ]
}

/// Without FTPS there is a metric, and no value of it.
fn certificate(frontend: &Frontend) -> [Reading; 2] {
    let tls = frontend.tls.as_ref();
    let expiry = tls.map_or(0.0, |tls| unix_seconds(tls.not_after()));
    let failing = tls.map_or(0.0, |tls| failing_since(&tls.state()));
    let mut readings = [
        Reading::of(CERTIFICATE_EXPIRY, expiry),
        Reading::of(CERTIFICATE_FAILING, failing),
    ];
    if tls.is_none() {
        for reading in &mut readings {
            reading.samples.clear();
        }
    }
    readings
}

/// Since when the newest state can't be loaded, or 0.
fn failing_since(state: &Reload) -> f64 {
    let failure = state.failure.as_ref();
    failure.map_or(0.0, |failure| unix_seconds(failure.since))
}

fn unix_seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}
