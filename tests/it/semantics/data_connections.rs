//! Data connections

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::tls::Authority;
use crate::support::{Ftp, TestGateway, pattern};

/// Connects to a passive port of the gateway.
async fn connect(gateway: &TestGateway, port: u16) -> TcpStream {
    TcpStream::connect((gateway.address().ip(), port))
        .await
        .expect("the passive port listens")
}

/// Stores `bytes`, fetches them and lists them, each time with a connection that comes after the 150.
async fn round(gateway: &TestGateway, ftp: &mut Ftp) {
    let bytes = pattern(3_000_000);
    let port = ftp.epsv().await;
    let asked = Instant::now();
    assert_eq!(ftp.command("STOR f").await.code, 150);
    let waited = asked.elapsed();
    assert!(waited >= Duration::from_millis(500), "{waited:?}");
    assert!(waited < Duration::from_secs(5), "{waited:?}");
    let data = connect(gateway, port).await;
    let mut data = ftp.wrap(data).await.expect("a handshake");
    data.write_all(&bytes).await.expect("writes");
    data.shutdown().await.expect("closes");
    drop(data);
    assert_eq!(ftp.reply().await.code, 226);
    assert!(gateway.object("f").await.as_ref() == Some(&bytes));
    for line in ["RETR f", "LIST"] {
        let port = ftp.epsv().await;
        assert_eq!(ftp.command(line).await.code, 150, "{line}");
        let data = connect(gateway, port).await;
        let mut data = ftp.wrap(data).await.expect("a handshake");
        let mut back = Vec::new();
        data.read_to_end(&mut back).await.expect("a clean end");
        assert_eq!(ftp.reply().await.code, 226, "{line}");
        assert_eq!(back == bytes, line == "RETR f");
    }
}

/// A client may open its data connection before the command of the transfer or after the 150, in the clear and under
/// TLS.
#[tokio::test]
async fn a_client_may_connect_after_the_150() {
    let authority = Authority::new();
    let gateway = TestGateway::with_tls(&authority, &[]).await;
    let mut ftp = gateway.login().await;
    round(&gateway, &mut ftp).await;
    let client = authority.client();
    let ftp = Ftp::connect(gateway.address()).await;
    let mut ftp = ftp.secure(&client).await.expect("a handshake");
    ftp.login("demo", &gateway.password).await;
    ftp.protect(&client).await;
    round(&gateway, &mut ftp).await;
    gateway.stop().await;
}

/// A transfer that fails before its 150 is refused without one.
#[tokio::test]
async fn what_fails_before_the_150_is_refused_without_it() {
    let gateway = TestGateway::start().await;
    let mut ftp = gateway.login().await;
    ftp.epsv().await;
    assert_eq!(ftp.command("RETR missing").await.code, 550);
    ftp.epsv().await;
    assert_eq!(ftp.command("LIST missing").await.code, 550);
    gateway.stop().await;
}

/// A data connection that never comes is 425 in time and touches no file; one that comes too late gets nothing.
#[tokio::test]
async fn nobody_after_the_150_is_425_in_time_and_nothing_is_touched() {
    for policy in ["keep", "discard"] {
        let gateway = TestGateway::with(&[
            "PASSIVE__ACCEPT_TIMEOUT=1s",
            &format!("UPLOAD__ON_INTERRUPT={policy}"),
        ])
        .await;
        gateway.put_object("f", b"old".to_vec()).await;
        let mut ftp = gateway.login().await;
        for line in ["STOR f", "STOR new", "APPE f", "RETR f", "LIST"] {
            let port = ftp.epsv().await;
            let asked = Instant::now();
            assert_eq!(ftp.command(line).await.code, 150, "{line}");
            assert_eq!(ftp.reply().await.code, 425, "{line}");
            let waited = asked.elapsed();
            assert!(waited >= Duration::from_secs(1), "{line}: {waited:?}");
            assert!(waited < Duration::from_secs(5), "{line}: {waited:?}");
            // too late: it reaches neither this session nor the next one
            let mut late = connect(&gateway, port).await;
            let read = late.read(&mut [0]).await;
            assert!(!matches!(read, Ok(1..)), "{line}: {read:?}");
        }
        assert_eq!(gateway.object("f").await.as_deref(), Some(&b"old"[..]));
        assert_eq!(gateway.object("new").await, None);
        assert_eq!(gateway.unfinished().await, 0);
        // the session is as good as before
        assert_eq!(ftp.store("STOR f", b"next").await.code, 226);
        gateway.stop().await;
    }
}

/// `ABOR` ends the wait for a data connection.
#[tokio::test]
async fn abort_ends_the_wait_after_the_150() {
    let gateway = TestGateway::start().await;
    gateway.put_object("f", b"old".to_vec()).await;
    let mut ftp = gateway.login().await;
    for line in ["STOR f", "RETR f"] {
        ftp.epsv().await;
        assert_eq!(ftp.command(line).await.code, 150);
        assert_eq!(ftp.command("ABOR").await.code, 426, "{line}");
        assert_eq!(ftp.reply().await.code, 226, "{line}");
    }
    assert_eq!(gateway.object("f").await.as_deref(), Some(&b"old"[..]));
    assert_eq!(ftp.store("STOR f", b"next").await.code, 226);
    gateway.stop().await;
}

/// `PASV` works over IPv4, `EPSV` over IPv4 and IPv6, and after `EPSV ALL` nothing else is taken.
#[tokio::test]
async fn pasv_and_epsv_work_over_ipv4_and_epsv_over_ipv6() {
    let gateway = TestGateway::with(&["LISTEN=127.0.0.1:0,[::1]:0"]).await;
    let mut ftp = gateway.login().await;
    let reply = ftp.command("PASV").await;
    assert_eq!(reply.code, 227);
    assert!(reply.text.contains("(127,0,0,1,"), "{reply:?}");
    assert_eq!(ftp.command("EPSV 2").await.code, 522);
    assert_eq!(ftp.command("EPSV 1").await.code, 229);
    assert_eq!(ftp.command("EPSV ALL").await.code, 200);
    assert_eq!(ftp.command("PASV").await.code, 501);

    let six = gateway
        .gateway
        .addresses()
        .iter()
        .find(|address| address.is_ipv6())
        .expect("an IPv6 listener");
    let mut ftp = crate::support::Ftp::connect(*six).await;
    ftp.login("demo", &gateway.password).await;
    // PASV has no room for the address; the session goes on
    assert_eq!(ftp.command("PASV").await.code, 425);
    assert_eq!(ftp.store("STOR six", b"over IPv6").await.code, 226);
    assert_eq!(ftp.fetch("RETR six").await.0, b"over IPv6");
}

/// `PASV` gives the `masquerade_address` where there is one.
#[tokio::test]
async fn pasv_gives_the_masquerade_address() {
    let gateway = TestGateway::with(&["MASQUERADE_ADDRESS=203.0.113.7"]).await;
    let reply = gateway.login().await.command("PASV").await;
    assert!(reply.text.contains("(203,0,113,7,"), "{reply:?}");
}
