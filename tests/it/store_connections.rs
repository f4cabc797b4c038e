//! Connections to the store: proxies, TLS, and their end when a request is given up.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::AsyncWriteExt;

use crate::configuration::Program;
use crate::support::front::{Reaction, ScriptedStore, TlsFront, TunnelProxy};
use crate::support::proxy::Proxy;
use crate::support::tls::Authority;
use crate::support::{Ftp, TestStore, eventually_within, gateway, pattern, users};

const MIB: usize = 1024 * 1024;

/// As it stands in the header, for `cosgate` with `p:w`.
const CREDENTIALS: &str = "Basic Y29zZ2F0ZTpwOnc=";

/// What fails is to fail at once.
const ONE_ATTEMPT: (&str, &str) = ("COSGATE_STORAGE__RETRY__MAX_ATTEMPTS", "1");

/// The settings of a program whose store is at `endpoint`.
fn settings(own: &[String], endpoint: &str) -> Vec<String> {
    let own = own
        .iter()
        .filter(|setting| !setting.starts_with("STORAGE__ENDPOINT="));
    let endpoint = format!("STORAGE__ENDPOINT={endpoint}");
    own.cloned().chain([endpoint]).collect()
}

async fn login(address: SocketAddr) -> Ftp {
    let mut ftp = Ftp::connect(address).await;
    ftp.login("demo", "secret").await;
    ftp
}

/// Stores and fetches a small and a large file.
async fn transfers(program: &Program, store: &TestStore) {
    let mut ftp = login(program.address).await;
    for bytes in [b"small".to_vec(), pattern(20 * MIB)] {
        assert_eq!(ftp.store("STOR f", &bytes).await.code, 226);
        assert!(store.object("f").await.as_ref() == Some(&bytes));
        let (fetched, reply) = ftp.fetch("RETR f").await;
        assert!(reply.code == 226 && fetched == bytes);
    }
}

#[tokio::test]
async fn requests_over_plain_http_go_through_the_proxy_of_the_environment_with_its_credentials() {
    let (store, proxy, own) = TestStore::behind_proxy().await;
    // nobody knows this name: the proxy passes on what it gets
    let settings = settings(&own, "http://store.invalid:9000");
    let address = format!("http://cosgate:p%3Aw@{}", proxy.address());
    let program = Program::with(&settings, &[("HTTP_PROXY", &address)]);
    transfers(&program, &store).await;
    for head in proxy.take_requests() {
        let head = head.to_ascii_lowercase();
        let target = head.split(' ').nth(1).expect("a target");
        assert!(target.starts_with("http://store.invalid:9000/"), "{head}");
        assert!(head.contains("\r\nhost: store.invalid:9000\r\n"), "{head}");
        let line = format!("\r\nproxy-authorization: {CREDENTIALS}\r\n");
        assert!(head.contains(&line.to_ascii_lowercase()), "{head}");
    }
    drop(program);
    store.stop().await;
}

#[tokio::test]
async fn a_store_on_this_machine_or_in_no_proxy_is_reached_without_the_proxy() {
    let (store, direct, own) = TestStore::behind_proxy().await;
    let other = Proxy::start(direct.address()).await;
    let proxy = format!("http://{}", other.address());
    let here = format!("http://{}", direct.address());
    let program = Program::with(&settings(&own, &here), &[("HTTP_PROXY", &proxy)]);
    transfers(&program, &store).await;
    drop(program);
    // the embedded store of the program itself
    let program = Program::start(&[("HTTP_PROXY", &proxy)]);
    let mut ftp = Ftp::connect(program.address).await;
    ftp.login("demo", &program.password).await;
    assert_eq!(ftp.store("STOR f", b"here").await.code, 226);
    drop(program);
    let named = settings(&own, "http://store.invalid:9000");
    let env = [
        ONE_ATTEMPT,
        ("HTTP_PROXY", proxy.as_str()),
        ("NO_PROXY", "store.invalid"),
    ];
    let program = Program::with(&named, &env);
    let mut ftp = login(program.address).await;
    let reply = ftp.store("STOR g", b"there").await;
    assert_eq!(reply.code, 451, "nobody knows that host: {reply:?}");
    assert_eq!(other.take_requests(), Vec::<String>::new());
    drop(program);
    store.stop().await;
}

