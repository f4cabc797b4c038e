//! What new objects get besides their bytes, and the names that clients may give them: keys of `upload` that users and mounts may have
//! of their own, as `users[].upload` and `users[].mounts[].upload`.

use super::upload::{ENCRYPTIONS, OnInterrupt, kms_key, storage_class};
use crate::config::error::printable;
use crate::config::keys::row::*;
use crate::config::parse::{self, Parsed};
use crate::config::reader::{Reader, Refused};
use strum::VariantNames;

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

/// The rows of users.
#[rustfmt::skip]
pub(in crate::config) const USER_KEYS: &[Key] = &[
    key("users[].upload.storage_class", Text, Derived("`upload.storage_class`"),
        "In the place of `upload.storage_class`, for the user's uploads; the keys that follow likewise."),
    key("users[].upload.server_side_encryption", Choice(ENCRYPTIONS), Derived("`upload.server_side_encryption`"),
        "With a value of the user's own, `upload.kms_key_id` doesn't hold."),
    key("users[].upload.kms_key_id", Text, Derived("`upload.kms_key_id`"),
        "Key for server-side encryption."),
    key("users[].upload.content_type", Text, Derived("`upload.content_type`"),
        "Content type."),
    key("users[].upload.cache_control", Text, Derived("`upload.cache_control`"),
        "`Cache-Control`."),
    key("users[].upload.tags", List, Derived("`upload.tags`"),
        "Tags."),
    key("users[].upload.metadata", List, Derived("`upload.metadata`"),
        "Metadata."),
    key("users[].upload.on_interrupt", Choice(OnInterrupt::VARIANTS), Derived("`upload.on_interrupt`"),
        "What becomes of an upload that breaks off."),
    key("users[].upload.overwrite", Choice(SWITCH), Derived("`upload.overwrite`"),
        "Whether a file may replace an older one; the right `overwrite` is needed besides."),
    key("users[].upload.allow_names", List, Derived("`upload.allow_names`"),
        "Patterns of names that are accepted."),
    key("users[].upload.deny_names", List, Derived("`upload.deny_names`"),
        "Patterns of names that are refused."),
];

/// The rows of mounts.
#[rustfmt::skip]
pub(in crate::config) const MOUNT_KEYS: &[Key] = &[
    key("users[].mounts[].max_file_size", Size, Derived("`users[].max_file_size`"),
        "Largest file the user may store there; `upload.max_file_size` holds besides."),
    key("users[].mounts[].upload.storage_class", Text, Derived("`users[].upload.storage_class`"),
        "In the place of the user's, for uploads into the mount; the keys that follow likewise."),
    key("users[].mounts[].upload.server_side_encryption", Choice(ENCRYPTIONS), Derived("`users[].upload.server_side_encryption`"),
        "With a value of the mount's own, the user's and the common key don't hold."),
    key("users[].mounts[].upload.kms_key_id", Text, Derived("`users[].upload.kms_key_id`"),
        "Key for server-side encryption."),
    key("users[].mounts[].upload.content_type", Text, Derived("`users[].upload.content_type`"),
        "Content type."),
    key("users[].mounts[].upload.cache_control", Text, Derived("`users[].upload.cache_control`"),
        "`Cache-Control`."),
    key("users[].mounts[].upload.tags", List, Derived("`users[].upload.tags`"),
        "Tags."),
    key("users[].mounts[].upload.metadata", List, Derived("`users[].upload.metadata`"),
        "Metadata."),
    key("users[].mounts[].upload.on_interrupt", Choice(OnInterrupt::VARIANTS), Derived("`users[].upload.on_interrupt`"),
        "What becomes of an upload that breaks off."),
    key("users[].mounts[].upload.overwrite", Choice(SWITCH), Derived("`users[].upload.overwrite`"),
        "Whether a file may replace an older one; the mount's right `overwrite` is needed besides."),
    key("users[].mounts[].upload.allow_names", List, Derived("`users[].upload.allow_names`"),
        "Patterns of names that are accepted."),
    key("users[].mounts[].upload.deny_names", List, Derived("`users[].upload.deny_names`"),
        "Patterns of names that are refused."),
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

/// A user's or a mount's own, in the place of what `upload` says; none: what it says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UploadOverrides {
    /// Of new objects.
    pub objects: ObjectOverrides,
    /// [`NamePatterns::allow`]
    pub allow_names: Option<Vec<String>>,
    /// [`NamePatterns::deny`]
    pub deny_names: Option<Vec<String>>,
}

