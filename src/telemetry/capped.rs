//! Keeps traces small: an upload of 10,000 parts must not flood the queue to the collector.
//!
//! Of the requests of one kind in one trace the first few are exported, and of the rest those that failed, were retried or
//! took long; how many were left out stands on the trace's root. An attempt is exported if the request had more than one,
//! since a single one says nothing that its request doesn't say.

use std::collections::HashMap;

use std::time::Duration;

use opentelemetry::trace::{SpanId, SpanKind, Status, TraceId};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanProcessor};
use parking_lot::Mutex;

use super::export;

/// Requests of one kind that are always exported, per trace.
const FIRST: u32 = 5;

/// A request that took this long is always exported; no trace can have many of them in a second.
const SLOW: Duration = Duration::from_secs(1);

/// Traces whose requests are counted at a time, far above what `sessions.max` allows at its default. Of further ones all
/// requests are exported.
const MAX_TRACES: usize = 10_000;

/// On a request or attempt that is not the first try.
const RESENDS: &str = "http.request.resend_count";

/// Passes on to `next` what is worth it.
#[derive(Debug)]
pub(super) struct Capped<P> {
    next: P,
    open: Mutex<HashMap<TraceId, Counts>>,
}

/// The requests of one trace.
#[derive(Debug, Default)]
struct Counts {
    seen: HashMap<String, u32>,
    left_out: i64,
}

impl<P> Capped<P> {
    pub(super) fn new(next: P) -> Self {
        Capped {
            next,
            open: Mutex::default(),
        }
    }

    fn is_worth_it(&self, span: &SpanData) -> bool {
        let failed = matches!(span.status, Status::Error { .. });
        let retried = span
            .attributes
            .iter()
            .any(|attribute| attribute.key.as_str() == RESENDS);
        if span.span_kind == SpanKind::Internal && span.name == export::ATTEMPT {
            return failed || retried;
        }
        if span.span_kind != SpanKind::Client {
            return true;
        }
        let took = span.end_time.duration_since(span.start_time);
        let matters = failed || retried || took.unwrap_or_default() >= SLOW;
        let mut open = self.open.lock();
        let Some(counts) = open.get_mut(&span.span_context.trace_id()) else {
            return true;
        };
        let seen = counts.seen.entry(span.name.to_string()).or_default();
        *seen += 1;
        let keep = matters || *seen <= FIRST;
        counts.left_out += i64::from(!keep);
        keep
    }
}

impl<P: SpanProcessor> SpanProcessor for Capped<P> {
    fn on_start(&self, span: &mut Span, context: &Context) {
        use opentelemetry::trace::{Span as _, TraceContextExt as _};
        if !context.span().span_context().is_valid() {
            let mut open = self.open.lock();
            if open.len() < MAX_TRACES {
                open.insert(span.span_context().trace_id(), Counts::default());
            }
        }
        self.next.on_start(span, context);
    }

    fn on_end(&self, mut span: SpanData) {
        if span.parent_span_id == SpanId::INVALID {
            let mut open = self.open.lock();
            let counts = open.remove(&span.span_context.trace_id());
            drop(open);
            // what the program asks the store for on its own account is no trace of a client's
            if span.span_kind == SpanKind::Client {
                return;
            }
            if let Some(counts) = counts.filter(|counts| counts.left_out > 0) {
                span.attributes
                    .push(KeyValue::new("cosgate.requests_left_out", counts.left_out));
            }
        } else if !self.is_worth_it(&span) {
            return;
        }
        export::note_ended();
        self.next.on_end(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.next.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.next.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.next.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{Tracer as _, TracerProvider as _};
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use std::sync::Arc;

    use super::*;

    #[derive(Debug, Clone, Default)]
    struct Kept(Arc<Mutex<Vec<SpanData>>>);

    impl SpanProcessor for Kept {
        fn on_start(&self, _: &mut Span, _: &Context) {}

        fn on_end(&self, span: SpanData) {
            self.0.lock().push(span);
        }

        fn force_flush(&self) -> OTelSdkResult {
            Ok(())
        }

        fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
            Ok(())
        }
    }

    #[test]
    fn a_trace_of_ten_thousand_requests_shows_the_first_and_the_failed_ones() {
        use opentelemetry::trace::{Span as _, TraceContextExt as _};
        let kept = Kept::default();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(Capped::new(kept.clone()))
            .build();
        let tracer = provider.tracer("test");
        let root = Context::new().with_span(tracer.start_with_context("root", &Context::new()));
        for number in 0..10_000 {
            let request = tracer
                .span_builder("S3.UploadPart")
                .with_kind(SpanKind::Client);
            let mut request = tracer.build_with_context(request, &root);
            let attempt = tracer.span_builder(export::ATTEMPT);
            let within = root.with_remote_span_context(request.span_context().clone());
            let mut attempt = tracer.build_with_context(attempt, &within);
            if number == 5_000 {
                attempt.set_status(Status::error("503"));
                request.set_status(Status::error("503"));
            }
            attempt.end();
            request.end();
        }
        root.span().end();
        let kept = kept.0.lock();
        let of = |name: &str| kept.iter().filter(|span| span.name == name).count();
        assert_eq!(of("S3.UploadPart"), FIRST as usize + 1);
        assert_eq!(of(export::ATTEMPT), 1);
        let root = kept.last().expect("the root ends last");
        let left_out = KeyValue::new("cosgate.requests_left_out", 9_994_i64);
        assert!(root.attributes.contains(&left_out), "{root:?}");
    }
}
