use std::net::IpAddr;
use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::admin::readiness::Readiness;
use crate::admin::snapshot::{HandoverRow, MasqueradeRow};
use crate::cluster::lockouts::Replicas;

const HOSTILE: &str = "<script>alert(1)</script>\"'&<img src=x onerror=alert(1)>";

fn client() -> IpAddr {
    IpAddr::from([192, 0, 2, 1])
}

/// A gateway in which every text that can come from outside is hostile.
fn hostile() -> Snapshot {
    let text = || HOSTILE.to_owned();
    let budget = Budget {
        used: 1 << 20,
        limit: 64 << 20,
    };
    let session = SessionRow {
        id: 1,
        user: text(),
        client: client(),
        since: UNIX_EPOCH,
        is_secured: false,
        verb: "STOR",
        is_running: true,
        for_time: Duration::from_secs(3),
    };
    let transfer = TransferRow {
        session: 1,
        user: text(),
        client: client(),
        verb: "STOR",
        path: text(),
        bytes: 512,
        expected: Some(1024),
        rate: 100,
        for_time: Duration::from_secs(3),
        is_connected: true,
    };
    Snapshot {
        at: UNIX_EPOCH + Duration::from_secs(100),
        uptime: Duration::from_secs(100),
        readiness: Readiness {
            reasons: vec![text()],
            notes: vec![text()],
        },
        store: Verdict::Unreachable(text()),
        is_draining: false,
        sessions: vec![session],
        session_count: 1234,
        session_limit: 1000,
        transfers: vec![transfer],
        transfer_count: 1,
        masquerade: MasqueradeRow {
            address: text(),
            origin: text(),
            is_known: false,
            remarks: vec![text()],
        },
        passive_ports: 16,
        passive_waiting: 1,
        passive_strays: 2,
        handover: Some(HandoverRow {
            open: 3,
            limit: 1000,
            received: 4,
            refused: 5,
        }),
        lockouts: Some(Replicas {
            current: 2,
            gone: 1,
            silent: vec![3, 4],
        }),
        upload_memory: budget,
        download_memory: budget,
        certificate: None,
        sinks: vec![SinkRow {
            name: "pipeline".to_owned(),
            accepted: 3,
            backlog: 2,
            oldest: Some(Duration::from_secs(61)),
            lost: 1,
            failure: Some(text()),
        }],
        outbox: Some(OutboxState {
            counts: [0; 6],
            entries: 4,
            oldest: Some(Duration::from_secs(61)),
            failure: Some(text()),
        }),
        failures: vec![Failure::new(
            HOSTILE,
            client(),
            ("STOR", HOSTILE),
            425,
            text(),
        )],
    }
}

#[test]
fn whatever_comes_from_outside_is_text() {
    let page = page(&hostile());
    assert_eq!(page.matches("<script").count(), 1, "the page's own");
    assert!(!page.contains("<img"));
    let escaped = "&lt;script&gt;alert(1)&lt;/script&gt;";
    // user and path of a session, a transfer and a failure, its cause, two reasons, the store, and three of the address
    assert_eq!(page.matches(escaped).count(), 14, "{page}");
}

#[test]
fn handover_has_its_figures_where_it_is_on() {
    let mut snapshot = hostile();
    let shown = page(&snapshot);
    let text = "of 1000 to other replicas, 4 taken from them so far, 5 refused";
    assert!(
        shown.contains("3 relayed") && shown.contains(text),
        "{shown}"
    );
    snapshot.handover = None;
    assert!(!page(&snapshot).contains("Handover"));
}

#[test]
fn lockouts_name_the_replicas_that_are_silent() {
    let mut snapshot = hostile();
    let shown = page(&snapshot);
    for text in ["Shared with 2", "1 other replicas", "silent: 3, 4;"] {
        assert!(shown.contains(text), "{text} in {shown}");
    }
    if let Some(replicas) = &mut snapshot.lockouts {
        replicas.silent.clear();
    }
    assert!(!page(&snapshot).contains("silent"));
    snapshot.lockouts = None;
    assert!(!page(&snapshot).contains("Lockouts"));
}

#[test]
fn the_policy_lets_the_pages_own_script_and_style_in_and_nothing_else() {
    let policy = policy();
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"));
    assert!(!policy.contains("unsafe") && !policy.contains('*'));
    let page = page(&hostile());
    assert!(!page.contains("style=") && !page.contains("http://") && !page.contains("https://"));
    assert!(!SCRIPT.contains("</") && !STYLE.contains("</"));
}

#[test]
fn more_sessions_than_are_shown_are_a_number() {
    let page = page(&hostile());
    assert!(page.contains("and 1233 more"));
}

#[test]
fn the_state_is_the_worst_that_holds() {
    let mut snapshot = hostile();
    let state = |snapshot: &Snapshot| {
        let text = overview(snapshot).into_string();
        let from = text.find("class=\"state ").expect("a state") + "class=\"state ".len();
        text[from..from + 4].to_owned()
    };
    assert_eq!(state(&snapshot), "bad\"");
    snapshot.readiness.reasons.clear();
    assert_eq!(state(&snapshot), "warn");
    snapshot.readiness.notes.clear();
    assert_eq!(state(&snapshot), "good");
    snapshot.is_draining = true;
    assert_eq!(state(&snapshot), "warn");
}

#[test]
fn a_certificate_is_shown_with_the_days_it_has_left() {
    let now = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let until = |days: i64| {
        let seconds = 1_000_000_000 + days * 86_400;
        Some(Validity {
            from: UNIX_EPOCH,
            until: UNIX_EPOCH + Duration::from_secs(seconds.unsigned_abs()),
        })
    };
    let text = |days| certificate(until(days), now).into_string();
    assert!(text(90).contains("90 days left") && !text(90).contains("warn"));
    assert!(text(3).contains("class=\"warn\""));
    assert!(text(-1).contains("Not valid"));
    assert!(certificate(None, now).into_string().contains("FTPS is off"));
}
