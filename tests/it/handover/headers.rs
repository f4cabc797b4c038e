//! The gateways that may hand a connection over: headers written byte by byte, as the guide describes them.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Cluster, KEY, is_reset};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;

/// The parts of a header.
pub(super) struct Header<'a> {
    pub(super) key: &'a str,
    pub(super) command: u8,
    pub(super) port: u16,
    /// Seconds before now; negative: in the future.
    pub(super) age: i64,
    pub(super) nonce: [u8; 16],
    /// The sender and the receiver of a stream of lockout events.
    pub(super) stream: Option<(u16, u16)>,
}

impl Header<'_> {
    /// A good one for a connection from 127.0.0.1 to `port`.
    fn new(port: u16) -> Self {
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).expect("random bytes");
        Header {
            key: KEY,
            command: PROXY,
            port,
            age: 0,
            nonce,
            stream: None,
        }
    }

    /// A good one for a stream of lockout events.
    pub(super) fn of_stream(from: u16, to: u16) -> Self {
        Header {
            command: LOCAL,
            stream: Some((from, to)),
            ..Header::new(0)
        }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let client = (Ipv4Addr::LOCALHOST.octets(), 40_000_u16.to_be_bytes());
        let local = ([10, 0, 0, 1], self.port.to_be_bytes());
        let addresses = match self.command {
            PROXY => [&client.0[..], &local.0, &client.1, &local.1].concat(),
            _ => vec![0; 12],
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.expect("after 1970").as_millis() as i64;
        let made = (now - self.age * 1000).to_be_bytes();
        let proof = [&[1][..], &made, &self.nonce].concat();
        let length = |bytes: usize| (bytes as u16).to_be_bytes();
        let stream = self.stream.map_or_else(Vec::new, |(from, to)| {
            [&[0xe1, 0, 5, 1][..], &from.to_be_bytes(), &to.to_be_bytes()].concat()
        });
        let mut header = SIGNATURE.to_vec();
        // TCP over IPv4
        header.extend([self.command, 0x11]);
        header.extend(length(
            addresses.len() + stream.len() + 3 + proof.len() + 32,
        ));
        header.extend(addresses);
        header.extend(stream);
        header.push(0xe0);
        header.extend(length(proof.len() + 32));
        header.extend(proof);
        let mut mac = Hmac::<Sha256>::new_from_slice(self.key.as_bytes()).expect("any length");
        mac.update(&header);
        header.extend(mac.finalize().into_bytes());
        header
    }
}

pub(super) async fn send(to: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut socket = TcpStream::connect(to).await.expect("it listens");
    socket.write_all(bytes).await.expect("writes");
    socket
}

#[tokio::test]
async fn a_good_header_is_an_arrival_and_every_other_one_is_reset_with_its_reason_counted() {
    let cluster = Cluster::start(2, &[]).await;
    let to = cluster.handover(0);
    let mut ftp = cluster.login(0).await;
    let port = ftp.epsv().await;
    let foreign = cluster.first_port + 2;

    let good = Header::new(port);
    let used = good.bytes();
    for (bytes, reason) in [
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "header"),
        // as a balancer writes it, without a proof
        ([SIGNATURE, &[LOCAL, 0, 0, 0]].concat(), "header"),
        (
            Header {
                key: "another key, which has 32 bytes.",
                ..Header::new(port)
            }
            .bytes(),
            "key",
        ),
        (
            Header {
                age: 31,
                ..Header::new(port)
            }
            .bytes(),
            "stale",
        ),
        (
            Header {
                age: -31,
                ..Header::new(port)
            }
            .bytes(),
            "stale",
        ),
        (Header::new(foreign).bytes(), "port"),
        (Header::new(21).bytes(), "port"),
    ] {
        let name = format!("cosgate_handover_refused_total{{reason=\"{reason}\"}}");
        let before = cluster.metric(0, &name).await;
        assert!(is_reset(&mut send(to, &bytes).await).await, "{reason}");
        assert_eq!(cluster.metric(0, &name).await, before + 1.0, "{reason}");
    }

    // what the header introduces goes to the session that waits
    let mut data = send(to, &used).await;
    assert_eq!(ftp.command("STOR f").await.code, 150);
    data.write_all(b"content").await.expect("writes");
    data.shutdown().await.expect("ends");
    drop(data);
    assert_eq!(ftp.reply().await.code, 226);
    assert_eq!(
        cluster.store.object("f").await.as_deref(),
        Some(&b"content"[..])
    );

    // the same header again, while the session waits on the same port
    let mut ports = Vec::new();
    while ftp.epsv().await != port {
        ports.push(());
        assert!(ports.len() < 100, "{port} never comes back");
    }
    assert!(is_reset(&mut send(to, &used).await).await);
    let replayed = "cosgate_handover_refused_total{reason=\"replayed\"}";
    assert_eq!(cluster.metric(0, replayed).await, 1.0);
    let mut data = send(to, &Header::new(port).bytes()).await;
    assert_eq!(ftp.command("STOR g").await.code, 150);
    data.shutdown().await.expect("ends");
    assert_eq!(ftp.reply().await.code, 226);
    cluster.stop().await;
}

#[tokio::test]
async fn a_check_ends_in_order_and_whoever_says_nothing_is_reset_in_time() {
    let cluster = Cluster::start(2, &[]).await;
    let check = Header {
        command: LOCAL,
        ..Header::new(0)
    };
    let mut socket = send(cluster.handover(0), &check.bytes()).await;
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.expect("a clean end");
    assert!(answer.is_empty());
    let mut silent = send(cluster.handover(0), b"\r\n\r\n").await;
    let began = std::time::Instant::now();
    assert!(is_reset(&mut silent).await);
    assert!(began.elapsed() >= Duration::from_secs(4));
    cluster.stop().await;
}
