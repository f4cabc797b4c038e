//! One request or command to the storage, and the reply to what came of it.

use std::sync::Arc;

use tracing::{debug, error, warn};

use crate::chain::Chain;
use crate::failures::Failure;
use crate::ftp::engine::Engine;
use crate::ftp::engine::backend::Backend;
use crate::ftp::engine::request::{StorageOutcome, StorageRequest};
use crate::ftp::failed::{Consequences, Severity, consequences};
use crate::ftp::reply::Reply;
use crate::ftp::session::diagnosis::cause;
use crate::ftp::session::edge::{Close, Edge, Step};
use crate::ftp::session::trace::Trace;
use crate::store::{StoreError, VirtualPath};

impl Edge {
    /// The engine, which starts when it doesn't run: with the first command that needs it, and after a [rest](Edge::rest_engine).
    pub(super) async fn engine(&mut self) -> Step<&mut Engine> {
        if self.engine.is_none() {
            let tree = self.tree.clone().ok_or(Close::Silently)?;
            let (session, events) = (Arc::clone(&self.session), self.frontend.events.clone());
            let backend = Backend::new(session.clone(), tree, events);
            let started = Engine::start(&self.frontend.loopback, session, backend).await;
            let started = started.map_err(|failure| Close::engine(&self.session, &failure))?;
            self.engine = Some(started);
        }
        self.engine.as_mut().ok_or(Close::Silently)
    }

    /// Ends the engine of a client that does nothing: it takes 22 kB, four times what all the rest of such a session takes, and two
    /// descriptors. The file of an RNFR is the only state that it alone has.
    pub(super) fn rest_engine(&mut self) {
        if self.renaming.is_none() {
            self.engine = None;
        }
    }

    /// Brings a request to the storage, and what came of it back.
    pub(super) async fn execute(
        &mut self,
        request: StorageRequest,
    ) -> Step<Result<StorageOutcome, StoreError>> {
        let session = Arc::clone(&self.session);
        let verb = request.subcommand();
        let engine = self.engine().await?;
        let ended = engine.execute(request).await;
        session.take_request();
        let code = ended.map_err(|failure| Close::engine(&session, &failure))?;
        self.outcome(verb, code)
    }

    /// Keeps a failure for the status page.
    pub(super) fn note_failure(
        &self,
        verb: &'static str,
        path: &VirtualPath,
        code: u16,
        cause: String,
    ) {
        self.frontend.registry.failures.note(Failure::new(
            self.user_name(),
            self.session.peer.ip(),
            (verb, path.as_str()),
            code,
            cause,
        ));
    }

    /// One command to the engine, and what the storage made of it.
    pub(super) async fn ask(&mut self, line: &str) -> Step<Result<StorageOutcome, StoreError>> {
        let session = Arc::clone(&self.session);
        let engine = self.engine().await?;
        session.take_outcome();
        let code = engine
            .command(line)
            .await
            .map_err(|failure| Close::engine(&session, &failure))?;
        self.outcome(line, code)
    }

    /// The storage's word. An engine that answered without having asked the storage is out of step.
    pub(super) fn outcome(
        &self,
        line: &str,
        code: u16,
    ) -> Step<Result<StorageOutcome, StoreError>> {
        match self.session.take_outcome() {
            Some(outcome) if outcome.is_ok() == (code < 400) => Ok(outcome),
            _ => {
                let verb = line.split(' ').next().unwrap_or_default();
                Err(self.out_of_step(verb, code))
            }
        }
    }

    /// The reply to a storage error. What the store failed at is logged here once and kept for the status page; what
    /// has a trace ends it, and is kept for the page even if it is the client's own mistake.
    pub(super) fn refusal(
        &self,
        verb: &'static str,
        path: &VirtualPath,
        error: &StoreError,
        trace: Option<&mut Trace>,
    ) -> Reply {
        let Consequences {
            severity, outcome, ..
        } = consequences(error);
        let reply = Reply::from(error);
        let (id, user, client) = (self.session.id, self.user_name(), self.session.peer);
        let bucket = self.store_of(path).bucket();
        let is_noted = match severity {
            Severity::Error => {
                error!(session = id, user, %client, verb, %path, bucket, code = reply.code, error = %Chain(error), "the store failed");
                true
            }
            Severity::Warn => {
                warn!(session = id, user, %client, verb, %path, bucket, code = reply.code, error = %Chain(error), "the store failed");
                true
            }
            Severity::Debug => {
                debug!(session = id, user, %client, verb, %path, code = reply.code, error = %Chain(error), "refused");
                trace.is_some()
            }
        };
        if error.is_of_integrity() {
            self.frontend.metrics.integrity_failure();
        }
        if is_noted {
            let cause = match cause(error) {
                cause if bucket == self.frontend.store.bucket() => cause,
                cause => format!("in the bucket {bucket}: {cause}"),
            };
            self.note_failure(verb, path, reply.code, cause);
        }
        if let Some(trace) = trace {
            trace.failed(outcome.word(), reply.code, error);
        }
        reply
    }
}
