//! A tree from a source, held against the table of keys.
//!
//! Invariant: what is not in the table, or has another shape than its row says, does not pass;
//! it becomes a problem that repeats no value, since what is misspelt may be a secret.

use std::cell::OnceCell;

use figment::value::{Dict, Empty, Tag, Value};

use super::error::Problem;
use super::keys::{Key, Kind};
use super::table::{Lookup, Table};
use super::yaml::{Lines, Node};

/// Compares a tree with the table.
pub(super) struct Check<'a> {
    table: Table,
    source: Source<'a>,
    problems: &'a mut Vec<Problem>,
}

enum Source<'a> {
    File(&'a YamlFile),
    Variable(&'a str),
}

impl<'a> Check<'a> {
    /// A check of what stands in `file`.
    pub fn of_file(table: Table, file: &'a YamlFile, problems: &'a mut Vec<Problem>) -> Self {
        Self {
            table,
            source: Source::File(file),
            problems,
        }
    }

    /// A check of what the variable `name` holds.
    pub fn of_variable(table: Table, name: &'a str, problems: &'a mut Vec<Problem>) -> Self {
        Self {
            table,
            source: Source::Variable(name),
            problems,
        }
    }

    /// The valid part of `node`, which stands at `path`; the rest becomes problems.
    pub fn value(&mut self, path: &str, node: Node) -> Option<Value> {
        match (self.table.look_up(path), node) {
            (Lookup::Unknown, _) => self.problem(path, unknown_key(self.table, path)),
            (_, Node::Null) => None,
            // Charts and compose files write "" for what is not set.
            (_, Node::Text(text)) if text.is_empty() => None,
            (Lookup::Section, Node::Map(entries)) => Some(self.section(path, entries)),
            (Lookup::Section, _) => self.problem(path, section_advice(self.table, path)),
            (Lookup::Key(key), node) => self.key(key, path, node),
        }
    }

    fn section(&mut self, path: &str, entries: Vec<(String, Node)>) -> Value {
        let mut dict = Dict::new();
        for (name, node) in entries {
            let inner = if path.is_empty() {
                name.clone()
            } else {
                format!("{path}.{name}")
            };
            // A dot in a name would look like a level of its own in every message and lookup.
            let value = if name.is_empty() || name.contains(['.', '[']) {
                self.problem(
                    &inner,
                    "no key is named so; write each level on a line \
                     of its own, the lower one indented",
                )
            } else {
                self.value(&inner, node)
            };
            dict.extend(value.map(|value| (name, value)));
        }
        dict.into()
    }

    fn key(&mut self, key: &Key, path: &str, node: Node) -> Option<Value> {
        match (key.kind, node) {
            (Kind::Sections, Node::List(items)) => {
                let items = items.into_iter().enumerate();
                let values = items.map(|(i, item)| self.entry(&format!("{path}[{i}]"), item));
                Some(Value::from(values.collect::<Vec<_>>()))
            }
            (Kind::Sections, _) => {
                self.problem(path, format!("write a list such as {}", example(path)))
            }
            (_, Node::Text(text)) => Some(Value::from(text)),
            (Kind::List, Node::List(items)) => {
                let texts: Option<Vec<String>> = items.into_iter().map(into_text).collect();
                match texts {
                    Some(texts) => Some(Value::from(texts)),
                    None => self.problem(path, "write a list of texts"),
                }
            }
            (_, _) => self.problem(path, "write one value, not a list or a section"),
        }
    }

    /// One section of a list of sections. A wrong one keeps its place, so that the indices in
    /// other problems stay right.
    fn entry(&mut self, path: &str, item: Node) -> Value {
        let section = match item {
            Node::Map(entries) => Some(self.section(path, entries)),
            _ => self.problem(
                path,
                format!("write a section with keys, as in {}", example(path)),
            ),
        };
        section.unwrap_or(Value::Empty(Tag::Default, Empty::None))
    }

    fn problem(&mut self, path: &str, advice: impl Into<String>) -> Option<Value> {
        let origin = match self.source {
            Source::File(file) => file.origin_of(path),
            Source::Variable(name) => name.to_string(),
        };
        let subject = if path.is_empty() {
            "the configuration"
        } else {
            path
        };
        self.problems
            .push(Problem::about(subject, Some(origin), advice));
        None
    }
}

fn into_text(node: Node) -> Option<String> {
    match node {
        Node::Text(text) => Some(text),
        Node::Null | Node::List(_) | Node::Map(_) => None,
    }
}

fn section_advice(table: Table, path: &str) -> String {
    let inside = if path.is_empty() {
        String::new()
    } else {
        format!("{path}.")
    };
    let example = table
        .rows()
        .iter()
        .filter_map(|key| key.path.strip_prefix(&inside))
        .next();
    format!(
        "this is a section, with keys such as {}",
        example.unwrap_or_default()
    )
}

fn unknown_key(table: Table, path: &str) -> String {
    // Of all unknown keys this one must not be answered with a mere "did you mean".
    if path.starts_with("users[") && path.ends_with("].password") {
        return CLEAR_TEXT_ADVICE.to_string();
    }
    match table.similar_path(path) {
        Some(similar) => format!("there is no such key; did you mean {similar}?"),
        None => "there is no such key; remove it, or look it up in the table of keys (src/guide/configuration.md)".to_string(),
    }
}

/// The YAML file, kept to find the lines of keys.
pub(super) struct YamlFile {
    name: String,
    /// The key whose value the whole file is; `""`: it is the configuration.
    root: &'static str,
    text: String,
    /// Read when the first of them is asked for.
    lines: OnceCell<Lines>,
}

impl YamlFile {
    /// The file `name` and its content, which is the value of `root`.
    pub fn new(name: &str, root: &'static str, text: String) -> Self {
        Self {
            name: name.to_string(),
            root,
            text,
            lines: OnceCell::new(),
        }
    }

    /// `/etc/cosgate.yaml, line 3`, as far as the line is known.
    pub fn origin_of(&self, key: &str) -> String {
        let name = &self.name;
        let lines = self.lines.get_or_init(|| Lines::of(&self.text, self.root));
        // A key that is missed has no line, but its section has.
        let section = key.rsplit_once('.').map_or("", |(section, _)| section);
        match lines.line(key).or_else(|| lines.line(section)) {
            Some(line) => format!("{name}, line {line}"),
            None => name.clone(),
        }
    }
}

/// A value of the list of sections that `path` is, or is in.
pub(super) fn example(path: &str) -> &'static str {
    if path.starts_with("users[") && path.contains("].mounts") {
        r#"[{"path": "/archive", "bucket": "archive-1250000000"}]"#
    } else if path.starts_with("events.") {
        r#"[{"name": "pipeline", "url": "https://events.example.com/hook"}]"#
    } else {
        r#"[{"name": "alice", "password_hash": "$argon2id$..."}]"#
    }
}

const CLEAR_TEXT_ADVICE: &str = "passwords are not kept in clear text; run `cosgate hash-password` \
                                 and write its output as password_hash";
