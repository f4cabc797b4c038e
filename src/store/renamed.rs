//! The result of a rename.

/// A rename that was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Renamed {
    /// Files under the old name that somebody has stored meanwhile, and that stay there.
    pub left: u64,
    /// Objects that were moved, the markers of directories included.
    pub moved: u64,
}

impl Renamed {
    /// Of one file.
    pub(super) fn file(left: u64) -> Self {
        Renamed { left, moved: 1 }
    }
}