#[tokio::test]
async fn requests_over_https_go_through_a_tunnel_of_the_proxy_and_prove_the_store() {
    let (store, direct, own) = TestStore::behind_proxy().await;
    let authority = Authority::new();
    let front = TlsFront::start(&authority, "store.invalid", direct.address()).await;
    let proxy = TunnelProxy::start(front.address(), Some(CREDENTIALS)).await;
    let settings = settings(&own, "https://store.invalid");
    let ca = authority.file("ca.crt").display().to_string();
    let address = format!("http://cosgate:p%3Aw@{}", proxy.address());
    let env = [("HTTPS_PROXY", address.as_str()), ("SSL_CERT_FILE", &ca)];
    let program = Program::with(&settings, &env);
    transfers(&program, &store).await;
    let heads = proxy.take_heads();
    assert!(!heads.is_empty());
    for head in heads {
        assert!(head.starts_with("CONNECT store.invalid:443 "), "{head}");
    }
    let seen = direct.take_requests().concat().to_ascii_lowercase();
    assert!(!seen.contains("proxy-authorization"), "the store sees it");
    drop(program);

    // without credentials, and with a certificate that nobody trusts
    let address = format!("http://{}", proxy.address());
    for (proxy, ca, reason) in [
        (&address, ca.as_str(), "proxy authorization required"),
        (
            &format!("http://cosgate:p%3Aw@{}", proxy.address()),
            "/dev/null",
            "UnknownIssuer",
        ),
    ] {
        let env = [
            ONE_ATTEMPT,
            ("HTTPS_PROXY", proxy.as_str()),
            ("SSL_CERT_FILE", ca),
        ];
        let program = Program::with(&settings, &env);
        let mut ftp = login(program.address).await;
        let reply = ftp.store("STOR f", b"new").await;
        assert_eq!(reply.code, 451, "{reply:?}");
        let log = program.end();
        assert!(log.contains(reason), "{log}");
    }
    store.stop().await;
}

#[tokio::test]
async fn over_https_each_connection_has_one_handshake_and_a_new_one_resumes_the_session() {
    let (store, direct, own) = TestStore::behind_proxy().await;
    let authority = Authority::new();
    let front = TlsFront::start(&authority, "127.0.0.1", direct.address()).await;
    let settings = settings(&own, &format!("https://{}", front.address()));
    let ca = authority.file("ca.crt").display().to_string();
    let program = Program::with(&settings, &[("SSL_CERT_FILE", &ca)]);
    let mut ftp = login(program.address).await;
    assert_eq!(ftp.store("STOR f", b"first").await.code, 226);
    // another request may have been on the way at the same time
    let (full, resumed) = front.take_handshakes();
    assert!(full >= 1 && full + resumed <= 2, "{full} and {resumed}");
    direct.take_requests();
    assert_eq!(ftp.store("STOR f", &pattern(80 * MIB)).await.code, 226);
    let requests = direct.take_requests().len() as u64;
    let (full, resumed) = front.take_handshakes();
    assert!(requests >= 10, "{requests}");
    assert!(full + resumed <= 4, "{full} and {resumed} for {requests}");

    front.end_connections();
    assert_eq!(ftp.store("STOR f", b"third").await.code, 226);
    assert_eq!(front.take_handshakes(), (0, 1));
    drop(program);
    store.stop().await;
}

/// A gateway whose store is `store`, with parts of 5 MiB.
async fn with_store(store: &ScriptedStore) -> cosgate::app::Gateway {
    let endpoint = format!("STORAGE__ENDPOINT=http://{}", store.address());
    let users = format!("USERS={}", users(&["name: demo"]));
    let settings = [
        endpoint.as_str(),
        &users,
        "STORAGE__PROVIDER=s3",
        "STORAGE__BUCKET=b",
        "STORAGE__REGION=r",
        "STORAGE__ACCESS_KEY_ID=k",
        "STORAGE__SECRET_ACCESS_KEY=s",
        "UPLOAD__MIN_PART_SIZE=5MiB",
        "UPLOAD__MAX_FILE_SIZE=20GiB",
        "UPLOAD__SWEEP=off",
        "UPLOAD__ON_INTERRUPT=discard",
    ];
    gateway::start(&settings).await
}

