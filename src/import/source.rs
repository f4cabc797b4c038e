//! The content of a file of COS FTP Server.

use secrecy::SecretString;

use super::options::Options;

/// The whole file.
#[derive(Debug, Default)]
pub(super) struct Source {
    pub accounts: Vec<Account>,
    pub options: Options,
    /// The entries without a meaning, for the reader of the result and of the terminal.
    pub notes: Vec<String>,
    /// The differences, for the reader of the result.
    pub remarks: Vec<String>,
}

/// One user with its store.
#[derive(Debug)]
pub(super) struct Account {
    pub section: String,
    pub store: Store,
    pub home_dir: Option<String>,
    pub user: String,
    pub password: SecretString,
    pub authority: Authority,
    pub delete_enable: bool,
}

/// Where files are, and the keys to it.
#[derive(Debug, Clone)]
pub(super) struct Store {
    pub access_key_id: SecretString,
    pub secret_access_key: SecretString,
    pub location: Location,
}

/// Where an account's files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Location {
    pub bucket: String,
    pub region: Option<String>,
    /// A URL; none where the region says it all.
    pub endpoint: Option<String>,
}

/// A user's rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Authority {
    Read,
    Write,
    Both,
}

impl Authority {
    /// `R`, `W` or `RW`.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.to_ascii_uppercase().as_str() {
            "R" => Ok(Authority::Read),
            "W" => Ok(Authority::Write),
            "RW" | "WR" => Ok(Authority::Both),
            _ => Err("write R, W or RW".to_owned()),
        }
    }
}

/// A name as users of cosgate may have it.
pub(super) fn user_name(text: &str) -> Result<String, String> {
    if text.len() > 128 {
        Err("a name has at most 128 bytes; shorten it".to_owned())
    } else {
        Ok(text.to_owned())
    }
}
