//! The base of the SDK's clients.

use aws_sdk_s3::Client;
use aws_sdk_s3::config::Builder;

use crate::config;
use crate::metrics::Requests;
use crate::store::credentials::Renewed;
use crate::store::document::WholeListings;
use crate::store::empty_body::EmptyBodies;
use crate::store::observe::Observer;
use crate::store::retry::{Quota, Retries};
use crate::store::sdk;
use crate::store::settings::Settings;

/// The base of the clients of all tenants; they share its connections.
#[derive(Clone)]
pub(super) struct Base {
    /// Without interceptors, of which each client has its own.
    pub(super) config: Builder,
    pub(super) send_trace_context: bool,
    /// The way the bucket is named at `endpoint`.
    pub(super) addressing: config::Addressing,
    pub(super) endpoint: Option<String>,
    /// `sessions.max`
    pub(super) sessions: usize,
    pub(super) requests: Requests,
}

impl Base {
    /// The settings for the gateway's own store.
    pub(super) fn addressed(&self) -> Builder {
        sdk::addressed(
            self.config.clone(),
            self.addressing,
            self.endpoint.as_deref(),
        )
    }

    pub(super) fn client(
        &self,
        config: Builder,
        renewed: Option<Renewed>,
        settings: &Settings,
    ) -> Client {
        let parallel = settings.concurrency.max(settings.download.concurrency);
        let quota = Quota::new(self.sessions, parallel, settings.max_attempts);
        let requests = || self.requests.clone();
        let config = config
            .interceptor(Observer::new(requests(), self.send_trace_context))
            .interceptor(WholeListings)
            .interceptor(EmptyBodies)
            .interceptor(Retries::new(
                quota,
                renewed,
                requests(),
                settings.retry_time,
            ));
        Client::from_conf(config.build())
    }
}
