//! The header before a connection that is handed over: PROXY protocol, version 2, with a proof of its origin.
//!
//! <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>, section 2.2. The proof is one TLV of the range for private use, the
//! last one:
//!
//! | bytes | what |
//! |---|---|
//! | 1 | version, 1 |
//! | 8 | when it was made, in milliseconds of Unix time, big-endian |
//! | 16 | nonce, random |
//! | 32 | HMAC-SHA256 of everything before it, from the header's first byte on |
//!
//! `LOCAL` in the place of `PROXY`, between 0.0.0.0:0 and itself, is nobody's connection. Alone it is a check of the key. With another TLV
//! before the proof (type `0xE1`: a byte 1, and the ordinals of the sender and the receiver in two bytes each, big-endian) a stream of lockout
//! events follows, once the receiver has answered with a challenge.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use ppp::v2::{self, Addresses, Builder, Command, Protocol, Version};
use sha2::Sha256;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// The purpose of a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A data connection.
    Connection {
        /// The client.
        client: SocketAddr,
        /// The address that it connected to; its port names the owner.
        local: SocketAddr,
    },
    /// Nothing: the header is all there is to see.
    Check,
    /// A stream of lockout events.
    Lockouts {
        /// The replica that sends them.
        from: u16,
        /// The replica that they are for: no other one may count them.
        to: u16,
    },
}

/// A header, before it is signed or after it was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub purpose: Purpose,
    pub made: SystemTime,
    pub nonce: Nonce,
}

/// Distinguishes headers that are otherwise the same.
pub(super) type Nonce = [u8; 16];

/// The reason for which a connection to the handover port is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No header, or not in time.
    #[error("it has no header of a gateway")]
    Header,
    /// The proof is wrong.
    #[error("it was made with another handover.key")]
    Key,
    /// The proof is too old, or from the future.
    #[error(
        "its header was not made within the last 30 s; the clocks of the machines differ, or somebody has kept it"
    )]
    Stale,
    /// The header was used before.
    #[error("its header was used before")]
    Replayed,
    /// The port is another gateway's, or none of the passive ports; or a stream is for another gateway, or its sender has this gateway's
    /// ordinal, or one without a slice.
    #[error(
        "its port or number does not fit; the replicas differ in passive.ports, passive.slice_size or handover.peers, or two have the \
         same passive.ordinal"
    )]
    Port,
    /// A message on a stream is not the next one that its sender has written.
    #[error("a message on it was changed, repeated or cut")]
    Message,
    /// There are too many at once.
    #[error("there are too many at once")]
    Busy,
}

impl Refused {
    /// All of them.
    pub const ALL: [Refused; 7] = [
        Refused::Header,
        Refused::Key,
        Refused::Stale,
        Refused::Replayed,
        Refused::Port,
        Refused::Message,
        Refused::Busy,
    ];

    /// One word, for a metric's label.
    pub fn word(self) -> &'static str {
        match self {
            Refused::Header => "header",
            Refused::Key => "key",
            Refused::Stale => "stale",
            Refused::Replayed => "replayed",
            Refused::Port => "port",
            Refused::Message => "message",
            Refused::Busy => "busy",
        }
    }
}

/// The largest difference between the clocks of two gateways, and the time for which a header is valid.
pub(super) const WINDOW: Duration = Duration::from_secs(30);

/// The first type for private use (`PP2_TYPE_MIN_CUSTOM`).
const PROOF: u8 = 0xe0;
/// Raised when what follows changes.
const PROOF_VERSION: u8 = 1;
/// The type of the TLV that introduces a stream of lockout events.
const LOCKOUTS: u8 = 0xe1;
/// Raised when the stream changes.
const LOCKOUTS_VERSION: u8 = 1;
/// Of HMAC with SHA-256.
const MAC_BYTES: usize = 32;
/// The version, a time, a nonce and the MAC.
const PROOF_BYTES: usize = 1 + 8 + 16 + MAC_BYTES;

/// The addresses of a check.
const NOBODY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// Signature, version, family and length.
const FIXED_BYTES: usize = 16;

