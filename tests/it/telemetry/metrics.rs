//! Metrics: those of the table, and no others.

use std::collections::BTreeSet;

use cosgate::metrics::{Kind, TABLE};

use super::{MIB, get};
use crate::support::http::sample;
use crate::support::{TestGateway, pattern, try_login};

#[tokio::test]
async fn the_metrics_are_those_of_the_table_and_count_what_happens() {
    let gateway = TestGateway::with(&[
        "ADMIN__LISTEN=127.0.0.1:0",
        "TLS__SELF_SIGNED=true",
        "UPLOAD__MEMORY_BUDGET=64MiB",
        "PASSIVE__ACCEPT_TIMEOUT=100ms",
    ])
    .await;
    let admin = gateway.gateway.admin_address().expect("it is on");
    let mut ftp = gateway.login().await;
    assert_eq!(ftp.store("STOR f", &pattern(100_000)).await.code, 226);
    assert_eq!(ftp.fetch("RETR f").await.1.code, 226);
    assert_eq!(ftp.command("SIZE missing").await.code, 550);
    assert_eq!(ftp.command("EPSV").await.code, 229);
    assert_eq!(ftp.command("RETR f").await.code, 425);

    let (head, text) = get(admin, "").await;
    assert!(head.contains("text/plain; version=0.0.4"), "{head}");
    for (name, value) in [
        ("cosgate_sessions", 1.0),
        ("cosgate_logins_total{result=\"ok\"}", 1.0),
        (
            "cosgate_transfers_total{command=\"STOR\",outcome=\"complete\"}",
            1.0,
        ),
        (
            "cosgate_transfers_total{command=\"RETR\",outcome=\"no_data_connection\"}",
            1.0,
        ),
        (
            "cosgate_transfer_bytes_total{direction=\"received\"}",
            100_000.0,
        ),
        (
            "cosgate_transfer_bytes_total{direction=\"sent\"}",
            100_000.0,
        ),
        (
            "cosgate_transfer_duration_seconds_count{command=\"STOR\"}",
            1.0,
        ),
        (
            "cosgate_s3_requests_total{operation=\"PutObject\",outcome=\"ok\"}",
            1.0,
        ),
        (
            "cosgate_s3_requests_total{operation=\"HeadObject\",outcome=\"not_found\"}",
            1.0,
        ),
        (
            "cosgate_buffer_memory_limit_bytes{budget=\"upload\"}",
            64.0 * MIB as f64,
        ),
        ("cosgate_passive_ports", 4.0),
        ("cosgate_passive_reservations", 0.0),
        ("cosgate_passive_connections_missed_total", 1.0),
        ("cosgate_masquerade_address_known", 1.0),
        (
            "cosgate_certificate_reload_failing_since_timestamp_seconds",
            0.0,
        ),
    ] {
        assert_eq!(sample(&text, name), value, "{name}");
    }
    let expiry = sample(&text, "cosgate_certificate_expiry_timestamp_seconds");
    let now = std::time::UNIX_EPOCH
        .elapsed()
        .expect("after 1970")
        .as_secs_f64();
    assert!(expiry > now);

    let exported: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .filter_map(|rest| rest.split(' ').next())
        .collect();
    let table: Vec<String> = TABLE.iter().map(|metric| metric.exported()).collect();
    let table: BTreeSet<&str> = table.iter().map(String::as_str).collect();
    assert_eq!(exported, table);
    for metric in TABLE {
        for label in labels(&text, &metric.exported()) {
            assert!(
                metric.labels.contains(&label) || metric.kind == Kind::Histogram && label == "le",
                "{} has the label {label}",
                metric.exported()
            );
        }
    }
    for unwanted in ["/f", "\"f\"", "demo", "127.0.0.1"] {
        assert!(!text.contains(unwanted), "{unwanted} in\n{text}");
    }

    let (head, open) = get(
        admin,
        "application/openmetrics-text;version=1.0.0,text/plain;q=0.5",
    )
    .await;
    assert!(
        head.contains("application/openmetrics-text; version=1.0.0"),
        "{head}"
    );
    assert!(open.ends_with("# EOF\n"));
    assert!(open.contains("# TYPE cosgate_logins counter\n"));
    gateway.stop().await;
}

/// The label names of all samples of a metric.
fn labels<'a>(text: &'a str, metric: &str) -> BTreeSet<&'a str> {
    let samples = text.lines().filter(|line| line.starts_with(metric));
    let inside = samples.filter_map(|line| Some(line.split_once('{')?.1.rsplit_once('}')?.0));
    let pairs = inside.flat_map(|inside| inside.split(','));
    pairs
        .filter_map(|pair| Some(pair.split_once('=')?.0))
        .collect()
}

#[test]
fn the_guide_has_a_row_for_every_metric() {
    let rows = cosgate::metrics::markdown_rows();
    crate::support::guide::check_table("monitoring.md", "## Metrics", &rows);
}

#[tokio::test]
async fn lockouts_are_counted_by_what_is_locked_out() {
    for (limit, scope, other) in [
        ("PER_USER", "user", "address"),
        ("PER_ADDRESS", "address", "user"),
    ] {
        let gateway = TestGateway::with(&[
            "ADMIN__LISTEN=127.0.0.1:0",
            "AUTH__LOCKOUT__DELAY=1ms",
            &format!("AUTH__LOCKOUT__{limit}=2"),
        ])
        .await;
        let admin = gateway.gateway.admin_address().expect("it is on");
        // the third isn't looked at, and locks nothing out
        for code in [530, 530, 421] {
            assert_eq!(try_login(&gateway, "demo", "wrong").await.code, code);
        }
        let (_, text) = get(admin, "").await;
        let lockouts = |scope| {
            sample(
                &text,
                &format!("cosgate_lockouts_total{{scope=\"{scope}\"}}"),
            )
        };
        assert_eq!((lockouts(scope), lockouts(other)), (1.0, 0.0), "{limit}");
        gateway.stop().await;
    }
}
