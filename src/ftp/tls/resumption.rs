//! The mark in a data connection's TLS session of the control connection that it belongs to.
//!
//! Clients resume the session of their control connection on its data connections, so what they resume is their identity:
//!
//! - `tls.session_reuse: required`: a data connection must resume a session that began with its own control connection
//!   ([`OwnTickets`], [`OwnSession`]), by whatever client and from whatever address it comes.
//! - `off`: a data connection that resumes the session of *another user's* control connection is refused
//!   ([`Marked`], [`Users`]). It is a late connection of another client behind the same address (NAT), and its bytes must not
//!   reach this session. That of another session of the *same* user is taken: programs that run several sessions keep their TLS
//!   sessions in one cache and resume any of them, so it says nothing there. (Measured: of 40 uploads by curl 7.88 with `--parallel`, all
//!   are stored so; 39 show another session's ticket, which `required` refuses.)
//!
//! Nobody's connection is handed on to the session that it names: its port and address would have to be ignored, and a gateway
//! would have to begin a TLS handshake with every stranger at its passive ports.

use std::collections::VecDeque;
use std::io;
use std::num::NonZeroUsize;
use std::sync::{Arc, OnceLock};

use lru::LruCache;
use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::server::{ProducesTickets, StoresServerSessions};

/// Stands for one control connection inside the tickets and sessions that the gateway gives.
pub(super) type Mark = [u8; 16];
type Marks = Arc<Mutex<VecDeque<Mark>>>;

/// The way the data connections of one session may resume.
#[derive(Clone, Debug, Default)]
pub(super) struct Own {
    marks: Marks,
    /// The TLS 1.2 session of its control connection, by its id.
    session: Arc<OnceLock<(Vec<u8>, Vec<u8>)>>,
}

/// Sessions by id, for clients that take no tickets in TLS 1.2, such as curl. Only the control connection's handshake
/// leaves one; data connections find that one and leave nothing.
#[derive(Debug)]
struct OwnSession {
    leaves: bool,
    session: Arc<OnceLock<(Vec<u8>, Vec<u8>)>>,
}

impl StoresServerSessions for OwnSession {
    fn put(&self, id: Vec<u8>, session: Vec<u8>) -> bool {
        self.leaves && self.session.set((id, session)).is_ok()
    }

    fn get(&self, id: &[u8]) -> Option<Vec<u8>> {
        let (own, session) = self.session.get()?;
        (own == id).then(|| session.clone())
    }

    /// Nothing is ever taken: the session serves any number of data connections.
    fn take(&self, _id: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn can_cache(&self) -> bool {
        self.leaves
    }
}

/// Tickets of one connection. What it gives carries its own random mark, encrypted; it takes what carries a mark of its
/// session. A data connection's mark becomes one of those only after it has itself resumed: a stranger whose full
/// handshake was refused has got nothing that would let it in the next time.
///
/// (rustls' resumption data would be simpler, but 0.23 hands it over in TLS 1.3 only.)
#[derive(Debug)]
struct OwnTickets {
    gives: Mark,
    takes: Marks,
    inner: Arc<dyn ProducesTickets>,
}

impl ProducesTickets for OwnTickets {
    fn enabled(&self) -> bool {
        self.inner.enabled()
    }

    fn lifetime(&self) -> u32 {
        self.inner.lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.inner.encrypt(&[&self.gives, plain].concat())
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        let marked = self.inner.decrypt(cipher)?;
        let (mark, plain) = marked.split_first_chunk()?;
        self.takes.lock().contains(mark).then(|| plain.to_vec())
    }
}

fn random_mark() -> io::Result<Mark> {
    let mut mark = Mark::default();
    getrandom::fill(&mut mark).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(mark)
}

/// Marks that one session remembers; clients use the newest tickets, or again and again the first, which stays.
const MAX_MARKS: usize = 16;

impl Own {
    /// The configuration for the handshake of the control connection that this belongs to.
    pub(super) fn control(&self, config: &ServerConfig) -> io::Result<Arc<ServerConfig>> {
        let (config, mark) = self.configured(config, true)?;
        self.marks.lock().push_back(mark);
        Ok(config)
    }

    /// The configuration for the handshake of one of its data connections, and the mark for [`Own::remember`].
    pub(super) fn data(&self, config: &ServerConfig) -> io::Result<(Arc<ServerConfig>, Mark)> {
        self.configured(config, false)
    }

    /// The tickets of a data connection that has resumed are good for the next ones.
    pub(super) fn remember(&self, mark: Mark) {
        let mut marks = self.marks.lock();
        if marks.len() == MAX_MARKS {
            marks.remove(1);
        }
        marks.push_back(mark);
    }

