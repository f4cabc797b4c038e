//! The reader on headers of every kind, and on bytes of any kind.

use ppp::v2::{Builder, Command, Protocol, Version};
use proptest::prelude::*;
use tokio::io::AsyncWriteExt as _;

use super::*;

const TIMEOUT: Duration = Duration::from_secs(5);

/// The result of reading `bytes`, and what is left of them.
fn read_from(bytes: &[u8]) -> (Result<ProxyHeader, HeaderError>, &[u8]) {
    let mut left = bytes;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let header = runtime.block_on(ProxyHeader::read(&mut left, TIMEOUT));
    (header, left)
}

/// A header of version 2 for a client at 192.0.2.7:1234, behind which come `tlvs`.
fn v2_header(command: Command, tlvs: &[(u8, &[u8])]) -> Vec<u8> {
    let addresses: (SocketAddr, SocketAddr) = (
        "192.0.2.7:1234".parse().expect("an address"),
        "198.51.100.1:21".parse().expect("an address"),
    );
    let builder = Builder::with_addresses(Version::Two | command, Protocol::Stream, addresses);
    let builder = tlvs.iter().try_fold(builder, |builder, (kind, value)| {
        builder.write_tlv(*kind, value)
    });
    builder
        .and_then(Builder::build)
        .expect("a header of a sound length")
}

/// `header` with the right checksum in the TLV of four bytes at its end.
fn with_crc(mut header: Vec<u8>) -> Vec<u8> {
    let at = header.len() - 4;
    header[at..].fill(0);
    let sum = u32::try_from(checksum(CrcAlgorithm::Crc32Iscsi, &header)).expect("32 bits");
    header[at..].copy_from_slice(&sum.to_be_bytes());
    header
}

fn client(header: Result<ProxyHeader, HeaderError>) -> Proxied {
    match header.expect("a header") {
        ProxyHeader::Proxied(proxied) => proxied,
        ProxyHeader::Local => panic!("it names a client"),
    }
}

#[test]
fn a_line_of_version_1_names_client_and_destination() {
    let (header, left) = read_from(b"PROXY TCP4 192.0.2.7 198.51.100.1 1234 21\r\nUSER alice\r\n");
    let proxied = client(header);
    assert_eq!(proxied.source.to_string(), "192.0.2.7:1234");
    assert_eq!(proxied.destination.to_string(), "198.51.100.1:21");
    assert_eq!(left, b"USER alice\r\n");
    let (header, left) = read_from(b"PROXY TCP6 2001:db8::7 2001:db8::1 1234 21\r\n\r\n");
    assert_eq!(client(header).source.to_string(), "[2001:db8::7]:1234");
    assert_eq!(left, b"\r\n");
}

#[test]
fn version_2_names_client_destination_and_tlvs() {
    let mut bytes = v2_header(Command::Proxy, &[(0xe0, b"key"), (0x04, b"")]);
    bytes.extend(b"\x16\x03\x01");
    let (header, left) = read_from(&bytes);
    let proxied = client(header);
    assert_eq!(proxied.source.to_string(), "192.0.2.7:1234");
    assert_eq!(proxied.destination.to_string(), "198.51.100.1:21");
    assert_eq!(
        proxied.tlvs,
        [(0xe0, b"key".to_vec()), (0x04, b"".to_vec())]
    );
    assert_eq!(left, b"\x16\x03\x01");
}

#[test]
fn an_ipv4_address_mapped_into_ipv6_is_ipv4() {
    let (header, _) = read_from(b"PROXY TCP6 ::ffff:192.0.2.7 2001:db8::1 1234 21\r\n");
    let proxied = client(header);
    assert_eq!(proxied.source.to_string(), "192.0.2.7:1234");
    assert_eq!(proxied.destination.to_string(), "[2001:db8::1]:21");
}

