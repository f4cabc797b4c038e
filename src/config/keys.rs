//! The table of keys: which keys exist, what each means and what holds when it is not set. Its rows stand in the files of
//! the sections; everything else about names is derived from them.

use std::fmt::Write as _;
use std::sync::LazyLock;

use super::sections;

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

/// All keys, in the order in which they are documented and printed.
pub fn table() -> &'static [Key] {
    static TABLE: LazyLock<Vec<Key>> = LazyLock::new(|| sections::KEYS.concat());
    &TABLE
}

/// The rows of the guide's table: key, environment variable, default, meaning.
pub fn markdown_rows() -> String {
    let mut rows = String::new();
    for key in table() {
        let variable = match (key.variable(), key.file_variable()) {
            (Some(name), Some(file)) => format!("`{name}`, `{file}`"),
            (Some(name), None) => format!("`{name}`"),
            (None, _) => String::new(),
        };
        let default = match key.default {
            DefaultValue::Text(text) => format!("`{text}`"),
            DefaultValue::Derived(words) => words.to_string(),
            DefaultValue::Unset => String::new(),
        };
        let allowed = match key.kind {
            Kind::Choice(words) => format!(" One of `{}`.", words.join("`, `")),
            Kind::Count(min, max) => format!(" {min} to {max}."),
            _ => String::new(),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            rows,
            "| `{}` | {variable} | {default} | {}{allowed} |",
            key.path, key.doc
        );
    }
    rows
}

/// The node at a path of the configuration.
pub(super) enum Place {
    Key(&'static Key),
    Section,
    Unknown,
}

/// The node at `path`, which may carry indices: `users[3].name`.
pub(super) fn place(path: &str) -> Place {
    let path = without_indices(path);
    if let Some(key) = find(&path) {
        return Place::Key(key);
    }
    let is_section = path.is_empty() || {
        let inside = format!("{path}.");
        table().iter().any(|key| key.path.starts_with(&inside))
    };
    if is_section {
        Place::Section
    } else {
        Place::Unknown
    }
}

/// The row of `path`, without indices.
pub(super) fn find(path: &str) -> Option<&'static Key> {
    table().iter().find(|key| key.path == path)
}

/// The row of `path`, which may carry indices.
pub(super) fn find_indexed(path: &str) -> Option<&'static Key> {
    find(&without_indices(path))
}

/// `COSGATE_UPLOAD__MIN_PART_SIZE` for `upload.min_part_size`.
pub(crate) fn variable(path: &str) -> String {
    PREFIX.to_string() + &path.replace('.', "__").to_uppercase()
}

/// The key that was probably meant by the unknown YAML path `path`.
pub(super) fn similar_path(path: &str) -> Option<String> {
    let path = without_indices(path);
    let last = path.rsplit('.').next().unwrap_or(&path);
    // A key at the wrong level is the commonest slip; no count of edits finds it.
    let mut elsewhere = table()
        .iter()
        .map(|key| key.path)
        .filter(|known| *known == last || known.ends_with(&format!(".{last}")))
        .filter(|known| !known.contains("[]"));
    if let (Some(only), None) = (elsewhere.next(), elsewhere.next()) {
        return Some(only.to_string());
    }
    let sections = table()
        .iter()
        .filter_map(|key| Some(key.path.split_once('.')?.0));
    closest(
        &path,
        table()
            .iter()
            .map(|key| key.path)
            .chain(sections)
            .map(str::to_string),
    )
}

/// The variable that was probably meant by the unknown variable `name`.
pub(super) fn similar_variable(name: &str) -> Option<String> {
    let own = table().iter().filter_map(Key::variable);
    let files = table().iter().filter_map(Key::file_variable);
    // Without the section's name, no count of edits finds it.
    let last = name.strip_prefix(PREFIX).unwrap_or(name).to_lowercase();
    if let Some(path) = similar_path(&last).filter(|path| path.ends_with(&format!(".{last}"))) {
        return Some(variable(&path));
    }
    let special = std::iter::once(CONFIG_VARIABLE.to_string());
    closest(name, own.chain(files).chain(special))
}

