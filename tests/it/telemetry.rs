//! What the program says about itself: traces at a collector, metrics on the admin port, lines in the log.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use cosgate::metrics::{Kind, TABLE};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::configuration::Program;
use crate::support::collector::{Collector, Span};
use crate::support::gateway::TestStore;
use crate::support::proxy::Proxy;
use crate::support::{Ftp, TestGateway, eventually, pattern};

const MIB: usize = 1024 * 1024;

/// The program with traces, its store in this process, and the collector.
struct Traced {
    program: Program,
    collector: Collector,
    store: TestStore,
    proxy: Proxy,
}

impl Traced {
    async fn start(settings: &[(&str, &str)]) -> Self {
        let collector = Collector::start("127.0.0.1:0").await;
        let (store, proxy, own) = TestStore::behind_proxy().await;
        let endpoint = format!("http://{}", collector.address);
        let traces = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_BSP_SCHEDULE_DELAY", "50"),
        ];
        let program = start(&own, &[&traces[..], settings].concat());
        Traced {
            program,
            collector,
            store,
            proxy,
        }
    }

    async fn login(&self) -> Ftp {
        login(&self.program).await
    }

    /// The log line of the transfer that belongs to `root`.
    async fn line(&self, root: &Span) -> serde_json::Value {
        let find = || {
            let lines = self.program.log().into_iter();
            let mut lines = lines.map(|line| serde_json::from_str(&line).expect("JSON"));
            lines.find(|line: &serde_json::Value| line["trace_id"] == root.trace.as_str())
        };
        eventually("the line is written", || async { find().is_some() }).await;
        find().expect("it is there")
    }
}

fn start(own: &[String], settings: &[(&str, &str)]) -> Program {
    let own: Vec<(String, &str)> = own
        .iter()
        .map(|setting| setting.split_once('=').expect("KEY=value"))
        .map(|(key, value)| (format!("COSGATE_{key}"), value))
        .collect();
    let own = own.iter().map(|(key, value)| (key.as_str(), *value));
    let env: Vec<(&str, &str)> = own.chain(settings.iter().copied()).collect();
    Program::start(&env)
}

async fn login(program: &Program) -> Ftp {
    let mut ftp = Ftp::connect(program.address).await;
    ftp.login("demo", "secret").await;
    ftp
}

/// Sends `bytes` and leaves the data connection open.
async fn begin_upload(ftp: &mut Ftp, line: &str, bytes: &[u8]) -> TcpStream {
    let mut data = ftp.data().await;
    assert_eq!(ftp.command(line).await.code, 150);
    data.write_all(bytes).await.expect("taken");
    data
}

fn named<'a>(spans: &'a [Span], name: &str) -> Vec<&'a Span> {
    spans.iter().filter(|span| span.name == name).collect()
}

/// A trace as the README shows it.
fn picture(root: &Span, below: &[Span]) -> String {
    const SHOWN: [&str; 9] = [
        "user.name",
        "file.path",
        "file.size",
        "ftp.transfer.outcome",
        "ftp.reply_code",
        "aws.s3.key",
        "aws.s3.part_number",
        "cosgate.bytes",
        "http.response.status_code",
    ];
    let line = |span: &Span| {
        let shown = SHOWN
            .iter()
            .filter(|name| span.attributes.contains_key(**name))
            .map(|name| format!("{name}={}", span.get(name)));
        let shown: Vec<String> = shown.collect();
        format!("{:<28}{}", span.name, shown.join("  "))
            .trim_end()
            .to_owned()
            + "\n"
    };
    // parts begin in any order
    let mut below: Vec<&Span> = below.iter().collect();
    let parts = below.iter().position(|span| span.name == "S3.UploadPart");
    below.sort_by_key(|span| span.name == "S3.CompleteMultipartUpload");
    below[parts.unwrap_or(0)..]
        .sort_by_key(|span| span.get("aws.s3.part_number").parse().unwrap_or(u32::MAX));
    let mut text = line(root);
    for (at, span) in below.iter().enumerate() {
        text += if at + 1 == below.len() {
            "└ "
        } else {
            "├ "
        };
        text += &line(span);
    }
    text
}

