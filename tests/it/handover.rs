//! Several gateways that share their passive ports, and data connections that come to another one than the one that waits for them.

mod headers;
mod lockouts;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use cosgate::app::Gateway;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::http;
use crate::support::proxy::Proxy;
use crate::support::tls::Authority;
use crate::support::{Ftp, Reply, TestStore, eventually, gateway, pattern};

/// Passive ports of each gateway.
const SLICE: u16 = 2;

/// The key that the gateways show each other.
const KEY: &str = "a key of the scenarios, 32 bytes";

/// Gateways on one store, each on an address of its own, with the same passive ports.
struct Cluster {
    gateways: Vec<Option<Gateway>>,
    store: TestStore,
    _proxy: Proxy,
    /// The first passive port; the handover port is behind the last.
    first_port: u16,
}

/// The address of a gateway. Clients come from 127.0.0.1, whichever of them they connect to.
fn address(ordinal: usize) -> IpAddr {
    Ipv4Addr::new(127, 0, 7, 10 + ordinal as u8).into()
}

impl Cluster {
    async fn start(count: u16, settings: &[&str]) -> Self {
        let (store, proxy, own) = TestStore::behind_proxy().await;
        let first_port = gateway::free_ports(count * SLICE + 1);
        let handover_port = first_port + count * SLICE;
        let mut gateways = Vec::new();
        for ordinal in 0..usize::from(count) {
            let address = address(ordinal);
            let own_settings = [
                format!("LISTEN={address}:0"),
                format!("ADMIN__LISTEN={address}:0"),
                format!("PASSIVE__PORTS={first_port}-{}", handover_port - 1),
                format!("PASSIVE__SLICE_SIZE={SLICE}"),
                format!("PASSIVE__ORDINAL={ordinal}"),
                format!("HANDOVER__LISTEN={address}:{handover_port}"),
                "HANDOVER__PEERS=127.0.7.1{ordinal}".to_owned(),
                format!("HANDOVER__KEY={KEY}"),
            ];
            let settings: Vec<&str> = own
                .iter()
                .chain(&own_settings)
                .map(String::as_str)
                .chain(settings.iter().copied())
                .collect();
            gateways.push(Some(gateway::start(&settings).await));
        }
        Cluster {
            gateways,
            store,
            _proxy: proxy,
            first_port,
        }
    }

    fn gateway(&self, ordinal: usize) -> &Gateway {
        self.gateways[ordinal].as_ref().expect("it runs")
    }

    fn take(&mut self, ordinal: usize) -> Gateway {
        self.gateways[ordinal].take().expect("it runs")
    }

    async fn login(&self, ordinal: usize) -> Ftp {
        let mut ftp = Ftp::connect(self.gateway(ordinal).addresses()[0]).await;
        ftp.login("demo", "secret").await;
        ftp
    }

    /// The handover port of a gateway.
    fn handover(&self, ordinal: usize) -> SocketAddr {
        let behind = self.first_port + SLICE * self.gateways.len() as u16;
        SocketAddr::new(address(ordinal), behind)
    }

    /// A metric of a gateway, by its name and labels as they are written.
    async fn metric(&self, ordinal: usize, name: &str) -> f64 {
        let admin = self.gateway(ordinal).admin_address().expect("it is on");
        http::metric(admin, name).await
    }

    async fn stop(self) {
        for gateway in self.gateways.into_iter().flatten() {
            gateway.stop().await;
        }
        self.store.stop().await;
    }
}

/// A data connection to a port that `ftp` was given, by way of the gateway `via`.
async fn data(ftp: &mut Ftp, via: usize) -> TcpStream {
    let port = ftp.epsv().await;
    TcpStream::connect((address(via), port))
        .await
        .expect("every gateway has the port")
}

async fn store(ftp: &mut Ftp, via: usize, name: &str, bytes: &[u8]) -> Reply {
    let data = data(ftp, via).await;
    assert_eq!(ftp.command(format!("STOR {name}")).await.code, 150);
    let mut data = ftp.wrap(data).await.expect("a handshake");
    data.write_all(bytes).await.expect("writes");
    data.shutdown().await.expect("ends");
    ftp.reply().await
}

