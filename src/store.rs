//! The object store behind the gateway: everything that knows S3.
//!
//! [`Store`] is one bucket reached with one set of credentials; it is cheap to clone and shared by all sessions. Uploads,
//! downloads, listings and copies are its methods, each in a module of its own. No type of the SDK leaves this module,
//! and nothing in here knows FTP: a client appears only as a [`Source`] or a [`Sink`] of bytes.

mod active;
mod announcement;
mod attempts;
mod base;
pub mod budget;
pub mod buffer;
mod checksum;
pub mod client;
mod conditions;
mod connections;
mod copied_parts;
pub mod copy;
mod cos_checksum;
mod credentials;
mod delete_version;
mod describe;
mod digest;
mod directories;
mod document;
pub mod download;
pub mod embedded;
mod empty_body;
pub mod error;
pub mod examine;
mod expected_checksum;
mod file_rules;
mod fingerprint;
pub mod follow;
pub mod hashes;
mod head;
pub mod http_status;
pub mod integrity;
pub mod intent;
pub mod key;
mod known;
pub mod listing;
mod located;
mod locks;
pub mod metadata;
pub mod multipart;
mod names;
mod observe;
mod original;
pub mod outbox;
mod outcome;
mod part_request;
pub mod parts;
pub mod path;
mod pool;
mod progress;
mod provenance;
pub mod put;
mod range;
mod remembered_times;
pub mod rename;
mod rename_directory;
mod renamed;
mod retry;
mod sdk;
mod set_times;
pub mod settings;
pub mod sweeper;
mod tag_support;
pub mod tenants;
#[cfg(test)]
pub(crate) mod testing;
mod timeouts;
pub mod trim;
pub mod upload;
mod url_encoding;
mod verify;
mod version;

use std::future::Future;

pub use announcement::{Announcement, Entry as OutboxEntry, EntryBody, EntryState, ObjectFacts};
pub use budget::Holder;
pub use checksum::ObjectChecksum;
pub use client::Store;
pub use error::{Interruption, Left, StoreError};
pub use file_rules::FileRules;
pub use hashes::{Algorithm, Hashes};
pub use intent::{Mode, Stored, UploadRequest};
pub use key::{Home, KeyPrefix, ObjectKey};
pub use located::Located;
pub use metadata::{Entry, EntryKind};
pub use path::{NameError, VirtualPath};
pub use provenance::StoredBy;
pub use renamed::Renamed;

/// The client's side of an upload.
///
/// An upload ends by commit XOR interruption. The source holds that decision, since only it sees the client.
pub trait Source: Send + Sync {
    /// Puts what has arrived at the beginning of `buffer`, which is never empty; returns how many bytes.
    ///
    /// `Ok(0)` is a clean end of data. Cancel safe: a wait that is dropped has taken nothing.
    fn read(
        &mut self,
        buffer: &mut [u8],
    ) -> impl Future<Output = Result<usize, Interruption>> + Send;

    /// Called once, right before the request that makes the object visible. After `Ok` no interruption can win.
    fn commit(&mut self) -> impl Future<Output = Result<(), Interruption>> + Send;

    /// Resolves when the transfer is to end early; for waits in which nothing is read.
    fn interrupted(&self) -> impl Future<Output = Interruption> + Send;
}

/// The client's side of a download or a listing.
pub trait Sink: Send {
    /// Takes all of `bytes`; slow clients make this wait.
    fn write(&mut self, bytes: &[u8]) -> impl Future<Output = Result<(), Interruption>> + Send;

    /// Resolves when the transfer is to end early; for waits in which nothing is written.
    fn interrupted(&self) -> impl Future<Output = Interruption> + Send;
}
