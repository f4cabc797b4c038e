//! Users that stand elsewhere: in the file that `users_file` names, and in an endpoint's answer.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use super::entry::{self, User, entries};
use super::list::{self, Authority, USERS};
use super::mounts;
use super::rights;
use super::site::{self, StorageDefaults};
use crate::config::check::YamlFile;
use crate::config::document;
use crate::config::error::{ConfigError, Problem, printable};
use crate::config::keys::row::*;
use crate::config::parse;
use crate::config::reader::Reader;
use crate::config::sections::{limits, overrides};
use crate::config::table::{Rows, Table};
use crate::config::yaml::{self, Node};

/// The rows of the table.
#[rustfmt::skip]
pub(in crate::config) const KEYS: &[Key] = &[
    key("users_file", Text, Unset,
        "YAML or JSON file with more users, a list or `users:` with one; read again when it changes, without ending a session."),
];

/// The keys that alone stand in such a document.
const SECTIONS: &[&[Key]] = &[
    list::KEYS,
    entry::KEYS,
    rights::KEYS,
    site::KEYS,
    entry::LIMITS,
    limits::USER_KEYS,
    overrides::USER_KEYS,
    mounts::KEYS,
    overrides::MOUNT_KEYS,
];

fn table() -> Table {
    static ROWS: LazyLock<Rows> = LazyLock::new(|| Rows::new(SECTIONS));
    Table::new(&ROWS)
}

/// Users in a file that is read again when it changes.
#[derive(Debug, Clone)]
pub struct UsersFile {
    /// Where it lies.
    pub path: PathBuf,
    /// Its content at the start; at least one.
    pub users: Vec<User>,
    /// Of its content when it was read.
    pub digest: crate::reload::Digest,
}

/// Reads the users file, if one is named.
pub(super) fn users_file(read: &mut Reader, common: &StorageDefaults) -> Option<UsersFile> {
    let path = read.optional(FILE, parse::path)?;
    let parse = |text| users_of_file(&path, text, common);
    let (users, digest) = document::of_file(read, FILE, &path, parse)?;
    Some(UsersFile {
        path,
        users,
        digest,
    })
}

/// The users in the text of the file at `path`, which is named in problems.
///
/// A file without users is an error: an empty or cut file must not lock everybody out. `common` is what their
/// stores are measured against.
pub fn users_of_file(
    path: &Path,
    text: String,
    common: &StorageDefaults,
) -> Result<Vec<User>, ConfigError> {
    let name = printable(&path.display().to_string());
    let problem = |advice: String| {
        let origin = Some(name.clone());
        ConfigError::new(vec![Problem::about(FILE, origin, advice)])
    };
    let malformed = |error: String| {
        problem(format!(
            "not valid YAML or JSON: {error}; correct the file there (text with [ {{ * & # % or \": \" in it needs quotes)"
        ))
    };
    // a bare list, or the section as it stands in the configuration
    let (root, node) = match yaml::parse(&text, "", table()).map_err(malformed)? {
        Node::List(_) => (
            USERS,
            yaml::parse(&text, USERS, table()).map_err(malformed)?,
        ),
        Node::Map(entries) => {
            if let Some((other, _)) = entries.iter().find(|(key, _)| key != USERS) {
                return Err(problem(format!(
                    "only `users` stands in this file, not {}; move it to the configuration",
                    printable(other)
                )));
            }
            ("", Node::Map(entries))
        }
        Node::Null => return Err(problem(NO_USERS.to_string())),
        Node::Text(_) => {
            return Err(problem(
                "write a list of users, or users: with one".to_string(),
            ));
        }
    };
    let file = YamlFile::new(&name, root, text);
    let mut read = document::reader(table(), &name, Some((path, file)), root, node);
    let users = entries(&mut read, common, Authority::Hash);
    read.finish()?;
    if users.is_empty() {
        return Err(problem(NO_USERS.to_string()));
    }
    Ok(users)
}

/// The user in the body of an endpoint's answer, a JSON object of the keys of `users[]`.
///
/// `name`, `home` and `permissions` must be there: an answer that says less, as any web server's might, lets nobody in.
pub fn answered_user(body: &str, common: &StorageDefaults) -> Result<User, ConfigError> {
    const ORIGIN: &str = "the answer of auth.http.url";
    let problem = |advice: &str| {
        ConfigError::new(vec![Problem::about(
            "users[0]",
            Some(ORIGIN.to_string()),
            advice,
        )])
    };
    // as a list of one, so that it is read by the same rules as every other user
    let json: serde_json::Value = serde_json::from_str(body)
        .map_err(|_| problem("not valid JSON; answer with one JSON object"))?;
    if !json.is_object() {
        return Err(problem("write one JSON object"));
    }
    let list = format!("[{json}]");
    let node = yaml::parse(&list, USERS, table()).map_err(|_| problem("not a flat JSON object"))?;
    let mut read = document::reader(table(), ORIGIN, None, USERS, node);
    let users = entries(&mut read, common, Authority::Endpoint);
    read.finish()?;
    let mut users = users.into_iter();
    users
        .next()
        .ok_or_else(|| problem("there is no user in it"))
}

pub(super) const FILE: &str = "users_file";

const NO_USERS: &str = "there are no users in it; write at least one, or remove the key users_file";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_users_file_takes_every_key_of_a_user() {
        let own: Vec<&str> = table().rows().iter().map(|key| key.path).collect();
        let all = crate::config::sections::table();
        let of_users = all.rows().iter().map(|key| key.path);
        for path in of_users.filter(|path| path.starts_with("users[].")) {
            assert!(own.contains(&path), "{path}");
        }
    }
}
