//! The edge: one control connection from its greeting to its end.
//!
//! The edge owns everything a stranger can touch: the line codec, the command table, the order of commands, timers, limits
//! and the final reply. The engine behind it is asked one thing at a time, for a user who has logged in.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tracing::{Instrument, debug, error, info, info_span, warn};

use crate::config::TlsRequired;
use crate::ftp::auth::{LoginError, Peer, Right, Seat, random_password};
use crate::ftp::backend::Backend;
use crate::ftp::codec::{Control, Line};
use crate::ftp::command::{Command, Epsv, verb};
use crate::ftp::engine::{Engine, EngineError, carrying};
use crate::ftp::explain::cause;
use crate::ftp::failures::Failure;
use crate::ftp::listener::Frontend;
use crate::ftp::listformat::{facts, timestamp};
use crate::ftp::net::Stream;
use crate::ftp::passive::{PassivePool, Reservation};
use crate::ftp::protection::handshake;
use crate::ftp::reply::{Reply, quoted};
use crate::ftp::session::{Done, Order, Session};
use crate::ftp::tls::Secured;
use crate::ftp::trace::Trace;
use crate::masquerade::{Ports, Told};
use crate::store::{Algorithm, Chain, EntryKind, StoreError, VirtualPath};

/// Failed logins that a connection may have; then it is closed.
const LOGIN_ATTEMPTS: u32 = 3;

/// How long PASV waits for a port that is free for this client.
const PORT_WITHIN: Duration = Duration::from_secs(5);

/// The control connection ends.
#[derive(Debug)]
pub(super) enum Close {
    /// Without another word: the client is gone, or there is nothing safe to say.
    Silently,
    /// With a last reply.
    With(Reply),
    /// Not at all: it goes on under TLS, after the handshake that the client has been told to begin.
    StartTls,
}

/// What a step of the session comes to.
pub(super) type Step<T = ()> = Result<T, Close>;

impl From<io::Error> for Close {
    fn from(_: io::Error) -> Self {
        Close::Silently
    }
}

impl Close {
    fn with(code: u16, text: &'static str) -> Self {
        Close::With(Reply::new(code, text))
    }

    /// The engine can't be trusted any more.
    pub(super) fn engine(session: &Session, failure: &EngineError) -> Self {
        error!(session = session.id, error = %Chain(failure), "the engine failed, the session is closed");
        Close::with(421, "Internal error, closing the connection")
    }
}

/// The state of one control connection.
pub(super) struct Edge {
    pub(super) frontend: Arc<Frontend>,
    pub(super) session: Arc<Session>,
    pub(super) control: Control,
    /// Lines that arrived during a transfer, to be answered after it.
    pub(super) queue: VecDeque<Line>,
    pub(super) engine: Option<Engine>,
    /// How the next transfer's data connection comes about.
    pub(super) data: Option<DataChannel>,
    /// TLS on the control connection.
    pub(super) secured: Option<Secured>,
    /// Whether data connections are protected (`PROT P`).
    pub(super) private: bool,
    /// The offset of the last `REST`, for the transfer that follows.
    pub(super) restart: u64,
    /// The size that the last `ALLO` announced for it.
    pub(super) announced: Option<u64>,
    pub(super) working_directory: VirtualPath,
    pool: Arc<PassivePool>,
    /// `PBSZ` was said, as RFC 2228 wants it before `PROT`.
    pub(super) buffer_size_set: bool,
    greeted: bool,
    log_in_by: Instant,
    user_name: Option<String>,
    failed_logins: u32,
    pub(super) epsv_only: bool,
    /// The algorithm of `HASH`, once the client has chosen one.
    pub(super) algorithm: Option<Algorithm>,
    /// The session's place among those of its user.
    seat: Option<Seat>,
    /// What the last command named, if it was an `RNFR` that the engine accepted.
    renaming: Option<VirtualPath>,
}

/// How a data connection comes about.
pub(super) enum DataChannel {
    /// The client connects to a port of ours.
    Passive(Reservation),
    /// We connect to a port of the client's.
    Active(SocketAddr),
}

