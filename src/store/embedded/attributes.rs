//! The headers of an object: which are kept, which are refused, and how they are returned.

use hyper::HeaderMap;
use s3s::dto::{Metadata, StorageClass, Timestamp, TimestampFormat};
use s3s::{S3ErrorCode, s3_error};

use super::fault::Fault;
use super::records::Attributes;

/// The attributes in an input of PutObject, CopyObject or CreateMultipartUpload, which have the
/// same fields and no type in common.
macro_rules! attributes_of {
    ($input:expr) => {
        $crate::store::embedded::attributes::attributes(
            $crate::store::embedded::records::Attributes {
                cache_control: $input.cache_control.take(),
                content_disposition: $input.content_disposition.take(),
                content_encoding: $input.content_encoding.take(),
                content_language: $input.content_language.take(),
                content_type: $input.content_type.take(),
                tags: $crate::store::embedded::tag_set::parse($input.tagging.take().as_deref())?,
                ..Default::default()
            },
            $input.expires.take(),
            $input.storage_class.take(),
            $input.metadata.take(),
        )
    };
}
pub(super) use attributes_of;

/// Sets the fields that GetObject's and HeadObject's outputs have in common.
macro_rules! set_attributes {
    ($output:expr, $object:expr) => {{
        let (output, object) = (&mut $output, $object);
        let attributes = &object.attributes;
        output.accept_ranges = Some("bytes".to_owned());
        output.e_tag = Some(ETag::Strong(object.etag.clone()));
        output.last_modified = Some(timestamp(object.modified));
        output.cache_control = attributes.cache_control.clone();
        output.content_disposition = attributes.content_disposition.clone();
        output.content_encoding = attributes.content_encoding.clone();
        output.content_language = attributes.content_language.clone();
        output.content_type = attributes.content_type.clone();
        output
            .content_type
            .get_or_insert_with(|| "binary/octet-stream".to_owned());
        output.expires = $crate::store::embedded::attributes::expires(attributes);
        // As on AWS, STANDARD is not mentioned.
        output.storage_class = attributes.storage_class.clone().map(Into::into);
        output.metadata = Some(attributes.metadata.clone().into_iter().collect());
    }};
}
pub(super) use set_attributes;

/// Sets the one field for the algorithm of a checksum. Outputs have a field for each.
macro_rules! set_checksum {
    ($output:expr, $checksum:expr) => {
        if let Some(checksum) = $checksum {
            use $crate::store::embedded::checksum::Algorithm;
            let value = Some(checksum.value.clone());
            match checksum.algorithm {
                Algorithm::Crc32 => $output.checksum_crc32 = value,
                Algorithm::Crc64Nvme => $output.checksum_crc64nvme = value,
            }
        }
    };
}
pub(super) use set_checksum;

/// The checksum that an input declares in the field for `algorithm`.
macro_rules! declared_checksum {
    ($input:expr, $algorithm:expr) => {{
        use $crate::store::embedded::checksum::Algorithm;
        match $algorithm {
            Algorithm::Crc32 => $input.checksum_crc32.as_deref(),
            Algorithm::Crc64Nvme => $input.checksum_crc64nvme.as_deref(),
        }
    }};
}
pub(super) use declared_checksum;

/// Completes attributes with the fields that need a look.
///
/// # Errors
///
/// `MetadataTooLarge` over 2 KiB of names and values, as on AWS; `InvalidStorageClass`.
pub(super) fn attributes(
    mut attributes: Attributes,
    expires: Option<Timestamp>,
    storage_class: Option<StorageClass>,
    metadata: Option<Metadata>,
) -> Result<Attributes, Fault> {
    attributes.content_encoding = attributes.content_encoding.and_then(without_aws_chunked);
    attributes.expires = expires.and_then(|expires| {
        let mut text = Vec::new();
        expires.format(TimestampFormat::HttpDate, &mut text).ok()?;
        String::from_utf8(text).ok()
    });
    attributes.storage_class = storage_class
        .map(|class| class.as_str().to_owned())
        .filter(|class| class != StorageClass::STANDARD);
    if attributes
        .storage_class
        .as_deref()
        .is_some_and(|class| !STORAGE_CLASSES.contains(&class))
    {
        return Err(s3_error!(
            InvalidStorageClass,
            "The storage class you specified is not valid"
        )
        .into());
    }
    attributes.metadata = metadata.into_iter().flatten().collect();
    let bytes: usize = attributes
        .metadata
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    if bytes > MAX_METADATA_BYTES {
        return Err(s3_error!(
            MetadataTooLarge,
            "Your metadata headers exceed the maximum allowed metadata size"
        )
        .into());
    }
    Ok(attributes)
}

