//! The status page, as bytes. tests/status looks at it in a browser.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

use crate::support::http::get;
use crate::support::tls::Authority;
use crate::support::{TestGateway, eventually, pattern, try_login};

const TOKEN: &str = "0123456789abcdef";

async fn with(settings: &[&str]) -> (TestGateway, SocketAddr) {
    let own = ["ADMIN__LISTEN=127.0.0.1:0"];
    let gateway = TestGateway::with(&[&own[..], settings].concat()).await;
    let admin = gateway.gateway.admin_address().expect("it is on");
    (gateway, admin)
}

/// The same moment is shown for half a second: ask until it is the awaited one.
async fn content(admin: SocketAddr) -> String {
    get(admin, "/status", &[]).await.body
}

#[tokio::test]
async fn the_page_shows_sessions_transfers_and_failures_as_they_come_and_go() {
    let settings = [
        "PASSIVE__ACCEPT_TIMEOUT=100ms",
        "MASQUERADE_ADDRESS=203.0.113.7",
        "AUTH__LOCKOUT__DELAY=1ms",
    ];
    let (gateway, admin) = with(&settings).await;
    let mut ftp = gateway.login().await;
    assert_eq!(ftp.command("ALLO 2000000").await.code, 200);
    let mut data = ftp.data().await;
    assert_eq!(ftp.command("STOR <b>&.txt").await.code, 150);
    data.write_all(&pattern(1 << 20)).await.expect("taken");
    eventually("the upload is shown", || async {
        let text = content(admin).await;
        text.contains("/&lt;b&gt;&amp;.txt") && text.contains("1.0 MiB of 1.9 MiB")
    })
    .await;
    let text = content(admin).await;
    for shown in ["203.0.113.7", "from masquerade_address", "FTPS is off"] {
        assert!(text.contains(shown), "{shown} in {text}");
    }
    assert!(!text.contains("<b>"));
    drop(data);
    assert_eq!(ftp.reply().await.code, 226);

    ftp.epsv().await;
    assert_eq!(ftp.command("RETR f").await.code, 425);
    assert_eq!(try_login(&gateway, "demo", "wrong").await.code, 530);
    // what was typed as a name may be a password
    assert_eq!(try_login(&gateway, "sesame", "wrong").await.code, 530);
    assert_eq!(ftp.command("SESAME").await.code, 500);
    eventually("the failures are shown, the transfer is gone", || async {
        let text = content(admin).await;
        let shown = [
            "nobody connected to the passive port",
            "(this client is told: 203.0.113.7)",
            "wrong password",
            "unknown user",
            "None at the moment.",
            "(unknown)",
        ];
        assert!(!text.to_lowercase().contains("sesame"));
        shown.iter().all(|part| text.contains(part))
    })
    .await;
    assert_eq!(ftp.command("QUIT").await.code, 221);
    eventually("nobody is connected", || async {
        content(admin).await.contains("Nobody is connected.")
    })
    .await;
    gateway.stop().await;
}