#[tokio::test]
async fn an_upload_is_one_trace_just_as_the_readme_shows_it() {
    let resource = "k8s.pod.name=cosgate-0,k8s.namespace.name=files";
    let traced = Traced::start(&[
        ("COSGATE_UPLOAD__MIN_PART_SIZE", "5MiB"),
        ("OTEL_RESOURCE_ATTRIBUTES", resource),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-token=abc"),
    ])
    .await;
    let mut ftp = traced.login().await;
    assert_eq!(ftp.command("MKD backup").await.code, 257);
    let reply = ftp.store("STOR backup/db.dump", &pattern(12 * MIB)).await;
    assert_eq!(reply.code, 226);

    let (root, below) = traced.collector.trace("ftp.STOR").await;
    let readme = include_str!("../../README.md");
    let picture = picture(&root, &below);
    assert!(
        readme.contains(&picture),
        "the README shows another:\n{picture}"
    );

    assert_eq!(root.kind, SpanKind::Server);
    assert!(!root.is_error);
    for (name, value) in [
        ("client.address", "127.0.0.1"),
        ("server.address", "127.0.0.1"),
        ("network.protocol.name", "ftp"),
        ("cosgate.bytes", "12582912"),
    ] {
        assert_eq!(root.get(name), value, "{name}");
    }
    for span in &below {
        assert_eq!(span.parent, root.id, "{}", span.name);
        assert!(span.started >= root.started && span.ended <= root.ended);
        if span.name.starts_with("S3.") {
            assert_eq!(span.kind, SpanKind::Client);
            assert_eq!(span.get("aws.s3.bucket"), "cosgate");
        }
    }
    let connection = &named(&below, "ftp.data_connection")[0];
    assert!(!connection.get("ftp.passive.port").is_empty());
    let waited: f64 = connection
        .get("ftp.passive.seconds_since_reply")
        .parse()
        .expect("a number");
    assert!((0.0..60.0).contains(&waited));
    let upload_ids = named(&below, "S3.UploadPart");
    let upload_ids: BTreeSet<&str> = upload_ids
        .iter()
        .map(|s| s.get("aws.s3.upload_id"))
        .collect();
    assert!(upload_ids.len() == 1 && !upload_ids.contains(""));

    assert_eq!(traced.collector.resource("service.name"), "cosgate");
    assert_eq!(traced.collector.resource("k8s.pod.name"), "cosgate-0");
    assert_eq!(traced.collector.tokens()[0], "abc");

    let line = traced.line(&root).await;
    assert_eq!(line["event"], "transfer");
    assert_eq!(
        (&line["user"], &line["path"]),
        (&"demo".into(), &"/backup/db.dump".into())
    );
    assert_eq!(
        (&line["code"], &line["outcome"]),
        (&226.into(), &"complete".into())
    );
    let (bytes, seconds) = (line["bytes"].as_f64(), line["seconds"].as_f64());
    let (bytes, seconds) = (bytes.expect("a number"), seconds.expect("a number"));
    let rate = line["rate"].as_f64().expect("a number");
    assert!((rate - bytes / seconds).abs() <= 1.0, "{line}");

    // a small file is one request, and what changes names is traced as well
    traced.collector.clear();
    assert_eq!(ftp.store("STOR small", b"x").await.code, 226);
    let (_, below) = traced.collector.trace("ftp.STOR").await;
    assert_eq!(below.len(), 2, "{below:?}");
    assert_eq!(below[1].name, "S3.PutObject");
    assert_eq!(ftp.command("RNFR small").await.code, 350);
    assert_eq!(ftp.command("RNTO other").await.code, 250);
    let (root, below) = traced.collector.trace("ftp.RENAME").await;
    assert_eq!(named(&below, "S3.CopyObject").len(), 1);
    let line = traced.line(&root).await;
    assert_eq!(line["event"], "rename");
    assert_eq!(
        (&line["from"], &line["path"]),
        (&"/small".into(), &"/other".into())
    );
    assert_eq!(ftp.fetch("RETR other").await.0, b"x");
    let (root, below) = traced.collector.trace("ftp.RETR").await;
    assert_eq!(root.get("cosgate.bytes"), "1");
    assert_eq!(named(&below, "S3.GetObject").len(), 1);
    assert_eq!(ftp.command("DELE other").await.code, 250);
    let (root, _) = traced.collector.trace("ftp.DELE").await;
    assert_eq!(traced.line(&root).await["event"], "delete");
}

