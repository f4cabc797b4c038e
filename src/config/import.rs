//! `cosgate import`: the configuration of Tencent's COS FTP Server, turned into one for cosgate.
//!
//! ```text
//! text.rs      bytes ──> text, in whatever encoding it was written
//! ini.rs       ──> sections, keys, values with their line numbers
//! accounts.rs  ──> accounts and options, each value checked; every mistake with its line (earlier.rs: of old releases)
//! plan.rs      ──> keys of cosgate, users, secrets, and a note for all that has no counterpart
//! render.rs    ──> YAML, environment or Helm values; and the secrets, apart
//! ```
//!
//! Invariants: what is printed holds no secret, not even a hashed one; what is printed and the secrets together pass
//! `check-config`; nothing in the file is passed over in silence.

mod accounts;
mod earlier;
mod fields;
mod ini;
mod options;
mod placeholders;
mod plan;
mod render;
mod text;

#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};

use super::error::printable;

pub use text::{Text, read};

/// What the result is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A configuration file; secrets as variables of the environment.
    Yaml,
    /// Variables of the environment, for a shell or systemd's `EnvironmentFile`.
    Env,
    /// Values for the Helm chart; secrets as the manifest of a Kubernetes Secret.
    HelmValues,
}

/// A configuration for cosgate.
#[derive(Debug)]
pub struct Imported {
    /// Holds no secret.
    pub values: String,
    /// What belongs to it: keys of the store, users with hashed passwords.
    pub secrets: SecretString,
    /// What an operator should look at; one sentence each.
    pub warnings: Vec<String>,
}

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
    /// What is wrong, and how to mend it. No secret.
    pub advice: String,
}

/// Hashes a password as `cosgate hash-password` does.
pub type Hasher<'a> =
    &'a dyn Fn(&SecretString) -> Result<SecretString, Box<dyn std::error::Error + Send + Sync>>;

/// Turns `text`, a `vsftpd.conf`, into a configuration; `secret_name` is the Kubernetes Secret that Helm values name.
pub fn convert(
    text: &Text,
    format: Format,
    secret_name: &str,
    hash: Hasher<'_>,
) -> Result<Imported, ImportError> {
    let mut mistakes = Vec::new();
    let file = ini::parse(&text.content, &mut mistakes);
    let mut source = accounts::read(&file, &mut mistakes);
    if !text.is_utf8() {
        source.notes.push(format!(
            "the file is not UTF-8; it was read as {}: check the names of users, and that clients send names and passwords \
             in UTF-8",
            text.encoding
        ));
    }
    if !mistakes.is_empty() {
        mistakes.sort_by_key(|mistake| mistake.line.unwrap_or(usize::MAX));
        return Err(ImportError::Mistakes(mistakes));
    }
    let plan = plan::make(source, hash)?;
    Ok(Imported {
        values: render::values(&plan, format, secret_name),
        secrets: render::secrets(&plan, format, secret_name).into(),
        warnings: plan.warnings,
    })
}

/// Writes the secrets to `path`, which nobody but its owner may read. A file that is there stays, unless `force`.
pub fn write_secrets(path: &Path, secrets: &SecretString, force: bool) -> Result<(), ImportError> {
    let failed = |error: io::Error| ImportError::Secrets {
        path: printable(&path.display().to_string()),
        reason: match error.kind() {
            io::ErrorKind::AlreadyExists => {
                "exists already; name another file, or overwrite it with --force".to_owned()
            }
            _ => format!("cannot be written: {error}"),
        },
    };
    if !force {
        let mut file = create(path).map_err(failed)?;
        return fill(&mut file, secrets).map_err(failed);
    }
    // Written aside and moved: an older file may be open to others, and a link may lead elsewhere.
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    let aside = PathBuf::from(name);
    let written = create(&aside)
        .and_then(|mut file| fill(&mut file, secrets))
        .and_then(|()| std::fs::rename(&aside, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&aside);
    }
    written.map_err(failed)
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

fn fill(file: &mut File, secrets: &SecretString) -> io::Result<()> {
    file.write_all(secrets.expose_secret().as_bytes())?;
    file.sync_all()
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
