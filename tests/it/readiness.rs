//! `/readyz`: whether clients should be sent here, and each reason why not.

use std::time::{Duration, SystemTime};

use crate::support::http::get;
use crate::support::tls::Authority;
use crate::support::{TestGateway, eventually};

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

#[tokio::test]
async fn a_store_that_never_answered_is_a_reason() {
    let settings = [ADMIN, "STORAGE__RETRY__MAX_ATTEMPTS=1"];
    let (gateway, proxy) = TestGateway::behind_proxy(&settings).await;
    proxy.set_down(true);
    let admin = gateway.gateway.admin_address().expect("it is on");
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