/// The most that may follow; IPv6 addresses and the proof take 96 bytes.
const MAX_LENGTH: usize = 256;

impl Header {
    /// A header made now.
    pub(super) fn new(purpose: Purpose) -> io::Result<Self> {
        let mut nonce = Nonce::default();
        getrandom::fill(&mut nonce).map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Header {
            purpose,
            made: SystemTime::now(),
            nonce,
        })
    }

    /// The header in bytes, with its proof.
    pub(super) fn sign(&self, key: &[u8]) -> io::Result<Vec<u8>> {
        let millis = self.made.duration_since(UNIX_EPOCH).unwrap_or_default();
        let millis = u64::try_from(millis.as_millis()).unwrap_or(u64::MAX);
        let mut proof = Vec::with_capacity(PROOF_BYTES);
        proof.push(PROOF_VERSION);
        proof.extend_from_slice(&millis.to_be_bytes());
        proof.extend_from_slice(&self.nonce);
        proof.resize(PROOF_BYTES, 0);
        let (command, addresses) = match self.purpose {
            Purpose::Connection { client, local } => {
                (Command::Proxy, (canonical(client), canonical(local)))
            }
            Purpose::Check | Purpose::Lockouts { .. } => (Command::Local, (NOBODY, NOBODY)),
        };
        let mut header =
            Builder::with_addresses(Version::Two | command, Protocol::Stream, addresses);
        if let Purpose::Lockouts { from, to } = self.purpose {
            let ([from_high, from_low], [to_high, to_low]) = (from.to_be_bytes(), to.to_be_bytes());
            let value = [LOCKOUTS_VERSION, from_high, from_low, to_high, to_low];
            header = header.write_tlv(LOCKOUTS, &value)?;
        }
        let mut header = header.write_tlv(PROOF, &proof)?.build()?;
        let signed = header.len() - MAC_BYTES;
        let mac = mac(key, &header[..signed]).finalize().into_bytes();
        header[signed..].copy_from_slice(&mac);
        Ok(header)
    }

    /// Parses a header that was made with the same key, within [`WINDOW`] of `now`. [`Nonces`](super::nonces::Nonces) check
    /// that it was not used before.
    pub(super) fn verify(bytes: &[u8], key: &[u8], now: SystemTime) -> Result<Self, Refused> {
        let header = v2::Header::try_from(bytes).map_err(|_| Refused::Header)?;
        let proof = header
            .tlvs()
            .last()
            .and_then(Result::ok)
            .filter(|tlv| tlv.kind == PROOF)
            .ok_or(Refused::Header)?;
        let proof: &[u8; PROOF_BYTES] = proof
            .value
            .as_ref()
            .try_into()
            .map_err(|_| Refused::Header)?;
        if proof[0] != PROOF_VERSION || header.len() != bytes.len() {
            return Err(Refused::Header);
        }
        let (signed, tag) = bytes.split_at(bytes.len() - MAC_BYTES);
        mac(key, signed)
            .verify_slice(tag)
            .map_err(|_| Refused::Key)?;
        let (millis, nonce) = proof[1..PROOF_BYTES - MAC_BYTES].split_at(8);
        let millis = u64::from_be_bytes(millis.try_into().map_err(|_| Refused::Header)?);
        let made = UNIX_EPOCH
            .checked_add(Duration::from_millis(millis))
            .ok_or(Refused::Stale)?;
        let apart = now
            .duration_since(made)
            .unwrap_or_else(|error| error.duration());
        if apart > WINDOW {
            return Err(Refused::Stale);
        }
        let purpose = match (header.command, &header.addresses) {
            (Command::Local, _) => {
                let lockouts = header
                    .tlvs()
                    .filter_map(Result::ok)
                    .find(|tlv| tlv.kind == LOCKOUTS);
                match lockouts.as_ref().map(|tlv| tlv.value.as_ref()) {
                    None => Purpose::Check,
                    Some(&[LOCKOUTS_VERSION, from_high, from_low, to_high, to_low]) => {
                        Purpose::Lockouts {
                            from: u16::from_be_bytes([from_high, from_low]),
                            to: u16::from_be_bytes([to_high, to_low]),
                        }
                    }
                    Some(_) => return Err(Refused::Header),
                }
            }
            (Command::Proxy, Addresses::IPv4(of)) => Purpose::Connection {
                client: (of.source_address, of.source_port).into(),
                local: (of.destination_address, of.destination_port).into(),
            },
            (Command::Proxy, Addresses::IPv6(of)) => Purpose::Connection {
                client: (of.source_address, of.source_port).into(),
                local: (of.destination_address, of.destination_port).into(),
            },
            (Command::Proxy, Addresses::Unspecified | Addresses::Unix(_)) => {
                return Err(Refused::Header);
            }
        };
        Ok(Header {
            purpose,
            made,
            nonce: nonce.try_into().map_err(|_| Refused::Header)?,
        })
    }
}

