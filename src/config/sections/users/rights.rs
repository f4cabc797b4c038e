//! A user's rights: `users[].permissions` and `users[].delete`.

use std::fmt;

use crate::config::keys::row::*;
use crate::config::parse::{self, Parsed};
use crate::config::reader::{Reader, Refused};

/// The rows of the table.
#[rustfmt::skip]
pub(in crate::config) const KEYS: &[Key] = &[
    key("users[].permissions", List, Is("RW"),
        "`R`, `W`, `RW`, or any of `read`, `write`, `delete`, `list`, `rename`, `overwrite`, with commas or as a list."),
    key("users[].delete", Choice(SWITCH), Is("true"),
        "`false` takes deleting, renaming and overwriting away, whatever `permissions` says."),
];

/// A user's rights; never nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Permissions {
    /// Download.
    pub read: bool,
    /// Store new files, make directories, set times.
    pub write: bool,
    /// Delete files and directories.
    pub delete: bool,
    /// List directories.
    pub list: bool,
    /// Rename files and directories.
    pub rename: bool,
    /// Replace or continue a file that is there.
    pub overwrite: bool,
}

impl Permissions {
    /// Everything: `RW`.
    pub const ALL: Self = Self {
        read: true,
        write: true,
        delete: true,
        list: true,
        rename: true,
        overwrite: true,
    };

    /// Read and list: `R`.
    pub const READ: Self = Self {
        read: true,
        list: true,
        write: false,
        delete: false,
        rename: false,
        overwrite: false,
    };
}

/// Reads the rights of entry `index`.
pub(super) fn permissions(
    read: &mut Reader,
    list: &'static str,
    index: usize,
) -> Result<Permissions, Refused> {
    const KEY: &str = "permissions";
    let granted = read.entry_list(list, index, KEY, word);
    let delete = read.entry_optional(list, index, "delete", parse::switch);
    let mut permissions = granted?.into_iter().fold(Permissions::default(), union);
    if delete? == Some(false) {
        // renaming and overwriting are ways to make a file disappear, too
        permissions.delete = false;
        permissions.rename = false;
        permissions.overwrite = false;
        if permissions == Permissions::default() {
            let advice = "with `delete: false` nothing is left of it; grant something else, or remove `delete`";
            read.refuse_entry(list, index, KEY, None, advice);
            return Err(Refused);
        }
    }
    Ok(permissions)
}

/// One right, or a shorthand for several.
fn word(text: &str) -> Parsed<Permissions> {
    let mut rights = Permissions::default();
    match text {
        "R" | "r" => rights = Permissions::READ,
        "W" | "w" => rights = WRITE,
        "RW" | "rw" => rights = Permissions::ALL,
        "read" => rights.read = true,
        "write" => rights.write = true,
        "delete" => rights.delete = true,
        "list" => rights.list = true,
        "rename" => rights.rename = true,
        "overwrite" => rights.overwrite = true,
        _ => {
            return Err(
                "write R (read and list), W (write, overwrite, delete, rename), RW (all), or any of \
                 read, write, delete, list, rename, overwrite"
                    .into(),
            );
        }
    }
    Ok(rights)
}

fn union(one: Permissions, other: Permissions) -> Permissions {
    Permissions {
        read: one.read || other.read,
        write: one.write || other.write,
        delete: one.delete || other.delete,
        list: one.list || other.list,
        rename: one.rename || other.rename,
        overwrite: one.overwrite || other.overwrite,
    }
}

const WRITE: Permissions = Permissions {
    write: true,
    overwrite: true,
    delete: true,
    rename: true,
    read: false,
    list: false,
};

impl fmt::Display for Permissions {
    /// In words that `word` reads again.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Permissions::ALL {
            return f.write_str("RW");
        }
        if *self == Permissions::READ {
            return f.write_str("R");
        }
        if *self == WRITE {
            return f.write_str("W");
        }
        let rights = [
            (self.read, "read"),
            (self.write, "write"),
            (self.delete, "delete"),
            (self.list, "list"),
            (self.rename, "rename"),
            (self.overwrite, "overwrite"),
        ];
        let words: Vec<&str> = rights
            .into_iter()
            .filter_map(|(granted, word)| granted.then_some(word))
            .collect();
        f.write_str(&words.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_written_as_they_are_read() {
        for text in [
            "R",
            "W",
            "RW",
            "read",
            "list",
            "read, write, list",
            "delete, rename, overwrite",
        ] {
            let words = text.split(", ").map(|text| word(text).expect(text));
            let rights = words.fold(Permissions::default(), union);
            assert_eq!(rights.to_string(), text);
        }
        assert_eq!(union(Permissions::READ, WRITE), Permissions::ALL);
        for text in ["", "all", "WR", "Read", "RW "] {
            assert!(word(text).is_err(), "{text}");
        }
    }
}
