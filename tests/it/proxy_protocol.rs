//! Clients behind a proxy that names them by the PROXY protocol, and those who only say so.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::configuration::Program;
use crate::support::http::get;
use crate::support::tls::Authority;
use crate::support::{Ftp, Relay, TestGateway, eventually, pattern, users};

/// The proxy. What comes from other addresses of the loopback network is no proxy's.
const PROXY: [u8; 4] = [127, 0, 0, 9];
const TRUSTED: &str = "PROXY_PROTOCOL__TRUSTED=127.0.0.9";
/// Where the header says that the client connected to.
const PUBLIC: [u8; 4] = [203, 0, 113, 1];

/// A proxy that sends this header.
fn relay(header: impl Into<Vec<u8>>) -> Relay {
    Relay {
        from: PROXY,
        header: header.into(),
    }
}

/// A proxy that speaks version 1, for the client at this IPv4 address.
fn v1(client: &str) -> Relay {
    relay(format!("PROXY TCP4 {client} 203.0.113.1 40000 21\r\n"))
}

/// The same in version 2 with `tlvs` behind the addresses.
fn v2(client: [u8; 4], destination: [u8; 4], tlvs: &[u8]) -> Relay {
    let ports = [40000_u16.to_be_bytes(), 21_u16.to_be_bytes()].concat();
    relay(binary(
        0x21,
        0x11,
        &[&client[..], &destination, &ports, tlvs].concat(),
    ))
}

/// A header of version 2.
fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).expect("a short header");
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([command, family]);
    header.extend(length.to_be_bytes());
    header.extend(rest);
    header
}

/// A client through `relay` that has logged in as `demo`.
async fn login(gateway: &TestGateway, relay: &Relay) -> Ftp {
    let mut ftp = Ftp::connect_through(relay, gateway.address()).await;
    ftp.login("demo", &gateway.password).await;
    ftp
}

/// The reply to a login through `relay`.
async fn try_login(gateway: &TestGateway, relay: &Relay, user: &str, password: &str) -> u16 {
    let mut ftp = Ftp::connect_through(relay, gateway.address()).await;
    ftp.try_login(user, password).await.code
}

/// Waits until the gateway has closed `socket`, and checks that it sent nothing.
async fn is_closed_without_a_word(mut socket: TcpStream) {
    let mut bytes = Vec::new();
    let reading = socket.read_to_end(&mut bytes);
    // a reset is an end, too
    let _ = tokio::time::timeout(Duration::from_secs(60), reading)
        .await
        .expect("the gateway closes it");
    assert_eq!(bytes, b"");
}

async fn metrics(gateway: &TestGateway) -> String {
    let admin = gateway.gateway.admin_address().expect("it is on");
    get(admin, "/metrics", &[]).await.body
}

#[tokio::test]
async fn transfers_work_behind_a_proxy_of_either_version() {
    let gateway = TestGateway::with(&[TRUSTED]).await;
    let bytes = pattern(300_000);
    // the name that the client asked for, and a TLV of the proxy's own
    let with_tlvs = b"\x02\x00\x0bftp.example\xe0\x00\x01x";
    for relay in [
        v1("192.0.2.7"),
        v2([192, 0, 2, 8], PUBLIC, b""),
        v2([192, 0, 2, 9], PUBLIC, with_tlvs),
    ] {
        let mut ftp = login(&gateway, &relay).await;
        assert_eq!(ftp.store("STOR file", &bytes).await.code, 226);
        assert!(ftp.fetch("RETR file").await.0 == bytes);
        assert!(ftp.listing("LIST").await.contains("file"));
        assert_eq!(ftp.command("DELE file").await.code, 250);
    }
    gateway.stop().await;
}

#[tokio::test]
async fn clients_of_one_proxy_share_passive_ports_and_get_their_own_data() {
    let gateway = TestGateway::with(&[TRUSTED]).await;
    let mut clients = Vec::new();
    for number in 1..=12_u8 {
        let relay = v2([192, 0, 2, number], PUBLIC, b"");
        let mut ftp = login(&gateway, &relay).await;
        let data = ftp.data().await;
        clients.push((number, ftp, data));
    }
    for (number, ftp, data) in &mut clients {
        ftp.send(format!("STOR file-{number}")).await;
        data.write_all(&[*number; 1000]).await.expect("sends");
    }
    for (number, mut ftp, data) in clients {
        drop(data);
        assert_eq!(ftp.reply().await.code, 150);
        assert_eq!(ftp.reply().await.code, 226);
        let stored = gateway.object(&format!("file-{number}")).await;
        assert_eq!(stored, Some(vec![number; 1000]));
    }
    gateway.stop().await;
}

