//! The outcome of a write, when the store's answer doesn't prove it: the object itself is looked at.
//!
//! | the store's answer | the object | the write |
//! |---|---|---|
//! | with all the proof that the store can give | is not asked for | is done |
//! | lost, an error that is not a refusal, or without proof | is as it was sent | is done |
//! | | is another one, or none | was not done: what was there before is there; is not known if an attempt ended in silence |
//! | names another checksum or ETag | is as it was sent | is done |
//! | | provably differs from what was sent | is damaged: the object is deleted |
//! | | can't be compared | can't be vouched for: the object stays |
//! | any of these | can't be asked for | is not known |
//!
//! Each upload marks its object with an id of its own (`x-amz-meta-cosgate-id`). The mark costs no request, and it shows
//! the upload's object from one of the same length that another client stores meanwhile, on stores whose ETag is no MD5
//! and that have no checksums, too. A copy inside the store carries the mark of its source.

use std::time::Duration;

use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::types::{ChecksumMode, ChecksumType};
use tracing::{error, warn};

use crate::chain::Chain;
use crate::store::client::Store;
use crate::store::conditions::{Removal, is_same_etag, unknown};
use crate::store::cos_checksum::CosChecksum;
use crate::store::digest::{Answer, Comparison, Digest, hex};
use crate::store::error::{Remains, StoreError};
use crate::store::head::{content_length, etag};
use crate::store::integrity::Method;
use crate::store::key::ObjectKey;

/// `x-amz-meta-cosgate-id`
pub(super) const ID_METADATA: &str = "cosgate-id";

/// The most time for the look at an object, after `storage.retry.time_limit` is over: the client waits for its reply.
const LOOK_TIMEOUT: Duration = Duration::from_secs(30);

/// The expected new object.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected<'a> {
    pub operation: &'static str,
    /// The mark of the upload that makes it; empty if it isn't known.
    pub id: &'a str,
    pub digest: &'a Digest,
    pub method: Option<Method>,
    /// The ETag that an object made of parts has at most stores.
    pub composite_etag: Option<&'a str>,
}

/// Why the answer to a write is not enough.
#[derive(Debug)]
pub(super) enum Doubt {
    /// There was none, or an error; the work may be done all the same.
    Failed(StoreError),
    /// Success, without the proof that it could have; with the ETag, if it had one.
    Unproved(Option<String>),
    /// Success, and another checksum or ETag than that of what was sent.
    Differs {
        kind: &'static str,
        etag: Option<String>,
    },
}

/// The present object of the name.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// The facts of the sent object.
    AsSent { etag: String },
    /// The upload's object, and its bytes differ from what was sent.
    Damaged { etag: String },
    /// The upload's object, of the right length; there is no checksum to compare.
    Unproved { etag: String },
    /// Another object, or none.
    Other,
}

/// A new mark. Without random numbers it is empty, and no object is taken for marked.
pub(super) fn new_id() -> String {
    let mut id = [0; 16];
    match getrandom::fill(&mut id) {
        Ok(()) => hex(&id),
        Err(error) => {
            warn!(%error, "no random numbers: an upload has no mark");
            String::new()
        }
    }
}

impl Store {
    /// Finds out how a write ended whose answer left a doubt: the object's ETag if it is there as it was sent, or else the
    /// error that says what is there.
    pub(super) async fn resolve(
        &self,
        key: &ObjectKey,
        expected: &Expected<'_>,
        doubt: Doubt,
    ) -> Result<String, StoreError> {
        let operation = expected.operation;
        let answered = match &doubt {
            Doubt::Failed(_) => None,
            Doubt::Unproved(etag) | Doubt::Differs { etag, .. } => etag.as_deref(),
        };
        let found = match self.within_look(self.look(key, expected, answered)).await {
            Ok(found) => found,
            Err(failure) => {
                error!(%key, operation, ?doubt, error = %Chain(&failure), "how a write ended is not known");
                return Err(unknown(operation, failure));
            }
        };
        warn!(%key, operation, ?doubt, ?found, "the answer to a write was not enough, the object was looked at");
        let unverified = |detail: String, remains| StoreError::Unverified { detail, remains };
        match (found, doubt) {
            (Found::AsSent { etag }, _)
            | (Found::Unproved { etag }, Doubt::Failed(_) | Doubt::Unproved(_)) => Ok(etag),
            (Found::Other, Doubt::Failed(error)) => Err(error),
            (Found::Other, Doubt::Unproved(_)) => Err(unverified(
                format!("the store answered {operation} with success, and the object isn't there"),
                Remains::Older,
            )),
            (Found::Other, Doubt::Differs { kind, .. }) => Err(unverified(
                format!(
                    "the store's {kind} in the answer to {operation} is not that of what was sent, and the object isn't there"
                ),
                Remains::Older,
            )),
            (Found::Unproved { .. }, Doubt::Differs { kind, .. }) => Err(unverified(
                format!(
                    "the store's {kind} in the answer to {operation} is not that of what was sent, and it has no other proof"
                ),
                Remains::New,
            )),
            (Found::Damaged { etag }, _) => {
                let remains = self.remove_damaged(key, &etag).await;
                let detail = format!("the object that {operation} made is not what was sent");
                Err(unverified(detail, remains))
            }
        }
    }

