//! What the program says about itself: log lines on standard output.

use std::io::IsTerminal;

use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Log, LogFormat};

/// What others log at the level that is configured for cosgate would drown it, and libunftp's spans print its users: these
/// say more only when they are named in `log.level`.
const QUIET: [&str; 9] = [
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
];

/// Whose debug and trace events print credentials: key ids and session tokens stand in the requests, components and
/// parameters that they show whole. No `log.level` brings these out; a test searches what is written at the loudest.
const TELL_TALES: [&str; 2] = ["aws_sigv4", "aws_smithy_runtime::client::orchestrator"];

/// Whether an event may be seen at all. Spans may: none of them has such fields.
fn is_discreet(metadata: &Metadata<'_>) -> bool {
    let tells = || {
        TELL_TALES
            .iter()
            .any(|target| metadata.target().starts_with(target))
    };
    metadata.is_span() || *metadata.level() <= Level::INFO || !tells()
}

/// Installs the subscriber. A second call in one process does nothing.
pub fn start(log: &Log) {
    let filter = filter(&log.level);
    let registry = tracing_subscriber::registry()
        .with(filter)
        .with(filter_fn(is_discreet));
    let _ = match log.format {
        LogFormat::Json => {
            let layer = fmt::layer()
                .json()
                .flatten_event(true)
                .with_current_span(false)
                .with_span_list(false);
            registry.with(layer.with_writer(std::io::stdout)).try_init()
        }
        LogFormat::Text => {
            let layer = fmt::layer().with_ansi(std::io::stdout().is_terminal());
            registry.with(layer.with_writer(std::io::stdout)).try_init()
        }
    };
}

fn filter(level: &str) -> EnvFilter {
    let mut directives: Vec<&str> = QUIET.to_vec();
    // the later of two directives for one target wins
    directives.push(level);
    EnvFilter::try_new(directives.join(",")).unwrap_or_else(|_| EnvFilter::new("info"))
}
