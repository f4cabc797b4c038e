//! One data transfer from the edge's side, from the command to its final reply.
//!
//! ```text
//! PASV     227; the engine is not asked
//! RETR x   the client's data connection is waited for (bounded)       not yet: the storage is asked without it
//!          engine: SITE RETRIEVE -> the handler takes the request and opens the object       missing: 550, no 150 was sent
//!          storage is ready -> 150 -> the data connection is handed to the storage      none came: 425
//!          bytes move between store and client                         ABOR, NOOP, STAT are answered meanwhile
//!          storage is done -> engine's final reply -> the edge's final reply, made from the storage's own outcome
//! ```

use std::sync::Arc;
use std::time::Instant;

use tracing::{info, warn};

use crate::chain::Chain;
use crate::ftp::data_connection::{DataConnection, TlsEnd};
use crate::ftp::engine::EngineError;
use crate::ftp::engine::request::{
    DataConnectionOffer, IncomingFile, OfferTicket, RetrieveRequest, StorageOutcome,
    StorageRequest, StoreRequest,
};
use crate::ftp::failed::consequences;
use crate::ftp::metrics::Direction;
use crate::ftp::reply::Reply;
use crate::ftp::session::arrival::{Arrival, First, Missed};
use crate::ftp::session::commits::{Change, Commit};
use crate::ftp::session::during_transfer::attend;
use crate::ftp::session::edge::{Close, Edge, Step};
use crate::ftp::session::exchange::Exchange;
use crate::ftp::session::protection::protect;
use crate::ftp::session::trace::Trace;
use crate::ftp::transfer::{Subject, Transfer};
use crate::net::PeerWatch;
use crate::store::{Interruption, Left, Mode, StoreError, VirtualPath};

/// The result of a transfer, once the storage was asked.
enum Moved {
    /// The storage's outcome.
    Done(Result<StorageOutcome, StoreError>),
    /// The 150 was said, and nobody came.
    Missed(Missed),
}

/// Why there is no data connection after the 150.
enum Unconnected {
    /// Its protection failed.
    Refused(Interruption),
    /// It never came.
    Missed(Missed),
}

impl Edge {
    pub(super) async fn download(&mut self, path: &str) -> Step {
        let offset = std::mem::take(&mut self.restart);
        self.announced = None;
        let ascii = self.converts();
        if ascii && offset > 0 {
            return self.no_ascii("REST", 504).await;
        }
        let path = match self.resolve(path) {
            Ok(path) => path,
            Err(reply) => return self.send(reply).await,
        };
        if self.held_bytes(&path).is_some() {
            // SIZE has reported another length than that of the object, and clients stop reading there
            let held = StoreError::Busy {
                detail: "an upload of it is held, and SIZE reports its bytes",
            };
            return self.send(Reply::from(&held)).await;
        }
        let (offer, ticket) = DataConnectionOffer::new();
        let exchange = Exchange {
            verb: "RETR",
            opening: format!("Sending {path}"),
            path: path.clone(),
            stall: self.frontend.download_stall,
        };
        self.exchange(
            exchange,
            StorageRequest::Retrieve(RetrieveRequest {
                path,
                offset,
                ascii,
                offer,
            }),
            ticket,
        )
        .await
    }

    pub(super) async fn upload(&mut self, path: &str, verb: &'static str) -> Step {
        let offset = std::mem::take(&mut self.restart);
        let announced = self.announced.take();
        if self.converts() && offset > 0 {
            return self.no_ascii("REST", 504).await;
        }
        let path = match self.resolve(path) {
            Ok(path) => path,
            Err(reply) => return self.send(reply).await,
        };
        let mode = match (verb, offset) {
            ("APPE", _) => Mode::Append,
            (_, 0) => Mode::New,
            (_, offset) => Mode::ResumeAt(offset),
        };
        let opening = format!("Ready for {path}");
        self.store(path, verb, mode, announced, opening).await
    }

    /// `STOU`: a name that nobody else gets, reported in the 150 (RFC 1123, section 4.1.2.9).
    pub(super) async fn upload_unique(&mut self) -> Step {
        let mut random = [0; 8];
        if getrandom::fill(&mut random).is_err() {
            return self.say(451, "No unique name could be made").await;
        }
        let name = format!("ftp-{:016x}", u64::from_be_bytes(random));
        let path = match self.resolve(&name) {
            Ok(path) => path,
            Err(reply) => return self.send(reply).await,
        };
        let announced = self.announced.take();
        let opening = format!("FILE: {name}");
        self.store(path, "STOU", Mode::New, announced, opening)
            .await
    }

