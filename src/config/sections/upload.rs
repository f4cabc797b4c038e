//! `upload.*`: from client to store.

use std::time::Duration;

use strum::{Display, EnumString, VariantNames};

use super::objects::{self, NewObjects};
use super::storage::Limits;
use crate::config::keys::row::*;
use crate::config::memory::budget;
use crate::config::parse::{self, Parsed, size_text};
use crate::config::reader::Reader;

/// The rows of the table.
#[rustfmt::skip]
pub(in crate::config) const KEYS: &[Key] = &[
    key("upload.max_file_size", Size, Is("200GiB"),
        "Largest file a client may store; up to 5 TiB with `s3` and `embedded`, 48.82 TiB with `cos`."),
    key("upload.min_part_size", Size, Is("8MiB"),
        "Size of the first parts of an upload; 5 MiB to 5 GiB, with `cos` from 1 MiB."),
    key("upload.concurrency", Count(1, 64), Is("4"),
        "Parts sent at a time, per upload."),
    key("upload.memory_budget", Size, Derived("a quarter of the container's memory limit, also as that changes, at least 64 MiB; 256 MiB without a limit"),
        "Memory for the parts of all uploads together; at least two parts."),
    key("upload.stall_timeout", Time, Is("2m"),
        "An upload whose client sends nothing for this time is given up."),
    key("upload.on_interrupt", Choice(OnInterrupt::VARIANTS), Is("keep"),
        "What becomes of an upload that breaks off after its first byte: `keep` stores what arrived as one object, `discard` drops it, `hold` lets the client go on with it later."),
    key("upload.overwrite", Choice(SWITCH), Is("true"),
        "Whether a file may replace an older one of the same name; otherwise 550."),
    key("upload.storage_class", Text, Unset,
        "Storage class of new objects, such as `STANDARD_IA`; the bucket's own if not set."),
    key("upload.server_side_encryption", Choice(ENCRYPTIONS), Unset,
        "Server-side encryption of new objects; the bucket's own if not set."),
    key("upload.kms_key_id", Text, Unset,
        "Key for server-side encryption with a key management service."),
    key("upload.trace_metadata", Choice(SWITCH), Is("false"),
        "Whether a new object's metadata `trace-id` names the trace of its upload."),
    key("upload.provenance", Choice(SWITCH), Is("false"),
        "Whether a new object's metadata `cosgate-user` and `cosgate-client` name who stored it."),
    key("upload.stale_after", Time, Is("24h"),
        "A multipart upload that a dead gateway left behind is aborted when nothing has arrived for this time."),
    key("upload.sweep", Choice(Sweep::VARIANTS), Is("own"),
        "Which stale multipart uploads below `storage.prefix` are aborted: cosgate's own, all, or none."),
];

/// Client to store.
#[derive(Debug, Clone)]
pub struct Upload {
    /// Largest file that a client may store, in bytes; at least 1, at most what the store takes.
    pub max_file_size: u64,
    /// Size of the first parts, in bytes, within [`Storage::part_bytes`](crate::config::Storage::part_bytes).
    pub min_part_size: u64,
    /// Parts under way at a time, per upload; 1 to 64.
    pub concurrency: usize,
    /// Memory for the parts of all uploads, in bytes; at least two parts.
    pub memory_budget: u64,
    /// Nobody set that: it follows the container's memory limit.
    pub follows_memory_limit: bool,
    /// A client that sends nothing for this long has stalled; 1 ms to 7 days.
    pub stall_timeout: Duration,
    /// The fate of an upload that breaks off after its first byte.
    pub on_interrupt: OnInterrupt,
    /// True if a file may replace an older one.
    pub overwrite: bool,
    /// Storage class of new objects, if it isn't the bucket's own.
    pub storage_class: Option<String>,
    /// Server-side encryption of new objects, if it isn't the bucket's own.
    pub server_side_encryption: Option<String>,
    /// Key for server-side encryption.
    pub kms_key_id: Option<String>,
    /// What new objects get besides.
    pub objects: NewObjects,
    /// True if new objects name the trace of their upload in their metadata.
    pub trace_metadata: bool,
    /// True if new objects name their user and client in their metadata.
    pub provenance: bool,
    /// When an unfinished multipart upload is given up for dead; 1 ms to 7 days.
    pub stale_after: Duration,
    /// Which of those are aborted.
    pub sweep: Sweep,
}