/// Serves one client until it leaves. On an `implicit` listener TLS begins with the first byte.
pub async fn run(
    frontend: Arc<Frontend>,
    socket: TcpStream,
    peer: SocketAddr,
    id: u64,
    pool: Arc<PassivePool>,
    implicit: bool,
) {
    // clients send the last byte of an ABOR as urgent data; in line it is read like the rest
    let _ = SockRef::from(&socket).set_out_of_band_inline(true);
    let (Ok(local), Ok(engine_password)) = (socket.local_addr(), random_password()) else {
        return;
    };
    debug!(session = id, client = %peer, "connected");
    let (mut stream, mut secured) = (Stream::Plain(socket), None);
    if implicit {
        (stream, secured) = match handshake(&frontend, stream, id).await {
            Some((stream, secured)) => (stream, Some(secured)),
            None => return,
        };
    }
    let session = Arc::new(Session::new(id, peer, local, engine_password));
    if secured.is_some() {
        session.secure();
    }
    let _present = frontend.roster.enter(&session);
    let log_in_by = Instant::now() + frontend.sessions.login_timeout;
    let mut edge = Edge {
        frontend,
        session,
        control: Control::new(stream),
        queue: VecDeque::new(),
        engine: None,
        data: None,
        // a client that knows nothing but implicit TLS expects it on data connections, too
        private: secured.is_some(),
        secured,
        restart: 0,
        announced: None,
        working_directory: VirtualPath::root(),
        pool,
        buffer_size_set: false,
        greeted: false,
        log_in_by,
        user_name: None,
        failed_logins: 0,
        seat: None,
        epsv_only: false,
        algorithm: None,
        renaming: None,
    };
    let end = loop {
        match edge.serve().await {
            Close::StartTls => {}
            end => break end,
        }
        let Some(socket) = edge.control.into_plain() else {
            warn!(session = id, client = %peer, "commands were sent in clear behind AUTH, as an attacker on the way would do");
            return;
        };
        let Some((stream, secured)) = handshake(&edge.frontend, Stream::Plain(socket), id).await
        else {
            return;
        };
        edge.control = Control::new(stream);
        edge.secured = Some(secured);
        edge.session.secure();
    };
    if let Close::With(reply) = end {
        let _ = edge.control.send(&reply).await;
    }
    edge.control.close().await;
    debug!(session = id, "disconnected");
}

impl Edge {
    /// Greets, unless it was done before AUTH, and answers lines until there is a reason to stop.
    async fn serve(&mut self) -> Close {
        if !std::mem::replace(&mut self.greeted, true) {
            let greeting = Reply::new(220, self.frontend.greeting.clone());
            if let Err(error) = self.control.send(&greeting).await {
                return error.into();
            }
        }
        loop {
            let line = match self.queue.pop_front() {
                Some(line) => line,
                None => match self.next_line().await {
                    Ok(line) => line,
                    Err(close) => return close,
                },
            };
            // boxed, so that an idle session doesn't hold the room that a transfer needs
            let step = Box::pin(self.answer(line)).await;
            self.session.rest();
            if let Err(close) = step {
                return close;
            }
        }
    }

    async fn next_line(&mut self) -> Step<Line> {
        let logged_in = self.session.user().is_some();
        let until = if logged_in {
            Instant::now() + self.frontend.sessions.idle_timeout
        } else {
            self.log_in_by
        };
        tokio::select! {
            line = self.control.next() => Ok(line?),
            () = tokio::time::sleep_until(until) => Err(Close::with(421, "Timeout, closing the connection")),
            () = self.frontend.drain.cancelled() => Err(Close::with(421, "The server is stopping, try again later")),
        }
    }

    async fn answer(&mut self, line: Line) -> Step {
        let text = match line {
            Line::Text(text) => text,
            Line::TooLong => return self.say(500, "The line is too long").await,
            Line::Malformed => {
                return self
                    .say(501, "CR, NUL and invalid UTF-8 are not allowed")
                    .await;
            }
            Line::Flood => {
                return Err(Close::with(
                    421,
                    "The line never ends, closing the connection",
                ));
            }
            Line::End => return Err(Close::Silently),
        };
        self.session.begin(verb(&text));
        let span = info_span!("command", session = self.session.id);
        match Command::parse(&text) {
            Ok(command) => self.obey(command).instrument(span).await,
            Err(reply) => self.send(reply).await,
        }
    }

