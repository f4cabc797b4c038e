//! Durable events: nothing that got a 226 is without its event, whatever dies in between.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use serde_json::Value;
use tokio::io::AsyncWriteExt;

use crate::configuration::Program;
use crate::events::of;
use crate::support::faults::Fault;
use crate::support::http::get;
use crate::support::{Absent, Consumer, Ftp, TestGateway, TestStore, eventually, users};

pub const OUTBOX: &str = ".cosgate/outbox/";

fn sink(address: SocketAddr) -> String {
    format!("EVENTS__SINKS=[{{name: pipeline, url: 'http://{address}/hook'}}]")
}

/// A gateway in this process with durable events.
pub async fn gateway(
    address: SocketAddr,
    more: &[&str],
) -> (TestGateway, crate::support::proxy::Proxy) {
    let sink = sink(address);
    let own = [
        sink.as_str(),
        "EVENTS__DELIVERY=durable",
        "EVENTS__SOURCE=/cosgate/test",
    ];
    TestGateway::behind_proxy(&[&own, more].concat()).await
}

/// The program with durable events, which can be killed.
pub fn program(store: &[String], address: SocketAddr, more: &[&str]) -> Program {
    let mut settings: Vec<String> = store.to_vec();
    settings.push(sink(address));
    settings.push("EVENTS__DELIVERY=durable".to_owned());
    settings.push("EVENTS__REPLAY_AFTER=1s".to_owned());
    settings.extend(more.iter().map(|setting| (*setting).to_owned()));
    Program::with(&settings, &[])
}

async fn login(address: SocketAddr) -> Ftp {
    let mut ftp = Ftp::connect(address).await;
    ftp.login("demo", "secret").await;
    ftp
}

async fn entries(store: &TestStore) -> Vec<String> {
    let keys = store.keys().await;
    keys.into_iter()
        .filter(|key| key.contains(OUTBOX))
        .collect()
}

pub async fn outbox_is_empty(store: &TestStore) {
    eventually("the outbox is empty", async || {
        entries(store).await.is_empty()
    })
    .await;
}

#[tokio::test]
async fn each_change_has_its_entry_before_it_is_made_and_none_after_the_sink_has_the_event() {
    let (consumer, address) = Consumer::start().await;
    let (gateway, proxy) = gateway(address, &[]).await;
    let mut ftp = gateway.login().await;
    assert_eq!(ftp.store("STOR a.jpg", b"first").await.code, 226);
    let id = gateway
        .metadata("a.jpg", "cosgate-id")
        .await
        .expect("a mark");
    let large = crate::support::pattern(12 << 20);
    assert_eq!(ftp.store("STOR large", &large).await.code, 226);
    assert_eq!(ftp.command("RNFR a.jpg").await.code, 350);
    assert_eq!(ftp.command("RNTO b.jpg").await.code, 250);
    assert_eq!(ftp.command("DELE b.jpg").await.code, 250);
    let mut events = consumer.wait_for(4).await;
    events.sort_by_key(|event| event["id"].as_str().map(str::to_owned));
    assert_eq!(of(&events, "/type").len(), 4);
    assert_eq!(events[0]["id"], id.as_str());
    assert_eq!(of(&events, "/data/confirmed"), ["", "", "", ""]);
    let mark = gateway.metadata("large", "cosgate-id").await;
    assert_eq!(events[1]["id"].as_str(), mark.as_deref());
    assert_eq!(events[1]["data"]["checksum"]["algorithm"], "CRC64NVME");
    outbox_is_empty(&gateway).await;
    // in this order at the store: each entry before its change
    let requests = proxy.take_requests();
    let place = |wanted: &str| {
        let at = requests.iter().position(|head| head.starts_with(wanted));
        at.unwrap_or_else(|| panic!("no {wanted}"))
    };
    let ids = of(&events, "/id");
    let entry = |number: usize| place(&format!("PUT /cosgate/.cosgate/outbox/{}", ids[number]));
    assert!(entry(0) < place("PUT /cosgate/a.jpg"));
    assert!(entry(1) < place("POST /cosgate/large?uploadId"));
    assert!(entry(2) < place("PUT /cosgate/b.jpg"));
    assert!(entry(3) < place("DELETE /cosgate/b.jpg"));
    gateway.stop().await;
}

