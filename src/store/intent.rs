//! The request for an upload, and its result.

use crate::store::budget::Holder;
use crate::store::provenance::StoredBy;

/// Where an upload begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A new object, or all of an old one replaced.
    New,
    /// The first bytes of the object are kept, the rest is replaced (`REST` and `STOR`).
    ResumeAt(u64),
    /// The whole object is kept and continued; a missing one is begun (`APPE`).
    Append,
}

/// Known facts about an upload before its first byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadRequest {
    /// Where it begins.
    pub mode: Mode,
    /// Bytes that the client says will come, if it says so. A larger first part spares a large file many small ones; a
    /// wrong figure does no harm.
    pub announced: Option<u64>,
    /// The most bytes that the object may have, what is kept of an older one included.
    pub max_bytes: u64,
    /// Whose share of the memory it takes from.
    pub holder: Holder,
    /// The user and client who store it, for the object's metadata.
    pub stored_by: Option<StoredBy>,
    /// Line ends are converted: the client's offsets are none of the object.
    pub is_text: bool,
    /// The bytes that SIZE has reported as held, if the client asked.
    pub held: Option<u64>,
}

/// The result of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Bytes that arrived from the client.
    pub received: u64,
    /// Bytes of the object now, what was kept of an older one included.
    pub size: u64,
}