    async fn store(
        &mut self,
        path: VirtualPath,
        verb: &'static str,
        mode: Mode,
        announced: Option<u64>,
        opening: String,
    ) -> Step {
        let (offer, ticket) = DataConnectionOffer::new();
        let stall = self.frontend.upload_stall;
        let held = self.held_bytes(&path);
        self.held = None;
        self.exchange(
            Exchange {
                verb,
                path: path.clone(),
                opening,
                stall,
            },
            StorageRequest::Store(StoreRequest {
                file: IncomingFile {
                    path,
                    mode,
                    held,
                    // of text that is what crosses the wire, and more than what is stored
                    announced: announced.filter(|_| !self.converts()),
                    ascii: self.converts(),
                },
                offer,
            }),
            ticket,
        )
        .await
    }

    /// A path as the client typed it, or the reply that refuses it.
    pub(super) fn resolve(&self, path: &str) -> Result<VirtualPath, Reply> {
        VirtualPath::resolve(&self.working_directory, path)
            .map_err(|error| Reply::from(&StoreError::from(error)))
    }

    /// One transfer, from the wait for its data connection to its final reply.
    pub(super) async fn exchange(
        &mut self,
        exchange: Exchange,
        request: StorageRequest,
        ticket: OfferTicket,
    ) -> Step {
        let mut trace = Trace::begin(self, exchange.verb, &exchange.path);
        if let Some(refusal) = self.unprotected_data() {
            self.data = None;
            return self.turn_down(&exchange, &mut trace, refusal).await;
        }
        let Some(channel) = self.data.take() else {
            let refusal = Reply::new(425, "Use PASV or EPSV first");
            return self.turn_down(&exchange, &mut trace, refusal).await;
        };
        let Ok(control) = PeerWatch::new(self.control.stream().tcp()) else {
            let refusal = Reply::new(425, "Out of file descriptors, try again later");
            return self.turn_down(&exchange, &mut trace, refusal).await;
        };
        let direction = direction(request.is_upload());
        let subject = Subject {
            verb: exchange.verb,
            path: exchange.path.clone(),
        };
        let transfer = Transfer::new(subject, control, self.frontend.metrics.bytes(direction));
        if let Some(bytes) = request.announced() {
            transfer.expect(bytes);
        }
        self.session.set_transfer(Some(Arc::clone(&transfer)));
        let started = Instant::now();
        let span = trace.data_connection(&channel);
        let (local, frontend) = (self.session.local, &self.frontend);
        let (accept, reach) = (frontend.accept_timeout, frontend.active.connect_timeout);
        let arrival = Arrival::new(channel, local, accept, reach, span);
        let first = async {
            tokio::select! {
                first = arrival.first() => Some(first),
                () = transfer.interrupted() => None,
            }
        };
        let first = attend(
            &mut self.control,
            &mut self.queue,
            &self.end,
            &transfer,
            first,
        )
        .await;
        let arrival = match first {
            Some(First::Nobody(missed)) => {
                self.session.set_transfer(None);
                return self.nobody_came(&exchange, &missed, &mut trace).await;
            }
            Some(first) => first,
            None => {
                self.session.set_transfer(None);
                let outcome = "no_data_connection";
                self.frontend.metrics.transfer(exchange.verb, outcome, None);
                let reason = transfer.interruption().unwrap_or(Interruption::ControlLost);
                trace.refused(outcome, 425, reason.kind());
                return self.no_data_connection(reason).await;
            }
        };

        let moved = self
            .move_data(&exchange, request, ticket, arrival, &transfer)
            .await;
        self.session.take_request();
        self.session.set_transfer(None);
        let outcome = match moved {
            Ok(Moved::Done(outcome)) => outcome,
            Ok(Moved::Missed(missed)) => {
                return self.nobody_came(&exchange, &missed, &mut trace).await;
            }
            Err(close) => {
                // the engine has failed: the storage must not go on by itself, and the transfer counts
                transfer.interrupt(Interruption::ControlLost);
                let (verb, took) = (exchange.verb, started.elapsed());
                self.frontend.metrics.transfer(verb, "failed", Some(took));
                trace.refused("failed", 421, "engine");
                let why = "an internal error; the log says more".to_owned();
                self.note_failure(verb, &exchange.path, 421, why);
                return Err(close);
            }
        };
        let reply = match &outcome {
            Ok(done) => success(done),
            Err(error) => self.refusal(exchange.verb, &exchange.path, error, Some(&mut trace)),
        };
        self.log(&exchange, &transfer, started, &outcome, &reply, &mut trace);
        drop(trace);
        match transfer.interruption() {
            Some(Interruption::ControlLost) => Err(Close::Silently),
            Some(Interruption::Stopping | Interruption::AddressRefused) => {
                Err(Close::Farewell(reply))
            }
            Some(Interruption::Abort) => {
                // RFC 959: the transfer's own reply first, then that to ABOR
                self.send(reply).await?;
                self.say(226, "Abort successful").await
            }
            _ => self.send(reply).await,
        }
    }

