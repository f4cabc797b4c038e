//! The trace of one command: its root span, which the storage's requests are parts of, and how it ended.
//!
//! A trace per transfer, not per session: a span is exported when it ends, and a session may last for days.

use std::sync::Arc;
use std::time::Instant;

use tokio::net::TcpStream;
use tracing::field::{Empty, display};
use tracing::{Span, info_span};

use crate::chain::Chain;
use crate::ftp::session::edge::{DataChannel, Edge};
use crate::ftp::session::state::Session;
use crate::store::{StoreError, VirtualPath};
use crate::telemetry::{TRACE, trace_id};

/// A command's span, from the command to its last reply.
pub(super) struct Trace {
    span: Span,
    session: Arc<Session>,
    ended: bool,
}

/// The span of the wait for a data connection.
pub(super) struct DataConnection(Span);

impl Trace {
    /// Begins the trace of `name`, such as `STOR`; until its end the storage's work belongs to it.
    pub(super) fn begin(edge: &Edge, name: &str, path: &VirtualPath) -> Self {
        let session = Arc::clone(&edge.session);
        let (local, peer) = (session.reached(), session.peer);
        let span = info_span!(
            target: TRACE, parent: None, "ftp",
            otel.name = %format_args!("ftp.{name}"),
            otel.kind = "server",
            cosgate.session.id = session.id,
            user.name = edge.user_name(),
            client.address = %peer.ip().to_canonical(),
            client.port = peer.port(),
            network.protocol.name = if edge.secured.is_some() { "ftps" } else { "ftp" },
            server.address = Empty,
            server.port = local.port(),
            file.path = %path,
            file.size = Empty,
            cosgate.bytes = Empty,
            ftp.transfer.outcome = Empty,
            ftp.reply_code = Empty,
            error.type = Empty,
            otel.status_code = Empty,
            otel.status_description = Empty,
        );
        if !span.is_disabled() {
            // what PASV tells, which is the address that a wrong configuration shows in
            let advertised = edge.advertised().address;
            let address = advertised.map_or_else(|_| local.ip().to_string(), |ip| ip.to_string());
            span.record("server.address", address);
        }
        session.set_span(span.clone());
        Trace {
            span,
            session,
            ended: false,
        }
    }

    /// The trace's id, if it is exported.
    pub(super) fn id(&self) -> Option<String> {
        trace_id(&self.span)
    }

    /// Begins the wait for the data connection.
    pub(super) fn data_connection(&self, channel: &DataChannel) -> DataConnection {
        let span = info_span!(
            target: TRACE, parent: &self.span, "ftp.data_connection",
            ftp.passive.port = Empty,
            ftp.passive.seconds_since_reply = Empty,
            cosgate.relayed_by = Empty,
            ftp.active.address = Empty,
            error.type = Empty,
            otel.status_code = Empty,
        );
        match channel {
            DataChannel::Passive(reservation) => {
                span.record("ftp.passive.port", reservation.port());
            }
            DataChannel::Active(address) => {
                span.record("ftp.active.address", display(address));
            }
        }
        DataConnection(span)
    }

    /// The bytes that crossed the data connection, and those of the file, if they are known.
    pub(super) fn bytes(&self, moved: u64, file: Option<u64>) {
        self.span.record("cosgate.bytes", moved);
        self.span.record("file.size", file);
    }

    /// The command has ended well.
    pub(super) fn complete(&mut self, code: u16) {
        self.end("complete", code);
    }

    /// The storage failed, or the transfer ended early.
    pub(super) fn failed(&mut self, outcome: &'static str, code: u16, error: &StoreError) {
        self.end(outcome, code);
        self.error(error.kind());
        let text = Chain(error).to_string();
        self.span.record("otel.status_description", text);
    }

    /// The edge refused it before the storage heard of it.
    pub(super) fn refused(&mut self, outcome: &'static str, code: u16, reason: &'static str) {
        self.end(outcome, code);
        self.error(reason);
    }

    fn end(&mut self, outcome: &'static str, code: u16) {
        self.ended = true;
        self.span.record("ftp.transfer.outcome", outcome);
        self.span.record("ftp.reply_code", code);
    }

    fn error(&self, kind: &'static str) {
        self.span.record("error.type", kind);
        self.span.record("otel.status_code", "ERROR");
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        if !self.ended {
            // the session closes under the command
            self.span.record("ftp.transfer.outcome", "failed");
            self.error("session_closed");
        }
        self.session.set_span(Span::none());
    }
}

impl DataConnection {
    /// The connection came by way of another gateway, which is where it comes from: its local port is not the passive one.
    pub(super) fn relayed(&self, socket: &TcpStream, passive_port: u16) {
        if let (Ok(local), Ok(peer)) = (socket.local_addr(), socket.peer_addr())
            && local.port() != passive_port
        {
            self.0.record("cosgate.relayed_by", display(peer.ip()));
        }
    }

    /// The wait is over; `asked` is when the reply to PASV was sent.
    pub(super) fn end(self, came: bool, asked: Option<Instant>) {
        if came {
            let waited = asked.map(|asked| asked.elapsed().as_secs_f64());
            self.0.record("ftp.passive.seconds_since_reply", waited);
        } else {
            self.0.record("error.type", "no_data_connection");
            self.0.record("otel.status_code", "ERROR");
        }
    }
}
