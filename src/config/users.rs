//! The `users` list.

use std::collections::HashSet;

use argon2::password_hash::PasswordHash;
use secrecy::SecretString;

use super::parse::{self, Parsed};
use super::reader::Reader;
use super::{Provider, User};

/// Reads the users; entries with a problem are left out.
pub(super) fn resolve(read: &mut Reader, provider: Provider) -> Vec<User> {
    let entries = read.sections(USERS);
    let mut names = HashSet::new();
    let mut users = Vec::with_capacity(entries);
    for index in 0..entries {
        let name = read.entry(USERS, index, "name", name);
        let password_hash = read.entry(USERS, index, "password_hash", password_hash);
        let home = read.entry(USERS, index, "home", home);
        let permissions = read.entry(USERS, index, "permissions", parse::permissions);
        if let Some(name) = &name
            && !names.insert(name.clone())
        {
            read.refuse_entry(
                USERS,
                index,
                "name",
                name,
                "another user has this name already; rename or remove one",
            );
        }
        if let (Some(name), Some(password_hash), Some(home), Some(permissions)) =
            (name, password_hash, home, permissions)
        {
            users.push(User {
                name,
                password_hash,
                home,
                permissions,
            });
        }
    }
    // The built-in store is for trials: there the program makes a user and tells its password.
    if entries == 0 && provider != Provider::Embedded && read.is_sound(USERS) {
        read.refuse(
            USERS,
            "without users nobody can log in; run `cosgate hash-password` and add \
             users: [{name: alice, password_hash: '<its output>'}]",
        );
    }
    users
}

fn name(text: &str) -> Parsed<String> {
    if text.chars().any(char::is_control) {
        Err("a name has no control characters; remove them".into())
    } else if text.len() > MAX_NAME_BYTES {
        Err(format!(
            "a name has at most {MAX_NAME_BYTES} bytes; shorten it"
        ))
    } else {
        Ok(text.to_string())
    }
}

/// An argon2id hash in PHC form, `$argon2id$v=19$m=...,t=...,p=...$salt$hash`.
fn password_hash(text: &str) -> Parsed<SecretString> {
    let hash = PasswordHash::new(text).ok();
    let is_usable = hash.is_some_and(|hash| {
        hash.algorithm == argon2::ARGON2ID_IDENT
            && hash.salt.is_some()
            && hash.hash.is_some()
            && argon2::Params::try_from(&hash).is_ok()
    });
    if is_usable {
        Ok(SecretString::from(text))
    } else {
        Err(
            "this is no argon2id hash; run `cosgate hash-password` and write its whole output here"
                .into(),
        )
    }
}

fn home(text: &str) -> Parsed<String> {
    Ok(format!("/{}", parse::segments(text)?.join("/")))
}

const USERS: &str = "users";
/// As long as the longest names of common directories; a name goes into every log line.
const MAX_NAME_BYTES: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_argon2id_hashes_are_taken() {
        let good = crate::config::tests::HASH;
        assert!(password_hash(good).is_ok());
        for bad in [
            "",
            "secret",
            "$2b$12$abcdefghijklmnopqrstuv",
            "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ",
            &good.replace("argon2id", "argon2i"),
            &good.replace("m=19456", "m=1"),
            &good[..good.len() - 50],
        ] {
            let advice = password_hash(bad).expect_err(bad);
            assert!(advice.contains("cosgate hash-password"));
        }
    }

    #[test]
    fn a_home_is_absolute_and_plain() {
        for (text, want) in [("/", "/"), ("in", "/in"), ("/a//b/./", "/a/b")] {
            assert_eq!(home(text).as_deref(), Ok(want), "{text}");
        }
        assert!(home("/a/../b").is_err());
    }

    #[test]
    fn a_name_is_short_and_printable() {
        assert!(name("ålice@example.com").is_ok());
        assert!(name(&"x".repeat(128)).is_ok());
        assert!(name(&"x".repeat(129)).is_err());
        assert!(name("a\tb").is_err());
    }
}
