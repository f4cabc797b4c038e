//! Budgets that nobody set follow the container's memory limit, which a resize of the pod in place changes (Kubernetes 1.35).
//!
//! Invariant: more memory is there at once, less only as it is given back: nothing that is held is taken away.

use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::config::{MemoryLimit, default_budget};
use crate::store::Store;

/// The interval at which the limit is read. A new one has to be read twice: kubelet writes several files, and one that could not be read for
/// a moment is no change.
pub const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The task that follows each limit.
#[derive(Debug, Clone)]
pub struct Followed {
    /// Where it is read.
    pub limit: MemoryLimit,
    /// `upload.memory_budget` does.
    pub upload: bool,
    /// `download.memory_budget` does.
    pub download: bool,
}

/// Has the budgets of `store` follow the limit until `stop`.
pub async fn follow_memory_limit(store: Store, followed: Followed, stop: CancellationToken) {
    if !followed.upload && !followed.download {
        return;
    }
    let following = async {
        let mut holds = followed.limit.read();
        let mut last = holds;
        loop {
            sleep(LOOK_EVERY).await;
            let read = followed.limit.read();
            let is_confirmed = std::mem::replace(&mut last, read) == read;
            if !is_confirmed || read == holds {
                continue;
            }
            holds = read;
            let budget = default_budget(read);
            let (upload, download) = store.memory_limits();
            let upload = if followed.upload { budget } else { upload };
            let download = if followed.download { budget } else { download };
            let (upload, download) = store.set_memory_limits(upload, download);
            info!(
                event = "memory_limit",
                limit = read,
                upload_memory_budget = upload,
                download_memory_budget = download,
                "the container's memory limit has changed, the budgets follow it"
            );
        }
    };
    tokio::select! {
        () = following => {}
        () = stop.cancelled() => {}
    }
}
