//! Users, their rights, and the check of a login.
//!
//! ```text
//! USER, PASS ─> guard: locked out?  ─> users of the configuration: password hash, in the pool of threads
//!                 │ counts, delays      else: the endpoint of auth.http, or the directory of auth.ldap
//!                 │                     else: a check that costs the same and fails
//!                 └───────────────────> conditions (network, TLS, certificate) ─> max_sessions ─> in
//! ```
//!
//! Whatever is wrong, a stranger gets the same: 530, after the same pause and the same work: a login that fails computes a
//! hash of each cost that users have. Only the log says why. So nobody learns which names exist, whether a password was right, or that an address is not allowed.

mod admission;
mod cache;
mod denied;
mod directory;
mod external;
mod follow;
pub mod guard;
mod http;
mod ldap;
pub mod mount;
pub mod pool;
mod session_permit;
pub mod tree;
pub mod user;

use std::borrow::Cow;
use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use secrecy::SecretString;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, error, warn};

use crate::config::{self, Config, Limits};
use crate::failures::{Failure, Failures};
pub use crate::password::{HashError, hash_password, random_password};
use crate::permits::Permits;
use crate::reload::Reload;
use crate::store::Store;
use crate::store::client::Tenant;
use crate::store::key::Reserved;
use crate::store::tenants::Tenants;
use crate::telemetry::LineLimit;
use denied::Denied;
use directory::Directory;
use external::External;
pub use external::ExternalError;
use guard::{Guard, Rejected, Scope};
pub use mount::Right;
use pool::{Hashes, Pool};
pub use session_permit::SessionPermit;
pub use tree::{Tree, hide_behind};
use user::HomeDefaults;
pub use user::{Peer, User};

/// All users, and what it takes to check a login.
#[derive(Debug)]
pub struct Users {
    /// Of the configuration itself; they never change.
    fixed: Arc<[config::User]>,
    directory: RwLock<Arc<Directory>>,
    external: Option<External>,
    guard: Arc<Guard>,
    pool: Pool,
    tenants: Tenants,
    /// By name of the user, for `max_sessions`.
    sessions: Arc<Permits<String>>,
    /// By name and network, for `max_sessions_per_ip`.
    sessions_by_network: Arc<Permits<(String, IpAddr)>>,
    defaults: HomeDefaults,
    common: config::StorageDefaults,
    reload: watch::Sender<Reload>,
    failures: Failures,
    /// Of lines about logins that the authenticator doesn't decide.
    unavailable: LineLimit,
    /// Of lines about anonymous logins that are refused: no lockout bounds them.
    anonymous_refused: LineLimit,
}

/// Somebody has logged in.
pub struct Login {
    /// The user.
    pub user: Arc<User>,
    /// The user's files.
    pub tree: Tree,
    /// To be kept for as long as the session lasts.
    pub permit: SessionPermit,
}

/// A login failed, and the pause for it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// Unknown user, wrong password, or a condition that isn't met.
    #[error("login incorrect")]
    Wrong,
    /// Too many failures; the password was not looked at.
    #[error("locked out after too many failed logins")]
    Locked,
    /// Too many other logins are being checked.
    #[error("too many logins at once")]
    Busy,
    /// The authenticator gives no usable answer.
    #[error("logins can't be checked")]
    Unavailable,
    /// The user has as many sessions as allowed.
    #[error("the user has too many sessions")]
    TooManySessions,
}

impl LoginError {
    /// One word, for a metric's label.
    pub fn word(self) -> &'static str {
        match self {
            LoginError::Wrong => "wrong",
            LoginError::Locked => "locked",
            LoginError::Busy => "busy",
            LoginError::Unavailable => "unavailable",
            LoginError::TooManySessions => "too_many_sessions",
        }
    }
}

