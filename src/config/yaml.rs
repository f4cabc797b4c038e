//! YAML text to a tree of texts.
//!
//! Invariant: a scalar that belongs to a key of the table arrives as it was written. YAML's own
//! types would turn the password `0x10` into 16 and `1.50` into 1.5.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;

use serde::Deserialize as _;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, MergeKeyPolicy, Spanned};

use super::keys::Kind;
use super::table::{Lookup, Table};

/// A piece of YAML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node {
    Null,
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

/// Reads `text` as the value of the key or section `root`; `""` is the whole configuration.
///
/// An error names line and column and repeats no value.
pub(crate) fn parse(text: &str, root: &str, table: Table) -> Result<Node, String> {
    // Where one text is wanted and a list stands, serde gives up on the whole document. Reading
    // by YAML's types finds the same tree, so that the caller can report this with all the rest.
    run(text, Seed::new(root, Scalars::Verbatim(table)))
        .or_else(|_| run(text, Seed::new(root, Scalars::Typed)))
        .map_err(|error| error.to_string())
}

/// The lines of keys in a text, from 1.
#[derive(Debug, Default)]
pub(super) struct Lines(HashMap<String, usize>);

impl Lines {
    /// The lines in `text`, the value of `root`; as far as it can be read.
    pub fn of(text: &str, root: &str) -> Self {
        let lines = RefCell::default();
        let seed = Seed {
            lines: Some(&lines),
            ..Seed::new(root, Scalars::Typed)
        };
        // what is wrong with the text is found, and told, by `parse`
        let _ = run(text, seed);
        lines.into_inner()
    }

    /// The line of the key `path`, or of the first key below it.
    pub fn line(&self, path: &str) -> Option<usize> {
        self.0.get(path).copied()
    }

    fn add(&mut self, path: &str, line: usize) {
        let mut path = path;
        while !self.0.contains_key(path) {
            self.0.insert(path.to_string(), line);
            match path.rfind(['.', '[']) {
                Some(end) => path = &path[..end],
                None => return,
            }
        }
    }
}

fn run(text: &str, seed: Seed<'_>) -> Result<Node, serde_saphyr::Error> {
    let options = serde_saphyr::options! {
        // a snippet of the file would show secrets
        with_snippet: false,
        // a second key is found by `KeyName`, which says so in our words
        duplicate_keys: DuplicateKeyPolicy::LastWins,
        // `<<` is no key of ours, and is reported as such
        merge_keys: MergeKeyPolicy::AsOrdinary,
    };
    if text.trim().is_empty() {
        return Ok(Node::Null);
    }
    serde_saphyr::with_deserializer_from_str_with_options(text, options, |deserializer| {
        seed.deserialize(deserializer)
    })
}

#[derive(Clone, Copy)]
enum Scalars {
    /// As written, wherever the table says that a scalar is wanted.
    Verbatim(Table),
    /// By YAML's types.
    Typed,
}

/// A reader of the node at a path.
#[derive(Clone)]
struct Seed<'a> {
    path: String,
    scalars: Scalars,
    /// Where the lines of keys are kept.
    lines: Option<&'a RefCell<Lines>>,
}

impl Seed<'_> {
    fn new(path: &str, scalars: Scalars) -> Self {
        Self {
            path: path.to_string(),
            scalars,
            lines: None,
        }
    }

    fn key(&self, name: &str) -> Self {
        let path = match self.path.as_str() {
            "" => name.to_string(),
            path => format!("{path}.{name}"),
        };
        Self { path, ..*self }
    }

    fn index(&self, index: usize) -> Self {
        Self {
            path: format!("{}[{index}]", self.path),
            ..*self
        }
    }

    fn wants_scalar(&self) -> bool {
        let Scalars::Verbatim(table) = self.scalars else {
            return false;
        };
        match table.look_up(&self.path) {
            Lookup::Key(key) => !matches!(key.kind, Kind::List | Kind::Sections),
            Lookup::Section | Lookup::Unknown => false,
        }
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        if self.wants_scalar() {
            deserializer.deserialize_option(Verbatim)
        } else {
            deserializer.deserialize_any(Any(self))
        }
    }
}

/// A scalar as it was written, or nothing.
struct Verbatim;

impl<'de> Visitor<'de> for Verbatim {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one value")
    }

    fn visit_none<E: Error>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_str(self)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Node, E> {
        Ok(Node::Text(text.to_string()))
    }
}

/// Whatever stands there.
struct Any<'a>(Seed<'a>);

/// Scalars in YAML's own types; only the form is of use, so they become text again.
macro_rules! visit_as_text {
    ($($method:ident($type:ty)),* $(,)?) => {
        $(fn $method<E: Error>(self, value: $type) -> Result<Node, E> {
            Ok(Node::Text(value.to_string()))
        })*
    };
}

