//! Preconditions of reads, writes and copies.

use std::time::{Duration, UNIX_EPOCH};

use hyper::header::{ETAG, HeaderMap, HeaderValue, LAST_MODIFIED};
use s3s::dto::{ETag, ETagCondition, Timestamp, TimestampFormat};
use s3s::{S3Error, S3ErrorCode, s3_error};

use super::fault::Fault;
use super::records::ObjectRecord;

/// The conditions of GET, HEAD and of the source of a copy. `If-Modified-Since` saves a transfer and is ignored; other dates are
/// refused ([`refuse_unsupported`](super::attributes::refuse_unsupported)).
#[derive(Debug, Default)]
pub(super) struct ReadConditions {
    pub(super) if_match: Option<ETagCondition>,
    pub(super) if_none_match: Option<ETagCondition>,
}

enum Verdict {
    Go,
    NotModified,
    Failed,
}

impl ReadConditions {
    /// `412 PreconditionFailed`, or `304 NotModified` with the headers that a cache needs.
    pub(super) fn check(&self, object: &ObjectRecord) -> Result<(), Fault> {
        match self.verdict(object) {
            Verdict::Go => Ok(()),
            Verdict::Failed => Err(precondition_failed()),
            Verdict::NotModified => {
                let mut error = S3Error::new(S3ErrorCode::NotModified);
                error.set_headers(validators(object));
                Err(error.into())
            }
        }
    }

    /// For the source of a copy every failed condition is `412 PreconditionFailed`.
    pub(super) fn check_source(&self, object: &ObjectRecord) -> Result<(), Fault> {
        match self.verdict(object) {
            Verdict::Go => Ok(()),
            Verdict::Failed | Verdict::NotModified => Err(precondition_failed()),
        }
    }

    fn verdict(&self, object: &ObjectRecord) -> Verdict {
        let holds = |condition: &ETagCondition| matches(condition, object);
        if !self.if_match.as_ref().is_none_or(holds) {
            Verdict::Failed
        } else if self.if_none_match.as_ref().is_some_and(holds) {
            Verdict::NotModified
        } else {
            Verdict::Go
        }
    }
}

/// The conditions of PutObject, CopyObject and CompleteMultipartUpload on what they replace.
#[derive(Debug, Default)]
pub(super) struct WriteConditions {
    if_match: Option<ETagCondition>,
    if_none_match: bool,
}

impl WriteConditions {
    /// # Errors
    ///
    /// `NotImplemented` for an `If-None-Match` other than `*`, as on AWS.
    pub(super) fn new(
        if_match: Option<ETagCondition>,
        if_none_match: Option<ETagCondition>,
    ) -> Result<Self, Fault> {
        if if_none_match
            .as_ref()
            .is_some_and(|condition| !condition.is_any())
        {
            return Err(s3_error!(
                NotImplemented,
                "A header you provided implies functionality that is not implemented: \
                 If-None-Match with an ETag"
            )
            .into());
        }
        Ok(Self {
            if_match,
            if_none_match: if_none_match.is_some(),
        })
    }

    pub(super) fn check(&self, replaced: Option<&ObjectRecord>) -> Result<(), Fault> {
        match (&self.if_match, replaced) {
            (Some(_), None) => {
                Err(s3_error!(NoSuchKey, "The specified key does not exist.").into())
            }
            (Some(condition), Some(object)) if !matches(condition, object) => {
                Err(precondition_failed())
            }
            (_, Some(_)) if self.if_none_match => Err(precondition_failed()),
            _ => Ok(()),
        }
    }
}

fn matches(condition: &ETagCondition, object: &ObjectRecord) -> bool {
    match condition {
        ETagCondition::Any => true,
        ETagCondition::ETag(etag) => etag.value() == object.etag,
    }
}

fn precondition_failed() -> Fault {
    s3_error!(
        PreconditionFailed,
        "At least one of the pre-conditions you specified did not hold"
    )
    .into()
}

pub(super) fn timestamp(seconds: u64) -> Timestamp {
    Timestamp::from(UNIX_EPOCH + Duration::from_secs(seconds))
}

fn validators(object: &ObjectRecord) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Ok(etag) = ETag::Strong(object.etag.clone()).to_http_header() {
        headers.insert(ETAG, etag);
    }
    let mut modified = Vec::new();
    if timestamp(object.modified)
        .format(TimestampFormat::HttpDate, &mut modified)
        .is_ok()
        && let Ok(modified) = HeaderValue::from_bytes(&modified)
    {
        headers.insert(LAST_MODIFIED, modified);
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object() -> ObjectRecord {
        ObjectRecord {
            length: 1,
            etag: "abc".to_owned(),
            modified: 1000,
            attributes: Default::default(),
            checksum: None,
            upload_id: None,
        }
    }

    fn etag(value: &str) -> Option<ETagCondition> {
        Some(value.parse().unwrap())
    }

    fn code(result: Result<(), Fault>) -> Option<String> {
        match result {
            Ok(()) => None,
            Err(Fault::Refused(error)) => Some(error.code().as_str().to_owned()),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn a_read_condition_looks_at_the_etag() {
        let check = |if_match, if_none_match| {
            let conditions = ReadConditions {
                if_match,
                if_none_match,
            };
            code(conditions.check(&object()))
        };
        let failed = Some("PreconditionFailed".to_owned());
        let unmodified = Some("NotModified".to_owned());
        assert_eq!(check(etag("abc"), None), None);
        assert_eq!(check(etag("xyz"), None), failed);
        assert_eq!(check(None, etag("abc")), unmodified);
        assert_eq!(check(None, etag("xyz")), None);
        assert_eq!(check(etag("*"), etag("*")), unmodified);
    }

    #[test]
    fn a_write_condition_looks_at_what_it_replaces() {
        let check = |if_match, if_none_match, replaced: Option<&ObjectRecord>| {
            code(
                WriteConditions::new(if_match, if_none_match)
                    .unwrap()
                    .check(replaced),
            )
        };
        let object = object();
        let failed = Some("PreconditionFailed".to_owned());
        assert_eq!(check(None, etag("*"), None), None);
        assert_eq!(check(None, etag("*"), Some(&object)), failed);
        assert_eq!(check(etag("abc"), None, Some(&object)), None);
        assert_eq!(check(etag("xyz"), None, Some(&object)), failed);
        assert_eq!(check(etag("abc"), None, None), Some("NoSuchKey".to_owned()));
        assert!(WriteConditions::new(None, etag("abc")).is_err());
    }
}
