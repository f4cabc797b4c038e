//! The PROXY protocol's header, versions 1 and 2: what a proxy sends ahead of a client's bytes to name the client.
//!
//! Specification: <https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>. The crate `ppp` parses, this module reads: the header
//! and no byte more, since what follows in the same packet belongs to FTP or TLS. Whether the sender may be believed is the caller's
//! matter.
//!
//! Invariant: at most 536 bytes are read, version 1 at most 107, within the time that the caller gives.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crc_fast::{CrcAlgorithm, checksum};
use ppp::{v1, v2};
use tokio::io::{AsyncRead, AsyncReadExt};

/// The content of a header about its connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProxyHeader {
    /// The proxy relays a client's connection.
    Proxied(Proxied),
    /// The proxy speaks for itself (`LOCAL`, a health check), or for a client without an IP address (`UNKNOWN`, `UNSPEC`, `UNIX`).
    Local,
}

/// A relayed connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxied {
    /// The client.
    pub source: SocketAddr,
    /// Where the client connected to: an address of the proxy.
    pub destination: SocketAddr,
    /// Type and value of each TLV, in the order in which they were sent; version 1 has none.
    pub tlvs: Vec<(u8, Vec<u8>)>,
}

/// No header could be read. The connection is of no use any more.
#[derive(Debug, thiserror::Error)]
pub enum HeaderError {
    /// The peer closed or reset the connection without having sent a byte, as health checks of TCP do.
    #[error("it was closed without a byte")]
    Nothing,
    /// The connection ended within the header.
    #[error("it ended within the PROXY header")]
    Cut(#[source] io::Error),
    /// Something else than a header, or one that is damaged.
    #[error("it does not begin with a PROXY header: {0}")]
    Malformed(&'static str),
    /// The header didn't arrive in time.
    #[error("no PROXY header came within {0:?}")]
    TimedOut(Duration),
}

impl HeaderError {
    /// One word, for a metric's label.
    pub fn word(&self) -> &'static str {
        match self {
            HeaderError::Nothing => "nothing",
            HeaderError::Cut(_) => "cut",
            HeaderError::Malformed(_) => "malformed",
            HeaderError::TimedOut(_) => "timeout",
        }
    }
}

impl ProxyHeader {
    /// Reads the header that `connection` begins with, and nothing behind it.
    pub async fn read(
        connection: &mut (impl AsyncRead + Unpin),
        timeout: Duration,
    ) -> Result<Self, HeaderError> {
        tokio::time::timeout(timeout, read(connection))
            .await
            .unwrap_or(Err(HeaderError::TimedOut(timeout)))
    }
}

/// As [`ProxyHeader::read`], for as long as the connection takes.
pub(crate) async fn read(
    connection: &mut (impl AsyncRead + Unpin),
) -> Result<ProxyHeader, HeaderError> {
    let mut header = [0; MAX_V2];
    // the first byte on its own: a health check that ends before it is nothing unusual
    match connection.read(&mut header[..1]).await {
        Ok(1) => {}
        Ok(_) | Err(_) => return Err(HeaderError::Nothing),
    }
    if header[0] != SIGNATURE[0] && header[0] != V1_PREFIX[0] {
        return Err(HeaderError::Malformed("neither version 1 nor 2"));
    }
    // no header of either version is shorter than the signature of version 2
    fill(connection, &mut header[1..SIGNATURE.len()]).await?;
    if header.starts_with(SIGNATURE) {
        let (fixed, rest) = header.split_at_mut(V2_FIXED);
        fill(connection, &mut fixed[SIGNATURE.len()..]).await?;
        let length = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
        let Some(rest) = rest.get_mut(..length) else {
            return Err(HeaderError::Malformed("version 2 with over 536 bytes"));
        };
        fill(connection, rest).await?;
        return parse_v2(&header[..V2_FIXED + length]);
    }
    if !header.starts_with(V1_PREFIX) {
        return Err(HeaderError::Malformed("neither version 1 nor 2"));
    }
    // its length is not announced: byte by byte, so that nothing behind it is taken
    let mut length = SIGNATURE.len();
    while !header[..length].ends_with(b"\r\n") {
        if length == MAX_V1 {
            return Err(HeaderError::Malformed("version 1 with over 107 bytes"));
        }
        fill(connection, &mut header[length..=length]).await?;
        length += 1;
    }
    parse_v1(&header[..length])
}

async fn fill(
    connection: &mut (impl AsyncRead + Unpin),
    buffer: &mut [u8],
) -> Result<(), HeaderError> {
    connection
        .read_exact(buffer)
        .await
        .map(drop)
        .map_err(HeaderError::Cut)
}

fn parse_v1(header: &[u8]) -> Result<ProxyHeader, HeaderError> {
    let parsed = v1::Header::try_from(header)
        .map_err(|_| HeaderError::Malformed("version 1 that does not parse"))?;
    Ok(match parsed.addresses {
        v1::Addresses::Tcp4(v4) => proxied(
            (v4.source_address, v4.source_port),
            (v4.destination_address, v4.destination_port),
            Vec::new(),
        ),
        v1::Addresses::Tcp6(v6) => proxied(
            (v6.source_address, v6.source_port),
            (v6.destination_address, v6.destination_port),
            Vec::new(),
        ),
        v1::Addresses::Unknown => ProxyHeader::Local,
    })
}

fn parse_v2(header: &[u8]) -> Result<ProxyHeader, HeaderError> {
    let parsed = v2::Header::try_from(header)
        .map_err(|_| HeaderError::Malformed("version 2 that does not parse"))?;
    // what a receiver does with LOCAL: it ignores the addresses and whatever follows them
    if parsed.command == v2::Command::Local {
        return Ok(ProxyHeader::Local);
    }
    let tlvs = parsed
        .tlvs()
        .map(|tlv| tlv.map(|tlv| (tlv.kind, tlv.value.into_owned())))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| HeaderError::Malformed("version 2 with a TLV that is cut"))?;
    check_crc(header, &tlvs)?;
    match (parsed.protocol, parsed.addresses) {
        (v2::Protocol::Datagram, _) => Err(HeaderError::Malformed("version 2 for datagrams")),
        (_, v2::Addresses::IPv4(v4)) => Ok(proxied(
            (v4.source_address, v4.source_port),
            (v4.destination_address, v4.destination_port),
            tlvs,
        )),
        (_, v2::Addresses::IPv6(v6)) => Ok(proxied(
            (v6.source_address, v6.source_port),
            (v6.destination_address, v6.destination_port),
            tlvs,
        )),
        (_, v2::Addresses::Unspecified | v2::Addresses::Unix(_)) => Ok(ProxyHeader::Local),
    }
}

