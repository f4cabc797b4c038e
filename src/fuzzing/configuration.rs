//! YAML to a tree, and the tree to a configuration.

use super::input::load;
use crate::config::yaml::Node;
use crate::config::yaml_text::quoted;
use crate::config::{Key, parse_yaml, table};

/// - Text is a tree or an error, and a tree that is written as YAML is the same tree.
/// - A configuration is taken or refused; what is printed of it, and of what is wrong with it, shows no secret that stands in it.
pub fn configuration(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let Ok(tree) = parse_yaml(&text) else {
        // it is refused for that, whatever stands in it
        return;
    };
    assert_eq!(parse_yaml(&written(&tree)).as_ref(), Ok(&tree));
    let said = match load(&text, std::iter::empty()) {
        Ok(loaded) => format!("{}{}", loaded.describe(), loaded.warnings.join("\n")),
        Err(error) => error.to_string(),
    };
    let mut secrets = Vec::new();
    secrets_in(&tree, "", &mut secrets);
    for secret in secrets {
        // what stands in two places may be no secret in the other, and a short word is in any sentence
        let is_telling = secret.len() >= 12 && text.matches(&secret).count() == 1;
        assert!(
            !is_telling || !said.contains(&secret),
            "{secret:?} in {said}"
        );
    }
}

/// `tree` as YAML.
fn written(tree: &Node) -> String {
    match tree {
        Node::Null => "null".to_owned(),
        Node::Text(text) => quoted(text),
        Node::List(items) => {
            let items: Vec<String> = items.iter().map(written).collect();
            format!("[{}]", items.join(", "))
        }
        Node::Map(entries) => {
            // with the mark of a key: without, it has at most 1,024 characters
            let entry =
                |(name, value): &(String, Node)| format!("? {} : {}", quoted(name), written(value));
            let entries: Vec<String> = entries.iter().map(entry).collect();
            format!("{{{}}}", entries.join(", "))
        }
    }
}

/// The values of secret keys.
fn secrets_in(tree: &Node, path: &str, found: &mut Vec<String>) {
    match tree {
        Node::Null => {}
        Node::Text(text) => {
            let is_secret = |key: &Key| key.is_secret() && key.path == path;
            if table().iter().any(is_secret) {
                found.push(text.clone());
            }
        }
        Node::List(items) => {
            for item in items {
                secrets_in(item, &format!("{path}[]"), found);
            }
        }
        Node::Map(entries) => {
            for (name, value) in entries {
                let below = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                secrets_in(value, &below, found);
            }
        }
    }
}
