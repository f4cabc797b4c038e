//! Traces: what each of them shows.

use std::collections::BTreeSet;

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::{MIB, Traced};
use crate::support::collector::Span;
use crate::support::{Ftp, eventually, pattern, users};

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

/// A trace as the guide shows it.
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
    let guide = include_str!("../../../src/guide/monitoring.md");
    let picture = picture(&root, &below);
    assert!(
        guide.contains(&picture),
        "the guide shows another:\n{picture}"
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
        let last: &[&str] = if policy == "keep" {
            // the fragment gets its tag, and a look at whether it is still the one that was tagged
            &[
                "S3.CompleteMultipartUpload",
                "S3.PutObjectTagging",
                "S3.HeadObject",
            ]
        } else {
            &["S3.AbortMultipartUpload"]
        };
        let names: Vec<&str> = below.iter().map(|span| span.name.as_str()).collect();
        assert!(names.ends_with(last), "{policy}: {names:?}");
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
    assert_eq!(ftp.store("STOR f", b"x").await.code, 451);
    let (root, below) = traced.collector.trace("ftp.STOR").await;
    assert_eq!(root.get("ftp.transfer.outcome"), "failed");
    assert_eq!(root.get("error.type"), "unknown_outcome");
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
async fn hashes_and_times_are_traced_like_all_that_goes_to_the_store() {
    let traced = Traced::start(&[]).await;
    let mut ftp = traced.login().await;
    assert_eq!(ftp.store("STOR f", b"hello").await.code, 226);
    for command in ["HASH f", "SITE HASH f", "SITE SHA256 f"] {
        traced.collector.clear();
        let code = ftp.command(command).await.code;
        let (root, below) = traced.collector.trace("ftp.HASH").await;
        assert_eq!(root.get("ftp.reply_code"), code.to_string(), "{command}");
        assert_eq!(root.get("file.path"), "/f", "{command}");
        assert!(!named(&below, "S3.HeadObject").is_empty(), "{below:?}");
        let outcome = if code == 213 { "complete" } else { "refused" };
        assert_eq!(root.get("ftp.transfer.outcome"), outcome, "{command}");
        assert_eq!(root.is_error, code != 213, "{command}");
    }
    traced.collector.clear();
    assert_eq!(ftp.command("MFMT 20250102030405 f").await.code, 213);
    let (root, below) = traced.collector.trace("ftp.MFMT").await;
    assert_eq!(root.get("ftp.transfer.outcome"), "complete");
    assert_eq!(named(&below, "S3.CopyObject").len(), 1, "{below:?}");
    let line = traced.line(&root).await;
    assert_eq!(
        (&line["event"], &line["code"]),
        (&"mfmt".into(), &213.into())
    );
    for (command, name) in [
        ("HASH missing", "ftp.HASH"),
        ("MFMT 20250102030405 missing", "ftp.MFMT"),
    ] {
        traced.collector.clear();
        assert_eq!(ftp.command(command).await.code, 550);
        let (root, _) = traced.collector.trace(name).await;
        assert_eq!(root.get("ftp.reply_code"), "550");
        assert!(root.is_error && root.get("error.type") == "not_found");
    }
}

#[tokio::test]
async fn requests_name_the_bucket_that_they_go_to() {
    let list = users(&["name: demo, bucket: tenants", "name: other"]);
    let traced = Traced::start(&[("COSGATE_USERS", &list)]).await;
    traced.store.create_bucket("tenants").await;
    for (user, bucket) in [("demo", "tenants"), ("other", "cosgate")] {
        traced.collector.clear();
        let mut ftp = Ftp::connect(traced.program.address).await;
        ftp.login(user, "secret").await;
        assert_eq!(ftp.store("STOR f", b"x").await.code, 226);
        let (_, below) = traced.collector.trace("ftp.STOR").await;
        let request = named(&below, "S3.PutObject")[0];
        assert_eq!(request.get("aws.s3.bucket"), bucket, "{user}");
    }
}