/// IPv4 addresses that the proxy mapped into IPv6, since source and destination differ in family, are IPv4 again.
fn proxied<A: Into<IpAddr>>(
    source: (A, u16),
    destination: (A, u16),
    tlvs: Vec<(u8, Vec<u8>)>,
) -> ProxyHeader {
    let [source, destination] = [source, destination]
        .map(|(address, port)| SocketAddr::new(address.into().to_canonical(), port));
    ProxyHeader::Proxied(Proxied {
        source,
        destination,
        tlvs,
    })
}

/// Compares the checksum that a header of version 2 may carry (section 2.2.3): over the whole header, with zeros in its place.
fn check_crc(header: &[u8], tlvs: &[(u8, Vec<u8>)]) -> Result<(), HeaderError> {
    const MISMATCH: HeaderError = HeaderError::Malformed("version 2 with a wrong checksum");
    let Some(index) = tlvs.iter().position(|(kind, _)| *kind == CRC32C) else {
        return Ok(());
    };
    let value: [u8; 4] = tlvs[index].1.as_slice().try_into().map_err(|_| MISMATCH)?;
    // the TLVs end where the header does
    let behind: usize = tlvs[index + 1..].iter().map(tlv_bytes).sum();
    let end = header.len() - behind;
    let mut zeroed = header.to_vec();
    zeroed[end - value.len()..end].fill(0);
    let sum = checksum(CrcAlgorithm::Crc32Iscsi, &zeroed);
    if sum == u64::from(u32::from_be_bytes(value)) {
        Ok(())
    } else {
        Err(MISMATCH)
    }
}

/// The length of a TLV: type, two bytes of length, value.
fn tlv_bytes((_, value): &(u8, Vec<u8>)) -> usize {
    3 + value.len()
}

/// The longest line of version 1: `PROXY UNKNOWN` with two IPv6 addresses of full length.
const MAX_V1: usize = 107;
/// The most bytes that the specification lets senders use: a header of version 2 fits into the smallest segment of TCP.
const MAX_V2: usize = 536;
/// Signature, version and command, family and protocol, and the length of the rest.
const V2_FIXED: usize = 16;
const SIGNATURE: &[u8] = v2::PROTOCOL_PREFIX;
const V1_PREFIX: &[u8] = b"PROXY ";
/// `PP2_TYPE_CRC32C`
const CRC32C: u8 = 0x03;

#[cfg(test)]
mod tests;
