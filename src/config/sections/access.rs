//! `access.*`: the addresses that the gateway serves.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use ipnet::IpNet;

use crate::config::check::YamlFile;
use crate::config::document;
use crate::config::error::{ConfigError, Problem, printable};
use crate::config::keys::row::*;
use crate::config::parse;
use crate::config::reader::Reader;
use crate::config::table::{Rows, Table};
use crate::config::yaml::{self, Node};
use crate::reload;

const ALLOW: &str = "access.allow";
const DENY: &str = "access.deny";
const FILE: &str = "access.file";

/// The rows of the table.
#[rustfmt::skip]
pub(in crate::config) const KEYS: &[Key] = &[
    key(ALLOW, List, Unset,
        "Networks and addresses of clients, such as `10.0.0.0/8`: a control connection from elsewhere is refused before the greeting; everybody may connect if not set."),
    key(DENY, List, Unset,
        "Networks and addresses that are refused the same way, also where `access.allow` has them."),
    key(FILE, Text, Unset,
        "YAML or JSON file with the lists `allow` and `deny`, which are added to those above; read again when it changes, and sessions of addresses that are refused then are ended."),
];

/// The addresses that the gateway serves.
#[derive(Debug, Clone)]
pub struct Access {
    /// The lists of the configuration itself.
    pub lists: AccessLists,
    /// More lists, in a file of their own.
    pub file: Option<AccessFile>,
}

/// Networks of clients.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccessLists {
    /// The networks that may connect; empty: all.
    pub allow: Vec<IpNet>,
    /// The networks that may not, wherever else they stand.
    pub deny: Vec<IpNet>,
}

/// Lists in a file that is read again when it changes.
#[derive(Debug, Clone)]
pub struct AccessFile {
    /// Its path.
    pub path: PathBuf,
    /// Its content at the start.
    pub lists: AccessLists,
    /// Of its content when it was read.
    pub digest: reload::Digest,
}

/// Reads the section.
pub(super) fn resolve(read: &mut Reader) -> Access {
    let lists = AccessLists {
        allow: read.optional_list(ALLOW, parse::network),
        deny: read.optional_list(DENY, parse::network),
    };
    let file = file(read);
    if read.is_valid(ALLOW) && read.is_valid(DENY) {
        let of_file = file.as_ref().map(|file| &file.lists);
        let of_file = of_file.into_iter().flat_map(|lists| &lists.deny);
        let everybody = lists
            .deny
            .iter()
            .chain(of_file)
            .find(|it| it.prefix_len() == 0);
        if let Some(everybody) = everybody {
            let words = format!("{everybody} is everybody: no client gets in by it");
            read.warn(DENY, &words);
        }
    }
    Access { lists, file }
}

fn file(read: &mut Reader) -> Option<AccessFile> {
    let path = read.optional(FILE, parse::file)?;
    let parse = |text| access_lists_of_file(&path, text);
    let (lists, digest) = document::of_file(read, FILE, &path, parse)?;
    Some(AccessFile {
        path,
        lists,
        digest,
    })
}

/// The lists in the text of the file at `path`, which is named in problems.
///
/// A file without any list is an error: an empty or cut file must not let everybody in. An empty list is written `[]`.
pub fn access_lists_of_file(path: &Path, text: String) -> Result<AccessLists, ConfigError> {
    let name = printable(&path.display().to_string());
    let problem = |advice: String| {
        let origin = Some(name.clone());
        ConfigError::new(vec![Problem::about(FILE, origin, advice)])
    };
    // nothing else may stand there
    static ROWS: LazyLock<Rows> = LazyLock::new(|| Rows::new(&[KEYS]));
    let table = Table::new(&ROWS);
    let node = yaml::parse(&text, SECTION, table).map_err(|error| {
        problem(format!(
            "not valid YAML or JSON: {error}; correct the file there (IPv6 networks need quotes)"
        ))
    })?;
    let Node::Map(entries) = node else {
        return Err(problem(NO_LISTS.to_owned()));
    };
    if let Some((other, _)) = entries
        .iter()
        .find(|(key, _)| !["allow", "deny"].contains(&key.as_str()))
    {
        return Err(problem(format!(
            "only the lists `allow` and `deny` stand in this file, not {}; remove it",
            printable(other)
        )));
    }
    let is_empty = |node: &Node| match node {
        Node::Null => true,
        Node::Text(text) => text.is_empty(),
        Node::List(_) | Node::Map(_) => false,
    };
    if entries.is_empty() || entries.iter().any(|(_, node)| is_empty(node)) {
        return Err(problem(NO_LISTS.to_owned()));
    }
    let listed = entries
        .into_iter()
        .filter(|(_, node)| *node != Node::List(Vec::new()))
        .collect();
    let file = YamlFile::new(&name, SECTION, text);
    let listed = Node::Map(listed);
    let mut read = document::reader(table, &name, Some((path, file)), SECTION, listed);
    let lists = AccessLists {
        allow: read.optional_list(ALLOW, parse::network),
        deny: read.optional_list(DENY, parse::network),
    };
    read.finish()?;
    Ok(lists)
}

const SECTION: &str = "access";

const NO_LISTS: &str = "there are no lists in it; write `allow:` and `deny:` with networks, or with [] where there are none";
