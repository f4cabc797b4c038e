//! Lines on the control connection (RFC 959, section 5.3): bounded, and without telnet's leftovers. No FTP knowledge.

use std::future::poll_fn;
use std::io::{self, Read};
use std::pin::Pin;
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWriteExt, Interest, ReadBuf};
use tokio::net::TcpStream;

use crate::charset::Charset;
use crate::ftp::reply::Reply;
use crate::net::Stream;

/// The longest line, its end included. Longer than any path that a store can hold.
pub const MAX_LINE: usize = 8 * 1024;

/// Bytes of an over-long line that are thrown away before the session is closed.
const MAX_JUNK: usize = 1024 * 1024;

/// A client that doesn't read its replies for so long is gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// The longest time that the last bytes of a session may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// One line, or the end, of the control connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// A line without its end.
    Text(String),
    /// The same, in bytes that are not UTF-8 (RFC 2640).
    Legacy(Vec<u8>),
    /// Over [`MAX_LINE`]; it has been thrown away up to its end.
    TooLong,
    /// CR or NUL inside the line.
    Malformed,
    /// So much without an end of line that the peer is no FTP client.
    Flood,
    /// The peer has closed.
    End,
}

/// The control connection: lines in, replies out.
#[derive(Debug)]
pub struct Control {
    stream: Stream,
    received: Received,
    /// The charset of replies.
    charset: Charset,
}

/// Bytes that have arrived and are no line yet, a line's length at most.
#[derive(Debug, Default)]
pub(crate) struct Received {
    bytes: BytesMut,
    /// Bytes at the front that hold no line end.
    scanned: usize,
    /// Bytes of the current over-long line thrown away so far; 0 while the line is sound.
    junk: usize,
}

impl Control {
    /// Takes over an accepted connection.
    pub fn new(stream: Stream) -> Self {
        Control {
            stream,
            received: Received::default(),
            charset: Charset::UTF_8,
        }
    }

    /// Sends replies in this charset from now on.
    pub fn encode_in(&mut self, charset: Charset) {
        self.charset = charset;
    }

    /// The connection below.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// True if nothing has arrived that wasn't answered.
    pub fn is_quiet(&self) -> bool {
        self.received.is_empty()
    }

    /// The socket, for a TLS handshake on it; `None` if the client has sent more than it may before that. What was sent
    /// in clear must not count as sent under TLS (the STARTTLS injection of CVE-2011-0411).
    pub fn into_plain(self) -> Option<TcpStream> {
        match self.stream {
            Stream::Plain(socket) if self.received.is_empty() => Some(socket),
            Stream::Plain(_) | Stream::Tls(_) => None,
        }
    }

    /// The next line. Cancel safe: what was read stays here.
    pub async fn next(&mut self) -> io::Result<Line> {
        loop {
            if let Some(line) = self.received.take_line() {
                return Ok(line);
            }
            let received = &mut self.received;
            let read = match &mut self.stream {
                // Not tokio's read: recv() stops at TCP's urgent mark (clients send ABOR with MSG_OOB), and tokio takes
                // that short read for "nothing left", so that the byte behind the mark would wait for the client's next
                // one.
                Stream::Plain(socket) => {
                    let socket = &*socket;
                    let reading = socket.async_io(Interest::READABLE, || {
                        let mut chunk = [0; 2048];
                        let read = (&*SockRef::from(socket)).read(&mut chunk)?;
                        received.push(&chunk[..read]);
                        Ok(read)
                    });
                    reading.await?
                }
                // no client marks bytes of a TLS record as urgent
                Stream::Tls(stream) => {
                    poll_fn(|cx| {
                        let mut chunk = [0; 2048];
                        let mut buffer = ReadBuf::new(&mut chunk);
                        ready!(Pin::new(stream.as_mut()).poll_read(cx, &mut buffer))?;
                        received.push(buffer.filled());
                        Poll::Ready(io::Result::Ok(buffer.filled().len()))
                    })
                    .await?
                }
            };
            if read == 0 {
                return Ok(Line::End);
            }
        }
    }

