//! Path -> key: the one place where a client's path becomes the name of an object.
//!
//! Invariant: every key that is made of a path starts with the home's prefix, which is empty or ends in `/`, followed
//! by a path that can't climb (see [`VirtualPath`]). So the homes `a` and `ab` never meet. Control characters of a key are
//! escaped in paths (see [`escape`](crate::escape)), which adds no `/` and no `.`.
//!
//! Invariant: no key has a component that is the [`Reserved`] name, under which the gateway keeps what is its own.

use std::fmt;
use std::sync::Arc;

use crate::escape::unescape;
use crate::store::error::StoreError;
use crate::store::file_rules::FileRules;
use crate::store::path::{NameError, VirtualPath};

/// The name of one object in a bucket, the home's prefix included.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey(String);

/// The prefix that all keys below one directory start with: empty (the whole bucket) or ending in `/`.
///
/// It is at the same time the key of the directory's marker, a zero-byte object.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct KeyPrefix(String);

/// The directory name that no client can use, at any depth: the first component of `events.outbox`.
///
/// At any depth, since a home may lie anywhere: what is outside of one user's home may be inside of another's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reserved(Option<Arc<str>>);

/// Where a user's `/` lies in the bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    prefix: KeyPrefix,
    outbox_base: String,
    max_key_bytes: usize,
    takes_backslash: bool,
    reserved: Reserved,
    files: Arc<FileRules>,
}

impl Reserved {
    /// Reserves `name`, which is a single component.
    pub fn new(name: &str) -> Self {
        Reserved(Some(name.into()))
    }

    /// True if `component` is the name. In upper case, too: there are stores on file systems that take both for one.
    pub fn is(&self, component: &str) -> bool {
        self.0
            .as_deref()
            .is_some_and(|name| name.eq_ignore_ascii_case(component))
    }

    /// True if a component of `key` is the name.
    pub fn is_in(&self, key: &str) -> bool {
        self.0.is_some() && key.split('/').any(|component| self.is(component))
    }
}

impl Home {
    /// `storage_prefix` is `storage.prefix` (empty, or ending in `/`), `home` the user's directory below it.
    /// `max_key_bytes` is the store's limit for a whole key.
    pub fn new(storage_prefix: &str, home: &VirtualPath, max_key_bytes: usize) -> Self {
        let below = if home.is_root() {
            String::new()
        } else {
            format!("{}/", &home.as_str()[1..])
        };
        Home {
            prefix: KeyPrefix(format!("{storage_prefix}{below}")),
            outbox_base: storage_prefix.to_owned(),
            max_key_bytes,
            takes_backslash: true,
            reserved: Reserved::default(),
            files: Arc::default(),
        }
    }

    /// The same without the keys in which `reserved` is a component; if the home itself lies below one, it has no keys.
    pub fn reserving(mut self, reserved: Reserved) -> Self {
        self.reserved = reserved;
        self
    }

    /// The same in a store that takes no key that begins with a backslash, which is COS.
    pub fn without_backslash(mut self) -> Self {
        self.takes_backslash = false;
        self
    }

    /// The same with rules for new files.
    pub fn with_rules(mut self, files: FileRules) -> Self {
        self.files = Arc::new(files);
        self
    }

    /// The rules for new files.
    pub fn file_rules(&self) -> &FileRules {
        &self.files
    }

    /// Refuses a name that no new file may have.
    pub fn check_file(&self, path: &VirtualPath) -> Result<(), StoreError> {
        self.files.check_name(&unescape(path.name()))
    }

    /// Refuses a file of `from` that is to be moved here, as `key`. Within one place of the same rules a directory keeps what it has.
    pub(super) fn check_moved(
        &self,
        from: &Home,
        key: &ObjectKey,
        bytes: u64,
    ) -> Result<(), StoreError> {
        let name = key.as_str().rsplit('/').next().unwrap_or_default();
        if name.is_empty() || self.files == from.files {
            // the marker of a directory, or nothing new
            return Ok(());
        }
        self.files.check_name(name)?;
        self.files.check_size(bytes)
    }

    /// The same with the outbox of its events in it, not beside the other homes.
    pub fn with_outbox_inside(mut self) -> Self {
        self.outbox_base.clone_from(&self.prefix.0);
        self
    }

    /// The prefix that the outbox of its events lies below.
    pub fn outbox_base(&self) -> &str {
        &self.outbox_base
    }

    /// The prefix of all keys of this home.
    pub fn root(&self) -> &KeyPrefix {
        &self.prefix
    }

    /// The key of the file at `path`.
    ///
    /// Fails for the root and for a key over the store's limit.
    pub fn key(&self, path: &VirtualPath) -> Result<ObjectKey, NameError> {
        if path.is_root() {
            return Err(NameError::Root);
        }
        let key = format!("{}{}", self.prefix.0, unescape(&path.as_str()[1..]));
        self.check(&key)?;
        Ok(ObjectKey(key))
    }

