//! Logins that an HTTP endpoint decides: for companies with a directory of their own.
//!
//! The password goes out in a POST, the user's record comes back. Anything but a clear yes lets nobody in: no answer in
//! time, a redirect, another status, an answer that is too long or says less than it must. Such a failure is distinguished
//! from a wrong password, for the log and for the guard, which counts only the latter.
//!
//! Successes may be kept for a short time, so that clients with many short sessions don't load the endpoint. What is kept
//! of a password is a hash under a key that lives in this process only; failures are never kept.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri, header};
use lru::LruCache;
use parking_lot::Mutex;
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::auth::user::{HomeDefaults, Peer, User};
use crate::config::{self, HttpAuth, StorageDefaults};
use crate::http_client::{self, HttpClient, TlsSetupError, USER_AGENT};

/// Asks the endpoint.
pub struct Endpoint {
    client: HttpClient,
    uri: Uri,
    authorization: Option<HeaderValue>,
    timeout: Duration,
    places: Semaphore,
    cache: Option<Cache>,
    common: StorageDefaults,
    defaults: HomeDefaults,
    state: State,
}

/// The outcome of the last request.
#[derive(Debug, Default)]
struct State {
    failing: AtomicBool,
    took_millis: AtomicU64,
}

/// The settings of `auth.http` can't be used.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// The URL is one for us, but not for the HTTP library.
    #[error("auth.http.url is no URL: {0}; correct it")]
    Url(String),
    /// TLS can't be set up, mostly for want of certificates in `auth.http.ca_file`.
    #[error("auth.http.ca_file, {0}")]
    Tls(#[from] TlsSetupError),
    /// The system has no random numbers.
    #[error("random numbers for the cache of auth.http: {0}")]
    Random(String),
}

/// The endpoint let nobody in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// It said no: 401, 403 or 404.
    #[error("the endpoint refused the user or the password")]
    Wrong,
    /// It said nothing that could be used.
    #[error("the endpoint gave no usable answer: {0}")]
    Unusable(String),
}

/// Stands for everything that was sent to the endpoint.
type Tag = [u8; 32];

/// Successes that still hold.
struct Cache {
    holds: Duration,
    /// Of this process only.
    key: [u8; 32],
    entries: Mutex<LruCache<Tag, (Instant, Arc<User>)>>,
}

/// The longest answer that is read: a record has some hundred bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// Requests at a time; more wait, within the time limit. A flood of logins must not become one at the directory.
const IN_FLIGHT: usize = 32;

/// Successes that are kept at most.
const ENTRIES: NonZeroUsize = NonZeroUsize::new(10_000).expect("not zero");

/// Connections that are kept for the next request.
const IDLE: usize = 4;

