//! `/readyz`: whether clients should be sent here, and each reason why not.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use crate::support::gateway::start;
use crate::support::http::{get, metric};
use crate::support::tls::Authority;
use crate::support::{TestGateway, TestStore, eventually, eventually_within};

const MINUTE: Duration = Duration::from_secs(60);

const ADMIN: &str = "ADMIN__LISTEN=127.0.0.1:0";

#[tokio::test]
async fn an_outage_of_the_store_is_a_note_at_first() {
    let settings = [ADMIN, "STORAGE__RETRY__MAX_ATTEMPTS=1"];
    let (gateway, proxy) = TestGateway::behind_proxy(&settings).await;
    let admin = gateway.gateway.admin_address().expect("it is on");
    let first = get(admin, "/readyz", &[]).await;
    assert_eq!((first.status, first.body.as_str()), (200, "ready\n"));
    proxy.take_requests();
    for _ in 0..20 {
        assert_eq!(get(admin, "/readyz", &[]).await.status, 200);
    }
    // the first answer may have become old meanwhile
    let asked = proxy.take_requests().len();
    assert!(asked <= 2, "an answer serves many probes, not {asked}");

    proxy.set_down(true);
    eventually("the outage is noted", || async {
        let answer = get(admin, "/readyz", &[]).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body.starts_with(
            "ready\nnote: the store does not answer, though it did within the last minute: ",
        )
    })
    .await;
    proxy.set_down(false);
    eventually("its end, too", || async {
        get(admin, "/readyz", &[]).await.body == "ready\n"
    })
    .await;
}

/// The value of `cosgate_store_reachable`.
async fn reachable(admin: SocketAddr) -> bool {
    metric(admin, "cosgate_store_reachable").await > 0.0
}

/// A minute of real time: what readiness makes of the outage that all the gateways of a store see at once.
#[tokio::test]
async fn a_long_outage_of_the_store_is_a_note_and_not_ready_only_where_that_is_wanted() {
    let settings = [ADMIN, "STORAGE__RETRY__MAX_ATTEMPTS=1"];
    let (gateway, proxy) = TestGateway::behind_proxy(&settings).await;
    let wanted = [&settings[..], &["ADMIN__STORE_OUTAGE=not_ready"]].concat();
    let (strict, strict_proxy) = TestGateway::behind_proxy(&wanted).await;
    let admin = gateway.gateway.admin_address().expect("it is on");
    let strict = (strict.gateway.admin_address().expect("it is on"), strict);
    for admin in [admin, strict.0] {
        let first = get(admin, "/readyz", &[]).await;
        assert_eq!((first.status, first.body.as_str()), (200, "ready\n"));
        assert!(reachable(admin).await);
    }
    proxy.set_down(true);
    strict_proxy.set_down(true);
    eventually_within(2 * MINUTE, "a minute has passed", || async {
        let answer = get(strict.0, "/readyz", &[]).await;
        answer.status == 503
            && answer
                .body
                .starts_with("not ready\nthe store can't be reached: ")
    })
    .await;
    eventually_within(MINUTE, "here it is a note", || async {
        let answer = get(admin, "/readyz", &[]).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let note = "ready\nnote: the store has not answered for more than a minute, transfers are answered with 451: ";
        answer.body.starts_with(note)
    })
    .await;
    assert!(!reachable(admin).await);
    // clients are let in, and told why nothing moves
    let mut ftp = gateway.login().await;
    assert_eq!(ftp.store("STOR f", b"x").await.code, 451);
    proxy.set_down(false);
    eventually("it is over", || async {
        get(admin, "/readyz", &[]).await.body == "ready\n" && reachable(admin).await
    })
    .await;
    assert_eq!(ftp.store("STOR f", b"x").await.code, 226);
}

#[tokio::test]
async fn a_store_that_never_answered_is_a_reason() {
    let (store, proxy, own) = TestStore::behind_proxy().await;
    proxy.set_down(true);
    let mut settings: Vec<&str> = own.iter().map(String::as_str).collect();
    settings.extend([ADMIN, "STORAGE__RETRY__MAX_ATTEMPTS=1"]);
    let gateway = start(&settings).await;
    let admin = gateway.admin_address().expect("it is on");
    let answer = get(admin, "/readyz", &[]).await;
    assert_eq!(answer.status, 503);
    assert!(
        answer
            .body
            .starts_with("not ready\nthe store can't be reached: "),
        "{}",
        answer.body
    );
    assert_eq!(get(admin, "/livez", &[]).await.status, 200);
    assert!(!reachable(admin).await);
    proxy.set_down(false);
    eventually("it answers", || async {
        get(admin, "/readyz", &[]).await.body == "ready\n"
    })
    .await;
    gateway.stop().await;
    store.stop().await;
}

#[tokio::test]
async fn a_certificate_that_fails_to_reload_is_a_note_and_one_that_has_expired_a_reason() {
    let authority = Authority::new();
    // whole seconds, as in a certificate; long enough to be taken on a machine that is busy
    let until = SystemTime::now() + Duration::from_secs(8);
    authority.write_server_pair_until(authority.directory(), until);
    let gateway = TestGateway::with_tls(&authority, &[ADMIN, "TLS__REQUIRED=control"]).await;
    let admin = gateway.gateway.admin_address().expect("it is on");
    assert_eq!(get(admin, "/readyz", &[]).await.body, "ready\n");
    // here clients may do without
    let optional = TestGateway::with_tls(&authority, &[ADMIN]).await;

    std::fs::write(authority.file("tls.crt"), "no certificate").expect("written");
    eventually("the reload fails", || async {
        let answer = get(admin, "/readyz", &[]).await;
        let note = "note: the changed certificate files can't be used, the last good ones hold: ";
        answer.body.contains(note)
    })
    .await;
    eventually("it expires", || async {
        let answer = get(admin, "/readyz", &[]).await;
        let expired = answer.body.contains("the certificate has expired (");
        assert_eq!(answer.status, if expired { 503 } else { 200 });
        expired
    })
    .await;
    let answer = get(
        optional.gateway.admin_address().expect("on"),
        "/readyz",
        &[],
    )
    .await;
    let note = "note: the certificate has expired (";
    assert!(
        answer.status == 200 && answer.body.contains(note),
        "{}",
        answer.body
    );
    optional.stop().await;
    authority.write_server_pair(authority.directory(), "renewed");
    eventually("a new one makes it ready", || async {
        get(admin, "/readyz", &[]).await.body == "ready\n"
    })
    .await;
    gateway.stop().await;
}
