//! Events about what clients committed, taken by a real HTTP server that behaves well or badly.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use serde_json::Value;
use tokio::io::AsyncWriteExt;

use crate::support::http::get;
use crate::support::{Absent, Consumer, TestGateway, eventually};

pub async fn gateway(address: SocketAddr, sink: &str, more: &[&str]) -> TestGateway {
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

pub fn md5_hex(bytes: &[u8]) -> String {
    use md5::Digest;
    let digest = md5::Md5::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
