//! A directory as kubelet makes it for a Secret or a ConfigMap.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// One file in such a directory.
pub struct Mount {
    directory: tempfile::TempDir,
    name: &'static str,
}

impl Mount {
    /// The file `name` with this content.
    pub fn new(name: &'static str, content: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let mount = Mount { directory, name };
        mount.swap("v0", content);
        symlink(Path::new("..data").join(name), mount.file()).expect("a link");
        mount
    }

    /// Its path.
    pub fn file(&self) -> PathBuf {
        self.directory.path().join(self.name)
    }

    /// Puts another content into force, as a version that no earlier one had the name of.
    pub fn swap(&self, version: &str, content: &str) {
        let inside = |name: &str| self.directory.path().join(name);
        std::fs::create_dir(inside(version)).expect("a version");
        std::fs::write(inside(version).join(self.name), content).expect("a file");
        symlink(Path::new(version), inside("..new")).expect("a link");
        std::fs::rename(inside("..new"), inside("..data")).expect("swapped");
    }
}
