//! PROXY headers: from those who may send them, damaged, slow and too long; and from those who may not.

use std::time::Duration;

use futures::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::{Attacked, trickle};
use crate::support::{Ftp, Relay, eventually};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn relay(header: &[u8]) -> Relay {
    Relay {
        from: [127, 0, 0, 9],
        header: header.to_vec(),
    }
}

#[tokio::test]
async fn damaged_headers_end_without_a_word_and_leave_nothing() {
    let attacked = Attacked::start(&[("PROXY_PROTOCOL__TRUSTED", "127.0.0.9")]).await;
    let v2 = |rest: &[u8]| [SIGNATURE, rest].concat();
    let damaged = [
        b"PROXY TCP4 999.0.2.7 203.0.113.1 40000 21\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.7 203.0.113.1 40000\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.7 203.0.113.1 40000 21 more and more\r\n".to_vec(),
        [b"PROXY TCP6 ".to_vec(), vec![b'f'; 4000]].concat(),
        b"proxy TCP4 192.0.2.7 203.0.113.1 40000 21\r\n".to_vec(),
        b"USER u\r\nPASS secret\r\n".to_vec(),
        // a length over the limit; of version 1; of datagrams; with a TLV that is cut
        v2(b"\x21\x11\xff\xff"),
        v2(b"\x11\x11\x00\x0c\xc0\0\x02\x07\xcb\0\x71\x01\x9c\x40\0\x15"),
        v2(b"\x21\x12\x00\x0c\xc0\0\x02\x07\xcb\0\x71\x01\x9c\x40\0\x15"),
        v2(b"\x21\x11\x00\x0f\xc0\0\x02\x07\xcb\0\x71\x01\x9c\x40\0\x15\x04\x00\xff"),
    ];
    let before = attacked.metric("cosgate_sessions").await;
    for header in &damaged {
        for _ in 0..30 {
            let mut socket = relay(header).connect(attacked.address()).await;
            let mut bytes = Vec::new();
            let _ = socket.shutdown().await;
            let read = timeout(Duration::from_secs(30), socket.read_to_end(&mut bytes)).await;
            assert!(read.is_ok(), "{header:?}");
            assert_eq!(bytes, b"", "{header:?}");
        }
    }
    assert_eq!(attacked.metric("cosgate_sessions").await, before);
    let malformed = "cosgate_proxy_headers_refused_total{reason=\"malformed\"}";
    assert!(attacked.metric(malformed).await >= 30.0 * 9.0);
    // a line for some of them, not for each
    let lines = attacked.program.output();
    let lines = lines
        .lines()
        .filter(|line| line.contains("proxy_header_refused"));
    let lines = lines.count();
    assert!((1..=20).contains(&lines), "{lines} lines");
    attacked.recovers().await;
}

#[tokio::test]
async fn headers_that_come_byte_by_byte_end_at_their_time_limit() {
    let attacked = Attacked::start(&[("PROXY_PROTOCOL__TRUSTED", "127.0.0.9")]).await;
    let slow = (0..100).map(|number| {
        let attacked = &attacked;
        async move {
            let mut socket = relay(b"").connect(attacked.address()).await;
            let header: &[u8] = match number % 2 {
                0 => b"PROXY TCP4 192.0.2.7 203.0.113.1 40000 21\r\n",
                _ => b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x02\x00",
            };
            let header = header.iter().chain([0].iter().cycle());
            let (pause, within) = (Duration::from_millis(500), Duration::from_secs(30));
            assert!(
                trickle(&mut socket, header, pause, within).await,
                "it goes on and on"
            );
        }
    });
    join_all(slow).await;
    attacked.recovers().await;
}

/// A header from elsewhere than a proxy names nobody: not an address that is locked out, nor one that may log in where others may not.
#[tokio::test]
async fn a_header_of_a_stranger_names_nobody() {
    let attacked = Attacked::start(&[("PROXY_PROTOCOL__TRUSTED", "127.0.0.9")]).await;
    for header in [
        &b"PROXY TCP4 127.0.0.1 203.0.113.1 40000 21\r\n"[..],
        b"PROXY UNKNOWN\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\x7f\0\0\x01\xcb\0\x71\x01\x9c\x40\0\x15",
    ] {
        let stranger = Relay {
            from: [127, 0, 0, 66],
            header: header.to_vec(),
        };
        let mut ftp = Ftp::connect_through(&stranger, attacked.address()).await;
        let reply = ftp.reply().await;
        assert!(matches!(reply.code, 500 | 501), "{header:?}: {reply:?}");
    }
    attacked.recovers().await;
    // lines come in their order, so those of the strangers stand before that of a later transfer
    eventually("a transfer is logged", || async {
        attacked.program.output().contains("\"path\":\"/f\"")
    })
    .await;
    let log = attacked.program.output();
    assert!(!log.contains("client\":\"127.0.0.1:40000"), "{log}");
}
