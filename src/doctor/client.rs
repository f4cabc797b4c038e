//! One control connection, as a client has it, careful with what the other side sends.
//!
//! Invariant: whatever the server sends, a reply has at most [`MAX_LINES`] lines of [`MAX_LINE`] bytes.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::report::printable;

/// Any way bytes go: TCP, or TLS over it.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

pub(super) type Wire = Box<dyn Duplex>;

/// A control connection.
pub(super) struct Control {
    wire: BufReader<Wire>,
    /// The server's end.
    pub peer: SocketAddr,
    /// A command was sent, and its last reply has not come.
    owes_reply: bool,
}

/// One reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    pub code: u16,
    /// Its lines, the code of the first and the last one removed.
    pub lines: Vec<String>,
}

/// The control connection is of no use any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error("the server closed the connection")]
    Closed,
    #[error("the connection broke")]
    Lost(#[from] io::Error),
    #[error("this is no FTP reply: {0}")]
    NotFtp(String),
    #[error("the reply is longer than any server's")]
    TooLong,
    #[error("the server sent more than was asked for before TLS began")]
    Injected,
}

impl Control {
    pub fn new(socket: TcpStream) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        let peer = socket.peer_addr()?;
        Ok(Control {
            wire: BufReader::new(Box::new(socket)),
            peer,
            owes_reply: false,
        })
    }

    /// True if the next reply would be one to what was asked before: then this connection has had its day.
    pub fn owes_reply(&self) -> bool {
        self.owes_reply
    }

    /// Ends the connection; whatever is asked from now on is answered by [`Broken::Closed`].
    pub fn close(&mut self) {
        self.wire = BufReader::new(Box::new(tokio::io::empty()));
    }

    /// The same connection over what `wrap` makes of it, TLS. What was sent in clear before is not taken for protected.
    pub async fn wrapped<T>(
        self,
        wrap: impl AsyncFnOnce(Wire) -> io::Result<(Wire, T)>,
    ) -> Result<(Self, T), Broken> {
        if !self.wire.buffer().is_empty() {
            return Err(Broken::Injected);
        }
        let (wire, facts) = wrap(self.wire.into_inner()).await?;
        let control = Control {
            wire: BufReader::new(wire),
            peer: self.peer,
            owes_reply: false,
        };
        Ok((control, facts))
    }

    /// Sends a command and reads its reply. `line` has no line break: who made it has seen to that.
    pub async fn command(&mut self, line: &str) -> Result<Reply, Broken> {
        self.send(line).await?;
        self.reply().await
    }

    pub async fn send(&mut self, line: &str) -> Result<(), Broken> {
        self.owes_reply = true;
        let line = zeroizing(line);
        self.wire.get_mut().write_all(line.as_bytes()).await?;
        self.wire.get_mut().flush().await?;
        Ok(())
    }

    /// The next reply (RFC 959, section 4.2).
    pub async fn reply(&mut self) -> Result<Reply, Broken> {
        let first = self.line().await?;
        let not_ftp = || Broken::NotFtp(printable(&first));
        let code = first.get(..3).ok_or_else(not_ftp)?;
        let (code, mark) = match (code.parse(), first.as_bytes().get(3)) {
            (Ok(code @ 100..=699), None | Some(b' ' | b'-')) => (code, first.as_bytes().get(3)),
            _ => return Err(not_ftp()),
        };
        let mut lines = vec![first.get(4..).unwrap_or_default().to_owned()];
        if mark == Some(&b'-') {
            let end = format!("{code} ");
            loop {
                let line = self.line().await?;
                if let Some(last) = line.strip_prefix(&end) {
                    lines.push(last.to_owned());
                    break;
                }
                if lines.len() == MAX_LINES {
                    return Err(Broken::TooLong);
                }
                lines.push(line);
            }
        }
        self.owes_reply &= code < 200;
        Ok(Reply { code, lines })
    }

    async fn line(&mut self) -> Result<String, Broken> {
        let mut line = Vec::new();
        let mut bounded = (&mut self.wire).take(MAX_LINE);
        bounded.read_until(b'\n', &mut line).await?;
        match line.last() {
            None => Err(Broken::Closed),
            Some(b'\n') => Ok(String::from_utf8_lossy(&line).trim_end().to_owned()),
            Some(_) if line.len() as u64 == MAX_LINE => Err(Broken::TooLong),
            Some(_) => Err(Broken::NotFtp(printable(&String::from_utf8_lossy(&line)))),
        }
    }
}

