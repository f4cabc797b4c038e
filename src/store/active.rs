//! Which multipart uploads the sessions of this process have in hand, so that no two of them go on with the same one.

use std::collections::HashSet;
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
