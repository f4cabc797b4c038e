//! Collectors: what they never get, and that none is ever waited for.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpSocket};

use super::{MIB, Traced, count, get, login};
use crate::configuration::Program;
use crate::support::collector::Collector;
use crate::support::gateway::TestStore;
use crate::support::{Ftp, eventually, pattern};

#[tokio::test]
async fn nothing_that_is_exported_or_logged_authenticates() {
    let traced = Traced::start(&[
        ("COSGATE_LOG__LEVEL", "trace"),
        ("COSGATE_UPLOAD__MIN_PART_SIZE", "5MiB"),
        ("COSGATE_ADMIN__LISTEN", "127.0.0.1:0"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-token=collector-token"),
    ])
    .await;
    let mut ftp = traced.login().await;
    let mut stranger = Ftp::connect(traced.program.address).await;
    assert_eq!(stranger.command("USER demo").await.code, 331);
    assert_eq!(stranger.command("PASS wrong-password").await.code, 530);
    assert_eq!(ftp.store("STOR f", &pattern(6 * MIB)).await.code, 226);
    assert_eq!(ftp.fetch("RETR f").await.1.code, 226);
    traced.proxy.set_down(true);
    assert_eq!(ftp.store("STOR g", b"x").await.code, 451);
    eventually("all has come", || async {
        let roots = traced.collector.spans();
        roots.iter().filter(|span| span.name == "ftp.STOR").count() == 2
    })
    .await;
    let (_, metrics) = get(traced.program.admin.expect("it is on"), "").await;
    let said = [
        traced.collector.text(),
        traced.program.log().join("\n"),
        metrics,
    ];
    assert!(said.iter().all(|text| !text.is_empty()));
    let [key_id, secret] = traced.store.keys_of_outside();
    let secrets = [
        secret.as_str(),
        "wrong-password",
        "collector-token",
        "argon2id",
        "Signature=",
    ];
    for (text, from) in said.iter().zip(["traces", "log", "metrics"]) {
        for secret in secrets {
            let at = text.find(secret);
            let around = at.map(|at| {
                text[at.saturating_sub(300)..]
                    .chars()
                    .take(400)
                    .collect::<String>()
            });
            assert_eq!(around, None, "{secret} in the {from}");
        }
        assert!(
            !text.contains(&key_id) || from == "log",
            "{key_id} in the {from}"
        );
    }
}

/// A collector that takes connections and never answers.
async fn black_hole() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((connection, _)) = listener.accept().await {
            held.push(connection);
        }
    });
    address
}

#[tokio::test]
async fn a_dead_collector_costs_no_transfer_and_is_reported_once() {
    for protocol in ["grpc", "http/protobuf"] {
        let endpoint = format!("http://{}", black_hole().await);
        let (_store, _proxy, own) = TestStore::behind_proxy().await;
        let mut program = Program::with(
            &own,
            &[
                ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
                ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
                ("OTEL_EXPORTER_OTLP_TIMEOUT", "150"),
                ("OTEL_BSP_SCHEDULE_DELAY", "20"),
                ("COSGATE_ADMIN__LISTEN", "127.0.0.1:0"),
            ],
        );
        let mut ftp = login(&program).await;
        let admin = program.admin.expect("it is on");
        let began = Instant::now();
        // several batches, each of which fails in its time
        while began.elapsed() < Duration::from_secs(2) {
            assert_eq!(ftp.store("STOR f", b"x").await.code, 226);
        }
        assert_eq!(count(&program, "traces_not_sent"), 1, "{protocol}");
        let (_, metrics) = get(admin, "").await;
        assert!(
            metrics.contains("\ncosgate_trace_spans_exported_total 0"),
            "{metrics}"
        );
        drop(ftp);
        let began = Instant::now();
        assert_eq!(program.stop(), Some(0));
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "the flush is bounded"
        );
    }
}

// the collector must be able to answer while the end of the program is waited for
#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_comes_later_gets_what_ends_from_then_on() {
    // bound without listening, its port refuses connections and is nobody else's
    let port = TcpSocket::new_v4().expect("a socket");
    port.bind(SocketAddr::from(([127, 0, 0, 1], 0)))
        .expect("a free port");
    let address = port.local_addr().expect("bound");
    let (_store, _proxy, own) = TestStore::behind_proxy().await;
    let endpoint = format!("http://{address}");
    let mut program = Program::with(
        &own,
        &[
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &endpoint),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "200"),
            ("OTEL_BSP_SCHEDULE_DELAY", "20"),
        ],
    );
    let mut ftp = login(&program).await;
    assert_eq!(ftp.store("STOR f", b"x").await.code, 226);
    eventually("the trouble is told", || async {
        count(&program, "traces_not_sent") == 1
    })
    .await;
    let collector = Collector::serve(port.listen(16).expect("it is bound"));
    let deadline = Instant::now() + Duration::from_secs(60);
    while collector.spans().is_empty() {
        assert!(Instant::now() < deadline, "the collector gets no spans");
        assert_eq!(ftp.store("STOR f", b"x").await.code, 226);
    }
    eventually("the end of the trouble is told", || async {
        count(&program, "traces_sent_again") == 1
    })
    .await;
    // what has just ended is flushed at exit
    collector.clear();
    assert_eq!(ftp.fetch("RETR f").await.1.code, 226);
    drop(ftp);
    assert_eq!(program.stop(), Some(0));
    let spans = collector.spans();
    let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    assert!(names.contains(&"ftp.RETR"), "{names:?} {:?}", program.log());
    assert_eq!(count(&program, "traces_not_sent"), 1);
}

#[tokio::test]
async fn without_a_collector_or_with_a_bad_setting_there_are_no_traces_and_all_else_works() {
    let bad = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
    ];
    for settings in [&[][..], &bad[..]] {
        let (_store, _proxy, own) = TestStore::behind_proxy().await;
        let program = Program::with(&own, settings);
        let mut ftp = login(&program).await;
        assert_eq!(ftp.store("STOR f", b"x").await.code, 226);
        eventually("the transfer is logged", || async {
            count(&program, "transfer") == 1
        })
        .await;
        assert!(!program.log().concat().contains("trace_id"));
    }
}
