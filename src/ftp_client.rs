//! FTP from the client's side: what `cosgate doctor`, the scenarios and the benchmarks speak with a server.
//!
//! [`Control`] is one control connection over any stream; [`ReplyLines`] makes replies of lines, for who reads them another way.
//!
//! Invariant: whatever the server sends, a reply has at most as many lines as were allowed and its last one, of [`MAX_LINE`] bytes each.

mod reply;

use std::io;
use std::net::SocketAddr;

use secrecy::zeroize::Zeroizing;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};

pub(crate) use self::reply::printable;
pub use self::reply::{Broken, MAX_LINE, MAX_LINES, Reply, ReplyLines};

/// A control connection.
#[derive(Debug)]
pub struct Control<W> {
    /// None once it was closed.
    wire: Option<BufReader<W>>,
    /// The server's end.
    pub peer: SocketAddr,
    max_lines: usize,
    /// A command was sent, and its last reply has not come.
    owes_reply: bool,
}

impl<W: AsyncRead + AsyncWrite + Unpin> Control<W> {
    /// The control connection over `wire`, on which nothing was sent yet.
    pub fn new(wire: W, peer: SocketAddr) -> Self {
        Control {
            wire: Some(BufReader::new(wire)),
            peer,
            max_lines: MAX_LINES,
            owes_reply: false,
        }
    }

    /// Takes replies of up to `lines` lines, instead of [`MAX_LINES`].
    pub fn allow_lines(mut self, lines: usize) -> Self {
        self.max_lines = lines;
        self
    }

    /// True if the next reply would be one to what was asked before: then this connection has had its day.
    pub fn owes_reply(&self) -> bool {
        self.owes_reply
    }

    /// Ends the connection; whatever is asked from now on is answered by [`Broken::Closed`].
    pub fn close(&mut self) {
        self.wire = None;
    }

    /// The stream; none once the connection was closed.
    pub fn wire(&self) -> Option<&W> {
        self.wire.as_ref().map(BufReader::get_ref)
    }

    /// The stream. Bytes that were read ahead of the last reply are lost.
    pub fn into_wire(self) -> Option<W> {
        self.wire.map(BufReader::into_inner)
    }

    /// The same connection over what `wrap` makes of it, TLS. What was sent in clear before is not taken for protected.
    pub async fn wrapped<V: AsyncRead, T>(
        self,
        wrap: impl AsyncFnOnce(W) -> io::Result<(V, T)>,
    ) -> Result<(Control<V>, T), Broken> {
        let wire = self.wire.ok_or(Broken::Closed)?;
        if !wire.buffer().is_empty() {
            return Err(Broken::Injected);
        }
        let (wire, facts) = wrap(wire.into_inner()).await?;
        let control = Control {
            wire: Some(BufReader::new(wire)),
            peer: self.peer,
            max_lines: self.max_lines,
            owes_reply: false,
        };
        Ok((control, facts))
    }

    /// Sends a command and reads its reply. `line` has no line break: who made it has seen to that.
    pub async fn command(&mut self, line: &str) -> Result<Reply, Broken> {
        self.send(line.as_bytes()).await?;
        self.reply().await
    }

    /// Sends a command.
    pub async fn send(&mut self, line: &[u8]) -> Result<(), Broken> {
        self.owes_reply = true;
        // `PASS` lines are among them, and their copy is wiped
        let line = Zeroizing::new([line, b"\r\n"].concat());
        self.send_raw(&line).await
    }

    /// Sends bytes as they are.
    pub async fn send_raw(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        let wire = self.wire.as_mut().ok_or(Broken::Closed)?.get_mut();
        wire.write_all(bytes).await?;
        wire.flush().await?;
        Ok(())
    }

    /// The next reply (RFC 959, section 4.2).
    pub async fn reply(&mut self) -> Result<Reply, Broken> {
        let wire = self.wire.as_mut().ok_or(Broken::Closed)?;
        let mut lines = ReplyLines::new(self.max_lines);
        loop {
            let mut line = Vec::new();
            (&mut *wire)
                .take(MAX_LINE)
                .read_until(b'\n', &mut line)
                .await?;
            if let Some(reply) = lines.push(&line)? {
                self.owes_reply &= reply.code < 200;
                return Ok(reply);
            }
        }
    }
}
