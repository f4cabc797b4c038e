//! The errors of an import.

use std::fmt;

/// Nothing was imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file can't be had.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: String,
        /// Why not, and what to do.
        reason: String,
    },
    /// The file is wrong; every mistake.
    #[error("{}", Lines(.0))]
    Mistakes(Vec<Mistake>),
    /// A password could not be hashed.
    #[error("hash a password")]
    Hash(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The secrets can't be written.
    #[error("{path}: {reason}")]
    Secrets {
        /// The file.
        path: String,
        /// Why not, and what to do.
        reason: String,
    },
}

/// One thing that is wrong with the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Counted from 1; none if something is missing.
    pub line: Option<usize>,
    /// Section and key.
    pub key: String,
    /// The fault, and its remedy. No secret.
    pub advice: String,
}

struct Lines<'a>(&'a [Mistake]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, mistake) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            match mistake.line {
                Some(line) => write!(f, "line {line}: {}: {}", mistake.key, mistake.advice)?,
                None => write!(f, "{}: {}", mistake.key, mistake.advice)?,
            }
        }
        Ok(())
    }
}
