//! Events about what clients committed, taken by a real HTTP server that behaves well or badly.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use serde_json::Value;
use tokio::io::AsyncWriteExt;

use crate::support::http::get;
use crate::support::{Absent, Consumer, TestGateway, eventually};

async fn gateway(address: SocketAddr, sink: &str, more: &[&str]) -> TestGateway {
    let sinks = format!("EVENTS__SINKS=[{{name: pipeline, url: 'http://{address}/hook'{sink}}}]");
    let own = [sinks.as_str(), "EVENTS__SOURCE=/cosgate/test"];
    TestGateway::with(&[&own, more].concat()).await
}

pub fn of(events: &[Value], field: &str) -> Vec<String> {
    let values = events.iter().map(|event| event.pointer(field));
    values
        .map(|value| {
            value.map_or_else(String::new, |value| {
                value
                    .as_str()
                    .map_or_else(|| value.to_string(), str::to_owned)
            })
        })
        .collect()
}

#[tokio::test]
async fn a_file_has_events_when_it_is_whole_when_it_moves_and_when_it_goes() {
    let (consumer, address) = Consumer::start().await;
    let gateway = gateway(address, ", token: t0ken", &[]).await;
    let mut ftp = gateway.login().await;
    assert_eq!(ftp.command("MKD in").await.code, 257);
    assert_eq!(ftp.store("STOR in/a.jpg", b"first").await.code, 226);
    assert_eq!(ftp.store("APPE in/a.jpg", b" and more").await.code, 226);
    assert_eq!(ftp.command("RNFR in/a.jpg").await.code, 350);
    assert_eq!(ftp.command("RNTO in/b.jpg").await.code, 250);
    assert_eq!(ftp.command("RNFR in").await.code, 350);
    assert_eq!(ftp.command("RNTO out").await.code, 250);
    assert_eq!(ftp.command("DELE out/b.jpg").await.code, 250);
    let mut events = consumer.wait_for(5).await;
    // lanes of different keys don't wait for each other
    events.sort_by_key(|event| event["id"].as_str().map(str::to_owned));
    assert_eq!(
        of(&events, "/type"),
        [
            "cosgate.object.stored",
            "cosgate.object.stored",
            "cosgate.object.renamed",
            "cosgate.object.renamed",
            "cosgate.object.deleted"
        ]
    );
    assert_eq!(
        of(&events, "/data/key"),
        ["in/a.jpg", "in/a.jpg", "in/b.jpg", "out/", "out/b.jpg"]
    );
    assert_eq!(
        of(&events, "/data/previous"),
        ["", "", "in/a.jpg", "in/", ""]
    );
    assert_eq!(of(&events, "/data/size"), ["5", "14", "", "", ""]);
    assert_eq!(of(&events, "/data/received"), ["5", "9", "", "", ""]);
    assert_eq!(of(&events, "/data/parts"), ["1", "1", "", "", ""]);
    assert_eq!(of(&events, "/data/count"), ["", "", "", "2", ""]);
    let kind = "image/jpeg";
    assert_eq!(of(&events, "/data/content_type"), [kind, kind, "", "", ""]);
    let crc = "CRC64NVME";
    assert_eq!(
        of(&events, "/data/checksum/algorithm"),
        [crc, crc, "", "", ""]
    );
    // MD5 of "first" and "first and more", and nothing made them but the store
    let etag = |bytes: &[u8]| md5_hex(bytes);
    assert_eq!(
        of(&events, "/data/etag")[..2],
        [etag(b"first"), etag(b"first and more")]
    );
    assert_eq!(of(&events, "/data/resumed_at"), ["", "5", "", "", ""]);
    for event in &events {
        assert_eq!(event["specversion"], "1.0");
        assert_eq!(event["source"], "/cosgate/test");
        assert_eq!(event["data"]["user"], "demo");
        assert_eq!(event["data"]["client"], "127.0.0.1");
        let subject = event["subject"].as_str().expect("a subject");
        assert!(subject.starts_with("cosgate/"), "{subject}");
    }
    let headers = consumer.inner().headers.clone();
    for headers in headers {
        assert_eq!(headers["authorization"], "Bearer t0ken");
        assert!(
            headers["content-type"]
                .to_str()
                .expect("text")
                .starts_with("application/cloudevents+json")
        );
    }
}

