//! Writes and deletes that touch only the version they mean.
//!
//! Where the store has conditions, it decides: `If-Match` on PutObject, CompleteMultipartUpload and DeleteObject,
//! `If-None-Match: *` on CopyObject
//! (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-requests.html>). Where it has none, the gateway
//! looks with a HEAD right before, and never lets the SDK repeat a delete whose answer was lost. What remains there is a
//! window of one request.
//!
//! The conditions of a store are learnt per bucket, from answers that prove it. A 412 proves that it has; an answer
//! of success to a condition that can't hold proves that it ignores it. See [`Store::delete_version`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use aws_sdk_s3::config::interceptors::{
    BeforeTransmitInterceptorContextRef, FinalizerInterceptorContextRef,
};
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{Config, ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::{BoxError, ConnectorError, ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::OrchestratorError;
use parking_lot::Mutex;
use tracing::{debug, info};

use crate::config::Provider;
use crate::store::client::Store;
use crate::store::error::{HttpStatus, StoreError};
use crate::store::key::ObjectKey;
use crate::store::retry::is_refusal;

/// An ETag that no object has.
const NO_VERSION: &str = "\"00000000000000000000000000000000-0\"";

/// That a store lacks a condition is forgotten after this: it may be upgraded, and the answer may have been a proxy's.
const FORGET_AFTER: Duration = Duration::from_secs(3600);

/// The pause before a delete is tried again without the SDK's help; it doubles from there on.
const PAUSE: Duration = Duration::from_millis(200);

/// As the SDK's own pauses at the default of `storage.retry.max_backoff`.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

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

impl Store {
    /// The value of `If-Match` for a write.
    pub(super) fn if_match(&self, replaces: &Replaces) -> Option<String> {
        match replaces {
            Replaces::Version(etag) if self.conditions().write.get() != Some(false) => {
                Some(quoted(etag)).filter(|_| !etag.is_empty())
            }
            Replaces::Any | Replaces::Nothing | Replaces::Version(_) => None,
        }
    }

    /// True if a write must not replace anything.
    pub(super) fn must_be_new(&self, replaces: &Replaces) -> bool {
        match replaces {
            Replaces::Any => !self.object_options().overwrite,
            Replaces::Nothing => true,
            Replaces::Version(_) => false,
        }
    }

    /// Looks whether what is to be replaced is still there, where the store can't be relied on to look itself.
    pub(super) async fn check_unchanged(
        &self,
        key: &ObjectKey,
        replaces: &Replaces,
    ) -> Result<(), StoreError> {
        if *replaces == Replaces::Any || self.conditions().write.is_known() {
            return Ok(());
        }
        match (self.head(key).await, replaces) {
            (Ok(head), Replaces::Version(etag)) if is_same_etag(&head.etag, etag) => Ok(()),
            (Err(StoreError::NotFound), Replaces::Nothing) => Ok(()),
            (Ok(_), _) | (Err(StoreError::NotFound), _) => Err(overtaken()),
            (Err(error), _) => Err(error),
        }
    }

    /// Deletes `key` if it still is the version with this ETag. An attempt whose answer was lost is looked after.
    pub(super) async fn delete_version(
        &self,
        key: &ObjectKey,
        etag: &str,
        looked: bool,
    ) -> Result<Removal, StoreError> {
        let attempts = Attempts::default();
        let deleted = self.try_delete_version(key, etag, looked, &attempts).await;
        match deleted {
            // also after an answer to a HEAD between two attempts that says too little
            Err(error @ (StoreError::Unavailable { .. } | StoreError::Integrity { .. }))
                if attempts.may_be_done() =>
            {
                let found = self.within_look(self.head(key)).await;
                match (found, error) {
                    (Err(StoreError::NotFound), _) => Ok(Removal::Done),
                    (Ok(head), error) if is_same_etag(&head.etag, etag) => {
                        Err(attempts.not_done("DeleteObject", error))
                    }
                    (Ok(_), _) => Ok(Removal::Replaced),
                    (Err(failure), _) => Err(unknown("DeleteObject", failure)),
                }
            }
            deleted => deleted,
        }
    }

    /// `all` counts the attempts of all requests.
    ///
    /// A store of which nothing is known is first asked with a condition that can't hold, right after a HEAD has shown
    /// that the version is the right one: either the store refuses, and is asked again with the right condition, or it
    /// ignores the condition and deletes what was to be deleted. `looked`: the caller has had that HEAD just now.
    async fn try_delete_version(
        &self,
        key: &ObjectKey,
        etag: &str,
        mut looked: bool,
        all: &Attempts,
    ) -> Result<Removal, StoreError> {
        let condition = &self.conditions().delete;
        let mut pause = PAUSE;
        let mut attempts = self.settings().max_attempts;
        // the answer to an attempt was lost, which may have deleted it
        let mut is_repeated = false;
        loop {
            let known = condition.get().filter(|_| !etag.is_empty());
            if known != Some(true) && !std::mem::take(&mut looked) {
                match self.head(key).await {
                    Ok(head) if is_same_etag(&head.etag, etag) => {}
                    Ok(_) => return Ok(Removal::Replaced),
                    Err(StoreError::NotFound) => return Ok(gone(is_repeated)),
                    Err(error) => return Err(error),
                }
            }
            let value = match known {
                Some(true) => Some(quoted(etag)),
                None if !etag.is_empty() => Some(NO_VERSION.to_owned()),
                _ => None,
            };
            let is_question = known.is_none();
            let has_condition = value.is_some();
            let request = self
                .client()
                .delete_object()
                .bucket(self.bucket())
                .key(key.as_str())
                .set_if_match(value);
            let sending = Attempts::default();
            let mut request = request
                .customize()
                .interceptor(sending.clone())
                .interceptor(all.clone());
            // with a condition that holds once, a repetition does no harm
            if known != Some(true) {
                let once = Config::builder().retry_config(RetryConfig::disabled());
                request = request.config_override(once);
            }
            let sent = request.send().await;
            is_repeated |= !sending.was_one();
            let error = match sent {
                Ok(_) => {
                    if is_question && has_condition {
                        condition.learn(false);
                    }
                    return Ok(Removal::Done);
                }
                Err(error) => error,
            };
            let status = error.raw_response().map(HttpStatus::status);
            if is_question && has_condition && matches!(status, Some(404 | 412)) {
                condition.learn(true);
                continue;
            }
            if known == Some(true) && is_failed_condition(&error) {
                // some stores say 412 of what is missing, too
                match self.head(key).await {
                    Err(StoreError::NotFound) => return Ok(gone(is_repeated)),
                    Ok(head) if !is_same_etag(&head.etag, etag) => return Ok(Removal::Replaced),
                    // a condition that doesn't hold where it should is none
                    Ok(_) => condition.learn(false),
                    Err(error) => return Err(error),
                }
            } else if has_condition && is_not_implemented(&error) {
                condition.learn(false);
            } else {
                match StoreError::from_sdk("DeleteObject", error) {
                    StoreError::NotFound => return Ok(gone(is_repeated)),
                    error @ StoreError::Unavailable { .. } => {
                        // the answer may be lost and the work be done
                        is_repeated = true;
                        if attempts == 1 || known == Some(true) {
                            return Err(error);
                        }
                        debug!(%key, %error, "looking before another attempt to delete");
                        tokio::time::sleep(pause).await;
                        pause = (pause * 2).min(LONGEST_PAUSE);
                    }
                    error => return Err(error),
                }
            }
            attempts = attempts.saturating_sub(1);
            if attempts == 0 {
                return Err(StoreError::Busy {
                    detail: "it changes faster than it can be deleted",
                });
            }
        }
    }
}

/// A missing object was deleted by an attempt whose answer was lost, or by somebody else.
fn gone(is_repeated: bool) -> Removal {
    if is_repeated {
        Removal::Done
    } else {
        Removal::Gone
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

/// Counts the attempts of one request: a refusal of the first one is the store's word, one of a later one may be about
/// what the first one did.
#[derive(Debug, Clone, Default)]
pub(super) struct Attempts(Arc<Counted>);

#[derive(Debug, Default)]
struct Counted {
    begun: AtomicU32,
    /// Those that came to an end other than silence.
    ended: AtomicU32,
    /// Those that the store has answered with a refusal, so that they changed nothing.
    refused: AtomicU32,
}

impl Attempts {
    /// True if no attempt was repeated.
    pub(super) fn was_one(&self) -> bool {
        self.0.begun.load(Ordering::SeqCst) == 1
    }

    /// True for a failed request of which an attempt may have done its work: one whose answer was lost, or an error of the
    /// store that is no refusal.
    pub(super) fn may_be_done(&self) -> bool {
        self.0.begun.load(Ordering::SeqCst) > self.0.refused.load(Ordering::SeqCst)
    }

    /// The error of a change that is not there when it is looked at. A store that took a request and stayed silent may
    /// still be at it, and make the change later: then what becomes of it is not known.
    pub(super) fn not_done(&self, operation: &'static str, error: StoreError) -> StoreError {
        if self.0.begun.load(Ordering::SeqCst) > self.0.ended.load(Ordering::SeqCst) {
            unknown(operation, error)
        } else {
            error
        }
    }
}

impl Intercept for Attempts {
    fn name(&self) -> &'static str {
        "Attempts"
    }

    fn read_before_attempt(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.0.begun.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if context.response().is_some_and(is_refusal) {
            self.0.refused.fetch_add(1, Ordering::SeqCst);
        }
        let error = context.output_or_error().and_then(Result::err);
        if !error.is_some_and(is_silence) {
            self.0.ended.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    }
}

/// No answer came in time. A connection that could not be made in time is counted as well: the SDK has one error for both.
fn is_silence<E>(error: &OrchestratorError<E>) -> bool {
    let connector = error.as_connector_error();
    error.is_timeout_error() || connector.is_some_and(ConnectorError::is_timeout)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::describe::Description;
    use crate::store::{Home, VirtualPath, testing};

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

    #[tokio::test]
    async fn only_the_version_that_is_meant_is_deleted_whatever_is_known_of_the_store() {
        let data = tempfile::tempdir().expect("a temporary directory");
        let (embedded, store) = testing::store(&data).await;
        let home = Home::new("", &VirtualPath::root(), 1024);
        let path = VirtualPath::resolve(&VirtualPath::root(), "f").expect("good");
        let key = home.key(&path).expect("a key");
        for known in [None, Some(true), Some(false)] {
            let store = store.with_conditions(Provider::S3);
            if let Some(has) = known {
                store.conditions().delete.learn(has);
            }
            let nothing = Description::nothing();
            let put = |text: &'static str| store.put(&key, text.into(), &Replaces::Any, &nothing);
            put("old").await.expect("stored");
            let etag = store.head(&key).await.expect("there").etag;
            put("new").await.expect("stored");
            let removal = store
                .delete_version(&key, &etag, false)
                .await
                .expect("an answer");
            assert_eq!(removal, Removal::Replaced, "{known:?}");
            let etag = store.head(&key).await.expect("there").etag;
            for expected in [Removal::Done, Removal::Gone] {
                let removal = store.delete_version(&key, &etag, false).await;
                assert_eq!(removal.expect("an answer"), expected, "{known:?}");
                assert!(matches!(store.head(&key).await, Err(StoreError::NotFound)));
            }
            if known.is_none() {
                assert!(store.conditions().delete.is_known());
            }
        }
        embedded.stop().await;
    }
}