/// The overrides that the store's requests depend on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct ObjectOverrides {
    /// Storage class.
    pub storage_class: Option<String>,
    /// Algorithm of server-side encryption; with one, the common key doesn't hold.
    pub server_side_encryption: Option<String>,
    /// Key for it.
    pub kms_key_id: Option<String>,
    /// Content type.
    pub content_type: Option<String>,
    /// `Cache-Control`
    pub cache_control: Option<String>,
    /// Tags.
    pub tags: Option<Pairs>,
    /// Metadata.
    pub metadata: Option<Pairs>,
    /// The fate of an upload that breaks off.
    pub on_interrupt: Option<OnInterrupt>,
    /// True if a file may replace an older one.
    pub overwrite: Option<bool>,
}

impl ObjectOverrides {
    /// True if there is something that a store may refuse.
    pub fn say_how_to_store(&self) -> bool {
        let common = ObjectOverrides {
            on_interrupt: self.on_interrupt,
            overwrite: self.overwrite,
            ..ObjectOverrides::default()
        };
        *self != common
    }
}

impl UploadOverrides {
    /// The patterns that hold.
    pub fn names(&self, common: &NamePatterns) -> NamePatterns {
        NamePatterns {
            allow: self.allow_names.clone().unwrap_or(common.allow.clone()),
            deny: self.deny_names.clone().unwrap_or(common.deny.clone()),
        }
    }

