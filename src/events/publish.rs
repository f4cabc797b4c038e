//! The way to a sink.

use async_trait::async_trait;

use crate::events::event::Event;

/// Brings one event to a sink.
#[async_trait]
pub(super) trait Publish: Send + Sync {
    /// Returns once the sink has taken the event for good. `event` is what `body`, the JSON, was made of.
    async fn publish(&self, event: &Event, body: &[u8]) -> Result<(), PublishError>;

    /// Looks whether events could be published, without one; returns what was found.
    async fn probe(&self) -> Result<String, PublishError>;
}

/// The sink did not take an event.
#[derive(Debug, thiserror::Error)]
pub(super) enum PublishError {
    /// It may another time.
    #[error("{0}")]
    Unavailable(String),
    /// It said that it never will; tried for `events.give_up_after` all the same, since a token or a subject may be corrected.
    #[error("{0}")]
    Refused(String),
}