    async fn obey(&mut self, command: Command) -> Step {
        let renaming = std::mem::take(&mut self.renaming);
        if !command.keeps_restart() {
            self.restart = 0;
            self.announced = None;
        }
        match command {
            Command::Quit => Err(Close::with(221, "Goodbye")),
            Command::Noop => self.say(200, "OK").await,
            Command::Help => self.say(214, "See RFC 959, 2389, 2428 and 3659").await,
            Command::Feat => self.send(self.features()).await,
            Command::Opts(option) => self.option(&option).await,
            Command::Syst => self.say(215, "UNIX Type: L8").await,
            Command::Setting(reply) => self.send(reply).await,
            Command::Auth(mechanism) => self.auth(&mechanism).await,
            Command::Pbsz => self.pbsz().await,
            Command::Prot(level) => self.prot(&level).await,
            Command::Ccc => {
                self.say(534, "The control connection stays protected")
                    .await
            }
            Command::Allo(bytes) => {
                self.announced = bytes;
                self.say(200, "Noted").await
            }
            Command::Superfluous => self.say(202, "Not needed here").await,
            Command::User(name) => self.user(name).await,
            Command::Pass(password) => self.pass(password.0.into()).await,
            Command::Abor => {
                self.data = None;
                self.say(226, "There is no transfer to abort").await
            }
            _ if self.session.user().is_none() => {
                self.say(530, "Please log in with USER and PASS").await
            }
            Command::Rest(offset) => {
                self.restart = offset;
                self.say(350, "The next transfer starts there").await
            }
            Command::Pasv => self.pasv().await,
            Command::Epsv(argument) => self.epsv(argument).await,
            Command::Port(address) => self.port(address).await,
            Command::Status => self.status().await,
            Command::Pwd => {
                self.send(Reply::new(257, quoted(self.working_directory.as_str())))
                    .await
            }
            Command::Cdup => {
                self.change_directory(Ok(self.working_directory.parent()))
                    .await
            }
            Command::Cwd(path) => self.change_directory(self.resolve(&path)).await,
            Command::Mkd(path) => {
                let created = |path: &VirtualPath, _| {
                    Reply::new(257, format!("{} created", quoted(path.as_str())))
                };
                self.on_path("MKD", &path, created).await
            }
            Command::Rmd(path) => {
                self.on_path("RMD", &path, |_, _| Reply::new(250, "Directory removed"))
                    .await
            }
            Command::Dele(path) => {
                self.on_path("DELE", &path, |_, _| Reply::new(250, "File deleted"))
                    .await
            }
            Command::Rnfr(_) if self.permitted(Right::Rename).is_err() => {
                self.send(Reply::from(&StoreError::Forbidden)).await
            }
            Command::Rnfr(path) => {
                self.on_path("RNFR", &path, |_, _| Reply::new(350, "Ready for RNTO"))
                    .await?;
                Ok(())
            }
            Command::Rnto(_) if renaming.is_none() => self.say(503, "RNFR must come first").await,
            Command::Rnto(path) => {
                self.renaming = renaming;
                self.on_path("RNTO", &path, |_, _| Reply::new(250, "Renamed"))
                    .await
            }
            Command::Size(path) => self.on_path("SIZE", &path, size_reply).await,
            Command::Mdtm(path) => self.on_path("MDTM", &path, time_reply).await,
            Command::Mfmt(time, path) => self.set_time(time, &path).await,
            Command::Hash(algorithm, path) => self.hash(algorithm, &path).await,
            Command::Hashes(path) => self.hashes(&path).await,
            Command::Chmod => {
                self.say(200, "Objects have no permissions, nothing was changed")
                    .await
            }
            // libunftp's own MLST and STAT ignore the working directory; SIZE asks the storage the same question
            Command::Mlst(path) => match self.permitted(Right::List) {
                Ok(()) => self.on_path("SIZE", &path, facts_reply).await,
                Err(error) => self.send(Reply::from(&error)).await,
            },
            Command::StatPath(path) => self.list_in_reply(&path).await,
            Command::Retr(path) => self.download(&path).await,
            Command::Stor(path) => self.upload(&path, "STOR").await,
            Command::Appe(path) => self.upload(&path, "APPE").await,
            Command::Stou => self.upload_unique().await,
            Command::List(format, path) => self.list(format, &path).await,
        }
    }

    pub(super) async fn say(&mut self, code: u16, text: &'static str) -> Step {
        self.send(Reply::new(code, text)).await
    }

