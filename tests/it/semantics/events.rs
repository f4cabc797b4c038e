//! Events

use std::time::{Duration, Instant};

use axum::http::StatusCode;

use crate::events::{gateway, md5_hex, of};
use crate::events_durable::{OUTBOX, gateway as durable, outbox_is_empty};
use crate::support::faults::Fault;
use crate::support::http::get;
use crate::support::{Consumer, eventually};

/// A file that was stored, renamed or deleted with 226 or 250 is an event: once it is whole, with its key, size,
/// checksum and user.
#[tokio::test]
async fn a_file_is_an_event_when_it_is_whole_when_it_moves_and_when_it_goes() {
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

/// A command that failed and changed nothing is no event.
#[tokio::test]
async fn what_failed_is_no_event() {
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

/// A sink that fails or refuses is asked again, and no 226 waits for it.
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

/// With `events.delivery: durable` nothing is changed, and the reply is 451, unless the entry of its event is in the
/// bucket before.
#[tokio::test]
async fn nothing_is_changed_whose_entry_cannot_be_written() {
    let (consumer, address) = Consumer::start().await;
    let more = ["STORAGE__RETRY__MAX_ATTEMPTS=1"];
    let (gateway, proxy) = durable(address, &more).await;
    let mut ftp = gateway.login().await;
    assert_eq!(ftp.store("STOR old", b"old").await.code, 226);
    consumer.wait_for(1).await;
    outbox_is_empty(&gateway).await;
    for (status, code) in [(500, "InternalError"), (403, "AccessDenied"), (507, "Full")] {
        proxy.choose_faults(move |operation, key| {
            let is_entry = operation == "PutObject" && key.starts_with(OUTBOX);
            is_entry.then(|| Fault::refuse(status, code))
        });
        for (name, length) in [("old", 3), ("small", 10), ("large", 12 << 20)] {
            let reply = ftp.store(&format!("STOR {name}"), &vec![1; length]).await;
            assert_eq!(reply.code, 451, "{name}, {status}: {reply:?}");
        }
        assert_eq!(ftp.store("APPE old", b"more").await.code, 451);
        assert_eq!(ftp.command("DELE old").await.code, 451);
        assert_eq!(ftp.command("RNFR old").await.code, 350);
        assert_eq!(ftp.command("RNTO new").await.code, 451);
        proxy.clear_faults();
        assert_eq!(gateway.object("old").await.as_deref(), Some(&b"old"[..]));
        assert_eq!(gateway.unfinished().await, 0);
    }
    assert_eq!(gateway.keys().await, ["old"]);
    assert_eq!(consumer.taken().len(), 1);
    // what is only read needs no entry
    assert_eq!(ftp.fetch("RETR old").await.0, b"old");
    gateway.stop().await;
}