/// The fate of an upload that breaks off after its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Display, EnumString, VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum OnInterrupt {
    /// The bytes that arrived become one whole object.
    Keep,
    /// Nothing is stored, and an older object stays.
    Discard,
    /// Nothing is stored yet: a client can go on where the upload ended.
    Hold,
}

/// Which stale multipart uploads are aborted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum Sweep {
    /// Those that this program began.
    Own,
    /// All below the prefix.
    All,
    /// None.
    // YAML 1.1 writers turn `off` into `false`.
    #[strum(to_string = "off", serialize = "false")]
    Off,
}

/// Reads the section; `limits` are the store's.
pub(super) fn resolve(read: &mut Reader, limits: &Limits) -> Upload {
    let max_file_size = read.size("upload.max_file_size");
    if max_file_size > limits.object_bytes && read.is_valid("storage.provider") {
        let advice = format!(
            "{} takes objects up to {}; set at most that",
            limits.store, limits.object_text
        );
        read.refuse("upload.max_file_size", advice);
    }
    let min_part_size = read.size("upload.min_part_size");
    if !limits.part_bytes.contains(&min_part_size) && read.is_valid("storage.provider") {
        let (min, max) = (
            size_text(*limits.part_bytes.start()),
            size_text(*limits.part_bytes.end()),
        );
        let advice =
            format!("the store accepts parts of {min} to {max}; set a value in that range");
        read.refuse("upload.min_part_size", advice);
    }
    Upload {
        max_file_size,
        min_part_size,
        concurrency: read.number("upload.concurrency"),
        memory_budget: memory_budget(read, min_part_size),
        follows_memory_limit: !read.is_set("upload.memory_budget"),
        stall_timeout: read.duration("upload.stall_timeout"),
        overwrite: read.switch("upload.overwrite"),
        storage_class: read.optional("upload.storage_class", storage_class),
        server_side_encryption: read.optional("upload.server_side_encryption", |text| {
            parse::word(text, ENCRYPTIONS)
        }),
        kms_key_id: read.optional("upload.kms_key_id", kms_key),
        objects: objects::resolve(read),
        provenance: read.switch("upload.provenance"),
        trace_metadata: read.switch("upload.trace_metadata"),
        stale_after: read.duration("upload.stale_after"),
        sweep: read.choice("upload.sweep"),
        on_interrupt: read.choice("upload.on_interrupt"),
    }
}

/// One part that is being filled while another is sent is the least that makes progress.
fn memory_budget(read: &mut Reader, min_part_size: u64) -> u64 {
    let budget = budget(read, "upload.memory_budget");
    let least = min_part_size.saturating_mul(2);
    if budget < least
        && read.is_valid("upload.min_part_size")
        && read.is_valid("upload.memory_budget")
    {
        let advice = format!(
            "an upload needs room for two parts of upload.min_part_size, {} in all; \
             raise the budget (and the container's memory), or lower upload.min_part_size",
            size_text(least)
        );
        read.refuse("upload.memory_budget", advice);
    }
    budget
}

/// The name of a storage class.
pub(super) fn storage_class(text: &str) -> Parsed<String> {
    let sound = text
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    if sound {
        Ok(text.to_owned())
    } else {
        Err("write a name such as STANDARD_IA".into())
    }
}

/// The name of a key, which goes into a header.
pub(super) fn kms_key(text: &str) -> Parsed<String> {
    if text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(text.to_owned())
    } else {
        Err("write the key's id or ARN".into())
    }
}

/// Algorithms of server-side encryption; the store knows which it has.
pub(super) const ENCRYPTIONS: &[&str] = &["AES256", "aws:kms", "cos/kms"];