#[tokio::test]
async fn an_aborted_upload_is_kept_or_discarded_and_the_trace_says_which() {
    for (policy, size) in [("keep", "6291456"), ("discard", "")] {
        let traced = Traced::start(&[
            ("COSGATE_UPLOAD__ON_INTERRUPT", policy),
            ("COSGATE_UPLOAD__MIN_PART_SIZE", "5MiB"),
        ])
        .await;
        let mut ftp = traced.login().await;
        let data = begin_upload(&mut ftp, "STOR f", &pattern(6 * MIB)).await;
        eventually("all has arrived", || async {
            traced
                .proxy
                .take_requests()
                .iter()
                .any(|head| head.contains("partNumber=1"))
        })
        .await;
        // the rest of what was sent is read while the first part is on its way
        loop {
            let status = ftp.command("STAT").await;
            if status.text.contains("6291456 bytes") {
                break;
            }
        }
        assert_eq!(ftp.command("ABOR").await.code, 426);
        assert_eq!(ftp.reply().await.code, 226);
        drop(data);
        let (root, below) = traced.collector.trace("ftp.STOR").await;
        let outcome = if policy == "keep" {
            "kept"
        } else {
            "discarded"
        };
        assert_eq!(root.get("ftp.transfer.outcome"), outcome);
        assert_eq!(root.get("ftp.reply_code"), "426");
        assert_eq!(root.get("error.type"), "abort");
        assert_eq!(root.get("file.size"), size);
        assert!(root.is_error && root.description.contains("aborted by the client"));
        let last = below.last().expect("requests").name.as_str();
        let request = if policy == "keep" {
            "S3.CompleteMultipartUpload"
        } else {
            "S3.AbortMultipartUpload"
        };
        assert_eq!(last, request);
        let line = traced.line(&root).await;
        assert_eq!(
            (&line["level"], &line["outcome"]),
            (&"WARN".into(), &outcome.into())
        );
    }
}

#[tokio::test]
async fn refusals_and_failures_are_errors_with_their_kind() {
    let traced = Traced::start(&[
        ("COSGATE_UPLOAD__MAX_FILE_SIZE", "1MiB"),
        ("COSGATE_STORAGE__RETRY__MAX_ATTEMPTS", "2"),
        ("COSGATE_PASSIVE__ACCEPT_TIMEOUT", "200ms"),
    ])
    .await;
    let mut ftp = traced.login().await;
    let sent = begin_upload(&mut ftp, "STOR big", &pattern(MIB + 1)).await;
    assert_eq!(ftp.reply().await.code, 552);
    drop(sent);
    let (root, _) = traced.collector.trace("ftp.STOR").await;
    assert_eq!(root.get("ftp.transfer.outcome"), "too_large");
    assert_eq!(root.get("ftp.reply_code"), "552");
    assert!(root.is_error && root.get("error.type") == "too_large");

    traced.collector.clear();
    assert_eq!(ftp.fetch("RETR missing").await.1.code, 550);
    let (root, below) = traced.collector.trace("ftp.RETR").await;
    assert_eq!(root.get("error.type"), "not_found");
    let request = named(&below, "S3.GetObject")[0];
    assert_eq!(request.get("http.response.status_code"), "404");
    assert!(!request.is_error, "a name that isn't there is an answer");

    traced.collector.clear();
    assert_eq!(ftp.command("EPSV").await.code, 229);
    assert_eq!(ftp.command("STOR f").await.code, 425);
    let (root, below) = traced.collector.trace("ftp.STOR").await;
    assert_eq!(root.get("ftp.transfer.outcome"), "no_data_connection");
    assert!(root.is_error && named(&below, "ftp.data_connection")[0].is_error);

    traced.collector.clear();
    assert_eq!(ftp.command("LIST").await.code, 425);
    let (root, _) = traced.collector.trace("ftp.LIST").await;
    assert_eq!(root.get("ftp.transfer.outcome"), "refused");

    traced.collector.clear();
    traced.proxy.set_down(true);
    assert_eq!(ftp.store("STOR f", b"x").await.code, 450);
    let (root, below) = traced.collector.trace("ftp.STOR").await;
    assert_eq!(root.get("ftp.transfer.outcome"), "failed");
    assert_eq!(root.get("error.type"), "unavailable");
    let request = named(&below, "S3.PutObject")[0];
    assert!(request.is_error);
    assert_eq!(request.get("error.type"), "transport");
}

