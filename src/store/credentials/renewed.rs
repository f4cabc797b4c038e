//! Temporary credentials that are renewed in time, once for all who ask.
//!
//! The SDK's cache alone would drop credentials before they expire and fail every request when the source has a bad
//! minute. Here what is still valid is used while new ones are fetched in the background, and goes on being used if that
//! fails.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::future;
use aws_sdk_s3::config::{Credentials, ProvideCredentials};
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use crate::chain::Chain;

/// A source of credentials, and what it handed out last. Clones share both.
#[derive(Clone)]
pub(in crate::store) struct Renewed {
    name: &'static str,
    source: Arc<dyn ProvideCredentials>,
    /// For one fetch.
    time_limit: Duration,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    kept: Option<Kept>,
    fetching: Option<Fetching>,
    /// No fetch in the background before this.
    not_before: Option<Instant>,
    /// When the store was last found not to take what was handed out.
    rejected: Option<Instant>,
}

/// A fetch that is under way; every clone gets its result.
type Fetching = Shared<BoxFuture<'static, Result<Credentials, Failure>>>;

/// Why a fetch brought nothing. What waits for it waits in numbers, hence the count.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{name}: {words}")]
struct Failure {
    name: &'static str,
    words: Arc<str>,
}

struct Kept {
    credentials: Credentials,
    /// The time before its expiry at which it is renewed.
    margin: Duration,
    /// The store doesn't take them, so others are worth waiting for.
    is_rejected: bool,
}

impl Renewed {
    pub fn new(
        name: &'static str,
        source: impl ProvideCredentials + 'static,
        time_limit: Duration,
    ) -> Self {
        Renewed {
            name,
            source: Arc::new(source),
            time_limit,
            state: Arc::default(),
        }
    }

    /// Notes that the store doesn't take the credentials with this access key id: the next request waits for others.
    ///
    /// False if there is no use in that: the source was asked for the same reason just before.
    pub fn reject(&self, access_key_id: &str) -> bool {
        let mut state = self.state.lock();
        let State { kept, rejected, .. } = &mut *state;
        let Some(kept) = kept else {
            return true;
        };
        if kept.credentials.access_key_id() != access_key_id {
            // somebody else was quicker
            return true;
        }
        if kept.is_rejected {
            return true;
        }
        if rejected.is_some_and(|at| at.elapsed() < BETWEEN_REJECTIONS) {
            return false;
        }
        *rejected = Some(Instant::now());
        kept.is_rejected = true;
        warn!(
            source = self.name,
            "the store takes the credentials no longer, though they have not expired: others are asked for"
        );
        true
    }

    async fn provide(&self) -> Result<Credentials, CredentialsError> {
        let (valid, is_rejected, fetching) = {
            let mut state = self.state.lock();
            let now = SystemTime::now();
            let valid = state.kept.as_ref().filter(|kept| kept.is_valid(now));
            let is_fresh = valid.is_some_and(|kept| kept.is_fresh(now));
            let is_rejected = valid.is_some_and(|kept| kept.is_rejected);
            let is_paused = state.not_before.is_some_and(|time| Instant::now() < time);
            let valid = valid.map(|kept| kept.credentials.clone());
            match valid {
                Some(credentials) if !is_rejected && (is_fresh || is_paused) => {
                    return Ok(credentials);
                }
                valid => (valid, is_rejected, self.fetching(&mut state)),
            }
        };
        match valid {
            Some(credentials) if !is_rejected => Ok(credentials),
            // without others there is nothing better than these: one store's mistake must not end all requests
            Some(rejected) => Ok(fetching.await.unwrap_or(rejected)),
            None => fetching.await.map_err(CredentialsError::provider_error),
        }
    }

