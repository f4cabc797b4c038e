//! Deletes that touch only the version they mean; writes do the same, see [`put`](super::put).
//!
//! Where the store has conditions, it decides: `If-Match` on PutObject, CompleteMultipartUpload and DeleteObject,
//! `If-None-Match: *` on CopyObject
//! (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-requests.html>). Where it has none, the gateway
//! looks with a HEAD right before, and never lets the SDK repeat a delete whose answer was lost. What remains there is a
//! window of one request.

use std::time::Duration;

use aws_sdk_s3::config::Config;
use aws_sdk_s3::config::retry::RetryConfig;
use tracing::debug;

use crate::store::attempts::Attempts;
use crate::store::client::Store;
use crate::store::conditions::{
    Removal, is_failed_condition, is_not_implemented, is_same_etag, quoted, unknown,
};
use crate::store::error::StoreError;
use crate::store::http_status::HttpStatus;
use crate::store::key::ObjectKey;

/// An ETag that no object has.
const NO_VERSION: &str = "\"00000000000000000000000000000000-0\"";

/// The pause before a delete is tried again without the SDK's help; it doubles from there on.
const PAUSE: Duration = Duration::from_millis(200);

/// As the SDK's own pauses at the default of `storage.retry.max_backoff`.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

impl Store {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Provider;
    use crate::store::conditions::Replaces;
    use crate::store::describe::Description;
    use crate::store::{Home, VirtualPath, testing};

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
