//! Certificates, users and client authorities are replaced while many sessions transfer files: none of them notices.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rustls::version::{TLS12, TLS13};
use tokio::io::AsyncWriteExt;

use crate::support::tls::{Authority, TlsClient};
use crate::support::{TestGateway, eventually, pattern, try_login, users};

const CLIENTS: usize = 12;
const FILES_PER_SESSION: usize = 5;
const ROUNDS: usize = 6;

/// Replaced at once, as everything that is watched should be.
fn replace(file: &Path, content: &str) {
    let new = file.with_extension("new");
    fs::write(&new, content).expect("writes");
    fs::rename(new, file).expect("replaced");
}

/// Sessions of one client, of some files each, until `is_over`; every reply has to be the good one.
async fn persist(
    gateway: Arc<TestGateway>,
    tls: TlsClient,
    client: usize,
    (is_over, files): (Arc<AtomicBool>, Arc<AtomicUsize>),
) {
    let bytes = pattern(60_000 + client);
    while !is_over.load(Ordering::SeqCst) {
        let ftp = gateway.connect().await.secure(&tls).await;
        let mut ftp = ftp.expect("a handshake");
        ftp.login("u", "secret").await;
        ftp.protect(&tls).await;
        for file in 0..FILES_PER_SESSION {
            let name = format!("c{client}-{file}");
            let reply = ftp.store(&format!("STOR {name}"), &bytes).await;
            assert_eq!(reply.code, 226, "{name}: {reply:?}");
            let (back, reply) = ftp.fetch(&format!("RETR {name}")).await;
            assert_eq!(reply.code, 226, "{name}: {reply:?}");
            assert!(back == bytes, "{name}");
            files.fetch_add(1, Ordering::SeqCst);
        }
        assert_eq!(ftp.command("QUIT").await.code, 221);
    }
}

/// One upload that goes on from before the first change until after the last.
async fn slow(gateway: Arc<TestGateway>, tls: TlsClient, is_over: Arc<AtomicBool>) {
    let ftp = gateway.connect().await.secure(&tls).await;
    let mut ftp = ftp.expect("a handshake");
    ftp.login("u", "secret").await;
    ftp.protect(&tls).await;
    let data = ftp.data().await;
    assert_eq!(ftp.command("STOR slow").await.code, 150);
    let mut data = ftp.wrap(data).await.expect("a handshake");
    let mut sent = 0;
    while !is_over.load(Ordering::SeqCst) {
        data.write_all(&[b'x'; 20_000]).await.expect("writes");
        sent += 20_000;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    data.shutdown().await.expect("ends");
    let reply = ftp.reply().await;
    assert_eq!(reply.code, 226, "{reply:?}");
    assert_eq!(
        gateway.object("slow").await.map(|bytes| bytes.len()),
        Some(sent)
    );
    // the session has the certificates with which it began, and works on
    assert_eq!(ftp.store("STOR after", b"after").await.code, 226);
    assert_eq!(
        gateway.object("after").await.as_deref(),
        Some(&b"after"[..])
    );
}

async fn campaign(reuse: &str) {
    let (authority, other) = (Authority::new(), Authority::new());
    let clients = authority.file("clients.pem");
    let pem = |authority: &Authority| fs::read_to_string(authority.file("ca.crt")).expect("reads");
    let (one, both) = (pem(&authority), pem(&authority) + &pem(&other));
    replace(&clients, &one);
    let users_file = authority.file("users.yaml");
    replace(&users_file, &users(&["name: u", "name: demo"]));
    let settings = [
        format!("TLS__SESSION_REUSE={reuse}"),
        format!("TLS__CLIENT_CA={}", clients.display()),
        "TLS__CLIENT_AUTH=optional".to_owned(),
        format!("USERS_FILE={}", users_file.display()),
        "SESSIONS__MAX_PER_IP=100".to_owned(),
    ];
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let gateway = Arc::new(TestGateway::with_tls(&authority, &settings).await);
    let (is_over, files) = <(Arc<AtomicBool>, Arc<AtomicUsize>)>::default();
    let mut running: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let versions = [&TLS13, &TLS12];
            let version = versions[client % 2];
            // some show a certificate
            let tls = match client % 4 {
                0 | 1 => authority.client_named_by("a client", &[version]),
                3 => authority.client_12(),
                _ => authority.client(),
            };
            let shared = (Arc::clone(&is_over), Arc::clone(&files));
            tokio::spawn(persist(Arc::clone(&gateway), tls, client, shared))
        })
        .collect();
    let tls = authority.client_named("slow");
    running.push(tokio::spawn(slow(
        Arc::clone(&gateway),
        tls,
        Arc::clone(&is_over),
    )));
    for round in 0..ROUNDS {
        let so_far = files.load(Ordering::SeqCst);
        eventually("files move", || async {
            files.load(Ordering::SeqCst) > so_far + CLIENTS
        })
        .await;
        let since = || gateway.gateway.certificates().expect("FTPS is on").since;
        let before = since();
        authority.write_server_pair(authority.directory(), &format!("server {round}"));
        replace(&clients, if round % 2 == 0 { &both } else { &one });
        let new = format!("name: new{round}");
        replace(&users_file, &users(&["name: u", "name: demo", &new]));
        eventually("the new certificates are in force", || async {
            since() != before
        })
        .await;
        eventually("the new user is known", || async {
            try_login(&gateway, &format!("new{round}"), "secret")
                .await
                .code
                == 230
        })
        .await;
    }
    is_over.store(true, Ordering::SeqCst);
    for running in running {
        running.await.expect("no transfer failed");
    }
    eprintln!(
        "{reuse}: {} files there and back",
        files.load(Ordering::SeqCst)
    );
    assert_eq!(gateway.unfinished().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn reloads_under_load_fail_no_transfer() {
    for reuse in ["required", "off"] {
        campaign(reuse).await;
    }
}