async fn fetch(ftp: &mut Ftp, via: usize, command: &str) -> (Vec<u8>, Reply) {
    let data = data(ftp, via).await;
    assert_eq!(ftp.command(command).await.code, 150);
    let mut data = ftp.wrap(data).await.expect("a handshake");
    let mut bytes = Vec::new();
    data.read_to_end(&mut bytes).await.expect("a clean end");
    (bytes, ftp.reply().await)
}

/// True if a connection is reset within a moment, rather than ended or left open.
async fn is_reset(socket: &mut TcpStream) -> bool {
    let read = tokio::time::timeout(Duration::from_secs(10), socket.read_u8()).await;
    matches!(read, Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionReset)
}

#[tokio::test]
async fn every_gateway_brings_data_connections_to_the_one_that_waits() {
    let cluster = Cluster::start(3, &[]).await;
    let bytes = pattern(3_000_000);
    for owner in 0..3 {
        let mut ftp = cluster.login(owner).await;
        for via in 0..3 {
            let name = format!("{owner}-{via}");
            assert_eq!(
                store(&mut ftp, via, &name, &bytes).await.code,
                226,
                "{name}"
            );
            assert!(cluster.store.object(&name).await.as_ref() == Some(&bytes));
            let (back, reply) = fetch(&mut ftp, via, &format!("RETR {name}")).await;
            assert!(reply.code == 226 && back == bytes, "{name}");
            let (list, reply) = fetch(&mut ftp, via, "LIST").await;
            assert!(reply.code == 226 && String::from_utf8_lossy(&list).contains(&name));
        }
    }
    for ordinal in 0..3 {
        let complete = "cosgate_handover_relays_total{outcome=\"complete\"}";
        eventually("all relays have ended", || async {
            cluster.metric(ordinal, "cosgate_handover_open").await == 0.0
        })
        .await;
        assert_eq!(cluster.metric(ordinal, complete).await, 6.0);
        assert_eq!(
            cluster
                .metric(ordinal, "cosgate_handover_received_total")
                .await,
            6.0
        );
        assert!(
            cluster
                .metric(ordinal, "cosgate_handover_relayed_bytes_total")
                .await
                > 12e6
        );
        assert_eq!(
            cluster
                .metric(ordinal, "cosgate_passive_connections_stray_total")
                .await,
            0.0
        );
    }
    cluster.stop().await;
}

#[tokio::test]
async fn tls_goes_through_to_the_owner_which_knows_the_session_that_is_resumed() {
    let authority = Authority::new();
    let settings = authority.settings(&["TLS__REQUIRED=all", "TLS__SESSION_REUSE=required"]);
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let cluster = Cluster::start(2, &settings).await;
    let bytes = pattern(1_000_000);
    for client in [authority.client(), authority.client_12()] {
        let ftp = Ftp::connect(cluster.gateway(0).addresses()[0]).await;
        let mut ftp = ftp.secure(&client).await.expect("a handshake");
        ftp.login("demo", "secret").await;
        ftp.protect(&client).await;
        for via in [0, 1] {
            assert_eq!(store(&mut ftp, via, "f", &bytes).await.code, 226);
            let (back, reply) = fetch(&mut ftp, via, "RETR f").await;
            assert!(reply.code == 226 && back == bytes);
        }
    }
    cluster.stop().await;
}

#[tokio::test]
async fn a_reset_by_the_client_cuts_the_upload_as_it_would_without_a_relay() {
    let cluster = Cluster::start(2, &["UPLOAD__ON_INTERRUPT=discard"]).await;
    let mut ftp = cluster.login(0).await;
    // what is copied, and what is spliced
    for length in [1000, 2_000_000] {
        let mut data = data(&mut ftp, 1).await;
        assert_eq!(ftp.command("STOR f").await.code, 150);
        data.write_all(&pattern(length)).await.expect("writes");
        let linger = SockRef::from(&data).set_linger(Some(Duration::ZERO));
        linger.expect("a TCP socket");
        drop(data);
        let reply = ftp.reply().await;
        assert_eq!(reply.code, 426, "{reply:?}");
        assert_eq!(cluster.store.object("f").await, None);
    }
    let reset = "cosgate_handover_relays_total{outcome=\"reset\"}";
    assert_eq!(cluster.metric(1, reset).await, 2.0);
    cluster.stop().await;
}

