//! The engine: libunftp, one `Server::service` per session, behind a private pair of loopback sockets.
//!
//! libunftp never faces the network, since a stranger could make it leak sessions, buffer without limit or panic. What
//! keeps it safe here:
//!
//! 1. It starts only for a user whose password was right. The edge checks passwords itself and logs in to the engine with
//!    a random one made for the session, so no password of a user ever reaches it.
//! 2. One command is in flight, and the next is sent after the reply.
//! 3. It only gets lines that the edge composed: a verb and an absolute path without control characters.
//! 4. A data connection stands before the command that uses it.
//! 5. Its timers never fire; the edge owns all timers.
//! 6. Only the edge can connect to its data listener: the kernel drops packets from any other port.
//!
//! A late or odd reply ends the session; the two state machines are never brought back in step by guessing.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use libunftp::ServerBuilder;
use libunftp::options::Binder;
use secrecy::ExposeSecret;
use socket2::SockRef;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Mutex;
use unftp_core::auth::{AuthenticationError, Authenticator, Credentials, Principal};

use crate::ftp::backend::Backend;
use crate::ftp::net::reset_on_close;
use crate::ftp::session::Session;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// How long the engine may take for a reply while no storage call is running.
const REPLY_WITHIN: Duration = Duration::from_secs(20);

/// The longest reply that the engine can send to the lines it gets; far above what it does send.
const MAX_REPLY: u64 = 64 * 1024;

/// The engine's idle timer would lock the session; the edge has its own.
const NEVER: u64 = 10 * 365 * 24 * 3600;

/// A private listener that only makes connected pairs: libunftp wants a TCP stream.
#[derive(Debug)]
pub struct Loopback(Mutex<TcpListener>);

/// The engine failed; the session must end.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The loopback sockets failed.
    #[error("engine connection")]
    Io(#[from] io::Error),
    /// No reply came, though no storage call was running.
    #[error("the engine did not answer {verb} in time")]
    Late {
        /// The command.
        verb: String,
    },
    /// A reply that doesn't fit the command.
    #[error("the engine answered {verb} with {code}")]
    Odd {
        /// The command.
        verb: String,
        /// Its reply code.
        code: u16,
    },
    /// libunftp refused its own configuration.
    #[error("the engine could not be built: {0}")]
    Build(String),
}

impl Loopback {
    /// Binds a free port on 127.0.0.1.
    pub async fn bind() -> io::Result<Self> {
        Ok(Loopback(Mutex::new(
            TcpListener::bind((LOOPBACK, 0)).await?,
        )))
    }

    /// Two ends of one connection. Another local process that connects in between is dropped.
    async fn pair(&self) -> io::Result<(TcpStream, TcpStream)> {
        let listener = self.0.lock().await;
        let ours = TcpStream::connect(listener.local_addr()?).await?;
        let our_address = ours.local_addr()?;
        loop {
            let (theirs, peer) = listener.accept().await?;
            if peer == our_address {
                ours.set_nodelay(true)?;
                theirs.set_nodelay(true)?;
                return Ok((ours, theirs));
            }
        }
    }
}

/// The edge's side of one running engine. Dropping it ends the engine.
#[derive(Debug)]
pub struct Engine {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    session: Arc<Session>,
    /// Opened ahead by [`Engine::prepare`], and when.
    prepared: Option<(TcpStream, Instant)>,
}

/// How long a data connection that was opened ahead may wait; libunftp gives it up after five minutes.
const PREPARED_FOR: Duration = Duration::from_secs(4 * 60);

