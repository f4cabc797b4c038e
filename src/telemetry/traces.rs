//! Which collector the environment names, and what is sent there.
//!
//! The variables are OpenTelemetry's own (<https://opentelemetry.io/docs/languages/sdk-configuration/>). Traces are on
//! when an endpoint is set. A setting that can't be used leaves the gateway without traces, not its clients without
//! a gateway: the specification forbids to fail for it.

use std::env;
use std::fmt;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_otlp::tonic_types::transport::{Certificate, ClientTlsConfig};
use opentelemetry_otlp::{
    SpanExporter, WithExportConfig as _, WithHttpConfig as _, WithTonicConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::{
    EnvResourceDetector, ResourceDetector, TelemetryResourceDetector,
};
use opentelemetry_sdk::trace::{BatchSpanProcessor, SdkTracerProvider, Tracer};
use tracing_opentelemetry::OpenTelemetryLayer;

use super::capped::Capped;
use super::export::Reporting;
use crate::http_client;

/// The environment's settings of the collector.
#[derive(Debug)]
pub(super) struct Collector {
    endpoint: String,
    protocol: Protocol,
    /// PEM file of the authority that the collector's certificate comes from, besides the system's.
    authority: Option<String>,
    timeout: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Grpc,
    Http,
}

/// OpenTelemetry's default for one export.
const TIMEOUT: Duration = Duration::from_secs(10);

impl Collector {
    /// None: no traces are wanted. An error says which variable is wrong, and how it can be right.
    pub(super) fn from_environment() -> Option<Result<Self, String>> {
        Self::from(|name| env::var(name).ok())
    }

    fn from(variable: impl Fn(&str) -> Option<String>) -> Option<Result<Self, String>> {
        let set = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        // what is said of traces stands above what is said of everything
        let of_traces = |name: &str| {
            let special = format!("OTEL_EXPORTER_OTLP_TRACES_{name}");
            let general = format!("OTEL_EXPORTER_OTLP_{name}");
            let value = set(&special).map(|value| (special, value));
            value.or_else(|| set(&general).map(|value| (general, value)))
        };
        let disabled = set("OTEL_SDK_DISABLED").is_some_and(|v| v.eq_ignore_ascii_case("true"))
            || set("OTEL_TRACES_EXPORTER").is_some_and(|exporter| exporter == "none");
        let (_, endpoint) = of_traces("ENDPOINT")?;
        if disabled {
            return None;
        }
        let protocol = match of_traces("PROTOCOL") {
            None => Protocol::Http,
            Some((name, value)) => match value.as_str() {
                "grpc" => Protocol::Grpc,
                "http/protobuf" => Protocol::Http,
                _ => {
                    return Some(Err(format!("{name} = {value}: use grpc or http/protobuf")));
                }
            },
        };
        let timeout = match of_traces("TIMEOUT") {
            None => TIMEOUT,
            Some((name, value)) => match value.parse() {
                Ok(milliseconds) => Duration::from_millis(milliseconds),
                Err(_) => return Some(Err(format!("{name} = {value}: use whole milliseconds"))),
            },
        };
        Some(Ok(Collector {
            endpoint,
            protocol,
            authority: of_traces("CERTIFICATE").map(|(_, file)| file),
            timeout,
        }))
    }

    /// Starts to export what ends from now on. Nothing is sent yet, so a collector may come later.
    pub(super) fn connect(&self) -> Result<SdkTracerProvider, String> {
        let authority = match &self.authority {
            None => None,
            Some(file) => Some(std::fs::read(file).map_err(|error| {
                format!("OTEL_EXPORTER_OTLP_CERTIFICATE = {file}: can't be read: {error}")
            })?),
        };
        let exporter = match self.protocol {
            Protocol::Grpc => {
                let builder = SpanExporter::builder()
                    .with_tonic()
                    .with_timeout(self.timeout);
                let builder = if self.endpoint.starts_with("https://") {
                    let mut tls = ClientTlsConfig::new().with_enabled_roots();
                    if let Some(pem) = authority {
                        tls = tls.ca_certificate(Certificate::from_pem(pem));
                    }
                    builder.with_tls_config(tls)
                } else {
                    builder
                };
                builder.build()
            }
            Protocol::Http => SpanExporter::builder()
                .with_http()
                .with_http_client(self.http_client(authority.as_deref())?)
                .with_timeout(self.timeout)
                .build(),
        };
        let exporter = exporter.map_err(|error| format!("the way to the collector: {error}"))?;
        let exporter = Reporting::new(exporter, self.host(), self.protocol.name());
        let processor = BatchSpanProcessor::builder(exporter).build();
        Ok(SdkTracerProvider::builder()
            .with_resource(resource())
            .with_span_processor(Capped::new(processor))
            .build())
    }

    fn http_client(
        &self,
        authority: Option<&[u8]>,
    ) -> Result<HyperClient<hyper_rustls::HttpsConnector<HttpConnector>>, String> {
        let tls = http_client::tls_with(authority.unwrap_or_default())
            .map_err(|error| format!("OTEL_EXPORTER_OTLP_CERTIFICATE: {error}"))?;
        let connector = http_client::connector(tls, None);
        Ok(HyperClient::new(connector, self.timeout, None))
    }

    /// The endpoint without what authenticates: some put a password or a token into the URL.
    pub(super) fn host(&self) -> String {
        let (scheme, rest) = self
            .endpoint
            .split_once("://")
            .unwrap_or(("", &self.endpoint));
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let host = authority.rsplit('@').next().unwrap_or_default();
        if scheme.is_empty() {
            host.to_owned()
        } else {
            format!("{scheme}://{host}")
        }
    }

    pub(super) fn protocol(&self) -> impl fmt::Display {
        self.protocol.name()
    }
}

type HttpConnector = hyper_util::client::legacy::connect::HttpConnector;

impl Protocol {
    fn name(self) -> &'static str {
        match self {
            Protocol::Grpc => "grpc",
            Protocol::Http => "http/protobuf",
        }
    }
}

