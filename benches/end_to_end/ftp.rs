//! A light FTP and FTPS client: blocking sockets, large writes of a static buffer, and reads into nothing.
//!
//! It shares the machine with what it measures, so it does as little as a client can; only the replies are read as
//! [`cosgate::ftp_client`] does.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use cosgate::ftp_client::{MAX_LINE, MAX_LINES, Reply, ReplyLines};

use crate::wire::{Ftps, Privacy, Wire};

/// Bytes per write(2) and read(2).
const CHUNK: usize = 512 * 1024;

/// Longest wait for a reply or for the data connection to move.
const PATIENCE: Duration = Duration::from_secs(300);

/// Where to log in.
#[derive(Debug, Clone, Default)]
pub struct Account {
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: String,
    /// AUTH TLS, and PROT P for the data connections.
    pub tls: Option<Ftps>,
}

/// One session.
pub struct Ftp {
    control: BufReader<Wire>,
    peer: SocketAddr,
    privacy: Option<Privacy>,
}

impl Ftp {
    /// Connects and logs in.
    pub fn login(account: &Account) -> io::Result<Self> {
        let addresses = (account.host.as_str(), account.port).to_socket_addrs()?;
        let address = addresses.into_iter().next();
        let address = address.ok_or_else(|| io::Error::other("the host has no address"))?;
        let control = connect(address)?;
        // a command is one small write behind another
        control.set_nodelay(true)?;
        let mut ftp = Ftp {
            peer: control.peer_addr()?,
            control: BufReader::new(Wire::Plain(control)),
            privacy: None,
        };
        ftp.expect(2)?;
        if let Some(ftps) = account.tls {
            ftp = ftp.secure(ftps)?;
        }
        ftp.send(&format!("USER {}", account.user))?;
        let reply = ftp.reply()?;
        if reply.code / 100 == 3 {
            ftp.send(&format!("PASS {}", account.password))?;
            ftp.expect(2)?;
        } else if reply.code / 100 != 2 {
            return Err(io::Error::other(reply.to_string()));
        }
        let protect: &[&str] = if account.tls.is_some() {
            &["PBSZ 0", "PROT P"]
        } else {
            &[]
        };
        for line in ["TYPE I"].iter().chain(protect) {
            ftp.send(line)?;
            ftp.expect(2)?;
        }
        Ok(ftp)
    }

    fn secure(mut self, ftps: Ftps) -> io::Result<Self> {
        self.send("AUTH TLS")?;
        self.expect(2)?;
        let privacy = Privacy::new(ftps)?;
        let control = match self.control.into_inner() {
            Wire::Plain(socket) => privacy.wrap(socket)?,
            tls @ Wire::Tls(_) => tls,
        };
        Ok(Ftp {
            control: BufReader::new(control),
            privacy: Some(privacy),
            ..self
        })
    }

    /// A data connection after the 150 (RFC 4217, section 9).
    fn protect(&self, data: TcpStream) -> io::Result<Wire> {
        match &self.privacy {
            Some(privacy) => privacy.wrap(data),
            None => Ok(Wire::Plain(data)),
        }
    }

    /// Sends `size` bytes, `content` again and again.
    pub fn store(&mut self, path: &str, size: u64, content: &[u8]) -> io::Result<()> {
        let data = self.open_data()?;
        self.send(&format!("STOR {path}"))?;
        self.expect(1)?;
        let mut data = self.protect(data)?;
        let (mut left, mut at) = (size, 0);
        while left > 0 {
            let bytes = left.min((content.len() - at).min(CHUNK) as u64) as usize;
            data.write_all(&content[at..at + bytes])?;
            at = (at + bytes) % content.len();
            left -= bytes as u64;
        }
        data.finish()?;
        self.expect(2)
    }

    /// Receives a file; returns its size.
    pub fn retrieve(&mut self, path: &str) -> io::Result<u64> {
        self.fetch(&format!("RETR {path}"), |_| {})
    }

    /// Lists a directory; returns the number of lines.
    pub fn list(&mut self, path: &str) -> io::Result<u64> {
        let mut lines = 0;
        self.fetch(&format!("LIST {path}"), |bytes| {
            lines += bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
        })?;
        Ok(lines)
    }

    /// A command that needs no store, and its answer.
    pub fn noop(&mut self) -> io::Result<()> {
        self.send("NOOP")?;
        self.expect(2)
    }

    /// Ends the session.
    pub fn quit(mut self) {
        // the session has served its purpose, whatever the answer is
        let _ = self.send("QUIT").and_then(|()| self.expect(2));
    }

    fn fetch(&mut self, line: &str, mut take: impl FnMut(&[u8])) -> io::Result<u64> {
        let data = self.open_data()?;
        self.send(line)?;
        self.expect(1)?;
        let mut data = self.protect(data)?;
        let (mut chunk, mut received) = (vec![0; CHUNK], 0);
        loop {
            match data.read(&mut chunk)? {
                0 => break,
                bytes => {
                    take(&chunk[..bytes]);
                    received += bytes as u64;
                }
            }
        }
        data.finish()?;
        self.expect(2)?;
        Ok(received)
    }

    fn open_data(&mut self) -> io::Result<TcpStream> {
        self.send("PASV")?;
        let reply = self.reply()?;
        match reply.passive().filter(|_| reply.code == 227) {
            Some((host, port)) if host.is_unspecified() => {
                connect(SocketAddr::new(self.peer.ip(), port))
            }
            Some((host, port)) => connect(SocketAddr::new(host.into(), port)),
            None => Err(io::Error::other(reply.to_string())),
        }
    }

    fn send(&mut self, line: &str) -> io::Result<()> {
        self.control
            .get_mut()
            .write_all(format!("{line}\r\n").as_bytes())
    }

    /// The next reply must be of this class.
    fn expect(&mut self, class: u16) -> io::Result<()> {
        let reply = self.reply()?;
        match reply.code / 100 == class {
            true => Ok(()),
            false => Err(io::Error::other(reply.to_string())),
        }
    }

    fn reply(&mut self) -> io::Result<Reply> {
        let mut lines = ReplyLines::new(MAX_LINES);
        loop {
            let mut line = Vec::new();
            (&mut self.control)
                .take(MAX_LINE)
                .read_until(b'\n', &mut line)?;
            if let Some(reply) = lines.push(&line).map_err(io::Error::other)? {
                return Ok(reply);
            }
        }
    }
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpStream::connect_timeout(&address, PATIENCE)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}
