//! The possible content of a session's names after each reply, and the comparison with the store itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::support::{Reply, TestStore};

/// The bytes of a file, or none.
pub type Content = Option<Arc<Vec<u8>>>;

/// The names of one session.
pub struct Model<'a> {
    store: &'a TestStore,
    /// Before each key, with its `/`.
    home: String,
    files: BTreeMap<String, Content>,
}

impl<'a> Model<'a> {
    pub fn new(store: &'a TestStore, home: String) -> Self {
        Model {
            store,
            home,
            files: BTreeMap::new(),
        }
    }

    pub fn get(&self, name: &str) -> Content {
        self.files.get(name).cloned().flatten()
    }

    pub fn names(&self) -> Vec<String> {
        let there = self.files.iter().filter(|(_, content)| content.is_some());
        there.map(|(name, _)| name.clone()).collect()
    }

    /// Looks past the gateway, and remembers what is there; it has to be one of `allowed`.
    pub async fn settle(&mut self, name: &str, allowed: &[Content], context: &str) {
        let found = self.store.object(&format!("{}{name}", self.home)).await;
        let found = found.map(Arc::new);
        let describe = |content: &Content| match content {
            None => "nothing".to_owned(),
            Some(bytes) => format!(
                "{} bytes, {:02x?}…",
                bytes.len(),
                &bytes[..bytes.len().min(4)]
            ),
        };
        let is_allowed = allowed.contains(&found);
        let all: Vec<String> = allowed.iter().map(describe).collect();
        assert!(
            is_allowed,
            "{context}: {name} is {}, and not one of {all:?}",
            describe(&found)
        );
        self.files.insert(name.to_owned(), found);
    }

    /// The value of an object's metadata.
    pub async fn metadata(&self, name: &str, of: &str) -> Option<String> {
        self.store
            .metadata(&format!("{}{name}", self.home), of)
            .await
    }

    pub async fn has_marker(&self, directory: &str) -> bool {
        let key = format!("{}{directory}/", self.home);
        self.store.object(&key).await.is_some()
    }
}

/// The possible content of a name after a reply to a change of it.
pub fn after(reply: &Reply, old: &Content, new: &Content) -> Vec<Content> {
    let says = |text: &str| reply.text.contains(text);
    if reply.code < 300 {
        vec![new.clone()]
    } else if says("outcome is not known") {
        vec![old.clone(), new.clone()]
    } else if says("an older file is gone") {
        vec![None]
    } else if says("an older file is replaced") {
        vec![new.clone()]
    } else {
        vec![old.clone()]
    }
}