#[tokio::test]
async fn what_is_not_committed_has_no_event() {
    let (consumer, address) = Consumer::start().await;
    let gateway = gateway(
        address,
        "",
        &["UPLOAD__MAX_FILE_SIZE=10", "UPLOAD__ON_INTERRUPT=discard"],
    )
    .await;
    let mut ftp = gateway.login().await;
    assert_eq!(ftp.store("STOR large", &[0; 100]).await.code, 552);
    assert_eq!(ftp.command("DELE nothing").await.code, 550);
    assert_eq!(ftp.command("RNFR nothing").await.code, 550);
    assert_eq!(ftp.store("STOR good", b"good").await.code, 226);
    let events = consumer.wait_for(1).await;
    assert_eq!(of(&events, "/data/key"), ["good"]);
}

#[tokio::test]
async fn a_kept_fragment_has_an_event_of_its_own_kind_which_who_wants_whole_files_only_does_not_get()
 {
    let (all, address) = Consumer::start().await;
    let (whole, second) = Consumer::start().await;
    let more = format!(
        "EVENTS__SINKS=[{{name: all, url: 'http://{address}/hook'}}, {{name: whole, url: 'http://{second}/hook', types: stored}}]"
    );
    let gateway = TestGateway::with(&[&more]).await;
    let mut ftp = gateway.login().await;
    let mut data = ftp.data().await;
    assert_eq!(ftp.command("STOR broken").await.code, 150);
    data.write_all(b"half of it").await.expect("taken");
    // the bytes have arrived before the client gives up
    eventually_async(&mut ftp, "10 bytes").await;
    assert_eq!(ftp.command("ABOR").await.code, 426);
    assert_eq!(ftp.reply().await.code, 226);
    assert_eq!(ftp.store("STOR whole", b"all of it").await.code, 226);
    let mut events = all.wait_for(2).await;
    events.sort_by_key(|event| event["id"].as_str().map(str::to_owned));
    assert_eq!(
        of(&events, "/type"),
        ["cosgate.object.kept", "cosgate.object.stored"]
    );
    assert_eq!(of(&events, "/data/outcome"), ["kept", "complete"]);
    assert_eq!(of(&events, "/data/size"), ["10", "9"]);
    assert!(events[0]["data"]["reason"].is_string());
    assert_eq!(of(&whole.wait_for(1).await, "/data/key"), ["whole"]);
}

