//! The description of an object besides its bytes, which is kept when the object is written anew: by APPE, `REST` and `STOR`,
//! MFMT, and copies in parts.

use std::collections::HashMap;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tracing::warn;

use crate::chain::Chain;
use crate::store::client::Store;
use crate::store::error::StoreError;
use crate::store::head::{Head, MTIME};
use crate::store::key::ObjectKey;
use crate::store::provenance::{CLIENT_METADATA, USER_METADATA};

/// `x-amz-meta-trace-id`
pub(super) const TRACE_METADATA: &str = "trace-id";

/// Gives a request that makes an object what belongs to another one.
macro_rules! describe {
    ($request:expr, $head:expr) => {
        $request
            .set_storage_class($head.storage_class.clone())
            .set_content_type($head.content_type.clone())
            .set_cache_control($head.cache_control.clone())
            .set_content_disposition($head.content_disposition.clone())
            .set_content_encoding($head.content_encoding.clone())
            .set_content_language($head.content_language.clone())
            .set_expires($head.expires)
            .set_tagging($head.tagging())
            .set_metadata($head.metadata.clone())
    };
}
pub(super) use describe;

/// Gives a request that makes an object what new ones get: of the configuration, the mark or id, and more metadata.
macro_rules! describe_new {
    ($request:expr, $store:expr, $key:expr, $id:expr, $more:expr) => {{
        let options = $store.object_options();
        $request
            .content_type($store.new_content_type($key))
            .set_cache_control(options.cache_control.clone())
            .set_tagging(tagging(&options.tags))
            .set_metadata(Some($store.new_metadata($id, $more)))
            .set_storage_class(options.storage_class.as_deref().map(StorageClass::from))
    }};
}
pub(super) use describe_new;

/// The properties of a new object besides its bytes.
#[derive(Debug, Clone)]
pub(super) enum Description {
    /// The configured value, and this metadata.
    New(HashMap<String, String>),
    /// Those of another object.
    Of(Box<Head>),
}

impl Description {
    /// Of an object that is not there to stay.
    pub(super) fn nothing() -> Self {
        Description::New(HashMap::new())
    }
}

impl Head {
    /// `x-amz-tagging`
    pub(super) fn tagging(&self) -> Option<String> {
        tagging(&self.tags)
    }
}

/// `x-amz-tagging` with these tags; none without any.
pub(super) fn tagging(tags: &[(String, String)]) -> Option<String> {
    let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let pairs: Vec<_> = tags
        .iter()
        .map(|(name, value)| format!("{}={}", encoded(name), encoded(value)))
        .collect();
    (!pairs.is_empty()).then(|| pairs.join("&"))
}

impl Store {
    /// Adds the object's tags to what a HEAD said. Where they can't be read, the new object has none, and a log line says
    /// so: a right that is missing must not refuse what worked before.
    pub(super) async fn with_tags(&self, key: &ObjectKey, mut head: Head) -> Head {
        if head.tag_count == 0 {
            return head;
        }
        let asked = self
            .client()
            .get_object_tagging()
            .bucket(self.bucket())
            .key(key.as_str())
            .send()
            .await;
        match asked {
            Ok(answer) => {
                let pairs = answer.tag_set.into_iter().map(|tag| (tag.key, tag.value));
                head.tags = pairs.collect();
            }
            Err(error) => {
                let error = StoreError::from_sdk("GetObjectTagging", error);
                warn!(%key, error = %Chain(&error), "the tags of an object could not be read and are lost when it is written anew");
            }
        }
        head
    }

    /// The description that an object keeps when its content changes: all but the time that was set for the old content and the tag of a
    /// fragment, and with the trace of this upload and who does it.
    pub(super) async fn kept(
        &self,
        key: &ObjectKey,
        head: Head,
        provenance: &HashMap<String, String>,
    ) -> Head {
        let mut head = self.with_tags(key, head).await;
        head.keep_tags();
        let metadata = head.metadata.get_or_insert_default();
        for name in [MTIME, TRACE_METADATA, USER_METADATA, CLIENT_METADATA] {
            metadata.remove(name);
        }
        metadata.extend(self.trace_metadata().unwrap_or_default());
        metadata.extend(provenance.clone());
        head
    }
}