/// Reads one header, and no byte of what follows it.
pub(super) async fn read(socket: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut header = vec![0; FIXED_BYTES];
    socket.read_exact(&mut header).await?;
    let length = usize::from(u16::from_be_bytes([header[14], header[15]]));
    if !header.starts_with(v2::PROTOCOL_PREFIX) || length > MAX_LENGTH {
        return Err(io::ErrorKind::InvalidData.into());
    }
    header.resize(FIXED_BYTES + length, 0);
    socket.read_exact(&mut header[FIXED_BYTES..]).await?;
    Ok(header)
}

fn mac(key: &[u8], bytes: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(bytes);
    mac
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8] = b"0123456789abcdef0123456789abcdef";

    fn connection(client: &str, local: &str) -> Purpose {
        Purpose::Connection {
            client: client.parse().expect("an address"),
            local: local.parse().expect("an address"),
        }
    }

    fn header(purpose: Purpose) -> Header {
        let mut header = Header::new(purpose).expect("random bytes");
        // what a millisecond is the smallest unit of
        header.made = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        header
    }

    #[test]
    fn a_header_comes_back_as_it_was() {
        for purpose in [
            connection("192.0.2.1:40000", "10.0.0.7:30005"),
            connection("[2001:db8::1]:40000", "[fd00::7]:30005"),
            Purpose::Check,
            Purpose::Lockouts { from: 258, to: 772 },
        ] {
            let header = header(purpose);
            let bytes = header.sign(KEY).expect("a header");
            assert!(bytes.len() <= FIXED_BYTES + MAX_LENGTH);
            assert_eq!(Header::verify(&bytes, KEY, header.made), Ok(header));
        }
    }

    #[test]
    fn every_changed_bit_and_every_cut_is_refused() {
        let header = header(connection("192.0.2.1:40000", "10.0.0.7:30005"));
        let bytes = header.sign(KEY).expect("a header");
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let refused = Header::verify(&changed, KEY, header.made);
            assert!(
                matches!(refused, Err(Refused::Header | Refused::Key)),
                "bit {bit}: {refused:?}"
            );
        }
        for length in 0..bytes.len() {
            assert_eq!(
                Header::verify(&bytes[..length], KEY, header.made),
                Err(Refused::Header)
            );
        }
        let longer = [&bytes[..], b"x"].concat();
        assert!(Header::verify(&longer, KEY, header.made).is_err());
        let other = header.sign(b"another key, also of 32 bytes...");
        assert_eq!(
            Header::verify(&other.expect("a header"), KEY, header.made),
            Err(Refused::Key)
        );
    }

    #[test]
    fn a_header_is_good_for_thirty_seconds_on_either_side() {
        let header = header(Purpose::Check);
        let bytes = header.sign(KEY).expect("a header");
        for (now, is_good) in [
            (header.made + WINDOW, true),
            (header.made - WINDOW, true),
            (header.made + WINDOW + Duration::from_millis(1), false),
            (header.made - WINDOW - Duration::from_millis(1), false),
        ] {
            assert_eq!(Header::verify(&bytes, KEY, now).is_ok(), is_good);
        }
    }
}
