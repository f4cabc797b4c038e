//! A document that belongs to one key, such as the users file: a part of the configuration with a table of keys of its own.

use std::collections::BTreeMap;
use std::path::Path;

use figment::Figment;
use figment::value::{Dict, Value};

use super::check::{Check, YamlFile};
use super::error::ConfigError;
use super::reader::Reader;
use super::sources::{self, Layer, Sources};
use super::table::Table;
use super::yaml::Node;
use crate::reload;

/// What `parse` makes of the file at `path`, which `key` names, and the digest of its content. Problems are reported to `read`.
pub(super) fn of_file<T>(
    read: &mut Reader,
    key: &'static str,
    path: &Path,
    parse: impl FnOnce(String) -> Result<T, ConfigError>,
) -> Option<(T, reload::Digest)> {
    let text = match sources::read(path) {
        Ok(text) => text,
        Err(reason) => {
            let advice = format!("the file {reason}; correct the path or make the file readable");
            read.refuse(key, advice);
            return None;
        }
    };
    let digest = reload::digest([text.as_bytes()]);
    match parse(text) {
        Ok(parsed) => Some((parsed, digest)),
        Err(error) => {
            read.refuse_all(error.problems().iter().cloned());
            None
        }
    }
}

/// A reader of `node` alone, the value of `root` (`""` is the whole configuration), which stands in `file` or else comes from `origin`.
pub(super) fn reader(
    table: Table,
    origin: &str,
    file: Option<(&Path, YamlFile)>,
    root: &str,
    node: Node,
) -> Reader {
    let mut problems = Vec::new();
    let mut check = match &file {
        Some((_, file)) => Check::of_file(table, file, &mut problems),
        None => Check::of_variable(table, origin, &mut problems),
    };
    let value = check.value(root, node).map(|value| match root {
        "" => value,
        root => Value::from(Dict::from([(root.to_owned(), value)])),
    });
    let (path, file) = file.unzip();
    let layer = Layer {
        name: origin.to_owned(),
        file: path.map(Path::to_path_buf),
        value,
    };
    Reader::new(Sources {
        table,
        figment: Figment::from(layer),
        file,
        problems,
        in_pod: false,
        platform_env: BTreeMap::new(),
    })
}
