//! Transfers that do not come to their end.

use socket2::SockRef;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Ftp, TestGateway, eventually, pattern};

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

#[tokio::test]
async fn a_stopping_gateway_lets_transfers_end_and_sends_421_to_idle_sessions() {
    let gateway = TestGateway::start().await;
    let mut idle = gateway.login().await;
    let mut ftp = gateway.login().await;
    let mut data = ftp.data().await;
    assert_eq!(ftp.command("STOR f").await.code, 150);
    let address = gateway.address();
    let stopping = tokio::spawn(gateway.stop());
    assert_eq!(idle.reply().await.code, 421);
    data.write_all(b"still arrives").await.expect("writes");
    drop(data);
    assert_eq!(ftp.reply().await.code, 226);
    assert_eq!(ftp.reply().await.code, 421);
    stopping.await.expect("stops");
    assert!(
        TcpStream::connect(address).await.is_err(),
        "nobody listens any more"
    );
}

#[tokio::test]
async fn after_the_drain_deadline_the_policy_decides() {
    let (gateway, _proxy) = TestGateway::behind_proxy(&["DRAIN__DEADLINE=300ms"]).await;
    let mut ftp = gateway.login().await;
    let mut data = ftp.data().await;
    assert_eq!(ftp.command("STOR f").await.code, 150);
    data.write_all(b"so far").await.expect("writes");
    let (gateway, store) = gateway.into_parts();
    gateway.stop().await;
    assert_eq!(ftp.reply().await.code, 421);
    assert_eq!(store.object("f").await.as_deref(), Some(&b"so far"[..]));
}

#[tokio::test]
async fn a_late_abort_is_answered_after_the_transfers_own_reply() {
    let gateway = TestGateway::start().await;
    let mut ftp: Ftp = gateway.login().await;
    assert_eq!(ftp.store("STOR f", b"x").await.code, 226);
    assert_eq!(ftp.command("ABOR").await.code, 226);
    assert_eq!(gateway.object("f").await.as_deref(), Some(&b"x"[..]));
}