#[tokio::test]
async fn a_retry_is_seen_as_two_attempts_of_one_request() {
    let traced = Traced::start(&[]).await;
    let mut ftp = traced.login().await;
    let mut failures = 1;
    traced.proxy.fail_if(move |head| {
        let fails = failures > 0 && head.starts_with("PUT ");
        failures -= i32::from(fails);
        fails
    });
    assert_eq!(ftp.store("STOR f", b"x").await.code, 226);
    let (root, below) = traced.collector.trace("ftp.STOR").await;
    assert_eq!(root.get("ftp.transfer.outcome"), "complete");
    assert!(!root.is_error);
    let request = named(&below, "S3.PutObject")[0];
    assert!(!request.is_error, "it went well in the end");
    assert_eq!(request.get("http.request.resend_count"), "1");
    let attempts = named(&below, "S3.attempt");
    assert_eq!(attempts.len(), 2, "{below:?}");
    assert!(attempts.iter().all(|attempt| attempt.parent == request.id));
    assert!(attempts[0].is_error && !attempts[1].is_error);
    assert_eq!(attempts[0].get("error.type"), "500");
    assert_eq!(attempts[1].get("http.request.resend_count"), "1");
}

#[tokio::test]
async fn a_long_upload_shows_its_first_parts_and_counts_the_rest() {
    let traced = Traced::start(&[("COSGATE_UPLOAD__MIN_PART_SIZE", "5MiB")]).await;
    let mut ftp = traced.login().await;
    assert_eq!(ftp.store("STOR f", &pattern(51 * MIB)).await.code, 226);
    let requests = traced.proxy.take_requests();
    let parts = requests.iter().filter(|head| head.contains("partNumber="));
    let (root, below) = traced.collector.trace("ftp.STOR").await;
    let shown = named(&below, "S3.UploadPart").len();
    let left_out: usize = root
        .get("cosgate.requests_left_out")
        .parse()
        .expect("a number");
    assert_eq!(shown + left_out, parts.count());
    assert!(
        (5..8).contains(&shown),
        "{shown}, some of which may have been slow"
    );
}

#[tokio::test]
async fn the_store_gets_the_trace_if_that_is_asked_for() {
    let traced = Traced::start(&[
        ("COSGATE_STORAGE__SEND_TRACE_CONTEXT", "true"),
        ("COSGATE_UPLOAD__TRACE_METADATA", "true"),
        ("COSGATE_UPLOAD__MIN_PART_SIZE", "5MiB"),
    ])
    .await;
    let mut ftp = traced.login().await;
    for (name, bytes) in [("small", 10), ("large", 6 * MIB)] {
        traced.collector.clear();
        traced.proxy.take_requests();
        assert_eq!(
            ftp.store(&format!("STOR {name}"), &pattern(bytes))
                .await
                .code,
            226
        );
        let (root, _) = traced.collector.trace("ftp.STOR").await;
        let id = traced.store.metadata(name, "trace-id").await;
        assert_eq!(id.as_ref(), Some(&root.trace), "{name}");
        for head in traced.proxy.take_requests() {
            let parent = format!("traceparent: 00-{}-", root.trace);
            assert!(head.contains(&parent), "{head}");
        }
    }
    // and not, if it isn't
    let traced = Traced::start(&[]).await;
    let mut ftp = traced.login().await;
    assert_eq!(ftp.store("STOR f", b"x").await.code, 226);
    assert_eq!(traced.store.metadata("f", "trace-id").await, None);
    let heads = traced.proxy.take_requests().concat();
    assert!(!heads.contains("traceparent"), "{heads}");
}

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
    assert_eq!(ftp.store("STOR g", b"x").await.code, 450);
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

fn count(program: &Program, event: &str) -> usize {
    let event = format!("\"event\":\"{event}\"");
    let lines = program.log();
    lines.iter().filter(|line| line.contains(&event)).count()
}

