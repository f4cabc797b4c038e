//! Clients that send everything and leave without waiting for the reply: what is stored is what the end of their data says.

use tokio::io::AsyncWriteExt;

use crate::support::tls::Authority;
use crate::support::{Ftp, TestGateway, eventually, pattern};

/// The way a client leaves after its last byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leave {
    /// Data closed, QUIT sent, control closed, nothing read.
    Quit,
    /// As a PHP script that ends: both closed.
    HangUp,
}

const FILE: usize = 5 * 1024 * 1024;

/// Uploads `bytes` as `name` and leaves at once, with all that the kernel still has to send.
async fn upload_and_leave(mut ftp: Ftp, name: &str, bytes: &[u8], leave: Leave) {
    let mut data = ftp.data().await;
    ftp.send(&format!("STOR {name}")).await;
    data.write_all(bytes).await.expect("written");
    drop(data);
    if leave == Leave::Quit {
        ftp.send("QUIT").await;
    }
    drop(ftp);
}

async fn idle(gateway: &TestGateway) {
    eventually("the sessions have ended", async || {
        gateway.gateway.sessions() == 0
    })
    .await;
}

#[tokio::test]
async fn a_file_that_was_sent_whole_is_stored_whole_when_the_client_quits_without_waiting() {
    for policy in ["keep", "discard"] {
        let gateway = TestGateway::with(&[&format!("UPLOAD__ON_INTERRUPT={policy}")]).await;
        for round in 0..8 {
            let (name, bytes) = (format!("f{round}"), pattern(FILE + round));
            upload_and_leave(gateway.login().await, &name, &bytes, Leave::Quit).await;
            idle(&gateway).await;
            let stored = gateway.object(&name).await.unwrap_or_default();
            assert!(
                stored == bytes,
                "{policy}: {} of {} bytes",
                stored.len(),
                bytes.len()
            );
        }
    }
}

#[tokio::test]
async fn what_a_client_sent_before_it_hung_up_is_kept_to_the_last_byte_or_discarded() {
    let keep = TestGateway::with(&["UPLOAD__ON_INTERRUPT=keep"]).await;
    let discard = TestGateway::with(&["UPLOAD__ON_INTERRUPT=discard"]).await;
    discard.put_object("f", b"old".to_vec()).await;
    for round in 0..8 {
        let bytes = pattern(FILE + round);
        upload_and_leave(keep.login().await, "f", &bytes, Leave::HangUp).await;
        upload_and_leave(discard.login().await, "f", &bytes, Leave::HangUp).await;
        idle(&keep).await;
        idle(&discard).await;
        let stored = keep.object("f").await.unwrap_or_default();
        assert!(stored == bytes, "{} of {} bytes", stored.len(), bytes.len());
        let old = discard.object("f").await;
        assert_eq!(old.as_deref(), Some(&b"old"[..]));
    }
}

#[tokio::test]
async fn under_tls_close_notify_makes_a_file_whole_whatever_the_control_connection_does() {
    let authority = Authority::new();
    let gateway = TestGateway::with_tls(&authority, &["UPLOAD__ON_INTERRUPT=discard"]).await;
    let client = authority.client();
    for round in 0..4 {
        let (name, bytes) = (format!("f{round}"), pattern(FILE + round));
        let mut ftp = gateway.connect().await.secure(&client).await.expect("TLS");
        ftp.login("demo", &gateway.password).await;
        ftp.protect(&client).await;
        let data = ftp.data().await;
        assert_eq!(ftp.command(&format!("STOR {name}")).await.code, 150);
        let mut data = ftp.wrap(data).await.expect("a handshake");
        data.write_all(&bytes).await.expect("written");
        // sends close_notify
        data.shutdown().await.expect("closed");
        drop(ftp);
        idle(&gateway).await;
        let stored = gateway.object(&name).await.unwrap_or_default();
        assert!(stored == bytes, "{} of {} bytes", stored.len(), bytes.len());
        drop(data);
    }
}

#[tokio::test]
async fn an_upload_whose_client_is_gone_and_sends_nothing_ends_by_the_stall_timeout() {
    let gateway =
        TestGateway::with(&["UPLOAD__STALL_TIMEOUT=300ms", "UPLOAD__ON_INTERRUPT=keep"]).await;
    let mut ftp = gateway.login().await;
    let mut data = ftp.data().await;
    assert_eq!(ftp.command("STOR f").await.code, 150);
    data.write_all(b"some").await.expect("written");
    drop(ftp);
    idle(&gateway).await;
    assert_eq!(gateway.object("f").await.as_deref(), Some(&b"some"[..]));
    drop(data);
}

#[tokio::test]
async fn a_state_during_a_transfer_waits_for_the_commands_before_it() {
    let gateway = TestGateway::start().await;
    let mut ftp = gateway.login().await;
    let mut data = ftp.data().await;
    assert_eq!(ftp.command("STOR f").await.code, 150);
    ftp.send("PWD").await;
    ftp.send("STAT").await;
    data.write_all(b"some").await.expect("written");
    drop(data);
    let mut codes = Vec::new();
    for _ in 0..3 {
        codes.push(ftp.reply().await.code);
    }
    assert_eq!(codes, [226, 257, 211]);
}

#[tokio::test]
async fn an_abort_behind_a_hundred_commands_ends_the_transfer_at_once() {
    let gateway = TestGateway::start().await;
    let mut ftp = gateway.login().await;
    let data = ftp.data().await;
    assert_eq!(ftp.command("STOR f").await.code, 150);
    for _ in 0..100 {
        ftp.send("PWD").await;
    }
    ftp.send("ABOR").await;
    assert_eq!(ftp.reply().await.code, 426);
    assert_eq!(ftp.reply().await.code, 226);
    for _ in 0..100 {
        assert_eq!(ftp.reply().await.code, 257);
    }
    drop(data);
}