    /// Sends one reply, bounded in time.
    pub async fn send(&mut self, reply: &Reply) -> io::Result<()> {
        let text = reply.to_string();
        let bytes = self.charset.encode(&text);
        let sending = async {
            self.stream.write_all(&bytes).await?;
            self.stream.flush().await
        };
        tokio::time::timeout(WRITE_TIMEOUT, sending)
            .await
            .map_err(|_| io::ErrorKind::TimedOut)?
    }

    /// Ends the connection so that the last reply still arrives: bytes of the client that nobody read would turn the
    /// close into a reset, and a reset destroys what is on its way to the client.
    pub async fn close(mut self) {
        let closing = async {
            self.stream.shutdown().await?;
            let mut seen = 0;
            while seen < MAX_JUNK {
                // whatever it is, it is thrown away: TLS needs no deciphering for that
                let socket = self.stream.tcp();
                let read = socket
                    .async_io(Interest::READABLE, || {
                        (&*SockRef::from(socket)).read(&mut [0; 2048])
                    })
                    .await?;
                if read == 0 {
                    break;
                }
                seen += read;
            }
            Ok::<_, io::Error>(())
        };
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, closing).await;
    }
}

impl Received {
    /// Takes what has arrived.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// True if nothing is left of what has arrived.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.junk == 0
    }

    /// The next line, if its end has arrived.
    pub(crate) fn take_line(&mut self) -> Option<Line> {
        let Some(at) = self.bytes[self.scanned..]
            .iter()
            .position(|byte| *byte == b'\n')
        else {
            self.scanned = self.bytes.len();
            if self.bytes.len() > MAX_LINE {
                self.junk += self.bytes.len();
                self.bytes = BytesMut::new();
                self.scanned = 0;
            }
            return (self.junk > MAX_JUNK).then_some(Line::Flood);
        };
        let raw = self.bytes.split_to(self.scanned + at + 1);
        self.scanned = 0;
        if self.bytes.is_empty() {
            // an idle session keeps no buffer
            self.bytes = BytesMut::new();
        }
        if std::mem::take(&mut self.junk) > 0 || raw.len() > MAX_LINE {
            return Some(Line::TooLong);
        }
        Some(clean(raw))
    }
}

