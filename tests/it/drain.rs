//! The experience of sessions while a gateway drains.

use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use crate::support::{Ftp, TestGateway, eventually};

/// Longer than any of these scenarios.
const LONG: &str = "DRAIN__DEADLINE=2m";

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
