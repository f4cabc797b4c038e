//! Data connections: asked for and never made, made and never asked for, and slow ones.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use futures::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Attacked;
use crate::support::gateway::PASSIVE_PORTS;
use crate::support::{TestGateway, pattern};

#[tokio::test]
async fn floods_of_pasv_keep_no_port_from_another_address_and_leave_no_reservation() {
    let attacked = Attacked::start(&[("PASSIVE__ACCEPT_TIMEOUT", "1s")]).await;
    let mut clients = Vec::new();
    for last in 1..=10 {
        for _ in 0..5 {
            clients.push(attacked.login_from(last, "u").await);
        }
    }
    // four ports for each address, five sessions that want a new one again and again
    let flood = clients.iter_mut().map(|ftp| async {
        let mut codes = Vec::new();
        for line in ["PASV", "EPSV"].iter().cycle().take(40) {
            codes.push(ftp.command(line).await.code);
        }
        codes
    });
    let (codes, ()) = tokio::join!(
        timeout(Duration::from_secs(120), join_all(flood)),
        attacked.serves_others()
    );
    let codes = codes.expect("each PASV is answered in time").concat();
    assert!(
        codes.iter().all(|code| matches!(code, 227 | 229 | 425)),
        "{codes:?}"
    );
    // one for each session, and for each address no more than there are ports
    assert!(attacked.now().await.reservations <= 40.0);
    drop(clients);
    attacked.recovers().await;
}

#[tokio::test]
async fn data_connections_without_a_session_are_reset_and_counted() {
    let attacked = Attacked::start(&[]).await;
    // somebody waits for theirs on this port
    let mut ftp = attacked.login_from(9, "u").await;
    assert_eq!(
        ftp.store("STOR f", b"for its own client only").await.code,
        226
    );
    let mut ports = std::collections::BTreeSet::new();
    // a session that asks again gets a new one while most are free
    while ports.len() < usize::from(PASSIVE_PORTS) - 1 {
        ports.insert(ftp.epsv().await);
    }
    let before = attacked
        .metric("cosgate_passive_connections_stray_total")
        .await;
    let mut made = 0.0;
    for _ in 0..80 {
        for port in &ports {
            let address = SocketAddr::new(attacked.address().ip(), *port);
            made += 1.0;
            let mut stray = match TcpStream::connect(address).await {
                Ok(stray) => stray,
                // so soon that it is seen here already
                Err(error) if error.kind() == ErrorKind::ConnectionReset => continue,
                Err(error) => panic!("it listens: {error}"),
            };
            let mut bytes = Vec::new();
            let read = timeout(Duration::from_secs(20), stray.read_to_end(&mut bytes)).await;
            assert!(read.expect("in time").is_err(), "a reset");
            assert!(bytes.is_empty());
        }
    }
    let strays = attacked
        .metric("cosgate_passive_connections_stray_total")
        .await
        - before;
    assert_eq!(strays, made);
    drop(ftp);
    attacked.recovers().await;
}

#[tokio::test]
async fn transfers_that_stand_still_end_at_the_stall_timeout() {
    let attacked = Attacked::start(&[
        ("UPLOAD__STALL_TIMEOUT", "1s"),
        ("UPLOAD__ON_INTERRUPT", "discard"),
        ("DOWNLOAD__STALL_TIMEOUT", "1s"),
        ("PASSIVE__ACCEPT_TIMEOUT", "10s"),
    ])
    .await;
    let mut ftp = attacked.login().await;
    assert_eq!(ftp.store("STOR large", &pattern(32 << 20)).await.code, 226);
    let stalled = (1..=20).map(|last| {
        let attacked = &attacked;
        async move {
            let mut ftp = attacked.login_from(last, "u").await;
            let mut data = ftp.data().await;
            let line = match last % 2 {
                0 => "RETR large".to_owned(),
                _ => format!("STOR f{last}"),
            };
            assert_eq!(ftp.command(&line).await.code, 150);
            if last % 2 == 1 {
                data.write_all(b"and no more").await.expect("writes");
            }
            let reply = ftp.reply().await;
            assert_eq!(reply.code, 426, "{line}: {reply:?}");
            // the session goes on
            assert_eq!(ftp.command("NOOP").await.code, 200);
        }
    });
    let all = timeout(Duration::from_secs(60), join_all(stalled)).await;
    all.expect("all end in time");
    let names = ftp.listing("NLST").await;
    assert!(!names.contains("f1"), "{names}");
    drop(ftp);
    attacked.recovers().await;
}

#[tokio::test]
async fn clients_that_leave_in_the_midst_of_transfers_leave_nothing() {
    let attacked = Attacked::start(&[("UPLOAD__ON_INTERRUPT", "discard")]).await;
    let mut ftp = attacked.login().await;
    assert_eq!(ftp.store("STOR large", &pattern(32 << 20)).await.code, 226);
    drop(ftp);
    for round in 0..4 {
        let cut = (1..=25_u8).map(|last| {
            let attacked = &attacked;
            async move {
                let mut ftp = attacked.login_from(last, "u").await;
                let mut data = ftp.data().await;
                let line = match last % 3 {
                    0 => "RETR large".to_owned(),
                    1 => "MLSD".to_owned(),
                    _ => format!("STOR f{last}"),
                };
                ftp.send(&line).await;
                if last % 3 == 2 {
                    let _ = data.write_all(&[0; 100_000]).await;
                }
                if (last + round) % 2 == 0 {
                    data.set_zero_linger().expect("a socket");
                }
                drop((data, ftp));
            }
        });
        join_all(cut).await;
    }
    attacked.recovers().await;
}

/// Row 14: free ports were refused, and one session could hold them all.
#[tokio::test]
async fn every_passive_port_is_used_and_one_session_holds_one() {
    let gateway = TestGateway::with(&["PASSIVE__ACCEPT_TIMEOUT=200ms"]).await;
    let mut greedy = gateway.login().await;
    for _ in 0..50 {
        greedy.epsv().await;
    }
    let mut ports = std::collections::BTreeSet::new();
    let mut others = Vec::new();
    for _ in 0..3 {
        let mut ftp = gateway.login().await;
        ports.insert(ftp.epsv().await);
        others.push(ftp);
    }
    assert_eq!(ports.len(), 3, "all the other ports were to be had");
    // and those that never connected are taken over once they are stale
    let mut late = gateway.login().await;
    assert_eq!(late.store("STOR f", b"x").await.code, 226);
}

/// Nobody connects to the passive port.
#[tokio::test]
async fn a_missing_data_connection_is_425_in_time() {
    let gateway = TestGateway::with(&["PASSIVE__ACCEPT_TIMEOUT=300ms"]).await;
    gateway.put_object("f", b"old".to_vec()).await;
    let mut ftp = gateway.login().await;
    for line in ["STOR f", "RETR f", "LIST"] {
        ftp.epsv().await;
        let asked = std::time::Instant::now();
        assert_eq!(ftp.command(line).await.code, 425, "{line}");
        assert!(
            asked.elapsed() < Duration::from_secs(3),
            "{line}: {:?}",
            asked.elapsed()
        );
        assert_eq!(ftp.command(line).await.code, 425, "without PASV at all");
    }
    assert_eq!(gateway.object("f").await.as_deref(), Some(&b"old"[..]));
}
