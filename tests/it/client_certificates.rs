//! Certificates that clients show.

use rustls::HandshakeKind;

use crate::protection::secured;
use crate::support::tls::{Authority, TlsClient};
use crate::support::{TestGateway, eventually};

#[tokio::test]
async fn client_certificates_are_asked_for_and_must_stay_the_same() {
    let authority = Authority::new();
    let ca = format!("TLS__CLIENT_CA={}", authority.file("ca.crt").display());
    let gateway = TestGateway::with_tls(&authority, &[&ca]).await;
    // in TLS 1.3 the client learns of the refusal with its first read
    let nobody = gateway.connect().await.secure(&authority.client()).await;
    if let Ok(mut ftp) = nobody {
        assert!(ftp.is_closed().await);
    }
    let stranger = Authority::new().client_named("alice");
    assert!(gateway.connect().await.secure(&stranger).await.is_err());

    let alice = authority.client_named("alice");
    let mut ftp = secured(&gateway, &alice).await;
    assert_eq!(ftp.store("STOR f", b"alice's").await.code, 226);
    ftp.protect(&authority.client_named("bob")).await;
    assert_eq!(ftp.store("STOR f", b"bob's").await.code, 425);
    assert_eq!(gateway.object("f").await.as_deref(), Some(&b"alice's"[..]));
    gateway.stop().await;
}

#[tokio::test]
async fn a_certificate_that_is_optional_must_be_the_same_on_data_connections() {
    let authority = Authority::new();
    let ca = format!("TLS__CLIENT_CA={}", authority.file("ca.crt").display());
    let gateway = TestGateway::with_tls(&authority, &[&ca, "TLS__CLIENT_AUTH=optional"]).await;
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let alice = authority.client_named_by("alice", &[version]);
        let bob = authority.client_named_by("bob", &[version]);
        let nobody = authority.client();
        // with a certificate: its own, resumed or shown anew, but no other, and not none
        let mut ftp = secured(&gateway, &alice).await;
        for (client, code) in [
            (&alice, 226),
            (&nobody, 425),
            (&bob, 425),
            (&alice.forgetful(), 226),
        ] {
            ftp.protect_silently(client);
            assert_eq!(ftp.store("STOR f", b"alice's").await.code, code);
            assert_eq!(ftp.fetch("RETR f").await.1.code, code);
        }
        // without one: none
        let mut ftp = secured(&gateway, &nobody).await;
        for (client, code) in [(&nobody, 226), (&bob, 425)] {
            ftp.protect_silently(client);
            assert_eq!(ftp.store("STOR g", b"nobody's").await.code, code);
            assert_eq!(ftp.fetch("RETR g").await.1.code, code);
        }
    }
    gateway.stop().await;
}

/// True if a client gets as far as the answer to a command; in TLS 1.3 it learns of a refusal with its first read.
async fn is_served(gateway: &TestGateway, client: &TlsClient) -> Option<bool> {
    let mut ftp = gateway.connect().await.secure(client).await.ok()?;
    let resumed = ftp.tls().handshake_kind() == Some(HandshakeKind::Resumed);
    ftp.try_send("NOOP").await.ok()?;
    ftp.try_reply().await.map(|_| resumed)
}

#[tokio::test]
async fn authorities_that_were_replaced_let_nobody_in_by_an_old_session() {
    let (authority, next) = (Authority::new(), Authority::new());
    let file = authority.file("clients.pem");
    std::fs::copy(authority.file("ca.crt"), &file).expect("copies");
    let ca = format!("TLS__CLIENT_CA={}", file.display());
    let gateway = TestGateway::with_tls(&authority, &[&ca]).await;
    let clients: [TlsClient; 2] = [&rustls::version::TLS13, &rustls::version::TLS12]
        .map(|version| authority.client_named_by("alice", &[version]));
    for client in &clients {
        assert_eq!(is_served(&gateway, client).await, Some(false));
        assert_eq!(is_served(&gateway, client).await, Some(true), "it resumes");
    }
    std::fs::copy(next.file("ca.crt"), &file).expect("copies");
    let before = gateway.gateway.certificates().expect("FTPS is on").since;
    eventually("the new authorities are in force", || async {
        gateway.gateway.certificates().expect("FTPS is on").since != before
    })
    .await;
    for client in &clients {
        assert_eq!(is_served(&gateway, client).await, None);
    }
    gateway.stop().await;
}
