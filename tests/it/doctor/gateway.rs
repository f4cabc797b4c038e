//! A running gateway, examined as clients see it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cosgate::doctor::{Limits, Outcome, Report, Security, Target, examine_gateway};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::{check, expect, expect_sound, target};
use crate::support::tls::Authority;
use crate::support::{TestGateway, users};

async fn examine(target: &Target) -> Report {
    let limits = Limits::within(Duration::from_secs(120));
    examine_gateway(target, limits).await.expect("good usage")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sound_gateway_is_sound_and_nothing_is_left_there() {
    let gateway = TestGateway::start().await;
    let report = examine(&target(gateway.address(), "demo", &gateway.password)).await;
    expect_sound(&report);
    for name in [
        "connect",
        "greeting",
        "features",
        "login",
        "pasv",
        "epsv",
        "passive ports",
        "upload",
        "size",
        "download",
        "delete",
    ] {
        expect(&report, name, Outcome::Ok, &[]);
    }
    expect(&report, "tls", Outcome::Warning, &["no TLS", "tls.cert"]);
    let ports = gateway.gateway.passive_ports();
    for port in ports {
        expect(&report, "passive ports", Outcome::Ok, &[&port.to_string()]);
    }
    assert!(gateway.keys().await.is_empty());
    assert!(!report.json().contains(&gateway.password));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_user_the_way_to_the_login_is_examined() {
    let gateway = TestGateway::start().await;
    let mut target = target(gateway.address(), "demo", "");
    target.login = None;
    let report = examine(&target).await;
    expect_sound(&report);
    expect(&report, "greeting", Outcome::Ok, &["220"]);
    for name in ["login", "pasv", "upload", "delete"] {
        expect(&report, name, Outcome::Skipped, &["no --user"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_port_is_asked_whether_the_gateway_is_ready() {
    let settings = [
        "ADMIN__LISTEN=127.0.0.1:0",
        "KUBERNETES__IN_CLUSTER=true",
        "MASQUERADE__GRACE=1ms",
    ];
    let gateway = TestGateway::with(&settings).await;
    let mut target = target(gateway.address(), "demo", "");
    target.login = None;
    let admin = gateway.gateway.admin_address().expect("it is on");
    target.admin = Some(("localhost".to_owned(), admin.port()));
    let report = examine(&target).await;
    let unknown = [
        "answers 503",
        "masquerade address unknown, also after masquerade.grace: this is a pod",
    ];
    expect(&report, "readiness", Outcome::Failed, &unknown);
    expect(&report, "greeting", Outcome::Ok, &["220"]);
    assert_eq!(report.outcome(), Outcome::Failed);

    let gateway = TestGateway::with(&settings[..1]).await;
    target.port = gateway.address().port();
    let admin = gateway.gateway.admin_address().expect("it is on");
    target.admin = Some(("127.0.0.1".to_owned(), admin.port()));
    let report = examine(&target).await;
    expect_sound(&report);
    expect(&report, "readiness", Outcome::Ok, &["ready"]);
    target.admin = Some(("host.invalid".to_owned(), 8080));
    let report = examine(&target).await;
    expect(
        &report,
        "readiness",
        Outcome::Failed,
        &["host.invalid has no address"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_examined_with_its_certificate_and_on_data_connections() {
    let authority = Authority::new();
    let gateway = TestGateway::with_tls(&authority, &["TLS__REQUIRED=all"]).await;
    let mut target = target(gateway.address(), "demo", &gateway.password);

    let report = examine(&target).await;
    expect(&report, "tls", Outcome::Ok, &["TLS 1.3"]);
    let unknown = ["no authority", "--ca FILE"];
    expect(&report, "certificate", Outcome::Failed, &unknown);
    // the password stays here
    expect(&report, "login", Outcome::Skipped, &["not trusted"]);

    target.insecure = true;
    let report = examine(&target).await;
    expect_sound(&report);
    expect(&report, "certificate", Outcome::Warning, &unknown);
    expect(&report, "download", Outcome::Ok, &[]);

    target.insecure = false;
    target.ca = Some(authority.file("ca.crt"));
    let report = examine(&target).await;
    expect_sound(&report);
    expect(&report, "certificate", Outcome::Ok, &["127.0.0.1"]);
    expect(&report, "data tls", Outcome::Ok, &["resumed"]);
    expect(&report, "download", Outcome::Ok, &[]);

    target.host = "localhost".to_owned();
    let report = examine(&target).await;
    expect(
        &report,
        "certificate",
        Outcome::Failed,
        &["not made out to localhost"],
    );
    assert!(gateway.keys().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn session_reuse_and_implicit_tls_are_met() {
    let authority = Authority::new();
    let settings = [
        "TLS__SESSION_REUSE=required",
        "TLS__IMPLICIT_LISTEN=127.0.0.1:0",
    ];
    let gateway = TestGateway::with_tls(&authority, &settings).await;
    for (address, security) in [
        (gateway.gateway.addresses()[0], Security::Explicit),
        (gateway.gateway.addresses()[1], Security::Implicit),
    ] {
        let mut target = target(address, "demo", &gateway.password);
        target.security = security;
        target.ca = Some(authority.file("ca.crt"));
        let report = examine(&target).await;
        expect_sound(&report);
        expect(&report, "data tls", Outcome::Ok, &["resumed"]);
        expect(&report, "download", Outcome::Ok, &[]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_that_the_list_of_features_hides_is_found() {
    let authority = Authority::new();
    let gateway = TestGateway::with_tls(&authority, &[]).await;
    // the list never reaches the gateway
    let relay = Relay::start(gateway.address(), Meddles::HidesFeatures).await;
    let mut target = target(relay, "demo", &gateway.password);
    target.ca = Some(authority.file("ca.crt"));
    let report = examine(&target).await;
    expect_sound(&report);
    let words = ["TLS 1.3", "which FEAT does not list"];
    expect(&report, "tls", Outcome::Warning, &words);
    expect(&report, "login", Outcome::Ok, &["over TLS"]);
    assert!(gateway.keys().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_is_reported_and_gets_no_password() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut parameters =
        rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("an address");
    parameters.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let key = rcgen::KeyPair::generate().expect("a key");
    let certificate = parameters.self_signed(&key).expect("signs");
    let ca = directory.path().join("ca.crt");
    std::fs::write(&ca, certificate.pem()).expect("written");
    let server = rustls::ServerConfig::builder_with_provider(cosgate::certificates::provider())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key.into())
        .expect("a pair");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        let (socket, _) = listener.accept().await.expect("a visitor");
        let mut plain = BufReader::new(socket);
        let mut line = String::new();
        let _ = plain.write_all(b"220 old\r\n").await;
        let _ = plain.read_line(&mut line).await;
        let _ = plain
            .write_all(b"211-Features:\r\n AUTH TLS\r\n211 End\r\n")
            .await;
        let _ = plain.read_line(&mut line).await;
        let _ = plain.write_all(b"234 go on\r\n").await;
        let stream = acceptor
            .accept(plain.into_inner())
            .await
            .expect("a handshake");
        let mut after = String::new();
        let _ = BufReader::new(stream).read_line(&mut after).await;
        assert!(
            !after.contains("PASS") && !after.contains("USER"),
            "{after}"
        );
    });
    let mut target = target(address, "demo", "secret");
    target.ca = Some(ca);
    let report = examine(&target).await;
    let words = ["expired", "2020-01-01", "renew"];
    expect(&report, "certificate", Outcome::Failed, &words);
    expect(&report, "login", Outcome::Skipped, &["not trusted"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_ends_the_visit() {
    let gateway = TestGateway::start().await;
    let report = examine(&target(gateway.address(), "demo", "wrong")).await;
    expect(&report, "login", Outcome::Failed, &["530", "allow_from"]);
    expect(&report, "pasv", Outcome::Skipped, &["no login"]);
    assert!(!report.json().contains("wrong\""), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_masquerade_address_and_a_blocked_port_are_distinguished() {
    // nobody listens there: passive ports are bound on 127.0.0.1 only
    let gateway = TestGateway::with(&["MASQUERADE_ADDRESS=127.0.0.9"]).await;
    let report = examine(&target(gateway.address(), "demo", &gateway.password)).await;
    let words = [
        "told 127.0.0.9",
        "connection refused",
        "the address is wrong",
        "set masquerade_address to the address that your clients connect to",
    ];
    expect(&report, "pasv", Outcome::Failed, &words);
    expect(&report, "epsv", Outcome::Ok, &[]);
    expect(&report, "download", Outcome::Ok, &[]);
    assert_eq!(report.outcome(), Outcome::Failed);
    assert!(gateway.keys().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_the_gateway_does_not_know_is_reported() {
    let gateway = TestGateway::with(&["KUBERNETES__IN_CLUSTER=true"]).await;
    let report = examine(&target(gateway.address(), "demo", &gateway.password)).await;
    let words = ["425", "not known yet", "set masquerade_address"];
    expect(&report, "pasv", Outcome::Failed, &words);
    expect(&report, "epsv", Outcome::Ok, &[]);
    expect(&report, "download", Outcome::Ok, &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partly_opened_range_of_ports_is_found() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("mapping");
    let setting = format!("MASQUERADE__MAPPING_FILE={}", path.display());
    let gateway = TestGateway::with(&[&setting]).await;
    let bound = gateway.gateway.passive_ports();
    let closed = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let nobody = closed.local_addr().expect("bound").port();
    drop(closed);
    // three lead to the gateway, the first to nobody
    let rest = format!("{}-{}", bound.start() + 1, bound.end());
    let mapping = json!({"address": "127.0.0.1", "ports": [
        {"bound": bound.start(), "public": nobody}, {"bound": rest, "public": rest}]});
    std::fs::write(&path, mapping.to_string()).expect("written");
    crate::support::eventually("the mapping is read", || async {
        let mut ftp = gateway.login().await;
        let reply = ftp.command("EPSV").await;
        let told: Option<u16> = reply
            .text
            .split('|')
            .nth(3)
            .and_then(|port| port.parse().ok());
        let Some(port) = told.filter(|_| reply.code == 229) else {
            return false;
        };
        // a port that waits for its connection is nobody else's
        let port = if port == nobody { *bound.start() } else { port };
        TcpStream::connect(("127.0.0.1", port))
            .await
            .expect("it listens");
        true
    })
    .await;
    let report = examine(&target(gateway.address(), "demo", &gateway.password)).await;
    let blocked = format!("{nobody} (connection refused)");
    let words = ["1 of 4", &blocked, "open all of passive.ports"];
    expect(&report, "passive ports", Outcome::Failed, &words);
    // by one of the others
    expect(&report, "download", Outcome::Ok, &[]);
    assert!(gateway.keys().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_that_a_user_lacks_are_reported() {
    let list = users(&[
        "name: box, permissions: [write]",
        "name: reader, permissions: R",
    ]);
    let gateway = TestGateway::with(&[&format!("USERS={list}")]).await;
    let report = examine(&target(gateway.address(), "reader", "secret")).await;
    expect_sound(&report);
    expect(&report, "upload", Outcome::Skipped, &["550", "permissions"]);
    expect(&report, "listing", Outcome::Ok, &["data connection"]);
    expect(&report, "delete", Outcome::Ok, &["nothing was left"]);
    let report = examine(&target(gateway.address(), "box", "secret")).await;
    expect_sound(&report);
    expect(&report, "upload", Outcome::Ok, &[]);
    expect(&report, "download", Outcome::Skipped, &["may not read"]);
    expect(
        &report,
        "delete",
        Outcome::Warning,
        &["stays there", "may not delete"],
    );
    assert_eq!(gateway.keys().await.len(), 1, "as it says");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_store_is_reported_and_nothing_is_left() {
    let (gateway, proxy) = TestGateway::behind_proxy(&["STORAGE__RETRY__MAX_ATTEMPTS=1"]).await;
    proxy.fail_if(|head| head.starts_with("PUT "));
    let report = examine(&target(gateway.address(), "demo", "secret")).await;
    expect(
        &report,
        "upload",
        Outcome::Failed,
        &["451", "cosgate doctor"],
    );
    expect(&report, "delete", Outcome::Ok, &["nothing was left"]);
    assert!(gateway.keys().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_lost_does_not_keep_the_file_there() {
    let gateway = TestGateway::start().await;
    let relay = Relay::start(gateway.address(), Meddles::EndsWith("RETR")).await;
    let report = examine(&target(relay, "demo", &gateway.password)).await;
    expect(&report, "upload", Outcome::Ok, &[]);
    expect(&report, "download", Outcome::Failed, &["closed"]);
    expect(&report, "delete", Outcome::Ok, &["is removed"]);
    assert!(gateway.keys().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_without_an_answer_may_still_appear() {
    let gateway = TestGateway::start().await;
    let relay = Relay::start(gateway.address(), Meddles::EndsWith("STOR")).await;
    let report = examine(&target(relay, "demo", &gateway.password)).await;
    expect(&report, "upload", Outcome::Failed, &["closed"]);
    let words = [".cosgate-doctor-", "may still appear"];
    expect(&report, "delete", Outcome::Warning, &words);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_none_or_says_nothing_is_reported() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        let (mut ssh, _) = listener.accept().await.expect("a visitor");
        let _ = ssh.write_all(b"SSH-2.0-x\x1b[31m\r\n").await;
        let (silent, _) = listener.accept().await.expect("another one");
        tokio::time::sleep(Duration::from_secs(60)).await;
        drop(silent);
    });
    let report = examine(&target(address, "demo", "secret")).await;
    expect(
        &report,
        "greeting",
        Outcome::Failed,
        &["no FTP reply", "SSH-2.0-x", "check the port"],
    );
    assert!(!report.to_string().contains('\x1b'));
    let begun = std::time::Instant::now();
    let limits = Limits::within(Duration::from_secs(3));
    let silent = target(address, "demo", "secret");
    let report = examine_gateway(&silent, limits).await.expect("good usage");
    expect(
        &report,
        "greeting",
        Outcome::Failed,
        &["no answer within 1.0 s"],
    );
    assert!(begun.elapsed() < Duration::from_secs(20));

    let closed = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let nobody = closed.local_addr().expect("bound");
    drop(closed);
    let report = examine(&target(nobody, "demo", "secret")).await;
    expect(
        &report,
        "connect",
        Outcome::Failed,
        &["connection refused", "listen"],
    );
    assert_eq!(check(&report, "delete").outcome, Outcome::Skipped);
}

/// Passes control connections on, and meddles with the first one.
struct Relay;

#[derive(Clone, Copy)]
enum Meddles {
    /// Closes it in the place of this command.
    EndsWith(&'static str),
    /// Asks for nothing in the place of FEAT.
    HidesFeatures,
}

impl Relay {
    async fn start(gateway: SocketAddr, how: Meddles) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move {
            let mut how = Some(how);
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(gateway).await.expect("it listens");
                tokio::spawn(Self::pass(client, server, how.take()));
            }
        });
        address
    }

    async fn pass(client: TcpStream, server: TcpStream, how: Option<Meddles>) {
        let (from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        let commands = async {
            let mut lines = BufReader::new(from_client);
            let mut line = Vec::new();
            loop {
                // no lines once TLS has begun
                let bytes = lines.fill_buf().await.unwrap_or_default();
                if bytes.is_empty() {
                    return;
                }
                line.extend_from_slice(bytes);
                let count = bytes.len();
                lines.consume(count);
                match how {
                    Some(Meddles::EndsWith(verb)) if line.starts_with(verb.as_bytes()) => return,
                    Some(Meddles::HidesFeatures) if line.starts_with(b"FEAT") => {
                        line = b"NOOP\r\n".to_vec();
                    }
                    _ => {}
                }
                if to_server.write_all(&line).await.is_err() {
                    return;
                }
                line.clear();
            }
        };
        tokio::select! {
            () = commands => {}
            _ = tokio::io::copy(&mut from_server, &mut to_client) => {}
        }
    }
}
