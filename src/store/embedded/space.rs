//! Free space in the data directory.
//!
//! The store leaves the last [`RESERVE`] alone: bodies and names are refused while the index can still take changes that
//! free space. Only other programs can fill the disk to its last block.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::{info, warn};

/// The space that the data directory has; clones of the handle see the same.
#[derive(Debug)]
pub struct DiskSpace {
    directory: PathBuf,
    was_low: AtomicBool,
}

impl DiskSpace {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            was_low: AtomicBool::new(false),
        }
    }

    /// True if the store refuses what needs space. One system call, which may block for as long as the file system does.
    pub fn is_low(&self) -> bool {
        let Ok(disk) = rustix::fs::statvfs(&self.directory) else {
            // what can't be asked is tried; the write itself says what is wrong
            return false;
        };
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        let is_low = free < RESERVE;
        if self.was_low.swap(is_low, Ordering::Relaxed) != is_low {
            let data_dir = self.directory.display();
            match is_low {
                true => {
                    warn!(%data_dir, free, "embedded store has no space left: it takes no uploads")
                }
                false => info!(%data_dir, free, "embedded store has space again"),
            }
        }
        is_low
    }
}

/// Bytes that stay free for the index: a batch of changes rewrites less than this.
pub(super) const RESERVE: u64 = 4 << 20;
