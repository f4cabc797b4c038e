//! The answer to a HEAD of an object, and what every such answer must have.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};
use aws_sdk_s3::types::StorageClass;
use time::OffsetDateTime;

use crate::store::error::StoreError;

/// The facts of a HEAD about an object, as far as others need it.
#[derive(Debug, Clone)]
pub(super) struct Head {
    pub size: u64,
    pub etag: String,
    /// The time that somebody set, or else the store's own.
    pub modified: Option<SystemTime>,
    /// The store's own time.
    pub stored: Option<SystemTime>,
    pub storage_class: Option<StorageClass>,
    pub content_type: Option<String>,
    pub cache_control: Option<String>,
    pub content_disposition: Option<String>,
    pub content_encoding: Option<String>,
    pub content_language: Option<String>,
    pub expires: Option<DateTime>,
    pub metadata: Option<HashMap<String, String>>,
    /// The number of tags that it has; HEAD doesn't say which.
    pub tag_count: i32,
    /// The tags, once they were asked for.
    pub tags: Vec<(String, String)>,
}

/// `x-amz-meta-mtime`: the modification time that a client set, in seconds since 1970, with a fraction or without, as
/// rclone, s3fs and others keep it.
pub(super) const MTIME: &str = "mtime";

impl TryFrom<HeadObjectOutput> for Head {
    type Error = StoreError;

    /// An answer without a length or an ETag says nothing of the object: a proxy that compresses leaves them out.
    fn try_from(head: HeadObjectOutput) -> Result<Self, StoreError> {
        Ok(Head {
            size: content_length("HeadObject", head.content_length())?,
            modified: head
                .metadata()
                .and_then(|metadata| parse_mtime(metadata.get(MTIME)?))
                .or_else(|| head.last_modified().and_then(system_time)),
            stored: head.last_modified().and_then(system_time),
            etag: etag("HeadObject", head.e_tag())?.to_owned(),
            storage_class: head.storage_class,
            content_type: head.content_type,
            cache_control: head.cache_control,
            content_disposition: head.content_disposition,
            content_encoding: head.content_encoding,
            content_language: head.content_language,
            expires: parse_expires(head.expires_string.as_deref()),
            metadata: head.metadata,
            // the header is there only if there are tags, and if they may be read
            tag_count: head.tag_count.unwrap_or_default(),
            tags: Vec::new(),
        })
    }
}

/// Whole seconds: FTP's times have no more, and older ones than 1970 have a sign.
pub(super) fn format_mtime(time: SystemTime) -> String {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => after.as_secs().to_string(),
        Err(before) => format!("-{}", before.duration().as_secs()),
    }
}

/// `None` for what is no time, or none that a listing can show; others wrote it.
fn parse_mtime(text: &str) -> Option<SystemTime> {
    let (seconds, _fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = seconds.parse().ok()?;
    OffsetDateTime::from_unix_timestamp(seconds).ok()?;
    let distance = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 {
        UNIX_EPOCH.checked_sub(distance)
    } else {
        UNIX_EPOCH.checked_add(distance)
    }
}

/// A time of the SDK.
pub(super) fn system_time(time: &DateTime) -> Option<SystemTime> {
    SystemTime::try_from(*time).ok()
}

/// `Expires` of an answer; what is no date can't be sent again.
fn parse_expires(text: Option<&str>) -> Option<DateTime> {
    DateTime::from_str(text?, DateTimeFormat::HttpDate).ok()
}

/// The length that an answer must have: what a store leaves out is not 0.
pub(super) fn content_length(
    operation: &'static str,
    length: Option<i64>,
) -> Result<u64, StoreError> {
    let length = length.and_then(|bytes| u64::try_from(bytes).ok());
    length.ok_or_else(|| StoreError::Integrity {
        detail: format!(
            "the answer to {operation} doesn't have the object's length; something between the gateway and the store, \
             such as a proxy that compresses, takes it away"
        ),
    })
}

/// The ETag that an answer must have: without it, one version of an object can't be distinguished from another.
pub(super) fn etag<'a>(
    operation: &'static str,
    etag: Option<&'a str>,
) -> Result<&'a str, StoreError> {
    etag.filter(|etag| !etag.trim_matches('"').is_empty())
        .ok_or_else(|| StoreError::Integrity {
            detail: format!(
                "the answer to {operation} has no ETag; either this is no S3 store, or something between the gateway and \
                 the store takes it away"
            ),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_times_are_read_as_others_write_them() {
        let at = |seconds| Some(UNIX_EPOCH + Duration::from_secs(seconds));
        for (text, time) in [
            ("1700000000", at(1_700_000_000)),
            ("1700000000.123456789", at(1_700_000_000)),
            ("0", at(0)),
            ("-5", UNIX_EPOCH.checked_sub(Duration::from_secs(5))),
            ("", None),
            ("yesterday", None),
            ("99999999999999999999", None),
            ("9223372036854775807", None),
        ] {
            assert_eq!(parse_mtime(text), time, "{text}");
        }
        for text in ["1700000000", "-5", "0"] {
            let time = parse_mtime(text).expect("a time");
            assert_eq!(format_mtime(time), text);
        }
    }
}