/// The users can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum UsersError {
    /// No decoy could be made.
    #[error(transparent)]
    Hash(#[from] HashError),
    /// The authenticator's settings can't be used.
    #[error(transparent)]
    External(#[from] ExternalError),
}

impl Users {
    /// The users of `config`, whose files go to `store` unless they have their own.
    pub fn new(config: &Config, store: Store) -> Result<Self, UsersError> {
        let defaults = HomeDefaults {
            prefix: config.storage.prefix.clone(),
            max_key_bytes: config.storage.max_key_bytes,
            takes_backslash: config.storage.provider != config::Provider::Cos,
            reserved: Reserved::new(&config.storage.reserved_name),
            max_file_size: config.upload.max_file_size,
            names: config.upload.objects.names.clone(),
            ascii: config.ascii,
            charset: config.charset,
            require_close_notify: config
                .tls
                .as_ref()
                .is_none_or(|tls| tls.require_close_notify),
        };
        let common = config::StorageDefaults::of(&config.storage);
        let external = External::new(&config.auth, &common, &defaults)?;
        let of_file = config.users_file.iter().flat_map(|file| &file.users);
        let directory = Directory::new(config.users.iter().chain(of_file), &defaults)?;
        Ok(Users {
            fixed: config.users.as_slice().into(),
            directory: RwLock::new(Arc::new(directory)),
            external,
            guard: Guard::new(
                config.auth.lockout.clone(),
                config
                    .shared_lockouts()
                    .map(|handover| handover.derived_key(&[NAMES])),
            ),
            pool: Pool::start(),
            tenants: Tenants::new(store),
            sessions: Arc::default(),
            sessions_by_network: Arc::default(),
            defaults,
            common,
            reload: watch::channel(Reload::now()).0,
            unavailable: LineLimit::per(UNAVAILABLE_LINES),
            anonymous_refused: LineLimit::per(UNAVAILABLE_LINES),
            failures: Failures::default(),
        })
    }

    /// Checks a login. Returns after the pause that a failure costs.
    ///
    /// `session` names the session in the log. `is_last`: the connection is closed if this login is wrong.
    pub async fn login(
        &self,
        session: u64,
        name: &str,
        password: SecretString,
        peer: &Peer,
        is_last: bool,
    ) -> Result<Login, LoginError> {
        let arrived = Instant::now();
        let client = peer.address;
        let name = &*self.canonical(name);
        let anonymous = self.directory().anonymous(name).cloned();
        if let Some(user) = anonymous {
            return self.anonymous_login(session, user, peer, arrived).await;
        }
        let attempt = match self.guard.admit(client, name).await {
            Ok(attempt) => attempt,
            Err(rejected) => {
                // the lockout itself was logged; a flood of attempts must not flood the log
                debug!(session, %client, ?rejected, "login not checked");
                let (error, cause) = match rejected {
                    Rejected::Locked(scope) => (LoginError::Locked, locked(scope)),
                    Rejected::Busy => (LoginError::Busy, BUSY),
                };
                let error = self.as_unavailable(error);
                self.note(self.known(name), peer, code(error), cause.to_owned());
                tokio::time::sleep_until(arrived + self.guard.shortest_pause()).await;
                return Err(error);
            }
        };
        tokio::time::sleep(attempt.wait).await;
        let reason = match self.check(name, password, peer).await {
            Ok(user) => {
                attempt.succeed();
                return self.admit(session, user, peer);
            }
            Err(Refusal::Busy) => {
                debug!(session, %client, "too many logins at once");
                self.note(
                    self.known(name),
                    peer,
                    code(LoginError::Busy),
                    BUSY.to_owned(),
                );
                tokio::time::sleep_until(arrived + self.guard.shortest_pause()).await;
                return Err(LoginError::Busy);
            }
            Err(Refusal::Unavailable(reason)) => {
                match self.unavailable.pass() {
                    Some(left_out) => {
                        error!(event = "login_unavailable", session, %client, reason, left_out, "a login could not be checked");
                    }
                    None => debug!(session, %client, reason, "a login could not be checked"),
                }
                let external = self.external.as_ref().map_or("", External::described);
                let cause = format!("{external} gives no usable answer: {reason}");
                self.note(self.known(name), peer, code(LoginError::Unavailable), cause);
                tokio::time::sleep_until(arrived + self.guard.shortest_pause()).await;
                return Err(LoginError::Unavailable);
            }
            Err(Refusal::Wrong(reason)) => reason,
        };
        let failed = attempt.fail();
        let known = self.known(name);
        warn!(event = "login_failed", session, user = known, %client, reason, "login refused");
        debug!(session, typed = %Cut(name), "login refused");
        let cause = match failed.locked {
            Some(scope) => format!("{reason}; {}", locked(scope)),
            None => reason,
        };
        let error = self.as_unavailable(LoginError::Wrong);
        let sent = match error {
            LoginError::Wrong if is_last => 421,
            error => code(error),
        };
        self.note(known, peer, sent, cause);
        if let Some(scope) = failed.locked {
            let (seconds, scope) = (
                self.guard.lockout().as_secs(),
                match scope {
                    Scope::Address => "address",
                    Scope::User => "address and user",
                },
            );
            warn!(event = "lockout", session, user = known, %client, scope, seconds, "locked out after too many failed logins");
        }
        let pause = match error {
            LoginError::Unavailable => self.guard.shortest_pause(),
            _ => failed.pause,
        };
        let external = self.external.as_ref();
        let answered = external.map_or(Duration::ZERO, External::last_took);
        tokio::time::sleep_until(arrived + pause.max(answered)).await;
        Err(error)
    }

    /// The one way in which a user's name is written: as typed, or beside an authenticator that ignores case as it is configured here, or
    /// else in lower case.
    fn canonical<'a>(&self, name: &'a str) -> Cow<'a, str> {
        if !self.external.as_ref().is_some_and(External::ignores_case) {
            return Cow::Borrowed(name);
        }
        // a user of the configuration is never somebody else's, or `alice` of the directory would pass by what holds for `Alice`
        let own = self.directory().name_in_any_case(name).map(str::to_owned);
        Cow::Owned(own.unwrap_or_else(|| name.to_ascii_lowercase()))
    }

    /// The error for a client whose login failed with `error`. While the authenticator gives no usable answers, users whom it knows
    /// get [`LoginError::Unavailable`]; others get the same, or the difference would show whom this gateway knows itself.
    fn as_unavailable(&self, error: LoginError) -> LoginError {
        let failing = self.external.as_ref().is_some_and(External::is_failing);
        match error {
            LoginError::Wrong | LoginError::Locked if failing => LoginError::Unavailable,
            error => error,
        }
    }

    async fn check(
        &self,
        name: &str,
        password: SecretString,
        peer: &Peer,
    ) -> Result<Arc<User>, Refusal> {
        let directory = self.directory();
        let user = directory.by_name.get(name);
        if let (None, Some(external)) = (user, &self.external) {
            let asked = external.login(name, &password, peer).await;
            let refusal = match asked {
                Ok(user) => match user.check_restrictions(peer) {
                    Ok(()) => return Ok(user),
                    Err(restriction) => Refusal::Wrong(restriction.to_string()),
                },
                Err(Denied::Wrong(reason)) => Refusal::Wrong(reason),
                Err(Denied::Unusable(reason) | Denied::Failing(reason)) => {
                    Refusal::Unavailable(reason)
                }
            };
            if !directory.by_name.is_empty() {
                // as long as it takes for users whom the authenticator is not asked for
                self.verify(&directory, None, password).await?;
            }
            return Err(refusal);
        }
        let restriction = user.and_then(|user| user.check_restrictions(peer).err());
        let known = user.map(|user| (user, restriction.is_some()));
        let right = self.verify(&directory, known, password).await?;
        match (user, restriction) {
            (None, _) => Err(Refusal::Wrong("unknown user".to_owned())),
            (Some(_), _) if !right => Err(Refusal::Wrong("wrong password".to_owned())),
            (Some(_), Some(restriction)) => Err(Refusal::Wrong(restriction.to_string())),
            (Some(user), None) => Ok(Arc::clone(user)),
        }
    }

    /// True if `password` is that of the user, who may be refused nevertheless. If the login fails, this takes the same
    /// work for everybody.
    async fn verify(
        &self,
        directory: &Directory,
        user: Option<(&Arc<User>, bool)>,
        password: SecretString,
    ) -> Result<bool, Refusal> {
        let own = user.and_then(|(user, _)| user.password_hash.clone());
        let hashes = Hashes {
            decoys: directory.decoys_beside(own.as_ref()),
            own,
            refused: user.is_some_and(|(_, refused)| refused),
        };
        let checked = self.pool.check(hashes, password).await;
        checked.map_err(|_| Refusal::Busy)
    }

    /// A name that may be shown: people type passwords into the wrong field, so it must be one that exists.
    fn known<'a>(&self, name: &'a str) -> &'a str {
        self.find(name).map_or("(unknown)", |_| name)
    }

    /// Keeps a failed login for the status page.
    fn note(&self, user: &str, peer: &Peer, code: u16, cause: String) {
        let what = ("login", "");
        self.failures
            .note(Failure::new(user, peer.address, what, code, cause));
    }

    /// Logins that failed lately.
    pub fn failed_logins(&self) -> Vec<Failure> {
        self.failures.list()
    }

    /// The guard against guessing.
    pub fn guard(&self) -> &Arc<Guard> {
        &self.guard
    }

    /// The state of the users file.
    pub fn reload_state(&self) -> watch::Receiver<Reload> {
        self.reload.subscribe()
    }

    /// The limits of bandwidth of a user of the configuration or the users file, as they are now.
    pub fn limits(&self, name: &str) -> Option<Limits> {
        Some(self.find(name)?.limits)
    }

    /// The buckets and prefixes to sweep: `base` with the prefix of all homes, and each bucket and account besides.
    pub fn places(&self, base: &Store) -> Vec<(Store, String)> {
        let mut places = vec![(base.clone(), self.defaults.prefix.clone())];
        let directory = self.directory();
        let mut buckets = HashSet::from([(None, None)]);
        for mount in directory.by_name.values().flat_map(|user| &user.mounts) {
            let Tenant {
                bucket,
                site,
                credentials,
                ..
            } = &mount.tenant;
            if credentials.is_none() && !buckets.insert((bucket.as_ref(), site.as_ref())) {
                continue;
            }
            let place = mount.home.outbox_base().to_owned();
            places.push((self.tenants.store(&mount.tenant), place));
        }
        places
    }

    fn find(&self, name: &str) -> Option<Arc<User>> {
        self.directory().by_name.get(name).cloned()
    }

    fn directory(&self) -> Arc<Directory> {
        Arc::clone(&self.directory.read())
    }
}