    fn configured(
        &self,
        config: &ServerConfig,
        control: bool,
    ) -> io::Result<(Arc<ServerConfig>, Mark)> {
        let gives = random_mark()?;
        let mut config = config.clone();
        config.ticketer = Arc::new(OwnTickets {
            gives,
            takes: Arc::clone(&self.marks),
            inner: Arc::clone(&config.ticketer),
        });
        config.session_storage = Arc::new(OwnSession {
            leaves: control,
            session: Arc::clone(&self.session),
        });
        Ok((Arc::new(config), gives))
    }
}

/// The users of the latest control connections, by the marks of their TLS sessions.
#[derive(Clone, Debug)]
pub(super) struct Users(Arc<Mutex<LruCache<Mark, Arc<str>>>>);

/// Control connections whose users are remembered; some 150 bytes each. One that is forgotten is nobody's, as is one that
/// another process had.
const MAX_USERS: NonZeroUsize = NonZeroUsize::new(16 * 1024).expect("is not zero");

impl Default for Users {
    fn default() -> Self {
        Users(Arc::new(Mutex::new(LruCache::new(MAX_USERS))))
    }
}

/// The marks of one control connection.
#[derive(Debug)]
pub(super) struct Lineage {
    mark: Mark,
    /// The control connection itself has resumed a session, so that it and this one are one client's.
    resumed: Option<Mark>,
    users: Users,
    user: OnceLock<Arc<str>>,
}

impl Lineage {
    /// With a new mark.
    pub(super) fn new(users: &Users) -> io::Result<Self> {
        Ok(Lineage {
            mark: random_mark()?,
            resumed: None,
            users: users.clone(),
            user: OnceLock::new(),
        })
    }

    /// For the handshake of its control connection.
    pub(super) fn control(&self, config: &ServerConfig) -> Arc<Marked> {
        Marked::giving(Some(self.mark), config)
    }

    /// Notes the session that the control connection has resumed.
    pub(super) fn resumes(&mut self, shown: Option<Mark>) {
        self.resumed = shown;
    }

    /// Notes who has logged in. The first login counts: a session that logs in anew as somebody else is the same client.
    pub(super) fn log_in(&self, user: &str) {
        let user = self.user.get_or_init(|| Arc::from(user));
        self.users.0.lock().put(self.mark, Arc::clone(user));
    }

    /// True if a data connection that resumed the session marked `shown` is another user's.
    pub(super) fn is_foreign(&self, shown: Mark) -> bool {
        if shown == self.mark || Some(shown) == self.resumed {
            return false;
        }
        let users = self.users.0.lock();
        match (users.peek(&shown), self.user.get()) {
            (Some(theirs), Some(own)) => theirs != own,
            // not logged in, or long ago
            _ => false,
        }
    }
}

/// Tickets and sessions that carry a mark, and say which one a client has shown.
#[derive(Debug)]
pub(super) struct Marked {
    /// Of a control connection. What a data connection gives carries the mark that the client has shown on it, so that a
    /// stranger whose data connection is refused takes nothing of this session with it.
    gives: Option<Mark>,
    shown: Mutex<Option<Mark>>,
    tickets: Arc<dyn ProducesTickets>,
    sessions: Arc<dyn StoresServerSessions>,
}

/// The mark of data connections that have resumed nothing.
const NOBODY: Mark = [0; 16];

impl Marked {
    /// For a data connection.
    pub(super) fn new(config: &ServerConfig) -> Arc<Self> {
        Marked::giving(None, config)
    }

    fn giving(gives: Option<Mark>, config: &ServerConfig) -> Arc<Self> {
        Arc::new(Marked {
            gives,
            shown: Mutex::new(None),
            tickets: Arc::clone(&config.ticketer),
            sessions: Arc::clone(&config.session_storage),
        })
    }

    /// `config` with these tickets and sessions, for one handshake.
    pub(super) fn configured(self: &Arc<Self>, config: &ServerConfig) -> Arc<ServerConfig> {
        let mut config = config.clone();
        config.ticketer = Arc::clone(self) as Arc<dyn ProducesTickets>;
        config.session_storage = Arc::clone(self) as Arc<dyn StoresServerSessions>;
        Arc::new(config)
    }

    /// The mark of the last ticket or session that the client has shown: the resumed one, if the handshake resumed any.
    pub(super) fn shown(&self) -> Option<Mark> {
        *self.shown.lock()
    }

    fn mark(&self, plain: &[u8]) -> Vec<u8> {
        let mark = self.gives.or(self.shown()).unwrap_or(NOBODY);
        [&mark, plain].concat()
    }

    fn unmark(&self, marked: &[u8]) -> Option<Vec<u8>> {
        let (mark, plain) = marked.split_first_chunk()?;
        *self.shown.lock() = Some(*mark);
        Some(plain.to_vec())
    }
}

impl ProducesTickets for Marked {
    fn enabled(&self) -> bool {
        self.tickets.enabled()
    }

    fn lifetime(&self) -> u32 {
        self.tickets.lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.tickets.encrypt(&self.mark(plain))
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.unmark(&self.tickets.decrypt(cipher)?)
    }
}

impl StoresServerSessions for Marked {
    fn put(&self, id: Vec<u8>, session: Vec<u8>) -> bool {
        self.sessions.put(id, self.mark(&session))
    }

    fn get(&self, id: &[u8]) -> Option<Vec<u8>> {
        self.unmark(&self.sessions.get(id)?)
    }

    fn take(&self, id: &[u8]) -> Option<Vec<u8>> {
        self.unmark(&self.sessions.take(id)?)
    }

    fn can_cache(&self) -> bool {
        self.sessions.can_cache()
    }
}
