//! Users: the `users` list, the users file, and what an authentication endpoint answers. All are made of the same keys.

use std::collections::HashSet;

use crate::config::error::printable;
use crate::config::reader::Reader;
use crate::config::sections::storage::Storage;
use crate::config::sections::storage::provider::Provider;

pub(super) mod documents;
pub(super) mod entry;
pub(super) mod list;
pub(super) mod mounts;
pub(super) mod rights;
pub(super) mod site;

use documents::{FILE, UsersFile, users_file};
use entry::{User, entries};
use list::{Authority, USERS};
use site::StorageDefaults;

/// Reads the users of the configuration and of the users file; entries with a problem are left out.
pub(super) fn resolve(
    read: &mut Reader,
    storage: &Storage,
    has_authenticator: bool,
) -> (Vec<User>, Option<UsersFile>) {
    let common = StorageDefaults::read(read, storage);
    let users = entries(read, &common, Authority::Hash);
    let file = users_file(read, &common);
    if let Some(file) = &file {
        let names: HashSet<&str> = users.iter().map(|user| user.name.as_str()).collect();
        let twice = file
            .users
            .iter()
            .find(|user| names.contains(user.name.as_str()));
        if let Some(user) = twice {
            let advice = format!(
                "the user {} stands in it and in `users` too; remove one of the two",
                printable(&user.name)
            );
            read.refuse(FILE, advice);
        }
    }
    // The embedded store is for trials: there the program makes a user and shows its password.
    let nobody = read.sections(USERS) == 0 && !read.is_set(FILE) && !has_authenticator;
    let asked = ["auth.http.url", "auth.ldap.url", USERS, FILE];
    if nobody
        && storage.provider != Provider::Embedded
        && asked.iter().all(|key| read.is_valid(key))
    {
        read.refuse(
            USERS,
            "without users nobody can log in; run `cosgate hash-password` and add \
             users: [{name: alice, password_hash: '<its output>'}], or set users_file, auth.http.url or auth.ldap.url",
        );
    }
    let of_file = file
        .iter()
        .flat_map(|file| &file.users)
        .map(|user| (FILE, user));
    let anonymous = users.iter().map(|user| (USERS, user)).chain(of_file);
    for (key, user) in anonymous.filter(|(_, user)| user.is_anonymous) {
        read.warn(key, &user.openness());
    }
    (users, file)
}