#[tokio::test]
async fn an_upload_that_fails_leaves_no_entry_and_a_fragment_has_one_of_its_own() {
    let (consumer, address) = Consumer::start().await;
    let (gateway, _proxy) = gateway(address, &["UPLOAD__MAX_FILE_SIZE=20MiB"]).await;
    let mut ftp = gateway.login().await;
    assert_eq!(ftp.store("STOR large", &vec![0; 21 << 20]).await.code, 552);
    assert_eq!(ftp.command("DELE nothing").await.code, 550);
    let mut data = ftp.data().await;
    assert_eq!(ftp.command("STOR broken").await.code, 150);
    data.write_all(b"half of it").await.expect("taken");
    for _ in 0..1000 {
        if ftp.command("STAT").await.text.contains("10 bytes") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(ftp.command("ABOR").await.code, 426);
    assert_eq!(ftp.reply().await.code, 226);
    let events = consumer.wait_for(1).await;
    assert_eq!(of(&events, "/type"), ["cosgate.object.kept"]);
    let mark = gateway.metadata("broken", "cosgate-id").await;
    assert_eq!(events[0]["id"].as_str(), mark.as_deref());
    outbox_is_empty(&gateway).await;
    assert_eq!(consumer.taken().len(), 1);
    gateway.stop().await;
}

#[tokio::test]
async fn what_a_killed_gateway_left_another_one_sends() {
    let (store, _proxy, settings) = TestStore::behind_proxy().await;
    // the sink is away while the first gateway lives
    let (place, address) = Absent::new();
    let first = program(&settings, address, &[]);
    let mut ftp = login(first.address).await;
    for name in ["a", "b", "gone", "moved"] {
        assert_eq!(
            ftp.store(&format!("STOR {name}"), name.as_bytes())
                .await
                .code,
            226
        );
    }
    assert_eq!(ftp.command("DELE gone").await.code, 250);
    assert_eq!(ftp.command("RNFR moved").await.code, 350);
    assert_eq!(ftp.command("RNTO new").await.code, 250);
    let ids = entries(&store).await;
    assert_eq!(ids.len(), 6, "{ids:?}");
    first.kill();
    // somebody else takes the place of one
    store.put_object("b", b"another".to_vec()).await;
    let (consumer, second) = (Consumer::default(), program(&settings, address, &[]));
    consumer.serve_at(place);
    // stored a, stored b (replaced since), deleted gone, renamed new; that gone and moved were stored can't be seen any more
    let mut events = consumer.wait_for(4).await;
    outbox_is_empty(&store).await;
    assert_eq!(consumer.taken().len(), 4);
    events.sort_by_key(|event| event["data"]["key"].as_str().map(str::to_owned));
    assert_eq!(of(&events, "/data/key"), ["a", "b", "gone", "new"]);
    assert_eq!(of(&events, "/data/confirmed"), ["", "false", "", ""]);
    assert_eq!(of(&events, "/data/size"), ["1", "", "", ""]);
    assert_eq!(of(&events, "/data/user"), ["demo"; 4]);
    assert_eq!(events[0]["data"]["checksum"]["algorithm"], "CRC64NVME");
    for event in &events {
        let entry = format!("{OUTBOX}{}", event["id"].as_str().expect("an id"));
        assert!(ids.contains(&entry), "the same id again: {entry}");
    }
    assert_eq!(second.terminate(), Some(0));
    store.stop().await;
}

#[tokio::test]
async fn an_upload_that_was_held_keeps_its_event_when_its_gateway_is_killed() {
    let (store, _proxy, settings) = TestStore::behind_proxy().await;
    let hold = ["UPLOAD__ON_INTERRUPT=hold", "UPLOAD__MIN_PART_SIZE=5MiB"];
    let (place, address) = Absent::new();
    let first = program(&settings, address, &hold);
    let bytes = crate::support::pattern(12 << 20);
    let mut ftp = login(first.address).await;
    let mut data = ftp.data().await;
    assert_eq!(ftp.command("STOR f").await.code, 150);
    data.write_all(&bytes[..8 << 20]).await.expect("taken");
    while !ftp.command("STAT").await.text.contains("8388608 bytes") {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(ftp.command("ABOR").await.code, 426);
    assert_eq!(ftp.reply().await.code, 226);
    // nothing was stored, so the first command has no event
    outbox_is_empty(&store).await;
    let held = ftp.command("SIZE f").await;
    let held = held.text.split_whitespace().last().expect("a number");
    let offset: usize = held.parse().expect("a number");
    assert_eq!(ftp.command(format!("REST {held}")).await.code, 350);
    assert_eq!(ftp.store("STOR f", &bytes[offset..]).await.code, 226);
    first.kill();
    let (consumer, second) = (Consumer::default(), program(&settings, address, &hold));
    consumer.serve_at(place);
    let events = consumer.wait_for(1).await;
    outbox_is_empty(&store).await;
    assert_eq!(of(&consumer.taken(), "/data/key"), ["f"]);
    // the object carries the id of the command that began it, and yet it is known to be the one of this event
    assert_eq!(of(&events, "/data/confirmed"), [""]);
    assert_eq!(of(&events, "/data/size"), [bytes.len().to_string()]);
    assert_eq!(second.terminate(), Some(0));
    store.stop().await;
}

#[tokio::test]
async fn a_kill_before_the_commit_leaves_no_event() {
    let (store, proxy, settings) = TestStore::behind_proxy().await;
    let (consumer, address) = Consumer::start().await;
    store.put_object("old", b"older".to_vec()).await;
    // times of objects are whole seconds
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let first = program(&settings, address, &[]);
    let holds = proxy.hold_if(|head| {
        head.starts_with("PUT /cosgate/old") || head.starts_with("PUT /cosgate/new")
    });
    for name in ["old", "new"] {
        let mut ftp = login(first.address).await;
        let mut data = ftp.data().await;
        assert_eq!(ftp.command(&format!("STOR {name}")).await.code, 150);
        data.write_all(b"never stored").await.expect("taken");
        drop(data);
        // the session stays open for as long as the gateway lives
        std::mem::forget(ftp);
    }
    eventually("both are being committed", async || holds.caught() == 2).await;
    assert_eq!(entries(&store).await.len(), 2);
    first.kill();
    let second = program(&settings, address, &[]);
    outbox_is_empty(&store).await;
    assert!(consumer.taken().is_empty(), "{:?}", consumer.taken());
    assert_eq!(store.object("old").await.as_deref(), Some(&b"older"[..]));
    assert_eq!(second.terminate(), Some(0));
    drop(holds);
    store.stop().await;
}

#[tokio::test]
async fn a_kill_between_the_commit_and_the_reply_loses_no_event() {
    let (store, proxy, settings) = TestStore::behind_proxy().await;
    let (consumer, address) = Consumer::start().await;
    let first = program(&settings, address, &[]);
    // the store has the object, and the gateway never learns it
    proxy
        .fault("PutObject", Fault::StallAnswer(Duration::from_secs(30)))
        .on_key("f");
    let mut ftp = login(first.address).await;
    let mut data = ftp.data().await;
    assert_eq!(ftp.command("STOR f").await.code, 150);
    data.write_all(b"stored").await.expect("taken");
    drop(data);
    eventually("it is stored", async || store.object("f").await.is_some()).await;
    first.kill();
    let second = program(&settings, address, &[]);
    let events = consumer.wait_for(1).await;
    assert_eq!(of(&events, "/data/key"), ["f"]);
    assert_eq!(of(&events, "/data/size"), ["6"]);
    outbox_is_empty(&store).await;
    assert_eq!(second.terminate(), Some(0));
    store.stop().await;
}

#[tokio::test]
async fn a_slow_upload_stays_alive_under_anothers_sweeper() {
    let (store, _proxy, settings) = TestStore::behind_proxy().await;
    let (consumer, address) = Consumer::start().await;
    let first = program(&settings, address, &[]);
    let second = program(&settings, address, &[]);
    let mut ftp = login(first.address).await;
    let mut data = ftp.data().await;
    assert_eq!(ftp.command("STOR slow").await.code, 150);
    // longer than replay_after and a round: the second gateway drops the entry as a dead one's
    for _ in 0..30 {
        data.write_all(b"0123456789").await.expect("taken");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    drop(data);
    assert_eq!(ftp.reply().await.code, 226);
    let events = consumer.wait_for(1).await;
    assert_eq!(of(&events, "/data/size"), ["300"]);
    outbox_is_empty(&store).await;
    assert_eq!(consumer.taken().len(), 1);
    assert_eq!(first.terminate(), Some(0));
    assert_eq!(second.terminate(), Some(0));
    store.stop().await;
}

#[tokio::test]
async fn what_finds_no_room_waits_in_the_outbox_and_is_sent_later() {
    let (place, address) = Absent::new();
    let more = [
        "EVENTS__QUEUE=2",
        "EVENTS__REPLAY_AFTER=1s",
        "ADMIN__LISTEN=127.0.0.1:0",
    ];
    let (gateway, _proxy) = gateway(address, &more).await;
    let mut ftp = gateway.login().await;
    for number in 0..6 {
        assert_eq!(ftp.store(&format!("STOR {number}"), b"x").await.code, 226);
    }
    assert_eq!(entries(&gateway).await.len(), 6);
    let admin = gateway.gateway.admin_address().expect("an admin port");
    let metrics = async || get(admin, "/metrics", &[]).await.body;
    let text = metrics().await;
    for line in [
        r#"cosgate_events_total{sink="pipeline",outcome="deferred"} 4"#,
        r#"cosgate_events_total{sink="pipeline",outcome="lost"} 0"#,
        r#"cosgate_outbox_total{outcome="written"} 6"#,
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    eventually("the sweeper has seen them", async || {
        metrics().await.contains("cosgate_outbox_entries 6")
    })
    .await;
    let consumer = Consumer::default();
    consumer.serve_at(place);
    eventually("all came", async || consumer.taken().len() >= 6).await;
    outbox_is_empty(&gateway).await;
    let keys: std::collections::BTreeSet<String> =
        of(&consumer.taken(), "/data/key").into_iter().collect();
    assert_eq!(keys.len(), 6);
    gateway.stop().await;
}

#[tokio::test]
async fn what_the_sink_has_not_taken_at_the_end_stays_in_the_outbox() {
    let (place, address) = Absent::new();
    let (store, _proxy, settings) = TestStore::behind_proxy().await;
    let mut first = program(&settings, address, &["EVENTS__FLUSH_TIMEOUT=100ms"]);
    let mut ftp = login(first.address).await;
    for name in ["a", "b"] {
        assert_eq!(ftp.store(&format!("STOR {name}"), b"x").await.code, 226);
    }
    drop(ftp);
    assert_eq!(first.stop(), Some(0));
    first.end_of_log();
    let line = |event: &str| {
        let log = first.log();
        let line = log.iter().find(|line| line.contains(event)).cloned();
        line.unwrap_or_else(|| panic!("no {event} in {log:#?}"))
    };
    let left: Value = serde_json::from_str(&line("events_left")).expect("JSON");
    assert_eq!(
        (&left["left"], &left["sink"]),
        (&2.into(), &"pipeline".into())
    );
    assert_eq!(entries(&store).await.len(), 2);
    let consumer = Consumer::default();
    consumer.serve_at(place);
    let second = program(&settings, address, &[]);
    consumer.wait_for(2).await;
    outbox_is_empty(&store).await;
    assert_eq!(second.terminate(), Some(0));
    store.stop().await;
}

#[tokio::test]
async fn a_users_own_bucket_has_its_own_outbox() {
    let (place, address) = Absent::new();
    let list = format!(
        "USERS={}",
        users(&[
            "name: here, home: /h",
            "name: there, home: /t, bucket: second"
        ])
    );
    let settings = [
        sink(address),
        list,
        "EVENTS__DELIVERY=durable".to_owned(),
        "EVENTS__REPLAY_AFTER=1s".to_owned(),
    ];
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let gateway = TestGateway::with(&settings).await;
    gateway.create_bucket("second").await;
    for user in ["here", "there"] {
        let mut ftp = crate::support::login(&gateway, user).await;
        assert_eq!(ftp.store("STOR f", b"x").await.code, 226);
    }
    assert_eq!(entries(&gateway).await.len(), 1);
    let page = gateway
        .s3()
        .list_objects_v2()
        .bucket("second")
        .prefix(OUTBOX)
        .send()
        .await;
    assert_eq!(page.expect("a listing").contents().len(), 1);
    let consumer = Consumer::default();
    consumer.serve_at(place);
    let mut events = consumer.wait_for(2).await;
    events.sort_by_key(|event| event["subject"].as_str().map(str::to_owned));
    assert_eq!(of(&events, "/subject"), ["cosgate/h/f", "second/t/f"]);
    outbox_is_empty(&gateway).await;
    gateway.stop().await;
}

#[tokio::test]
async fn an_entry_that_is_none_is_left_alone_and_holds_nothing_up() {
    let (consumer, address) = Consumer::start().await;
    let more = ["EVENTS__REPLAY_AFTER=1s"];
    let (gateway, _proxy) = gateway(address, &more).await;
    let odd = [
        (format!("{OUTBOX}00000000000000000000000000"), "not JSON"),
        (format!("{OUTBOX}sub/directory"), "{}"),
    ];
    for (key, body) in &odd {
        gateway.put_object(key, body.as_bytes().to_vec()).await;
    }
    let mut ftp = gateway.login().await;
    assert_eq!(ftp.store("STOR f", b"x").await.code, 226);
    consumer.wait_for(1).await;
    let started = Instant::now();
    eventually("only they are left", async || {
        entries(&gateway).await.len() == 2
    })
    .await;
    while started.elapsed() < Duration::from_secs(2) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(entries(&gateway).await.len(), 2);
    assert_eq!(consumer.taken().len(), 1);
    gateway.stop().await;
}

#[tokio::test]
async fn a_sink_that_refuses_for_too_long_costs_the_event_and_its_entry() {
    let (consumer, address) = Consumer::start().await;
    let (gateway, _proxy) = gateway(address, &["EVENTS__GIVE_UP_AFTER=1ms"]).await;
    consumer.answers(&[StatusCode::BAD_REQUEST]);
    let mut ftp = gateway.login().await;
    assert_eq!(ftp.store("STOR a", b"a").await.code, 226);
    eventually("the sink was asked", async || consumer.asked() == 1).await;
    outbox_is_empty(&gateway).await;
    assert!(consumer.taken().is_empty());
    gateway.stop().await;
}
