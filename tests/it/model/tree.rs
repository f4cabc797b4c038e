//! The tree of files and directories that the gateway should show, in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::mounts;

/// Files and directories by their absolute paths. The root is always there.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    files: BTreeMap<String, File>,
    /// Without those that are always there.
    directories: BTreeSet<String>,
    /// The users have [`mounts::MOUNTS`].
    pub has_mounts: bool,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    pub content: Arc<Vec<u8>>,
    /// The time that a client set, in seconds since 1970.
    pub set: Option<i64>,
    /// The number of the step that wrote the object last.
    pub written: usize,
}

/// One line of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub path: String,
    /// None for a directory.
    pub file: Option<File>,
}

/// The path that an argument stands for: `.` and empty components go, `..` goes up and never above the root.
pub fn resolve(working_directory: &str, argument: &str) -> String {
    let base = match argument.starts_with('/') {
        true => "",
        false => working_directory,
    };
    let mut path = Vec::new();
    for component in base.split('/').chain(argument.split('/')) {
        match component {
            "" | "." => {}
            ".." => drop(path.pop()),
            name => path.push(name),
        }
    }
    format!("/{}", path.join("/"))
}

/// The directory above.
pub fn parent(path: &str) -> String {
    resolve(path, "..")
}

/// The last component.
pub fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// True if `path` lies below `directory`.
pub fn is_below(path: &str, directory: &str) -> bool {
    let directory = directory.trim_end_matches('/');
    let rest = path.strip_prefix(directory);
    rest.is_some_and(|rest| rest.len() > 1 && rest.starts_with('/'))
}

/// All directories above a path but the root, the nearest first.
fn above(path: &str) -> impl Iterator<Item = String> {
    let first = parent(path);
    let all = std::iter::successors(Some(first), |path| Some(parent(path)));
    all.take_while(|path| path != "/")
}

impl Tree {
    pub fn new(has_mounts: bool) -> Self {
        Tree {
            has_mounts,
            ..Tree::default()
        }
    }

    pub fn file(&self, path: &str) -> Option<&File> {
        self.files.get(path)
    }

    pub fn is_directory(&self, path: &str) -> bool {
        path == "/" || self.directories.contains(path) || self.leads_to_mount(path)
    }

    /// True for mount points and the directories above them but the root.
    pub fn leads_to_mount(&self, path: &str) -> bool {
        mounts::directories(self.has_mounts).contains(&path)
    }

    /// True for what can be renamed, or seems so: the root can't, but that is found out later.
    pub fn is_movable(&self, path: &str) -> bool {
        self.is_there(path) && !self.leads_to_mount(path)
    }

    /// True for a directory that can be removed.
    pub fn is_removable(&self, path: &str) -> bool {
        self.directories.contains(path)
            && !self.leads_to_mount(path)
            && self.entries(path).is_empty()
    }

    /// True if a rename may go from the one to the other.
    pub fn are_in_one_store(&self, from: &str, to: &str) -> bool {
        let place = |path| mounts::place(self.has_mounts, path);
        place(from).shares_store_with(place(to))
    }

    /// True if a rename goes from one mount to another.
    pub fn changes_mount(&self, from: &str, to: &str) -> bool {
        let point = |path| mounts::place(self.has_mounts, path).path;
        point(from) != point(to)
    }

    pub fn is_there(&self, path: &str) -> bool {
        self.file(path).is_some() || self.is_directory(path)
    }

    pub fn files(&self) -> &BTreeMap<String, File> {
        &self.files
    }

    /// The directories that are in the store.
    pub fn made_directories(&self) -> &BTreeSet<String> {
        &self.directories
    }

    /// All directories but the root.
    pub fn directories(&self) -> BTreeSet<String> {
        let always = mounts::directories(self.has_mounts).into_iter();
        let mut all = self.directories.clone();
        all.extend(always.map(str::to_owned));
        all
    }

