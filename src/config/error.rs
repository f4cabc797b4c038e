//! The faults of a configuration, each with its remedy.
//!
//! Invariant: a [`Problem`] never holds a secret; values pass through [`Table::shown`](super::table::Table::shown) first.

use std::fmt;

/// Everything that is wrong with the configuration; at least one problem.
///
/// `Display` prints one problem per line. The program ends with exit code 64.
#[derive(Debug, Clone)]
pub struct ConfigError {
    problems: Vec<Problem>,
}

impl ConfigError {
    pub(super) fn new(problems: Vec<Problem>) -> Self {
        Self { problems }
    }

    /// All problems, in the order in which they were found.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// One thing that is wrong.
///
/// Prints as `key = value (from origin): what is allowed; how to fix it`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key, or what stands in its place: a variable, a file.
    pub key: String,
    /// Its value as it may be shown; none when it is not set or says nothing.
    pub value: Option<String>,
    /// Where the value came from.
    pub origin: Option<String>,
    /// The rule, and the remedy.
    pub advice: String,
}

impl Problem {
    /// A problem that is not about the value of a key.
    pub(super) fn about(subject: &str, origin: Option<String>, advice: impl Into<String>) -> Self {
        Self {
            key: printable(subject),
            value: None,
            origin,
            advice: advice.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key)?;
        if let Some(value) = &self.value {
            write!(f, " = {value}")?;
        }
        match self.origin.as_deref() {
            Some(DEFAULT) => f.write_str(" (the default)")?,
            Some(origin) => write!(f, " (from {origin})")?,
            None => {}
        }
        write!(f, ": {}", self.advice)
    }
}

/// `text` on one line and of bounded length, whatever it contains.
pub(crate) fn printable(text: &str) -> String {
    // The longest texts worth reading in full are URLs and bucket names.
    const MAX_CHARS: usize = 120;
    let mut line = String::new();
    for (i, c) in text.chars().enumerate() {
        if i == MAX_CHARS {
            line.push_str("...");
            break;
        }
        // Terminal escapes in a value must not reach the terminal of who reads the error.
        if c.is_control() {
            line.extend(c.escape_default())
        } else {
            line.push(c)
        }
    }
    line
}

/// The origin of what nobody set.
pub(super) const DEFAULT: &str = "default";
/// Stands for every secret.
pub(super) const REDACTED: &str = "***";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_prints_key_value_origin_and_advice() {
        let problem = Problem {
            key: "upload.concurrency".into(),
            value: Some("0".into()),
            origin: Some("COSGATE_UPLOAD__CONCURRENCY".into()),
            advice: "write a whole number from 1 to 64".into(),
        };
        assert_eq!(
            problem.to_string(),
            "upload.concurrency = 0 (from COSGATE_UPLOAD__CONCURRENCY): write a whole number from 1 to 64"
        );
    }

    #[test]
    fn a_value_stays_on_one_line_and_is_cut() {
        assert_eq!(printable("a\n\u{1b}[2Jb"), "a\\n\\u{1b}[2Jb");
        assert_eq!(printable(&"x".repeat(1000)).len(), 123);
    }
}
