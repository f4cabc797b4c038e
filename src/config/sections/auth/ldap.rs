//! `auth.ldap.*`: an LDAP directory that checks logins.

pub(in crate::config) mod keys;
mod texts;

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use super::values::{ca_file, cache};
use crate::config::error::printable;
use crate::config::keys::{DefaultValue, Key};
use crate::config::reader::{Reader, Refused};
use crate::config::sections::users::rights::{self, Permissions};
use crate::ldap::template::{self, GROUP};
use crate::ldap::{Place, Security};
use keys::{
    ALLOW_PLAIN, BASE, BIND, CA_FILE, FILTER, GROUP_FILTER, GROUPS, HOME, PERMISSIONS, SERVICE_DN,
    SERVICE_PASSWORD, STARTTLS, URL,
};
use texts::{bind_template, group_filter, home, name, password, place, user_filter};

/// An LDAP directory that checks passwords.
#[derive(Debug, Clone)]
pub struct LdapAuth {
    /// Where it is.
    pub place: Place,
    /// PEM file with the only certificate authorities to trust; none: the system's.
    pub ca_file: Option<PathBuf>,
    /// Time for all that a login asks; 1 ms to 7 days.
    pub timeout: Duration,
    /// The time for which a success holds; none: each login asks.
    pub cache: Option<Duration>,
    /// The way to a user's entry.
    pub lookup: LdapLookup,
    /// The home of users, where no group says otherwise: absolute, with `{user}` for the name.
    pub home: String,
    /// The permissions of users, where no group says otherwise.
    pub permissions: Permissions,
    /// Groups, the first of which that the user is in holds; empty: everybody may log in whom the directory knows.
    pub groups: Vec<LdapGroup>,
    /// A filter that fits if the user is in the group.
    pub group_filter: String,
}

/// The way to a user's entry, and the check of the password.
#[derive(Debug, Clone)]
pub enum LdapLookup {
    /// The user binds with a name that follows from what is typed.
    Bind {
        /// That name, with `{user}`.
        template: String,
        /// The search for the entry behind that name; none: the name is that of the entry.
        search: Option<LdapSearch>,
    },
    /// A service account searches for the entry, which then binds.
    Search {
        /// The account.
        service: LdapService,
        /// Its search.
        search: LdapSearch,
    },
}

/// An account of the gateway's own.
#[derive(Debug, Clone)]
pub struct LdapService {
    /// The name that it binds with.
    pub dn: String,
    /// Its password; not empty.
    pub password: SecretString,
}

/// A search for a user's entry.
#[derive(Debug, Clone)]
pub struct LdapSearch {
    /// Where it begins.
    pub base: String,
    /// A filter, with `{user}`.
    pub filter: String,
}

/// A group of the directory, and what its members may do.
#[derive(Debug, Clone)]
pub struct LdapGroup {
    /// Its distinguished name.
    pub dn: String,
    /// The permissions of its members.
    pub permissions: Permissions,
    /// Their home, as [`LdapAuth::home`].
    pub home: String,
}

impl LdapAuth {
    /// True if the group filter is one for the user's entry, and not for the group's.
    pub fn asks_user_entry(&self) -> bool {
        self.group_filter.contains(GROUP)
    }
}

/// The lines of one group.
pub(in crate::config) fn group_lines(list: &str, index: usize, group: &LdapGroup) -> Vec<String> {
    let keys = [
        ("dn", printable(&group.dn)),
        ("permissions", group.permissions.to_string()),
        ("home", printable(&group.home)),
    ];
    let lines = keys.into_iter();
    lines
        .map(|(key, value)| format!("{list}[{index}].{key} = {value}"))
        .collect()
}

/// Reads the section.
pub(super) fn resolve(read: &mut Reader) -> Option<LdapAuth> {
    // every key is read, so that one run finds everything that is wrong
    let allow_plain = read.switch(ALLOW_PLAIN);
    let starttls = read.switch(STARTTLS);
    let place = read.optional(URL, |text| place(text, starttls, allow_plain));
    let ca_file = read.optional(CA_FILE, ca_file);
    let timeout = read.duration("auth.ldap.timeout");
    let cache = read.value("auth.ldap.cache", cache);
    let names = Names {
        bind: read.optional(BIND, bind_template),
        service_dn: read.optional(SERVICE_DN, name),
        service_password: read.optional(SERVICE_PASSWORD, password),
        base: read.optional(BASE, name),
        filter: read.optional(FILTER, user_filter),
    };
    let home = read.value(HOME, home);
    let permissions = read.list(PERMISSIONS, rights::word);
    let permissions = rights::all(permissions);
    let group_filter = read.value(GROUP_FILTER, group_filter);
    let groups = groups(read, &home, permissions);
    if !read.is_set(URL) {
        // the others are harmless, and stand in what check-config prints
        let without_default = |key: &&Key| key.default == DefaultValue::Unset && key.path != URL;
        for key in keys::KEYS.iter().filter(without_default) {
            let key = key.path;
            if read.is_set(key) && read.is_valid(key) {
                read.refuse(
                    key,
                    format!("this goes with {URL}; set that too, or remove this"),
                );
            }
        }
        return None;
    }
    let lookup = lookup(read, names, !groups.is_empty());
    let place = place?;
    if place.security == Security::Off {
        read.warn(
            URL,
            "passwords travel unencrypted to this directory; ldaps:// or StartTLS protects them",
        );
    }
    if place.security == Security::Tls && read.is_set(STARTTLS) {
        read.refuse(
            STARTTLS,
            "ldaps:// is TLS from the first byte; remove this, or write ldap:// for StartTLS",
        );
    }
    Some(LdapAuth {
        place,
        ca_file,
        timeout,
        cache,
        lookup: lookup?,
        home,
        permissions,
        groups,
        group_filter,
    })
}