fn md5_hex(bytes: &[u8]) -> String {
    use md5::Digest;
    let digest = md5::Md5::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Asks for the transfer's state until it says `wanted`.
async fn eventually_async(ftp: &mut crate::support::Ftp, wanted: &str) {
    for _ in 0..1000 {
        if ftp.command("STAT").await.text.contains(wanted) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the transfer never came to {wanted}");
}

#[tokio::test]
async fn a_sink_that_fails_or_refuses_is_asked_again_and_uploads_do_not_wait_for_it() {
    let (consumer, address) = Consumer::start().await;
    let gateway = gateway(address, "", &["ADMIN__LISTEN=127.0.0.1:0"]).await;
    consumer.answers(&[
        StatusCode::INTERNAL_SERVER_ERROR,
        StatusCode::FORBIDDEN,
        StatusCode::TOO_MANY_REQUESTS,
    ]);
    let mut ftp = gateway.login().await;
    let begun = Instant::now();
    assert_eq!(ftp.store("STOR a", b"a").await.code, 226);
    assert!(begun.elapsed() < Duration::from_secs(20));
    let [event] = &consumer.wait_for(1).await[..] else {
        panic!("one event")
    };
    assert_eq!(consumer.asked(), 4);
    assert_eq!(event["data"]["key"], "a");
    let admin = gateway.gateway.admin_address().expect("an admin port");
    let metrics = async || get(admin, "/metrics", &[]).await.body;
    eventually("the backlog is empty", async || {
        metrics()
            .await
            .contains(r#"cosgate_events_backlog{sink="pipeline"} 0"#)
    })
    .await;
    let text = metrics().await;
    for line in [
        r#"cosgate_events_total{sink="pipeline",outcome="accepted"} 1"#,
        r#"cosgate_events_total{sink="pipeline",outcome="refused"} 1"#,
        r#"cosgate_events_total{sink="pipeline",outcome="retried"} 3"#,
        r#"cosgate_events_total{sink="pipeline",outcome="lost"} 0"#,
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

#[tokio::test]
async fn a_refused_event_is_given_up_in_time_and_the_next_one_goes_out() {
    let (consumer, address) = Consumer::start().await;
    let gateway = gateway(address, "", &["EVENTS__GIVE_UP_AFTER=1ms"]).await;
    consumer.answers(&[StatusCode::BAD_REQUEST]);
    let mut ftp = gateway.login().await;
    // the same key, so that the second waits for the first
    assert_eq!(ftp.store("STOR a", b"a").await.code, 226);
    eventually("the sink was asked", async || consumer.asked() == 1).await;
    assert_eq!(ftp.store("STOR a", b"bc").await.code, 226);
    assert_eq!(of(&consumer.wait_for(1).await, "/data/size"), ["2"]);
}

#[tokio::test]
async fn what_finds_a_full_backlog_is_lost_and_counted_and_nothing_else() {
    let (_nobody, address) = Absent::new();
    let gateway = gateway(
        address,
        "",
        &[
            "EVENTS__QUEUE=3",
            "EVENTS__FLUSH_TIMEOUT=10ms",
            "ADMIN__LISTEN=127.0.0.1:0",
        ],
    )
    .await;
    let mut ftp = gateway.login().await;
    for name in ["a", "b", "c", "d", "e"] {
        assert_eq!(ftp.store(&format!("STOR {name}"), b"x").await.code, 226);
    }
    let admin = gateway.gateway.admin_address().expect("an admin port");
    let text = get(admin, "/metrics", &[]).await.body;
    for line in [
        r#"cosgate_events_backlog{sink="pipeline"} 3"#,
        r#"cosgate_events_total{sink="pipeline",outcome="lost"} 2"#,
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    // the end of the gateway is not held up either
    let begun = Instant::now();
    gateway.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(30));
}

#[tokio::test]
async fn the_backlog_is_sent_before_the_process_ends() {
    let (late, address) = Absent::new();
    let gateway = gateway(address, "", &["EVENTS__FLUSH_TIMEOUT=60s"]).await;
    let mut ftp = gateway.login().await;
    for name in ["a", "b", "c"] {
        assert_eq!(ftp.store(&format!("STOR {name}"), b"x").await.code, 226);
    }
    drop(ftp);
    let consumer = Consumer::default();
    let stopping = tokio::spawn(gateway.stop());
    consumer.serve_at(late);
    stopping.await.expect("no panic");
    assert_eq!(consumer.taken().len(), 3);
}

#[tokio::test]
async fn an_upload_that_is_held_is_an_event_when_it_is_whole() {
    let (consumer, address) = Consumer::start().await;
    let settings = ["UPLOAD__ON_INTERRUPT=hold", "UPLOAD__MIN_PART_SIZE=5MiB"];
    let gateway = gateway(address, "", &settings).await;
    let bytes = crate::support::pattern(12 << 20);
    let mut ftp = gateway.login().await;
    let mut data = ftp.data().await;
    assert_eq!(ftp.command("STOR f").await.code, 150);
    data.write_all(&bytes[..8 << 20]).await.expect("taken");
    while !ftp.command("STAT").await.text.contains("8388608 bytes") {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(ftp.command("ABOR").await.code, 426);
    assert_eq!(ftp.reply().await.code, 226);
    let held = ftp.command("SIZE f").await;
    let held = held.text.split_whitespace().last().expect("a number");
    let offset: usize = held.parse().expect("a number");
    assert_eq!(ftp.command(format!("REST {held}")).await.code, 350);
    assert_eq!(ftp.store("STOR f", &bytes[offset..]).await.code, 226);
    let events = consumer.wait_for(1).await;
    assert_eq!(of(&events, "/type"), ["cosgate.object.stored"]);
    assert_eq!(of(&events, "/data/outcome"), ["complete"]);
    assert_eq!(of(&events, "/data/resumed_at"), [held]);
    assert_eq!(of(&events, "/data/size"), [bytes.len().to_string()]);
}
