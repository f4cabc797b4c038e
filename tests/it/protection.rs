//! FTPS: what is protected, what is refused, and how it ends.

use std::os::unix::fs::symlink;
use std::time::Duration;

use rustls::HandshakeKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::tls::{Authority, TlsClient, Wire};
use crate::support::{Ftp, TestGateway, eventually, pattern, users};

/// A session of the only user whose data are protected.
pub async fn secured(gateway: &TestGateway, client: &TlsClient) -> Ftp {
    let ftp = Ftp::connect(gateway.address()).await;
    let mut ftp = ftp.secure(client).await.expect("a handshake");
    ftp.login("demo", &gateway.password).await;
    ftp.protect(client).await;
    ftp
}

#[tokio::test]
async fn files_and_listings_travel_under_tls_in_both_versions() {
    let authority = Authority::new();
    let gateway = TestGateway::with_tls(&authority, &["TLS__REQUIRED=all"]).await;
    for client in [authority.client(), authority.client_12()] {
        let mut ftp = secured(&gateway, &client).await;
        // crosses several parts
        let bytes = pattern(20_000_000);
        assert_eq!(ftp.store("STOR big", &bytes).await.code, 226);
        let (back, reply) = ftp.fetch("RETR big").await;
        assert_eq!(reply.code, 226);
        assert!(back == bytes);
        assert!(ftp.listing("LIST").await.contains("big"));
        assert_eq!(ftp.store("STOR empty", b"").await.code, 226);
        assert_eq!(ftp.fetch("RETR empty").await.0, b"");
        assert!(ftp.command("FEAT").await.text.contains("AUTH TLS"));
        assert_eq!(ftp.command("QUIT").await.code, 221);
    }
    gateway.stop().await;
}

#[tokio::test]
async fn implicit_tls_begins_with_the_first_byte_and_protects_data() {
    let authority = Authority::new();
    let gateway = TestGateway::with_tls(
        &authority,
        &["TLS__IMPLICIT_LISTEN=127.0.0.1:0", "TLS__REQUIRED=all"],
    )
    .await;
    let address = gateway.gateway.addresses()[1];
    let client = authority.client();
    let mut ftp = Ftp::connect_implicitly(address, &client).await;
    ftp.login("demo", &gateway.password).await;
    assert_eq!(ftp.store("STOR f", b"bytes").await.code, 226);
    assert_eq!(ftp.fetch("RETR f").await.0, b"bytes");
    assert_eq!(ftp.command("AUTH TLS").await.code, 503);
    gateway.stop().await;
}

#[tokio::test]
async fn what_must_be_protected_goes_no_other_way() {
    let authority = Authority::new();
    let gateway = TestGateway::with_tls(&authority, &["TLS__REQUIRED=all"]).await;
    let client = authority.client();
    let mut ftp = gateway.connect().await;
    for line in ["USER demo", "PROT P", "PBSZ 0"] {
        assert!(matches!(ftp.command(line).await.code, 530 | 503), "{line}");
    }
    assert_eq!(ftp.command("PASS x").await.code, 503);
    assert_eq!(ftp.command("AUTH KERBEROS_V4").await.code, 504);
    let mut ftp = ftp.secure(&client).await.expect("a handshake");
    ftp.login("demo", &gateway.password).await;
    for line in ["PASV", "EPSV"] {
        assert_eq!(ftp.command(line).await.code, 521, "{line}");
    }
    assert_eq!(ftp.command("PROT P").await.code, 503, "PBSZ comes first");
    ftp.protect(&client).await;
    ftp.epsv().await;
    assert_eq!(ftp.command("PROT C").await.code, 534);
    assert_eq!(ftp.command("PROT S").await.code, 536);
    assert_eq!(ftp.command("CCC").await.code, 534);
    assert_eq!(ftp.command("AUTH TLS").await.code, 503);
    assert_eq!(ftp.store("STOR f", b"bytes").await.code, 226);
    gateway.stop().await;
}

#[tokio::test]
async fn with_control_required_the_client_chooses_for_its_data() {
    let authority = Authority::new();
    let gateway = TestGateway::with_tls(&authority, &["TLS__REQUIRED=control"]).await;
    assert_eq!(gateway.connect().await.command("USER demo").await.code, 530);
    let ftp = gateway.connect().await;
    let mut ftp = ftp.secure(&authority.client()).await.expect("a handshake");
    ftp.login("demo", &gateway.password).await;
    assert_eq!(ftp.store("STOR f", b"in clear").await.code, 226);
    assert_eq!(gateway.object("f").await.as_deref(), Some(&b"in clear"[..]));
    gateway.stop().await;
}