    pub(super) async fn send(&mut self, reply: Reply) -> Step {
        debug!(session = self.session.id, code = reply.code, "reply");
        Ok(self.control.send(&reply).await?)
    }

    async fn user(&mut self, name: String) -> Step {
        if self.session.user().is_some() {
            return self.say(503, "Already logged in").await;
        }
        if self.secured.is_none() && self.tls_required() != TlsRequired::None {
            return self.say(530, "Please use AUTH TLS first").await;
        }
        self.user_name = Some(name);
        self.say(331, "Password required").await
    }

    async fn pass(&mut self, password: SecretString) -> Step {
        if self.session.user().is_some() {
            return self.say(503, "Already logged in").await;
        }
        let Some(name) = self.user_name.take() else {
            return self.say(503, "USER must come first").await;
        };
        let (id, client) = (self.session.id, self.session.peer);
        let peer = Peer {
            address: client.ip(),
            tls: self.secured.is_some(),
            client_cert_cn: self
                .secured
                .as_ref()
                .and_then(|secured| secured.client_name.clone()),
        };
        let users = Arc::clone(&self.frontend.users);
        let login = tokio::select! {
            login = users.login(id, &name, password, &peer) => login,
            () = self.frontend.drain.cancelled() => return Err(Close::with(421, "The server is stopping, try again later")),
        };
        let login = match login {
            Ok(login) => login,
            Err(reason) => {
                self.frontend.metrics.login(reason.word());
                return self.refuse_login(reason).await;
            }
        };
        self.frontend.metrics.login("ok");
        let max_file_size = login.user.max_file_size;
        self.session.log_in(login.user);
        self.seat = Some(login.seat);
        let backend = Backend::new(self.session.clone(), login.store, max_file_size);
        let engine = Engine::start(&self.frontend.loopback, self.session.clone(), backend).await;
        self.engine = Some(engine.map_err(|failure| Close::engine(&self.session, &failure))?);
        info!(event = "login", session = id, user = name, %client, "logged in");
        self.say(230, "Logged in").await
    }

    /// What a client hears whose login failed; the pause for it is over.
    async fn refuse_login(&mut self, reason: LoginError) -> Step {
        self.failed_logins += 1;
        match reason {
            LoginError::Wrong if self.failed_logins < LOGIN_ATTEMPTS => {
                self.say(530, "Login incorrect").await
            }
            LoginError::Wrong | LoginError::Locked => {
                Err(Close::with(421, "Too many failed logins, try again later"))
            }
            LoginError::Busy => Err(Close::with(421, "Too many logins at once, try again later")),
            LoginError::Unavailable => Err(Close::with(
                421,
                "Logins can't be checked at the moment, try again later",
            )),
            // 530 would tell a client that its password is wrong; this passes when another session ends (RFC 959, 4.2.1)
            LoginError::TooManySessions => Err(Close::with(
                421,
                "Too many sessions of this user, try again later",
            )),
        }
    }

    /// Refuses what the user may not do, where the storage can't tell by itself.
    fn permitted(&self, right: Right) -> Result<(), StoreError> {
        let user = self.session.user().ok_or(StoreError::Forbidden)?;
        user.may(right)
    }

    async fn pasv(&mut self) -> Step {
        if self.epsv_only {
            return self.say(501, "EPSV ALL is in force").await;
        }
        if let Some(refusal) = self.unprotected_data() {
            return self.send(refusal).await;
        }
        let told = self.told();
        let address = match &told.address {
            Ok(address) => *address,
            Err(reason) => {
                let text = format!("Can't open a data connection: {reason}");
                return self.send(Reply::new(425, text)).await;
            }
        };
        let Some(port) = self.reserve_port(&told).await else {
            return self.no_port(&told).await;
        };
        let ([a, b, c, d], [high, low]) = (address.octets(), port.to_be_bytes());
        self.send(Reply::new(
            227,
            format!("Entering Passive Mode ({a},{b},{c},{d},{high},{low})"),
        ))
        .await
    }