impl Engine {
    /// Starts an engine for the user who has logged in to `session`.
    pub async fn start(
        loopback: &Loopback,
        session: Arc<Session>,
        backend: Backend,
    ) -> Result<Self, EngineError> {
        let (ours, theirs) = loopback.pair().await?;
        let server = ServerBuilder::with_authenticator(
            Box::new(move || backend.clone()),
            Arc::new(SessionAuthenticator(session.clone())),
        )
        .greeting("engine")
        .passive_host(Ipv4Addr::LOCALHOST)
        .idle_session_timeout(NEVER)
        .binder(PrivateBinder(session.clone()))
        .logger(slog::Logger::root(slog::Discard, slog::o!()))
        .build()
        .map_err(|error| EngineError::Build(error.to_string()))?;
        // ends when our end of the pair closes
        tokio::spawn(server.service(theirs));
        let (reader, writer) = ours.into_split();
        let mut engine = Engine {
            reader: BufReader::with_capacity(256, reader),
            writer,
            session,
            prepared: None,
        };
        let greeting = engine.reply("greeting").await?;
        expect("greeting", &greeting, 220)?;
        expect("USER", &engine.send("USER session").await?, 331)?;
        let password = format!("PASS {}", engine.session.engine_password.expose_secret());
        expect("PASS", &engine.send(&password).await?, 230)?;
        Ok(engine)
    }

    /// One command without a data connection; returns the reply's code.
    pub async fn command(&mut self, line: &str) -> Result<u16, EngineError> {
        Ok(self.send(line).await?.code)
    }

    /// One command with a data connection; returns the code of the final reply.
    pub async fn transfer(&mut self, line: &str) -> Result<u16, EngineError> {
        self.prepare().await?;
        let _data = self.prepared.take();
        let first = self.send(line).await?;
        if first.code != 150 {
            return Ok(first.code);
        }
        Ok(self.reply(line).await?.code)
    }

    /// Opens the data connection of the next transfer, unless it stands. Done while the client answers to its own PASV,
    /// it takes these round trips off the time of each small file.
    pub async fn prepare(&mut self) -> Result<(), EngineError> {
        let fresh = |(_, since): &(TcpStream, Instant)| since.elapsed() < PREPARED_FOR;
        if !self.prepared.as_ref().is_some_and(fresh) {
            self.prepared = None;
            self.prepared = Some((self.open_data().await?, Instant::now()));
        }
        Ok(())
    }

    /// A data connection that will carry nothing; libunftp needs it to call the storage.
    async fn open_data(&mut self) -> Result<TcpStream, EngineError> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(LOOPBACK, 0))?;
        self.session
            .engine_source_port
            .store(socket.local_addr()?.port(), Ordering::SeqCst);
        let reply = self.send("PASV").await?;
        expect("PASV", &reply, 227)?;
        let port = passive_port(&reply.text).ok_or(EngineError::Odd {
            verb: "PASV".to_owned(),
            code: reply.code,
        })?;
        let data = socket.connect(SocketAddr::new(LOOPBACK, port)).await?;
        // Nothing travels on it, so it may end in a reset: a port in TIME_WAIT for each transfer would run out of ports at
        // some 470 transfers a second.
        reset_on_close(&data);
        Ok(data)
    }

    async fn send(&mut self, line: &str) -> Result<EngineReply, EngineError> {
        self.writer
            .write_all(format!("{line}\r\n").as_bytes())
            .await?;
        self.reply(line).await
    }

    /// The next reply. The clock runs only while the storage is not at work.
    async fn reply(&mut self, line: &str) -> Result<EngineReply, EngineError> {
        let mut reading = std::pin::pin!(read_reply(&mut self.reader));
        // one tick may fall right between the storage's end and the reply, two in a row can't
        let mut idle = false;
        loop {
            tokio::select! {
                reply = &mut reading => return Ok(reply?),
                () = tokio::time::sleep(REPLY_WITHIN) => {}
            }
            if self.session.is_at_work() {
                idle = false;
            } else if idle {
                return Err(EngineError::Late { verb: verb(line) });
            } else {
                idle = true;
            }
        }
    }
}

struct EngineReply {
    code: u16,
    text: String,
}

async fn read_reply(reader: &mut BufReader<OwnedReadHalf>) -> io::Result<EngineReply> {
    let mut reader = reader.take(MAX_REPLY);
    let mut text = String::new();
    loop {
        let start = text.len();
        if reader.read_line(&mut text).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // the last line of a reply has three digits and a space (RFC 959, section 4.2)
        let line = &text[start..];
        if let Some((code, " ")) = line.get(..3).zip(line.get(3..4))
            && let Ok(code) = code.parse()
        {
            return Ok(EngineReply { code, text });
        }
    }
}

