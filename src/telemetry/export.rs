//! The way to the collector. Invariant: trouble on it is logged once when it begins and once when it ends, and reaches no
//! transfer: spans wait in a bounded queue, and a thread of its own takes them from there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use tokio::runtime::Handle;
use tracing::{info, warn};

/// The name of the spans of single attempts of a request.
pub(super) const ATTEMPT: &str = "S3.attempt";

/// There is one subscriber in a process, and so one of these.
static ENDED: AtomicU64 = AtomicU64::new(0);
static EXPORTED: AtomicU64 = AtomicU64::new(0);

/// Spans that were to be exported since the start of the process.
pub fn spans_ended() -> u64 {
    ENDED.load(Ordering::Relaxed)
}

/// Spans that the collector has taken. What is missing waits in the queue or is lost.
pub fn spans_exported() -> u64 {
    EXPORTED.load(Ordering::Relaxed)
}

pub(super) fn note_ended() {
    ENDED.fetch_add(1, Ordering::Relaxed);
}

/// An exporter whose trouble is logged.
#[derive(Debug)]
pub(super) struct Reporting<E> {
    exporter: Arc<E>,
    /// Both transports need the runtime, the thread that waits for them is none of its own.
    runtime: Handle,
    /// The collector's name in the log.
    host: String,
    protocol: &'static str,
    failing: AtomicBool,
}

impl<E> Reporting<E> {
    pub(super) fn new(exporter: E, host: String, protocol: &'static str) -> Self {
        Reporting {
            exporter: Arc::new(exporter),
            runtime: Handle::current(),
            host,
            protocol,
            failing: AtomicBool::new(false),
        }
    }

    fn note(&self, spans: u64, outcome: &OTelSdkResult) {
        match outcome {
            Ok(()) => {
                EXPORTED.fetch_add(spans, Ordering::Relaxed);
                if self.failing.swap(false, Ordering::Relaxed) {
                    info!(event = "traces_sent_again", endpoint = %self.host, "the collector takes spans again");
                }
            }
            Err(error) => {
                if !self.failing.swap(true, Ordering::Relaxed) {
                    warn!(
                        event = "traces_not_sent", endpoint = %self.host, protocol = self.protocol, %error,
                        "the collector does not take spans; transfers go on, and this is not said again before it does"
                    );
                }
            }
        }
    }
}

impl<E: SpanExporter + 'static> SpanExporter for Reporting<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len() as u64;
        let exporter = Arc::clone(&self.exporter);
        let sent = self
            .runtime
            .spawn(async move { exporter.export(batch).await })
            .await;
        let outcome =
            sent.unwrap_or_else(|error| Err(OTelSdkError::InternalFailure(error.to_string())));
        self.note(spans, &outcome);
        outcome
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        // the provider says this before anything is exported, while nobody shares the exporter
        if let Some(exporter) = Arc::get_mut(&mut self.exporter) {
            exporter.set_resource(resource);
        }
    }
}
