//! COS's own checksum of an object.

use std::sync::{Arc, OnceLock};

use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;

/// Reads COS's own checksum header from an answer; the SDK's types have no place for it.
#[derive(Debug, Clone, Default)]
pub struct CosChecksum(Arc<OnceLock<u64>>);

impl CosChecksum {
    /// The value, once the answer is there.
    pub fn get(&self) -> Option<u64> {
        self.0.get().copied()
    }
}

impl Intercept for CosChecksum {
    fn name(&self) -> &'static str {
        "CosChecksum"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let header = context.response().headers().get("x-cos-hash-crc64ecma");
        if let Some(value) = header.and_then(|value| value.parse().ok()) {
            // an attempt that was retried may have set it before; the same body has the same checksum
            let _ = self.0.set(value);
        }
        Ok(())
    }
}
