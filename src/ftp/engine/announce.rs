//! Events about changes: announced before the change, left in the session after it for the edge, which knows the rest.

use std::time::SystemTime;

use crate::events::{Event, EventData, EventType, Pending, new_id};
use crate::ftp::engine::backend::Backend;
use crate::store::{Left, Located, StoreError};
use crate::telemetry::trace_parent;

/// The events of an upload, by its outcome.
pub(super) const UPLOAD: [EventType; 2] = [EventType::Stored, EventType::Kept];

impl Backend {
    /// Announces a change of the file `at` that becomes an event of one of `types`, the first one unless it turns out otherwise; none
    /// if no sink takes it, or if the path is no key: the change itself is refused then, with the reason. `previous` is the file of
    /// before, of a rename.
    pub(super) fn announce(
        &self,
        types: &[EventType],
        verb: &'static str,
        at: &Located<'_>,
        previous: Option<&Located<'_>>,
    ) -> Result<Option<Pending>, StoreError> {
        let Some(event_type) = types.first().copied() else {
            return Ok(None);
        };
        let (Ok(key), Ok(old_key)) = (at.key(), previous.map(Located::key).transpose()) else {
            return Ok(None);
        };
        let old_bucket = previous.map(|previous| previous.store.bucket());
        if !self.events.are_wanted(types, key.as_str()) {
            return Ok(None);
        }
        let time = SystemTime::now();
        let id = new_id(time).ok_or_else(|| {
            let detail = "the system has no random numbers".to_owned();
            StoreError::Outbox(Box::new(StoreError::Integrity { detail }))
        })?;
        let event = Event {
            id,
            event_type,
            time,
            bucket: at.store.bucket().to_owned(),
            key: key.as_str().to_owned(),
            data: EventData {
                user: self.tree.user().name.clone(),
                client: Some(self.session.peer.ip().to_canonical()),
                verb: verb.into(),
                outcome: "complete".into(),
                session: self.session.id,
                previous: old_key.map(|key| key.as_str().to_owned()),
                previous_bucket: old_bucket
                    .filter(|bucket| *bucket != at.store.bucket())
                    .map(str::to_owned),
                ..EventData::default()
            },
            traceparent: trace_parent(&self.session.span()),
        };
        let pending = self.events.announce(event, at.store, at.home.outbox_base());
        Ok(Some(pending))
    }

    /// Leaves the event of a change that was made to the edge, and gives up that of one that was not.
    pub(super) fn conclude<T>(&self, pending: Option<Pending>, outcome: &Result<T, StoreError>) {
        let Some(pending) = pending else { return };
        match outcome {
            Ok(_)
            | Err(StoreError::UploadInterrupted {
                left: Left::Kept(_),
                ..
            }) => {
                self.session.set_event(Some(pending));
            }
            Err(error) => pending.abandon(error),
        }
    }
}
