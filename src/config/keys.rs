//! A key of the configuration: its name, what it means and what holds when it is not set. The rows stand in the files of the
//! sections, and are put together to a [`Table`](super::table::Table) there.

/// One key of the configuration.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Path in YAML; `users[].name` is a key of each entry of `users`.
    pub path: &'static str,
    /// The type of its text.
    pub kind: Kind,
    /// The default of the key.
    pub default: DefaultValue,
    /// One sentence: meaning, unit, range.
    pub doc: &'static str,
}

/// The type of a key's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text with rules of its own.
    Text,
    /// Text that is never shown and may come from a file of its own.
    Secret,
    /// Texts; one text with commas in between, or a YAML list.
    List,
    /// A YAML list of sections, the keys of which are in the table with `[]`.
    Sections,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A number of bytes with a unit, such as `8MiB`; never 0.
    Size,
    /// A time with its unit, such as `30s`; never 0.
    Duration,
    /// A whole number, from the first to the second.
    Count(u64, u64),
}

/// The default of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DefaultValue {
    /// This text, as if somebody had written it.
    Text(&'static str),
    /// Worked out at start; the words say how.
    Derived(&'static str),
    /// Nothing.
    Unset,
}

impl Key {
    /// True if the value must never be shown.
    pub fn is_secret(&self) -> bool {
        self.kind == Kind::Secret
    }

    /// The environment variable of this key; none for the keys of list entries.
    pub fn variable(&self) -> Option<String> {
        (!self.path.contains("[]")).then(|| variable(self.path))
    }

    /// The variable that names a file with the value; secrets have one.
    pub fn file_variable(&self) -> Option<String> {
        self.variable()
            .filter(|_| self.is_secret())
            .map(|name| name + FILE_SUFFIX)
    }

    /// The default as text, where it is one.
    pub fn default_text(&self) -> Option<&'static str> {
        match self.default {
            DefaultValue::Text(text) => Some(text),
            DefaultValue::Derived(_) | DefaultValue::Unset => None,
        }
    }
}

/// `COSGATE_UPLOAD__MIN_PART_SIZE` for `upload.min_part_size`.
pub(crate) fn variable(path: &str) -> String {
    PREFIX.to_string() + &path.replace('.', "__").to_uppercase()
}

/// The prefix of all variables.
pub(super) const PREFIX: &str = "COSGATE_";
/// Names the YAML file; a variable, but no key.
pub(super) const CONFIG_VARIABLE: &str = "COSGATE_CONFIG";
/// Makes the variable of a secret the name of a file.
pub(super) const FILE_SUFFIX: &str = "_FILE";

/// The means with which the sections write their rows.
pub(super) mod row {
    pub(in crate::config) use super::DefaultValue::{Derived, Text as Is, Unset};
    pub(in crate::config) use super::Key;
    pub(in crate::config) use super::Kind::{
        Choice, Count, Duration as Time, List, Secret, Sections, Size, Text,
    };
    use super::{DefaultValue, Kind};

    /// The words of keys that are on or off.
    pub(in crate::config) const SWITCH: &[&str] = &["true", "false"];

    /// One row.
    pub(in crate::config) const fn key(
        path: &'static str,
        kind: Kind,
        default: DefaultValue,
        doc: &'static str,
    ) -> Key {
        Key {
            path,
            kind,
            default,
            doc,
        }
    }
}
