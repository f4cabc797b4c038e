//! Logins that somebody else decides: an HTTP endpoint or an LDAP directory, for companies that know their users already.
//!
//! Anything but a clear yes lets nobody in. Where there is no usable answer, that is distinguished from a wrong password, for the log
//! and for the guard, which counts only the latter. Successes may be kept for a short time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use secrecy::SecretString;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::auth::cache::Cache;
use crate::auth::denied::Denied;
use crate::auth::http::{Endpoint, EndpointError};
use crate::auth::ldap::{self, Ldap};
use crate::auth::user::{HomeDefaults, Peer, User};
use crate::config::{self, StorageDefaults};
use crate::http_client::TlsSetupError;

/// The authenticator for users that are not configured, with what holds for each kind of it.
pub struct External {
    authenticator: Authenticator,
    timeout: Duration,
    places: Semaphore,
    cache: Option<Cache>,
    defaults: HomeDefaults,
    state: State,
}

enum Authenticator {
    Http(Box<Endpoint>),
    Ldap(Box<Ldap>),
}

/// The outcome of the last request.
#[derive(Debug, Default)]
struct State {
    failing: AtomicBool,
    took_millis: AtomicU64,
}

/// The settings of the authenticator can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ExternalError {
    /// Those of `auth.http`.
    #[error(transparent)]
    Http(#[from] EndpointError),
    /// Those of `auth.ldap`: TLS can't be set up, mostly for want of certificates in `auth.ldap.ca_file`.
    #[error("auth.ldap.ca_file, {0}")]
    Ldap(#[from] TlsSetupError),
    /// The system has no random numbers.
    #[error("random numbers for the cache of logins: {0}")]
    Random(String),
}

/// Requests at a time, each on a connection of its own; more wait, within the time limit. A flood of logins must not become one at the
/// authenticator.
const IN_FLIGHT: usize = 32;

impl External {
    /// The authenticator that `auth` names, if there is one; nothing is sent.
    pub fn new(
        auth: &config::Auth,
        common: &StorageDefaults,
        defaults: &HomeDefaults,
    ) -> Result<Option<Self>, ExternalError> {
        let (authenticator, timeout, cache) = if let Some(settings) = &auth.http {
            let endpoint = Endpoint::new(settings, common.clone())?;
            let authenticator = Authenticator::Http(Box::new(endpoint));
            (authenticator, settings.timeout, settings.cache)
        } else if let Some(settings) = &auth.ldap {
            let authenticator = Authenticator::Ldap(Box::new(Ldap::new(settings)?));
            (authenticator, settings.timeout, settings.cache)
        } else {
            return Ok(None);
        };
        let cache = cache.map(Cache::new).transpose();
        Ok(Some(External {
            authenticator,
            timeout,
            places: Semaphore::new(IN_FLIGHT),
            cache: cache.map_err(|error| ExternalError::Random(error.to_string()))?,
            defaults: defaults.clone(),
            state: State::default(),
        }))
    }

    /// The user, if the authenticator, or its answer of a moment ago, says yes.
    pub(super) async fn login(
        &self,
        name: &str,
        password: &SecretString,
        peer: &Peer,
    ) -> Result<Arc<User>, Denied> {
        if let Authenticator::Ldap(_) = self.authenticator
            && let Some(reason) = ldap::refusal(name, password)
        {
            return Err(Denied::Wrong(reason.to_owned()));
        }
        let cache = self.cache.as_ref();
        let cache = cache.map(|cache| (cache, cache.tag(name, password, peer)));
        if let Some((cache, tag)) = &cache
            && let Some(user) = cache.get(tag)
        {
            return Ok(user);
        }
        let begun = Instant::now();
        let asked = tokio::time::timeout(self.timeout, self.ask(name, password, peer)).await;
        let took = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.state.took_millis.store(took, Ordering::Relaxed);
        let asked = asked.unwrap_or_else(|_| Err(Denied::Failing("no answer in time".to_owned())));
        let is_failing = matches!(asked, Err(Denied::Failing(_)));
        self.state.failing.store(is_failing, Ordering::Relaxed);
        let user = Arc::new(User::new(&asked?, &self.defaults));
        if let Some((cache, tag)) = cache {
            cache.put(tag, Arc::clone(&user));
        }
        Ok(user)
    }

    async fn ask(
        &self,
        name: &str,
        password: &SecretString,
        peer: &Peer,
    ) -> Result<config::User, Denied> {
        let _place = self.places.acquire().await.expect("never closed");
        match &self.authenticator {
            Authenticator::Http(endpoint) => endpoint.ask(name, password, peer).await,
            Authenticator::Ldap(directory) => directory.ask(name, password).await,
        }
    }

    /// True if the authenticator doesn't distinguish cases: a home, a lockout and a limit of sessions must not, either.
    pub(super) fn ignores_case(&self) -> bool {
        match self.authenticator {
            Authenticator::Http(_) => false,
            Authenticator::Ldap(_) => true,
        }
    }

    /// The section of the configuration, and the thing, for people.
    pub(super) fn described(&self) -> &'static str {
        match self.authenticator {
            Authenticator::Http(_) => "the endpoint of auth.http",
            Authenticator::Ldap(_) => "the directory of auth.ldap",
        }
    }

    /// True if the last request had no usable answer, whoever it was for: the authenticator is down, or fails.
    pub(super) fn is_failing(&self) -> bool {
        self.state.failing.load(Ordering::Relaxed)
    }

    /// The time that the last request took.
    pub(super) fn last_took(&self) -> Duration {
        Duration::from_millis(self.state.took_millis.load(Ordering::Relaxed))
    }
}

impl std::fmt::Debug for External {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.described())
    }
}