const BEGUN: &str = "<InitiateMultipartUploadResult><Bucket>b</Bucket><Key>f</Key><UploadId>u</UploadId>\
                     </InitiateMultipartUploadResult>";

const DENIED: &str = "<Error><Code>AccessDenied</Code><Message>no</Message></Error>";

/// The requests of a multipart upload, whose parts meet with `part`.
fn upload(head: &str, part: Reaction) -> Reaction {
    match head.split(' ').next() {
        Some("POST") if head.contains("uploads") => Reaction::Answer("200 OK", BEGUN),
        Some("PUT") => part,
        Some("DELETE") => Reaction::Answer("204 No Content", ""),
        _ => Reaction::Answer("404 Not Found", ""),
    }
}

/// Long before the store is given up by `storage.request_timeout`.
const AT_ONCE: Duration = Duration::from_secs(5);

async fn nothing_is_left(gateway: &cosgate::app::Gateway) {
    eventually_within(AT_ONCE, "the parts are free", || async {
        gateway.store().buffered_bytes() == 0
    })
    .await;
}

#[tokio::test]
async fn an_aborted_upload_ends_its_connections_to_a_store_that_reads_nothing() {
    let store = ScriptedStore::start(|request| upload(request.head, Reaction::Stop)).await;
    let gateway = with_store(&store).await;
    let mut ftp = login(gateway.addresses()[0]).await;
    let mut data = ftp.data().await;
    assert_eq!(ftp.command("STOR f").await.code, 150);
    let sending = tokio::spawn(async move {
        let _ = data.write_all(&pattern(40 * MIB)).await;
    });
    eventually_within(
        Duration::from_secs(30),
        "parts are on their way",
        || async { store.stopped() >= 2 && gateway.store().buffered_bytes() > 10 * MIB as u64 },
    )
    .await;
    ftp.send("ABOR").await;
    assert_eq!(ftp.reply().await.code, 426);
    nothing_is_left(&gateway).await;
    eventually_within(AT_ONCE, "the store sees their end", || async {
        store.stopped() == 0
    })
    .await;
    sending.await.expect("no panic");
    gateway.stop().await;
}

#[tokio::test]
async fn a_store_that_answers_without_reading_a_part_does_not_make_the_gateway_keep_it() {
    let refused = || Reaction::AnswerUnread("403 Forbidden", DENIED);
    let store = ScriptedStore::start(move |request| upload(request.head, refused())).await;
    let gateway = with_store(&store).await;
    let mut ftp = login(gateway.addresses()[0]).await;
    let reply = ftp.store("STOR f", &pattern(20 * MIB)).await;
    assert_eq!(reply.code, 550, "{reply:?}");
    nothing_is_left(&gateway).await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_connection_that_gave_a_transient_error_is_not_taken_again() {
    let connections = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&connections);
    let store = ScriptedStore::start(move |request| {
        if !request.head.starts_with("PUT ") {
            return Reaction::Answer("404 Not Found", "");
        }
        seen.lock().expect("no panic").push(request.connection);
        match request.connection {
            1 => Reaction::Answer("500 Internal Server Error", ""),
            _ => Reaction::Answer("200 OK", ""),
        }
    })
    .await;
    let gateway = with_store(&store).await;
    let mut ftp = login(gateway.addresses()[0]).await;
    ftp.store("STOR f", b"small").await;
    let connections = connections.lock().expect("no panic").clone();
    assert_eq!(connections.first(), Some(&1));
    assert!(
        connections.len() > 1 && !connections[1..].contains(&1),
        "{connections:?}"
    );
    gateway.stop().await;
}