    /// All paths but the root.
    pub fn paths(&self) -> Vec<String> {
        let files = self.files.keys();
        files.cloned().chain(self.directories()).collect()
    }

    /// True if a path has a file above it, so that nothing can be there.
    pub fn is_below_file(&self, path: &str) -> bool {
        above(path).any(|path| self.files.contains_key(&path))
    }

    /// Directories above a path come into being in the place that it belongs to.
    fn make_above(&mut self, path: &str) {
        let point = mounts::place(self.has_mounts, path).path;
        let inside = above(path).take_while(|directory| is_below(directory, point));
        self.directories.extend(inside);
    }

    /// Stores a file. Directories above it come into being.
    pub fn store(&mut self, path: &str, content: Vec<u8>, step: usize) {
        self.make_above(path);
        let file = File {
            content: Arc::new(content),
            set: None,
            written: step,
        };
        self.files.insert(path.to_owned(), file);
    }

    pub fn set_time(&mut self, path: &str, time: i64, step: usize) {
        if let Some(file) = self.files.get_mut(path) {
            file.set = Some(time);
            file.written = step;
        }
    }

    pub fn make_directory(&mut self, path: &str) {
        self.make_above(path);
        self.directories.insert(path.to_owned());
    }

    /// Removes a file or an empty directory.
    pub fn remove(&mut self, path: &str) {
        self.files.remove(path);
        self.directories.remove(path);
    }

    /// Moves a file. A file under the new name is replaced.
    pub fn rename_file(&mut self, from: &str, to: &str, step: usize) {
        let Some(mut file) = self.files.remove(from) else {
            return;
        };
        file.written = step;
        self.make_above(to);
        self.files.insert(to.to_owned(), file);
    }

    /// Moves a directory with all that is in it. Copies that are there already stay as they are.
    pub fn rename_directory(&mut self, from: &str, to: &str, step: usize) {
        let moved = |path: &String| format!("{to}{}", &path[from.len()..]);
        let is_moved = |path: &String| path == from || is_below(path, from);
        let files: Vec<String> = self.files.keys().filter(|p| is_moved(p)).cloned().collect();
        for path in files {
            let mut file = self.files.remove(&path).expect("it was listed");
            file.written = step;
            self.files.entry(moved(&path)).or_insert(file);
        }
        let (gone, mut stay): (BTreeSet<String>, BTreeSet<String>) =
            std::mem::take(&mut self.directories)
                .into_iter()
                .partition(is_moved);
        stay.extend(gone.iter().map(moved));
        self.directories = stay;
        self.make_above(to);
    }

    /// True if `to` is what an interrupted rename of `from` has left: the same rename then goes on. Each file that both have
    /// is the same, there is one at least, and no more than one of the two has files besides.
    pub fn is_begun_rename(&self, from: &str, to: &str) -> bool {
        let below = |directory: &str| {
            let files = self
                .files
                .iter()
                .filter(|(path, _)| is_below(path, directory));
            let names = files.map(|(path, file)| (path[directory.len()..].to_owned(), file));
            names.collect::<BTreeMap<_, _>>()
        };
        let (old, new) = (below(from), below(to));
        let common = old
            .iter()
            .filter_map(|(name, file)| Some((file, new.get(name)?)));
        let (same, other): (Vec<_>, Vec<_>) =
            common.partition(|(old, new)| old.content == new.content);
        let has_own = |one: &BTreeMap<String, _>| one.len() > same.len();
        other.is_empty() && !same.is_empty() && !(has_own(&old) && has_own(&new))
    }

    /// The entries of a directory.
    pub fn entries(&self, directory: &str) -> Vec<Entry> {
        let paths = self.paths().into_iter();
        let direct = paths.filter(|path| parent(path) == directory);
        direct.map(|path| self.entry(&path)).collect()
    }

    pub fn entry(&self, path: &str) -> Entry {
        Entry {
            path: path.to_owned(),
            file: self.files.get(path).cloned(),
        }
    }
}
