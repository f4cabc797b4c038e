//! When the API server has last answered: how old what is known of the Service may be.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The time of the API server's last answer, whatever it was. Cheap to clone; clones share the time.
#[derive(Debug, Clone)]
pub struct Contact(Arc<Mutex<Instant>>);

impl Default for Contact {
    /// No answer yet: the time counts from now on.
    fn default() -> Self {
        Contact(Arc::new(Mutex::new(Instant::now())))
    }
}

impl Contact {
    /// Notes an answer.
    pub(super) fn note(&self) {
        *self.0.lock() = Instant::now();
    }

    /// The time since the last answer; without one, since the watcher's start. A watch is begun anew every few seconds, so
    /// more than half a minute means that there is no way to the API server.
    pub fn age(&self) -> Duration {
        let last = self.0.lock();
        last.elapsed()
    }
}
