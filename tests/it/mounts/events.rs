//! Events about files in mounts.

use super::Places;
use crate::events::of;
use crate::events_durable::program;
use crate::support::{Absent, Consumer, Ftp, TestStore, eventually, login, users};

#[tokio::test]
async fn durable_events_have_the_bucket_and_lie_in_it_until_they_are_sent() {
    let (consumer, address) = Consumer::start().await;
    let sink = format!("EVENTS__SINKS=[{{name: pipeline, url: 'http://{address}/hook'}}]");
    let places = Places::start(&[&sink, "EVENTS__DELIVERY=durable"]).await;
    let mut ftp = login(&places.gateway, "u").await;
    assert_eq!(ftp.store("STOR a", b"1").await.code, 226);
    assert_eq!(ftp.store("STOR far/b", b"2").await.code, 226);
    assert_eq!(ftp.command("RNFR a").await.code, 350);
    assert_eq!(ftp.command("RNTO archive/c").await.code, 250);
    assert_eq!(ftp.command("DELE archive/c").await.code, 250);
    let mut events = consumer.wait_for(4).await;
    events.sort_by_key(|event| event["id"].as_str().map(str::to_owned));
    let buckets = ["cosgate", "cosgate", "archive", "archive"];
    assert_eq!(of(&events, "/data/bucket"), buckets);
    assert_eq!(of(&events, "/data/key"), ["u/a", "far/b", "c", "c"]);
    assert_eq!(of(&events, "/data/previous"), ["", "", "u/a", ""]);
    assert_eq!(
        of(&events, "/data/previous_bucket"),
        ["", "", "cosgate", ""]
    );
    let entry = |head: &String, place: &str| head.starts_with(&format!("PUT /{place}/"));
    let at_home = places.at_home.take_requests();
    for place in ["cosgate/.cosgate/outbox", "archive/.cosgate/outbox"] {
        assert!(at_home.iter().any(|head| entry(head, place)), "{place}");
    }
    // keys of the own often reach no further than the mount
    let elsewhere = places.elsewhere.take_requests();
    let place = "cosgate/far/.cosgate/outbox";
    assert!(elsewhere.iter().any(|head| entry(head, place)));
    eventually("the outboxes are empty", async || {
        let list = places.gateway.s3().list_objects_v2().bucket("archive");
        let archive = list.send().await.expect("a listing");
        archive.contents().is_empty() && places.far.keys().await == ["far/b"]
    })
    .await;
    // no client reaches them
    assert_eq!(ftp.command("CWD /far/.cosgate").await.code, 550);
    places.stop().await;
}

#[tokio::test]
async fn a_rename_across_buckets_that_a_killed_gateway_made_is_judged_by_both() {
    let (store, _proxy, mut settings) = TestStore::behind_proxy().await;
    store.create_bucket("archive").await;
    // the gateway's own bucket by name, so that its outbox is there twice
    let list = users(&[
        "name: u, mounts: [{path: /archive, bucket: archive}, {path: /own, home: /own, bucket: cosgate}]",
    ]);
    settings.push(format!("USERS={list}"));
    let (place, address) = Absent::new();
    let first = program(&settings, address, &[]);
    let mut ftp = Ftp::connect(first.address).await;
    ftp.login("u", "secret").await;
    for (from, to) in [("a", "archive/b"), ("c", "archive/d")] {
        assert_eq!(ftp.store(format!("STOR {from}"), b"x").await.code, 226);
        assert_eq!(ftp.command(format!("RNFR {from}")).await.code, 350);
        assert_eq!(ftp.command(format!("RNTO {to}")).await.code, 250);
    }
    first.kill();
    // somebody takes the old name of one, so that it is not known any more what was stored and renamed
    store.put_object("c", b"another".to_vec()).await;
    let (consumer, second) = (Consumer::default(), program(&settings, address, &[]));
    consumer.serve_at(place);
    let mut events = consumer.wait_for(3).await;
    events.sort_by_key(|event| event["data"]["key"].as_str().map(str::to_owned));
    assert_eq!(of(&events, "/data/key"), ["b", "c", "d"]);
    assert_eq!(of(&events, "/data/previous"), ["a", "", "c"]);
    let buckets = ["cosgate", "", "cosgate"];
    assert_eq!(of(&events, "/data/previous_bucket"), buckets);
    assert_eq!(of(&events, "/data/confirmed"), ["", "false", "false"]);
    assert_eq!(second.terminate(), Some(0));
    store.stop().await;
}