    /// Deletes an object that provably is not what was sent, and no other version.
    async fn remove_damaged(&self, key: &ObjectKey, etag: &str) -> Remains {
        match self.delete_version(key, etag, false).await {
            Ok(Removal::Done | Removal::Gone) => {
                error!(%key, "an object that differs from what was sent was removed");
                Remains::Removed
            }
            // somebody else has stored the name since
            Ok(Removal::Replaced) => Remains::Older,
            Err(failure) => {
                error!(%key, error = %Chain(&failure), "an object differs from what was sent and could not be removed");
                Remains::New
            }
        }
    }

    /// `answered` is the ETag that the store gave the object when it was made.
    async fn look(
        &self,
        key: &ObjectKey,
        expected: &Expected<'_>,
        answered: Option<&str>,
    ) -> Result<Found, StoreError> {
        let cos = CosChecksum::default();
        // COS knows nothing of Amazon's checksums and sends its own unasked
        let asks = expected.method != Some(Method::CosCrc64);
        let asked = self
            .client()
            .head_object()
            .bucket(self.bucket())
            .key(key.as_str())
            .set_checksum_mode(asks.then_some(ChecksumMode::Enabled))
            .customize()
            .interceptor(cos.clone())
            .send()
            .await;
        match asked.map_err(|error| StoreError::from_sdk("HeadObject", error)) {
            Ok(head) => expected.judge(&head, cos.get(), answered),
            Err(StoreError::NotFound) => Ok(Found::Other),
            Err(error) => Err(error),
        }
    }

    /// Bounds a look at an object.
    pub(super) async fn within_look<T>(
        &self,
        look: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let bound = LOOK_TIMEOUT.min(self.settings().retry_time);
        let looked = tokio::time::timeout(bound, look).await;
        looked.unwrap_or_else(|elapsed| {
            Err(StoreError::Unavailable {
                operation: "HeadObject",
                source: Box::new(elapsed),
            })
        })
    }
}

impl Expected<'_> {
    fn judge(
        &self,
        head: &HeadObjectOutput,
        cos_crc64: Option<u64>,
        answered: Option<&str>,
    ) -> Result<Found, StoreError> {
        let size = content_length("HeadObject", head.content_length())?;
        let etag = etag("HeadObject", head.e_tag())?.to_owned();
        let id = head.metadata().and_then(|all| all.get(ID_METADATA));
        // of an upload that was held and goes on the mark isn't known
        let is_marked = id.filter(|_| !self.id.is_empty()).map(|id| id == self.id);
        let is_ours = is_marked == Some(true)
            || answered.is_some_and(|answered| is_same_etag(answered, &etag));
        if size != self.digest.bytes {
            return Ok(if is_ours {
                Found::Damaged { etag }
            } else {
                Found::Other
            });
        }
        // a checksum of the parts' checksums is none of the object
        let is_whole = head.checksum_type() != Some(&ChecksumType::Composite);
        let told = Answer {
            crc64_nvme: head.checksum_crc64_nvme().filter(|_| is_whole),
            cos_crc64,
            etag: Some(&etag),
            encrypted: is_encrypted(head),
        };
        let is_composite = self
            .composite_etag
            .is_some_and(|expected| is_same_etag(expected, &etag));
        Ok(match self.digest.content_is(self.method, &told) {
            // the same bytes by another upload are not this one's
            Comparison::Same if is_marked == Some(false) => Found::Other,
            Comparison::Same => Found::AsSent { etag },
            Comparison::Differs(_) if is_ours => Found::Damaged { etag },
            Comparison::Differs(_) => Found::Other,
            Comparison::Unproved if is_composite && is_marked != Some(false) => {
                Found::AsSent { etag }
            }
            Comparison::Unproved if is_ours => Found::Unproved { etag },
            Comparison::Unproved => Found::Other,
        })
    }
}

/// The ETag of an encrypted object is no MD5, but for the store's own keys
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html>).
fn is_encrypted(head: &HeadObjectOutput) -> bool {
    head.server_side_encryption().is_some() || head.sse_customer_algorithm().is_some()
}
