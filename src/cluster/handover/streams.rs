//! Streams of lockout events, up to their first message: a header, and the receiver's challenge.
//!
//! The key is made of both. The header shows that the sender has the key; it is for one receiver, and good once and for 30 s. The
//! challenge shows that the receiver has not seen this stream before, whatever it has forgotten since, and when the sender began: what
//! was written for another challenge doesn't open, and what comes later than the time since then allows is late.

use std::io;

use secrecy::ExposeSecret;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::header::{Header, Purpose};
use crate::config;
use crate::net::tune;

/// The purpose of the keys of streams.
const LOCKOUT_STREAM: &[u8] = b"cosgate lockout stream";

/// The answer to the header of a stream, from which its key is made: random, so that nothing that was written before it counts.
type Challenge = [u8; 16];

/// A stream of lockout events behind its header and challenge, at either end.
#[derive(Debug)]
pub struct Stream {
    /// The socket.
    pub socket: TcpStream,
    /// The replica at the other end.
    pub ordinal: u16,
    /// A key of this stream alone.
    pub key: [u8; 32],
    /// When the challenge was written, or read.
    pub opened: Instant,
}

/// The reason for which there is no stream to a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreachable {
    /// No gateway runs there: its name has no address, or its machine says that nothing listens.
    Gone,
    /// It may be running.
    Unknown,
    /// Something runs there and takes no stream: the key or the clock differs, it has another version, or doesn't share.
    Unanswered,
}

/// Opens the stream of replica `from` to replica `to` on a new connection. The caller bounds the time.
pub(super) async fn open(
    mut socket: TcpStream,
    from: u16,
    to: u16,
    settings: &config::Handover,
) -> io::Result<Stream> {
    tune(&socket);
    let header = Header::new(Purpose::Lockouts { from, to })?;
    let header = header.sign(settings.key.expose_secret().as_bytes())?;
    socket.write_all(&header).await?;
    let mut challenge = Challenge::default();
    socket.read_exact(&mut challenge).await?;
    Ok(Stream {
        socket,
        ordinal: to,
        key: key(settings, &header, &challenge),
        opened: Instant::now(),
    })
}

/// Answers the header of a stream of replica `from`, which was verified. The caller bounds the time.
pub(super) async fn answer(
    mut socket: TcpStream,
    from: u16,
    header: &[u8],
    settings: &config::Handover,
) -> io::Result<Stream> {
    let mut challenge = Challenge::default();
    getrandom::fill(&mut challenge).map_err(|error| io::Error::other(error.to_string()))?;
    // before it is written: the time on the way back counts as lateness, too
    let opened = Instant::now();
    socket.write_all(&challenge).await?;
    Ok(Stream {
        socket,
        ordinal: from,
        key: key(settings, header, &challenge),
        opened,
    })
}

fn key(settings: &config::Handover, header: &[u8], challenge: &Challenge) -> [u8; 32] {
    settings.derived_key(&[LOCKOUT_STREAM, header, challenge])
}
