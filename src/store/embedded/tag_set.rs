//! The tags of one object, and the header `x-amz-tagging`.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;
use s3s::{S3Error, s3_error};

use super::fault::Fault;

/// Tags of one object, names and values in letters, as on AWS
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-tagging.html>).
const MAX_TAGS: usize = 10;
const MAX_NAME: usize = 128;
const MAX_VALUE: usize = 256;

/// Tags by their names.
pub(super) type Tags = BTreeMap<String, String>;

/// The tags in `x-amz-tagging`, which has the form of a URL's query.
pub(super) fn parse(header: Option<&str>) -> Result<Tags, Fault> {
    let pairs = header.unwrap_or_default().split('&');
    let pairs = pairs.filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Some((decoded(name)?, decoded(value)?))
    });
    checked(pairs.collect::<Option<Vec<_>>>().ok_or_else(invalid_tag)?)
}

fn decoded(text: &str) -> Option<String> {
    let text = text.replace('+', " ");
    Some(percent_decode_str(&text).decode_utf8().ok()?.into_owned())
}

pub(super) fn checked(pairs: Vec<(String, String)>) -> Result<Tags, Fault> {
    if pairs.len() > MAX_TAGS {
        return Err(s3_error!(InvalidTag, "Object tags cannot be greater than 10").into());
    }
    let count = pairs.len();
    let is_valid = |(name, value): &(String, String)| {
        (1..=MAX_NAME).contains(&name.chars().count()) && value.chars().count() <= MAX_VALUE
    };
    let all_valid = pairs.iter().all(is_valid);
    let tags: Tags = pairs.into_iter().collect();
    if !all_valid || tags.len() < count {
        return Err(invalid_tag().into());
    }
    Ok(tags)
}

pub(super) fn invalid_tag() -> S3Error {
    s3_error!(
        InvalidTag,
        "A tag has no name, is too long, or is there twice."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_a_query_and_what_is_no_tag_is_refused() {
        let tags = parse(Some("a=1&b%20c=%C3%A4+x&d")).unwrap();
        let pairs = [("a", "1"), ("b c", "ä x"), ("d", "")];
        assert_eq!(
            tags,
            pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).into()
        );
        assert!(parse(None).unwrap().is_empty());
        let many: Vec<String> = (0..=MAX_TAGS).map(|n| format!("t{n}=")).collect();
        for bad in ["=1", "a=1&a=2", "a=%ff", &many.join("&"), &"n".repeat(129)] {
            assert!(parse(Some(bad)).is_err(), "{bad}");
        }
    }
}
