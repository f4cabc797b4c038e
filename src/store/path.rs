//! A client's name of a file: an absolute path inside the user's home.
//!
//! Invariant: a [`VirtualPath`] has no `.`, no `..`, no empty component and no control character, so joining it to a
//! home prefix can never leave that home. There is no other way to make one than [`VirtualPath::resolve`].

use std::fmt;

/// An absolute, normalised path as the client sees it: `/`, `/a`, `/a/b c`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VirtualPath(String);

/// Why a name is refused; the client gets it with reply 553.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Control characters break listings and control replies, and no store lists them reliably.
    #[error("control characters are not allowed in names")]
    ControlCharacter,
    /// The store's limit on the bytes of a key, home prefix included (S3 1024, COS 850).
    #[error("the name is longer than the store's limit of {limit} bytes")]
    TooLong {
        /// The store's limit in bytes.
        limit: usize,
    },
    /// COS takes no key that begins with a backslash (<https://www.tencentcloud.com/document/product/436/13324>).
    #[error("the store takes no name that begins with a backslash")]
    Backslash,
    /// A directory with this name is the gateway's own, see [`Reserved`](crate::store::key::Reserved).
    #[error("this name is reserved for the server")]
    Reserved,
    /// The root directory itself can't be written, renamed or removed.
    #[error("this is the root directory")]
    Root,
}

impl VirtualPath {
    /// The top of the user's home.
    pub fn root() -> Self {
        VirtualPath("/".to_owned())
    }

    /// Resolves what a client typed against its working directory, purely by text: no store is asked.
    ///
    /// `..` in the root is the root, as in a shell (POSIX, Pathname Resolution) and on other FTP servers with a home as
    /// root: clients go up until nothing changes, and an error there stops them.
    pub fn resolve(working_directory: &VirtualPath, argument: &str) -> Result<Self, NameError> {
        if argument.chars().any(char::is_control) {
            return Err(NameError::ControlCharacter);
        }
        let base = if argument.starts_with('/') {
            ""
        } else {
            working_directory.0.as_str()
        };
        let mut components: Vec<&str> = Vec::new();
        for component in base.split('/').chain(argument.split('/')) {
            match component {
                "" | "." => {}
                ".." => drop(components.pop()),
                name => components.push(name),
            }
        }
        Ok(VirtualPath(format!("/{}", components.join("/"))))
    }

    /// The directory above; the root is its own parent (`CDUP` in `/` stays there).
    pub fn parent(&self) -> Self {
        match self.0.rfind('/') {
            Some(0) | None => Self::root(),
            Some(at) => VirtualPath(self.0[..at].to_owned()),
        }
    }

    /// The last component, empty for the root.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// True for `/`.
    pub fn is_root(&self) -> bool {
        self.0 == "/"
    }

    /// True if `other` is this path or lies below it.
    pub fn contains(&self, other: &VirtualPath) -> bool {
        self.is_root()
            || other
                .0
                .strip_prefix(&self.0)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// The path as seen from `directory`, which contains it.
    pub fn below(&self, directory: &VirtualPath) -> Self {
        let rest = self.0.strip_prefix(&directory.0).unwrap_or(&self.0);
        match rest {
            "" => Self::root(),
            _ if directory.is_root() => self.clone(),
            rest => VirtualPath(rest.to_owned()),
        }
    }

    /// The text with its leading slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for VirtualPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for VirtualPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(cwd: &str, argument: &str) -> Result<String, NameError> {
        let cwd =
            VirtualPath::resolve(&VirtualPath::root(), cwd).expect("a good working directory");
        VirtualPath::resolve(&cwd, argument).map(|path| path.0)
    }

    #[test]
    fn relative_and_absolute_names_resolve_by_text() {
        for (cwd, argument, want) in [
            ("/", "a", "/a"),
            ("/a/b", "c", "/a/b/c"),
            ("/a/b", "/c", "/c"),
            ("/a/b", "..", "/a"),
            ("/a/b", "../../x", "/x"),
            ("/a", "./b//c/", "/a/b/c"),
            ("/a", " b ", "/a/ b "),
            ("/a", "...", "/a/..."),
            ("/", "", "/"),
            ("/", "..", "/"),
            ("/a", "../../etc/passwd", "/etc/passwd"),
            ("/a", "/../x", "/x"),
            ("/a", "../..", "/"),
        ] {
            assert_eq!(
                resolve(cwd, argument).as_deref(),
                Ok(want),
                "{cwd} + {argument}"
            );
        }
    }

    #[test]
    fn control_characters_are_refused() {
        for argument in ["a\0b", "a\rb", "a\nb", "\u{7f}", "\u{85}"] {
            assert_eq!(
                resolve("/", argument),
                Err(NameError::ControlCharacter),
                "{argument:?}"
            );
        }
    }

    #[test]
    fn containment_goes_by_whole_components() {
        let path = |text| VirtualPath::resolve(&VirtualPath::root(), text).expect("a good path");
        assert!(path("/a").contains(&path("/a")));
        assert!(path("/a").contains(&path("/a/b")));
        assert!(!path("/a").contains(&path("/ab")));
        assert!(path("/").contains(&path("/ab")));
    }

    proptest::proptest! {
        #[test]
        fn no_input_leaves_the_home(cwd in "(/[a-c.]{1,3}){0,4}", argument in "[a-c./ \u{0}-\u{ff}]{0,40}") {
            if let Ok(cwd) = VirtualPath::resolve(&VirtualPath::root(), &cwd)
                && let Ok(path) = VirtualPath::resolve(&cwd, &argument)
            {
                let text = path.as_str();
                proptest::prop_assert!(text.starts_with('/'));
                proptest::prop_assert!(path.is_root() || text[1..].split('/').all(|c| !matches!(c, "" | "." | "..")));
                proptest::prop_assert!(!text.chars().any(char::is_control));
            }
        }
    }
}