    /// Refuses a transfer before the storage is asked.
    async fn turn_down(&mut self, exchange: &Exchange, trace: &mut Trace, refusal: Reply) -> Step {
        trace.refused("refused", refusal.code, "refused");
        let why = format!("refused before it began: {}", refusal.text);
        self.note_failure(exchange.verb, &exchange.path, refusal.code, why);
        self.frontend
            .metrics
            .transfer(exchange.verb, "refused", None);
        self.send(refusal).await
    }

    /// Lets the storage and the client exchange bytes; the result is the storage's own.
    async fn move_data(
        &mut self,
        exchange: &Exchange,
        request: StorageRequest,
        ticket: OfferTicket,
        arrival: First,
        transfer: &Arc<Transfer>,
    ) -> Step<Moved> {
        let session = Arc::clone(&self.session);
        let OfferTicket { mut ready, data } = ticket;
        let upload = request.is_upload();
        self.engine().await?;
        // apart from the control connection, which is read meanwhile
        let engine = self.engine.as_mut().ok_or(Close::Silently)?;
        let bandwidth = self.bandwidth.as_ref().ok_or(Close::Silently)?;
        let pace = Arc::clone(bandwidth.pace(direction(upload)));
        let held = self.frontend.kernel_queues.share(direction(upload));
        let mut running = Box::pin(engine.execute(request));
        let opened = async {
            tokio::select! {
                biased;
                Ok(()) = &mut ready => None,
                ended = &mut running => Some(ended),
            }
        };
        let (control, queue, end) = (&mut self.control, &mut self.queue, &self.end);
        let mut missed = None;
        let ended = match attend(control, queue, end, transfer, opened).await {
            Some(ended) => ended,
            None => {
                let opening = Reply::new(150, exchange.opening.clone());
                if control.send(&opening).await.is_err() {
                    transfer.control_ended();
                }
                // the handshake follows the 150 (RFC 4217, section 9), and is not begun for a client that has gone
                let secured = self.secured.as_ref().filter(|_| self.private);
                let user = session.user();
                let closing = match user.is_some_and(|user| !user.require_close_notify) {
                    true => TlsEnd::Any,
                    false => TlsEnd::CloseNotify,
                };
                let frontend = &self.frontend;
                let connecting = async {
                    let socket = match arrival {
                        First::Came(socket) => socket,
                        First::Late(arrival) => {
                            arrival.rest().await.map_err(Unconnected::Missed)?
                        }
                        First::Nobody(missed) => return Err(Unconnected::Missed(missed)),
                    };
                    transfer.connect();
                    protect(socket, secured, upload, frontend, session.id)
                        .await
                        .map_err(Unconnected::Refused)
                };
                let connecting = async {
                    tokio::select! {
                        biased;
                        () = transfer.interrupted() => None,
                        stream = connecting => Some(stream),
                    }
                };
                match attend(control, queue, end, transfer, connecting).await {
                    Some(Ok(stream)) => {
                        let (transfer, stall) = (Arc::clone(transfer), exchange.stall);
                        // the storage may have ended meanwhile; its outcome says why
                        let connection =
                            DataConnection::new(stream, transfer, stall, closing, pace, held);
                        let _ = data.send(connection);
                    }
                    Some(Err(Unconnected::Refused(reason))) => {
                        transfer.interrupt(reason);
                        drop(data);
                    }
                    Some(Err(Unconnected::Missed(nobody))) => {
                        if transfer.interrupt(Interruption::NotConnected) {
                            missed = Some(nobody);
                        }
                        drop(data);
                    }
                    None => drop(data),
                }
                attend(control, queue, end, transfer, &mut running).await
            }
        };
        drop(running);
        let code = ended.map_err(|failure| Close::engine(&session, &failure))?;
        let outcome = self.outcome(exchange.verb, code)?;
        Ok(match missed {
            Some(missed) => Moved::Missed(missed),
            None => Moved::Done(outcome),
        })
    }

