//! A user's rights: `users[].permissions` and `users[].delete`.

use std::fmt;

use strum::{EnumString, IntoStaticStr};

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

/// Reads the rights of entry `index`: `inherited` where none are set. `delete` is the user's key of that name.
pub(super) fn permissions(
    read: &mut Reader,
    list: &str,
    index: usize,
    delete: Result<Option<bool>, Refused>,
    inherited: Option<Result<Permissions, Refused>>,
) -> Result<Permissions, Refused> {
    const KEY: &str = "permissions";
    let granted = read.entry_list(list, index, KEY, word);
    let mut permissions = match (granted?, inherited) {
        (none, Some(inherited)) if none.is_empty() => inherited?,
        (granted, _) => all(granted),
    };
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
#[derive(Debug, Clone, Copy, EnumString, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
enum Word {
    #[strum(to_string = "R", serialize = "r")]
    R,
    #[strum(to_string = "W", serialize = "w")]
    W,
    #[strum(to_string = "RW", serialize = "rw")]
    Rw,
    Read,
    Write,
    Delete,
    List,
    Rename,
    Overwrite,
}

impl Word {
    fn permissions(self) -> Permissions {
        let mut rights = Permissions::default();
        match self {
            Word::R => rights = Permissions::READ,
            Word::W => rights = WRITE,
            Word::Rw => rights = Permissions::ALL,
            Word::Read => rights.read = true,
            Word::Write => rights.write = true,
            Word::Delete => rights.delete = true,
            Word::List => rights.list = true,
            Word::Rename => rights.rename = true,
            Word::Overwrite => rights.overwrite = true,
        }
        rights
    }
}

/// Reads one of these words.
pub(in crate::config::sections) fn word(text: &str) -> Parsed<Permissions> {
    const ADVICE: &str = "write R (read and list), W (write, overwrite, delete, rename), RW (all), or any of \
                          read, write, delete, list, rename, overwrite";
    parse::choice_or::<Word>(text, ADVICE).map(Word::permissions)
}

/// All rights that words grant together.
pub(in crate::config::sections) fn all(words: Vec<Permissions>) -> Permissions {
    words.into_iter().fold(Permissions::default(), union)
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
        let shorthands = [Word::Rw, Word::R, Word::W];
        if let Some(word) = shorthands
            .into_iter()
            .find(|word| word.permissions() == *self)
        {
            return f.write_str(word.into());
        }
        let rights = [
            (self.read, Word::Read),
            (self.write, Word::Write),
            (self.delete, Word::Delete),
            (self.list, Word::List),
            (self.rename, Word::Rename),
            (self.overwrite, Word::Overwrite),
        ];
        let words: Vec<&str> = rights
            .into_iter()
            .filter_map(|(granted, word)| granted.then_some(word.into()))
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
