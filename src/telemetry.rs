//! What the program says about itself: log lines on standard output.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
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

/// Installs the subscriber. A second call in one process does nothing.
pub fn start(log: &Log) {
    let filter = filter(&log.level);
    let registry = tracing_subscriber::registry().with(filter);
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