#[tokio::test]
async fn what_the_store_fails_at_is_shown_and_a_question_for_nothing_is_not() {
    let settings = [
        "ADMIN__LISTEN=127.0.0.1:0",
        "STORAGE__RETRY__MAX_ATTEMPTS=1",
    ];
    let (gateway, proxy) = TestGateway::behind_proxy(&settings).await;
    let admin = gateway.gateway.admin_address().expect("it is on");
    let mut ftp = gateway.login().await;
    for asked in ["CWD", "SIZE", "MDTM", "MLST", "RNFR", "STAT"] {
        assert_eq!(
            ftp.command(&format!("{asked} gone")).await.code,
            550,
            "{asked}"
        );
    }
    assert!(content(admin).await.contains("None since the start."));
    proxy.set_down(true);
    let commands = [
        "CWD", "SIZE", "MDTM", "MLST", "RNFR", "STAT", "HASH", "DELE",
    ];
    for asked in commands {
        assert_eq!(
            ftp.command(&format!("{asked} f")).await.code,
            451,
            "{asked}"
        );
    }
    eventually("each is shown by its own name", || async {
        let text = content(admin).await;
        let shown =
            |verb| text.contains(&format!("<code>{verb}</code> <bdi class=\"name\">/f</bdi>"));
        text.contains("the store can't be reached") && commands.iter().all(shown)
    })
    .await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_download_and_a_wait_for_data_are_shown_as_what_they_are() {
    let (gateway, admin) = with(&["PASSIVE__ACCEPT_TIMEOUT=60s"]).await;
    let mut ftp = gateway.login().await;
    assert_eq!(ftp.store("STOR f", &pattern(20 << 20)).await.code, 226);
    let data = ftp.data().await;
    assert_eq!(ftp.command("RETR f").await.code, 150);
    let mut waiting = gateway.login().await;
    waiting.epsv().await;
    waiting.send_raw(b"LIST\r\n").await;
    eventually("both are shown", || async {
        let text = content(admin).await;
        text.contains("of 20.0 MiB") && text.contains("waits for the data connection")
    })
    .await;
    drop((data, waiting));
    gateway.stop().await;
}

#[tokio::test]
async fn a_protected_session_and_a_plain_one_are_distinguished() {
    let authority = Authority::new();
    let gateway = TestGateway::with_tls(&authority, &["ADMIN__LISTEN=127.0.0.1:0"]).await;
    let admin = gateway.gateway.admin_address().expect("it is on");
    let ftp = gateway.connect().await;
    let text = content(admin).await;
    assert!(text.contains("plain") && !text.contains("<div>TLS</div>"));
    let mut ftp = ftp.secure(&authority.client()).await.expect("a handshake");
    assert_eq!(ftp.command("NOOP").await.code, 200);
    eventually("it is protected", || async {
        let text = content(admin).await;
        text.contains("<div>TLS</div>") && text.contains("not logged in") && !text.contains("plain")
    })
    .await;
    gateway.stop().await;
}

#[tokio::test]
async fn the_page_is_one_document_with_strict_policies() {
    let (gateway, admin) = with(&[]).await;
    for path in ["/", "/status"] {
        let page = get(admin, path, &[]).await;
        assert_eq!(page.status, 200);
        let header = |name| page.header(name).unwrap_or_default().to_owned();
        let policy = header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; "), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"));
        assert_eq!(header("cache-control"), "no-store");
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("referrer-policy"), "no-referrer");
        assert_eq!(header("content-type"), "text/html; charset=utf-8");
        assert!(!page.body.contains("http://") && !page.body.contains("https://"));
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_token_is_wanted_for_the_page_and_for_nothing_else() {
    let (gateway, admin) = with(&[&format!("ADMIN__TOKEN={TOKEN}")]).await;
    for path in ["/", "/status"] {
        let refused = get(admin, path, &[]).await;
        assert_eq!(refused.status, 401);
        let scheme = refused.header("www-authenticate").unwrap_or_default();
        assert!(scheme.starts_with("Basic realm="), "{scheme}");
        assert!(!refused.body.contains("demo") && !refused.body.contains("Sessions"));
        let wrong = format!("authorization: Bearer {}", TOKEN.replace('0', "1"));
        let asked = Instant::now();
        assert_eq!(get(admin, path, &[&wrong]).await.status, 401);
        assert!(
            asked.elapsed() >= Duration::from_secs(1),
            "guessing is slow"
        );
        let right = format!("authorization: Bearer {TOKEN}");
        assert_eq!(get(admin, path, &[&right]).await.status, 200);
    }
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(get(admin, path, &[]).await.status, 200, "{path}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn where_everybody_could_come_there_is_no_page_without_a_token() {
    let settings = ["ADMIN__LISTEN=0.0.0.0:0"];
    let gateway = TestGateway::with(&settings).await;
    let port = gateway.gateway.admin_address().expect("it is on").port();
    let admin = SocketAddr::from(([127, 0, 0, 1], port));
    let refused = get(admin, "/", &[]).await;
    assert_eq!(refused.status, 403);
    assert!(refused.body.contains("Set admin.token"), "{}", refused.body);
    assert_eq!(get(admin, "/readyz", &[]).await.status, 200);
    gateway.stop().await;

    let (gateway, admin) = with(&["ADMIN__STATUS=off"]).await;
    assert_eq!(get(admin, "/", &[]).await.status, 404);
    gateway.stop().await;
}

#[tokio::test]
async fn connections_that_say_nothing_are_bounded_and_take_no_place_from_others() {
    let (gateway, admin) = with(&[]).await;
    let mut silent = Vec::new();
    for from in 1..=10 {
        for _ in 0..16 {
            let socket = TcpSocket::new_v4().expect("a socket");
            let from = Ipv4Addr::new(127, 0, 0, from);
            socket.bind((from, 0).into()).expect("a loopback address");
            let mut half = socket.connect(admin).await.expect("it listens");
            half.write_all(b"GET /livez HTT")
                .await
                .expect("it is taken");
            silent.push(half);
        }
    }
    // all places are taken, those of its own address too, and yet a probe gets its answer
    for from in [1, 10, 11] {
        assert!(
            is_alive(admin, Ipv4Addr::new(127, 0, 0, from)).await,
            "{from}"
        );
    }
    let closed = tokio::time::timeout(Duration::from_secs(30), silent[0].read_u8()).await;
    assert!(
        closed.is_ok_and(|read| read.is_err()),
        "the oldest made room"
    );
    drop(silent);
    gateway.stop().await;
}

/// The answer of `/livez` to a client with this address.
async fn is_alive(admin: SocketAddr, client: Ipv4Addr) -> bool {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket
        .bind((client, 0).into())
        .expect("an address of this host");
    let mut socket = socket.connect(admin).await.expect("it listens");
    let request = b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let mut answer = String::new();
    // it may be closed before it has said anything
    let _ = socket.write_all(request).await;
    let _ = socket.read_to_string(&mut answer).await;
    answer.starts_with("HTTP/1.1 200")
}
