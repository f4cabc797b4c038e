//! The edge: one control connection from its greeting to its end.
//!
//! The edge owns everything a stranger can touch: the line codec, the command table, the order of commands, timers, limits
//! and the final reply. The engine behind it is asked one thing at a time, for a user who has logged in.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tracing::{Instrument, debug, error, info_span, warn};

use crate::auth::{Right, Seat, random_password};
use crate::ftp::codec::{Control, Line};
use crate::ftp::command::{Command, SITE_HELP, verb};
use crate::ftp::connections::Permit;
use crate::ftp::diagnosis::{cause, ending};
use crate::ftp::during_transfer::is_quit;
use crate::ftp::encoding::NameEncoding;
use crate::ftp::engine::request::{StorageOutcome, StorageRequest};
use crate::ftp::engine::{Engine, EngineError};
use crate::ftp::failures::Failure;
use crate::ftp::file_commands::{facts_reply, renamed_reply, size_reply, time_reply};
use crate::ftp::listener::Frontend;
use crate::ftp::listformat::{Facts, Format};
use crate::ftp::net::Stream;
use crate::ftp::passive::{PassivePool, Reservation};
use crate::ftp::protection::handshake;
use crate::ftp::reply::{Reply, quoted};
use crate::ftp::session::Session;
use crate::ftp::tls::Secured;
use crate::ftp::trace::Trace;
use crate::store::{Chain, Store, StoreError, VirtualPath};

/// The reason in a 421 of a gateway that ends.
pub(super) const STOPPING: &str = "The server is stopping, try again later";

/// The reply to QUIT.
const GOODBYE: &str = "Goodbye";

/// How long a QUIT may take to cross a last reply.
const QUIT_WITHIN: Duration = Duration::from_secs(1);

/// The control connection ends.
#[derive(Debug)]
pub(super) enum Close {
    /// Without another word: the client is gone, or there is nothing safe to say.
    Silently,
    /// With a last reply.
    With(Reply),
    /// With a last reply that the client may not expect; a QUIT that crosses it is answered.
    Farewell(Reply),
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
    pub(super) fn with(code: u16, text: &'static str) -> Self {
        Close::With(Reply::new(code, text))
    }

