//! Clients whose addresses are allowed or denied, at the start and as the file of the lists changes.

use std::net::SocketAddr;
use std::time::Duration;

use cosgate::config::load_from;
use tokio::io::AsyncWriteExt;

use crate::support::http::{self, get};
use crate::support::tls::Authority;
use crate::support::{Ftp, Mount, Relay, TestGateway, eventually, users};

/// Connects from 127.0.0.`last`; the code that comes without asking.
async fn greeted(from: u8, address: SocketAddr) -> (Ftp, u16) {
    let mut ftp = Ftp::connect_silently_from([127, 0, 0, from], address).await;
    let code = ftp.reply().await.code;
    (ftp, code)
}

/// A gateway with these lists in a file that is read again soon.
async fn with_file(mount: &Mount, more: &[&str]) -> TestGateway {
    let file = format!("ACCESS__FILE={}", mount.file().display());
    let list = format!("USERS={}", users(&["name: u"]));
    let own = [
        file.as_str(),
        list.as_str(),
        "RELOAD__INTERVAL=20ms",
        "ADMIN__LISTEN=127.0.0.1:0",
    ];
    TestGateway::with(&[&own, more].concat()).await
}

async fn metric(gateway: &TestGateway, name: &str) -> f64 {
    let admin = gateway.gateway.admin_address().expect("it is on");
    http::metric(admin, name).await
}

const DENIED: &str = "cosgate_connections_refused_total{reason=\"denied\"}";
const NOT_ALLOWED: &str = "cosgate_connections_refused_total{reason=\"not_allowed\"}";

#[tokio::test]
async fn an_address_that_is_not_allowed_or_denied_gets_no_greeting() {
    let gateway = TestGateway::with(&[
        "ACCESS__ALLOW=127.0.0.0/29",
        "ACCESS__DENY=127.0.0.4, 127.0.0.200",
        "ADMIN__LISTEN=127.0.0.1:0",
    ])
    .await;
    for (from, code) in [(1, 220), (7, 220), (4, 421), (8, 421), (200, 421)] {
        let (mut ftp, got) = greeted(from, gateway.address()).await;
        assert_eq!(got, code, "127.0.0.{from}");
        if code == 421 {
            assert!(ftp.is_closed().await);
        } else {
            ftp.login("demo", &gateway.password).await;
        }
    }
    assert_eq!(metric(&gateway, DENIED).await, 2.0);
    assert_eq!(metric(&gateway, NOT_ALLOWED).await, 1.0);
    gateway.stop().await;
}

#[tokio::test]
async fn implicit_ftps_is_refused_before_any_handshake() {
    let authority = Authority::new();
    let gateway = TestGateway::with_tls(
        &authority,
        &["TLS__IMPLICIT_LISTEN=127.0.0.1:0", "ACCESS__DENY=127.0.0.4"],
    )
    .await;
    let implicit = gateway.gateway.addresses()[1];
    let mut denied = Ftp::connect_silently_from([127, 0, 0, 4], implicit).await;
    assert!(denied.is_closed().await);
    Ftp::connect_implicitly(implicit, &authority.client()).await;
    gateway.stop().await;
}

#[tokio::test]
async fn behind_a_proxy_the_client_is_judged_and_not_the_proxy() {
    let gateway = TestGateway::with(&[
        "PROXY_PROTOCOL__TRUSTED=127.0.0.9",
        "ACCESS__ALLOW=192.0.2.0/24",
        "ACCESS__DENY=192.0.2.66, 127.0.0.9",
        "ADMIN__LISTEN=127.0.0.1:0",
    ])
    .await;
    for (client, code) in [
        ("192.0.2.7", 220),
        ("192.0.2.66", 421),
        ("198.51.100.1", 421),
    ] {
        let relay = Relay {
            from: [127, 0, 0, 9],
            header: format!("PROXY TCP4 {client} 203.0.113.1 40000 21\r\n").into_bytes(),
        };
        let mut ftp = Ftp::connect_silently_through(&relay, gateway.address()).await;
        assert_eq!(ftp.reply().await.code, code, "{client}");
    }
    // who connects without a proxy can't claim an address
    let relay = Relay {
        from: [127, 0, 0, 1],
        header: b"PROXY TCP4 192.0.2.7 203.0.113.1 40000 21\r\n".to_vec(),
    };
    let mut ftp = Ftp::connect_silently_through(&relay, gateway.address()).await;
    assert_eq!(ftp.reply().await.code, 421);
    assert_eq!(metric(&gateway, DENIED).await, 1.0);
    assert_eq!(metric(&gateway, NOT_ALLOWED).await, 2.0);
    gateway.stop().await;
}

