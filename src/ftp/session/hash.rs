//! Commands about one file: MFMT, HASH, and the options of these commands.
//!
//! FEAT doesn't list HASH. What a store has of every file is a CRC-64, which the draft's registry of names and its clients
//! don't know: FluentFTP, which verifies transfers by HASH where FEAT lists it, throws at a name that it doesn't know and
//! at an algorithm that is refused, and skips the check where FEAT has no HASH. An MD5 would be known, and is kept of
//! files of one part only. So HASH is for those who look for it, and `OPTS HASH` takes only what never fails.

use std::time::SystemTime;

use tracing::info;

use crate::ftp::engine::request::{StorageOutcome, StorageRequest};
use crate::ftp::listformat::timestamp;
use crate::ftp::reply::Reply;
use crate::ftp::session::edge::{Edge, Step};
use crate::ftp::session::file_commands::time_reply;
use crate::ftp::session::trace::Trace;
use crate::store::{Algorithm, Hashes, StoreError, VirtualPath};

/// The storage's answer about one name.
struct Asked {
    path: VirtualPath,
    outcome: Result<StorageOutcome, StoreError>,
    /// To be ended with the reply.
    trace: Trace,
}

impl Edge {
    /// `MFMT` (draft-somers-ftp-mfxx-04), and what does the same under other names.
    pub(super) async fn set_time(
        &mut self,
        verb: &'static str,
        time: SystemTime,
        path: &str,
    ) -> Step {
        let request = |path| StorageRequest::SetTime(path, time);
        let Some(asked) = self.ask_about(verb, request, path).await? else {
            return Ok(());
        };
        let (path, mut trace) = (asked.path, asked.trace);
        let reply = match asked.outcome {
            Ok(_) => {
                let reply = Reply::new(213, format!("Modify={}; {path}", timestamp(time)));
                trace.complete(reply.code);
                let (id, user, client) = (self.session.id, self.user_name(), self.session.peer);
                info!(event = "mfmt", session = id, user, %client, %path, code = reply.code, trace_id = trace.id(), "done");
                reply
            }
            Err(error) => self.refusal(verb, &path, &error, Some(&mut trace)),
        };
        drop(trace);
        self.send(reply).await
    }

    /// `MDTM time name`: sets the time as vsftpd and IIS do, which Tcl, Total Commander and others rely on. A file whose name
    /// begins with a timestamp is asked about all the same.
    pub(super) async fn time_or_set_time(
        &mut self,
        time: SystemTime,
        path: &str,
        whole: &str,
    ) -> Step {
        let asked = match self.resolve(whole) {
            Ok(asked) => asked,
            Err(reply) => return self.send(reply).await,
        };
        let reply = match self.ask(&format!("MDTM {asked}")).await? {
            Ok(done) => time_reply(&asked, done),
            Err(StoreError::NotFound) => return self.set_time("MDTM", time, path).await,
            Err(error) => self.refusal("MDTM", &asked, &error, None),
        };
        self.send(reply).await
    }

    /// `HASH`, `SITE SHA256`: one hash (draft-bryan-ftpext-hash-02, section 3.1).
    pub(super) async fn hash(&mut self, algorithm: Option<Algorithm>, path: &str) -> Step {
        let Some((path, hashes, mut trace)) = self.known_hashes(path).await? else {
            return Ok(());
        };
        let chosen = algorithm.or_else(|| self.store_of(&path).dependable_algorithm());
        let is_known = |chosen: &Algorithm| algorithm.is_some() || hashes.by(*chosen).is_some();
        let first = hashes.known.first().map(|(known, _)| *known);
        let algorithm = chosen.filter(is_known).or(first);
        let value = algorithm.and_then(|algorithm| Some((algorithm, hashes.by(algorithm)?)));
        let reply = match value {
            Some((algorithm, value)) => {
                trace.complete(213);
                Reply::new(213, format!("{algorithm} 0-{} {value} {path}", hashes.size))
            }
            None => {
                trace.refused("refused", 550, "unknown_hash");
                let known = names(hashes.known.iter().map(|(known, _)| *known));
                let missing = algorithm.map_or("hash".to_owned(), |missing| missing.to_string());
                Reply::new(
                    550,
                    format!("The store keeps no {missing} of this file; it has: {known}"),
                )
            }
        };
        drop(trace);
        self.send(reply).await
    }

    /// `SITE HASH`: all that the store knows.
    pub(super) async fn hashes(&mut self, path: &str) -> Step {
        let Some((path, hashes, mut trace)) = self.known_hashes(path).await? else {
            return Ok(());
        };
        trace.complete(213);
        drop(trace);
        let mut text = format!("Hashes of {path}, {} bytes\n", hashes.size);
        for (algorithm, value) in &hashes.known {
            text += &format!("{algorithm} {value}\n");
        }
        self.send(Reply::new(213, text + "End")).await
    }

    /// `None`: the client has had its reply why there are none.
    async fn known_hashes(&mut self, path: &str) -> Step<Option<(VirtualPath, Hashes, Trace)>> {
        let Some(asked) = self.ask_about("HASH", StorageRequest::Hash, path).await? else {
            return Ok(None);
        };
        let (path, mut trace) = (asked.path, asked.trace);
        match asked.outcome {
            Ok(StorageOutcome::Hashes(hashes)) => Ok(Some((path, hashes, trace))),
            Ok(_) => Err(self.out_of_step("HASH", 213)),
            Err(error) => {
                let reply = self.refusal("HASH", &path, &error, Some(&mut trace));
                drop(trace);
                self.send(reply).await.map(|()| None)
            }
        }
    }

    /// Brings a request about one name to the storage. `None`: the name is bad, and the client has had its reply.
    async fn ask_about(
        &mut self,
        verb: &'static str,
        request: impl FnOnce(VirtualPath) -> StorageRequest,
        path: &str,
    ) -> Step<Option<Asked>> {
        let path = match self.resolve(path) {
            Ok(path) => path,
            Err(reply) => return self.send(reply).await.map(|()| None),
        };
        let trace = Trace::begin(self, verb, &path);
        let outcome = self.execute(request(path.clone())).await?;
        Ok(Some(Asked {
            path,
            outcome,
            trace,
        }))
    }
}

fn names(algorithms: impl Iterator<Item = Algorithm>) -> String {
    let names: Vec<String> = algorithms.map(|algorithm| algorithm.to_string()).collect();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}
