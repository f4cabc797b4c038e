//! The metadata of a new object: who stored it, and of an interrupted upload the tag that says so.
//!
//! | what | where | when |
//! |---|---|---|
//! | the FTP user | metadata `cosgate-user` | `upload.provenance` |
//! | the client's address | metadata `cosgate-client` | `upload.provenance` |
//! | `kept` | tag `cosgate-outcome` | `upload.on_interrupt: keep`, after an interruption |
//!
//! Values of metadata are HTTP headers: what is neither a letter, a digit nor an ordinary sign of ASCII is percent-encoded.
//! Amazon would encode it as RFC 2047 says when the object is asked for, other stores would not
//! (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html>).

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use aws_sdk_s3::config::http::HttpRequest;
use aws_sdk_s3::types::{Tag, Tagging};
use base64_simd::STANDARD;
use md5::{Digest as _, Md5};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use tracing::{debug, warn};

use crate::chain::Chain;
use crate::store::client::Store;
use crate::store::conditions::is_same_etag;
use crate::store::error::StoreError;
use crate::store::head::Head;
use crate::store::key::ObjectKey;

/// `x-amz-meta-cosgate-user`
pub(super) const USER_METADATA: &str = "cosgate-user";

/// `x-amz-meta-cosgate-client`
pub(super) const CLIENT_METADATA: &str = "cosgate-client";

/// The tag of an object that an interrupted upload left, with the value [`KEPT`].
pub(super) const OUTCOME_TAG: &str = "cosgate-outcome";

const KEPT: &str = "kept";

/// Bytes of a name before it is encoded, which makes three of one at most: all metadata of an object together has room for 2 KiB.
const MAX_USER_BYTES: usize = 255;

/// Signatures take several spaces for one, and commas part the values of a header.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b'"').add(b',').add(b'\\');

/// The most time for a tag: the client waits for its reply, which doesn't depend on it.
const TAG_TIMEOUT: Duration = Duration::from_secs(10);

/// The user and client who store an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBy {
    /// The name of the FTP user.
    pub user: String,
    /// The client's address.
    pub client: IpAddr,
}

impl Store {
    /// The metadata that names who stores an object, if that is asked for.
    pub(super) fn provenance(&self, stored_by: Option<&StoredBy>) -> HashMap<String, String> {
        let Some(stored_by) = stored_by.filter(|_| self.object_options().provenance) else {
            return HashMap::new();
        };
        HashMap::from([
            (USER_METADATA.to_owned(), header_value(&stored_by.user)),
            (CLIENT_METADATA.to_owned(), stored_by.client.to_string()),
        ])
    }

    /// Tags what an interrupted upload left, the version with this ETag. A failure changes nothing for the client: it is
    /// logged, as a warning once for each bucket.
    ///
    /// `tags` are those that the object has from one that it continues: the request replaces them all.
    pub(super) async fn tag_kept(&self, key: &ObjectKey, etag: &str, tags: &[(String, String)]) {
        let tagging = self.try_tag_kept(key, etag, tags);
        let error: Box<dyn std::error::Error + Send + Sync> =
            match tokio::time::timeout(TAG_TIMEOUT, tagging).await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error.into(),
                Err(elapsed) => elapsed.into(),
            };
        let (bucket, error) = (self.bucket(), Chain(&*error).to_string());
        if self.tag_support().report() {
            debug!(%key, bucket, error, "an interrupted upload could not be tagged");
        } else {
            warn!(
                event = "tag_failed", %key, bucket, error,
                "what an interrupted upload left could not be tagged cosgate-outcome=kept (s3:PutObjectTagging); further failures in this bucket are logged at debug"
            );
        }
    }

    async fn try_tag_kept(
        &self,
        key: &ObjectKey,
        etag: &str,
        tags: &[(String, String)],
    ) -> Result<(), StoreError> {
        let outcome = (OUTCOME_TAG.to_owned(), KEPT.to_owned());
        self.set_tags(key, tags.iter().chain([&outcome])).await?;
        // the request names no version: if a whole file has taken the fragment's place just before, it has the tag now
        let head = self.head(key).await?;
        if is_same_etag(&head.etag, etag) || head.tag_count == 0 {
            return Ok(());
        }
        let own = &self.object_options().tags;
        if !own.is_empty() {
            return self.set_tags(key, own).await;
        }
        let request = self.client().delete_object_tagging();
        let removed = request.bucket(self.bucket()).key(key.as_str()).send().await;
        removed
            .map(drop)
            .map_err(|error| StoreError::from_sdk("DeleteObjectTagging", error))
    }

    /// Puts `tags` in the place of those that the object has.
    async fn set_tags<'a>(
        &self,
        key: &ObjectKey,
        tags: impl IntoIterator<Item = &'a (String, String)>,
    ) -> Result<(), StoreError> {
        let mut set = Tagging::builder();
        for (name, value) in tags {
            let tag = Tag::builder().key(name).value(value).build();
            set = set.tag_set(tag.map_err(unfit)?);
        }
        let request = self.client().put_object_tagging();
        let request = request.bucket(self.bucket()).key(key.as_str());
        let tagged = request
            .tagging(set.build().map_err(unfit)?)
            .customize()
            .mutate_request(with_content_md5)
            .send()
            .await;
        tagged
            .map(drop)
            .map_err(|error| StoreError::from_sdk("PutObjectTagging", error))
    }
}

impl Head {
    /// The tags that a later version keeps: that the object is a fragment is true of this version only.
    pub(super) fn keep_tags(&mut self) {
        self.tags.retain(|(name, _)| name != OUTCOME_TAG);
    }
}

/// COS demands the header (<https://www.tencentcloud.com/document/product/436/35707>); the SDK sends another checksum.
fn with_content_md5(request: &mut HttpRequest) {
    let Some(body) = request.body().bytes() else {
        return;
    };
    let md5 = STANDARD.encode_to_string(Md5::digest(body));
    request.headers_mut().insert("content-md5", md5);
}

fn unfit(error: aws_sdk_s3::error::BuildError) -> StoreError {
    StoreError::Refused {
        operation: "PutObjectTagging",
        source: error.into(),
    }
}

/// `text` as the value of a header, cut to [`MAX_USER_BYTES`].
fn header_value(text: &str) -> String {
    let cut = &text[..text.floor_char_boundary(MAX_USER_BYTES)];
    utf8_percent_encode(cut, ENCODED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded_header_values() {
        assert_eq!(
            header_value("camera-7@hall_2.example"),
            "camera-7@hall_2.example"
        );
        assert_eq!(header_value("jürgen x%\r\n"), "j%C3%BCrgen%20x%25%0D%0A");
        let long = header_value(&"ä".repeat(1000));
        assert_eq!(long, "%C3%A4".repeat(127));
    }
}