#[tokio::test]
async fn a_changed_file_refuses_the_next_client_and_ends_sessions_and_transfers() {
    let mount = Mount::new("access.yaml", "deny: []\n");
    let gateway = with_file(&mount, &["UPLOAD__ON_INTERRUPT=discard"]).await;
    let log_in = async |from: u8| {
        let mut ftp = Ftp::connect_through(&Relay::plain(from), gateway.address()).await;
        ftp.login("u", "secret").await;
        ftp
    };
    let (mut idle, mut storing, mut other) = (log_in(3).await, log_in(4).await, log_in(1).await);
    let mut data = storing.data().await;
    assert_eq!(storing.command("STOR f").await.code, 150);
    data.write_all(b"before").await.expect("writes");

    mount.swap("v1", r#"{"deny": ["127.0.0.3", "127.0.0.4/31"]}"#);
    assert_eq!(idle.reply().await.code, 421);
    assert!(idle.is_closed().await);
    assert_eq!(storing.reply().await.code, 421, "the transfer's last reply");
    assert!(storing.is_closed().await);
    assert_eq!(gateway.object("f").await, None, "discarded as it broke off");
    assert_eq!(greeted(5, gateway.address()).await.1, 421);
    assert_eq!(other.store("STOR g", b"x").await.code, 226);

    mount.swap("v2", "allow: [127.0.0.1]\n");
    eventually("only the allowed one gets in", || async {
        greeted(5, gateway.address()).await.1 == 421 && greeted(1, gateway.address()).await.1 == 220
    })
    .await;
    assert_eq!(other.store("STOR h", b"x").await.code, 226);
    mount.swap("v3", "allow: []\ndeny: []\n");
    eventually("everybody gets in again", || async {
        greeted(5, gateway.address()).await.1 == 220
    })
    .await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_bad_file_leaves_the_last_good_lists_in_force_and_says_why() {
    let mount = Mount::new("access.yaml", "deny: [127.0.0.3]\n");
    let gateway = with_file(&mount, &["ACCESS__DENY=127.0.0.2"]).await;
    let failing = "cosgate_access_reload_failing_since_timestamp_seconds";
    assert_eq!(metric(&gateway, failing).await, 0.0);
    let mut since = None;
    let bad = [
        "",
        "deny:\n",
        "deny: [127.0.0.1, 10.0.0.0/33]\n",
        "denied: [127.0.0.1]\n",
        "- 127.0.0.1\n",
    ];
    for (version, content) in bad.into_iter().enumerate() {
        mount.swap(&format!("v{version}-bad"), content);
        eventually("it is seen", || async {
            metric(&gateway, failing).await > 0.0
        })
        .await;
        // the next look, if it is still the one before
        tokio::time::sleep(Duration::from_millis(300)).await;
        let now = metric(&gateway, failing).await;
        assert_eq!(*since.get_or_insert(now), now, "{content:?}");
        for (from, code) in [(1, 220), (2, 421), (3, 421)] {
            let got = greeted(from, gateway.address()).await.1;
            assert_eq!(got, code, "{content:?}, 127.0.0.{from}");
        }
    }
    let admin = gateway.gateway.admin_address().expect("it is on");
    let ready = get(admin, "/readyz", &[]).await;
    assert_eq!(ready.status, 200);
    assert!(ready.body.contains("access.file"), "{}", ready.body);
    mount.swap("good", "deny: [127.0.0.4]\n");
    eventually("it is in force", || async {
        greeted(3, gateway.address()).await.1 == 220 && greeted(4, gateway.address()).await.1 == 421
    })
    .await;
    assert_eq!(metric(&gateway, failing).await, 0.0);
    assert_eq!(greeted(2, gateway.address()).await.1, 421, "fixed");
    gateway.stop().await;
}

#[test]
fn faults_of_the_lists_are_named_with_key_value_place_and_remedy() {
    let load = |key: &str, value: &str| {
        load_from(None, [(format!("COSGATE_ACCESS__{key}"), value.to_owned())])
    };
    for (key, value, words) in [
        (
            "ALLOW",
            "10.1.2.3/8",
            &[
                "access.allow = 10.1.2.3/8 (from COSGATE_ACCESS__ALLOW)",
                "10.0.0.0/8",
            ][..],
        ),
        (
            "DENY",
            "10.0.0.1,everybody",
            &["access.deny = everybody", "no network"],
        ),
        (
            "FILE",
            "/nowhere/access.yaml",
            &["access.file = /nowhere/access.yaml", "cannot be read"],
        ),
    ] {
        let error = load(key, value).expect_err("it is refused").to_string();
        for word in words {
            assert!(error.contains(word), "no {word:?} in {error}");
        }
    }
    let loaded = load("DENY", "0.0.0.0/0").expect("allowed, and strange");
    assert!(
        loaded
            .warnings
            .iter()
            .any(|line| line.contains("access.deny") && line.contains("everybody")),
        "{:?}",
        loaded.warnings
    );
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("access.yaml");
    for (content, words) in [
        ("", &["access.file", "no lists", "[]"][..]),
        ("{}", &["access.file", "no lists"]),
        ("allow:\ndeny: [10.0.0.1]\n", &["access.file", "no lists"]),
        (
            "allow: [10.0.0.1]\ndeny:\n- 10.0.0.2\n- 10.0.0.300\n",
            &["access.deny = 10.0.0.300", "line 2", "no network"],
        ),
        (
            "allow: [10.0.0.1]\nfile: /etc/passwd\n",
            &["access.file", "only the lists", "file"],
        ),
        ("allow: {a: b}\n", &["access.allow", "line 1"]),
        ("allow: [", &["access.file", "not valid YAML"]),
    ] {
        std::fs::write(&path, content).expect("written");
        let error = load("FILE", &path.display().to_string())
            .expect_err(content)
            .to_string();
        for word in words {
            assert!(error.contains(word), "no {word:?} in {error}");
        }
        assert!(error.contains("access.yaml"), "{error}");
    }
    std::fs::write(&path, r#"{"allow": ["2001:db8::/32"], "deny": []}"#).expect("written");
    let loaded = load("FILE", &path.display().to_string()).expect("JSON serves as well");
    let file = loaded.config.access.file.expect("there is one");
    assert_eq!((file.lists.allow.len(), file.lists.deny.len()), (1, 0));
}