pub(super) fn expires(attributes: &Attributes) -> Option<Timestamp> {
    Timestamp::parse(TimestampFormat::HttpDate, attributes.expires.as_deref()?).ok()
}

/// `aws-chunked` describes how the request was sent, not the object.
fn without_aws_chunked(encoding: String) -> Option<String> {
    let kept: Vec<&str> = encoding
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty() && !name.eq_ignore_ascii_case("aws-chunked"))
        .collect();
    (!kept.is_empty()).then(|| kept.join(","))
}

/// Refuses a request whose headers ask for something that the store would silently not do.
pub(super) fn refuse_unsupported(headers: &HeaderMap) -> Result<(), Fault> {
    let unsupported = |name: &str, value: &[u8]| match name {
        "x-amz-acl" => value != b"private" && value != b"bucket-owner-full-control",
        "if-unmodified-since"
        | "x-amz-mp-object-size"
        | "x-amz-website-redirect-location"
        | "x-amz-write-offset-bytes" => true,
        _ => UNSUPPORTED_PREFIXES
            .iter()
            .any(|prefix| name.starts_with(prefix)),
    };
    let refused = headers
        .iter()
        .find(|(name, value)| unsupported(name.as_str(), value.as_bytes()));
    match refused {
        None => Ok(()),
        Some((name, _)) => Err(Fault::refused(
            S3ErrorCode::NotImplemented,
            format!(
                "A header you provided implies functionality that is not implemented by the \
                 embedded store: {name}"
            ),
        )),
    }
}

const UNSUPPORTED_PREFIXES: [&str; 7] = [
    "x-amz-checksum-crc32c",
    "x-amz-checksum-sha",
    "x-amz-copy-source-if-modified-since",
    "x-amz-copy-source-if-unmodified-since",
    "x-amz-server-side-encryption",
    "x-amz-object-lock-",
    "x-amz-grant-",
];

/// User metadata of one object: names and values together, in bytes.
const MAX_METADATA_BYTES: usize = 2 << 10;

/// The classes of AWS and of Tencent COS. They are kept and returned, and change nothing else.
const STORAGE_CLASSES: [&str; 14] = [
    "STANDARD_IA",
    "ONEZONE_IA",
    "INTELLIGENT_TIERING",
    "REDUCED_REDUNDANCY",
    "GLACIER",
    "GLACIER_IR",
    "DEEP_ARCHIVE",
    "OUTPOSTS",
    "EXPRESS_ONEZONE",
    "ARCHIVE",
    "MAZ_STANDARD",
    "MAZ_STANDARD_IA",
    "MAZ_INTELLIGENT_TIERING",
    "MAZ_ARCHIVE",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aws_chunked_is_not_kept_as_an_encoding() {
        let kept = |encoding: &str| without_aws_chunked(encoding.to_owned());
        assert_eq!(kept("aws-chunked"), None);
        assert_eq!(kept("aws-chunked, gzip").as_deref(), Some("gzip"));
        assert_eq!(kept("gzip,br").as_deref(), Some("gzip,br"));
    }

    #[test]
    fn a_header_that_would_be_ignored_is_refused_by_name() {
        let refused = |name: &'static str, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            refuse_unsupported(&headers).is_err()
        };
        assert!(refused("x-amz-server-side-encryption", "AES256"));
        assert!(refused("x-amz-acl", "public-read"));
        assert!(refused("x-amz-checksum-sha256", "x"));
        assert!(!refused("x-amz-checksum-crc32", "x"));
        assert!(!refused("x-amz-acl", "private"));
        assert!(!refused("x-amz-meta-acl", "public-read"));
    }
}
