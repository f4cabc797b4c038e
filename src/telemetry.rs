//! The program's own reports: log lines on standard output, and traces to a collector.
//!
//! One subscriber serves both. The log shows events, filtered by `log.level`, which may change while the program runs
//! ([`level`]). The traces show the spans of target [`TRACE`] and nothing else; without a collector in the environment
//! (`traces`) those spans are disabled at their call sites and cost next to nothing.
//!
//! No type of OpenTelemetry leaves this module.

mod capped;
mod export;
pub mod level;
pub mod limit;
mod lines;
mod traces;

use std::io::{IsTerminal, Write as _};
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry::trace::{
    SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState,
};
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::{Level, Metadata, Span, error, info, warn};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::filter::{FilterExt, LevelFilter, Targets, filter_fn};
use tracing_subscriber::fmt;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, reload};

use crate::config::{Log, LogFormat};

pub use export::{spans_ended, spans_exported};
pub use level::LevelSwitch;
pub use limit::LineLimit;
pub use lines::log_lines_dropped;

/// The target of the spans that traces are made of.
pub const TRACE: &str = "cosgate::trace";

/// The default levels of other crates: at the level that is configured for cosgate would drown it, and libunftp's spans print its users: these
/// say more only when they are named in `log.level`.
const DEFAULT_LEVELS: [&str; 13] = [
    "libunftp=error",
    "aws_config=warn",
    "aws_smithy_runtime=warn",
    "aws_smithy_http_client=warn",
    "aws_sdk_s3=warn",
    "hyper=warn",
    // the watcher says what fails itself, once per change and not with every try
    "kube_client=off",
    "kube_runtime=off",
    "s3s=off",
    // the way to the collector; a failure is told once, by the exporter
    "h2=warn",
    "tonic=warn",
    "tower=warn",
    // spans for traces, of which log lines have the id
    "cosgate::trace=off",
];

/// Whose debug and trace events print credentials: key ids and session tokens stand in the requests, components and
/// parameters that they show whole. No `log.level` brings these out; a test searches what is written at the loudest.
const CREDENTIAL_LOGGERS: [&str; 2] = ["aws_sigv4", "aws_smithy_runtime::client::orchestrator"];

/// True if an event may be seen at all. Spans may: none of them has such fields.
fn may_be_logged(metadata: &Metadata<'_>) -> bool {
    let logs_credentials = || {
        CREDENTIAL_LOGGERS
            .iter()
            .any(|target| metadata.target().starts_with(target))
    };
    metadata.is_span() || *metadata.level() <= Level::INFO || !logs_credentials()
}

/// Spans on their way to the collector get this long when the program ends.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// Log and traces of this process.
#[must_use = "spans that wait to be sent are lost unless it is stopped"]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
    level: LevelSwitch,
    /// None if standard output can't be had.
    lines: Option<lines::Lines>,
}

/// Installs the subscriber; within a runtime, which carries the spans to the collector. A second call in one process
/// changes nothing.
pub fn start(log: &Log) -> Telemetry {
    let collector = traces::Collector::from_environment();
    let provider = match &collector {
        Some(Ok(collector)) => collector.connect().map(Some),
        Some(Err(reason)) => Err(reason.clone()),
        None => Ok(None),
    };
    let (traces, no_traces) = match provider {
        Ok(traces) => (traces, None),
        Err(reason) => (None, Some(reason)),
    };
    let spans = traces
        .as_ref()
        .map(|provider| traces::layer(provider).with_filter(only_spans_for_traces()));
    let (filter, handle) = reload::Layer::new(filter(&log.level));
    let output = lines::Lines::to_stdout(log.format == LogFormat::Json);
    let (output, no_output) = match output {
        Ok(output) => (Some(output), None),
        Err(error) => (None, Some(error)),
    };
    let writer = output.clone();
    // without the thread for it, lines are written at once, and whoever logs waits
    let writer = move || match &writer {
        Some(lines) => BoxMakeWriter::new({
            let lines = lines.clone();
            move || lines.clone()
        }),
        None => BoxMakeWriter::new(std::io::stdout),
    };
    let lines = match log.format {
        LogFormat::Json => fmt::layer()
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .with_writer(writer())
            .boxed(),
        LogFormat::Text => fmt::layer()
            .with_ansi(std::io::stdout().is_terminal())
            .fmt_fields(lines::text_fields())
            .with_writer(writer())
            .boxed(),
    };
    // Of two filters the stricter level counts, and without one here there is none for both: then each trace! of each
    // library would be looked at, however quiet the log.
    let loggable = filter_fn(may_be_logged).with_max_level_hint(LevelFilter::TRACE);
    let _ = tracing_subscriber::registry()
        .with(spans)
        .with(lines.with_filter(filter.and(loggable)))
        .try_init();
    if let Some(error) = no_output {
        warn!(%error, "the log has no queue: when nobody reads it, the gateway waits");
    }
    match (collector, no_traces) {
        (_, Some(reason)) => error!(event = "traces_off", reason, "there are no traces"),
        (Some(Ok(collector)), None) => {
            info!(event = "traces_on", endpoint = %collector.host(), protocol = %collector.protocol(), "traces are sent");
        }
        _ => {}
    }
    Telemetry {
        traces,
        level: LevelSwitch::new(log.level.clone(), move |level| {
            handle.reload(filter_of(level)?).map_err(|e| e.to_string())
        }),
        lines: output,
    }
}