/// Takes the line end and telnet's commands off a line (RFC 854; "IAC IP IAC DM ABOR" is how RFC 959 wants an urgent
/// ABOR to be sent).
///
/// Telnet's commands stand before a verb. Behind it 0xFF is a letter of a name (ÿ in Latin-1, я in windows-1251, Ъ in KOI8),
/// as most clients send it; others, as lftp, send it twice, as RFC 854 has it for data.
fn clean(mut raw: BytesMut) -> Line {
    const IAC: u8 = 255;
    loop {
        match (raw.first(), raw.get(1)) {
            // WILL, WONT, DO, DONT and their option
            (Some(&IAC), Some(251..=254)) => raw.advance(raw.len().min(3)),
            (Some(&IAC), Some(240..=250)) => raw.advance(2),
            // What is left when the urgent mark parted IAC from its command: IP (244) or DM (242). Nothing of this can
            // begin a verb.
            (Some(&(IAC | 242 | 244)), _) => raw.advance(1),
            _ => break,
        }
    }
    let mut text = Vec::with_capacity(raw.len());
    while raw.has_remaining() {
        match (raw[0], raw.get(1)) {
            (b'\n', _) | (b'\r', Some(b'\n')) => break,
            (b'\r' | 0, _) => return Line::Malformed,
            (byte, next) => {
                text.push(byte);
                let is_doubled = byte == IAC && next == Some(&IAC);
                raw.advance(if is_doubled { 2 } else { 1 });
            }
        }
    }
    String::from_utf8(text).map_or_else(|error| Line::Legacy(error.into_bytes()), Line::Text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::testing::pair;

    async fn lines(sent: &[u8]) -> Vec<Line> {
        let (mut client, server) = pair().await;
        let mut control = Control::new(Stream::Plain(server));
        let sent = sent.to_vec();
        let sending = tokio::spawn(async move { client.write_all(&sent).await });
        let mut lines = Vec::new();
        loop {
            match control.next().await.expect("reads") {
                Line::End => break,
                Line::Flood => {
                    lines.push(Line::Flood);
                    break;
                }
                line => lines.push(line),
            }
        }
        drop(control);
        let _ = sending.await.expect("no panic");
        lines
    }

    fn text(line: &str) -> Line {
        Line::Text(line.to_owned())
    }

    #[tokio::test]
    async fn pipelined_lines_come_one_by_one_and_an_unfinished_one_never() {
        assert_eq!(
            lines(b"USER a\r\nPASS b\nNO").await,
            [text("USER a"), text("PASS b")]
        );
    }

    #[tokio::test]
    async fn spaces_in_names_survive() {
        assert_eq!(lines(b"STOR  a b \r\n").await, [text("STOR  a b ")]);
    }

    #[tokio::test]
    async fn an_over_long_line_is_refused_and_the_next_one_read() {
        let mut sent = vec![b'x'; 3 * MAX_LINE];
        sent.extend_from_slice(b"\r\nNOOP\r\n");
        assert_eq!(lines(&sent).await, [Line::TooLong, text("NOOP")]);
    }

    #[tokio::test]
    async fn the_longest_line_is_not_too_long() {
        let mut sent = vec![b'x'; MAX_LINE - 2];
        sent.extend_from_slice(b"\r\n");
        assert_eq!(lines(&sent).await, [text(&"x".repeat(MAX_LINE - 2))]);
        sent.insert(0, b'x');
        assert_eq!(lines(&sent).await, [Line::TooLong]);
    }

    #[tokio::test]
    async fn a_line_without_end_is_a_flood() {
        assert_eq!(lines(&vec![b'x'; 4 * MAX_JUNK]).await, [Line::Flood]);
    }

    #[tokio::test]
    async fn carriage_return_and_nul_inside_a_line_are_malformed() {
        for sent in [&b"STOR a\rb\r\n"[..], b"STOR a\0b\r\n", b"STOR \xe9\0\r\n"] {
            assert_eq!(lines(sent).await, [Line::Malformed], "{sent:?}");
        }
    }

    #[tokio::test]
    async fn what_is_not_utf8_comes_as_bytes_and_0xff_in_a_name_is_a_letter() {
        for (sent, line) in [
            (&b"STOR a\xe9\r\n"[..], &b"STOR a\xe9"[..]),
            // before a letter, telnet's commands as letters, and the end
            (b"STOR \xffb\r\n", b"STOR \xffb"),
            (
                b"STOR \xff\xf4\xff\xfb\xff\xfea\r\n",
                b"STOR \xff\xf4\xff\xfb\xff\xfea",
            ),
            (b"STOR a\xff\r\n", b"STOR a\xff"),
            (b"STOR a\xff\n", b"STOR a\xff"),
            // as RFC 854 has it
            (b"STOR a\xff\xffb\xff\xff\r\n", b"STOR a\xffb\xff"),
            (b"\xff\xf4\xff\xf2STOR \xf2\xff\r\n", b"STOR \xf2\xff"),
        ] {
            assert_eq!(lines(sent).await, [Line::Legacy(line.to_vec())], "{sent:?}");
        }
    }

    #[tokio::test]
    async fn telnet_commands_are_taken_off() {
        for sent in [
            &b"\xff\xf4\xff\xf2ABOR\r\n"[..],
            b"\xf2ABOR\r\n",
            b"\xff\xfb\x01ABOR\r\n",
            b"\xff\xf4\xffABOR\r\n",
            b"\xff\xff\xf2ABOR\r\n",
        ] {
            assert_eq!(lines(sent).await, [text("ABOR")], "{sent:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_line_panics_and_no_text_has_a_line_end(raw in proptest::collection::vec(0u8..=255, 0..200)) {
            if let Line::Text(text) = clean(BytesMut::from(&raw[..])) {
                proptest::prop_assert!(!text.contains(['\r', '\n', '\0']));
            }
        }
    }
}