/// The code of the reply, unless the connection is closed.
fn code(error: LoginError) -> u16 {
    match error {
        LoginError::Wrong => 530,
        LoginError::Locked
        | LoginError::Busy
        | LoginError::Unavailable
        | LoginError::TooManySessions => 421,
    }
}

/// The purpose of the key of names' hashes.
const NAMES: &[u8] = b"cosgate lockout names";

const BUSY: &str = "too many other logins were being checked at once";

fn locked(scope: Scope) -> &'static str {
    match scope {
        Scope::Address => "the address is locked out after too many failed logins (auth.lockout)",
        Scope::User => {
            "the address is locked out for this user after too many failed logins (auth.lockout)"
        }
    }
}

/// Why a login is refused, with the reason for the log.
enum Refusal {
    Wrong(String),
    Busy,
    Unavailable(String),
}

/// One line in this time says that the authenticator gives no usable answers, and how many logins it was for.
const UNAVAILABLE_LINES: Duration = Duration::from_secs(10);

/// The first letters of what somebody typed: enough to recognise a name, for the debug log.
struct Cut<'a>(&'a str);

impl std::fmt::Display for Cut<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // most user names are shorter
        const LETTERS: usize = 32;
        self.0
            .chars()
            .take(LETTERS)
            .try_for_each(|letter| write!(f, "{letter}"))
    }
}
