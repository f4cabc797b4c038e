//! Listings that are cut are no listings.
//!
//! The SDK reads the XML of an answer as far as it goes: a page that a proxy or a gateway cut, with a length that fits,
//! looks like a shorter page, and an empty body like an empty directory. Here such an answer fails its attempt, which is
//! then sent again like any other that broke off.

use aws_sdk_s3::config::interceptors::AfterDeserializationInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::operation::list_multipart_uploads::ListMultipartUploadsOutput;
use aws_sdk_s3::operation::list_objects::ListObjectsOutput;
use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use aws_sdk_s3::operation::list_parts::ListPartsOutput;

/// The interceptor.
#[derive(Debug)]
pub(super) struct WholeListings;

impl Intercept for WholeListings {
    fn name(&self) -> &'static str {
        "WholeListings"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let Ok(output) = context.output_or_error() else {
            return Ok(());
        };
        let root = if output.downcast_ref::<ListObjectsV2Output>().is_some()
            || output.downcast_ref::<ListObjectsOutput>().is_some()
        {
            "ListBucketResult"
        } else if output
            .downcast_ref::<ListMultipartUploadsOutput>()
            .is_some()
        {
            "ListMultipartUploadsResult"
        } else if output.downcast_ref::<ListPartsOutput>().is_some() {
            "ListPartsResult"
        } else {
            return Ok(());
        };
        match context.response().body().bytes() {
            Some(body) if !ends_with(body, root) => {
                Err(format!("the store's answer does not end with {root}: it was cut").into())
            }
            _ => Ok(()),
        }
    }
}

/// True if the last tag of the document is that of `root`, with or without a namespace.
fn ends_with(document: &[u8], root: &str) -> bool {
    let document = document.trim_ascii_end();
    let Some(begin) = document.iter().rposition(|byte| *byte == b'<') else {
        return false;
    };
    let Some(tag) = document[begin + 1..].strip_suffix(b">") else {
        return false;
    };
    // an empty one may close itself: <ListBucketResult xmlns="..."/>
    let name = match (tag.strip_prefix(b"/"), tag.strip_suffix(b"/")) {
        (Some(name), _) | (None, Some(name)) => name,
        (None, None) => return false,
    };
    let name = name.split(u8::is_ascii_whitespace).next();
    let name = name.and_then(|name| name.rsplit(|byte| *byte == b':').next());
    name == Some(root.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_whole_if_its_root_is_closed() {
        let root = "ListBucketResult";
        for whole in [
            "<ListBucketResult><Name>b</Name></ListBucketResult>",
            "<?xml version=\"1.0\"?><ListBucketResult xmlns=\"x\"></ListBucketResult>\r\n",
            "<s3:ListBucketResult></s3:ListBucketResult >",
            "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"/>",
        ] {
            assert!(ends_with(whole.as_bytes(), root), "{whole}");
        }
        for cut in [
            "",
            " ",
            "<",
            "<ListBucketResult>",
            "<ListBucketResult><Contents><Key>a</Key></Contents>",
            "<ListBucketResult><Contents></Contents></ListBucket",
            "<ListBucketResult></ListBucketResult",
            "<html></html>",
        ] {
            assert!(!ends_with(cut.as_bytes(), root), "{cut}");
        }
    }
}
