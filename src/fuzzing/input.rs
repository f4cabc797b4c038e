//! The pieces that targets make their inputs of.

use std::os::fd::AsRawFd as _;
use std::path::PathBuf;

use rustix::fs::{MemfdFlags, memfd_create};

use crate::config::{ConfigError, Loaded, load_from};

/// The first byte of an input, which chooses between variants, and the rest.
pub(super) fn choice(input: &[u8]) -> (usize, &[u8]) {
    input
        .split_first()
        .map_or((0, input), |(first, rest)| (usize::from(*first), rest))
}

/// The configuration that this YAML and these variables are.
pub(super) fn load(
    yaml: &str,
    env: impl IntoIterator<Item = (String, String)>,
) -> Result<Loaded, ConfigError> {
    let file = in_memory(yaml.as_bytes());
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    load_from(Some(&path), env)
}

/// A file that no disk has.
fn in_memory(bytes: &[u8]) -> std::fs::File {
    let file = memfd_create("cosgate.yaml", MemfdFlags::CLOEXEC).expect("memory");
    let mut file = std::fs::File::from(file);
    std::io::Write::write_all(&mut file, bytes).expect("memory");
    file
}
