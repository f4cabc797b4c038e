//! Events by HTTP: a POST for each, structured content mode
//! (<https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md>, section 3.2).

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{self, HeaderValue};
use hyper::http::request::Builder;
use hyper::{Method, Request, StatusCode, Uri};
use secrecy::ExposeSecret;

use crate::chain::Chain;
use crate::config::EventSink;
use crate::events::event::Event;
use crate::events::publish::{Publish, PublishError};
use crate::http_client::{self, HttpClient, USER_AGENT};

/// Connections that are kept for the next event.
const IDLE: usize = 8;

/// The body of an answer is of no use; so much of it is read that the connection can be used again.
const MAX_ANSWER: usize = 64 * 1024;

/// A sink that takes events by HTTP.
pub(super) struct HttpSink {
    client: HttpClient,
    uri: Uri,
    authorization: Option<HeaderValue>,
    timeout: Duration,
}

impl HttpSink {
    /// Prepares the client; nothing is sent. `timeout` bounds each request.
    pub(super) fn new(settings: &EventSink, timeout: Duration) -> Result<Self, String> {
        let authorization = settings
            .token
            .as_ref()
            .map(|token| {
                let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret()))
                    .map_err(|_| "the token has characters that no header takes".to_owned())?;
                value.set_sensitive(true);
                Ok::<_, String>(value)
            })
            .transpose()?;
        Ok(HttpSink {
            client: http_client::client(settings.ca_file.as_deref(), IDLE)
                .map_err(|error| error.to_string())?,
            uri: settings
                .url
                .parse()
                .map_err(|error| format!("{}: {error}", settings.url))?,
            authorization,
            timeout,
        })
    }

    async fn post(&self, body: &[u8]) -> Result<StatusCode, String> {
        let request = Request::builder().method(Method::POST).header(
            header::CONTENT_TYPE,
            "application/cloudevents+json; charset=UTF-8",
        );
        self.send(request, body).await
    }

    async fn send(&self, request: Builder, body: &[u8]) -> Result<StatusCode, String> {
        let mut request = request
            .uri(self.uri.clone())
            .header(header::USER_AGENT, USER_AGENT);
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization.clone());
        }
        let request = request
            .body(Full::new(Bytes::copy_from_slice(body)))
            .map_err(|error| error.to_string())?;
        let answer = self
            .client
            .request(request)
            .await
            .map_err(|error| Chain(&error).to_string())?;
        let status = answer.status();
        // A body that breaks off says nothing against the status, which has come.
        let _ = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
        Ok(status)
    }
}

#[async_trait]
impl Publish for HttpSink {
    /// Asks as a webhook is asked whether it takes events (the same document, section 4); any answer shows that somebody is there.
    async fn probe(&self) -> Result<String, PublishError> {
        let request = Request::builder()
            .method(Method::OPTIONS)
            .header("webhook-request-origin", "cosgate");
        let status = match tokio::time::timeout(self.timeout, self.send(request, b"")).await {
            Ok(status) => status.map_err(PublishError::Unavailable)?,
            Err(_) => return Err(PublishError::Unavailable("no answer in time".to_owned())),
        };
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(PublishError::Refused(
                format!("it answers {status}: correct the token"),
            )),
            status if status.is_server_error() || status.is_redirection() => {
                Err(PublishError::Unavailable(format!("it answers {status}")))
            }
            status => Ok(format!("reached, it answers an OPTIONS with {status}")),
        }
    }

    async fn publish(&self, _: &Event, body: &[u8]) -> Result<(), PublishError> {
        let status = match tokio::time::timeout(self.timeout, self.post(body)).await {
            Ok(status) => status.map_err(PublishError::Unavailable)?,
            Err(_) => {
                let seconds = self.timeout.as_secs_f64();
                return Err(PublishError::Unavailable(format!(
                    "no answer within {seconds} s"
                )));
            }
        };
        match status {
            status if status.is_success() => Ok(()),
            // what a client error passes with: the specification's "retry" for webhooks
            // (<https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/http-webhook.md>, section 2.2)
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => {
                Err(PublishError::Unavailable(status.to_string()))
            }
            status if status.is_client_error() => Err(PublishError::Refused(status.to_string())),
            status if status.is_redirection() => Err(PublishError::Unavailable(format!(
                "{status}; redirects are not followed, correct the url"
            ))),
            status => Err(PublishError::Unavailable(status.to_string())),
        }
    }
}
