//! The table of keys. What reads a source gets one, and knows no key by itself.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write as _;

use super::error::{REDACTED, printable};
use super::keys::{CONFIG_VARIABLE, DefaultValue, FILE_SUFFIX, Key, Kind, PREFIX, variable};

/// The keys that may stand in a configuration, or in a document that is a part of one.
#[derive(Clone, Copy)]
pub(crate) struct Table(&'static Rows);

/// The rows of a table.
pub(super) struct Rows {
    keys: Vec<Key>,
    /// Each path with the index of its key; none: it is a section.
    paths: HashMap<&'static str, Option<usize>>,
}

impl Rows {
    /// The rows of `sections`, in their order.
    pub(super) fn new(sections: &[&'static [Key]]) -> Self {
        let keys = sections.concat();
        let mut paths = HashMap::new();
        for (index, key) in keys.iter().enumerate() {
            for (end, _) in key.path.match_indices('.') {
                paths.entry(&key.path[..end]).or_insert(None);
            }
            paths.insert(key.path, Some(index));
        }
        Rows { keys, paths }
    }
}

/// The result of looking a path up in the table of the configuration.
pub(super) enum Lookup {
    Key(&'static Key),
    Section,
    Unknown,
}

impl Table {
    /// The table of these rows.
    pub(super) fn new(rows: &'static Rows) -> Self {
        Table(rows)
    }

    /// The rows, in the order in which they are documented and printed.
    pub(super) fn rows(self) -> &'static [Key] {
        &self.0.keys
    }

    /// The rows of the guide's table: key, environment variable, default, meaning.
    pub(super) fn markdown_rows(self) -> String {
        let mut rows = String::new();
        for key in self.rows() {
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

    /// Looks `path` up, which may carry indices: `users[3].name`.
    pub(super) fn look_up(self, path: &str) -> Lookup {
        let path = without_indices(path);
        match self.0.paths.get(&*path) {
            Some(Some(index)) => Lookup::Key(&self.0.keys[*index]),
            Some(None) => Lookup::Section,
            None if path.is_empty() => Lookup::Section,
            None => Lookup::Unknown,
        }
    }

    /// The row of `path`, without indices.
    pub(super) fn find(self, path: &str) -> Option<&'static Key> {
        let index = self.0.paths.get(path).copied().flatten();
        index.map(|index| &self.0.keys[index])
    }

    /// The row of `path`, which may carry indices.
    pub(super) fn find_indexed(self, path: &str) -> Option<&'static Key> {
        self.find(&without_indices(path))
    }

    /// The key that was probably meant by the unknown YAML path `path`.
    pub(super) fn similar_path(self, path: &str) -> Option<String> {
        let path = without_indices(path);
        let last = path.rsplit('.').next().unwrap_or(&path);
        // A key at the wrong level is the commonest slip; no count of edits finds it.
        let mut elsewhere = self
            .rows()
            .iter()
            .map(|key| key.path)
            .filter(|known| {
                let outer = known.strip_suffix(last);
                outer.is_some_and(|outer| outer.is_empty() || outer.ends_with('.'))
            })
            .filter(|known| !known.contains("[]"));
        if let (Some(only), None) = (elsewhere.next(), elsewhere.next()) {
            return Some(only.to_string());
        }
        let known = self.0.paths.keys().copied();
        closest(&path, known).map(str::to_string)
    }

    /// The variable that was probably meant by the unknown variable `name`.
    pub(super) fn similar_variable(self, name: &str) -> Option<String> {
        let own = self.rows().iter().filter_map(Key::variable);
        let files = self.rows().iter().filter_map(Key::file_variable);
        // Without the section's name, no count of edits finds it.
        let last = name.strip_prefix(PREFIX).unwrap_or(name).to_lowercase();
        if let Some(path) = self
            .similar_path(&last)
            .filter(|path| path.ends_with(&format!(".{last}")))
        {
            return Some(variable(&path));
        }
        let special = std::iter::once(CONFIG_VARIABLE.to_string());
        closest(name, own.chain(files).chain(special))
    }

    /// The key whose variable is `name`.
    pub(super) fn of_variable(self, name: &str) -> Option<&'static Key> {
        let path = name.strip_prefix(PREFIX)?;
        let key = self.find(&path.to_lowercase().replace("__", "."))?;
        (key.variable().as_deref() == Some(name)).then_some(key)
    }

    /// The secret whose `_FILE` variable is `name`.
    pub(super) fn of_file_variable(self, name: &str) -> Option<&'static Key> {
        let key = self.of_variable(name.strip_suffix(FILE_SUFFIX)?)?;
        key.is_secret().then_some(key)
    }

    /// The range that the table gives the number at `path`.
    pub(super) fn count_range(self, path: &str) -> (u64, u64) {
        match self.find(path).map(|key| key.kind) {
            Some(Kind::Count(min, max)) => (min, max),
            _ => (0, u64::MAX),
        }
    }

    /// The value of the key at `path` as it may be shown to anybody.
    pub(super) fn shown(self, path: &str, text: &str) -> String {
        let secret = self.find_indexed(path).is_none_or(Key::is_secret);
        // `https://user:password@host` is refused where a URL is wanted, but not by being repeated.
        let carries_login = text.contains('@') && text.contains("//");
        if secret || carries_login {
            REDACTED.to_string()
        } else {
            printable(text)
        }
    }
}

