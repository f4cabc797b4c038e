//! The multipart uploads that this process works on: those of sessions, so that no two of them go on with the same one, and all
//! that are neither completed nor aborted, which the sweeper leaves alone.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::time::Instant;

/// The time that a session waits for another one of this process that has the upload in hand: its client has gone, and the gateway
/// hasn't noticed yet, or its last parts are under way.
pub(super) const RELEASE_TIMEOUT: Duration = Duration::from_secs(5);

/// The multipart uploads that sessions of this process have in hand.
#[derive(Debug, Default)]
pub(super) struct ActiveUploads {
    uploads: Mutex<HashSet<String>>,
    released: Notify,
    /// How many owners each has.
    unfinished: Mutex<HashMap<String, usize>>,
}

/// Stands for an upload that is neither completed nor aborted, until it is dropped.
#[derive(Debug)]
pub(super) struct Unfinished {
    all: Arc<ActiveUploads>,
    id: String,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct ActiveUpload {
    all: Arc<ActiveUploads>,
    id: String,
}

impl ActiveUploads {
    fn lock(&self) -> MutexGuard<'_, HashSet<String>> {
        self.uploads.lock()
    }

    pub(super) fn is_active(&self, id: &str) -> bool {
        self.lock().contains(id)
    }

    /// `None` if another session has it.
    pub(super) fn take(self: &Arc<Self>, id: &str) -> Option<ActiveUpload> {
        let is_new = self.lock().insert(id.to_owned());
        is_new.then(|| ActiveUpload {
            all: Arc::clone(self),
            id: id.to_owned(),
        })
    }

    /// Notes an upload that this process works on.
    pub(super) fn begun(self: &Arc<Self>, id: &str) -> Unfinished {
        *self.unfinished.lock().entry(id.to_owned()).or_default() += 1;
        Unfinished {
            all: Arc::clone(self),
            id: id.to_owned(),
        }
    }

    /// True if this process works on it: then it is not stale, however slow its client is and whatever the clock says.
    pub(super) fn is_unfinished(&self, id: &str) -> bool {
        self.unfinished.lock().contains_key(id)
    }

    /// Waits until no session has one of `ids`, or until the deadline.
    pub(super) async fn released(&self, ids: &[String], deadline: Instant) {
        loop {
            let mut released = std::pin::pin!(self.released.notified());
            released.as_mut().enable();
            if !ids.iter().any(|id| self.is_active(id)) {
                return;
            }
            if tokio::time::timeout_at(deadline, released).await.is_err() {
                return;
            }
        }
    }
}

impl Drop for ActiveUpload {
    fn drop(&mut self) {
        self.all.lock().remove(&self.id);
        self.all.released.notify_waiters();
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let mut unfinished = self.all.unfinished.lock();
        if let Some(owners) = unfinished.get_mut(&self.id) {
            *owners -= 1;
            if *owners == 0 {
                unfinished.remove(&self.id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_upload_is_in_one_hand_at_a_time_and_is_waited_for() {
        let all = Arc::new(ActiveUploads::default());
        let first = all.take("a").expect("free");
        assert!(all.take("a").is_none() && all.take("b").is_some());
        let ids = ["a".to_owned()];
        let began = Instant::now();
        all.released(&ids, began + RELEASE_TIMEOUT).await;
        assert_eq!(began.elapsed(), RELEASE_TIMEOUT);
        let waiting = all.released(&ids, Instant::now() + RELEASE_TIMEOUT);
        let releasing = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            drop(first);
        };
        let began = Instant::now();
        tokio::join!(waiting, releasing);
        assert_eq!(began.elapsed(), Duration::from_secs(1));
        assert!(all.take("a").is_some());
    }
}