    /// One line per transfer, and the same in the trace and the metrics.
    fn log(
        &self,
        exchange: &Exchange,
        transfer: &Transfer,
        started: Instant,
        outcome: &Result<StorageOutcome, StoreError>,
        reply: &Reply,
        trace: &mut Trace,
    ) {
        let (id, user, client) = (self.session.id, self.user_name(), self.session.peer);
        let (verb, path, bytes) = (exchange.verb, &exchange.path, transfer.bytes());
        let took = started.elapsed();
        let seconds = took.as_secs_f64();
        // in bytes per second
        let rate = (bytes as f64 / seconds.max(1e-6)).round() as u64;
        let size = match outcome {
            Ok(StorageOutcome::Stored(stored)) => Some(stored.size),
            Err(StoreError::UploadInterrupted {
                left: Left::Kept(kept),
                ..
            }) => Some(*kept),
            _ => None,
        };
        let change = match outcome {
            Ok(StorageOutcome::Stored(stored)) => Some(Change::Stored(stored)),
            Err(StoreError::UploadInterrupted {
                reason,
                left: Left::Kept(kept),
            }) => Some(Change::Kept {
                bytes: *kept,
                received: bytes,
                reason: *reason,
            }),
            _ => None,
        };
        if let Some(change) = change {
            self.publish(&Commit { change, took });
        }
        let error = outcome.as_ref().err();
        let outcome = error.map_or("complete", |error| consequences(error).outcome.word());
        let (code, trace_id) = (reply.code, trace.id());
        self.frontend.metrics.transfer(verb, outcome, Some(took));
        trace.bytes(bytes, size);
        match error {
            None => {
                trace.complete(code);
                info!(
                    event = "transfer", session = id, user, %client, verb, %path, bytes, seconds, rate, outcome, code,
                    trace_id, "transfer"
                );
            }
            Some(error) => {
                warn!(
                    event = "transfer", session = id, user, %client, verb, %path, bytes, seconds, rate, outcome, code,
                    trace_id, error = %Chain(error), "transfer"
                );
            }
        }
    }

    /// The storage did something else than the request.
    pub(super) fn out_of_step(&self, verb: &str, code: u16) -> Close {
        let verb = verb.to_owned();
        Close::engine(&self.session, &EngineError::Odd { verb, code })
    }
}

fn direction(is_upload: bool) -> Direction {
    match is_upload {
        true => Direction::Received,
        false => Direction::Sent,
    }
}

fn success(done: &StorageOutcome) -> Reply {
    let text = match done {
        StorageOutcome::Stored(stored) if stored.size > stored.received => {
            format!(
                "Stored, {} bytes received, the file has {} bytes",
                stored.received, stored.size
            )
        }
        StorageOutcome::Stored(stored) => format!("Stored, {} bytes", stored.received),
        StorageOutcome::Sent(bytes) => format!("Sent, {bytes} bytes"),
        StorageOutcome::Listed {
            entries,
            left_out: 0,
            ..
        } => format!("Listed, {entries} entries"),
        StorageOutcome::Listed {
            entries, left_out, ..
        } => format!("Listed, {entries} entries; {left_out} keys can't be shown as names"),
        StorageOutcome::Plain
        | StorageOutcome::Renamed(_)
        | StorageOutcome::Entry(_)
        | StorageOutcome::Held(_)
        | StorageOutcome::HeldDiscarded
        | StorageOutcome::Hashes(_) => "Done".to_owned(),
    };
    Reply::new(226, text)
}