#[test]
fn health_checks_and_clients_without_an_address_are_local() {
    let mut unix = SIGNATURE.to_vec();
    unix.extend([0x21, 0x31, 0, 216]);
    unix.extend([b'/'; 216]);
    let mut unspecified = SIGNATURE.to_vec();
    unspecified.extend([0x21, 0x00, 0, 0]);
    for bytes in [
        b"PROXY UNKNOWN\r\n".to_vec(),
        b"PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n".to_vec(),
        v2_header(Command::Local, &[]),
        unix,
        unspecified,
    ] {
        let (header, left) = read_from(&bytes);
        assert_eq!(header.expect("a header"), ProxyHeader::Local);
        assert_eq!(left, b"");
    }
}

#[test]
fn the_checksum_of_version_2_is_compared() {
    let sound = with_crc(v2_header(
        Command::Proxy,
        &[(0x05, b"unique"), (CRC32C, &[0; 4])],
    ));
    assert!(read_from(&sound).0.is_ok());
    let mut damaged = sound;
    damaged[19] ^= 1;
    let (header, _) = read_from(&damaged);
    let error = header.expect_err("the client's address was damaged");
    assert!(error.to_string().contains("checksum"), "{error}");
}

#[test]
fn what_is_no_header_is_refused_at_its_first_bytes() {
    for bytes in [
        &b"USER alice\r\n"[..],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00\x00",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 1234 65536\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 1234\r\n",
        b"PROXY UDP4 192.0.2.7 198.51.100.1 1234 21\r\n",
        b"PROXYTCP4 192.0.2.7 198.51.100.1 1234 21\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x11\x11\0\0",
    ] {
        let (header, _) = read_from(bytes);
        assert!(
            matches!(header, Err(HeaderError::Malformed(_))),
            "{header:?} of {}",
            bytes.escape_ascii()
        );
    }
}

#[test]
fn a_header_has_536_bytes_at_most_and_one_of_version_1_has_107() {
    let longest = [0; 536 - 16 - 12 - 3];
    let longest = v2_header(Command::Proxy, &[(0xe0, &longest)]);
    assert_eq!(longest.len(), MAX_V2);
    assert!(read_from(&longest).0.is_ok());
    let too_long = [0; 536 - 16 - 12 - 2];
    let too_long = v2_header(Command::Proxy, &[(0xe0, &too_long)]);
    let (header, left) = read_from(&too_long);
    assert!(matches!(header, Err(HeaderError::Malformed(_))));
    assert_eq!(left.len(), too_long.len() - V2_FIXED);
    let endless = format!("PROXY UNKNOWN {}", "x".repeat(1000));
    let (header, left) = read_from(endless.as_bytes());
    assert!(matches!(header, Err(HeaderError::Malformed(_))));
    assert_eq!(left.len(), endless.len() - MAX_V1);
}

