//! Events about what this session committed to the store: announced by the storage before the change, completed and published here.

use std::time::{Duration, SystemTime};

use crate::events::EventType;
use crate::ftp::session::edge::Edge;
use crate::store::{Interruption, Renamed, Stored};

/// A change of the store that a command of this session has made.
pub(super) struct Commit<'a> {
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
    /// A file or directory has another name.
    Renamed {
        renamed: Renamed,
        is_directory: bool,
    },
    /// A file is gone.
    Deleted,
}

impl Edge {
    /// Hands the event about `commit` to the sinks that take it. Never waits.
    pub(super) fn publish(&self, commit: &Commit<'_>) {
        let Some(mut pending) = self.session.set_event(None) else {
            return;
        };
        let facts = pending.announcement().facts();
        let event = &mut pending.event;
        event.time = SystemTime::now();
        event.data.duration = Some(commit.took);
        if let Some(facts) = facts {
            event.data.describe(facts);
        }
        match commit.change {
            Change::Stored(stored) => {
                event.data.size = Some(stored.size);
                event.data.received = Some(stored.received);
                let kept = stored.size.saturating_sub(stored.received);
                event.data.resumed_at = (kept > 0).then_some(kept);
            }
            Change::Kept {
                bytes,
                received,
                reason,
            } => {
                event.event_type = EventType::Kept;
                event.data.size = Some(bytes);
                event.data.received = Some(received);
                event.data.outcome = "kept".into();
                event.data.reason = Some(reason.kind().into());
            }
            Change::Renamed {
                renamed,
                is_directory: true,
            } => {
                event.name_directory();
                event.data.count = Some(renamed.moved);
            }
            Change::Renamed { .. } | Change::Deleted => {}
        }
        self.frontend.events.publish(pending);
    }
}