    async fn epsv(&mut self, argument: Epsv) -> Step {
        let ipv4 = self.session.local.ip().to_canonical().is_ipv4();
        match argument {
            Epsv::All => {
                self.epsv_only = true;
                return self.say(200, "EPSV ALL").await;
            }
            Epsv::Ipv4 if !ipv4 => {
                return self
                    .say(522, "Network protocol not supported, use (2)")
                    .await;
            }
            Epsv::Ipv6 if ipv4 => {
                return self
                    .say(522, "Network protocol not supported, use (1)")
                    .await;
            }
            Epsv::Same | Epsv::Ipv4 | Epsv::Ipv6 => {}
        }
        if let Some(refusal) = self.unprotected_data() {
            return self.send(refusal).await;
        }
        let told = self.told();
        let Some(port) = self.reserve_port(&told).await else {
            return self.no_port(&told).await;
        };
        self.send(Reply::new(
            229,
            format!("Entering Extended Passive Mode (|||{port}|)"),
        ))
        .await
    }

    /// The address and ports that this client is told at this moment.
    fn told(&self) -> Told {
        let (local, peer) = (self.session.local.ip(), self.session.peer.ip());
        self.frontend.masquerade.told(local, peer)
    }

    /// The address for PASV in words.
    pub(super) fn told_address(&self) -> String {
        let told = self.told().address;
        told.map_or_else(|none| none.to_string(), |address| address.to_string())
    }

    /// Reserves a passive port and gives the public port that leads to it.
    async fn reserve_port(&mut self, told: &Told) -> Option<u16> {
        // a new PASV takes the place of the old one
        self.data = None;
        let usable = |port| told.port(port).is_some();
        let reserved = self
            .pool
            .reserve(self.session.peer.ip(), PORT_WITHIN, usable)
            .await?;
        let public = told.port(reserved.port());
        self.data = Some(DataChannel::Passive(reserved));
        public
    }

    async fn no_port(&mut self, told: &Told) -> Step {
        if let Ports::Unknown(_) = told.ports {
            return self
                .say(
                    425,
                    "Can't open a data connection: the public ports are not known yet",
                )
                .await;
        }
        warn!(session = self.session.id, client = %self.session.peer, "no passive port is free for this client");
        self.say(425, "No data port is free, try again later").await
    }

    async fn status(&mut self) -> Step {
        let user = self
            .session
            .user()
            .map_or("nobody", |user| user.name.as_str());
        let text = format!(
            "cosgate status\nLogged in as {user} from {}\nWorking directory {}\nEnd of status",
            self.session.peer.ip(),
            quoted(self.working_directory.as_str()),
        );
        self.send(Reply::new(211, text)).await
    }

    async fn change_directory(&mut self, target: Result<VirtualPath, Reply>) -> Step {
        let target = match target {
            Ok(target) => target,
            Err(reply) => return self.send(reply).await,
        };
        let outcome = self.ask(&format!("CWD {target}")).await?;
        let reply = match outcome {
            Ok(_) => {
                let reply = Reply::new(
                    250,
                    format!("Working directory is {}", quoted(target.as_str())),
                );
                self.working_directory = target;
                reply
            }
            Err(error) => self.refusal("CWD", &target, &error),
        };
        self.send(reply).await
    }

    /// One command on one path that needs no data connection.
    async fn on_path(
        &mut self,
        verb: &'static str,
        path: &str,
        good: impl FnOnce(&VirtualPath, Done) -> Reply,
    ) -> Step {
        let path = match self.resolve(path) {
            Ok(path) => path,
            Err(reply) => return self.send(reply).await,
        };
        let from = self.renaming.take();
        // what changes something is traced and goes to the log; questions are too many
        let audit = match verb {
            "DELE" => Some("delete"),
            "RMD" => Some("remove_directory"),
            "MKD" => Some("make_directory"),
            "RNTO" => Some("rename"),
            _ => None,
        };
        let name = if verb == "RNTO" { "RENAME" } else { verb };
        let mut trace = audit.map(|_| Trace::begin(self, name, &path));
        let reply = match self.ask(&format!("{verb} {path}")).await? {
            Ok(done) => {
                let reply = good(&path, done);
                if let (Some(event), Some(trace)) = (audit, &mut trace) {
                    trace.complete(reply.code);
                    let (id, user, client) = (self.session.id, self.user_name(), self.session.peer);
                    let from = from.as_ref().map(tracing::field::display);
                    info!(event, session = id, user, %client, from, %path, code = reply.code, trace_id = trace.id(), "done");
                }
                if verb == "RNFR" {
                    self.renaming = Some(path);
                }
                reply
            }
            Err(error) => {
                let reply = self.refusal(verb, &path, &error);
                if let Some(trace) = &mut trace {
                    trace.failed("failed", reply.code, &error);
                    self.note_failure(name, &path, reply.code, cause(&error));
                }
                reply
            }
        };
        drop(trace);
        self.send(reply).await
    }