#[test]
fn a_connection_that_ends_before_its_header_does_is_known_by_where_it_ended() {
    assert!(matches!(read_from(b"").0, Err(HeaderError::Nothing)));
    let header = v2_header(Command::Proxy, &[(0xe0, b"key")]);
    for end in 1..header.len() {
        let (cut, _) = read_from(&header[..end]);
        assert!(matches!(cut, Err(HeaderError::Cut(_))), "{end}: {cut:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_header_that_comes_in_pieces_is_read_and_a_late_one_is_not() {
    let header = v2_header(Command::Proxy, &[(0xe0, b"key")]);
    for (pause, in_time) in [(100, true), (200, false)] {
        let (mut proxy, mut gateway) = tokio::io::duplex(64);
        let bytes = header.clone();
        let sending = tokio::spawn(async move {
            for byte in bytes {
                tokio::time::sleep(Duration::from_millis(pause)).await;
                if proxy.write_all(&[byte]).await.is_err() {
                    break;
                }
            }
            proxy
        });
        let read = ProxyHeader::read(&mut gateway, TIMEOUT).await;
        match read {
            Ok(_) => assert!(in_time),
            Err(HeaderError::TimedOut(TIMEOUT)) => assert!(!in_time),
            Err(error) => panic!("{error}"),
        }
        drop(gateway);
        sending.await.expect("no panic");
    }
}

/// Bytes that begin as headers do, more often than chance would have it.
fn nearly_a_header() -> impl Strategy<Value = Vec<u8>> {
    let v2 = (any::<u8>(), any::<u8>(), 0_u16..600).prop_map(|(version, family, length)| {
        let mut bytes = SIGNATURE.to_vec();
        // sound values more often than not
        bytes.push(if version < 200 {
            0x20 | (version & 1)
        } else {
            version
        });
        bytes.push(if family < 200 {
            [0x11, 0x21, 0x31, 0][usize::from(family % 4)]
        } else {
            family
        });
        bytes.extend(length.to_be_bytes());
        bytes
    });
    let v1 = "PROXY (TCP4|TCP6|UNKNOWN|[A-Z0-9]{0,8})( [0-9a-f.:]{1,40}){0,3}( [0-9]{1,6}){0,3}(\r\n|\r|\n|)"
        .prop_map(String::into_bytes);
    prop_oneof![v2, v1, Just(Vec::new())]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn no_bytes_panic_and_none_behind_a_header_is_read(
        head in nearly_a_header(),
        tail in prop::collection::vec(any::<u8>(), 0..700),
    ) {
        let bytes = [head, tail].concat();
        let (header, left) = read_from(&bytes);
        let taken = &bytes[..bytes.len() - left.len()];
        prop_assert!(taken.len() <= MAX_V2);
        if header.is_ok() {
            if taken.starts_with(SIGNATURE) {
                let length = usize::from(u16::from_be_bytes([taken[14], taken[15]]));
                prop_assert_eq!(taken.len(), V2_FIXED + length);
            } else {
                prop_assert!(taken.len() <= MAX_V1);
                // the line ends where its first line end is
                let end = taken.windows(2).position(|pair| pair == b"\r\n");
                prop_assert_eq!(end, Some(taken.len() - 2));
            }
            // and again from these bytes alone
            prop_assert_eq!(read_from(taken).0.ok(), header.ok());
        }
    }

    #[test]
    fn what_a_proxy_sends_arrives_and_the_rest_stays(
        source in any::<[u8; 16]>(), port in any::<u16>(), v6 in any::<bool>(), version in 1..=2_u8,
        kind in 0xe0..=0xef_u8, value in prop::collection::vec(any::<u8>(), 0..100),
        rest in prop::collection::vec(any::<u8>(), 0..50),
    ) {
        let (source, destination): (IpAddr, IpAddr) = if v6 {
            (source.into(), "2001:db8::1".parse().expect("an address"))
        } else {
            ([source[0], source[1], source[2], source[3]].into(), "198.51.100.1".parse().expect("an address"))
        };
        let mut bytes = if version == 1 {
            let family = if v6 { 6 } else { 4 };
            format!("PROXY TCP{family} {source} {destination} {port} 21\r\n").into_bytes()
        } else {
            let addresses = (SocketAddr::new(source, port), SocketAddr::new(destination, 21));
            Builder::with_addresses(Version::Two | Command::Proxy, Protocol::Stream, addresses)
                .write_tlv(kind, &value)
                .and_then(Builder::build)
                .expect("a header of a sound length")
        };
        bytes.extend(&rest);
        let (header, left) = read_from(&bytes);
        let proxied = client(header);
        prop_assert_eq!(proxied.source, SocketAddr::new(source.to_canonical(), port));
        prop_assert_eq!(proxied.destination, SocketAddr::new(destination, 21));
        if version == 2 {
            prop_assert_eq!(proxied.tlvs, vec![(kind, value)]);
        }
        prop_assert_eq!(left, &rest[..]);
    }
}