#[tokio::test]
async fn what_follows_the_header_in_its_packet_is_not_lost() {
    let gateway = TestGateway::with(&[TRUSTED]).await;
    for header in [
        v1("192.0.2.7").header,
        v2([192, 0, 2, 7], PUBLIC, b"").header,
    ] {
        let early = relay([header.as_slice(), b"USER demo\r\n"].concat());
        let mut ftp = Ftp::connect_through(&early, gateway.address()).await;
        assert_eq!(ftp.reply().await.code, 331);
        let password = format!("PASS {}", gateway.password);
        assert_eq!(ftp.command(&password).await.code, 230);
        let address = (gateway.address().ip(), ftp.epsv().await).into();
        let early = relay([header.as_slice(), b"the whole file"].concat());
        drop(early.connect(address).await);
        assert_eq!(ftp.command("STOR file").await.code, 150);
        assert_eq!(ftp.reply().await.code, 226);
        let stored = gateway.object("file").await;
        assert_eq!(stored.as_deref(), Some(&b"the whole file"[..]));
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_header_that_comes_byte_by_byte_is_read() {
    let gateway = TestGateway::with(&[TRUSTED]).await;
    for header in [
        v1("192.0.2.7").header,
        v2([192, 0, 2, 7], PUBLIC, b"").header,
    ] {
        let mut socket = relay("").connect(gateway.address()).await;
        for byte in header {
            socket.write_all(&[byte]).await.expect("sends");
            tokio::task::yield_now().await;
        }
        let mut greeting = [0; 4];
        socket.read_exact(&mut greeting).await.expect("a greeting");
        assert_eq!(&greeting, b"220 ");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn the_log_names_the_client_and_nothing_is_logged_of_health_checks() {
    let program = Program::start(&[
        ("COSGATE_PROXY_PROTOCOL__TRUSTED", "127.0.0.9"),
        ("COSGATE_ADMIN__LISTEN", "127.0.0.1:0"),
    ]);
    let before = program.output();
    let unix = binary(0x21, 0x31, &[b'/'; 216]);
    for header in [
        b"PROXY UNKNOWN\r\n".to_vec(),
        binary(0x20, 0x00, b""),
        // a check from the proxy's own address
        binary(0x20, 0x11, &[127, 0, 0, 9, 127, 0, 0, 1, 0, 1, 0, 21]),
        binary(0x21, 0x00, b""),
        unix,
    ] {
        is_closed_without_a_word(relay(header).connect(program.address).await).await;
    }
    // the check of a balancer that only connects
    drop(relay("").connect(program.address).await);
    let mut ftp = Ftp::connect_through(&v1("192.0.2.7"), program.address).await;
    ftp.login("demo", &program.password).await;
    let passive = (program.address.ip(), ftp.epsv().await).into();
    is_closed_without_a_word(relay("PROXY UNKNOWN\r\n").connect(passive).await).await;
    assert_eq!(ftp.store("STOR file", b"bytes").await.code, 226);
    let logged = || program.output()[before.len()..].to_owned();
    eventually("the transfer is logged", async || logged().contains("STOR")).await;
    let lines = logged();
    let lines: Vec<serde_json::Value> = lines
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter(|line: &serde_json::Value| line["level"] != "INFO" || !line["client"].is_null())
        .collect();
    assert_eq!(lines.len(), 2, "the login and the transfer: {lines:?}");
    for line in &lines {
        assert_eq!(line["client"], "192.0.2.7:40000", "{line}");
    }
    let admin = program.admin.expect("it is on");
    let metrics = get(admin, "/metrics", &[]).await.body;
    for reason in ["timeout", "malformed", "cut", "waiting"] {
        let none = format!("cosgate_proxy_headers_refused_total{{reason=\"{reason}\"}} 0");
        assert!(metrics.contains(&none), "{metrics}");
    }
    let wrong = "cosgate_logins_total{result=\"wrong\"} 1";
    assert!(!metrics.contains(wrong), "{metrics}");
}

#[tokio::test]
async fn a_proxy_without_a_header_is_closed_after_five_seconds_at_most_and_counted() {
    let gateway = TestGateway::with(&[TRUSTED, "ADMIN__LISTEN=127.0.0.1:0"]).await;
    let begun = Instant::now();
    let silent = relay("").connect(gateway.address()).await;
    let slow = relay("PROXY TCP4 192.0.2.7")
        .connect(gateway.address())
        .await;
    for garbage in [
        b"USER demo\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.7 203.0.113.1 40000\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.300 203.0.113.1 40000 21\r\n".to_vec(),
        [b"PROXY TCP4 ", &[b'1'; 100][..]].concat(),
        // longer than any header may be
        binary(0x21, 0x11, &[0; 521]),
        binary(0x11, 0x11, &[0; 12]),
        binary(0x21, 0x12, &[0; 12]),
        // a TLV that is longer than the rest
        v2([192, 0, 2, 7], PUBLIC, b"\x02\x00\xff").header,
        // a wrong checksum
        v2([192, 0, 2, 7], PUBLIC, b"\x03\x00\x04\0\0\0\0").header,
        pattern(2000),
    ] {
        is_closed_without_a_word(relay(garbage).connect(gateway.address()).await).await;
    }
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "at their first bytes"
    );
    is_closed_without_a_word(silent).await;
    is_closed_without_a_word(slow).await;
    assert!(begun.elapsed() >= Duration::from_secs(5), "not before");
    let mut cut = relay("PROXY TCP4 192.0.2.7")
        .connect(gateway.address())
        .await;
    cut.shutdown().await.expect("half closes");
    is_closed_without_a_word(cut).await;
    let metrics = metrics(&gateway).await;
    for (reason, count) in [("malformed", 10), ("timeout", 2), ("cut", 1)] {
        let line = format!("cosgate_proxy_headers_refused_total{{reason=\"{reason}\"}} {count}");
        assert!(metrics.contains(&line), "{line} in {metrics}");
    }
    login(&gateway, &v1("192.0.2.7")).await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_header_from_elsewhere_is_a_wrong_command_of_an_ordinary_client() {
    let list = users(&["name: far, allow_from: 192.0.2.0/24", "name: near"]);
    let gateway = TestGateway::with(&[TRUSTED, &format!("USERS={list}")]).await;
    let elsewhere = |header: Vec<u8>| Relay {
        from: [127, 0, 0, 1],
        header,
    };
    let forged = elsewhere(v1("192.0.2.7").header);
    let mut ftp = Ftp::connect_through(&forged, gateway.address()).await;
    assert_eq!(ftp.reply().await.code, 500, "the header");
    ftp.command("USER far").await;
    assert_eq!(ftp.command("PASS secret").await.code, 530);
    ftp.login("near", "secret").await;
    let forged = elsewhere(v2([192, 0, 2, 7], PUBLIC, b"").header);
    let mut ftp = Ftp::connect_through(&forged, gateway.address()).await;
    // it looks like lines of nothing, of garbage and QUIT
    let mut last = 0;
    while let Some(reply) = ftp.try_reply().await {
        last = reply.code;
    }
    assert_eq!(last, 221);
    gateway.stop().await;
}

#[tokio::test]
async fn no_forged_header_reaches_the_data_connection_of_another_client() {
    let gateway = TestGateway::with(&[TRUSTED]).await;
    let owner = v1("192.0.2.7");
    let mut ftp = login(&gateway, &owner).await;
    let passive: SocketAddr = (gateway.address().ip(), ftp.epsv().await).into();
    // from an address that is no proxy's, whatever it says; and from the proxy for another client
    let forged = Relay {
        from: [127, 0, 0, 1],
        header: owner.header.clone(),
    };
    is_closed_without_a_word(forged.connect(passive).await).await;
    is_closed_without_a_word(v1("192.0.2.8").connect(passive).await).await;
    // the client's own connection is still waited for
    let mut data = owner.connect(passive).await;
    assert_eq!(ftp.command("STOR file").await.code, 150);
    data.write_all(b"its own").await.expect("sends");
    drop(data);
    assert_eq!(ftp.reply().await.code, 226);
    let stored = gateway.object("file").await;
    assert_eq!(stored.as_deref(), Some(&b"its own"[..]));
    gateway.stop().await;
}

#[tokio::test]
async fn a_client_that_connects_by_itself_needs_no_header() {
    let gateway = TestGateway::with(&[TRUSTED]).await;
    let mut ftp = gateway.login().await;
    assert_eq!(ftp.store("STOR file", b"bytes").await.code, 226);
    assert_eq!(ftp.fetch("RETR file").await.0, b"bytes");
    gateway.stop().await;
}

#[tokio::test]
async fn guessing_through_a_proxy_locks_its_client_out_and_no_other() {
    let gateway = TestGateway::with(&[
        TRUSTED,
        &format!("USERS={}", users(&["name: alice"])),
        "AUTH__LOCKOUT__PER_ADDRESS=2",
        "AUTH__LOCKOUT__DELAY=10ms",
    ])
    .await;
    let (guesser, other) = (v1("192.0.2.7"), v2([192, 0, 2, 8], PUBLIC, b""));
    for _ in 0..2 {
        assert_eq!(try_login(&gateway, &guesser, "alice", "wrong").await, 530);
    }
    assert_eq!(try_login(&gateway, &guesser, "alice", "secret").await, 421);
    assert_eq!(try_login(&gateway, &other, "alice", "secret").await, 230);
    gateway.stop().await;
}

#[tokio::test]
async fn limits_per_address_count_clients_and_not_their_proxy() {
    let gateway = TestGateway::with(&[TRUSTED, "SESSIONS__MAX_PER_IP=1"]).await;
    let first = login(&gateway, &v1("192.0.2.7")).await;
    let mut second = Ftp::connect_silently_through(&v1("192.0.2.7"), gateway.address()).await;
    assert_eq!(second.reply().await.code, 421);
    login(&gateway, &v1("192.0.2.8")).await;
    drop(first);
    gateway.stop().await;
}

#[tokio::test]
async fn allow_from_means_the_client() {
    let list = users(&[
        "name: outside, allow_from: 192.0.2.0/24",
        // where the proxy is
        "name: inside, allow_from: 127.0.0.0/8",
    ]);
    let gateway = TestGateway::with(&[
        TRUSTED,
        &format!("USERS={list}"),
        "AUTH__LOCKOUT__DELAY=10ms",
    ])
    .await;
    let (near, far) = (v1("192.0.2.7"), v1("198.51.100.7"));
    assert_eq!(try_login(&gateway, &near, "outside", "secret").await, 230);
    assert_eq!(try_login(&gateway, &far, "outside", "secret").await, 530);
    assert_eq!(try_login(&gateway, &near, "inside", "secret").await, 530);
    gateway.stop().await;
}

#[tokio::test]
async fn pasv_replies_with_the_headers_destination_if_it_is_public() {
    let gateway = TestGateway::with(&[TRUSTED, "PROXY_PROTOCOL__MASQUERADE=true"]).await;
    let own = [127, 0, 0, 1];
    for (destination, told) in [(PUBLIC, PUBLIC), ([10, 0, 0, 5], own), (own, own)] {
        let relay = v2([192, 0, 2, 7], destination, b"");
        let mut ftp = login(&gateway, &relay).await;
        let (address, port) = ftp.pasv().await.expect("an address");
        assert_eq!(address.octets(), told);
        let mut data = relay.connect((own, port).into()).await;
        ftp.send("NLST").await;
        assert_eq!(ftp.reply().await.code, 150);
        data.read_to_end(&mut Vec::new()).await.expect("a listing");
        assert_eq!(ftp.reply().await.code, 226);
    }
    let (address, _) = gateway.login().await.pasv().await.expect("an address");
    assert_eq!(address.octets(), own, "a client without a proxy");
    gateway.stop().await;
}

#[tokio::test]
async fn without_the_switch_pasv_replies_with_what_is_configured() {
    let gateway = TestGateway::with(&[TRUSTED, "MASQUERADE_ADDRESS=198.51.100.1"]).await;
    let mut ftp = login(&gateway, &v1("192.0.2.7")).await;
    let (address, _) = ftp.pasv().await.expect("an address");
    assert_eq!(address.octets(), [198, 51, 100, 1]);
    gateway.stop().await;
}

#[tokio::test]
async fn a_client_that_reached_the_proxy_by_ipv6_uses_epsv() {
    let gateway = TestGateway::with(&[TRUSTED]).await;
    let relay = relay("PROXY TCP6 2001:db8::7 2001:db8::1 40000 21\r\n");
    let mut ftp = login(&gateway, &relay).await;
    assert_eq!(ftp.command("PASV").await.code, 425);
    assert_eq!(ftp.command("EPSV 1").await.code, 522);
    assert_eq!(ftp.command("EPSV 2").await.code, 229);
    assert_eq!(ftp.store("STOR file", b"bytes").await.code, 226);
    gateway.stop().await;
}

#[tokio::test]
async fn tls_begins_behind_the_header() {
    let authority = Authority::new();
    let settings = [TRUSTED, "TLS__IMPLICIT_LISTEN=127.0.0.1:0"];
    let gateway = TestGateway::with_tls(&authority, &settings).await;
    let [explicit, implicit] = gateway.gateway.addresses() else {
        panic!("two control ports")
    };
    let client = authority.client();
    for relay in [v1("192.0.2.7"), v2([192, 0, 2, 7], PUBLIC, b"")] {
        let ftp = Ftp::connect_through(&relay, *explicit).await;
        let mut ftp = ftp.secure(&client).await.expect("a handshake");
        ftp.login("demo", &gateway.password).await;
        ftp.protect(&client).await;
        assert_eq!(ftp.store("STOR file", b"bytes").await.code, 226);
        let mut ftp = Ftp::connect_implicitly_through(&relay, *implicit, &client).await;
        ftp.login("demo", &gateway.password).await;
        assert_eq!(ftp.fetch("RETR file").await.0, b"bytes");
    }
    is_closed_without_a_word(relay("PROXY UNKNOWN\r\n").connect(*implicit).await).await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_passive_port_that_the_proxy_relays_without_a_header_is_named_as_the_cause() {
    let program = Program::start(&[
        ("COSGATE_PROXY_PROTOCOL__TRUSTED", "127.0.0.9"),
        ("COSGATE_PASSIVE__ACCEPT_TIMEOUT", "1s"),
    ]);
    let mut ftp = Ftp::connect_through(&v1("192.0.2.7"), program.address).await;
    ftp.login("demo", &program.password).await;
    let passive = (program.address.ip(), ftp.epsv().await).into();
    is_closed_without_a_word(relay("bytes of a file").connect(passive).await).await;
    ftp.send("STOR file").await;
    let mut codes = Vec::new();
    while codes.last() != Some(&425) {
        codes.push(ftp.reply().await.code);
    }
    let words =
        "came from 127.0.0.9, which is in proxy_protocol.trusted, and began with no PROXY header";
    eventually("the cause is logged", async || {
        program.output().contains(words)
    })
    .await;
}

#[tokio::test]
async fn a_proxy_that_sends_nothing_keeps_nobody_else_out() {
    let trusted = "PROXY_PROTOCOL__TRUSTED=127.0.0.8/31";
    let gateway =
        TestGateway::with(&[trusted, "ADMIN__LISTEN=127.0.0.1:0", "SESSIONS__MAX=10"]).await;
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(relay("").connect(gateway.address()).await);
    }
    eventually("those beyond the limit are closed", async || {
        metrics(&gateway)
            .await
            .contains("cosgate_proxy_headers_refused_total{reason=\"waiting\"} 72")
    })
    .await;
    let other = Relay {
        from: [127, 0, 0, 8],
        ..v1("192.0.2.7")
    };
    let mut ftp = login(&gateway, &other).await;
    assert_eq!(ftp.store("STOR file", b"bytes").await.code, 226);
    let mut direct = gateway.login().await;
    assert_eq!(direct.fetch("RETR file").await.0, b"bytes");
    drop(silent);
    gateway.stop().await;
}