    /// Refuses a path for a new file or directory that stands for a key with control characters: what others made can be
    /// fetched, renamed and deleted, but no new one is made, since many tools can't cope with it (and COS refuses CAN, EM, SUB
    /// and ESC). Also what the store itself refuses, so that the reply has the reason.
    pub fn check_new(&self, path: &VirtualPath) -> Result<(), NameError> {
        let name = unescape(path.as_str());
        if name.chars().any(char::is_control) {
            return Err(NameError::ControlCharacter);
        }
        // only the first byte of a whole key counts
        match !self.takes_backslash && self.prefix.0.is_empty() && name.starts_with("/\\") {
            true => Err(NameError::Backslash),
            false => Ok(()),
        }
    }

    /// The prefix of all keys below the directory at `path`.
    pub fn directory(&self, path: &VirtualPath) -> Result<KeyPrefix, NameError> {
        if path.is_root() {
            return match self.reserved.is_in(&self.prefix.0) {
                true => Err(NameError::Reserved),
                false => Ok(self.prefix.clone()),
            };
        }
        let prefix = format!("{}{}/", self.prefix.0, unescape(&path.as_str()[1..]));
        self.check(&prefix)?;
        Ok(KeyPrefix(prefix))
    }

    fn check(&self, key: &str) -> Result<(), NameError> {
        if self.reserved.is_in(key) {
            Err(NameError::Reserved)
        } else if key.len() > self.max_key_bytes {
            Err(NameError::TooLong {
                limit: self.max_key_bytes,
            })
        } else {
            Ok(())
        }
    }
}

impl ObjectKey {
    /// A key of the gateway's own, or one that was read from an entry of the outbox; not one of a client's path.
    pub(super) fn of_entry(prefix: &str, name: &str) -> Self {
        ObjectKey(format!("{prefix}{name}"))
    }

    /// The key as the store spells it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The directory that has this key as its marker.
    pub(super) fn as_directory(&self) -> Option<KeyPrefix> {
        self.0.ends_with('/').then(|| KeyPrefix(self.0.clone()))
    }
}

impl KeyPrefix {
    /// The prefix as the store spells it; empty means the whole bucket.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key of the directory's own marker; none for the bucket itself.
    pub fn marker(&self) -> Option<ObjectKey> {
        (!self.0.is_empty()).then(|| ObjectKey(self.0.clone()))
    }

    /// The key that a listing found below this prefix; `None` if the store answered with something else.
    pub fn below(&self, key: &str) -> Option<ObjectKey> {
        key.starts_with(&self.0).then(|| ObjectKey(key.to_owned()))
    }

    /// The directory that a listing found below this prefix, as [`Self::below`] for a key.
    pub fn directory_below(&self, prefix: &str) -> Option<KeyPrefix> {
        (prefix.starts_with(&self.0) && prefix.ends_with('/')).then(|| KeyPrefix(prefix.to_owned()))
    }