fn expect(verb: &str, reply: &EngineReply, code: u16) -> Result<(), EngineError> {
    if reply.code == code {
        Ok(())
    } else {
        Err(EngineError::Odd {
            verb: verb.to_owned(),
            code: reply.code,
        })
    }
}

fn verb(line: &str) -> String {
    line.split(' ').next().unwrap_or_default().to_owned()
}

/// The port in "227 ... (h1,h2,h3,h4,p1,p2)".
fn passive_port(text: &str) -> Option<u16> {
    let numbers = text.rsplit_once('(')?.1.split_once(')')?.0;
    let mut numbers = numbers.split(',').skip(4).map(str::parse::<u8>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(high)), Some(Ok(low))) => Some(u16::from_be_bytes([high, low])),
        _ => None,
    }
}

/// Accepts the session's own password and no other.
#[derive(Debug)]
struct SessionAuthenticator(Arc<Session>);

#[async_trait]
impl Authenticator for SessionAuthenticator {
    async fn authenticate(
        &self,
        username: &str,
        credentials: &Credentials,
    ) -> Result<Principal, AuthenticationError> {
        if credentials.password.as_deref() == Some(self.0.engine_password.expose_secret()) {
            Ok(Principal {
                username: username.to_owned(),
            })
        } else {
            Err(AuthenticationError::BadPassword)
        }
    }
}

/// Gives the engine a data listener on a port of the kernel's choice that only the edge's announced port can reach.
#[derive(Debug)]
struct PrivateBinder(Arc<Session>);

#[async_trait]
impl Binder for PrivateBinder {
    async fn bind(&mut self, _: IpAddr, _: RangeInclusive<u16>) -> io::Result<TcpSocket> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(LOOPBACK, 0))?;
        let admitted = self.0.engine_source_port.load(Ordering::SeqCst);
        match admit_only(&socket, admitted) {
            // Newer kernels let only CAP_NET_ADMIN filter TCP sockets, and a gateway needs no rights for its work. In a
            // pod there are no other local processes; elsewhere it is as on systems without the filter.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            done => done?,
        }
        Ok(socket)
    }
}

/// A classic BPF program on the listening socket: TCP segments whose source port is another one are dropped.
#[cfg(target_os = "linux")]
fn admit_only(socket: &TcpSocket, source_port: u16) -> io::Result<()> {
    use socket2::SockFilter;
    const LOAD_SOURCE_PORT: u16 = 0x28; // BPF_LD | BPF_H | BPF_ABS, offset 0 of the TCP header
    const JUMP_IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    SockRef::from(socket).attach_filter(&[
        SockFilter::new(LOAD_SOURCE_PORT, 0, 0, 0),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, u32::from(source_port)),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
        SockFilter::new(RETURN, 0, 0, 0),
    ])
}

/// Elsewhere the listener is reachable by local processes. A stranger could end a transfer, never read or write one, since
/// no file byte passes through the engine.
#[cfg(not(target_os = "linux"))]
fn admit_only(_: &TcpSocket, _: u16) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_of_a_227_is_read() {
        assert_eq!(
            passive_port("227 Entering Passive Mode (127,0,0,1,195,80)\r\n"),
            Some(50_000)
        );
        assert_eq!(passive_port("227 Entering Passive Mode"), None);
        assert_eq!(passive_port("227 (1,2,3,4,256,1)"), None);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_stranger_cannot_reach_the_data_listener() {
        let edge = TcpSocket::new_v4().expect("a socket");
        edge.bind(SocketAddr::new(LOOPBACK, 0)).expect("binds");
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(SocketAddr::new(LOOPBACK, 0)).expect("binds");
        let filtered = admit_only(&socket, edge.local_addr().expect("bound").port());
        let listener = socket.listen(8).expect("listens");
        let address = listener.local_addr().expect("bound");
        match filtered {
            Ok(()) => {
                let stranger =
                    tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address));
                assert!(stranger.await.is_err(), "a stranger's SYN is dropped");
            }
            Err(error) => assert_eq!(
                error.kind(),
                io::ErrorKind::PermissionDenied,
                "the kernel takes the filter, or wants rights for it"
            ),
        }
        edge.connect(address).await.expect("the edge gets in");
    }
}