#[tokio::test]
async fn commands_sent_in_clear_behind_auth_never_count() {
    let authority = Authority::new();
    let gateway = TestGateway::with_tls(&authority, &[]).await;
    let mut ftp = gateway.connect().await;
    ftp.send_raw(b"AUTH TLS\r\nUSER mallory\r\n").await;
    assert_eq!(ftp.reply().await.code, 421);
    assert!(ftp.is_closed().await);
    // a name given in clear is forgotten, too
    let mut ftp = gateway.connect().await;
    assert_eq!(ftp.command("USER demo").await.code, 331);
    let mut ftp = ftp.secure(&authority.client()).await.expect("a handshake");
    assert_eq!(
        ftp.command(&format!("PASS {}", gateway.password))
            .await
            .code,
        503
    );
    gateway.stop().await;
}

/// Begins an upload and lets the gateway have `bytes`.
async fn half_an_upload(ftp: &mut Ftp, bytes: &[u8]) -> Wire {
    let data = ftp.data().await;
    assert_eq!(ftp.command("STOR f").await.code, 150);
    let mut data = ftp.wrap(data).await.expect("a handshake");
    data.write_all(bytes).await.expect("writes");
    data.flush().await.expect("writes");
    let arrived = format!("{} bytes", bytes.len());
    eventually_says(ftp, &arrived).await;
    data
}

