//! The messages on a stream of lockout events: sealed, numbered, and small.
//!
//! | bytes | what |
//! |---|---|
//! | 2 | the length of the rest, big-endian |
//! | | sealed with AES-256-GCM and the stream's key; the nonce is the message's number, from 0: |
//! | 1 | flags: 1, events before these were lost; 2, the sender leaves |
//! | 8 | milliseconds since the challenge, big-endian |
//! | 29 each | events: 0 for a failure, 1 for a success; its age in milliseconds (4 bytes); the address (16, IPv4 mapped); the hash of the name (8) |
//! | 16 | the tag |
//!
//! Nothing but the next message of the sender opens: a stream has a key of its own, since its receiver has made the
//! challenge for it alone.

use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::Instant;

use crate::auth::guard::{Event, Outcome};

/// Events in one message; 7.4 KiB.
pub(super) const MAX_EVENTS: usize = 256;

/// An event's outcome, age, address and name.
const EVENT_BYTES: usize = 1 + 4 + 16 + 8;
const HEAD_BYTES: usize = 1 + 8;
const MAX_PLAIN: usize = HEAD_BYTES + MAX_EVENTS * EVENT_BYTES;

const LOST: u8 = 1;
const LEAVES: u8 = 2;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Message {
    /// Events before these were lost.
    pub lost: bool,
    /// The sender has ended its sessions, and stops.
    pub leaves: bool,
    /// Since the sender has read the challenge.
    pub elapsed: Duration,
    /// At most [`MAX_EVENTS`].
    pub events: Vec<Event>,
}

/// One end of a stream's encryption.
pub(super) struct Cipher {
    key: LessSafeKey,
    next: u64,
}