#[tokio::test]
async fn a_dead_collector_costs_no_transfer_and_is_told_once() {
    for protocol in ["grpc", "http/protobuf"] {
        let endpoint = format!("http://{}", black_hole().await);
        let (_store, _proxy, own) = TestStore::behind_proxy().await;
        let mut program = start(
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
    // its port is found, given back and taken again when the program already tries
    let address = black_hole_port().await;
    let (_store, _proxy, own) = TestStore::behind_proxy().await;
    let endpoint = format!("http://{address}");
    let mut program = start(
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
    let collector = Collector::start(&address.to_string()).await;
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

/// An address on which nobody listens.
async fn black_hole_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    listener.local_addr().expect("bound")
}

#[tokio::test]
async fn without_a_collector_or_with_a_bad_setting_there_are_no_traces_and_all_else_works() {
    let bad = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
    ];
    for settings in [&[][..], &bad[..]] {
        let (_store, _proxy, own) = TestStore::behind_proxy().await;
        let program = start(&own, settings);
        let mut ftp = login(&program).await;
        assert_eq!(ftp.store("STOR f", b"x").await.code, 226);
        eventually("the transfer is logged", || async {
            count(&program, "transfer") == 1
        })
        .await;
        assert!(!program.log().concat().contains("trace_id"));
    }
}

/// The answer's head and body.
async fn get(admin: SocketAddr, accept: &str) -> (String, String) {
    let mut socket = TcpStream::connect(admin).await.expect("it listens");
    let request = format!(
        "GET /metrics HTTP/1.1\r\nhost: x\r\naccept: {accept}\r\nconnection: close\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).await.expect("taken");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.expect("UTF-8");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    (head.to_owned(), body.to_owned())
}

/// The value of a sample, by its name and labels as they are written.
fn sample(text: &str, name: &str) -> f64 {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(&format!("{name} ")));
    let value = line.unwrap_or_else(|| panic!("no {name} in\n{text}"));
    value.parse().expect("a number")
}

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

/// `UPDATE_README=1 cargo test --test it readme -- --test-threads 1` writes the table anew.
#[test]
fn the_readme_has_a_row_for_every_metric() {
    const HEAD: &str = "|---|---|---|---|\n";
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let readme = std::fs::read_to_string(file).expect("a README");
    let section = readme.find("## Metrics").expect("the section");
    let begin = section + readme[section..].find(HEAD).expect("a table") + HEAD.len();
    let end = begin + readme[begin..].find("\n\n").expect("text behind the table") + 1;
    let rows = cosgate::metrics::markdown_rows();
    if std::env::var_os("UPDATE_README").is_some() {
        let new = [&readme[..begin], &rows, &readme[end..]].concat();
        std::fs::write(file, new).expect("writes");
        return;
    }
    assert_eq!(
        &readme[begin..end],
        rows,
        "README.md differs; UPDATE_README=1 mends it"
    );
}

#[tokio::test]
async fn the_log_level_follows_the_configuration_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("cosgate.yaml");
    std::fs::write(&file, "log: {level: info}\n").expect("written");
    let path = file.to_str().expect("UTF-8");
    let program = Program::start(&[("COSGATE_CONFIG", path)]);
    let mut ftp = Ftp::connect(program.address).await;
    ftp.login("demo", &program.password).await;
    let is_loud = || {
        let debug = "\"level\":\"DEBUG\"";
        program.log().iter().any(|line| line.contains(debug))
    };
    assert_eq!(ftp.command("NOOP").await.code, 200);
    assert!(!is_loud());
    // as an editor or kubelet does it: a new file in the old one's place
    let replace = |text: &str| {
        let new = directory.path().join("new");
        std::fs::write(&new, text).expect("written");
        std::fs::rename(new, &file).expect("replaced");
    };
    replace("log: {level: 'info,cosgate=debug'}\n");
    eventually("the level has changed", || async {
        count(&program, "log_level") == 1
    })
    .await;
    assert_eq!(ftp.command("NOOP").await.code, 200);
    eventually("it shows more", || async { is_loud() }).await;
    replace("log: {level: 'info,,=nonsense='}\n");
    eventually("it is refused", || async {
        count(&program, "configuration_refused") == 1
    })
    .await;
    let line = program
        .log()
        .into_iter()
        .find(|line| line.contains("configuration_refused"));
    let line = line.expect("it is there");
    assert!(
        line.contains("log.level") && line.contains("info,cosgate=debug"),
        "{line}"
    );
    // a change is told at whichever of both levels shows it
    for (level, changes) in [("warn", 2), ("info", 3)] {
        replace(&format!("log: {{level: {level}}}\n"));
        eventually(level, || async { count(&program, "log_level") == changes }).await;
    }
}
