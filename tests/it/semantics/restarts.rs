//! Restarts

use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::{Ftp, TestGateway, eventually};

/// Longer than any of these scenarios.
const LONG: &str = "DRAIN__DEADLINE=2m";

/// While a gateway drains, a session that is open goes on with all its commands until it says `QUIT`.
#[tokio::test]
async fn a_session_at_work_goes_on_until_it_quits() {
    let gateway = TestGateway::with(&[LONG, "DRAIN__IDLE=1m"]).await;
    let address = gateway.address();
    let mut ftp = gateway.login().await;
    // these have not logged in yet
    let mut greeted = Ftp::connect(address).await;
    let mut named = Ftp::connect(address).await;
    assert_eq!(named.command("USER demo").await.code, 331);
    let password = gateway.password.clone();
    let stopping = tokio::spawn(gateway.stop());
    eventually("nobody listens any more", || async {
        TcpStream::connect(address).await.is_err()
    })
    .await;
    greeted.login("demo", &password).await;
    assert_eq!(named.command(&format!("PASS {password}")).await.code, 230);
    for (number, ftp) in [&mut ftp, &mut greeted, &mut named].into_iter().enumerate() {
        for file in 0..3 {
            let command = format!("STOR {number}-{file}");
            assert_eq!(ftp.store(&command, b"x").await.code, 226);
        }
        assert_eq!(ftp.command("QUIT").await.code, 221);
        assert!(ftp.is_closed().await);
    }
    stopping.await.expect("stops");
}

/// While a gateway drains, a session that has rested for `drain.idle` ends with 421, and no other one does.
#[tokio::test]
async fn only_a_session_that_rests_ends() {
    let gateway = TestGateway::with(&[LONG, "DRAIN__IDLE=2s"]).await;
    let mut resting = gateway.login().await;
    let mut ftp = gateway.login().await;
    let begun = Instant::now();
    let stopping = tokio::spawn(gateway.stop());
    let mut files = 0;
    let rested = tokio::spawn(async move {
        let reply = resting.reply().await;
        (reply.code, begun.elapsed(), resting)
    });
    while !rested.is_finished() {
        let reply = ftp.store(&format!("STOR {files}"), b"x").await;
        assert_eq!(reply.code, 226, "{reply:?}");
        files += 1;
    }
    let (code, after, mut resting) = rested.await.expect("no panic");
    assert_eq!(code, 421);
    assert!(after > Duration::from_secs(1), "{after:?}");
    // a QUIT that had been on its way has its answer, too
    assert_eq!(resting.command("QUIT").await.code, 221);
    assert!(resting.is_closed().await);
    assert_eq!(ftp.command("QUIT").await.code, 221);
    stopping.await.expect("stops");
}

/// When a gateway begins to drain, a session that has rested long enough ends at once.
#[tokio::test]
async fn a_session_that_had_rested_ends_at_once() {
    let gateway = TestGateway::with(&[LONG, "DRAIN__IDLE=1s"]).await;
    let mut ftp = gateway.login().await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let begun = Instant::now();
    let stopping = tokio::spawn(gateway.stop());
    assert_eq!(ftp.reply().await.code, 421);
    assert!(begun.elapsed() < Duration::from_millis(900));
    stopping.await.expect("stops");
}

/// Shortly before `drain.deadline` a session ends between two files, and none of its transfers is cut.
#[tokio::test]
async fn before_the_deadline_a_session_ends_between_two_files() {
    let gateway = TestGateway::with(&["DRAIN__DEADLINE=3s", "DRAIN__IDLE=1m"]).await;
    let mut ftp = gateway.login().await;
    let stopping = tokio::spawn(async move { gateway.into_parts().0.stop().await });
    let mut files = 0;
    let end = loop {
        let reply = ftp.command("EPSV").await;
        if reply.code == 421 {
            break reply;
        }
        let port = reply.text.split('|').nth(3).expect("a port");
        let data = TcpStream::connect(("127.0.0.1", port.parse().expect("a number"))).await;
        let reply = ftp.command(&format!("STOR {files}")).await;
        if reply.code == 421 {
            break reply;
        }
        assert_eq!(reply.code, 150);
        drop(data);
        let reply = ftp.reply().await;
        assert_eq!(reply.code, 226, "{reply:?}");
        files += 1;
    };
    assert!(end.text.contains("stopping"), "{end:?}");
    let drained = stopping.await.expect("stops");
    assert!(drained.transfers.complete >= files);
    assert_eq!(drained.transfers.incomplete, 0, "none is cut");
    assert!(files > 0);
}

/// A gateway that stops lets transfers come to their end, and takes no new session.
#[tokio::test]
async fn a_stopping_gateway_lets_transfers_end_and_takes_no_new_session() {
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

/// A transfer that is still under way at `drain.deadline` is interrupted, and `upload.on_interrupt` decides.
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

/// Files are there after a restart of the gateway.
#[tokio::test]
async fn files_survive_a_restart_of_the_gateway() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let directory = format!("STORAGE__DATA_DIR={}", data.path().display());
    let hash = cosgate::auth::hash_password(&"secret".to_owned().into()).expect("hashes");
    let users = format!(
        "USERS=[{{name: u, password_hash: '{}'}}]",
        secrecy::ExposeSecret::expose_secret(&hash)
    );
    for round in 0..2 {
        let gateway = crate::support::gateway::start(&[&directory, &users]).await;
        let mut ftp = crate::support::Ftp::connect(gateway.addresses()[0]).await;
        ftp.login("u", "secret").await;
        if round == 0 {
            assert_eq!(ftp.store("STOR kept", b"over the restart").await.code, 226);
        } else {
            assert_eq!(ftp.fetch("RETR kept").await.0, b"over the restart");
        }
        drop(ftp);
        gateway.stop().await;
    }
}

/// Uploads that a gateway left unfinished when it died are aborted by another one, `upload.stale_after` later; those of
/// other programs stay.
#[tokio::test]
async fn uploads_that_a_dead_gateway_left_are_swept_and_those_of_others_are_not() {
    let (gateway, _proxy) = TestGateway::behind_proxy(&[
        "UPLOAD__SWEEP=own",
        "UPLOAD__STALE_AFTER=2s",
        "UPLOAD__MIN_PART_SIZE=5MiB",
    ])
    .await;
    let marked = cosgate::store::parts::marked(5 << 20) as usize;
    gateway.begin_multipart("ours", marked).await;
    gateway.begin_multipart("theirs", 5 << 20).await;
    assert_eq!(gateway.unfinished().await, 2);
    eventually("ours is swept", || async {
        gateway.unfinished().await == 1
    })
    .await;
    // long enough for more sweeps
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(gateway.unfinished_keys().await, ["theirs"]);
}