/// The line as it is sent; `PASS` lines are among them, and their copy is wiped.
fn zeroizing(line: &str) -> secrecy::zeroize::Zeroizing<String> {
    secrecy::zeroize::Zeroizing::new(format!("{line}\r\n"))
}

impl Reply {
    /// 227: address and port (RFC 959; the parentheses are a habit and no rule, RFC 1123, section 4.1.2.6).
    pub fn passive(&self) -> Option<(Ipv4Addr, u16)> {
        let text = self.lines.last()?;
        let runs = text.split(|c: char| !c.is_ascii_digit() && c != ',');
        let mut numbers = runs.filter(|run| run.matches(',').count() == 5);
        let numbers: Vec<u8> = numbers
            .next_back()?
            .split(',')
            .map(|number| number.parse().ok())
            .collect::<Option<_>>()?;
        let [a, b, c, d, high, low] = numbers[..] else {
            return None;
        };
        let port = u16::from_be_bytes([high, low]);
        (port != 0).then_some((Ipv4Addr::new(a, b, c, d), port))
    }

    /// 229: the port (RFC 2428).
    pub fn extended(&self) -> Option<u16> {
        let (_, inside) = self.lines.last()?.split_once('(')?;
        let mark = inside.chars().next()?;
        let port = inside.split(mark).nth(3)?.parse().ok();
        port.filter(|port| *port != 0)
    }

    /// True if FEAT lists `feature`.
    pub fn lists(&self, feature: &str) -> bool {
        let mut lines = self.lines.iter();
        lines.any(|line| line.trim().eq_ignore_ascii_case(feature))
    }
}

/// On one line, as people quote it.
impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, printable(&self.lines.join(" ")))
    }
}

/// Why no connection came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unreachable {
    /// Nobody listens, or a firewall says so.
    Refused,
    /// Nothing answers.
    Silent,
    /// The network knows no way.
    NoRoute,
    /// It was accepted and then closed: what accepted is not what was meant.
    ClosedAtOnce,
    /// Anything else.
    Other(io::ErrorKind),
}

impl Unreachable {
    pub fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Unreachable::Refused,
            io::ErrorKind::TimedOut => Unreachable::Silent,
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                Unreachable::NoRoute
            }
            io::ErrorKind::ConnectionReset => Unreachable::ClosedAtOnce,
            other => Unreachable::Other(other),
        }
    }

    /// The usual cause.
    pub fn cause(self) -> &'static str {
        match self {
            Unreachable::Refused => "nobody listens there, or a firewall refuses",
            Unreachable::Silent => "a firewall, security group or balancer drops the packets",
            Unreachable::NoRoute => {
                "the address is not routed from here, or a firewall says that it is not"
            }
            Unreachable::ClosedAtOnce => {
                "a balancer or proxy accepts there, and has nothing behind it, or the connection reaches the gateway from \
                 another address than the control connection's"
            }
            Unreachable::Other(_) => "see the error",
        }
    }
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unreachable::Refused => f.write_str("connection refused"),
            Unreachable::Silent => f.write_str("no answer"),
            Unreachable::NoRoute => f.write_str("no route to host"),
            Unreachable::ClosedAtOnce => f.write_str("closed at once"),
            Unreachable::Other(kind) => write!(f, "{kind}"),
        }
    }
}

/// A connection to `address`, within `within`.
pub(super) async fn connect(
    address: SocketAddr,
    within: Duration,
) -> Result<TcpStream, Unreachable> {
    match tokio::time::timeout(within, TcpStream::connect(address)).await {
        Ok(Ok(socket)) => Ok(socket),
        Ok(Err(error)) => Err(Unreachable::of(&error)),
        Err(_) => Err(Unreachable::Silent),
    }
}

