//! Known facts about one bucket's tags.

use std::sync::atomic::{AtomicBool, Ordering};

/// Known facts about one bucket's tags.
#[derive(Debug, Default)]
pub(super) struct TagSupport {
    /// The log has said that objects can't be tagged.
    is_reported: AtomicBool,
}

impl TagSupport {
    /// Notes that the log says so; true if it has said so before.
    pub(super) fn report(&self) -> bool {
        self.is_reported.swap(true, Ordering::Relaxed)
    }
}