impl Endpoint {
    /// Prepares the client; nothing is sent.
    pub fn new(
        settings: &HttpAuth,
        common: StorageDefaults,
        defaults: HomeDefaults,
    ) -> Result<Self, EndpointError> {
        let uri: Uri = settings
            .url
            .parse()
            .map_err(|error: hyper::http::uri::InvalidUri| EndpointError::Url(error.to_string()))?;
        let client = http_client::client(settings.ca_file.as_deref(), IDLE)?;
        let authorization = settings.token.as_ref().map(|token| {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret()))
                .expect("the configuration takes printable ASCII only");
            value.set_sensitive(true);
            value
        });
        Ok(Endpoint {
            client,
            uri,
            authorization,
            timeout: settings.timeout,
            places: Semaphore::new(IN_FLIGHT),
            cache: settings.cache.map(Cache::new).transpose()?,
            common,
            defaults,
            state: State::default(),
        })
    }

    /// The user, if the endpoint, or its answer of a moment ago, says yes.
    pub async fn login(
        &self,
        name: &str,
        password: &SecretString,
        peer: &Peer,
    ) -> Result<Arc<User>, Denied> {
        let tag = self
            .cache
            .as_ref()
            .map(|cache| cache.tag(name, password, peer));
        if let (Some(cache), Some(tag)) = (&self.cache, &tag)
            && let Some(user) = cache.get(tag)
        {
            return Ok(user);
        }
        let begun = Instant::now();
        let asked = tokio::time::timeout(self.timeout, self.ask(name, password, peer)).await;
        let took = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.state.took_millis.store(took, Ordering::Relaxed);
        if asked.is_err() {
            self.state.failing.store(true, Ordering::Relaxed);
        }
        let user = asked.unwrap_or_else(|_| Err(unusable("no answer in time")))?;
        let user = Arc::new(User::new(user, &self.defaults));
        if let (Some(cache), Some(tag)) = (&self.cache, tag) {
            cache.put(tag, Arc::clone(&user));
        }
        Ok(user)
    }

    /// True if the last request had no usable answer, whoever it was for: the endpoint is down, or fails.
    pub fn is_failing(&self) -> bool {
        self.state.failing.load(Ordering::Relaxed)
    }

    /// The time that the last request took.
    pub fn last_took(&self) -> Duration {
        Duration::from_millis(self.state.took_millis.load(Ordering::Relaxed))
    }

    async fn ask(
        &self,
        name: &str,
        password: &SecretString,
        peer: &Peer,
    ) -> Result<config::User, Denied> {
        let _place = self.places.acquire().await.expect("never closed");
        let body = serde_json::json!({
            "user": name,
            "password": password.expose_secret(),
            "address": peer.address.to_canonical(),
            "tls": peer.tls,
            "client_cert_cn": peer.client_cert_cn,
        });
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(self.uri.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json")
            .header(header::USER_AGENT, USER_AGENT);
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        let request = request
            .body(Full::new(Bytes::from(body.to_string())))
            .map_err(|error| unusable(error.to_string()))?;
        let answer = self.client.request(request).await;
        let decides = |status| {
            matches!(
                status,
                StatusCode::OK
                    | StatusCode::UNAUTHORIZED
                    | StatusCode::FORBIDDEN
                    | StatusCode::NOT_FOUND
            )
        };
        let failing = !answer.as_ref().is_ok_and(|answer| decides(answer.status()));
        self.state.failing.store(failing, Ordering::Relaxed);
        let answer = answer.map_err(|error| unusable(crate::chain::Chain(&error)))?;
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => {
                return Err(Denied::Wrong);
            }
            status if status.is_redirection() => {
                return Err(unusable(format!("{status}; redirects are not followed")));
            }
            status => return Err(unusable(status)),
        }
        let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
        let body = body
            .map_err(|error| unusable(format!("the body could not be read: {error}")))?
            .to_bytes();
        let body = std::str::from_utf8(&body).map_err(|_| unusable("the body is not UTF-8"))?;
        let user = config::answered_user(body, &self.common)
            .map_err(|error| unusable(error.to_string().replace('\n', "; ")))?;
        if user.name == name {
            Ok(user)
        } else {
            Err(unusable("the record has another name than the user"))
        }
    }
}

impl Cache {
    fn new(holds: Duration) -> Result<Self, EndpointError> {
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(|error| EndpointError::Random(error.to_string()))?;
        Ok(Cache {
            holds,
            key,
            entries: Mutex::new(LruCache::new(ENTRIES)),
        })
    }

    /// Stands for everything that was sent to the endpoint.
    fn tag(&self, name: &str, password: &SecretString, peer: &Peer) -> Tag {
        let mut hmac =
            Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of any length");
        let address = peer.address.to_canonical().to_string();
        let cn = peer.client_cert_cn.as_deref();
        let fields = [
            name,
            password.expose_secret(),
            &address,
            if peer.tls { "tls" } else { "" },
            if cn.is_some() { "cn" } else { "" },
            cn.unwrap_or_default(),
        ];
        for field in fields {
            // with its length, no field can be taken for a part of another
            hmac.update(&(field.len() as u64).to_be_bytes());
            hmac.update(field.as_bytes());
        }
        hmac.finalize().into_bytes().into()
    }

    fn get(&self, tag: &Tag) -> Option<Arc<User>> {
        let mut entries = self.entries.lock();
        match entries.get(tag) {
            Some((until, user)) if Instant::now() < *until => Some(Arc::clone(user)),
            Some(_) => {
                entries.pop(tag);
                None
            }
            None => None,
        }
    }

    fn put(&self, tag: Tag, user: Arc<User>) {
        let mut entries = self.entries.lock();
        entries.put(tag, (Instant::now() + self.holds, user));
    }
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Endpoint")
    }
}

fn unusable(reason: impl std::fmt::Display) -> Denied {
    Denied::Unusable(reason.to_string())
}