/// The candidate with the fewest edits from `name`, if it is close enough to be meant. Candidates are ASCII.
fn closest<C: AsRef<str> + Ord>(name: &str, candidates: impl Iterator<Item = C>) -> Option<C> {
    // Far longer than any key, and the count of edits takes time by the square.
    if name.len() > 100 {
        return None;
    }
    let folded = name.to_lowercase();
    let own = folded.strip_prefix("cosgate_").unwrap_or(&folded);
    // One slip in four letters still reads as the word that was meant.
    let bound = (own.chars().count() / 4).clamp(1, 4);
    let length = folded.chars().count();
    let edits = |known: &str| strsim::osa_distance(&folded, &known.to_lowercase());
    candidates
        // the edits are no fewer than these, which are quick to count
        .filter(|known| known.as_ref().len().abs_diff(length) <= bound)
        .filter(|known| surplus(&folded, known.as_ref()) <= bound)
        .map(|known| (edits(known.as_ref()), known))
        .filter(|(edits, _)| *edits <= bound)
        .min()
        .map(|(_, known)| known)
}

/// The letters of `name` that `known` lacks, taken together with those at 32 letters' distance.
fn surplus(name: &str, known: &str) -> usize {
    let mut left = [0_usize; 32];
    let place = |c: char| u32::from(c) as usize % 32;
    for c in known.chars() {
        left[place(c)] += 1;
    }
    let is_surplus = |c: &char| {
        let left = &mut left[place(*c)];
        let is_surplus = *left == 0;
        *left = left.saturating_sub(1);
        is_surplus
    };
    name.chars().filter(is_surplus).count()
}

/// `users[].name` for `users[3].name`.
fn without_indices(path: &str) -> Cow<'_, str> {
    if !path.contains('[') {
        return Cow::Borrowed(path);
    }
    let mut plain = String::with_capacity(path.len());
    let mut inside = false;
    for c in path.chars() {
        inside = inside && c != ']';
        if !inside {
            plain.push(c);
        }
        inside = inside || c == '[';
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::sections::table;

    #[test]
    fn every_row_has_a_name_of_its_own_and_a_sentence() {
        for (i, key) in table().rows().iter().enumerate() {
            assert!(
                table().rows()[..i]
                    .iter()
                    .all(|other| other.path != key.path),
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
        let names: Vec<String> = table().rows().iter().filter_map(Key::variable).collect();
        for key in table().rows() {
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
        assert!(
            matches!(table().look_up("users[12].name"), Lookup::Key(key) if key.path == "users[].name")
        );
        assert!(matches!(table().look_up("users[0]"), Lookup::Section));
        assert!(matches!(table().look_up("users[0].nam"), Lookup::Unknown));
        assert!(matches!(table().look_up("upload"), Lookup::Section));
        assert!(matches!(table().look_up("uplo"), Lookup::Unknown));
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
            assert_eq!(table().similar_path(slip).as_deref(), meant, "{slip}");
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
            assert_eq!(table().similar_variable(slip).as_deref(), meant, "{slip}");
        }
    }

    #[test]
    fn the_readme_rows_have_four_columns_and_show_no_row_twice() {
        let rows = table().markdown_rows();
        assert_eq!(rows.lines().count(), table().rows().len());
        assert!(rows.lines().all(|row| row.matches('|').count() == 5));
        assert!(rows.contains("| `upload.concurrency` | `COSGATE_UPLOAD__CONCURRENCY` | `4` |"));
    }

    #[test]
    fn secrets_and_urls_with_a_login_are_not_shown() {
        assert_eq!(table().shown("storage.session_token", "abc"), "***");
        assert_eq!(table().shown("users[4].password_hash", "abc"), "***");
        assert_eq!(table().shown("no.such.key", "abc"), "***");
        assert_eq!(table().shown("storage.endpoint", "https://a:b@host"), "***");
        assert_eq!(
            table().shown("storage.endpoint", "https://host"),
            "https://host"
        );
    }
}
