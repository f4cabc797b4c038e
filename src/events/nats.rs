//! Events to NATS JetStream: a stream that covers the subject keeps them, and drops repetitions by `Nats-Msg-Id`
//! (<https://docs.nats.io/using-nats/developer/develop_jetstream/model_deep_dive>).

use std::time::Duration;

use async_nats::jetstream::{self, context::PublishErrorKind};
use async_nats::{ConnectOptions, HeaderMap};
use async_trait::async_trait;
use secrecy::ExposeSecret;
use tokio::sync::OnceCell;

use crate::chain::Chain;
use crate::config::{EventSink, EventType};
use crate::events::event::Event;
use crate::events::publish::{Publish, PublishError};

/// A sink that takes events into a stream of NATS.
pub(super) struct NatsSink {
    url: String,
    options: ConnectOptions,
    subject: String,
    types: Vec<EventType>,
    timeout: Duration,
    /// Connects with the first event, and by itself again when the connection is lost.
    jetstream: OnceCell<jetstream::Context>,
}

impl NatsSink {
    /// Prepares the client; no connection is made. `timeout` bounds connecting and each publication.
    pub(super) fn new(settings: &EventSink, timeout: Duration) -> Result<Self, String> {
        let mut options = ConnectOptions::new()
            .name("cosgate")
            .connection_timeout(timeout)
            .request_timeout(Some(timeout));
        if settings.url.starts_with("tls://") {
            let tls = crate::http_client::tls(settings.ca_file.as_deref())
                .map_err(|error| error.to_string())?;
            options = options.require_tls(true).tls_client_config(tls);
        }
        if let Some(token) = &settings.token {
            options = options.token(token.expose_secret().to_owned());
        }
        Ok(NatsSink {
            url: settings.url.clone(),
            options,
            subject: settings.subject.clone(),
            types: settings.types.clone(),
            timeout,
            jetstream: OnceCell::new(),
        })
    }

    async fn jetstream(&self) -> Result<&jetstream::Context, PublishError> {
        let connect = async {
            let client = self
                .options
                .clone()
                .connect(self.url.as_str())
                .await
                .map_err(|error| PublishError::Unavailable(Chain(&error).to_string()))?;
            let mut context = jetstream::new(client);
            context.set_timeout(self.timeout);
            Ok(context)
        };
        self.jetstream.get_or_try_init(|| connect).await
    }

    /// Looks for the stream of each type.
    async fn streams(&self) -> Result<String, PublishError> {
        let jetstream = self.jetstream().await?;
        let mut names = Vec::new();
        for kind in &self.types {
            let subject = format!("{}.{}", self.subject, kind.word());
            let found = jetstream.stream_by_subject(subject.as_str()).await;
            let name = found.map_err(|error| {
                PublishError::Unavailable(format!(
                    "no stream of JetStream covers {subject} ({})",
                    Chain(&error)
                ))
            })?;
            if !names.contains(&name) {
                names.push(name);
            }
        }
        Ok(format!("reached, its events go to {}", names.join(", ")))
    }

    async fn send(&self, event: &Event, body: &[u8]) -> Result<(), PublishError> {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", event.id.as_str());
        headers.insert("content-type", "application/cloudevents+json");
        let subject = format!("{}.{}", self.subject, event.event_type.word());
        let published = self
            .jetstream()
            .await?
            .publish_with_headers(subject.clone(), headers, body.to_vec().into())
            .await;
        let acknowledged = match published {
            Ok(acknowledgement) => acknowledgement.await,
            Err(error) => Err(error),
        };
        acknowledged.map(drop).map_err(|error| match error.kind() {
            // nobody listens: no stream has this subject, which somebody can change at any time
            PublishErrorKind::StreamNotFound => {
                PublishError::Unavailable(format!("no stream of JetStream covers {subject}"))
            }
            _ => PublishError::Unavailable(Chain(&error).to_string()),
        })
    }
}

#[async_trait]
impl Publish for NatsSink {
    async fn probe(&self) -> Result<String, PublishError> {
        tokio::time::timeout(self.timeout, self.streams())
            .await
            .unwrap_or_else(|_| Err(PublishError::Unavailable("no answer in time".to_owned())))
    }

    async fn publish(&self, event: &Event, body: &[u8]) -> Result<(), PublishError> {
        // the client's own time-outs do not cover a connection that is being made again
        tokio::time::timeout(self.timeout, self.send(event, body))
            .await
            .unwrap_or_else(|_| {
                let seconds = self.timeout.as_secs_f64();
                Err(PublishError::Unavailable(format!(
                    "no acknowledgement within {seconds} s"
                )))
            })
    }
}