/// The layer that makes spans of the SDK out of `tracing`'s.
pub(super) fn layer<S>(provider: &SdkTracerProvider) -> OpenTelemetryLayer<S, Tracer>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("cosgate"))
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false)
        .with_context_activation(false)
}

/// The sender: the program, and what OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES add, such as the pod's name.
fn resource() -> Resource {
    let detectors: [Box<dyn ResourceDetector>; 2] = [
        Box::new(TelemetryResourceDetector),
        Box::new(EnvResourceDetector::new()),
    ];
    let ours = [
        KeyValue::new("service.name", "cosgate"),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
    ];
    // of two that say the same, the later one counts
    let resource = Resource::builder_empty()
        .with_attributes(ours)
        .with_detectors(&detectors);
    match env::var("OTEL_SERVICE_NAME")
        .ok()
        .filter(|name| !name.is_empty())
    {
        Some(name) => resource.with_service_name(name).build(),
        None => resource.build(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collector(variables: &[(&str, &str)]) -> Option<Result<Collector, String>> {
        Collector::from(|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn without_an_endpoint_there_are_no_traces() {
        assert!(collector(&[]).is_none());
        assert!(collector(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]).is_none());
        assert!(collector(&[("OTEL_SERVICE_NAME", "x")]).is_none());
    }

    #[test]
    fn what_is_said_of_traces_wins() {
        let found = collector(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://all:4318"),
            (
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
                "http://me:secret@traces:4317/x?token=y",
            ),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "1500"),
        ]);
        let found = found.expect("traces are on").expect("and right");
        assert_eq!(found.host(), "http://traces:4317", "without a secret");
        assert_eq!(found.protocol, Protocol::Grpc);
        assert_eq!(found.timeout, Duration::from_millis(1500));
    }

    #[test]
    fn traces_can_be_switched_off() {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318");
        assert!(collector(&[endpoint, ("OTEL_SDK_DISABLED", "True")]).is_none());
        assert!(collector(&[endpoint, ("OTEL_TRACES_EXPORTER", "none")]).is_none());
        assert!(collector(&[endpoint, ("OTEL_SDK_DISABLED", "no")]).is_some());
    }

    #[test]
    fn a_wrong_setting_is_named_with_its_remedy() {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318");
        let wrong = collector(&[endpoint, ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")]);
        let reason = wrong.expect("traces are wanted").expect_err("and not had");
        assert_eq!(
            reason,
            "OTEL_EXPORTER_OTLP_PROTOCOL = http/json: use grpc or http/protobuf"
        );
    }
}