/// The candidate with the fewest edits from `name`, if it is close enough to be meant.
fn closest(name: &str, candidates: impl Iterator<Item = String>) -> Option<String> {
    // Far longer than any key, and the count of edits takes time by the square.
    if name.len() > 100 {
        return None;
    }
    let folded = name.to_lowercase();
    let own = folded.strip_prefix("cosgate_").unwrap_or(&folded);
    // One slip in four letters still reads as the word that was meant.
    let bound = (own.chars().count() / 4).clamp(1, 4);
    candidates
        .map(|known| (strsim::osa_distance(&folded, &known.to_lowercase()), known))
        .filter(|(edits, _)| *edits <= bound)
        .min()
        .map(|(_, known)| known)
}

/// `users[].name` for `users[3].name`.
fn without_indices(path: &str) -> String {
    let mut plain = String::with_capacity(path.len());
    let mut inside = false;
    for c in path.chars() {
        inside = inside && c != ']';
        if !inside {
            plain.push(c);
        }
        inside = inside || c == '[';
    }
    plain
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_a_name_of_its_own_and_a_sentence() {
        for (i, key) in table().iter().enumerate() {
            assert!(
                table()[..i].iter().all(|other| other.path != key.path),
                "{}",
                key.path
            );
            assert!(
                key.doc.ends_with('.') && !key.doc.contains('|'),
                "{}",
                key.path
            );
        }
    }

    #[test]
    fn no_variable_of_a_key_looks_like_the_file_variable_of_another() {
        let names: Vec<String> = table().iter().filter_map(Key::variable).collect();
        for key in table() {
            assert!(
                key.file_variable()
                    .is_none_or(|file| !names.contains(&file))
            );
        }
    }

    #[test]
    fn the_variable_follows_from_the_path() {
        assert_eq!(
            variable("upload.min_part_size"),
            "COSGATE_UPLOAD__MIN_PART_SIZE"
        );
    }

    #[test]
    fn paths_with_indices_find_their_row() {
        assert!(matches!(place("users[12].name"), Place::Key(key) if key.path == "users[].name"));
        assert!(matches!(place("users[0]"), Place::Section));
        assert!(matches!(place("users[0].nam"), Place::Unknown));
        assert!(matches!(place("upload"), Place::Section));
        assert!(matches!(place("uplo"), Place::Unknown));
    }

    #[test]
    fn slips_lead_to_the_key_that_was_meant() {
        for (slip, meant) in [
            ("listne", Some("listen")),
            ("uplod", Some("upload")),
            ("upload.min_partsize", Some("upload.min_part_size")),
            ("min_part_size", Some("upload.min_part_size")),
            ("users[0].nmae", Some("users[].name")),
            ("tea.pot", None),
        ] {
            assert_eq!(similar_path(slip).as_deref(), meant, "{slip}");
        }
        for (slip, meant) in [
            (
                "COSGATE_UPLOAD_MIN_PART_SIZE",
                Some("COSGATE_UPLOAD__MIN_PART_SIZE"),
            ),
            ("COSGATE_Log__Level", Some("COSGATE_LOG__LEVEL")),
            (
                "COSGATE_ACCESS_KEY_ID",
                Some("COSGATE_STORAGE__ACCESS_KEY_ID"),
            ),
            ("COSGATE_CONFG", Some("COSGATE_CONFIG")),
            ("COSGATE_TEAPOT", None),
        ] {
            assert_eq!(similar_variable(slip).as_deref(), meant, "{slip}");
        }
    }

    #[test]
    fn the_readme_rows_have_four_columns_and_show_no_row_twice() {
        let rows = markdown_rows();
        assert_eq!(rows.lines().count(), table().len());
        assert!(rows.lines().all(|row| row.matches('|').count() == 5));
        assert!(rows.contains("| `upload.concurrency` | `COSGATE_UPLOAD__CONCURRENCY` | `4` |"));
    }
}
