//! What a client asks and says about one file: MFMT, HASH, and the options of these commands.

use std::time::SystemTime;

use tracing::info;

use crate::ftp::edge::{Edge, Step};
use crate::ftp::listformat::{Facts, timestamp};
use crate::ftp::names::time_reply;
use crate::ftp::reply::Reply;
use crate::ftp::session::{Done, Order};
use crate::ftp::trace::Trace;
use crate::store::{Algorithm, Hashes, StoreError, VirtualPath};

/// What the storage said about one name.
struct Asked {
    path: VirtualPath,
    outcome: Result<Done, StoreError>,
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
        let Some(asked) = self.ask_about(verb, Order::SetTime(time), path).await? else {
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
        let chosen = algorithm.or(self.algorithm);
        let Some((path, hashes, mut trace)) = self.known_hashes(path).await? else {
            return Ok(());
        };
        let algorithm = chosen.unwrap_or_else(|| {
            let usual = self.frontend.store.usual_algorithm();
            let first = hashes.known.first().map_or(usual, |(known, _)| *known);
            hashes.by(usual).map_or(first, |_| usual)
        });
        let reply = match hashes.by(algorithm) {
            Some(value) => {
                trace.complete(213);
                Reply::new(213, format!("{algorithm} 0-{} {value} {path}", hashes.size))
            }
            None => {
                trace.refused("refused", 550, "unknown_hash");
                let known = names(hashes.known.iter().map(|(known, _)| *known));
                Reply::new(
                    550,
                    format!("The store keeps no {algorithm} of this file; it has: {known}"),
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

    /// `None`: the client has been told why there are none.
    async fn known_hashes(&mut self, path: &str) -> Step<Option<(VirtualPath, Hashes, Trace)>> {
        let Some(asked) = self.ask_about("HASH", Order::Hash, path).await? else {
            return Ok(None);
        };
        let (path, mut trace) = (asked.path, asked.trace);
        match asked.outcome {
            Ok(Done::Hashes(hashes)) => Ok(Some((path, hashes, trace))),
            Ok(_) => Err(self.out_of_step("HASH", 213)),
            Err(error) => {
                let reply = self.refusal("HASH", &path, &error, Some(&mut trace));
                drop(trace);
                self.send(reply).await.map(|()| None)
            }
        }
    }

    /// Brings an order about one name to the storage. `None`: the name is bad, and the client has been told.
    async fn ask_about(
        &mut self,
        verb: &'static str,
        order: Order,
        path: &str,
    ) -> Step<Option<Asked>> {
        let path = match self.resolve(path) {
            Ok(path) => path,
            Err(reply) => return self.send(reply).await.map(|()| None),
        };
        let trace = Trace::begin(self, verb, &path);
        let outcome = self.order(order, &path).await?;
        Ok(Some(Asked {
            path,
            outcome,
            trace,
        }))
    }

    /// `OPTS` (RFC 2389).
    pub(super) async fn option(&mut self, option: &str) -> Step {
        let (name, value) = option.split_once(' ').unwrap_or((option, ""));
        let reply = match (name, value) {
            ("UTF8", "OFF") => Reply::new(504, "Names are always UTF-8"),
            ("UTF8", _) => Reply::new(200, "Names are always UTF-8"),
            // RFC 3659, section 7.9: the reply has the facts that were chosen, and nothing behind OPTS if there are none
            ("MLST", names) => {
                self.facts = Facts::chosen(names);
                let text = format!("MLST OPTS {}", self.facts);
                Reply::new(200, text.trim_end().to_owned())
            }
            ("HASH", "") => Reply::new(200, self.chosen_algorithm().to_string()),
            ("HASH", name) => match Algorithm::named(name) {
                Some(algorithm) => {
                    self.algorithm = Some(algorithm);
                    Reply::new(200, algorithm.to_string())
                }
                None => Reply::new(504, "Unknown algorithm, see FEAT"),
            },
            _ => Reply::new(501, "Unknown option"),
        };
        self.send(reply).await
    }

    fn chosen_algorithm(&self) -> Algorithm {
        self.algorithm
            .unwrap_or_else(|| self.frontend.store.usual_algorithm())
    }

    /// The algorithms for `FEAT`, with a star at the chosen one.
    pub(super) fn hash_names(&self) -> String {
        let chosen = self.chosen_algorithm();
        let marked = Algorithm::ALL.iter().map(|(algorithm, name)| {
            let star = if *algorithm == chosen { "*" } else { "" };
            format!("{name}{star}")
        });
        marked.collect::<Vec<_>>().join(";")
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
