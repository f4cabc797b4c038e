//! The keys of `auth.ldap`.

use crate::config::keys::row::*;

/// The rows of the table.
#[rustfmt::skip]
pub(in crate::config) const KEYS: &[Key] = &[
    key(URL, Text, Unset,
        "LDAP directory that is asked about users that are not configured here: `ldaps://host[:port]`, or `ldap://host[:port]` with StartTLS."),
    key(STARTTLS, Choice(SWITCH), Is("true"),
        "Whether a connection to an `ldap://` URL is protected by StartTLS before anything else; `false`: passwords are sent in the clear."),
    key(ALLOW_PLAIN, Choice(SWITCH), Is("false"),
        "Whether passwords may be sent in the clear to another machine, with `auth.ldap.starttls: false`."),
    key(CA_FILE, Text, Unset,
        "PEM file with the only certificate authorities that the directory may be signed by; the system's if not set."),
    key("auth.ldap.timeout", Time, Is("5s"),
        "Time for all that a login asks the directory; without an answer the login is refused."),
    key("auth.ldap.cache", Text, Is("30s"),
        "How long a success is good for further logins with the same password from the same address, or `off`; failures are never kept."),
    key(BIND, Text, Unset,
        "Name that a user binds with, where it follows from what is typed: `uid={user},ou=people,dc=example,dc=com`, or `{user}@corp.example.com`."),
    key(SERVICE_DN, Text, Unset,
        "Name of the account that searches for the user's entry, where `auth.ldap.bind` is not set."),
    key(SERVICE_PASSWORD, Secret, Unset,
        "Its password."),
    key(BASE, Text, Unset,
        "Distinguished name below which the user's entry is searched; with `auth.ldap.bind` the user searches."),
    key(FILTER, Text, Unset,
        "Filter that fits the user's entry and no other, such as `(uid={user})` or `(&(objectClass=user)(sAMAccountName={user}))`."),
    key(HOME, Text, Is("/{user}"),
        "Path below `storage.prefix` that a user of the directory sees as `/`; `{user}` is the login name in lower case."),
    key(PERMISSIONS, List, Is("RW"),
        "Permissions of these users, as in `users[].permissions`."),
    key(GROUPS, Sections, Unset,
        "Groups whose members may log in, and nobody else; the first that a user is in holds. In the environment as JSON or YAML list."),
    key("auth.ldap.groups[].dn", Text, Unset,
        "Distinguished name of the group; required."),
    key("auth.ldap.groups[].permissions", List, Derived("`auth.ldap.permissions`"),
        "Permissions of its members."),
    key("auth.ldap.groups[].home", Text, Derived("`auth.ldap.home`"),
        "Home of its members."),
    key(GROUP_FILTER, Text, Is("(member={dn})"),
        "Filter that fits a group's entry if the user is in the group; with `{group}` in it, such as `(memberOf={group})`, it is one for the user's entry. `{dn}` is the user's name in the directory, `{user}` the login name."),
];

pub(super) const URL: &str = "auth.ldap.url";
pub(super) const STARTTLS: &str = "auth.ldap.starttls";
pub(super) const ALLOW_PLAIN: &str = "auth.ldap.allow_plain";
pub(super) const CA_FILE: &str = "auth.ldap.ca_file";
pub(super) const BIND: &str = "auth.ldap.bind";
pub(super) const SERVICE_DN: &str = "auth.ldap.service_dn";
pub(super) const SERVICE_PASSWORD: &str = "auth.ldap.service_password";
pub(super) const BASE: &str = "auth.ldap.base";
pub(super) const FILTER: &str = "auth.ldap.filter";
pub(super) const HOME: &str = "auth.ldap.home";
pub(super) const PERMISSIONS: &str = "auth.ldap.permissions";
pub(super) const GROUPS: &str = "auth.ldap.groups";
pub(super) const GROUP_FILTER: &str = "auth.ldap.group_filter";
