//! Metrics as text: OpenMetrics for who asks for it, else the older format of Prometheus.

use std::fmt;
use std::fmt::Write as _;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::reading::Reading;
use super::{Counters, Kind};

/// All metrics of a gateway.
#[derive(Debug)]
pub struct Exposition(Registry);

/// A format of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// <https://github.com/prometheus/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md>
    OpenMetrics,
    /// <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>
    Prometheus,
}

impl Format {
    /// The format that an `Accept` header asks for.
    pub fn accepted(accept: &str) -> Self {
        let wants = |range: &str| {
            let mut words = range.split(';').map(str::trim);
            let refused = |word: &str| matches!(word, "q=0" | "q=0.0" | "q=0.00" | "q=0.000");
            words.next() == Some("application/openmetrics-text") && !words.any(refused)
        };
        if accept.split(',').any(wants) {
            Format::OpenMetrics
        } else {
            Format::Prometheus
        }
    }

    /// The value of `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

impl Exposition {
    /// The counters, and `read`, which returns the rest each time somebody looks.
    pub fn new(
        counters: &[&dyn Counters],
        read: impl Fn() -> Vec<Reading> + Send + Sync + 'static,
    ) -> Self {
        let mut registry = Registry::default();
        for counters in counters {
            counters.register(&mut registry);
        }
        registry.register_collector(Box::new(Readings(Box::new(read))));
        Exposition(registry)
    }

    /// All metrics as they are now.
    pub fn text(&self, format: Format) -> Result<String, fmt::Error> {
        let mut open = String::new();
        text::encode(&mut open, &self.0)?;
        match format {
            Format::OpenMetrics => Ok(open),
            Format::Prometheus => to_prometheus(&open),
        }
    }
}

struct Readings(Box<dyn Fn() -> Vec<Reading> + Send + Sync>);

impl fmt::Debug for Readings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Readings").finish_non_exhaustive()
    }
}

impl Collector for Readings {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        for reading in (self.0)() {
            let (row, unit) = (reading.metric, reading.metric.unit());
            let kind = match row.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge | Kind::Histogram => MetricType::Gauge,
            };
            let mut metric = encoder.encode_descriptor(row.name, row.help, unit.as_ref(), kind)?;
            for (labels, value) in &reading.samples {
                if labels.is_empty() {
                    write(&mut metric, row.kind, value)?;
                } else {
                    write(&mut metric.encode_family(labels)?, row.kind, value)?;
                }
            }
        }
        Ok(())
    }
}

fn write(sample: &mut MetricEncoder<'_>, kind: Kind, value: &f64) -> fmt::Result {
    match kind {
        Kind::Counter => sample.encode_counter::<NoLabelSet, f64, f64>(value, None),
        Kind::Gauge | Kind::Histogram => sample.encode_gauge(value),
    }
}

/// The older format knows no units and no end, and calls a counter by the name of its samples.
fn to_prometheus(open: &str) -> Result<String, fmt::Error> {
    let mut text = String::with_capacity(open.len());
    let mut help = None;
    for line in open.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            // the name depends on the type, which comes next
            help = rest.split_once(' ');
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').ok_or(fmt::Error)?;
            let end = if kind == "counter" { "_total" } else { "" };
            if let Some((_, help)) = help.take() {
                writeln!(text, "# HELP {name}{end} {help}")?;
            }
            writeln!(text, "# TYPE {name}{end} {kind}")?;
        } else if !line.starts_with('#') {
            writeln!(text, "{line}")?;
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ftp::metrics::FtpMetrics;
    use crate::metrics::{Requests, SESSIONS};

    fn exposition() -> Exposition {
        let (front, requests) = (FtpMetrics::default(), Requests::default());
        front.login("ok");
        requests.request("PutObject", "ok", Duration::from_millis(7));
        Exposition::new(&[&front, &requests], || vec![Reading::of(SESSIONS, 3.0)])
    }

    #[test]
    fn open_metrics_have_units_and_an_end() {
        let text = exposition().text(Format::OpenMetrics).expect("text");
        assert!(text.contains("# TYPE cosgate_logins counter\n"), "{text}");
        assert!(text.contains("cosgate_logins_total{result=\"ok\"} 1\n"));
        assert!(text.contains("# UNIT cosgate_s3_request_duration_seconds seconds\n"));
        assert!(text.contains("\ncosgate_sessions 3.0\n"), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn the_older_format_names_counters_as_their_samples() {
        let text = exposition().text(Format::Prometheus).expect("text");
        assert!(
            text.contains("# HELP cosgate_logins_total Logins: "),
            "{text}"
        );
        assert!(text.contains("# TYPE cosgate_logins_total counter\n"));
        let bucket =
            "cosgate_s3_request_duration_seconds_bucket{le=\"0.01\",operation=\"PutObject\"} 1\n";
        assert!(text.contains(bucket), "{text}");
        assert!(!text.contains("# EOF") && !text.contains("# UNIT"));
    }

    #[test]
    fn the_format_is_negotiated() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert_eq!(Format::accepted(prometheus), Format::OpenMetrics);
        for accept in ["", "*/*", "text/plain", "application/openmetrics-text;q=0"] {
            assert_eq!(Format::accepted(accept), Format::Prometheus, "{accept}");
        }
    }
}
