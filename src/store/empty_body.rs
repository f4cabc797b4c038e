//! Requests without a body say so.
//!
//! The SDK leaves `content-length: 0` out. Tencent documents the header as required
//! (<https://www.tencentcloud.com/document/product/436/7746>), and Google's store and Ceph's answer 411 without it.

use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;

/// The interceptor; of the client, so that no request is forgotten.
#[derive(Debug)]
pub(super) struct EmptyBodies;

impl Intercept for EmptyBodies {
    fn name(&self) -> &'static str {
        "EmptyBodies"
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request_mut();
        let may_have_one = matches!(request.method(), "PUT" | "POST");
        if may_have_one && request.body().content_length() == Some(0) {
            request.headers_mut().insert("content-length", "0");
        }
        Ok(())
    }
}
