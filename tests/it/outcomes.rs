//! The reply to a change says what became of it, whatever the store answers, or whether it answers.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;

use crate::support::faults::{Answer, Fault};
use crate::support::http::get;
use crate::support::proxy::Proxy;
use crate::support::{Ftp, Reply, TestGateway, eventually, gateway, pattern, users};

const MIB: usize = 1024 * 1024;

/// Few and fast attempts: the faults here last longer than any number of them.
const SETTINGS: [&str; 4] = [
    "UPLOAD__MIN_PART_SIZE=5MiB",
    "STORAGE__RETRY__MAX_ATTEMPTS=2",
    "STORAGE__RETRY__MAX_BACKOFF=20ms",
    "ADMIN__LISTEN=127.0.0.1:0",
];

/// A gateway that knows what its store has, so that nothing is learnt any more, and the file `f`, which is `old`.
async fn start() -> (TestGateway, Proxy, Ftp) {
    let (gateway, proxy) = TestGateway::behind_proxy(&SETTINGS).await;
    let mut ftp = gateway.login().await;
    assert_eq!(ftp.store("STOR learn", b"x").await.code, 226);
    assert_eq!(ftp.command("DELE learn").await.code, 250);
    gateway.put_object("f", b"old".to_vec()).await;
    proxy.take_requests();
    (gateway, proxy, ftp)
}

fn is_not_known(reply: &Reply) -> bool {
    reply.text.contains("outcome is not known")
}

/// The work is done, and the answer doesn't say so.
fn done_all_the_same() -> Vec<(&'static str, Fault)> {
    let without = |name: &'static str| Fault::edit(move |answer| answer.remove(name));
    vec![
        ("lost answer", Fault::LoseAnswer),
        (
            "500 after the work",
            Fault::refuse_after(500, "InternalError"),
        ),
        ("504 after the work", Fault::AnswerAfter(Answer::empty(504))),
        ("empty 200", Fault::AnswerAfter(Answer::empty(200))),
        (
            "200 with an error",
            Fault::refuse_after(200, "InternalError"),
        ),
        (
            "no ETag",
            Fault::edit(|answer| {
                answer.remove("etag");
                let text = String::from_utf8_lossy(&answer.body).into_owned();
                let (before, rest) = text.split_once("<ETag>").unwrap_or((&text, ""));
                let after = rest.split_once("</ETag>").map_or("", |(_, after)| after);
                answer.body = format!("{before}{after}").into_bytes();
            }),
        ),
        ("no checksum", without("x-amz-checksum-crc64nvme")),
        (
            "another checksum",
            Fault::edit(|answer| answer.set("x-amz-checksum-crc64nvme", "AAAAAAAAAAA=")),
        ),
    ]
}

/// Nothing is done, and the answer may say otherwise.
fn not_done() -> Vec<(&'static str, Fault)> {
    vec![
        ("lost request", Fault::LoseRequest),
        ("500", Fault::refuse(500, "InternalError")),
        ("503", Fault::refuse(503, "SlowDown")),
        ("403", Fault::refuse(403, "AccessDenied")),
        ("empty 200", Fault::Answer(Answer::empty(200))),
        ("200 with an error", Fault::refuse(200, "InternalError")),
    ]
}

#[tokio::test]
async fn an_upload_is_226_when_the_object_is_there_whatever_the_store_answered() {
    let (gateway, proxy, mut ftp) = start().await;
    for (operation, size) in [("PutObject", 1000), ("CompleteMultipartUpload", 6 * MIB)] {
        for (at, (name, fault)) in done_all_the_same().into_iter().enumerate() {
            let bytes = pattern(size + at);
            proxy.fault(operation, fault).always();
            let reply = ftp.store("STOR f", &bytes).await;
            proxy.clear_faults();
            assert_eq!(reply.code, 226, "{operation}, {name}: {reply:?}");
            assert!(
                gateway.object("f").await == Some(bytes),
                "{operation}, {name}"
            );
        }
    }
    assert_eq!(gateway.unfinished().await, 0);
}