    /// Brings an order about one name to the storage.
    pub(super) async fn order(
        &mut self,
        order: Order,
        path: &VirtualPath,
    ) -> Step<Result<Done, StoreError>> {
        let session = Arc::clone(&self.session);
        session.place(order);
        let outcome = self.ask(&carrying(path)).await;
        session.take_order();
        outcome
    }

    /// Keeps a failure for the status page.
    pub(super) fn note_failure(
        &self,
        verb: &'static str,
        path: &VirtualPath,
        code: u16,
        cause: String,
    ) {
        self.frontend.roster.failures.note(Failure::new(
            self.user_name(),
            self.session.peer.ip(),
            (verb, path.as_str()),
            code,
            cause,
        ));
    }

    /// One command to the engine, and what the storage made of it.
    pub(super) async fn ask(&mut self, line: &str) -> Step<Result<Done, StoreError>> {
        let session = Arc::clone(&self.session);
        session.take_outcome();
        let engine = self.engine.as_mut().ok_or(Close::Silently)?;
        let code = engine
            .command(line)
            .await
            .map_err(|failure| Close::engine(&session, &failure))?;
        self.outcome(line, code)
    }

    /// The storage's word. An engine that answered without having asked the storage is out of step.
    pub(super) fn outcome(&self, line: &str, code: u16) -> Step<Result<Done, StoreError>> {
        match self.session.take_outcome() {
            Some(outcome) if outcome.is_ok() == (code < 400) => Ok(outcome),
            _ => {
                let verb = line.split(' ').next().unwrap_or_default().to_owned();
                Err(Close::engine(
                    &self.session,
                    &EngineError::Odd { verb, code },
                ))
            }
        }
    }

    /// The reply to a storage error, which is logged here once if it is more than the client's own mistake.
    pub(super) fn refusal(&self, verb: &str, path: &VirtualPath, error: &StoreError) -> Reply {
        let reply = Reply::from(error);
        let (id, user, client) = (self.session.id, self.user_name(), self.session.peer);
        match error {
            StoreError::Denied { .. }
            | StoreError::Refused { .. }
            | StoreError::Integrity { .. }
            | StoreError::Rename { .. } => {
                error!(session = id, user, %client, verb, %path, code = reply.code, error = %Chain(error), "the store failed");
            }
            StoreError::Unavailable { .. } | StoreError::NoMemory => {
                warn!(session = id, user, %client, verb, %path, code = reply.code, error = %Chain(error), "the store failed");
            }
            _ => {
                debug!(session = id, user, %client, verb, %path, code = reply.code, error = %Chain(error), "refused")
            }
        }
        reply
    }

    /// What was said before AUTH doesn't count (RFC 4217, section 4.1).
    pub(super) fn forget_user(&mut self) {
        self.user_name = None;
    }

    pub(super) fn user_name(&self) -> &str {
        self.session.user().map_or("", |user| user.name.as_str())
    }
}

fn size_reply(_: &VirtualPath, done: Done) -> Reply {
    match done {
        Done::Entry(entry) if entry.kind == EntryKind::File => {
            Reply::new(213, entry.size.to_string())
        }
        _ => Reply::from(&StoreError::IsDirectory),
    }
}

fn time_reply(_: &VirtualPath, done: Done) -> Reply {
    match done {
        Done::Entry(entry) => match entry.modified {
            Some(time) => Reply::new(213, timestamp(time)),
            None => Reply::new(550, "The directory has no time of its own"),
        },
        _ => Reply::from(&StoreError::NotFound),
    }
}

fn facts_reply(path: &VirtualPath, done: Done) -> Reply {
    let Done::Entry(entry) = done else {
        return Reply::from(&StoreError::NotFound);
    };
    let mut text = format!("Facts of {path}\n");
    facts(&entry, &mut text);
    Reply::new(250, format!("{text} {path}\nEnd"))
}
