//! The memory that this container may use.

use std::path::{Path, PathBuf};

use super::parse::{self, size_text};
use super::reader::Reader;

/// Budget for upload parts, and again for what downloads read ahead, where none is configured; `limit` is the container's
/// memory.
pub fn default_budget(limit: Option<u64>) -> u64 {
    match limit {
        // A quarter for uploads, one for downloads; half stays for connections, TLS and the allocator.
        Some(bytes) => (bytes / 4).max(64 * MIB),
        None => 256 * MIB,
    }
}

/// The configured value, or a part of the memory there is.
pub(super) fn budget(read: &mut Reader, key: &'static str) -> u64 {
    read.optional(key, parse::size).unwrap_or_else(|| {
        let budget = default_budget(MemoryLimit::default().read());
        if read.is_valid(key) {
            read.record_effective(key, &size_text(budget));
        }
        budget
    })
}

/// Where the memory limit of a control group is read.
#[derive(Debug, Clone)]
pub struct MemoryLimit {
    /// The mounted control groups.
    pub root: PathBuf,
    /// The file that names the process's own group, as `/proc/self/cgroup` does (cgroups(7)).
    pub own: PathBuf,
}

impl Default for MemoryLimit {
    /// That of this process.
    fn default() -> Self {
        MemoryLimit {
            root: PathBuf::from("/sys/fs/cgroup"),
            own: PathBuf::from("/proc/self/cgroup"),
        }
    }
}

impl MemoryLimit {
    /// The limit as it is now, in bytes; none without one. It changes while the process runs where a pod is resized in place
    /// (Kubernetes 1.35). Files of the kernel's own, so this does not wait.
    pub fn read(&self) -> Option<u64> {
        // without the file the process's group is taken to be the root of what is mounted
        let own = std::fs::read_to_string(&self.own).unwrap_or_default();
        limit_under(&self.root, &own)
    }
}

/// As [`MemoryLimit::read`], with `root` as the mounted control groups and `own` as the text of `/proc/self/cgroup`.
fn limit_under(root: &Path, own: &str) -> Option<u64> {
    // Lines are `ID:CONTROLLERS:PATH`; in version 2 there is one, and it names no controller.
    let group = |wanted: fn(&str) -> bool| {
        own.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let controllers = fields.next()?;
            wanted(controllers).then(|| fields.next().unwrap_or("/"))
        })
    };
    let v2 = lowest(root, group(str::is_empty).unwrap_or("/"), "memory.max");
    v2.or_else(|| {
        let v1 = group(|controllers| controllers.split(',').any(|name| name == "memory"));
        lowest(
            &root.join("memory"),
            v1.unwrap_or("/"),
            "memory.limit_in_bytes",
        )
    })
}

/// The lowest limit of the group and the groups around it; each of them holds.
fn lowest(root: &Path, group: &str, file: &str) -> Option<u64> {
    // A container often sees its own group as the root while the path is that of the host, so
    // groups that are not there are passed over.
    let group = Path::new(group.trim_start_matches('/'));
    group
        .ancestors()
        .filter(|path| !path.components().any(|part| part.as_os_str() == ".."))
        .filter_map(|path| std::fs::read_to_string(root.join(path).join(file)).ok())
        .filter_map(|text| text.trim().parse::<u64>().ok())
        // Version 1 says "no limit" with the largest number of whole pages.
        .filter(|bytes| (1..1 << 60).contains(bytes))
        .min()
}

const MIB: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("temporary directory");
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a file has a directory")).expect("create");
            fs::write(path, text).expect("write");
        }
        root
    }

    #[test]
    fn the_budget_is_a_quarter_of_the_limit_within_bounds() {
        assert_eq!(default_budget(None), 256 * MIB);
        assert_eq!(default_budget(Some(2048 * MIB)), 512 * MIB);
        assert_eq!(default_budget(Some(100 * MIB)), 64 * MIB);
    }

    #[test]
    fn the_limit_of_a_container_is_found_in_both_versions() {
        for (files, own, limit) in [
            (&[("memory.max", "1048576\n")][..], "0::/\n", Some(MIB)),
            (
                &[("memory.max", "1048576\n")],
                "0::/kubepods/pod1\n",
                Some(MIB),
            ),
            (&[("memory.max", "1048576\n")], "0::/../../x\n", Some(MIB)),
            (
                &[("a/memory.max", "7\n"), ("a/b/memory.max", "9\n")],
                "0::/a/b\n",
                Some(7),
            ),
            (
                &[("a/memory.max", "max\n"), ("a/b/memory.max", "9\n")],
                "0::/a/b\n",
                Some(9),
            ),
            (&[("memory.max", "max\n")], "0::/\n", None),
            (
                &[("memory/memory.limit_in_bytes", "4096\n")],
                "5:cpu,memory:/docker/1\n",
                Some(4096),
            ),
            (
                &[("memory/memory.limit_in_bytes", "9223372036854771712\n")],
                "5:memory:/\n",
                None,
            ),
            (&[], "", None),
            (&[("memory.max", "garbage")], "nonsense", None),
        ] {
            let root = tree(files);
            assert_eq!(limit_under(root.path(), own), limit, "{files:?} {own:?}");
        }
    }
}
