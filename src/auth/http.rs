//! Logins that an HTTP endpoint decides: for companies with a directory of their own.
//!
//! The password goes out in a POST, the user's record comes back. Anything but a clear yes lets nobody in: no answer in
//! time, a redirect, another status, an answer that is too long or says less than it must. Such a failure is distinguished
//! from a wrong password, for the log and for the guard, which counts only the latter.

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri, header};
use secrecy::{ExposeSecret, SecretString};

use crate::auth::denied::Denied;
use crate::auth::user::Peer;
use crate::config::{self, HttpAuth, StorageDefaults};
use crate::http_client::{self, HttpClient, TlsSetupError, USER_AGENT};

/// Asks the endpoint.
pub struct Endpoint {
    client: HttpClient,
    uri: Uri,
    authorization: Option<HeaderValue>,
    common: StorageDefaults,
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
}

/// The longest answer that is read: a record has some hundred bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// Connections that are kept for the next request.
const IDLE: usize = 4;

impl Endpoint {
    /// Prepares the client; nothing is sent.
    pub fn new(settings: &HttpAuth, common: StorageDefaults) -> Result<Self, EndpointError> {
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
            common,
        })
    }

    /// The user, if the endpoint says yes.
    pub(super) async fn ask(
        &self,
        name: &str,
        password: &SecretString,
        peer: &Peer,
    ) -> Result<config::User, Denied> {
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
        let answer = answer.map_err(|error| failing(crate::chain::Chain(&error)))?;
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => {
                return Err(Denied::Wrong("the endpoint said no".to_owned()));
            }
            status if status.is_redirection() => {
                return Err(failing(format!("{status}; redirects are not followed")));
            }
            status => return Err(failing(status)),
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

fn unusable(reason: impl std::fmt::Display) -> Denied {
    Denied::Unusable(reason.to_string())
}

fn failing(reason: impl std::fmt::Display) -> Denied {
    Denied::Failing(reason.to_string())
}