/// The keys that lead to a user's entry.
struct Names {
    bind: Option<String>,
    service_dn: Option<String>,
    service_password: Option<SecretString>,
    base: Option<String>,
    filter: Option<String>,
}

/// The way to a user's entry; none where a key is wrong or missing.
fn lookup(read: &mut Reader, names: Names, has_groups: bool) -> Option<LdapLookup> {
    let keys = [BIND, SERVICE_DN, SERVICE_PASSWORD, BASE, FILTER];
    if keys.iter().any(|key| !read.is_valid(key)) {
        return None;
    }
    match (names.bind, names.service_dn) {
        (None, None) => {
            read.refuse(
                BIND,
                format!(
                    "there is no way to a user's entry; set this, such as uid={{user}},ou=people,dc=example,dc=com, or \
                     {SERVICE_DN}, {SERVICE_PASSWORD}, {BASE} and {FILTER}"
                ),
            );
            None
        }
        (Some(_), Some(_)) => {
            let advice =
                format!("{BIND} is set, too, and a user logs in by one of both; remove one");
            read.refuse(SERVICE_DN, advice);
            None
        }
        (Some(template), None) => {
            if names.service_password.is_some() {
                let advice = format!("this goes with {SERVICE_DN}; remove it");
                read.refuse(SERVICE_PASSWORD, advice);
            }
            let needs_search = has_groups && !template::is_distinguished(&template);
            let search = match (names.base, names.filter) {
                (None, None) if needs_search => {
                    let advice = format!(
                        "for {GROUPS} the user's entry must be known, and {BIND} is not its name; set this and {FILTER}"
                    );
                    read.refuse(BASE, advice);
                    return None;
                }
                (None, None) => None,
                (base, filter) => Some(search(read, base, filter)?),
            };
            Some(LdapLookup::Bind { template, search })
        }
        (None, Some(dn)) => {
            let search = search(read, names.base, names.filter);
            if names.service_password.is_none() {
                read.require(SERVICE_PASSWORD, "the password of auth.ldap.service_dn");
            }
            let password = names.service_password?;
            Some(LdapLookup::Search {
                service: LdapService { dn, password },
                search: search?,
            })
        }
    }
}

fn search(read: &mut Reader, base: Option<String>, filter: Option<String>) -> Option<LdapSearch> {
    if base.is_none() {
        read.require(
            BASE,
            "the name below which users are, such as ou=people,dc=example,dc=com",
        );
    }
    if filter.is_none() {
        read.require(FILTER, "a filter that fits one user, such as (uid={user})");
    }
    Some(LdapSearch {
        base: base?,
        filter: filter?,
    })
}

/// Reads the list; entries with a problem are left out.
fn groups(read: &mut Reader, home: &str, permissions: Permissions) -> Vec<LdapGroup> {
    let count = read.sections(GROUPS);
    if count > MAX_GROUPS {
        let advice = format!("there are {count}, and each may be asked about; keep {MAX_GROUPS}");
        read.refuse(GROUPS, advice);
    }
    let groups = (0..count).map(|index| group(read, index, home, permissions));
    groups.filter_map(Result::ok).collect()
}

fn group(
    read: &mut Reader,
    index: usize,
    common_home: &str,
    common: Permissions,
) -> Result<LdapGroup, Refused> {
    let dn = read.entry(GROUPS, index, "dn", name);
    let home = read.entry_optional(GROUPS, index, "home", home);
    let permissions = read.entry_list(GROUPS, index, "permissions", rights::word);
    Ok(LdapGroup {
        dn: dn.ok_or(Refused)?,
        home: home?.unwrap_or_else(|| common_home.to_owned()),
        permissions: match permissions? {
            own if own.is_empty() => common,
            own => rights::all(own),
        },
    })
}

/// A login asks about one after the other, within its time.
const MAX_GROUPS: usize = 50;
