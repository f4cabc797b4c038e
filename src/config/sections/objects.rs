//! What new objects get besides their bytes, and the names that clients may give them: keys of `upload`, see `overrides` for those of
//! users and mounts.

use crate::config::error::printable;
use crate::config::keys::row::*;
use crate::config::parse::Parsed;
use crate::config::reader::Reader;

/// The rows of the table.
#[rustfmt::skip]
pub(in crate::config) const KEYS: &[Key] = &[
    key("upload.content_type", Text, Derived("by the ending of the name"),
        "Content type of new objects, such as `text/csv`."),
    key("upload.cache_control", Text, Unset,
        "`Cache-Control` of new objects, such as `max-age=3600`."),
    key("upload.tags", List, Unset,
        "Tags of new objects, as `name=value`, at most 9; takes the right `s3:PutObjectTagging`."),
    key("upload.metadata", List, Unset,
        "Metadata of new objects (`x-amz-meta-...`), as `name=value`, at most 1,024 bytes together."),
    key("upload.allow_names", List, Unset,
        "Patterns with `*` and `?`, in any case, such as `*.csv`: other names of files are refused with 553, in uploads and renames."),
    key("upload.deny_names", List, Unset,
        "Patterns of names that are refused, also where `upload.allow_names` has them."),
];

/// Names with values.
pub type Pairs = Vec<(String, String)>;

/// What new objects get besides their bytes, as `upload` says it for all.
#[derive(Debug, Clone, Default)]
pub struct NewObjects {
    /// Content type; none: by the ending of the name.
    pub content_type: Option<String>,
    /// `Cache-Control`
    pub cache_control: Option<String>,
    /// Tags; at most nine, since the tag of an interrupted upload needs a place.
    pub tags: Pairs,
    /// Metadata, with names in lower case.
    pub metadata: Pairs,
    /// The names of files.
    pub names: NamePatterns,
}

/// Patterns of names; each has at most 255 bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamePatterns {
    /// A name has to fit one of them; empty: all do.
    pub allow: Vec<String>,
    /// A name may fit none of them.
    pub deny: Vec<String>,
}

/// Reads what `upload` says for all.
pub(super) fn resolve(read: &mut Reader) -> NewObjects {
    let objects = NewObjects {
        content_type: read.optional("upload.content_type", content_type),
        cache_control: read.optional("upload.cache_control", header_value),
        tags: read.optional_list(TAGS, tag),
        metadata: read.optional_list(METADATA, metadatum),
        names: NamePatterns {
            allow: read.optional_list("upload.allow_names", name_pattern),
            deny: read.optional_list("upload.deny_names", name_pattern),
        },
    };
    for (key, pairs, bound) in [
        (TAGS, &objects.tags, too_many_tags as Bound),
        (METADATA, &objects.metadata, too_much_metadata),
    ] {
        if let (true, Some(advice)) = (read.is_valid(key), fault(pairs, bound)) {
            read.refuse(key, advice);
        }
    }
    objects
}

/// Why pairs that are sound one by one are too many.
pub(super) type Bound = fn(&Pairs) -> Option<&'static str>;

/// The fault of pairs that are sound one by one.
pub(super) fn fault(pairs: &Pairs, bound: Bound) -> Option<String> {
    let mut names: Vec<&str> = pairs.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    let twice = names.windows(2).find(|names| names[0] == names[1]);
    let twice = twice.map(|names| format!("{} is there twice; remove one", printable(names[0])));
    twice.or_else(|| bound(pairs).map(str::to_owned))
}

pub(super) fn too_many_tags(tags: &Pairs) -> Option<&'static str> {
    // as they stand in a header
    let encoded = |text: &str| -> usize {
        let bytes = text.bytes();
        bytes
            .map(|byte| if byte.is_ascii_alphanumeric() { 1 } else { 3 })
            .sum()
    };
    let lengths = tags
        .iter()
        .map(|(name, value)| encoded(name) + encoded(value) + "=&".len());
    if tags.len() > MAX_TAGS {
        Some(
            "an object has ten tags at most, and the tag of an interrupted upload needs one; write up to nine",
        )
    } else if lengths.sum::<usize>() > MAX_TAG_BYTES {
        Some(
            "tags go into a header; write up to 2,048 bytes together (each byte but letters and digits of ASCII counts three times)",
        )
    } else {
        None
    }
}

