//! Freed memory that goes back to the kernel after many downloads.
//!
//! What HTTP holds of a body comes from the allocator. glibc raises the size from which it maps blocks one by one with the
//! first large one that is freed, and then returns only what is free at the end of an arena: one small block that lives
//! keeps all before it. So 400 slow downloads left 200 MiB with the process for good. A fixed threshold
//! (`MALLOC_MMAP_THRESHOLD_`) was measured and doubles the CPU time of downloads; this costs a call after the crowd has left.

use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::store::Store;

/// The interval at which the memory of downloads is looked at. The most of a whole interval counts, so downloads that follow one another
/// return nothing in between.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// A fall of this many bytes is worth the call, or of a quarter of a smaller budget.
const FALL: u64 = 16 << 20;

/// Returns freed memory whenever the downloads of `store` hold much less than before, until `stop`.
pub async fn return_freed_memory(store: Store, stop: CancellationToken) {
    let returning = async {
        let mut before = 0_u64;
        loop {
            sleep(LOOK_EVERY).await;
            let pool = store.read_ahead_pool();
            let most = pool.take_peak();
            before = before.max(most);
            if before - most >= FALL.min(pool.total() / 4).max(1) {
                debug!(before, now = most, "freed memory is returned to the kernel");
                before = most;
                // it looks at all that is free, which may take milliseconds
                let _ = tokio::task::spawn_blocking(trim).await;
            }
        }
    };
    tokio::select! {
        () = returning => {}
        () = stop.cancelled() => {}
    }
}

/// `malloc_trim` returns all free pages, also those between blocks that live.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "a function of C that no crate wraps")]
fn trim() {
    // SAFETY: it takes a number and no pointer, locks each arena while it looks at it, and may be called at any time
    // (malloc_trim(3)).
    unsafe { libc::malloc_trim(0) };
}

/// Other allocators return it by themselves.
#[cfg(not(target_env = "gnu"))]
fn trim() {}
