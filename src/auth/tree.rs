//! A user's tree: the mounts, each with a place, a store and permissions of its own. The home is the mount at `/`.
//!
//! Invariant: a path belongs to one mount, and no path of a mount leads to a key outside of the mount's own place.

use std::sync::Arc;

use crate::auth::mount::{Mount, Right};
use crate::auth::user::User;
use crate::store::{Entry, Located, Store, StoreError, VirtualPath};

/// A user's files, with the stores that they are in.
#[derive(Clone)]
pub struct Tree {
    user: Arc<User>,
    /// One for each of the user's mounts, in the same order.
    stores: Arc<[Store]>,
}

impl Tree {
    /// `store_of` returns the store of a mount.
    pub fn new(user: Arc<User>, store_of: impl Fn(&Mount) -> Store) -> Self {
        Tree {
            stores: user.mounts.iter().map(store_of).collect(),
            user,
        }
    }

    /// The user.
    pub fn user(&self) -> &User {
        &self.user
    }

    /// The place of `path`.
    pub fn at(&self, path: &VirtualPath) -> Located<'_> {
        self.located(self.user.mount_index(path), path)
    }

    fn located(&self, index: usize, path: &VirtualPath) -> Located<'_> {
        let mount = &self.user.mounts[index];
        Located {
            store: &self.stores[index],
            home: &mount.home,
            path: path.below(&mount.path),
        }
    }

    /// The place of `path` for a user who has this right there.
    pub fn permitted(&self, path: &VirtualPath, right: Right) -> Result<Located<'_>, StoreError> {
        let index = self.user.mount_index(path);
        self.user.mounts[index].may(right)?;
        Ok(self.located(index, path))
    }

    /// The same for a command on a file: mount points, and the directories above them, are directories whatever the store has.
    pub fn permitted_file(
        &self,
        path: &VirtualPath,
        right: Right,
    ) -> Result<Located<'_>, StoreError> {
        let at = self.permitted(path, right)?;
        match self.user.leads_to_mount(path) {
            true => Err(StoreError::IsDirectory),
            false => Ok(at),
        }
    }

    /// The entry at `path`.
    pub async fn entry(&self, path: &VirtualPath) -> Result<Entry, StoreError> {
        if self.user.leads_to_mount(path) {
            return self.directory_entry(path).await;
        }
        let at = self.at(path);
        at.store.entry(at.home, &at.path).await
    }

    /// The directory at `path`.
    pub async fn directory_entry(&self, path: &VirtualPath) -> Result<Entry, StoreError> {
        let at = self.at(path);
        let entry = match at.store.directory_entry(at.home, &at.path).await {
            Err(StoreError::NotFound) if self.user.leads_to_mount(path) => {
                Entry::directory(path.name())
            }
            entry => entry?,
        };
        let name = path.name().to_owned();
        Ok(Entry { name, ..entry })
    }

    /// The places of a rename, for a user who may do it. From mount to mount it is also a download, a removal and an upload: without
    /// these rights a drop box could be read by what it is renamed to.
    ///
    /// Refuses what no store can do: to rename a mount point, onto one, or from store to store.
    pub fn renamed(
        &self,
        from: &VirtualPath,
        to: &VirtualPath,
    ) -> Result<(Located<'_>, Located<'_>), StoreError> {
        let (at, there) = (self.user.mount_index(from), self.user.mount_index(to));
        let (source, target) = (&self.user.mounts[at], &self.user.mounts[there]);
        let changes_mount = at != there;
        source.may(Right::Rename)?;
        target.may(Right::Rename)?;
        if changes_mount {
            source.may(Right::Read)?;
            source.may(Right::Delete)?;
            target.may(Right::Write)?;
        }
        self.user.check_movable(from)?;
        if self.user.leads_to_mount(to) {
            return Err(StoreError::AlreadyExists);
        }
        if changes_mount && !source.tenant.reaches_store_of(&target.tenant) {
            return Err(StoreError::AnotherStore);
        }
        Ok((self.located(at, from), self.located(there, to)))
    }
}

impl User {
    /// The mount that `path` belongs to.
    pub fn mount(&self, path: &VirtualPath) -> &Mount {
        &self.mounts[self.mount_index(path)]
    }

    fn mount_index(&self, path: &VirtualPath) -> usize {
        let mut mounts = self.mounts.iter();
        let index = mounts.position(|mount| mount.path.contains(path));
        index.unwrap_or_else(|| unreachable!("the home contains all paths"))
    }

    /// The mounts below the home.
    fn mount_points(&self) -> impl Iterator<Item = &VirtualPath> {
        let below = self.mounts.iter().map(|mount| &mount.path);
        below.filter(|path| !path.is_root())
    }

    /// True for mount points, and for directories with one below them; false for the root, which always is a directory.
    pub fn leads_to_mount(&self, path: &VirtualPath) -> bool {
        !path.is_root() && self.mount_points().any(|point| path.contains(point))
    }

