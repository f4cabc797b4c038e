//! A collector of traces: OTLP over gRPC in, spans to look at out.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, transport::Server};

/// The received spans.
#[derive(Clone)]
pub struct Collector {
    pub address: SocketAddr,
    received: Arc<Mutex<Received>>,
}

#[derive(Default)]
struct Received {
    spans: Vec<Span>,
    resource: HashMap<String, String>,
    /// Everything, for searches.
    text: String,
    headers: Vec<String>,
}

/// A span in plain terms.
#[derive(Debug, Clone)]
pub struct Span {
    pub name: String,
    pub trace: String,
    pub id: String,
    pub parent: String,
    pub kind: SpanKind,
    pub started: u64,
    pub ended: u64,
    pub is_error: bool,
    pub description: String,
    pub attributes: HashMap<String, String>,
}

impl Span {
    /// An attribute as text; empty if it isn't there.
    pub fn get(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }
}

impl Collector {
    /// Listens on a free port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await;
        Self::serve(listener.expect("a free port"))
    }

    /// Answers at `listener`.
    pub fn serve(listener: TcpListener) -> Self {
        let address = listener.local_addr().expect("bound");
        let received = Arc::new(Mutex::new(Received::default()));
        let service = TraceServiceServer::new(Receiver(Arc::clone(&received)));
        let server = Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        Collector { address, received }
    }

    /// All spans so far, in the order in which they began.
    pub fn spans(&self) -> Vec<Span> {
        let mut spans = self.received.lock().expect("no panic").spans.clone();
        spans.sort_by_key(|span| span.started);
        spans
    }

    /// The root span called `name`, once it has come, and the spans below it in the order in which they began.
    pub async fn trace(&self, name: &str) -> (Span, Vec<Span>) {
        let root = || {
            let spans = self.spans();
            spans
                .into_iter()
                .find(|span| span.name == name && span.parent.is_empty())
        };
        super::eventually(&format!("{name} arrives"), || async { root().is_some() }).await;
        let root = root().expect("it has come");
        let mut below = self.spans();
        below.retain(|span| span.trace == root.trace && span.id != root.id);
        (root, below)
    }

    /// Forgets what has come.
    pub fn clear(&self) {
        self.received.lock().expect("no panic").spans.clear();
    }

    /// The sender.
    pub fn resource(&self, name: &str) -> String {
        let received = self.received.lock().expect("no panic");
        received.resource.get(name).cloned().unwrap_or_default()
    }

    /// Everything that has ever come, as text.
    pub fn text(&self) -> String {
        self.received.lock().expect("no panic").text.clone()
    }

    /// The values of the header `x-token` that came with the spans.
    pub fn tokens(&self) -> Vec<String> {
        self.received.lock().expect("no panic").headers.clone()
    }
}

struct Receiver(Arc<Mutex<Received>>);

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut received = self.0.lock().expect("no panic");
        if let Some(token) = request.metadata().get("x-token") {
            let token = token.to_str().expect("ASCII").to_owned();
            received.headers.push(token);
        }
        let request = request.into_inner();
        received.text += &format!("{request:?}\n");
        for of_resource in request.resource_spans {
            if let Some(resource) = of_resource.resource {
                received.resource = plain(resource.attributes);
            }
            for span in of_resource.scope_spans.into_iter().flat_map(|s| s.spans) {
                let status = span.status.clone().unwrap_or_default();
                received.spans.push(Span {
                    kind: span.kind(),
                    trace: hex(&span.trace_id),
                    id: hex(&span.span_id),
                    parent: hex(&span.parent_span_id),
                    started: span.start_time_unix_nano,
                    ended: span.end_time_unix_nano,
                    // STATUS_CODE_ERROR
                    is_error: status.code == 2,
                    description: status.message,
                    attributes: plain(span.attributes),
                    name: span.name,
                });
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn plain(attributes: Vec<KeyValue>) -> HashMap<String, String> {
    let text = |value: Value| match value {
        Value::StringValue(text) => text,
        Value::IntValue(number) => number.to_string(),
        Value::DoubleValue(number) => number.to_string(),
        Value::BoolValue(yes) => yes.to_string(),
        other => format!("{other:?}"),
    };
    attributes
        .into_iter()
        .filter_map(|pair| Some((pair.key, text(pair.value?.value?))))
        .collect()
}