    pub(super) fn farewell(code: u16, text: &'static str) -> Self {
        Close::Farewell(Reply::new(code, text))
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
    pub(super) pool: Arc<PassivePool>,
    /// `PBSZ` was said, as RFC 2228 wants it before `PROT`.
    pub(super) buffer_size_set: bool,
    greeted: bool,
    log_in_by: Instant,
    pub(super) user_name: Option<String>,
    pub(super) failed_logins: u32,
    pub(super) epsv_only: bool,
    /// The client has said `TYPE A`. Without a TYPE files are bytes, whatever the RFC's default; see [`crate::ftp::ascii`].
    pub(super) ascii: bool,
    /// Which encoding the client's names are in.
    pub(super) encoding: NameEncoding,
    /// Where the user's files are, once logged in.
    pub(super) store: Option<Store>,
    /// The facts that `OPTS MLST` has chosen.
    pub(super) facts: Facts,
    /// The session's place among those of its user.
    pub(super) seat: Option<Seat>,
    /// What the last command named, if it was an `RNFR` that the engine accepted.
    pub(super) renaming: Option<VirtualPath>,
    /// Whether that is a directory.
    pub(super) renames_directory: bool,
    /// The user's bucket, once somebody has logged in.
    pub(super) bucket: Option<String>,
    /// Leave for this connection.
    pub(super) permit: Permit,
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
    permit: Permit,
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
    let encoding = NameEncoding::new(frontend.charset);
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
        ascii: false,
        encoding,
        store: None,
        facts: Facts::ALL,
        renaming: None,
        renames_directory: false,
        bucket: None,
        permit,
    };
    let end = loop {
        edge.control.encode_in(edge.encoding.outgoing());
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
    match end {
        Close::With(reply) => {
            let _ = edge.control.send(&reply).await;
        }
        Close::Farewell(reply) => {
            let _ = edge.bid_farewell(&reply).await;
        }
        Close::Silently | Close::StartTls => {}
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
        let (frontend, since) = (&self.frontend, self.session.doing().since);
        let quiet_in_drain = async {
            frontend.drain.cancelled().await;
            tokio::time::sleep_until(Instant::from_std(since) + frontend.drain_idle).await;
        };
        tokio::select! {
            // what the client has said counts, until the time of all sessions is over
            biased;
            () = frontend.last_call.cancelled() => Err(Close::farewell(421, STOPPING)),
            line = self.control.next() => Ok(line?),
            () = tokio::time::sleep_until(until) => Err(Close::farewell(421, "Timeout, closing the connection")),
            () = quiet_in_drain => Err(Close::farewell(421, STOPPING)),
        }
    }

    /// Sends the last reply, and then 221 if the client has said QUIT or says it now: it may have been sent before `reply`
    /// arrived, and a client counts a QUIT without its answer as an error.
    async fn bid_farewell(&mut self, reply: &Reply) -> io::Result<()> {
        self.control.send(reply).await?;
        let (control, queue) = (&mut self.control, &self.queue);
        let quits = async {
            if queue.iter().any(is_quit) {
                return true;
            }
            loop {
                match control.next().await {
                    Ok(Line::End | Line::Flood) | Err(_) => return false,
                    Ok(line) if is_quit(&line) => return true,
                    Ok(_) => {}
                }
            }
        };
        if let Ok(true) = tokio::time::timeout(QUIT_WITHIN, quits).await {
            self.control.send(&Reply::new(221, GOODBYE)).await?;
        }
        Ok(())
    }

    async fn answer(&mut self, line: Line) -> Step {
        let text = match line {
            Line::Text(text) => self.encoding.text(text, &self.session.shown()),
            Line::Legacy(bytes) => match self.legacy(&bytes) {
                Ok(text) => text,
                Err(refusal) => return self.send(refusal).await,
            },
            Line::TooLong => return self.say(500, "The line is too long").await,
            Line::Malformed => return self.say(501, "CR and NUL are not allowed").await,
            Line::Flood => {
                return Err(Close::with(
                    421,
                    "The line never ends, closing the connection",
                ));
            }
            Line::End => return Err(Close::Silently),
        };
        let verb = verb(&text);
        self.session.begin(verb);
        let text = match verb {
            // these are no names of files, and are shown to nobody
            "USER" | "PASS" => text,
            _ => self.encoding.outgoing().unescape(&text).into_owned(),
        };
        let span = info_span!("command", session = self.session.id);
        match Command::parse(&text) {
            Ok(command) => self.execute_command(command).instrument(span).await,
            Err(reply) => self.send(reply).await,
        }
    }

    async fn execute_command(&mut self, command: Command) -> Step {
        let renaming = std::mem::take(&mut self.renaming);
        if !command.keeps_restart() {
            self.restart = 0;
            self.announced = None;
        }
        match command {
            Command::Quit => Err(Close::with(221, GOODBYE)),
            Command::Noop => self.say(200, "OK").await,
            Command::Help => self.say(214, "See RFC 959, 2389, 2428 and 3659").await,
            Command::Feat => self.send(self.features()).await,
            Command::Opts(option) => self.option(&option).await,
            Command::Syst => self.say(215, "UNIX Type: L8").await,
            Command::Type(kind) => self.set_type(kind).await,
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
            Command::Rest(1..) if self.converts() => self.no_ascii("REST", 504).await,
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
                self.on_path("RNTO", &path, renamed_reply).await
            }
            Command::Size(_) if self.converts() => self.no_ascii("SIZE", 550).await,
            Command::Size(path) => self.on_path("SIZE", &path, size_reply).await,
            Command::Mdtm(path) => self.on_path("MDTM", &path, time_reply).await,
            Command::Mfmt(time, path) => self.set_time("MFMT", time, &path).await,
            Command::MdtmTime { time, path, whole } => {
                self.time_or_set_time(time, &path, &whole).await
            }
            Command::Utime(time, path) => self.set_time("SITE UTIME", time, &path).await,
            Command::Hash(algorithm, path) => self.hash(algorithm, &path).await,
            Command::Hashes(path) => self.hashes(&path).await,
            Command::Chmod(path) => {
                let text = "Objects have no permissions, nothing was changed";
                self.on_path("SITE CHMOD", &path, |_, _| Reply::new(200, text))
                    .await
            }
            Command::SiteHelp => self.say(214, SITE_HELP).await,
            Command::Mlst(path) => match self.permitted(Right::List) {
                Ok(()) => {
                    let chosen = self.facts;
                    let reply = |path: &VirtualPath, done| facts_reply(path, done, chosen);
                    self.on_path("MLST", &path, reply).await
                }
                Err(error) => self.send(Reply::from(&error)).await,
            },
            Command::StatPath(path) => self.list_in_reply(&path).await,
            Command::Retr(path) => self.download(&path).await,
            Command::Stor(path) => self.upload(&path, "STOR").await,
            Command::Appe(path) => self.upload(&path, "APPE").await,
            Command::Stou => self.upload_unique().await,
            Command::List(Format::Facts(_), path) => {
                self.list(Format::Facts(self.facts), &path).await
            }
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

    /// Refuses what the user may not do, where the storage can't tell by itself.
    fn permitted(&self, right: Right) -> Result<(), StoreError> {
        let user = self.session.user().ok_or(StoreError::Forbidden)?;
        user.may(right)
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

    /// Brings a request to the storage, and what came of it back.
    pub(super) async fn execute(
        &mut self,
        request: StorageRequest,
    ) -> Step<Result<StorageOutcome, StoreError>> {
        let session = Arc::clone(&self.session);
        let verb = request.subcommand();
        let engine = self.engine.as_mut().ok_or(Close::Silently)?;
        let ended = engine.execute(request).await;
        session.take_request();
        let code = ended.map_err(|failure| Close::engine(&session, &failure))?;
        self.outcome(verb, code)
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
    pub(super) async fn ask(&mut self, line: &str) -> Step<Result<StorageOutcome, StoreError>> {
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
    pub(super) fn outcome(
        &self,
        line: &str,
        code: u16,
    ) -> Step<Result<StorageOutcome, StoreError>> {
        match self.session.take_outcome() {
            Some(outcome) if outcome.is_ok() == (code < 400) => Ok(outcome),
            _ => {
                let verb = line.split(' ').next().unwrap_or_default();
                Err(self.out_of_step(verb, code))
            }
        }
    }

    /// The reply to a storage error. What the store failed at is logged here once and kept for the status page; what
    /// has a trace ends it, and is kept for the page even if it is the client's own mistake.
    pub(super) fn refusal(
        &self,
        verb: &'static str,
        path: &VirtualPath,
        error: &StoreError,
        trace: Option<&mut Trace>,
    ) -> Reply {
        let reply = Reply::from(error);
        let (id, user, client) = (self.session.id, self.user_name(), self.session.peer);
        let is_noted = match error {
            StoreError::Denied { .. }
            | StoreError::NoSpace { .. }
            | StoreError::Refused { .. }
            | StoreError::Integrity { .. }
            | StoreError::Rename { .. } => {
                error!(session = id, user, %client, verb, %path, code = reply.code, error = %Chain(error), "the store failed");
                true
            }
            StoreError::Unavailable { .. }
            | StoreError::Changed { .. }
            | StoreError::Busy { .. }
            | StoreError::NoMemory => {
                warn!(session = id, user, %client, verb, %path, code = reply.code, error = %Chain(error), "the store failed");
                true
            }
            _ => {
                debug!(session = id, user, %client, verb, %path, code = reply.code, error = %Chain(error), "refused");
                trace.is_some()
            }
        };
        if error.is_of_integrity() {
            self.frontend.metrics.differing();
        }
        if is_noted {
            self.note_failure(verb, path, reply.code, cause(error));
        }
        if let Some(trace) = trace {
            trace.failed(ending(error), reply.code, error);
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