#[tokio::test]
async fn abor_ends_a_relayed_transfer_and_the_session_goes_on() {
    let cluster = Cluster::start(2, &[]).await;
    let mut ftp = cluster.login(0).await;
    cluster.store.put_object("big", pattern(20_000_000)).await;
    let mut data = data(&mut ftp, 1).await;
    assert_eq!(ftp.command("RETR big").await.code, 150);
    let mut some = vec![0; 300_000];
    data.read_exact(&mut some).await.expect("bytes");
    assert_eq!(ftp.command("ABOR").await.code, 426);
    assert_eq!(ftp.reply().await.code, 226);
    let mut rest = Vec::new();
    assert!(data.read_to_end(&mut rest).await.is_err(), "no clean end");
    assert_eq!(store(&mut ftp, 1, "f", b"x").await.code, 226);
    cluster.stop().await;
}

#[tokio::test]
async fn another_address_gets_nothing_by_way_of_a_relay_and_the_diagnosis_names_it() {
    let cluster = Cluster::start(2, &["PASSIVE__ACCEPT_TIMEOUT=2s"]).await;
    let mut ftp = cluster.login(0).await;
    let port = ftp.epsv().await;
    let stranger = TcpSocket::new_v4().expect("a socket");
    stranger
        .bind(([127, 0, 7, 99], 0).into())
        .expect("a loopback address");
    let stranger = stranger.connect((address(1), port).into()).await;
    assert!(is_reset(&mut stranger.expect("connects")).await);
    // the gateway waits for its own client behind the 150
    assert_eq!(ftp.command("LIST").await.code, 150);
    assert_eq!(ftp.reply().await.code, 425);
    let admin = cluster.gateway(0).admin_address().expect("it is on");
    let page = http::get(admin, "/", &[]).await.body;
    assert!(page.contains("came from 127.0.7.99"), "{page}");
    assert!(page.contains("1 taken from them so far"), "{page}");
    assert_eq!(store(&mut ftp, 1, "f", b"x").await.code, 226);
    cluster.stop().await;
}

#[tokio::test]
async fn a_port_whose_gateway_has_gone_is_reset_in_time() {
    let mut cluster = Cluster::start(2, &["PASSIVE__ACCEPT_TIMEOUT=2s"]).await;
    let gone = cluster.take(0);
    gone.stop().await;
    let port = cluster.first_port;
    let mut socket = TcpStream::connect((address(1), port)).await.expect("bound");
    assert!(is_reset(&mut socket).await);
    let unreachable = "cosgate_handover_relays_total{outcome=\"unreachable\"}";
    assert_eq!(cluster.metric(1, unreachable).await, 1.0);
    cluster.stop().await;
}

#[tokio::test]
async fn a_gateway_that_drains_has_the_data_connections_of_its_sessions_by_way_of_others() {
    let mut cluster = Cluster::start(2, &["DRAIN__DEADLINE=2m", "DRAIN__IDLE=30s"]).await;
    let mut ftp = cluster.login(0).await;
    let draining = cluster.take(0);
    let control = draining.addresses()[0];
    let draining = tokio::spawn(draining.stop());
    eventually("no new session is taken", || async {
        TcpStream::connect(control).await.is_err()
    })
    .await;
    for file in 0..5 {
        let reply = store(&mut ftp, 1, &format!("f{file}"), b"x").await;
        assert_eq!(reply.code, 226);
    }
    assert_eq!(ftp.command("QUIT").await.code, 221);
    draining.await.expect("it ends");
    cluster.stop().await;
}

