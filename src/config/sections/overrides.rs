//! What users and mounts have in the place of keys of `upload`: `users[].upload` and `users[].mounts[].upload`.

use strum::VariantNames;

use super::objects::{
    Bound, NamePatterns, Pairs, content_type, fault, header_value, metadatum, name_pattern, tag,
    too_many_tags, too_much_metadata,
};
use super::upload::{ENCRYPTIONS, OnInterrupt, kms_key, storage_class};
use crate::config::error::printable;
use crate::config::keys::row::*;
use crate::config::parse::{self, Parsed};
use crate::config::reader::{Reader, Refused};

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
            allow: self.allow_names.as_ref().unwrap_or(&common.allow).clone(),
            deny: self.deny_names.as_ref().unwrap_or(&common.deny).clone(),
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

/// Reads the overrides of entry `index` of `list`, a user or a mount.
pub(super) fn read(
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