    /// The same key below another directory, for renaming a whole one.
    pub fn moved(&self, key: &ObjectKey, to: &KeyPrefix) -> Option<ObjectKey> {
        key.0
            .strip_prefix(&self.0)
            .map(|rest| ObjectKey(format!("{}{rest}", to.0)))
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Debug for KeyPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn path(text: &str) -> VirtualPath {
        VirtualPath::resolve(&VirtualPath::root(), text).expect("a good path")
    }

    #[test]
    fn keys_have_the_prefix_and_no_leading_slash() {
        let home = Home::new("ftp/", &path("/alice"), 1024);
        assert_eq!(
            home.key(&path("/a/b")).expect("fits").as_str(),
            "ftp/alice/a/b"
        );
        assert_eq!(
            home.directory(&path("/a")).expect("fits").as_str(),
            "ftp/alice/a/"
        );
        assert_eq!(
            home.directory(&path("/")).expect("fits").as_str(),
            "ftp/alice/"
        );
        let whole_bucket = Home::new("", &VirtualPath::root(), 1024);
        assert_eq!(
            whole_bucket.directory(&path("/")).expect("fits").as_str(),
            ""
        );
        assert_eq!(
            whole_bucket.directory(&path("/")).expect("fits").marker(),
            None
        );
        assert_eq!(whole_bucket.key(&VirtualPath::root()), Err(NameError::Root));
    }

    #[test]
    fn a_key_may_have_exactly_the_limit() {
        let home = Home::new("", &path("/h"), 10);
        assert!(home.key(&path("/12345678")).is_ok());
        assert_eq!(
            home.key(&path("/123456789")),
            Err(NameError::TooLong { limit: 10 })
        );
        // the marker of a directory carries one byte more
        assert_eq!(
            home.directory(&path("/12345678")),
            Err(NameError::TooLong { limit: 10 })
        );
    }

    #[test]
    fn no_home_has_a_key_with_the_reserved_name() {
        let reserved = Reserved::new(".cosgate");
        for (home, argument, is_free) in [
            ("/", "a/cosgate/.cosgate2", true),
            ("/", ".cosgate", false),
            ("/", ".cosgate/outbox/01J", false),
            ("/", "//./.cosgate//outbox", false),
            ("/", "a/../.CosGate/outbox", false),
            ("/", "a/b/.cosgate/x", false),
            ("/.cosgate/outbox", "x", false),
            ("/a", "../.cosgate", false),
        ] {
            let home = Home::new("", &path(home), 1024).reserving(reserved.clone());
            let path = path(argument);
            for (key, what) in [
                (home.key(&path).map(drop), "file"),
                (home.directory(&path).map(drop), "directory"),
            ] {
                let expected = if is_free {
                    Ok(())
                } else {
                    Err(NameError::Reserved)
                };
                assert_eq!(key, expected, "{what} {argument}");
            }
        }
        let inside = Home::new(".cosgate/", &path("/outbox"), 1024).reserving(reserved);
        assert_eq!(
            inside.directory(&VirtualPath::root()),
            Err(NameError::Reserved)
        );
    }

    proptest! {
        #[test]
        fn no_input_reaches_the_reserved_name(
            cwd in "(/([ab]|\\.cosgate)){0,3}",
            argument in "(\\.{1,2}|/|a|%2[eE]|\\.cosgate|\\.COSGATE|outbox|%00|%2F){0,8}",
        ) {
            let home = Home::new("", &VirtualPath::root(), 1024).reserving(Reserved::new(".cosgate"));
            if let Ok(cwd) = VirtualPath::resolve(&VirtualPath::root(), &cwd)
                && let Ok(path) = VirtualPath::resolve(&cwd, &argument)
            {
                let is_reserved = |key: &str| key.to_ascii_lowercase().split('/').any(|name| name == ".cosgate");
                if let Ok(key) = home.key(&path) {
                    prop_assert!(!is_reserved(key.as_str()), "{key}");
                }
                if let Ok(directory) = home.directory(&path) {
                    prop_assert!(!is_reserved(directory.as_str()));
                }
            }
        }

        #[test]
        fn two_homes_share_no_key_and_neither_lists_into_the_other(
            storage_prefix in "|ftp/|a/",
            one in "[ab]{1,3}(/[ab]{1,2})?",
            other in "[ab]{1,3}(/[ab]{1,2})?",
            argument in "\\PC{0,20}|[ab./]{0,20}",
        ) {
            let nested = |outer: &str, inner: &str| format!("{inner}/").starts_with(&format!("{outer}/"));
            prop_assume!(!nested(&one, &other) && !nested(&other, &one));
            let [one, other] = [one, other].map(|home| Home::new(&storage_prefix, &path(&home), 1024));
            if let Ok(path) = VirtualPath::resolve(&VirtualPath::root(), &argument) {
                let foreign = other.root().as_str();
                if let Ok(key) = one.key(&path) {
                    prop_assert!(other.root().below(key.as_str()).is_none(), "{key} is below {foreign}");
                }
                if let Ok(directory) = one.directory(&path) {
                    // a listing shows what begins with its prefix
                    prop_assert!(!foreign.starts_with(directory.as_str()));
                    prop_assert!(!directory.as_str().starts_with(foreign));
                }
            }
        }

        #[test]
        fn a_key_in_a_listing_is_found_again_by_its_name(name in "([a%025ACF\n\r\u{1b}\u{85}é]|%0A|%25|%C2%85){1,12}") {
            let home = Home::new("", &path("/h"), 1024);
            let shown = crate::escape::escape(&name).into_owned();
            let found = home.key(&path(&shown)).expect("a key");
            let key = format!("h/{name}");
            prop_assert_eq!(found.as_str(), key.as_str());
            prop_assert_eq!(home.check_new(&path(&shown)).is_err(), name.chars().any(char::is_control));
        }

        #[test]
        fn no_input_leaves_the_home(home in "[ab]{1,3}", cwd in "(/[ab.]{1,2}){0,3}", argument in "\\PC{0,20}|[ab./]{0,20}") {
            let home_path = path(&home);
            let prefix = format!("{home}/");
            let home = Home::new("", &home_path, 1024);
            if let Ok(cwd) = VirtualPath::resolve(&VirtualPath::root(), &cwd)
                && let Ok(path) = VirtualPath::resolve(&cwd, &argument)
            {
                if let Ok(key) = home.key(&path) {
                    prop_assert!(key.as_str().starts_with(&prefix));
                    prop_assert!(!key.as_str().split('/').any(|c| c == ".." || c == "."));
                }
                if let Ok(directory) = home.directory(&path) {
                    prop_assert!(directory.as_str().starts_with(&prefix));
                }
            }
        }
    }
}
