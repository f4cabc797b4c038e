//! Conditions of requests: which of them one bucket's store keeps.
//!
//! They are learnt per bucket, from answers that prove it. A 412 proves that the store has one; an answer
//! of success to a condition that can't hold proves that it ignores it. See [`Store::delete_version`](super::client::Store::delete_version).

use std::time::{Duration, Instant};

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use parking_lot::Mutex;
use tracing::info;

use crate::config::Provider;
use crate::store::error::StoreError;
use crate::store::http_status::HttpStatus;

/// That a store lacks a condition is forgotten after this: it may be upgraded, and the answer may have been a proxy's.
const FORGET_AFTER: Duration = Duration::from_secs(3600);

/// The objects that a write may replace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Replaces {
    /// Whatever is there, as far as `upload.overwrite` allows it.
    Any,
    /// This version only, by its ETag.
    Version(String),
    /// Nothing: the name must be free.
    Nothing,
}

/// The outcome of a version that was to be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Removal {
    /// It is gone, by this request as far as the store says.
    Done,
    /// It was gone before.
    Gone,
    /// Somebody has stored another version, which stays.
    Replaced,
}

/// The known conditions of one bucket.
#[derive(Debug)]
pub(super) struct Conditions {
    /// `If-Match` on PutObject and CompleteMultipartUpload.
    pub write: Learnt,
    /// `If-Match` on DeleteObject.
    pub delete: Learnt,
    /// `If-None-Match` on CopyObject.
    pub copy: Learnt,
    /// DeleteObjects.
    pub delete_many: Learnt,
}

/// Knowledge of one condition: a store has it, or lacks it.
#[derive(Debug)]
pub(super) struct Learnt {
    fixed: Option<bool>,
    learnt: Mutex<Option<(bool, Instant)>>,
    name: &'static str,
}

impl Conditions {
    /// `is_amazon`: Amazon's own S3, which has them all.
    pub(super) fn new(provider: Provider, is_amazon: bool) -> Self {
        let fixed = match provider {
            Provider::Embedded => Some(true),
            Provider::S3 => is_amazon.then_some(true),
            // its documents know none but its own header, see `forbid_overwrite`
            Provider::Cos => Some(false),
        };
        let learnt = |name| Learnt {
            fixed,
            learnt: Mutex::new(None),
            name,
        };
        Conditions {
            write: learnt("If-Match on PutObject"),
            delete: learnt("If-Match on DeleteObject"),
            copy: learnt("If-None-Match on CopyObject"),
            delete_many: Learnt {
                fixed: None,
                learnt: Mutex::new(None),
                name: "DeleteObjects",
            },
        }
    }
}

impl Learnt {
    /// `None` if it isn't known.
    pub(super) fn get(&self) -> Option<bool> {
        self.fixed.or_else(|| {
            let learnt = self.learnt.lock();
            learnt
                .filter(|(has, at)| *has || at.elapsed() < FORGET_AFTER)
                .map(|(has, _)| has)
        })
    }

    /// True if the store can be relied on.
    pub(super) fn is_known(&self) -> bool {
        self.get() == Some(true)
    }

    pub(super) fn learn(&self, has: bool) {
        if self.get() == Some(has) {
            return;
        }
        info!(condition = self.name, has, "learnt from the store's answer");
        let mut learnt = self.learnt.lock();
        *learnt = Some((has, Instant::now()));
    }
}

/// The answer to a change was lost, and looking at what it did failed with `source`.
pub(super) fn unknown(operation: &'static str, source: StoreError) -> StoreError {
    StoreError::Unknown {
        operation,
        source: Box::new(source),
    }
}

/// Somebody else was faster.
pub(super) fn overtaken() -> StoreError {
    StoreError::Busy {
        detail: "it was changed meanwhile, and stays as it is",
    }
}

/// ETags are compared without quotes: there are stores that leave them out in some answers.
pub(super) fn is_same_etag(one: &str, other: &str) -> bool {
    one.trim_matches('"') == other.trim_matches('"')
}

/// An ETag as conditions carry it.
pub(super) fn quoted(etag: &str) -> String {
    format!("\"{}\"", etag.trim_matches('"'))
}

/// 412, or COS's and Amazon's 409 for writers that race, or the missing object that can't have an ETag.
pub(super) fn is_failed_condition<E, R>(error: &SdkError<E, R>) -> bool
where
    E: ProvideErrorMetadata,
    R: HttpStatus,
{
    let status = error.raw_response().map(HttpStatus::status);
    let code = error.as_service_error().and_then(|error| error.code());
    match (status, code) {
        (Some(409 | 412), _) => true,
        (Some(404), code) => code == Some("NoSuchKey"),
        _ => false,
    }
}

/// The store's way to say that it doesn't know a header.
pub(super) fn is_not_implemented<E, R>(error: &SdkError<E, R>) -> bool
where
    E: ProvideErrorMetadata,
    R: HttpStatus,
{
    let status = error.raw_response().map(HttpStatus::status);
    let code = error.as_service_error().and_then(|error| error.code());
    status == Some(501) || code == Some("NotImplemented")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_store_lacks_is_forgotten_and_what_it_has_is_not() {
        let conditions = Conditions::new(Provider::S3, false);
        assert_eq!(conditions.delete.get(), None);
        conditions.delete.learn(false);
        assert_eq!(conditions.delete.get(), Some(false));
        for (has, expected) in [(false, None), (true, Some(true))] {
            let long_ago = Instant::now().checked_sub(FORGET_AFTER);
            let long_ago = long_ago.expect("the machine runs for longer");
            *conditions.write.learnt.lock() = Some((has, long_ago));
            assert_eq!(conditions.write.get(), expected);
        }
        assert_eq!(
            Conditions::new(Provider::Cos, false).delete.get(),
            Some(false)
        );
        assert!(Conditions::new(Provider::S3, true).copy.is_known());
    }
}
