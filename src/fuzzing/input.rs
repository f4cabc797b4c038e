//! The pieces that targets make their inputs of.

use rustix::fs::{MemfdFlags, memfd_create};

/// Well formed, and of no known password.
pub(super) const HASH: &str = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$QmFzZTY0SGFzaEJhc2U2NEhhc2hCYXNlNjRIYXNoMTI";

/// The first byte of an input, which chooses between variants, and the rest.
pub(super) fn choice(input: &[u8]) -> (usize, &[u8]) {
    input
        .split_first()
        .map_or((0, input), |(first, rest)| (usize::from(*first), rest))
}

/// A file that no disk has.
pub(super) fn in_memory(bytes: &[u8]) -> std::fs::File {
    let file = memfd_create("cosgate.yaml", MemfdFlags::CLOEXEC).expect("memory");
    let mut file = std::fs::File::from(file);
    std::io::Write::write_all(&mut file, bytes).expect("memory");
    file
}
