//! The PROXY protocol's header.

use std::net::SocketAddr;

use futures::FutureExt as _;
use ppp::v2::{Builder, Command, Protocol, Type, Version};

use crate::proxy_protocol::header::{self, HeaderError, Proxied, ProxyHeader};

/// The longest header of either version.
const LONGEST: usize = 536;

/// - A header is read to its end and no byte further, whatever follows it.
/// - No header cut anywhere is one.
/// - A header is at most 536 bytes long, one of version 1 at most 107.
/// - What it says can be written as one of version 2 that says the same.
pub fn proxy_header(input: &[u8]) {
    let (parsed, taken) = read(input);
    assert!(taken <= LONGEST, "{taken} bytes");
    let Ok(parsed) = parsed else {
        return;
    };
    if input.starts_with(b"PROXY ") {
        assert!(taken <= 107 && input[..taken].ends_with(b"\r\n"));
    }
    let (alone, all) = read(&input[..taken]);
    assert_eq!((alone.ok().as_ref(), all), (Some(&parsed), taken));
    for end in [0, 1, taken / 2, taken - 1] {
        assert!(read(&input[..end]).0.is_err(), "cut at {end}");
    }
    if let ProxyHeader::Proxied(proxied) = parsed {
        assert_eq!(proxied.source.ip(), proxied.source.ip().to_canonical());
        written_anew(proxied);
    }
}

/// The header at the beginning of `bytes`, and the number of bytes that were read for it.
fn read(bytes: &[u8]) -> (Result<ProxyHeader, HeaderError>, usize) {
    let mut rest = bytes;
    let read = header::read(&mut rest).now_or_never();
    let read = read.expect("bytes in memory are there at once");
    (read, bytes.len() - rest.len())
}

fn written_anew(proxied: Proxied) {
    let addresses = match (proxied.source, proxied.destination) {
        (SocketAddr::V4(_), SocketAddr::V4(_)) | (SocketAddr::V6(_), SocketAddr::V6(_)) => {
            ppp::v2::Addresses::from((proxied.source, proxied.destination))
        }
        // one of them was mapped into IPv6
        _ => return,
    };
    let builder =
        Builder::with_addresses(Version::Two | Command::Proxy, Protocol::Stream, addresses);
    // a checksum is that of the header it stood in
    let is_other = |(kind, _): &&(u8, Vec<u8>)| *kind != u8::from(Type::CRC32C);
    let tlvs: Vec<(u8, Vec<u8>)> = proxied.tlvs.iter().filter(is_other).cloned().collect();
    let written = tlvs.iter().try_fold(builder, |builder, (kind, value)| {
        builder.write_tlv(*kind, value)
    });
    let written = written.and_then(Builder::build).expect("it fitted before");
    let again = ProxyHeader::Proxied(Proxied { tlvs, ..proxied });
    if written.len() <= LONGEST {
        assert_eq!(read(&written).0.ok(), Some(again));
    }
}
