//! Replies (RFC 959, section 4.2).

use std::fmt;
use std::io;
use std::net::Ipv4Addr;

/// One reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Three digits.
    pub code: u16,
    /// Its lines, the code of the first and the last one removed.
    pub lines: Vec<String>,
    /// As it was sent.
    pub bytes: Vec<u8>,
}

/// The control connection is of no use any more.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The server ended it.
    #[error("the server closed the connection")]
    Closed,
    /// It was reset, or TLS failed.
    #[error("the connection broke")]
    Lost(#[from] io::Error),
    /// Something else than FTP is spoken there.
    #[error("this is no FTP reply: {0}")]
    NotFtp(String),
    /// A line, or the number of lines, is beyond its bound.
    #[error("the reply is longer than any server's")]
    TooLong,
    /// Bytes in clear behind the reply to AUTH, as somebody on the way would add them.
    #[error("the server sent more than was asked for before TLS began")]
    Injected,
}

/// Puts the lines of replies together.
#[derive(Debug)]
pub struct ReplyLines {
    max_lines: usize,
    /// The code of the reply that has begun, and has more than one line.
    code: Option<u16>,
    lines: Vec<String>,
    bytes: Vec<u8>,
}

impl ReplyLines {
    /// A reply may have up to `max_lines` lines.
    pub fn new(max_lines: usize) -> Self {
        ReplyLines {
            max_lines,
            code: None,
            lines: Vec::new(),
            bytes: Vec::new(),
        }
    }

    /// Takes the next line, with its line break, of which at most [`MAX_LINE`] bytes were read; returns the reply, if that was its last one.
    pub fn push(&mut self, line: &[u8]) -> Result<Option<Reply>, Broken> {
        let text = String::from_utf8_lossy(line);
        let text = match line.last() {
            None => return Err(Broken::Closed),
            Some(b'\n') => text.trim_end(),
            Some(_) if line.len() as u64 == MAX_LINE => return Err(Broken::TooLong),
            Some(_) => return Err(Broken::NotFtp(printable(&text))),
        };
        self.bytes.extend_from_slice(line);
        let code = match self.code {
            None => {
                let (code, continues) = first(text)?;
                self.lines
                    .push(text.get(4..).unwrap_or_default().to_owned());
                if continues {
                    self.code = Some(code);
                    return Ok(None);
                }
                code
            }
            Some(code) => match text.strip_prefix(&format!("{code} ")) {
                Some(last) => {
                    self.lines.push(last.to_owned());
                    code
                }
                None if self.lines.len() == self.max_lines => return Err(Broken::TooLong),
                None => {
                    self.lines.push(text.to_owned());
                    return Ok(None);
                }
            },
        };
        self.code = None;
        Ok(Some(Reply {
            code,
            lines: std::mem::take(&mut self.lines),
            bytes: std::mem::take(&mut self.bytes),
        }))
    }
}

/// The code in the first line of a reply, and true if more lines follow.
fn first(line: &str) -> Result<(u16, bool), Broken> {
    let not_ftp = || Broken::NotFtp(printable(line));
    let code = line.get(..3).ok_or_else(not_ftp)?;
    match (code.parse(), line.as_bytes().get(3)) {
        (Ok(code @ 100..=699), mark @ (None | Some(b' ' | b'-'))) => {
            Ok((code, mark == Some(&b'-')))
        }
        _ => Err(not_ftp()),
    }
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

/// Text from a peer, fit to be printed: no terminal escapes, no novel.
pub(crate) fn printable(text: &str) -> String {
    // two lines of a terminal
    const MAX_CHARS: usize = 160;
    let line: String = text
        .trim_end()
        .chars()
        .take(MAX_CHARS)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if text.trim_end().chars().count() > MAX_CHARS {
        format!("{line}...")
    } else {
        line
    }
}

/// The longest line of a reply; RFC 959 knows no limit, servers stay far below this.
pub const MAX_LINE: u64 = 4096;

/// The most lines of a reply: greetings and lists of features are the long ones.
pub const MAX_LINES: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(code: u16, text: &str) -> Reply {
        Reply {
            code,
            lines: vec![text.to_owned()],
            bytes: format!("{code} {text}\r\n").into_bytes(),
        }
    }

    /// The reply in bytes that a server sends.
    fn said(bytes: &[u8]) -> Result<Reply, Broken> {
        let (mut lines, mut rest) = (ReplyLines::new(MAX_LINES), bytes);
        loop {
            let end = rest.iter().position(|byte| *byte == b'\n');
            let end = end.map_or(rest.len(), |end| end + 1).min(MAX_LINE as usize);
            let (line, after) = rest.split_at(end);
            rest = after;
            if let Some(reply) = lines.push(line)? {
                return Ok(reply);
            }
        }
    }

    #[test]
    fn replies_of_one_line_and_of_many() {
        assert_eq!(said(b"220 hi\r\n").expect("a reply"), reply(220, "hi"));
        assert_eq!(said(b"220\r\n").expect("a reply").lines, [""]);
        let many = said(b"211-Features:\r\n AUTH TLS\r\n211-EPSV\r\n211 End\r\n");
        let many = many.expect("a reply");
        assert_eq!((many.code, many.lines.len()), (211, 4));
        assert!(many.lists("auth tls") && !many.lists("AUTH"));
    }

    #[test]
    fn what_is_no_reply_is_bounded_and_reported() {
        assert!(matches!(said(b""), Err(Broken::Closed)));
        let endless = vec![b'2'; 1 << 20];
        assert!(matches!(said(&endless), Err(Broken::TooLong)));
        let endless = b"220-a\r\n".repeat(10_000);
        assert!(matches!(said(&endless), Err(Broken::TooLong)));
        for bytes in [
            &b"SSH-2.0-x\r\n"[..],
            b"2\xc3\xa4\r\n",
            b"999 x\r\n",
            b"220x\r\n",
            b"220 x",
        ] {
            let said = said(bytes);
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

    #[test]
    fn what_a_server_says_cannot_paint_the_terminal() {
        assert_eq!(printable("220 \x1b[31mhi\r\n"), "220  [31mhi");
        assert_eq!(printable(&"x".repeat(500)).len(), 163);
    }
}
