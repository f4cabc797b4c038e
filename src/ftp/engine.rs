//! The engine: libunftp, one `Server::service` per session, behind a private pair of loopback sockets.
//!
//! libunftp never faces the network, since a stranger could make it leak sessions, buffer without limit or panic. What
//! keeps it safe here:
//!
//! 1. It starts only for a user whose password was right, with the first command that needs it, and ends while the client rests.
//!    The edge checks passwords itself and logs in to the engine with a random one made for the session, so no password of a
//!    user ever reaches it.
//! 2. One command is in flight, and the next is sent after the reply. (The two of its login are sent together: each wait for the other
//!    side takes milliseconds where the runtime is busy.)
//! 3. It only gets lines that the edge composed: a verb and an absolute path without control characters.
//! 4. It never opens a data connection, since nobody asks it for one: no PASV and no PORT reaches it.
//! 5. Its timers never fire; the edge owns all timers.
//!
//! Its work for the gateway is the session (login, its state) and the dispatch of every command to the storage:
//!
//! | the client's command | reaches the storage |
//! |---|---|
//! | CWD, SIZE, MDTM, MLST, MKD, RMD, DELE, RNFR, RNTO | through libunftp's own commands and the storage trait ([`backend`]) |
//! | STOR, APPE, STOU, RETR, LIST, NLST, MLSD, STAT, MFMT, HASH | through libunftp's extension point for `SITE` subcommands, one handler for each kind, with the [`request`] that the session holds |
//!
//! libunftp's own STOR, RETR and LIST would want a data connection of their own first, a listener and two sockets for each file, of
//! which not a byte would be used: the edge owns the client's data connection, with all that is said of it elsewhere (pairing, TLS,
//! timers, interruptions). Without them a file of 4 KiB costs 40 % less CPU time, and there is no data port that another process
//! could reach.
//!
//! A late or odd reply ends the session; the two state machines are never brought back in step by guessing.

mod announce;
mod authenticator;
pub mod backend;
mod bridge;
mod file_facts;
mod list;
pub mod request;
mod retrieve;
mod store;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use libunftp::ServerBuilder;
use secrecy::ExposeSecret;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;

use crate::ftp::engine::authenticator::SessionAuthenticator;
use crate::ftp::engine::backend::Backend;
use crate::ftp::engine::file_facts::{HashHandler, SetTimeHandler, SizeHandler};
use crate::ftp::engine::list::ListHandler;
use crate::ftp::engine::request::StorageRequest;
use crate::ftp::engine::retrieve::RetrieveHandler;
use crate::ftp::engine::store::StoreHandler;
use crate::ftp::session::state::Session;

/// The longest time that the engine may take for a reply while no storage call is running.
const REPLY_TIMEOUT: Duration = Duration::from_secs(20);

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
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?,
        )))
    }

    /// Where it listens.
    pub async fn address(&self) -> io::Result<SocketAddr> {
        self.0.lock().await.local_addr()
    }

    /// Two ends of one connection. Another local process that connects in between is dropped.
    ///
    /// It does not wait for the connection to be made: the kernel does that while it is asked for, and a busy runtime would hear of it
    /// many milliseconds later, with all sessions that want a pair waiting for this one.
    async fn pair(&self) -> io::Result<(TcpStream, TcpStream)> {
        let listener = self.0.lock().await;
        let ours = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        ours.set_nonblocking(true)?;
        match ours.connect(&listener.local_addr()?.into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error),
            _ => {}
        }
        let ours = TcpStream::from_std(ours.into())?;
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
}

impl Engine {
    /// Starts an engine for the user who has logged in to `session`.
    pub async fn start(
        loopback: &Loopback,
        session: Arc<Session>,
        backend: Backend,
    ) -> Result<Self, EngineError> {
        let pair = tokio::time::timeout(REPLY_TIMEOUT, loopback.pair()).await;
        let (ours, theirs) = pair.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        let server = ServerBuilder::with_authenticator(
            Box::new(move || backend.clone()),
            Arc::new(SessionAuthenticator(session.clone())),
        )
        .greeting("engine")
        .idle_session_timeout(NEVER)
        .logger(slog::Logger::root(slog::Discard, slog::o!()))
        .site_command("STORE", StoreHandler)
        .site_command("RETRIEVE", RetrieveHandler)
        .site_command("LIST", ListHandler)
        .site_command("SET-TIME", SetTimeHandler)
        .site_command("HASH", HashHandler)
        .site_command("SIZE", SizeHandler)
        .build()
        .map_err(|error| EngineError::Build(error.to_string()))?;
        // ends when our end of the pair closes
        tokio::spawn(server.service(theirs));
        let (reader, writer) = ours.into_split();
        let mut engine = Engine {
            reader: BufReader::with_capacity(256, reader),
            writer,
            session,
        };
        let password = engine.session.engine_password.expose_secret();
        let login = format!("USER session\r\nPASS {password}\r\n");
        engine.writer.write_all(login.as_bytes()).await?;
        for (verb, code) in [("greeting", 220), ("USER", 331), ("PASS", 230)] {
            expect(verb, engine.reply(verb).await?, code)?;
        }
        Ok(engine)
    }

    /// Brings a request to its handler; returns the reply's code. What came of it is the session's outcome.
    pub async fn execute(&mut self, request: StorageRequest) -> Result<u16, EngineError> {
        let line = format!("SITE {}", request.subcommand());
        self.session.submit(request);
        self.command(&line).await
    }

    /// One command on a name; returns the reply's code.
    pub async fn command(&mut self, line: &str) -> Result<u16, EngineError> {
        self.writer
            .write_all(format!("{line}\r\n").as_bytes())
            .await?;
        self.reply(line).await
    }

    /// The next reply. The clock runs only while the storage is not at work.
    async fn reply(&mut self, line: &str) -> Result<u16, EngineError> {
        let mut reading = std::pin::pin!(read_reply(&mut self.reader));
        // one tick may fall right between the storage's end and the reply, two in a row can't
        let mut idle = false;
        loop {
            tokio::select! {
                reply = &mut reading => return Ok(reply?),
                () = tokio::time::sleep(REPLY_TIMEOUT) => {}
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

/// The code of one whole reply.
async fn read_reply(reader: &mut BufReader<OwnedReadHalf>) -> io::Result<u16> {
    let mut reader = reader.take(MAX_REPLY);
    let mut line = String::new();
    loop {
        line.clear();
        if reader.read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // the last line of a reply has three digits and a space (RFC 959, section 4.2)
        if let Some((code, " ")) = line.get(..3).zip(line.get(3..4))
            && let Ok(code) = code.parse()
        {
            return Ok(code);
        }
    }
}

fn expect(verb: &str, code: u16, wanted: u16) -> Result<(), EngineError> {
    if code == wanted {
        Ok(())
    } else {
        Err(EngineError::Odd {
            verb: verb.to_owned(),
            code,
        })
    }
}

fn verb(line: &str) -> String {
    line.split(' ').next().unwrap_or_default().to_owned()
}