    /// The fetch that is under way, or a new one. It runs whether or not anybody waits for it, for its time limit at most.
    fn fetching(&self, state: &mut State) -> Fetching {
        if let Some(fetching) = &state.fetching {
            return fetching.clone();
        }
        let (name, time_limit) = (self.name, self.time_limit);
        let (source, own) = (Arc::clone(&self.source), Arc::downgrade(&self.state));
        let fetch = tokio::spawn(async move {
            let fetched = tokio::time::timeout(time_limit, source.provide_credentials()).await;
            let fetched = match fetched {
                Ok(Ok(credentials)) => Ok(credentials),
                Ok(Err(error)) => Err(Chain(&error).to_string()),
                Err(_) => Err(format!("nothing came within {time_limit:?}")),
            };
            let fetched = fetched.map_err(|words| Failure {
                name,
                words: words.into(),
            });
            if let Some(state) = own.upgrade() {
                state.lock().take(name, &fetched);
            }
            fetched
        });
        let fetch = AbortOnDropHandle::new(fetch);
        let fetching: BoxFuture<'static, _> = Box::pin(async move {
            fetch.await.unwrap_or_else(|_| {
                Err(Failure {
                    name,
                    words: "the process is stopping".into(),
                })
            })
        });
        let fetching = fetching.shared();
        state.fetching = Some(fetching.clone());
        fetching
    }
}

impl State {
    /// Ends a fetch. The only place that logs it: what waits for a failed one has its own error.
    fn take(&mut self, name: &'static str, fetched: &Result<Credentials, Failure>) {
        let now = SystemTime::now();
        self.fetching = None;
        match fetched {
            Ok(credentials) => {
                let kept = Kept::new(credentials.clone(), now);
                let valid_for = lifetime(credentials, now).map(|time| time.as_secs());
                info!(
                    source = name,
                    valid_for_seconds = valid_for,
                    "credentials for the store"
                );
                // a source may hand out the same again until shortly before they expire
                self.not_before = Some(Instant::now() + kept.pause());
                self.kept = Some(kept);
            }
            Err(failure) => {
                if let Some(kept) = &mut self.kept {
                    // what can't be replaced is used on, until the store refuses it the next time
                    kept.is_rejected = false;
                }
                let kept = self.kept.as_ref().filter(|kept| kept.is_valid(now));
                let left = kept.map_or(Some(0), |kept| {
                    lifetime(&kept.credentials, now).map(|time| time.as_secs())
                });
                warn!(source = name, error = %failure.words, valid_for_seconds = left, "credentials for the store can't be had");
                self.not_before = kept.map(|kept| Instant::now() + kept.pause());
            }
        }
    }
}

/// The time for which the credentials are still good for; none: for ever.
fn lifetime(credentials: &Credentials, now: SystemTime) -> Option<Duration> {
    let expiry = credentials.expiry()?;
    Some(expiry.duration_since(now).unwrap_or_default())
}

impl Kept {
    fn new(credentials: Credentials, now: SystemTime) -> Self {
        // a source of short-lived ones would be asked all the time
        let margin = lifetime(&credentials, now).map_or(MARGIN, |time| MARGIN.min(time / 4));
        Kept {
            credentials,
            margin,
            is_rejected: false,
        }
    }

    fn is_valid(&self, now: SystemTime) -> bool {
        self.credentials.expiry().is_none_or(|expiry| now < expiry)
    }

    fn is_fresh(&self, now: SystemTime) -> bool {
        self.credentials
            .expiry()
            .is_none_or(|expiry| now + self.margin < expiry)
    }

    /// The time for which the source has peace after a fetch.
    fn pause(&self) -> Duration {
        self.margin / 10
    }
}

impl fmt::Debug for Renewed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Renewed")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl ProvideCredentials for Renewed {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.provide())
    }
}

/// Time before their expiry from which credentials are renewed: a request that is signed with them may be on its way for
/// minutes, and clocks differ.
const MARGIN: Duration = Duration::from_secs(300);

/// A source is not asked again sooner than this because the store refuses what it handed out: a store that refuses
/// everything must not make every request a request to the source.
const BETWEEN_REJECTIONS: Duration = Duration::from_secs(5);
