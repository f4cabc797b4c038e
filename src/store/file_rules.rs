//! The files that clients may store in a home: patterns of their names, and the largest size.

use wildmatch::WildMatch;

use crate::config::NamePatterns;
use crate::store::error::StoreError;

/// Patterns that a refusal names: a reply stays a line that people read.
const SHOWN: usize = 5;

/// Rules for new files, of uploads and of renames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRules {
    names: NamePatterns,
    max_bytes: u64,
}

impl Default for FileRules {
    /// All files.
    fn default() -> Self {
        FileRules {
            names: NamePatterns::default(),
            max_bytes: u64::MAX,
        }
    }
}

impl FileRules {
    /// Files whose last part of the path fits `names`, of up to `max_bytes`.
    pub fn new(names: NamePatterns, max_bytes: u64) -> Self {
        FileRules { names, max_bytes }
    }

    /// The size of the largest file.
    pub fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    /// Refuses a name for a file, with the rule that does.
    ///
    /// Case doesn't count: clients on Windows call the same program `A.EXE` and `a.exe`. Nor do dots and spaces at the end of a name that
    /// is denied, since Windows leaves them away.
    pub fn check_name(&self, name: &str) -> Result<(), StoreError> {
        let NamePatterns { allow, deny } = &self.names;
        let bare = name.trim_end_matches(['.', ' ']);
        for pattern in deny {
            let denied = WildMatch::new_case_insensitive(pattern);
            if denied.matches(name) || denied.matches(bare) {
                return Err(StoreError::NameRule {
                    rule: format!("deny_names: {pattern}"),
                });
            }
        }
        let mut allowed = allow
            .iter()
            .map(|pattern| WildMatch::new_case_insensitive(pattern));
        if !allow.is_empty() && !allowed.any(|pattern| pattern.matches(name)) {
            let (shown, more) = allow.split_at(allow.len().min(SHOWN));
            let more = if more.is_empty() { "" } else { ", ..." };
            return Err(StoreError::NameRule {
                rule: format!("allow_names: {}{more}", shown.join(", ")),
            });
        }
        Ok(())
    }

    /// Refuses a file of this size.
    pub fn check_size(&self, bytes: u64) -> Result<(), StoreError> {
        match bytes > self.max_bytes {
            true => Err(StoreError::TooLarge {
                limit: self.max_bytes,
            }),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(allow: &[&str], deny: &[&str], name: &str) -> Option<String> {
        let patterns = |patterns: &[&str]| patterns.iter().map(|it| (*it).to_owned()).collect();
        let names = NamePatterns {
            allow: patterns(allow),
            deny: patterns(deny),
        };
        let checked = FileRules::new(names, 0).check_name(name);
        checked.err().map(|error| error.to_string())
    }

    #[test]
    fn deny_wins_and_neither_case_nor_dots_at_the_end_pass_it() {
        let deny: &[&str] = &["*.exe", "*.b?t", "ü*"];
        for (name, is_refused) in [
            ("a.exe", true),
            ("A.EXE", true),
            ("x.Bat", true),
            (".exe", true),
            ("a.exe. .", true),
            ("a.exe ", true),
            ("Übung", true),
            ("a.exe.txt", false),
            ("exe", false),
            ("a.bt", false),
        ] {
            assert_eq!(refusal(&["*"], deny, name).is_some(), is_refused, "{name}");
        }
        let error = refusal(&["*"], deny, "a.exe").expect("deny wins");
        assert!(error.contains("deny_names: *.exe"), "{error}");
    }

    #[test]
    fn what_is_not_allowed_is_refused_with_what_is() {
        let allow: &[&str] = &["*.csv", "*.xml"];
        assert_eq!(refusal(allow, &[], "A.Xml"), None);
        for name in ["a.txt", "a.xml.", "xml"] {
            let error = refusal(allow, &[], name).expect(name);
            assert!(error.contains("allow_names: *.csv, *.xml)"), "{error}");
        }
        let many: &[&str] = &["1", "2", "3", "4", "5", "6", "7"];
        let error = refusal(many, &[], "8").expect("not allowed");
        assert!(
            error.contains("allow_names: 1, 2, 3, 4, 5, ...)"),
            "{error}"
        );
    }

    #[test]
    fn a_file_of_the_limit_is_taken() {
        let rules = FileRules::new(NamePatterns::default(), 10);
        assert!(rules.check_size(10).is_ok());
        assert!(matches!(
            rules.check_size(11),
            Err(StoreError::TooLarge { limit: 10 })
        ));
    }
}