impl<'de> Visitor<'de> for Any<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML without tags")
    }

    visit_as_text!(
        visit_str(&str),
        visit_bool(bool),
        visit_u64(u64),
        visit_i64(i64),
        visit_u128(u128),
        visit_i128(i128),
        visit_f64(f64),
    );

    fn visit_none<E: Error>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_unit<E: Error>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(self.0.index(items.len()))? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries: Vec<(String, Node)> = Vec::new();
        while let Some(name) = map.next_key_seed(KeyName {
            map: &self.0,
            earlier: &entries,
        })? {
            let value = map.next_value_seed(self.0.key(&name))?;
            entries.push((name, value));
        }
        Ok(Node::Map(entries))
    }
}

/// The name of a key. Errors are raised here, while the parser stands at the key, so that they carry its line.
struct KeyName<'a> {
    map: &'a Seed<'a>,
    earlier: &'a [(String, Node)],
}

impl<'de> DeserializeSeed<'de> for KeyName<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        let Some(lines) = self.map.lines else {
            return deserializer.deserialize_str(self);
        };
        let name = Spanned::<String>::deserialize(deserializer)?;
        if let Ok(line) = usize::try_from(name.referenced.line()) {
            let path = self.map.key(&name.value).path;
            lines.borrow_mut().add(&path, line);
        }
        Ok(name.value)
    }
}

impl<'de> Visitor<'de> for KeyName<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a key")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<String, E> {
        if self.earlier.iter().any(|(earlier, _)| earlier == name) {
            let name = super::error::printable(name);
            return Err(E::custom(format!(
                "the key {name} stands here a second time"
            )));
        }
        Ok(name.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::sections::table;

    fn text(text: &str) -> Node {
        Node::Text(text.into())
    }

    fn value(yaml: &str) -> Node {
        match parse(yaml, "", table()) {
            Ok(Node::Map(mut entries)) => entries.remove(0).1,
            other => panic!("{yaml}: {other:?}"),
        }
    }

    #[test]
    fn a_scalar_arrives_as_it_was_written() {
        for written in [
            "0123",
            "0x10",
            "1.50",
            "1e5",
            "True",
            "+5",
            ".inf",
            "12345678901234567890123",
        ] {
            assert_eq!(value(&format!("greeting: {written}")), text(written));
            assert_eq!(value(&format!("greeting: '{written}'")), text(written));
        }
        assert_eq!(value("greeting: \"null\""), text("null"));
    }

    #[test]
    fn nothing_is_null() {
        for nothing in ["greeting:", "greeting: ~", "greeting: null"] {
            assert_eq!(value(nothing), Node::Null);
        }
        assert_eq!(parse("", "", table()), Ok(Node::Null));
    }

    #[test]
    fn a_list_where_one_value_is_wanted_spoils_nothing_else() {
        let tree = parse("greeting: [1]\nlog: {level: debug}", "", table());
        let Ok(Node::Map(entries)) = tree else {
            panic!("{tree:?}")
        };
        assert_eq!(entries[0].1, Node::List(vec![text("1")]));
        assert_eq!(
            entries[1].1,
            Node::Map(vec![("level".into(), text("debug"))])
        );
    }

    #[test]
    fn a_key_given_twice_is_an_error_with_its_line() {
        let error = parse("greeting: a\nlog: {}\ngreeting: b", "", table()).unwrap_err();
        assert!(
            error.contains("greeting") && error.contains("line 3"),
            "{error}"
        );
    }

    #[test]
    fn the_line_of_a_key_is_found_in_block_and_flow_style() {
        let yaml = "# comment\nlog: {level: info,\n  format: json}\n\nusers:\n  - name: a\n    home: /x\n  -\n    name: b\n    home: |\n      name: c\n";
        let lines = Lines::of(yaml, "");
        for (path, line) in [
            ("log", Some(2)),
            ("log.format", Some(3)),
            ("users[0].home", Some(7)),
            ("users[1]", Some(9)),
            ("users[1].home", Some(10)),
            ("users[2]", None),
            ("greeting", None),
        ] {
            assert_eq!(lines.line(path), line, "{path}");
        }
        let lines = Lines::of("1: a\ntrue: b\n'c': &d e\nf: *d\n[g]: h\ni: j", "");
        let found = ["1", "true", "c", "f"].map(|key| lines.line(key));
        assert_eq!(found, [1, 2, 3, 4].map(Some), "as far as it can be read");
    }

    #[test]
    fn entries_of_users_are_read_alone_too() {
        let json = r#"[{"name": 0123, "home": null}]"#;
        let entry = vec![("name".into(), text("0123")), ("home".into(), Node::Null)];
        assert_eq!(
            parse(json, "users", table()),
            Ok(Node::List(vec![Node::Map(entry)]))
        );
    }
}
