//! The resolved settings of a store, and the faults of a configuration that allow none.

use std::time::Duration;

use crate::config::{self, Provider};
use crate::http_client::TlsSetupError;
use crate::store::key::Reserved;
use crate::store::parts::{DoesNotFit, PartPlan};

/// The options of every new object.
#[derive(Debug, Clone)]
pub(super) struct ObjectOptions {
    /// Some things are said in a store's own words.
    pub provider: Provider,
    /// A new object may replace an old one.
    pub overwrite: bool,
    /// Another class than the bucket's.
    pub storage_class: Option<String>,
    /// The algorithm of server-side encryption.
    pub encryption: Option<String>,
    /// The key for it, where the algorithm takes one.
    pub kms_key: Option<String>,
    /// Another content type than that by the name.
    pub content_type: Option<String>,
    /// `Cache-Control`
    pub cache_control: Option<String>,
    /// Tags of new objects.
    pub tags: config::Pairs,
    /// Metadata of new objects.
    pub metadata: config::Pairs,
    /// New objects carry the id of the trace that made them.
    pub trace_metadata: bool,
    /// New objects carry who stored them.
    pub provenance: bool,
}

impl ObjectOptions {
    /// Puts a user's own in the place of what holds for all.
    pub fn apply(&mut self, own: &config::ObjectOverrides) {
        let replace = |common: &mut Option<String>, own: &Option<String>| {
            if own.is_some() {
                common.clone_from(own);
            }
        };
        replace(&mut self.storage_class, &own.storage_class);
        if own.server_side_encryption.is_some() {
            // the common key is for the common algorithm
            self.kms_key = None;
        }
        replace(&mut self.encryption, &own.server_side_encryption);
        replace(&mut self.kms_key, &own.kms_key_id);
        replace(&mut self.content_type, &own.content_type);
        replace(&mut self.cache_control, &own.cache_control);
        if let Some(tags) = &own.tags {
            self.tags.clone_from(tags);
        }
        if let Some(metadata) = &own.metadata {
            self.metadata.clone_from(metadata);
        }
        self.overwrite = own.overwrite.unwrap_or(self.overwrite);
    }
}

/// The limits of uploads and copies, resolved from the configuration.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    /// Sizes of the parts of every upload.
    pub plan: PartPlan,
    /// Part requests in flight per upload.
    pub concurrency: usize,
    /// The least bytes of a part that isn't the last.
    pub min_part_bytes: u64,
    /// The store wants all parts but the last to be alike.
    pub parts_alike: bool,
    /// The most bytes of one CopyObject or UploadPartCopy.
    pub max_copy_bytes: u64,
    /// Bytes per UploadPartCopy of a copy in parts.
    pub copy_part_bytes: u64,
    /// Time for a request and its answer, bodies apart.
    pub request_timeout: Duration,
    /// Attempts in all for each request.
    pub max_attempts: u32,
    /// Time for all attempts of a request, bodies apart.
    pub retry_time: Duration,
    /// The treatment of an upload that was interrupted after its first byte.
    pub on_interrupt: config::OnInterrupt,
    /// Keys per page of a listing; none leaves it to the store.
    pub page_keys: Option<i32>,
    /// The operation that lists objects.
    pub list_version: config::ListVersion,
    /// The name that no listing shows and no rename of a directory moves.
    pub reserved: Reserved,
    /// The limits of downloads.
    pub download: config::Download,
}

/// CopyObject and UploadPartCopy take 5 GB at COS and 5 GiB at S3: the smaller of both fits everywhere.
pub(super) const MAX_COPY_BYTES: u64 = 5_000_000_000;

/// Large copies go in parts of this size, so that several run at once and a retry repeats little.
pub(super) const COPY_PART_BYTES: u64 = 512 * 1024 * 1024;

/// The store can't be set up with this configuration.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// Part sizes can't reach the file size limit.
    #[error("upload.max_file_size: {0}; lower it")]
    MaxFileSize(#[from] DoesNotFit),
    /// The largest part would not fit into the buffer memory.
    #[error(
        "upload.memory_budget = {budget} bytes is too small: an upload of upload.max_file_size needs parts of up to \
         {largest} bytes; set a budget of at least {needed} bytes, or a smaller upload.max_file_size"
    )]
    MemoryBudget {
        /// The budget in bytes.
        budget: u64,
        /// The largest part in bytes.
        largest: u64,
        /// The least budget in bytes that would do.
        needed: u64,
    },
    /// TLS to the store can't be set up.
    #[error(transparent)]
    Tls(#[from] TlsSetupError),
}
