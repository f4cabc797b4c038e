//! The times that clients set (`MFMT`), for the lines of a listing.
//!
//! A listing of the store has its own times only; those that were set are in each object's metadata. Where `listing.times` is `metadata`
//! each file of a page is asked for with a HEAD, a few at once, so that MLSD and LIST give the time that MDTM gives. Clients that
//! compare times (`rclone sync`, `lftp mirror`) look at the same directory again and again, so the answers are kept for as long as the
//! listing names the same ETag and the same time of the store: setting a time is a copy of the object onto itself, which leaves the
//! ETag as it is.

use std::time::{Duration, SystemTime};

use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::Object;
use futures::stream::{self, TryStreamExt as _};

use crate::store::client::Store;
use crate::store::error::StoreError;
use crate::store::head::system_time;
use crate::store::key::{KeyPrefix, ObjectKey};
use crate::store::listing::is_reachable;
use crate::store::remembered_times::Remembered;

/// HEADs that one listing has under way at a time.
const PARALLEL: usize = 16;

/// A store's times have whole seconds: what was stored just now may get another time, with the same ETag, in the same second, so its
/// time isn't remembered yet.
const SETTLED_AFTER: Duration = Duration::from_secs(3);

impl Store {
    /// Gives each file of a page the time that MDTM gives. A file that is gone meanwhile keeps the store's.
    pub(super) async fn put_set_times(
        &self,
        prefix: &KeyPrefix,
        objects: &mut [Object],
    ) -> Result<(), StoreError> {
        let files = objects.iter_mut().filter_map(|object| {
            let key = object.key()?;
            let name = key.strip_prefix(prefix.as_str())?;
            // what is not reachable is not shown either
            let key = prefix.below(key).filter(|_| is_reachable(name))?;
            Some((key, object))
        });
        stream::iter(files.map(Ok))
            .try_for_each_concurrent(PARALLEL, |(key, object)| async move {
                if let Some(modified) = self.set_time(&key, object).await? {
                    object.last_modified = Some(DateTime::from(modified));
                }
                Ok(())
            })
            .await
    }

    /// The time that MDTM gives of a file that was listed; none if it is gone.
    async fn set_time(
        &self,
        key: &ObjectKey,
        listed: &Object,
    ) -> Result<Option<SystemTime>, StoreError> {
        let times = self.set_times();
        let etag = listed.e_tag().map(unquoted);
        let stored = listed.last_modified();
        let version = stored.map(|time| (etag, time.secs(), time.subsec_nanos()));
        let version = times.hash(&version);
        let file = self.id(key.as_str());
        if let Some(known) = times.of(file, version) {
            return Ok(known.modified);
        }
        let head = match self.head(key).await {
            Ok(head) => head,
            Err(StoreError::NotFound) => return Ok(None),
            Err(error) => return Err(error),
        };
        let is_settled = stored.and_then(system_time).is_some_and(|time| {
            let age = SystemTime::now().duration_since(time);
            age.is_ok_and(|age| age >= SETTLED_AFTER)
        });
        if is_settled && etag == Some(unquoted(&head.etag)) {
            let modified = head.modified;
            times.remember(file, Remembered { version, modified });
        }
        Ok(head.modified)
    }

    /// Notes that a file's time is another one now.
    pub(super) fn forget_set_time(&self, key: &ObjectKey) {
        self.set_times().forget(self.id(key.as_str()));
    }
}

fn unquoted(etag: &str) -> &str {
    etag.trim_matches('"')
}