/// A data connection to `address` that stays open: a balancer without anybody behind it accepts, and closes.
pub(super) async fn connect_data(
    address: (IpAddr, u16),
    within: Duration,
) -> Result<TcpStream, Unreachable> {
    let socket = connect(address.into(), within).await?;
    let mut byte = [0];
    match tokio::time::timeout(STAYS_OPEN, socket.peek(&mut byte)).await {
        Err(_) | Ok(Ok(1..)) => Ok(socket),
        Ok(Ok(0) | Err(_)) => Err(Unreachable::ClosedAtOnce),
    }
}

/// Longer than a balancer on the same continent takes to say that nobody is there.
const STAYS_OPEN: Duration = Duration::from_millis(60);

/// The longest line of a reply; RFC 959 knows no limit, servers stay far below this.
const MAX_LINE: u64 = 4096;

/// The most lines of a reply: greetings and lists of features are the long ones.
const MAX_LINES: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(code: u16, text: &str) -> Reply {
        Reply {
            code,
            lines: vec![text.to_owned()],
        }
    }

    /// A line of bytes that a server sends.
    async fn said(bytes: &[u8]) -> Result<Reply, Broken> {
        let mut control = Control {
            wire: BufReader::new(Box::new(std::io::Cursor::new(bytes.to_vec()))),
            peer: SocketAddr::from(([127, 0, 0, 1], 21)),
            owes_reply: false,
        };
        control.reply().await
    }

    #[tokio::test]
    async fn replies_of_one_line_and_of_many() {
        assert_eq!(
            said(b"220 hi\r\n").await.expect("a reply"),
            reply(220, "hi")
        );
        assert_eq!(said(b"220\r\n").await.expect("a reply"), reply(220, ""));
        let many = said(b"211-Features:\r\n AUTH TLS\r\n211-EPSV\r\n211 End\r\n").await;
        let many = many.expect("a reply");
        assert_eq!((many.code, many.lines.len()), (211, 4));
        assert!(many.lists("auth tls") && !many.lists("AUTH"));
    }

    #[tokio::test]
    async fn what_is_no_reply_is_bounded_and_told() {
        assert!(matches!(said(b"").await, Err(Broken::Closed)));
        let endless = vec![b'2'; 1 << 20];
        assert!(matches!(said(&endless).await, Err(Broken::TooLong)));
        let endless = b"220-a\r\n".repeat(10_000);
        assert!(matches!(said(&endless).await, Err(Broken::TooLong)));
        for bytes in [
            &b"SSH-2.0-x\r\n"[..],
            b"2\xc3\xa4\r\n",
            b"999 x\r\n",
            b"220x\r\n",
            b"220 x",
        ] {
            let said = said(bytes).await;
            assert!(matches!(said, Err(Broken::NotFtp(_))), "{said:?}");
        }
    }

    #[test]
    fn addresses_and_ports_are_read_as_clients_do() {
        for (text, told) in [
            (
                "Entering Passive Mode (203,0,113,7,117,48)",
                Some(([203, 0, 113, 7], 30_000)),
            ),
            (
                "Entering passive mode 10,0,0,1,0,21.",
                Some(([10, 0, 0, 1], 21)),
            ),
            ("(1,2,3,4,5)", None),
            ("(256,0,0,1,1,1)", None),
            ("(10,0,0,1,0,0)", None),
            ("none", None),
        ] {
            let told = told.map(|(address, port)| (address.into(), port));
            assert_eq!(reply(227, text).passive(), told, "{text}");
        }
        let extended = |text| reply(229, text).extended();
        assert_eq!(extended("Extended (|||30001|)"), Some(30_001));
        assert_eq!(extended("Extended (!!!30001!)"), Some(30_001));
        assert_eq!(extended("Extended (|||0|)"), None);
        assert_eq!(extended("Extended ()"), None);
    }
}