impl Telemetry {
    /// Changes the level of the log while the program runs.
    pub fn level(&self) -> LevelSwitch {
        self.level.clone()
    }

    /// Writes `block` to standard output, whole, after the log lines so far. It is no log line: no level hides it, and it goes
    /// nowhere else.
    pub fn show(&self, block: &str) {
        let _ = match &self.lines {
            Some(lines) => lines.clone().write_all(block.as_bytes()),
            None => std::io::stdout().write_all(block.as_bytes()),
        };
    }

    /// Sends spans and writes log lines that wait, within a bound. Within the runtime.
    pub async fn stop(self) {
        if let Some(traces) = self.traces {
            stop_traces(traces).await;
        }
        if let Some(lines) = self.lines {
            let _ = tokio::task::spawn_blocking(move || lines.finish()).await;
        }
    }
}

async fn stop_traces(traces: SdkTracerProvider) {
    // the flush blocks, and the exporter needs the runtime meanwhile
    let flushed =
        tokio::task::spawn_blocking(move || traces.shutdown_with_timeout(FLUSH_TIMEOUT)).await;
    if !matches!(flushed, Ok(Ok(()))) {
        warn!(
            event = "traces_lost",
            lost = spans_ended().saturating_sub(spans_exported()),
            "the last spans did not reach the collector in time"
        );
    }
}

/// The id of the trace that `span` belongs to: 32 hexadecimal digits. None without traces, and if it isn't sampled.
pub fn trace_id(span: &Span) -> Option<String> {
    if span.is_none() {
        return None;
    }
    let context = span.context();
    let context = context.span().span_context().clone();
    (context.is_valid() && context.is_sampled()).then(|| context.trace_id().to_string())
}

/// `span` as the value of a `traceparent` header (<https://www.w3.org/TR/trace-context/>, section 3.2).
pub fn trace_parent(span: &Span) -> Option<String> {
    if span.is_none() {
        return None;
    }
    let context = span.context();
    let context = context.span().span_context().clone();
    context.is_valid().then(|| {
        format!(
            "00-{}-{}-{:02x}",
            context.trace_id(),
            context.span_id(),
            context.trace_flags().to_u8() & 1
        )
    })
}

/// Makes `span` a part of the trace of `parent`, a `traceparent` as [`trace_parent`] makes it. Anything else leaves the span as it is.
pub fn continue_trace(span: &Span, parent: &str) {
    let mut fields = parent.split('-').skip(1);
    let (Some(trace), Some(parent), Some(flags)) = (fields.next(), fields.next(), fields.next())
    else {
        return;
    };
    let (Ok(trace), Ok(parent), Ok(flags)) = (
        TraceId::from_hex(trace),
        SpanId::from_hex(parent),
        u8::from_str_radix(flags, 16),
    ) else {
        return;
    };
    let remote = SpanContext::new(
        trace,
        parent,
        TraceFlags::new(flags),
        true,
        TraceState::NONE,
    );
    // an error means that nobody exports spans
    let _ = span.set_parent(Context::new().with_remote_span_context(remote));
}

/// Other layers' spans, the SDK's or libunftp's, are no part of a trace: their fields were not made for it.
fn only_spans_for_traces() -> Targets {
    Targets::new().with_target(TRACE, Level::INFO)
}

fn filter(level: &str) -> EnvFilter {
    filter_of(level).unwrap_or_else(|_| EnvFilter::new("info"))
}

fn filter_of(level: &str) -> Result<EnvFilter, String> {
    let mut directives: Vec<&str> = DEFAULT_LEVELS.to_vec();
    // the later of two directives for one target wins
    directives.push(level);
    EnvFilter::try_new(directives.join(",")).map_err(|error| error.to_string())
}
