//! `cosgate import`: the configuration of another FTP server, turned into one for cosgate: of Tencent's COS FTP Server, and as
//! far as they go of vsftpd, ProFTPD and Pure-FTPd.
//!
//! ```text
//! text.rs      bytes ──> text, in whatever encoding it was written
//! ini.rs       ──> sections, keys, values with their line numbers
//! accounts.rs  ──> accounts and options, each value checked; every mistake with its line (earlier.rs: of old releases)
//! servers.rs   ──> the same for the other servers, each in its own module; passwd.rs: their users
//! plan.rs      ──> keys of cosgate, users, secrets, and a note for all that has no counterpart
//! render.rs    ──> YAML, environment or Helm values; and the secrets, apart
//! ```
//!
//! Invariants: what is printed holds no secret, not even a hashed one; what is printed and the secrets together pass
//! `check-config`; nothing in the file is passed over in silence.

mod accounts;
mod earlier;
mod error;
mod fields;
mod ini;
mod options;
mod passwd;
mod placeholders;
mod plan;
mod render;
mod server_plan;
mod servers;
mod source;
mod store_keys;
mod text;

#[cfg(test)]
mod tests;

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};

use self::error::without_hashes;
pub use self::error::{ImportError, Mistake};
use self::plan::{Hasher, Plan};
pub use self::render::Format;
#[cfg(any(test, fuzzing))]
pub(crate) use self::render::assignments;
use crate::config::printable;

pub use self::text::{Text, read};

/// A configuration for cosgate.
#[derive(Debug)]
pub struct Imported {
    /// Holds no secret.
    pub values: String,
    /// The secrets that belong to it: keys of the store, users with hashed passwords.
    pub secrets: SecretString,
    /// Remarks for the operator; one sentence each.
    pub warnings: Vec<String>,
}

/// Turns `text`, the configuration of another FTP server, into one for cosgate. `users` is its file of users, where it has
/// one; `secret_name` is the Kubernetes Secret that Helm values name.
pub fn convert(
    text: &Text,
    users: Option<&Text>,
    format: Format,
    secret_name: &str,
    hash: Hasher<'_>,
) -> Result<Imported, ImportError> {
    let mut plan = match servers::recognise(&text.content) {
        Some(server) => of_server(server, text, users)?,
        None => of_cos(text, users, hash)?,
    };
    let others = [Some(text), users].into_iter().flatten();
    for text in others.filter(|text| !text.is_utf8()) {
        let note = format!(
            "a file is not UTF-8; it was read as {}: check the names of users; for clients that send names and passwords in GBK set charset",
            text.encoding
        );
        let note = plan.warn(note);
        plan.note(note);
    }
    Ok(Imported {
        values: render::values(&plan, format, secret_name),
        secrets: render::secrets(&plan, format, secret_name).into(),
        warnings: plan
            .warnings
            .iter()
            .map(|text| without_hashes(text))
            .collect(),
    })
}

/// The plan of COS FTP Server's file, which has its users in it.
fn of_cos(text: &Text, users: Option<&Text>, hash: Hasher<'_>) -> Result<Plan, ImportError> {
    let mut mistakes = Vec::new();
    let file = ini::parse(&text.content, &mut mistakes);
    let source = accounts::read(&file, &mut mistakes);
    if users.is_some() && mistakes.is_empty() {
        mistakes.push(Mistake {
            line: None,
            key: "--users".to_owned(),
            advice: "the users of COS FTP Server stand in its file; leave this out".to_owned(),
        });
    }
    none_of(mistakes)?;
    plan::make(source, hash)
}

fn of_server(
    server: servers::Server,
    text: &Text,
    users: Option<&Text>,
) -> Result<Plan, ImportError> {
    let mut mistakes = Vec::new();
    let mut found = servers::read(server, &text.content, &mut mistakes);
    none_of(mistakes)?;
    let mut mistakes = Vec::new();
    let users = users.map(|users| passwd::read(&users.content, &mut mistakes, &mut found.warnings));
    // lines of the other file
    for mistake in &mut mistakes {
        mistake.key = format!("--users: {}", mistake.key);
    }
    none_of(mistakes)?;
    Ok(server_plan::make(found, users))
}

fn none_of(mut mistakes: Vec<Mistake>) -> Result<(), ImportError> {
    if mistakes.is_empty() {
        return Ok(());
    }
    mistakes.sort_by_key(|mistake| mistake.line.unwrap_or(usize::MAX));
    Err(ImportError::Mistakes(mistakes))
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
