//! The open sessions, for the status page.
//!
//! A session enters once and leaves once; what it does meanwhile it notes in itself. So nothing here is touched by a
//! transfer, let alone by its bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::failures::Failures;
use crate::ftp::session::state::Session;

/// The sessions that are open, and what failed lately.
#[derive(Debug, Default)]
pub struct SessionRegistry {
    sessions: Arc<Sessions>,
    /// Transfers and other commands that failed.
    pub failures: Failures,
}

/// By number, so in the order in which they came.
type Sessions = Mutex<BTreeMap<u64, Arc<Session>>>;

/// A session's entry, taken out on drop.
#[derive(Debug)]
pub struct Registration {
    sessions: Arc<Sessions>,
    id: u64,
}

impl SessionRegistry {
    /// Enters a session, until what is returned is dropped.
    pub fn enter(&self, session: &Arc<Session>) -> Registration {
        let mut sessions = self.sessions.lock();
        sessions.insert(session.id, Arc::clone(session));
        Registration {
            sessions: Arc::clone(&self.sessions),
            id: session.id,
        }
    }

    /// The first `most` sessions, all that have a transfer in hand, and how many there are.
    pub fn look(&self, most: usize) -> (Vec<Arc<Session>>, Vec<Arc<Session>>, usize) {
        let sessions = self.sessions.lock();
        let transferring = sessions.values().filter(|one| one.transfer().is_some());
        (
            sessions.values().take(most).cloned().collect(),
            transferring.cloned().collect(),
            sessions.len(),
        )
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.sessions.lock().remove(&self.id);
    }
}
