//! Transfers that break off

use socket2::SockRef;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::held::{Replicas, cut, part, size};
use crate::support::{Ftp, TestGateway, eventually, pattern};

const MIB: usize = 1024 * 1024;

/// The ways in which a client can break an upload off in the clear.
#[derive(Debug, Clone, Copy)]
enum Break {
    Abort,
    AbortAndClose,
    Reset,
    ControlLost,
    Stall,
}

const BREAKS: [Break; 5] = [
    Break::Abort,
    Break::AbortAndClose,
    Break::Reset,
    Break::ControlLost,
    Break::Stall,
];

/// Begins an upload, sends `bytes`, and breaks it off once the gateway has them. Returns the transfer's reply code.
async fn break_off(gateway: &TestGateway, how: Break, bytes: &[u8]) -> Option<u16> {
    let mut ftp = gateway.login().await;
    let mut data = ftp.data().await;
    assert_eq!(ftp.command("STOR f").await.code, 150);
    data.write_all(bytes).await.expect("writes");
    let arrived = format!("{} bytes", bytes.len());
    for _ in 0..500 {
        if ftp.command("STAT").await.text.contains(&arrived) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    match how {
        Break::Abort => {
            let code = ftp.command("ABOR").await.code;
            assert_eq!(ftp.reply().await.code, 226);
            Some(code)
        }
        Break::AbortAndClose => {
            ftp.send("ABOR").await;
            // the gateway must have read it before the end of the data
            tokio::time::sleep(Duration::from_millis(50)).await;
            drop(data);
            let code = ftp.reply().await.code;
            assert_eq!(ftp.reply().await.code, 226);
            Some(code)
        }
        Break::Reset => {
            reset(data);
            Some(ftp.reply().await.code)
        }
        Break::ControlLost => {
            drop(ftp);
            let _ = data.read_u8().await;
            None
        }
        Break::Stall => Some(ftp.reply().await.code),
    }
}

fn reset(socket: TcpStream) {
    SockRef::from(&socket)
        .set_linger(Some(Duration::ZERO))
        .expect("a TCP socket");
}

async fn idle(gateway: &TestGateway) {
    eventually("the session has ended", || async {
        gateway.gateway.sessions() == 0
    })
    .await;
}

/// With `upload.on_interrupt: keep` an upload that breaks off (`ABOR`, a reset, a lost control connection, silence)
/// leaves what arrived as one whole object, and its reply is 426.
#[tokio::test]
async fn kept_uploads_store_what_arrived_as_one_object() {
    let gateway =
        TestGateway::with(&["UPLOAD__STALL_TIMEOUT=500ms", "UPLOAD__MIN_PART_SIZE=5MiB"]).await;
    // as one PutObject, and as parts of a multipart upload
    for bytes in [pattern(1000), pattern(7 * 1024 * 1024)] {
        for how in BREAKS {
            gateway.put_object("f", b"old".to_vec()).await;
            let code = break_off(&gateway, how, &bytes).await;
            assert!(matches!(code, None | Some(426)), "{how:?}: {code:?}");
            idle(&gateway).await;
            let stored = gateway.object("f").await.expect("the object is there");
            assert!(
                stored == bytes,
                "{how:?}: {} of {} bytes",
                stored.len(),
                bytes.len()
            );
            assert_eq!(gateway.unfinished().await, 0, "{how:?}");
        }
    }
}

/// With `upload.on_interrupt: discard` an upload that breaks off stores nothing, and an older file stays.
#[tokio::test]
async fn discarded_uploads_leave_the_old_object() {
    let gateway = TestGateway::with(&[
        "UPLOAD__STALL_TIMEOUT=500ms",
        "UPLOAD__MIN_PART_SIZE=5MiB",
        "UPLOAD__ON_INTERRUPT=discard",
    ])
    .await;
    gateway.put_object("f", b"old".to_vec()).await;
    for bytes in [pattern(1000), pattern(7 * 1024 * 1024)] {
        for how in BREAKS {
            let code = break_off(&gateway, how, &bytes).await;
            assert!(matches!(code, None | Some(426)), "{how:?}: {code:?}");
            idle(&gateway).await;
            assert_eq!(
                gateway.object("f").await.as_deref(),
                Some(&b"old"[..]),
                "{how:?}"
            );
            assert_eq!(gateway.unfinished().await, 0, "{how:?}");
        }
    }
}

/// If no byte of an upload arrived, an older file stays, whatever `upload.on_interrupt` is.
#[tokio::test]
async fn when_nothing_arrived_the_old_object_stays_also_with_keep() {
    let gateway = TestGateway::with(&["UPLOAD__STALL_TIMEOUT=300ms"]).await;
    gateway.put_object("f", b"old".to_vec()).await;
    for how in BREAKS {
        break_off(&gateway, how, b"").await;
        idle(&gateway).await;
        assert_eq!(
            gateway.object("f").await.as_deref(),
            Some(&b"old"[..]),
            "{how:?}"
        );
    }
}

/// A client that is killed in the middle of its file is not taken for one that has sent all of it.
#[tokio::test]
async fn a_killed_client_is_not_taken_for_a_clean_end() {
    let gateway = TestGateway::with(&["UPLOAD__ON_INTERRUPT=discard"]).await;
    gateway.put_object("f", b"old".to_vec()).await;
    for _ in 0..50 {
        let mut ftp = gateway.login().await;
        let mut data = ftp.data().await;
        assert_eq!(ftp.command("STOR f").await.code, 150);
        data.write_all(b"half a fi").await.expect("writes");
        // the kernel closes a dead process's sockets in the order of their descriptors: control first
        drop(ftp);
        drop(data);
        idle(&gateway).await;
        assert_eq!(gateway.object("f").await.as_deref(), Some(&b"old"[..]));
    }
}

/// `QUIT` during a transfer is answered after the reply of the transfer, which comes to its end.
#[tokio::test]
async fn quit_during_an_upload_waits_for_its_end() {
    let gateway = TestGateway::start().await;
    let mut ftp = gateway.login().await;
    let mut data = ftp.data().await;
    assert_eq!(ftp.command("STOR f").await.code, 150);
    ftp.send("QUIT").await;
    data.write_all(b"all of it").await.expect("writes");
    drop(data);
    assert_eq!(ftp.reply().await.code, 226);
    assert_eq!(ftp.reply().await.code, 221);
    assert!(ftp.is_closed().await);
    assert_eq!(
        gateway.object("f").await.as_deref(),
        Some(&b"all of it"[..])
    );
}

/// A download that its client stops to take ends after `download.stall_timeout` with 426, and the session goes on.
#[tokio::test]
async fn a_client_that_takes_nothing_of_its_download_is_dropped() {
    let gateway = TestGateway::with(&["DOWNLOAD__STALL_TIMEOUT=300ms"]).await;
    gateway.put_object("f", pattern(32 * 1024 * 1024)).await;
    let mut ftp = gateway.login().await;
    let data = ftp.data().await;
    assert_eq!(ftp.command("RETR f").await.code, 150);
    assert_eq!(ftp.reply().await.code, 426);
    drop(data);
    assert_eq!(ftp.command("NOOP").await.code, 200);
}

/// A download that ends early ends in a reset, so that a short file never looks whole, and the session goes on.
#[tokio::test]
async fn an_aborted_download_is_reset_and_the_session_goes_on() {
    let gateway = TestGateway::start().await;
    gateway.put_object("f", pattern(32 * 1024 * 1024)).await;
    let mut ftp = gateway.login().await;
    let mut data = ftp.data().await;
    assert_eq!(ftp.command("RETR f").await.code, 150);
    data.read_u8().await.expect("the first byte");
    assert_eq!(ftp.command("ABOR").await.code, 426);
    assert_eq!(ftp.reply().await.code, 226);
    let mut rest = Vec::new();
    assert!(
        data.read_to_end(&mut rest).await.is_err(),
        "a short file must not look whole"
    );
    assert_eq!(ftp.fetch("RETR f").await.0.len(), 32 * 1024 * 1024);
}

/// `ABOR` after the end of a transfer is 226 and changes nothing.
#[tokio::test]
async fn a_late_abort_is_answered_after_the_transfers_own_reply() {
    let gateway = TestGateway::start().await;
    let mut ftp: Ftp = gateway.login().await;
    assert_eq!(ftp.store("STOR f", b"x").await.code, 226);
    assert_eq!(ftp.command("ABOR").await.code, 226);
    assert_eq!(gateway.object("f").await.as_deref(), Some(&b"x"[..]));
}

/// With `upload.on_interrupt: hold` nothing of an upload that breaks off is visible; a client goes on with it at any
/// gateway of the bucket where `SIZE` says, and sends less than one part again.
#[tokio::test]
async fn two_gateways_go_on_with_each_others_uploads() {
    let replicas = Replicas::start(2, &[]).await;
    let bytes = pattern(12 * part() + 77);
    let (mut held, mut sent) = (0, 0);
    for round in 0..6 {
        let mut ftp = replicas.login().await;
        let held_now = size(&mut ftp, "f").await.unwrap_or_default();
        assert!(
            held - held_now < part(),
            "round {round}: {held} had arrived, {held_now} are held"
        );
        let end = (held_now + 2 * part() + MIB).min(bytes.len() * 9 / 10);
        let command = match round % 2 {
            0 => {
                assert_eq!(ftp.command(format!("REST {held_now}")).await.code, 350);
                "STOR f"
            }
            // as curl does, which asks for SIZE before
            _ => "APPE f",
        };
        let reply = cut(&mut ftp, command, &bytes[held_now..end]).await;
        assert_eq!(reply.code, 426, "{reply:?}");
        assert_eq!(replicas.store.object("f").await, None);
        sent += end - held_now;
        held = end;
    }
    let mut ftp = replicas.login().await;
    let held_now = size(&mut ftp, "f").await.expect("held");
    assert_eq!(ftp.store("APPE f", &bytes[held_now..]).await.code, 226);
    sent += bytes.len() - held_now;
    assert!(
        sent - bytes.len() < 6 * part(),
        "less than one part is sent again each time"
    );
    assert!(replicas.store.object("f").await == Some(bytes));
    assert_eq!(replicas.store.unfinished().await, 0);
}
