//! Commands on one name that need no data connection.

use std::time::Instant;

use tracing::info;

use crate::ftp::engine::request::{StorageOutcome, StorageRequest};
use crate::ftp::listformat::{Facts, facts, timestamp};
use crate::ftp::reply::{Reply, quoted};
use crate::ftp::session::commits::{Change, Commit};
use crate::ftp::session::edge::{Edge, Step};
use crate::ftp::session::trace::Trace;
use crate::store::{EntryKind, Renamed, Store, StoreError, VirtualPath};

impl Edge {
    pub(super) async fn change_directory(&mut self, target: Result<VirtualPath, Reply>) -> Step {
        let target = match target {
            Ok(target) => target,
            Err(reply) => return self.send(reply).await,
        };
        let outcome = self.ask(&format!("CWD {target}")).await?;
        let reply = match outcome {
            Ok(_) => {
                let reply = Reply::new(
                    250,
                    format!("Working directory is {}", quoted(target.as_str())),
                );
                self.working_directory = target;
                reply
            }
            Err(error) => self.refusal("CWD", &target, &error, None),
        };
        self.send(reply).await
    }

    /// One command on one path that needs no data connection.
    pub(super) async fn on_path(
        &mut self,
        verb: &'static str,
        path: &str,
        good: impl FnOnce(&VirtualPath, StorageOutcome) -> Reply,
    ) -> Step {
        let path = match self.resolve(path) {
            Ok(path) => path,
            Err(reply) => return self.send(reply).await,
        };
        let (from, started) = (self.renaming.take(), Instant::now());
        // what changes something is traced and goes to the log; questions are too many
        let audit = match verb {
            "DELE" => Some("delete"),
            "RMD" => Some("remove_directory"),
            "MKD" => Some("make_directory"),
            "RNTO" => Some("rename"),
            _ => None,
        };
        let (name, asked) = match verb {
            "RNTO" => ("RENAME", verb),
            // libunftp's own MLST ignores the working directory; SIZE asks the storage the same question
            "MLST" | "SITE CHMOD" => (verb, "SIZE"),
            _ => (verb, verb),
        };
        let mut trace = audit.map(|_| Trace::begin(self, name, &path));
        if audit.is_some() {
            self.held = None;
        }
        let reply = match self.ask(&format!("{asked} {path}")).await? {
            Ok(done) => {
                let was_stored = !matches!(done, StorageOutcome::HeldDiscarded);
                if verb == "RNFR" {
                    self.renames_directory = matches!(&done, StorageOutcome::Entry(entry) if entry.kind == EntryKind::Directory);
                }
                let renamed = match &done {
                    StorageOutcome::Renamed(renamed) => Some(*renamed),
                    _ => None,
                };
                let reply = good(&path, done);
                if let (Some(event), Some(trace)) = (audit, &mut trace) {
                    trace.complete(reply.code);
                    let change = match (verb, renamed) {
                        ("DELE", _) => was_stored.then_some(Change::Deleted),
                        ("RNTO", Some(renamed)) => Some(Change::Renamed {
                            renamed,
                            is_directory: self.renames_directory,
                        }),
                        _ => None,
                    };
                    if let Some(change) = change {
                        let took = started.elapsed();
                        self.publish(&Commit { change, took });
                    }
                    let (id, user, client) = (self.session.id, self.user_name(), self.session.peer);
                    let from = from.as_ref().map(tracing::field::display);
                    info!(event, session = id, user, %client, from, %path, code = reply.code, trace_id = trace.id(), "done");
                }
                if verb == "RNFR" {
                    self.renaming = Some(path);
                }
                reply
            }
            Err(error) => self.refusal(name, &path, &error, trace.as_mut()),
        };
        drop(trace);
        self.send(reply).await
    }
}

impl Edge {
    /// The store that `path` is in.
    pub(super) fn store_of(&self, path: &VirtualPath) -> &Store {
        let tree = self.tree.as_ref();
        tree.map_or(&self.frontend.store, |tree| tree.at(path).store)
    }

    /// True if uploads of `path` that break off are held.
    pub(super) fn holds(&self, path: &str) -> bool {
        let path = self.resolve(path);
        path.is_ok_and(|path| self.store_of(&path).holds())
    }

    /// The bytes of `path` that SIZE has reported to this client as held.
    pub(super) fn held_bytes(&self, path: &VirtualPath) -> Option<u64> {
        let held = self.held.as_ref().filter(|(held, _)| held == path);
        held.map(|(_, bytes)| *bytes)
    }

    /// `SIZE` of what is held of an upload, or else of the file: a client that goes on asks for it.
    pub(super) async fn size_or_held(&mut self, path: &str) -> Step {
        let path = match self.resolve(path) {
            Ok(path) => path,
            Err(reply) => return self.send(reply).await,
        };
        self.held = None;
        let reply = match self.execute(StorageRequest::Size(path.clone())).await? {
            Ok(StorageOutcome::Held(bytes)) => {
                self.held = Some((path, bytes));
                Reply::new(213, bytes.to_string())
            }
            Ok(done) => size_reply(&path, done),
            Err(error) => self.refusal("SIZE", &path, &error, None),
        };
        self.send(reply).await
    }
}

pub(super) fn renamed_reply(_: &VirtualPath, done: StorageOutcome) -> Reply {
    match done {
        StorageOutcome::Renamed(Renamed { left: 1.., .. }) => Reply::new(
            250,
            "Renamed; what was stored under the old name meanwhile stays there",
        ),
        _ => Reply::new(250, "Renamed"),
    }
}

pub(super) fn size_reply(_: &VirtualPath, done: StorageOutcome) -> Reply {
    match done {
        StorageOutcome::Entry(entry) if entry.kind == EntryKind::File => {
            Reply::new(213, entry.size.to_string())
        }
        _ => Reply::from(&StoreError::IsDirectory),
    }
}

pub(super) fn time_reply(_: &VirtualPath, done: StorageOutcome) -> Reply {
    match done {
        StorageOutcome::Entry(entry) => match entry.modified {
            Some(time) => Reply::new(213, timestamp(time)),
            None => Reply::new(550, "The directory has no time of its own"),
        },
        _ => Reply::from(&StoreError::NotFound),
    }
}

pub(super) fn facts_reply(path: &VirtualPath, done: StorageOutcome, chosen: Facts) -> Reply {
    let StorageOutcome::Entry(entry) = done else {
        return Reply::from(&StoreError::NotFound);
    };
    let mut text = format!("Facts of {path}\n");
    facts(&entry, chosen, &mut text);
    Reply::new(250, format!("{text} {path}\nEnd"))
}