async fn eventually_says(ftp: &mut Ftp, words: &str) {
    for _ in 0..1000 {
        if ftp.command("STAT").await.text.contains(words) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("STAT never says {words}");
}

#[tokio::test]
async fn an_end_without_close_notify_is_an_interruption() {
    let authority = Authority::new();
    for (policy, kept) in [("keep", true), ("discard", false)] {
        let gateway =
            TestGateway::with_tls(&authority, &[&format!("UPLOAD__ON_INTERRUPT={policy}")]).await;
        gateway.put_object("f", b"old".to_vec()).await;
        let mut ftp = secured(&gateway, &authority.client()).await;
        let data = half_an_upload(&mut ftp, b"arrived").await;
        // the socket ends cleanly, TLS does not
        drop(data.into_tcp());
        let reply = ftp.reply().await;
        assert_eq!(reply.code, 426, "{reply:?}");
        assert!(reply.text.contains("without a TLS close"), "{reply:?}");
        let expected: &[u8] = if kept { b"arrived" } else { b"old" };
        assert_eq!(gateway.object("f").await.as_deref(), Some(expected));
        assert_eq!(ftp.store("STOR f", b"next").await.code, 226);
        gateway.stop().await;
    }
}

#[tokio::test]
async fn without_close_notify_a_file_is_whole_only_where_the_configuration_says_so() {
    let authority = Authority::new();
    let users = users(&[
        "name: as_all",
        "name: strict, require_close_notify: true",
        "name: lenient, require_close_notify: false",
    ]);
    let users = format!("USERS={users}");
    for (setting, as_all) in [("true", 426), ("false", 226)] {
        let gateway = TestGateway::with_tls(
            &authority,
            &[
                &users,
                &format!("TLS__REQUIRE_CLOSE_NOTIFY={setting}"),
                "UPLOAD__ON_INTERRUPT=discard",
            ],
        )
        .await;
        for client in [authority.client(), authority.client_12()] {
            for (user, code) in [("as_all", as_all), ("strict", 426), ("lenient", 226)] {
                gateway.put_object("f", b"old".to_vec()).await;
                let mut ftp = secured_as(&gateway, user, &client).await;
                let data = half_an_upload(&mut ftp, b"arrived").await;
                drop(data.into_tcp());
                assert_eq!(ftp.reply().await.code, code, "{user}, {setting}");
                let whole: &[u8] = if code == 226 { b"arrived" } else { b"old" };
                assert_eq!(gateway.object("f").await.as_deref(), Some(whole), "{user}");
                // a reset is an interruption everywhere, and so is a killed client
                let data = half_an_upload(&mut ftp, b"cut").await.into_tcp();
                data.set_zero_linger().expect("a socket");
                drop(data);
                assert_eq!(ftp.reply().await.code, 426, "{user}, {setting}");
                let data = half_an_upload(&mut ftp, b"cut").await;
                drop(ftp);
                drop(data.into_tcp());
                eventually("the session has ended", || async {
                    gateway.gateway.sessions() == 0
                })
                .await;
                assert_eq!(gateway.object("f").await.as_deref(), Some(whole), "{user}");
            }
        }
        gateway.stop().await;
    }
}

#[tokio::test]
async fn abort_and_a_lost_control_connection_end_uploads_under_tls_too() {
    let authority = Authority::new();
    let gateway = TestGateway::with_tls(&authority, &["UPLOAD__ON_INTERRUPT=discard"]).await;
    gateway.put_object("f", b"old".to_vec()).await;
    let mut ftp = secured(&gateway, &authority.client()).await;
    let _data = half_an_upload(&mut ftp, b"arrived").await;
    assert_eq!(ftp.command("ABOR").await.code, 426);
    assert_eq!(ftp.reply().await.code, 226);
    let data = half_an_upload(&mut ftp, b"arrived").await;
    // a killed client: both connections end, the data connection without close_notify
    drop(ftp);
    drop(data);
    eventually("the session has ended", || async {
        gateway.gateway.sessions() == 0
    })
    .await;
    assert_eq!(gateway.object("f").await.as_deref(), Some(&b"old"[..]));
    assert_eq!(gateway.unfinished().await, 0);
    gateway.stop().await;
}

#[tokio::test]
async fn an_upload_is_answered_with_close_notify_before_the_reply() {
    let authority = Authority::new();
    let gateway = TestGateway::with_tls(&authority, &[]).await;
    let mut ftp = secured(&gateway, &authority.client()).await;
    let mut data = half_an_upload(&mut ftp, b"bytes").await;
    data.shutdown().await.expect("close_notify");
    // rustls reports an end without close_notify as an error
    let mut rest = Vec::new();
    data.read_to_end(&mut rest)
        .await
        .expect("the gateway's close_notify");
    assert!(rest.is_empty());
    assert_eq!(ftp.reply().await.code, 226);
    gateway.stop().await;
}

#[tokio::test]
async fn a_failed_handshake_on_the_data_connection_is_425_and_nothing_is_touched() {
    let authority = Authority::new();
    let gateway = TestGateway::with_tls(&authority, &["TLS__HANDSHAKE_TIMEOUT=500ms"]).await;
    gateway.put_object("f", b"old".to_vec()).await;
    let mut ftp = secured(&gateway, &authority.client()).await;
    // bytes that are no handshake; silence; an end at once
    for sent in [&b"this is no ClientHello at all"[..], b""] {
        for close in [false, true] {
            let mut data = ftp.data().await;
            assert_eq!(ftp.command("STOR f").await.code, 150);
            data.write_all(sent).await.expect("writes");
            if close {
                data.shutdown().await.expect("closes");
            }
            assert_eq!(ftp.reply().await.code, 425);
        }
    }
    // downloads and listings likewise
    for line in ["RETR f", "LIST"] {
        let _data = ftp.data().await;
        assert_eq!(ftp.command(line).await.code, 150);
        assert_eq!(ftp.reply().await.code, 425, "{line}");
    }
    assert_eq!(gateway.object("f").await.as_deref(), Some(&b"old"[..]));
    assert_eq!(ftp.store("STOR f", b"new").await.code, 226);
    gateway.stop().await;
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_bounded() {
    let authority = Authority::new();
    let gateway = TestGateway::with_tls(
        &authority,
        &[
            "TLS__HANDSHAKE_TIMEOUT=300ms",
            "TLS__IMPLICIT_LISTEN=127.0.0.1:0",
        ],
    )
    .await;
    let mut ftp = gateway.connect().await;
    assert_eq!(ftp.command("AUTH TLS").await.code, 234);
    assert!(ftp.is_closed().await);
    let mut silent = Ftp::connect_silently(gateway.gateway.addresses()[1]).await;
    assert!(silent.is_closed().await);
    gateway.stop().await;
}

#[tokio::test]
async fn required_session_reuse_ties_data_to_its_control_connection() {
    let authority = Authority::new();
    let gateway = TestGateway::with_tls(&authority, &["TLS__SESSION_REUSE=required"]).await;
    for client in [authority.client(), authority.client_12()] {
        let mut ftp = secured(&gateway, &client).await;
        for turn in 0..10 {
            assert_eq!(ftp.store("STOR f", b"bytes").await.code, 226, "turn {turn}");
            assert_eq!(ftp.fetch("RETR f").await.0, b"bytes", "turn {turn}");
        }
        // a new TLS session, even with the right address and port, is somebody else's
        ftp.protect(&client.forgetful()).await;
        assert_eq!(ftp.store("STOR f", b"stolen").await.code, 522);
        // so is the session of another control connection, even of the same user
        let other = authority.client_12();
        let _other = secured(&gateway, &other).await;
        ftp.protect(&other).await;
        assert_eq!(ftp.store("STOR f", b"stolen").await.code, 522);
        assert_eq!(ftp.fetch("RETR f").await.1.code, 522);
        assert_eq!(gateway.object("f").await.as_deref(), Some(&b"bytes"[..]));
    }
    gateway.stop().await;
}

/// Logs in to a gateway over TLS; the control connection's session stays in `client`'s memory.
async fn secured_as(gateway: &TestGateway, user: &str, client: &TlsClient) -> Ftp {
    let ftp = Ftp::connect(gateway.address()).await;
    let mut ftp = ftp.secure(client).await.expect("a handshake");
    ftp.login(user, "secret").await;
    ftp.protect(client).await;
    ftp
}

#[tokio::test]
async fn a_data_connection_that_resumes_another_users_session_is_refused() {
    let authority = Authority::new();
    let users = users(&["name: alice", "name: bob"]);
    let gateway = TestGateway::with_tls(&authority, &[&format!("USERS={users}")]).await;
    for of_version in [Authority::client, Authority::client_12] {
        let (alices, bobs) = (of_version(&authority), of_version(&authority));
        let mut alice = secured_as(&gateway, "alice", &alices).await;
        let mut bob = secured_as(&gateway, "bob", &bobs).await;
        assert_eq!(bob.store("STOR f", b"bob's").await.code, 226);
        // a data connection of Alice's machine reaches the port that Bob waits on, from the address that both have
        bob.protect_silently(&alices);
        assert_eq!(bob.store("STOR f", b"alice's").await.code, 425);
        assert_eq!(bob.fetch("RETR f").await.1.code, 425);
        // Bob's own is taken, as is that of a client that resumes nothing
        bob.protect_silently(&bobs);
        assert_eq!(bob.fetch("RETR f").await.0, b"bob's");
        bob.protect_silently(&bobs.forgetful());
        assert_eq!(bob.fetch("RETR f").await.0, b"bob's");
        assert_eq!(alice.store("STOR g", b"alice's").await.code, 226);
    }
    gateway.stop().await;
}

#[tokio::test]
async fn sessions_of_one_program_share_what_they_resume() {
    let authority = Authority::new();
    let users = users(&["name: alice", "name: bob"]);
    let gateway = TestGateway::with_tls(&authority, &[&format!("USERS={users}")]).await;
    for client in [authority.client(), authority.client_12()] {
        // one cache of TLS sessions for several sessions of one user, as curl --parallel has it
        let other = authority.client_12();
        let mut first = secured_as(&gateway, "alice", &client).await;
        let mut second = secured_as(&gateway, "alice", &other).await;
        second.protect_silently(&client);
        assert_eq!(first.store("STOR f", b"first").await.code, 226);
        assert_eq!(second.store("STOR g", b"second").await.code, 226);
        // a program that resumes its control connection, too, may log in as somebody else; with a download come new tickets
        first.protect_silently(&client);
        assert_eq!(first.fetch("RETR f").await.0, b"first");
        let mut resumed = secured_as(&gateway, "bob", &client).await;
        assert_eq!(resumed.tls().handshake_kind(), Some(HandshakeKind::Resumed));
        for _ in 0..3 {
            assert_eq!(resumed.store("STOR h", b"third").await.code, 226);
        }
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_client_resumes_its_control_session_on_data_connections() {
    let authority = Authority::new();
    let gateway = TestGateway::with_tls(&authority, &[]).await;
    let client = authority.client();
    let mut ftp = secured(&gateway, &client).await;
    assert_eq!(ftp.tls().handshake_kind(), Some(HandshakeKind::Full));
    let data = ftp.data().await;
    assert_eq!(ftp.command("STOR f").await.code, 150);
    let Ok(Wire::Tls(data)) = ftp.wrap(data).await else {
        panic!("a handshake")
    };
    assert_eq!(
        data.get_ref().1.handshake_kind(),
        Some(HandshakeKind::Resumed)
    );
    drop(data);
    ftp.reply().await;
    gateway.stop().await;
}

#[tokio::test]
async fn new_certificates_are_taken_without_disturbing_anybody() {
    let authority = Authority::new();
    // as Kubernetes mounts a Secret: tls.crt -> ..data/tls.crt, ..data -> a directory that is swapped whole
    let mount = authority.directory().join("mount");
    let put = |name: &str| {
        let version = mount.join(name);
        std::fs::create_dir_all(&version).expect("creates");
        version
    };
    let swap = |name: &str| {
        symlink(name, mount.join("..data_tmp")).expect("links");
        std::fs::rename(mount.join("..data_tmp"), mount.join("..data")).expect("swaps");
    };
    authority.write_server_pair(&put("..1"), "first");
    swap("..1");
    for file in ["tls.crt", "tls.key"] {
        symlink(format!("..data/{file}"), mount.join(file)).expect("links");
    }
    let gateway = TestGateway::with(&[
        &format!("TLS__CERT={}", mount.join("tls.crt").display()),
        &format!("TLS__KEY={}", mount.join("tls.key").display()),
        "RELOAD__INTERVAL=20ms",
    ])
    .await;
    let client = authority.client().forgetful();
    let mut early = secured(&gateway, &client).await;
    assert_eq!(name_of(&early), "first");

    authority.write_server_pair(&put("..2"), "second");
    swap("..2");
    eventually("the second certificate is in force", || async {
        let ftp = gateway.connect().await.secure(&client).await;
        name_of(&ftp.expect("a handshake")) == "second"
    })
    .await;
    assert_eq!(early.store("STOR f", b"bytes").await.code, 226);

    // the key of another pair: refused, told since when, and the last good pair stays
    authority.write_server_pair(&put("..3"), "third");
    std::fs::copy(mount.join("..2/tls.key"), mount.join("..3/tls.key")).expect("copies");
    swap("..3");
    eventually("the fault is known", || async { fault(&gateway).is_some() }).await;
    let known = fault(&gateway).expect("known");
    assert!(known.error.contains("same pair"), "{known:?}");
    let ftp = gateway
        .connect()
        .await
        .secure(&client)
        .await
        .expect("a handshake");
    assert_eq!(name_of(&ftp), "second");

    authority.write_server_pair(&put("..4"), "fourth");
    swap("..4");
    eventually("the fault is mended", || async {
        fault(&gateway).is_none()
    })
    .await;
    let ftp = gateway
        .connect()
        .await
        .secure(&client)
        .await
        .expect("a handshake");
    assert_eq!(name_of(&ftp), "fourth");
    gateway.stop().await;
}

fn fault(gateway: &TestGateway) -> Option<cosgate::reload::Failure> {
    gateway
        .gateway
        .certificates()
        .and_then(|state| state.failure)
}

/// The common name of the server's certificate.
fn name_of(ftp: &Ftp) -> String {
    let chain = ftp.tls().peer_certificates().expect("a certificate");
    cosgate::certificates::common_name(&chain[0]).expect("a name")
}

#[tokio::test]
async fn a_self_signed_certificate_is_made_for_trials() {
    let gateway = TestGateway::with(&["TLS__SELF_SIGNED=true"]).await;
    let mut ftp = gateway.connect().await;
    assert!(ftp.command("FEAT").await.text.contains("AUTH TLS"));
    // its authority is unknown to every client, which must notice
    let client = Authority::new().client();
    assert!(ftp.secure(&client).await.is_err());
    gateway.stop().await;
}

#[tokio::test]
async fn five_hundred_uploads_in_a_row_lose_nothing() {
    let authority = Authority::new();
    let gateway = TestGateway::with_tls(&authority, &[]).await;
    let client = authority.client();
    let mut ftp = secured(&gateway, &client).await;
    for turn in 0..500 {
        let reply = ftp
            .store("STOR f", format!("upload {turn}").as_bytes())
            .await;
        assert_eq!(reply.code, 226, "{turn}: {reply:?}");
    }
    assert_eq!(
        gateway.object("f").await.as_deref(),
        Some(&b"upload 499"[..])
    );
    gateway.stop().await;
}