impl Cipher {
    /// For the stream that has this key.
    pub(super) fn new(key: &[u8; 32]) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, key).expect("a key of 32 bytes");
        Cipher {
            key: LessSafeKey::new(key),
            next: 0,
        }
    }

    fn nonce(&mut self) -> Nonce {
        let mut nonce = [0; NONCE_LEN];
        nonce[NONCE_LEN - 8..].copy_from_slice(&self.next.to_be_bytes());
        self.next += 1;
        Nonce::assume_unique_for_key(nonce)
    }

    /// The message in bytes, with its length.
    pub(super) fn seal(&mut self, message: &Message) -> io::Result<Vec<u8>> {
        let mut sealed = message.encoded();
        let nonce = self.nonce();
        self.key
            .seal_in_place_append_tag(nonce, Aad::empty(), &mut sealed)
            .map_err(io::Error::other)?;
        let length = u16::try_from(sealed.len()).map_err(io::Error::other)?;
        Ok([&length.to_be_bytes()[..], &sealed].concat())
    }

    /// Reads the next message. [`io::ErrorKind::InvalidData`]: it is not the one that the sender wrote.
    pub(super) async fn read(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
    ) -> io::Result<Message> {
        let length = usize::from(stream.read_u16().await?);
        if length > MAX_PLAIN + AES_256_GCM.tag_len() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut sealed = vec![0; length];
        stream.read_exact(&mut sealed).await?;
        let nonce = self.nonce();
        let plain = self
            .key
            .open_in_place(nonce, Aad::empty(), &mut sealed)
            .map_err(|_| io::ErrorKind::InvalidData)?;
        Message::decoded(plain).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

impl Message {
    fn encoded(&self) -> Vec<u8> {
        let flag = |is_set, flag| if is_set { flag } else { 0 };
        let flags = flag(self.lost, LOST) | flag(self.leaves, LEAVES);
        let mut bytes = vec![flags];
        let elapsed = u64::try_from(self.elapsed.as_millis()).unwrap_or(u64::MAX);
        bytes.extend(elapsed.to_be_bytes());
        for event in &self.events {
            bytes.push(match event.outcome {
                Outcome::Failure => 0,
                Outcome::Success => 1,
            });
            // what is older counts nowhere: windows are of 7 days at the most
            let age = u32::try_from(event.at.elapsed().as_millis()).unwrap_or(u32::MAX);
            bytes.extend(age.to_be_bytes());
            let address = match event.address {
                IpAddr::V4(address) => address.to_ipv6_mapped(),
                IpAddr::V6(address) => address,
            };
            bytes.extend(address.octets());
            bytes.extend(event.name.to_be_bytes());
        }
        bytes
    }

    fn decoded(bytes: &[u8]) -> Option<Self> {
        let (&flags, rest) = bytes.split_first()?;
        let (elapsed, rest) = rest.split_first_chunk()?;
        let (events, []) = rest.as_chunks::<EVENT_BYTES>() else {
            return None;
        };
        Some(Message {
            lost: flags & LOST != 0,
            leaves: flags & LEAVES != 0,
            elapsed: Duration::from_millis(u64::from_be_bytes(*elapsed)),
            events: events.iter().map(event).collect::<Option<_>>()?,
        })
    }
}

fn event(bytes: &[u8; EVENT_BYTES]) -> Option<Event> {
    let (&outcome, rest) = bytes.split_first()?;
    let (age, rest) = rest.split_first_chunk()?;
    let (address, rest) = rest.split_first_chunk::<16>()?;
    let age = Duration::from_millis(u32::from_be_bytes(*age).into());
    let now = Instant::now();
    Some(Event {
        outcome: match outcome {
            0 => Outcome::Failure,
            1 => Outcome::Success,
            _ => return None,
        },
        address: IpAddr::V6(Ipv6Addr::from(*address)).to_canonical(),
        name: u64::from_be_bytes(rest.try_into().ok()?),
        // a machine that has just started has no such time
        at: now.checked_sub(age).unwrap_or(now),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [7; 32];

    fn message() -> Message {
        let event = |outcome, address: &str, name| Event {
            outcome,
            address: address.parse().expect("an address"),
            name,
            at: Instant::now(),
        };
        Message {
            lost: true,
            leaves: false,
            elapsed: Duration::from_millis(1234),
            events: vec![
                event(Outcome::Failure, "192.0.2.1", 1),
                event(Outcome::Success, "2001:db8::", u64::MAX),
            ],
        }
    }

    async fn read(cipher: &mut Cipher, bytes: &[u8]) -> io::Result<Message> {
        cipher.read(&mut &bytes[..]).await
    }

    #[tokio::test(start_paused = true)]
    async fn messages_come_back_as_they_were_and_ages_take_the_place_of_times() {
        let (mut sender, mut receiver) = (Cipher::new(&KEY), Cipher::new(&KEY));
        for message in [message(), Message::default(), message()] {
            let sealed = sender.seal(&message).expect("seals");
            assert_eq!(read(&mut receiver, &sealed).await.expect("opens"), message);
        }
        let old = message();
        tokio::time::advance(Duration::from_secs(60)).await;
        let sealed = sender.seal(&old).expect("seals");
        tokio::time::advance(Duration::from_secs(1)).await;
        let opened = read(&mut receiver, &sealed).await.expect("opens");
        assert_eq!(opened.events[0].at.elapsed(), Duration::from_secs(60));
        let full = Message {
            events: vec![message().events[0]; MAX_EVENTS],
            ..message()
        };
        let sealed = sender.seal(&full).expect("seals");
        assert_eq!(read(&mut receiver, &sealed).await.expect("opens"), full);
    }

    #[tokio::test(start_paused = true)]
    async fn changed_repeated_swapped_and_foreign_messages_do_not_open_and_show_nothing() {
        let first = Cipher::new(&KEY).seal(&message()).expect("seals");
        for bit in 16..first.len() * 8 {
            let mut changed = first.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let opened = read(&mut Cipher::new(&KEY), &changed).await;
            let error = opened.expect_err("changed");
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "bit {bit}");
        }
        let mut receiver = Cipher::new(&KEY);
        assert!(read(&mut receiver, &first).await.is_ok());
        assert!(read(&mut receiver, &first).await.is_err(), "repeated");
        let mut sender = Cipher::new(&KEY);
        let (_, second) = (sender.seal(&message()), sender.seal(&message()));
        let second = second.expect("seals");
        assert!(
            read(&mut Cipher::new(&KEY), &second).await.is_err(),
            "swapped"
        );
        assert!(read(&mut Cipher::new(&[8; 32]), &first).await.is_err());
        assert!(read(&mut Cipher::new(&KEY), &[0xff; 70_000]).await.is_err());
        assert!(!first.windows(4).any(|bytes| bytes == [192, 0, 2, 1]));
    }
}
