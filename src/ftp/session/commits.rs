//! Events about what this session committed to the store: made after the commit, from what the storage said of it.

use std::time::{Duration, SystemTime};

use tracing::{Span, warn};

use crate::events::{Event, EventData, EventType, new_id};
use crate::ftp::session::Edge;
use crate::store::{Interruption, Stored, VirtualPath};
use crate::telemetry::trace_parent;

/// A change of the store that a command of this session has made.
pub(super) struct Commit<'a> {
    pub verb: &'static str,
    pub path: &'a VirtualPath,
    pub change: Change<'a>,
    /// Time from the command to the end of its work.
    pub took: Duration,
}

/// The change.
pub(super) enum Change<'a> {
    /// A file is whole.
    Stored(&'a Stored),
    /// So many bytes of an interrupted upload were kept.
    Kept {
        bytes: u64,
        received: u64,
        reason: Interruption,
    },
    /// A file or directory had this name before.
    Renamed {
        from: &'a VirtualPath,
        is_directory: bool,
    },
    /// A file is gone.
    Deleted,
}

impl Edge {
    /// Hands an event about `commit` to the sinks, in the trace of `span`. Costs nothing where there are none, and never waits.
    pub(super) fn publish(&self, commit: &Commit<'_>, span: &Span) {
        let events = &self.frontend.events;
        if events.is_empty() {
            return;
        }
        let (Some(user), Some(bucket)) = (self.session.user(), &self.bucket) else {
            return;
        };
        let time = SystemTime::now();
        let Some(id) = new_id(time) else {
            warn!(
                session = self.session.id,
                "no event: the system has no random numbers"
            );
            return;
        };
        let mut data = EventData {
            user: user.name.clone(),
            client: Some(self.session.peer.ip().to_canonical()),
            verb: commit.verb,
            duration: commit.took,
            outcome: "complete",
            session: self.session.id,
            ..EventData::default()
        };
        // a path that was committed has a key
        let key_of = |path: &VirtualPath, is_directory: bool| {
            let key = user.home.key(path).ok()?;
            Some(if is_directory {
                format!("{}/", key.as_str())
            } else {
                key.as_str().to_owned()
            })
        };
        let mut is_directory = false;
        let event_type = match commit.change {
            Change::Stored(stored) => {
                data.size = Some(stored.size);
                data.received = Some(stored.received);
                let kept = stored.size.saturating_sub(stored.received);
                data.resumed_at = (kept > 0).then_some(kept);
                EventType::Stored
            }
            Change::Kept {
                bytes,
                received,
                reason,
            } => {
                data.size = Some(bytes);
                data.received = Some(received);
                data.outcome = "kept";
                data.reason = Some(reason.kind());
                EventType::Kept
            }
            Change::Renamed {
                from,
                is_directory: directory,
            } => {
                is_directory = directory;
                data.previous = key_of(from, directory);
                EventType::Renamed
            }
            Change::Deleted => EventType::Deleted,
        };
        let Some(key) = key_of(commit.path, is_directory) else {
            return;
        };
        events.publish(Event {
            id,
            event_type,
            time,
            bucket: bucket.clone(),
            key,
            data,
            traceparent: trace_parent(span),
        });
    }
}
