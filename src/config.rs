//! Configuration: from many sources to one checked [`Config`].
//!
//! Sources, later ones win: the defaults of [`table`](fn@table), a YAML file, environment variables
//! `COSGATE_...` with `__` between levels (`COSGATE_UPLOAD__MIN_PART_SIZE` is
//! `upload.min_part_size`), and for secret keys `COSGATE_..._FILE`, whose value is the path of a
//! file that holds the secret (its last newline is dropped).
//!
//! ```text
//! sections/   one file per section: its type, its rows of the table, its parsing
//! sections.rs all of them ──> Config, and what holds between them
//!    │
//! keys.rs     a key: name, default, meaning; table.rs: all of them
//!    │
//! sources.rs  YAML (yaml.rs), environment (foreign_env.rs: not ours), compared with
//!    │        the table (check.rs) ──> figment: path -> text and origin
//!    │
//! reader.rs   one key at a time, or its default, entries.rs: of a list: text -> value (parse.rs), or a Problem (error.rs)
//!    │
//! document.rs a file of its own that belongs to a key, such as the users file: the same way, with a table of its own
//! print.rs    what `cosgate check-config` prints
//! init.rs     a first configuration
//! ```
//!
//! Invariants:
//! - What is not in the table is refused, at any depth and in any source.
//! - A value reaches its parser exactly as it was written: no source guesses types, so `0123`
//!   keeps its zero and a password of digits stays a password.
//! - Every problem is reported, not only the first, and no report shows a secret.
//! - An empty value, in YAML or in the environment, means the key is not set.
//!
//! To add a key: its row, its field and the line that reads it, all in the file of its section. The unknown-key check, the
//! environment name, the guide's table and the printing follow from the row; a test fails when a row is never read.

mod check;
mod document;
mod endpoint;
mod entries;
mod error;
mod foreign_env;
pub mod init;
pub(crate) mod keys;
mod memory;
pub(crate) mod parse;
mod print;
mod reader;
mod sections;
mod sources;
mod table;
pub(crate) mod yaml;
pub(crate) mod yaml_text;

#[cfg(test)]
mod tests;

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

pub(crate) use endpoint::Endpoint;
pub(crate) use error::printable;
pub use error::{ConfigError, Problem};
pub use foreign_env::DOCTOR_PASSWORD;
pub use keys::{DefaultValue, Key, Kind};
pub use memory::{MemoryLimit, default_budget};
pub use print::Loaded;
pub use sections::*;
pub(crate) use sections::{
    bucket_name, cos_endpoint_of, greeting, is_reached_in_private, is_role_name,
    masquerade_address, may_share_credentials, region_name,
};

/// A hash that is well formed, and of no known password.
#[cfg(any(test, fuzzing))]
pub(crate) const HASH_FOR_TESTS: &str = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$QmFzZTY0SGFzaEJhc2U2NEhhc2hCYXNlNjRIYXNoMTI";

/// Reads the configuration from `file`, if any, and this process's environment.
///
/// Without `file`, the variable `COSGATE_CONFIG` names it.
pub fn load(file: Option<&Path>) -> Result<Loaded, ConfigError> {
    let (env, problems) = sources::process_environment();
    loaded(file, env, problems)
}

/// All keys, in the order in which they are documented and printed.
pub fn table() -> &'static [Key] {
    sections::table().rows()
}

/// The rows of the guide's table: key, environment variable, default, meaning.
pub fn markdown_rows() -> String {
    sections::table().markdown_rows()
}

fn loaded(
    file: Option<&Path>,
    env: Vec<(String, String)>,
    problems: Vec<Problem>,
) -> Result<Loaded, ConfigError> {
    let sources = sources::collect(sections::table(), file, env, problems);
    let (config, warnings, settings) = sections::resolve(sources)?;
    Ok(Loaded {
        config,
        warnings,
        settings,
    })
}

/// The file that `COSGATE_CONFIG` names, if it names one.
pub fn file_from_environment() -> Option<PathBuf> {
    let file = std::env::var_os(keys::CONFIG_VARIABLE)?;
    (!file.is_empty()).then(|| file.into())
}

/// As [`load`], with `env` in the place of the process's environment.
///
/// `KUBERNETES_SERVICE_HOST` in it means that this process runs in a pod.
pub fn load_from(
    file: Option<&Path>,
    env: impl IntoIterator<Item = (String, String)>,
) -> Result<Loaded, ConfigError> {
    loaded(file, env.into_iter().collect(), Vec::new())
}

/// An IPv4 address or a DNS name that clients can connect to, or what is wrong with it.
pub fn parse_masquerade_address(text: &str) -> Result<MasqueradeAddress, String> {
    sections::masquerade_address(text)
}

/// Reads YAML as the configuration is read.
#[cfg(any(test, fuzzing))]
pub(crate) fn parse_yaml(text: &str) -> Result<yaml::Node, String> {
    yaml::parse(text, "", sections::table())
}

/// The memory that this process's container may use, in bytes, if it is limited.
pub fn memory_limit() -> Option<u64> {
    MemoryLimit::default().read()
}

/// A port or a range `FROM-TO`, never 0, or what is wrong with it.
pub fn parse_ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    parse::ports(text)
}
