//! `download.*`: from store to client.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::config::keys::row::*;
use crate::config::memory::budget;
use crate::config::parse::size_text;
use crate::config::reader::Reader;

/// The rows of the table.
#[rustfmt::skip]
pub(in crate::config) const KEYS: &[Key] = &[
    key("download.concurrency", Count(1, 64), Is("4"),
        "Requests to the store at a time, per download."),
    key("download.chunk_size", Size, Is("8MiB"),
        "Bytes per request of a download, 64 KiB to 1 GiB; a file up to this size is one request."),
    key("download.read_ahead", Size, Is("32MiB"),
        "The most that one download reads ahead of its client; less than one chunk switches reading ahead off."),
    key("download.memory_budget", Size, Derived("as `upload.memory_budget`, which comes on top"),
        "Memory for what all downloads together hold and read ahead; a download that gets none still runs, one small range after another."),
    key("download.stall_timeout", Time, Is("2m"),
        "A download whose client takes nothing for this time is given up."),
];

/// Store to client.
#[derive(Debug, Clone)]
pub struct Download {
    /// Requests under way at a time, per download; 1 to 64.
    pub concurrency: usize,
    /// Bytes per request; 64 KiB to 1 GiB.
    pub chunk_size: u64,
    /// The most that one download holds of chunks whose turn has not come, in bytes.
    pub read_ahead: u64,
    /// The same for all downloads together, in bytes.
    pub memory_budget: u64,
    /// Nobody set that: it follows the container's memory limit.
    pub follows_memory_limit: bool,
    /// A client that takes nothing for this long has stalled; 1 ms to 7 days.
    pub stall_timeout: Duration,
}

/// Reads the section.
pub(super) fn resolve(read: &mut Reader) -> Download {
    let chunk_size = read.size("download.chunk_size");
    if !CHUNK_BYTES.contains(&chunk_size) {
        let (min, max) = (
            size_text(*CHUNK_BYTES.start()),
            size_text(*CHUNK_BYTES.end()),
        );
        let advice = format!("chunks have {min} to {max}; set a value in that range");
        read.refuse("download.chunk_size", advice);
    }
    Download {
        concurrency: read.number("download.concurrency"),
        chunk_size,
        read_ahead: read.size("download.read_ahead"),
        memory_budget: budget(read, "download.memory_budget"),
        follows_memory_limit: !read.is_set("download.memory_budget"),
        stall_timeout: read.duration("download.stall_timeout"),
    }
}

/// The limits of a chunk: under the lower end requests cost more than they bring, and a chunk must fit into memory.
const CHUNK_BYTES: RangeInclusive<u64> = 64 << 10..=1 << 30;