#[tokio::test]
async fn an_upload_that_was_not_stored_is_no_226_and_the_older_file_stays() {
    let (gateway, proxy, mut ftp) = start().await;
    for (operation, size) in [
        ("PutObject", 1000),
        ("PutObject", 3),
        ("PutObject", 0),
        ("UploadPart", 6 * MIB),
        ("CompleteMultipartUpload", 6 * MIB),
    ] {
        for (name, fault) in not_done() {
            proxy.fault(operation, fault).always();
            let reply = ftp.store("STOR f", &pattern(size)).await;
            proxy.clear_faults();
            assert!(
                matches!(reply.code, 451 | 550) && !is_not_known(&reply),
                "{operation}, {size}, {name}: {reply:?}"
            );
            assert_eq!(
                gateway.object("f").await.as_deref(),
                Some(&b"old"[..]),
                "{operation}, {name}"
            );
        }
    }
    assert_eq!(gateway.unfinished().await, 0);
}

#[tokio::test]
async fn only_a_store_that_can_not_be_asked_leaves_the_outcome_unknown() {
    let (gateway, proxy, mut ftp) = start().await;
    let lines = [
        ("PutObject", "STOR f"),
        ("CompleteMultipartUpload", "STOR f"),
        ("DeleteObject", "DELE f"),
        ("DeleteObject", "RMD d"),
        ("PutObject", "MKD e"),
    ];
    assert_eq!(ftp.command("MKD d").await.code, 257);
    for (operation, line) in lines {
        proxy.fault(operation, Fault::LoseAnswer).always();
        let skip = u64::from(line == "DELE f" || line.starts_with("MKD"));
        proxy
            .fault("HeadObject", Fault::refuse(500, "InternalError"))
            .after(skip)
            .always();
        let size = if operation == "PutObject" {
            10
        } else {
            6 * MIB
        };
        let reply = match line {
            "STOR f" => ftp.store(line, &pattern(size)).await,
            line => ftp.command(line).await,
        };
        proxy.clear_faults();
        assert!(
            reply.code == 451 && is_not_known(&reply),
            "{operation}, {line}: {reply:?}"
        );
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_change_whose_answer_was_lost_is_what_it_came_to() {
    let (gateway, proxy, mut ftp) = start().await;
    // done, and the answers never come
    for (operation, line) in [
        ("PutObject", "MKD d"),
        ("DeleteObject", "RMD d"),
        ("CopyObject", "MFMT 20200102030405 f"),
        ("DeleteObject", "RNTO g"),
        ("CopyObject", "RNTO f"),
        ("DeleteObject", "DELE f"),
    ] {
        match line {
            "RNTO g" => assert_eq!(ftp.command("RNFR f").await.code, 350),
            "RNTO f" => assert_eq!(ftp.command("RNFR g").await.code, 350),
            _ => {}
        }
        proxy.fault(operation, Fault::LoseAnswer).always();
        let reply = ftp.command(line).await;
        proxy.clear_faults();
        assert!(matches!(reply.code, 213 | 250 | 257), "{line}: {reply:?}");
    }
    assert!(gateway.keys().await.is_empty());
    // not done, and nothing else is said
    gateway.put_object("f", b"old".to_vec()).await;
    assert_eq!(ftp.command("MKD d").await.code, 257);
    for (operation, line) in [
        ("PutObject", "MKD e"),
        ("CopyObject", "MFMT 20200102030405 f"),
        ("DeleteObject", "RMD d"),
        ("DeleteObject", "DELE f"),
    ] {
        proxy.fault(operation, Fault::LoseRequest).always();
        let reply = ftp.command(line).await;
        proxy.clear_faults();
        assert!(
            reply.code == 451 && !is_not_known(&reply),
            "{line}: {reply:?}"
        );
    }
    assert_eq!(gateway.keys().await, ["d/", "f"]);
}

#[tokio::test]
async fn only_what_is_proved_to_be_damaged_is_deleted_and_the_reply_says_what_is_left() {
    let (gateway, proxy, mut ftp) = start().await;
    let another = || Fault::edit(|answer| answer.set("x-amz-checksum-crc64nvme", "AAAAAAAAAAA="));
    let bytes = pattern(1000);
    // the store's own record says the same as its answer
    proxy.fault("PutObject", another()).always();
    proxy.fault("HeadObject", another()).times(1);
    let reply = ftp.store("STOR f", &bytes).await;
    assert_eq!(reply.code, 451, "{reply:?}");
    assert!(reply.text.contains("an older file is gone"), "{reply:?}");
    assert_eq!(gateway.object("f").await, None);
    // it has no record to compare with
    proxy.fault(
        "HeadObject",
        Fault::edit(|answer| {
            answer.remove("x-amz-checksum-crc64nvme");
            answer.set("etag", "\"of an encrypted object\"");
        }),
    );
    let reply = ftp.store("STOR f", &bytes).await;
    proxy.clear_faults();
    assert_eq!(reply.code, 451, "{reply:?}");
    assert!(reply.text.contains("left as it is"), "{reply:?}");
    assert!(gateway.object("f").await == Some(bytes));
    let admin = gateway.gateway.admin_address().expect("it is on");
    let metrics = get(admin, "/metrics", &[]).await.body;
    assert!(metrics.contains("\ncosgate_integrity_failures_total 2\n"));
}

#[tokio::test]
async fn an_object_of_another_client_is_never_taken_for_the_upload() {
    let (gateway, proxy, mut ftp) = start().await;
    // the same bytes, stored before: this upload did nothing
    let bytes = pattern(1000);
    assert_eq!(ftp.store("STOR f", &bytes).await.code, 226);
    proxy.fault("PutObject", Fault::LoseRequest).always();
    let reply = ftp.store("STOR f", &bytes).await;
    proxy.clear_faults();
    assert_eq!(reply.code, 451, "{reply:?}");
    assert!(gateway.object("f").await == Some(bytes));
}

#[tokio::test]
async fn a_length_that_the_store_leaves_out_is_an_error_and_not_0() {
    let (gateway, proxy, mut ftp) = start().await;
    let without = || Fault::edit(|answer| answer.remove("content-length"));
    proxy.fault("HeadObject", without()).always();
    for line in ["APPE f"] {
        let reply = ftp.store(line, b" and more").await;
        assert_eq!(reply.code, 451, "{line}: {reply:?}");
    }
    assert_eq!(ftp.command("REST 2").await.code, 350);
    assert_eq!(ftp.store("STOR f", b"more").await.code, 451);
    for line in ["SIZE f", "HASH f", "RNFR f", "DELE f"] {
        let reply = ftp.command(line).await;
        assert_eq!(reply.code, 451, "{line}: {reply:?}");
    }
    proxy.clear_faults();
    assert_eq!(gateway.object("f").await.as_deref(), Some(&b"old"[..]));
    proxy
        .fault("HeadObject", Fault::edit(|answer| answer.remove("etag")))
        .always();
    assert_eq!(ftp.store("APPE f", b" and more").await.code, 451);
    proxy.clear_faults();
    assert_eq!(gateway.object("f").await.as_deref(), Some(&b"old"[..]));
    assert_eq!(ftp.store("APPE f", b" and more").await.code, 226);
}

#[tokio::test]
async fn a_web_server_that_answers_200_to_everything_is_no_store() {
    let server = empty_200s().await;
    let endpoint = format!("STORAGE__ENDPOINT=http://{server}");
    let users = format!("USERS={}", users(&["name: demo"]));
    let own = [
        "STORAGE__PROVIDER=s3",
        "STORAGE__BUCKET=files",
        "STORAGE__ACCESS_KEY_ID=a",
        "STORAGE__SECRET_ACCESS_KEY=b",
        &endpoint,
        &users,
    ];
    let settings: Vec<&str> = SETTINGS.iter().copied().chain(own).collect();
    let gateway = gateway::start(&settings).await;
    let admin = gateway.admin_address().expect("it is on");
    let ready = get(admin, "/readyz", &[]).await;
    assert_eq!(ready.status, 503, "{}", ready.body);
    let mut ftp = Ftp::connect(gateway.addresses()[0]).await;
    ftp.login("demo", "secret").await;
    for (line, size) in [
        ("STOR f", 0),
        ("STOR f", 1000),
        ("STOR f", 6 * MIB),
        ("APPE f", 10),
    ] {
        let reply = ftp.store(line, &pattern(size)).await;
        assert_eq!(reply.code, 451, "{line}, {size}: {reply:?}");
    }
    for line in ["MKD d", "DELE f", "RNFR f", "SIZE f"] {
        let reply = ftp.command(line).await;
        assert!(reply.code >= 400, "{line}: {reply:?}");
    }
}

async fn empty_200s() -> SocketAddr {
    let app = Router::new().fallback(|| async { StatusCode::OK });
    let app = app.layer(axum::extract::DefaultBodyLimit::disable());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

#[tokio::test]
async fn one_refusal_does_not_switch_checksums_off() {
    let (gateway, proxy) = TestGateway::behind_proxy(&SETTINGS).await;
    let mut ftp = gateway.login().await;
    let has_checksum = |proxy: &Proxy| {
        let requests = proxy.take_requests();
        requests
            .last()
            .map(|head| head.contains("x-amz-checksum-crc64nvme"))
    };
    let refusal = || Fault::refuse(400, "InvalidRequest");
    proxy.fault("PutObject", refusal());
    assert_eq!(ftp.store("STOR f", b"one").await.code, 226);
    assert_eq!(has_checksum(&proxy), Some(false));
    assert_eq!(ftp.store("STOR f", b"two").await.code, 226);
    assert_eq!(has_checksum(&proxy), Some(true));
    // and what an answer has proved is not doubted any more
    proxy.fault("PutObject", refusal());
    assert_eq!(ftp.store("STOR f", b"three").await.code, 550);
    assert_eq!(ftp.store("STOR f", b"four").await.code, 226);
    assert_eq!(has_checksum(&proxy), Some(true));
}

#[tokio::test]
async fn a_proof_costs_no_request_as_long_as_the_store_gives_it() {
    let (gateway, proxy, mut ftp) = start().await;
    assert_eq!(ftp.store("STOR f", &pattern(1000)).await.code, 226);
    assert_eq!(proxy.take_operations(), ["PutObject f"]);
    assert_eq!(ftp.store("STOR f", &pattern(6 * MIB)).await.code, 226);
    let mut operations = proxy.take_operations();
    operations.sort_unstable();
    let expected = [
        "CompleteMultipartUpload f",
        "CreateMultipartUpload f",
        "UploadPart f",
        "UploadPart f",
    ];
    assert_eq!(operations, expected);
    assert_eq!(ftp.fetch("RETR f").await.1.code, 226);
    gateway.stop().await;
}

#[tokio::test]
async fn a_change_that_a_silent_store_may_still_make_is_not_said_to_be_undone() {
    let settings = [&SETTINGS[..], &["STORAGE__REQUEST_TIMEOUT=1s"]].concat();
    let (gateway, proxy) = TestGateway::behind_proxy(&settings).await;
    let mut ftp = gateway.login().await;
    gateway.put_object("f", b"old".to_vec()).await;
    let late = Fault::DelayRequest(Duration::from_secs(5));
    proxy.fault("PutObject", late).times(2);
    let reply = ftp.store("STOR f", b"new").await;
    assert!(is_not_known(&reply) && reply.code == 451, "{reply:?}");
    eventually("the store has made the change", || async {
        gateway.object("f").await.as_deref() == Some(&b"new"[..])
    })
    .await;
    gateway.stop().await;
}