    /// Refuses to remove or rename a directory that is a mount point or has one below it.
    pub fn check_movable(&self, path: &VirtualPath) -> Result<(), StoreError> {
        match self.leads_to_mount(path) {
            true => Err(StoreError::MountPoint),
            false => Ok(()),
        }
    }

    /// The names in the directory at `path` that lead to mount points, each once and in order.
    pub fn mount_names(&self, path: &VirtualPath) -> Vec<&str> {
        let inside = self.mount_points();
        let inside = inside.filter(|point| path.contains(point) && path != *point);
        let mut names: Vec<&str> = inside
            .filter_map(|point| {
                let rest = match path.is_root() {
                    true => point.as_str(),
                    false => point.as_str().strip_prefix(path.as_str())?,
                };
                rest.split('/').nth(1)
            })
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// Removes the entries that lie behind mounts, whose names are in order.
pub fn hide_behind(mounts: &[&str], entries: &mut Vec<Entry>) {
    if !mounts.is_empty() {
        entries.retain(|entry| mounts.binary_search(&entry.name.as_str()).is_err());
    }
}

impl std::fmt::Debug for Tree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tree")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::auth::user::HomeDefaults;
    use crate::config::{self, Permissions, UploadOverrides};

    fn path(text: &str) -> VirtualPath {
        VirtualPath::resolve(&VirtualPath::root(), text).expect("a good path")
    }

    /// A user with a mount at each of `points`, of the directory `mounts/N`.
    fn user(points: &[&str]) -> User {
        let mut user = config::User::unconditional("alice", "/home", None);
        let mounts = points.iter().enumerate().map(|(at, point)| config::Mount {
            path: (*point).to_owned(),
            home: format!("/mounts/{at}"),
            permissions: Permissions::ALL,
            bucket: None,
            site: None,
            credentials: None,
            max_file_size: None,
            upload: UploadOverrides::default(),
        });
        user.mounts = mounts.collect();
        User::new(&user, &HomeDefaults::for_tests())
    }

    fn key(user: &User, path: &VirtualPath) -> Option<String> {
        let mount = user.mount(path);
        let key = mount.home.key(&path.below(&mount.path)).ok()?;
        Some(key.as_str().to_owned())
    }

    #[test]
    fn a_path_belongs_to_the_mount_that_contains_it() {
        let user = user(&["/a", "/b/c"]);
        for (text, expected) in [
            ("/x", "ftp/home/x"),
            ("/a/x/y", "ftp/mounts/0/x/y"),
            ("/ab", "ftp/home/ab"),
            ("/b", "ftp/home/b"),
            ("/b/c/d", "ftp/mounts/1/d"),
            ("/b/cd", "ftp/home/b/cd"),
            ("/a/../b/x", "ftp/home/b/x"),
        ] {
            assert_eq!(key(&user, &path(text)).as_deref(), Some(expected), "{text}");
        }
        assert_eq!(key(&user, &path("/a")), None);
    }

    #[test]
    fn mount_points_and_what_is_above_them_are_directories_with_names() {
        let user = user(&["/b/c", "/a", "/b/d/e", "/b/d/f"]);
        for (text, leads, names) in [
            ("/", false, &["a", "b"][..]),
            ("/a", true, &[]),
            ("/b", true, &["c", "d"]),
            ("/b/d", true, &["e", "f"]),
            ("/b/c", true, &[]),
            ("/b/c/x", false, &[]),
            ("/bb", false, &[]),
        ] {
            let path = path(text);
            assert_eq!(user.leads_to_mount(&path), leads, "{text}");
            assert_eq!(user.check_movable(&path).is_err(), leads, "{text}");
            assert_eq!(user.mount_names(&path), names, "{text}");
        }
        assert!(super::tests::user(&[]).mount_names(&path("/")).is_empty());
    }

    proptest! {
        #[test]
        fn a_path_never_leaves_its_mount(
            points in prop::sample::subsequence(vec!["/a", "/b/a", "/b/b", "/c/c/c"], 0..=4),
            cwd in "(/[abc]{1,2}){0,4}",
            argument in "\\PC{0,20}|[abc./%]{0,20}",
        ) {
            let user = user(&points);
            let cwd = path(&cwd);
            if let Ok(path) = VirtualPath::resolve(&cwd, &argument) {
                let mount = user.mount(&path);
                prop_assert!(mount.path.contains(&path));
                // the home's only where no mount has it
                let of_mount = points.iter().any(|point| super::tests::path(point).contains(&path));
                prop_assert_eq!(of_mount, !mount.path.is_root());
                if let Some(key) = key(&user, &path) {
                    let inside = mount.home.root().as_str();
                    prop_assert!(key.starts_with(inside), "{key} is outside of {inside}");
                    let others = user.mounts.iter().filter(|other| other.path != mount.path);
                    for other in others {
                        prop_assert!(!key.starts_with(other.home.root().as_str()), "{key}");
                    }
                }
            }
        }
    }
}