pub(super) fn too_much_metadata(metadata: &Pairs) -> Option<&'static str> {
    let bytes: usize = metadata
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    (bytes > MAX_METADATA_BYTES).then_some(
        "an object's metadata has 2 KiB at most, and the gateway adds its own; write up to 1,024 bytes of names and values",
    )
}

pub(super) fn content_type(text: &str) -> Parsed<String> {
    let is_type = text
        .split_once('/')
        .is_some_and(|(kind, rest)| !kind.is_empty() && !rest.is_empty());
    match header_value(text) {
        Ok(text) if is_type => Ok(text),
        _ => Err("this is no content type; write one such as text/csv".into()),
    }
}

/// The value of an HTTP header.
pub(super) fn header_value(text: &str) -> Parsed<String> {
    let is_sound = text
        .bytes()
        .all(|byte| byte == b' ' || byte.is_ascii_graphic());
    if is_sound && text.len() <= MAX_HEADER_BYTES && text.trim() == text {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "it goes into a header: write up to {MAX_HEADER_BYTES} printable ASCII characters, without spaces at its ends"
        ))
    }
}

fn pair(text: &str) -> Parsed<(&str, &str)> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim(), value.trim())),
        _ => Err("write name=value".into()),
    }
}

/// A tag, of the characters and lengths that every store takes
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-tagging.html>,
/// <https://www.tencentcloud.com/document/product/436/35665>).
pub(super) fn tag(text: &str) -> Parsed<(String, String)> {
    let (name, value) = pair(text)?;
    let is_sound = |text: &str| {
        text.chars().all(|c| {
            c.is_alphanumeric() || matches!(c, ' ' | '+' | '-' | '=' | '.' | '_' | ':' | '/' | '@')
        })
    };
    let lengths = name.chars().count() <= 127 && (1..=255).contains(&value.chars().count());
    if !lengths || !is_sound(name) || !is_sound(value) {
        Err("a tag has a name of 1 to 127 and a value of 1 to 255 letters, digits, spaces and + - = . _ : / @".into())
    } else if is_own(name) {
        Err("names that begin with cosgate- or aws: are taken; choose another".into())
    } else {
        Ok((name.to_owned(), value.to_owned()))
    }
}

pub(super) fn metadatum(text: &str) -> Parsed<(String, String)> {
    let (name, value) = pair(text)?;
    let name = name.to_ascii_lowercase();
    let is_name = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    if !is_name {
        Err("a name of metadata has letters, digits, - _ and .".into())
    } else if is_own(&name) || OWN_METADATA.contains(&name.as_str()) {
        Err("the gateway sets metadata of this name itself; choose another".into())
    } else if value.is_empty() {
        Err("the value is empty; write name=value".into())
    } else {
        Ok((name, header_value(value)?))
    }
}

fn is_own(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.starts_with("cosgate-") || name.starts_with("aws:")
}

pub(super) fn name_pattern(text: &str) -> Parsed<String> {
    if text.is_empty()
        || text.len() > 255
        || text.contains('/')
        || text.chars().any(char::is_control)
    {
        Err("a pattern is for the last part of a path: write 1 to 255 bytes with * and ?, such as *.exe, and no /".into())
    } else {
        Ok(text.to_owned())
    }
}

const TAGS: &str = "upload.tags";
const METADATA: &str = "upload.metadata";
const MAX_TAGS: usize = 9;
/// A quarter of what a store takes for all headers of a request (8 KB).
const MAX_TAG_BYTES: usize = 2048;
const MAX_METADATA_BYTES: usize = 1024;
const MAX_HEADER_BYTES: usize = 255;

/// Names that the gateway gives a meaning.
const OWN_METADATA: &[&str] = &["mtime", "trace-id"];