#[tokio::test]
async fn a_gateway_that_drains_relays_to_the_end_or_to_its_deadline_and_then_resets() {
    for (deadline, is_whole) in [
        ("DRAIN__DEADLINE=2m", true),
        ("DRAIN__DEADLINE=100ms", false),
    ] {
        let settings = ["UPLOAD__ON_INTERRUPT=discard", deadline];
        let mut cluster = Cluster::start(2, &settings).await;
        let mut ftp = cluster.login(0).await;
        let mut data = data(&mut ftp, 1).await;
        assert_eq!(ftp.command("STOR f").await.code, 150);
        let bytes = pattern(1_000_000);
        data.write_all(&bytes).await.expect("writes");
        let relaying = cluster.take(1);
        let control = relaying.addresses()[0];
        let relaying = tokio::spawn(relaying.stop());
        eventually("it drains", || async {
            TcpStream::connect(control).await.is_err()
        })
        .await;
        if is_whole {
            data.write_all(&bytes).await.expect("goes on");
            data.shutdown().await.expect("ends");
            drop(data);
            assert_eq!(ftp.reply().await.code, 226);
            let stored = cluster.store.object("f").await.expect("stored");
            assert_eq!(stored.len(), 2 * bytes.len());
        } else {
            assert!(is_reset(&mut data).await);
            assert_eq!(ftp.reply().await.code, 426);
            assert_eq!(cluster.store.object("f").await, None);
        }
        relaying.await.expect("it ends");
        cluster.stop().await;
    }
}

#[tokio::test]
async fn relays_are_bounded_in_number_and_in_rest() {
    let settings = ["HANDOVER__MAX_CONNECTIONS=1", "HANDOVER__IDLE_TIMEOUT=1s"];
    let cluster = Cluster::start(2, &settings).await;
    let (mut first, mut second) = (cluster.login(0).await, cluster.login(0).await);
    let mut held = data(&mut first, 1).await;
    eventually("it is relayed", || async {
        cluster.metric(1, "cosgate_handover_open").await == 1.0
    })
    .await;
    let mut refused = data(&mut second, 1).await;
    assert!(is_reset(&mut refused).await, "the second");
    assert!(
        is_reset(&mut held).await,
        "the first, on which nothing moves"
    );
    for outcome in ["limit", "idle"] {
        let name = format!("cosgate_handover_relays_total{{outcome=\"{outcome}\"}}");
        eventually("it is counted", || async {
            cluster.metric(1, &name).await == 1.0
        })
        .await;
    }
    cluster.stop().await;
}

#[tokio::test]
async fn one_slice_hands_nothing_over_and_opens_no_port() {
    let port = gateway::free_ports(3);
    let gateway = gateway::start(&[
        &format!("PASSIVE__PORTS={port}-{}", port + 1),
        "PASSIVE__SLICE_SIZE=2",
        "PASSIVE__ORDINAL=0",
        &format!("HANDOVER__LISTEN=127.0.0.1:{}", port + 2),
        "HANDOVER__PEERS=replica-{ordinal}",
        &format!("HANDOVER__KEY={KEY}"),
    ])
    .await;
    let connected = TcpStream::connect(("127.0.0.1", port + 2)).await;
    assert!(connected.is_err());
    gateway.stop().await;
}

#[tokio::test]
async fn a_relayed_transfer_is_limited_once_where_its_session_is() {
    // both gateways have the limit, and the session's alone is to hold
    let cluster = Cluster::start(2, &["LIMITS__DOWNLOAD=1MiB"]).await;
    cluster.store.put_object("f", pattern(12 << 20)).await;
    let mut ftp = cluster.login(0).await;
    let mut data = data(&mut ftp, 1).await;
    assert_eq!(ftp.command("RETR f").await.code, 150);
    let (mut bytes, mut chunk) = (0, vec![0; 64 * 1024]);
    let began = std::time::Instant::now();
    while began.elapsed() < Duration::from_secs(10) {
        bytes += data.read(&mut chunk).await.expect("it goes on");
    }
    let rate = bytes as f64 / began.elapsed().as_secs_f64() / f64::from(1 << 20);
    assert!((rate - 1.0).abs() < 0.05, "{rate} MiB/s");
    let waited = "cosgate_bandwidth_waited_seconds_total{direction=\"sent\"}";
    assert!(cluster.metric(0, waited).await > 5.0);
    assert_eq!(cluster.metric(1, waited).await, 0.0);
    // or the drain would wait for a client that no longer reads
    drop((data, ftp));
    cluster.stop().await;
}
