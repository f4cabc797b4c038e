//! The facts of a raw response that errors and retries depend on.

use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;

/// The facts that are asked of a raw response here; the SDK's response type differs between its layers.
pub trait HttpStatus {
    /// The HTTP status code.
    fn status(&self) -> u16;
    /// When it was sent, by the store's own clock.
    fn date(&self) -> Option<DateTime>;
}

impl HttpStatus for aws_sdk_s3::config::http::HttpResponse {
    fn status(&self) -> u16 {
        self.status().as_u16()
    }

    fn date(&self) -> Option<DateTime> {
        DateTime::from_str(self.headers().get("date")?, Format::HttpDate).ok()
    }
}
