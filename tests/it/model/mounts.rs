//! The mounts of the users of some sequences.

use super::tree::is_below;
use crate::support::gateway::BUCKET;

/// A directory of the tree whose files lie in a place of their own.
#[derive(Debug, Clone)]
pub struct Mount {
    /// The path in the tree.
    pub path: &'static str,
    pub bucket: &'static str,
    /// The place in the bucket, behind the name of the home.
    suffix: &'static str,
    /// Reached with keys that the mount names itself, so that the gateway takes it for another store.
    has_own_keys: bool,
}

/// The keys of the store.
pub const KEYS: [&str; 2] = ["model", "models-secret"];

/// The bucket that no home is in.
pub const SECOND_BUCKET: &str = "second";

/// In the home's bucket, in another one, and at what counts as another store. One has a directory above it. The names are some of
/// those that steps choose.
pub const MOUNTS: [Mount; 3] = [
    Mount {
        path: "/b",
        bucket: BUCKET,
        suffix: "-b",
        has_own_keys: false,
    },
    Mount {
        path: "/c/a",
        bucket: SECOND_BUCKET,
        suffix: "",
        has_own_keys: false,
    },
    Mount {
        path: "/a/b",
        bucket: BUCKET,
        suffix: "-own",
        has_own_keys: true,
    },
];

/// A user's home.
const HOME: Mount = Mount {
    path: "",
    bucket: BUCKET,
    suffix: "",
    has_own_keys: false,
};

impl Mount {
    /// The directory in the bucket, for the user with this home.
    pub fn directory(&self, home: &str) -> String {
        format!("{home}{}", self.suffix)
    }

    /// The entry of `users[].mounts`.
    fn entry(&self, home: &str) -> String {
        let [id, secret] = KEYS;
        let keys = match self.has_own_keys {
            true => format!(", access_key_id: {id}, secret_access_key: {secret}"),
            false => String::new(),
        };
        let (path, bucket) = (self.path, self.bucket);
        let directory = self.directory(home);
        format!("{{path: {path}, bucket: {bucket}, home: /{directory}{keys}}}")
    }

    /// True if a rename may go from the one to the other.
    pub fn shares_store_with(&self, other: &Mount) -> bool {
        self.has_own_keys == other.has_own_keys
    }
}

/// `users[].mounts`
pub fn entries(home: &str) -> String {
    let entries: Vec<String> = MOUNTS.iter().map(|mount| mount.entry(home)).collect();
    format!("[{}]", entries.join(", "))
}

/// The mounts that there are, the home among them.
pub fn places(has_mounts: bool) -> impl Iterator<Item = &'static Mount> {
    let mounts = MOUNTS.iter().filter(move |_| has_mounts);
    mounts.chain([&HOME])
}

/// The one that a path belongs to.
pub fn place(has_mounts: bool, path: &str) -> &'static Mount {
    let mut places = places(has_mounts);
    let place = places.find(|mount| path == mount.path || is_below(path, mount.path));
    place.unwrap_or(&HOME)
}

/// The mount points, and the directories above them.
pub fn directories(has_mounts: bool) -> Vec<&'static str> {
    let below_root = |path: &&str| !path.is_empty();
    let points = places(has_mounts).map(|mount| mount.path);
    let points = points.filter(below_root);
    let all = points.flat_map(|path| {
        let ends = path.match_indices('/').map(|(end, _)| end);
        ends.chain([path.len()]).map(|end| &path[..end])
    });
    let mut all: Vec<&str> = all.filter(below_root).collect();
    all.sort_unstable();
    all.dedup();
    all
}