    /// A mount's, and what it leaves to those of its user.
    pub(super) fn or(&self, users: &UploadOverrides) -> UploadOverrides {
        fn first<T: Clone>(own: &Option<T>, users: &Option<T>) -> Option<T> {
            own.clone().or_else(|| users.clone())
        }
        let (own, other) = (&self.objects, &users.objects);
        let kms_key_id = match own.server_side_encryption {
            // the user's key is for the user's algorithm
            Some(_) => own.kms_key_id.clone(),
            None => first(&own.kms_key_id, &other.kms_key_id),
        };
        UploadOverrides {
            objects: ObjectOverrides {
                storage_class: first(&own.storage_class, &other.storage_class),
                server_side_encryption: first(
                    &own.server_side_encryption,
                    &other.server_side_encryption,
                ),
                kms_key_id,
                content_type: first(&own.content_type, &other.content_type),
                cache_control: first(&own.cache_control, &other.cache_control),
                tags: first(&own.tags, &other.tags),
                metadata: first(&own.metadata, &other.metadata),
                on_interrupt: own.on_interrupt.or(other.on_interrupt),
                overwrite: own.overwrite.or(other.overwrite),
            },
            allow_names: first(&self.allow_names, &users.allow_names),
            deny_names: first(&self.deny_names, &users.deny_names),
        }
    }
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

/// Reads the overrides of entry `index` of `list`, a user or a mount.
pub(super) fn overrides(
    read: &mut Reader,
    list: &str,
    index: usize,
) -> Result<UploadOverrides, Refused> {
    // every key is read, so that one run finds everything that is wrong
    let text = |read: &mut Reader, name, parse: fn(&str) -> Parsed<String>| {
        read.entry_optional(list, index, name, parse)
    };
    let storage_class = text(read, "upload.storage_class", storage_class);
    let encryption = text(read, "upload.server_side_encryption", |text| {
        parse::word(text, ENCRYPTIONS)
    });
    let kms_key_id = text(read, "upload.kms_key_id", kms_key);
    let content_type = text(read, "upload.content_type", content_type);
    let cache_control = text(read, "upload.cache_control", header_value);
    let tags = pairs(read, list, index, "upload.tags", tag, too_many_tags);
    let metadata = pairs(
        read,
        list,
        index,
        "upload.metadata",
        metadatum,
        too_much_metadata,
    );
    let on_interrupt = read.entry_optional(list, index, "upload.on_interrupt", parse::choice);
    let overwrite = read.entry_optional(list, index, "upload.overwrite", parse::switch);
    let allow = read.entry_list(list, index, "upload.allow_names", name_pattern);
    let deny = read.entry_list(list, index, "upload.deny_names", name_pattern);
    let if_set = |patterns: Vec<String>| Some(patterns).filter(|patterns| !patterns.is_empty());
    Ok(UploadOverrides {
        objects: ObjectOverrides {
            storage_class: storage_class?,
            server_side_encryption: encryption?,
            kms_key_id: kms_key_id?,
            content_type: content_type?,
            cache_control: cache_control?,
            tags: tags?,
            metadata: metadata?,
            on_interrupt: on_interrupt?,
            overwrite: overwrite?,
        },
        allow_names: if_set(allow?),
        deny_names: if_set(deny?),
    })
}

fn pairs(
    read: &mut Reader,
    list: &str,
    index: usize,
    name: &str,
    parse: fn(&str) -> Parsed<(String, String)>,
    bound: Bound,
) -> Result<Option<Pairs>, Refused> {
    let pairs = read.entry_list(list, index, name, parse)?;
    if let Some(advice) = fault(&pairs, bound) {
        read.refuse_entry(list, index, name, None, &advice);
        return Err(Refused);
    }
    Ok(Some(pairs).filter(|pairs| !pairs.is_empty()))
}

/// The overrides that are set, with their values.
pub(super) fn lines(overrides: &UploadOverrides) -> Vec<(&'static str, String)> {
    let UploadOverrides {
        objects,
        allow_names,
        deny_names,
    } = overrides;
    let listed = |pairs: &Pairs| {
        let pairs: Vec<_> = pairs
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        printable(&pairs.join(", "))
    };
    let text = |text: &Option<String>| text.as_deref().map(printable);
    let names =
        |names: &Option<Vec<String>>| names.as_ref().map(|names| printable(&names.join(", ")));
    let lines = [
        ("upload.storage_class", text(&objects.storage_class)),
        (
            "upload.server_side_encryption",
            text(&objects.server_side_encryption),
        ),
        ("upload.kms_key_id", text(&objects.kms_key_id)),
        ("upload.content_type", text(&objects.content_type)),
        ("upload.cache_control", text(&objects.cache_control)),
        ("upload.tags", objects.tags.as_ref().map(listed)),
        ("upload.metadata", objects.metadata.as_ref().map(listed)),
        (
            "upload.on_interrupt",
            objects.on_interrupt.map(|fate| fate.to_string()),
        ),
        (
            "upload.overwrite",
            objects.overwrite.map(|may| may.to_string()),
        ),
        ("upload.allow_names", names(allow_names)),
        ("upload.deny_names", names(deny_names)),
    ];
    let set = lines
        .into_iter()
        .filter_map(|(key, value)| Some((key, value?)));
    set.collect()
}

type Bound = fn(&Pairs) -> Option<&'static str>;

/// The fault of pairs that are sound one by one.
fn fault(pairs: &Pairs, bound: Bound) -> Option<String> {
    let mut names: Vec<&str> = pairs.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    let twice = names.windows(2).find(|names| names[0] == names[1]);
    let twice = twice.map(|names| format!("{} is there twice; remove one", printable(names[0])));
    twice.or_else(|| bound(pairs).map(str::to_owned))
}

fn too_many_tags(tags: &Pairs) -> Option<&'static str> {
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

fn too_much_metadata(metadata: &Pairs) -> Option<&'static str> {
    let bytes: usize = metadata
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    (bytes > MAX_METADATA_BYTES).then_some(
        "an object's metadata has 2 KiB at most, and the gateway adds its own; write up to 1,024 bytes of names and values",
    )
}

fn content_type(text: &str) -> Parsed<String> {
    let is_type = text
        .split_once('/')
        .is_some_and(|(kind, rest)| !kind.is_empty() && !rest.is_empty());
    match header_value(text) {
        Ok(text) if is_type => Ok(text),
        _ => Err("this is no content type; write one such as text/csv".into()),
    }
}

/// The value of an HTTP header.
fn header_value(text: &str) -> Parsed<String> {
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
fn tag(text: &str) -> Parsed<(String, String)> {
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

fn metadatum(text: &str) -> Parsed<(String, String)> {
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

fn name_pattern(text: &str) -> Parsed<String> {
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
