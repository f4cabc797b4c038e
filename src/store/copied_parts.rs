//! Proof that a store copied the ranges that it was asked for.
//!
//! There are stores that ignore `x-amz-copy-source-range` and copy the whole object. The answer to UploadPartCopy doesn't
//! say how long the part is, so the store is asked for its parts before they become an object.

use std::collections::HashMap;

use tracing::warn;

use crate::chain::Chain;
use crate::store::client::Store;
use crate::store::error::StoreError;
use crate::store::key::ObjectKey;
use crate::store::multipart::Multipart;
use crate::store::part_request::UploadedPart;

impl Multipart {
    /// Compares the lengths of all parts with what the store lists. Where it doesn't list them (the keys may lack the
    /// right), the upload goes on, and the log says so.
    pub(super) async fn check_lengths(&self, parts: &[UploadedPart]) -> Result<(), StoreError> {
        let listed = match self.store().list_part_sizes(self.key(), self.id()).await {
            Ok(listed) => listed,
            Err(error @ (StoreError::Denied { .. } | StoreError::Refused { .. })) => {
                warn!(key = %self.key(), error = %Chain(&error), "the store doesn't list parts (s3:ListMultipartUploadParts), copied ranges are not compared");
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        for part in parts {
            let (number, bytes) = (part.number, part.digest.bytes);
            let stored = listed.get(&number);
            if stored != Some(&bytes) {
                return Err(StoreError::Integrity {
                    detail: format!(
                        "part {number} was to be {bytes} bytes of a copy, the store has {}",
                        stored.map_or("none".to_owned(), |stored| format!("{stored} bytes")),
                    ),
                });
            }
        }
        Ok(())
    }
}

impl Store {
    /// The parts of an unfinished upload with their sizes: 10,000 at most.
    async fn list_part_sizes(
        &self,
        key: &ObjectKey,
        upload_id: &str,
    ) -> Result<HashMap<i32, u64>, StoreError> {
        let request = self
            .client()
            .list_parts()
            .bucket(self.bucket())
            .key(key.as_str())
            .upload_id(upload_id);
        let mut pages = request.into_paginator().send();
        let mut sizes = HashMap::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| StoreError::from_sdk("ListParts", error))?;
            sizes.extend(page.parts().iter().filter_map(|part| {
                let bytes = u64::try_from(part.size()?).ok()?;
                Some((part.part_number()?, bytes))
            }));
        }
        Ok(sizes)
    }
}
