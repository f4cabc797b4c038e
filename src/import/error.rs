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

/// `words` for everybody: what looks like the hash of a password is left out. A line of a file of users, or a half of one, may
/// stand where a key is expected.
pub(super) fn without_hashes(words: &str) -> String {
    let is_scheme = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    // `$6$...` of crypt(5), `{SSHA}...` of RFC 2307
    let is_hash = |word: &str| {
        let mut parts = word.split('$').skip(1).peekable();
        let mut is_crypt = false;
        while let Some(part) = parts.next() {
            is_crypt |= parts.peek().is_some() && is_scheme(part);
        }
        let ldap = word
            .split_once('{')
            .and_then(|(_, rest)| rest.split_once('}'));
        is_crypt || ldap.is_some_and(|(scheme, hash)| is_scheme(scheme) && !hash.is_empty())
    };
    let shown =
        words
            .split_inclusive(char::is_whitespace)
            .map(|word| match is_hash(word.trim_end()) {
                true => format!("***{}", &word[word.trim_end().len()..]),
                false => word.to_owned(),
            });
    shown.collect()
}

struct Lines<'a>(&'a [Mistake]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, mistake) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            if let Some(line) = mistake.line {
                write!(f, "line {line}: ")?;
            }
            let key = without_hashes(&mistake.key);
            write!(f, "{key}: {}", without_hashes(&mistake.advice))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::HASH_FOR_TESTS as HASH;

    #[test]
    fn what_looks_like_a_hash_is_left_out() {
        for hash in [
            HASH,
            "$1$salt$abc",
            "$2b$10$abc",
            "u:$6$salt$abc:1:1::/h:",
            "$6$cut",
            "{SSHA}c2VjcmV0",
            "u:{SHA}c2VjcmV0",
        ] {
            let said = without_hashes(&format!("{hash} (line 1),\t{hash}"));
            assert_eq!(said, "*** (line 1),\t***");
        }
        for words in [
            "local_root = /srv/$USER/$GROUP: write one",
            "5$ and  6$",
            "users: [{name: alice}]",
            "",
        ] {
            assert_eq!(without_hashes(words), words);
        }
    }
}
