//! One entry of a list of users.

use std::collections::HashSet;

use ipnet::IpNet;

use super::list::{Authority, USERS};
use super::mounts::{self, Around, Mount, home, mount_lines};
use super::rights::{self, Permissions};
use super::site::{self, StorageDefaults, StoreLocation};
use crate::charset::Charset;
use crate::config::error::{REDACTED, printable};
use crate::config::keys::row::*;
use crate::config::parse::{self, Parsed, size_text};
use crate::config::reader::{Reader, Refused};
use crate::config::sections::files::{self, Ascii};
use crate::config::sections::limits::{self, Limits};
use crate::config::sections::overrides::{self, UploadOverrides};
use crate::config::sections::storage::credentials::StaticCredentials;
use crate::password::PasswordHash;

/// The rows of the table.
#[rustfmt::skip]
pub(in crate::config) const KEYS: &[Key] = &[
    key("users[].name", Text, Unset,
        "Login name, 1 to 128 bytes; required. `anonymous` lets everybody in without a password, also as `ftp`, and may only read unless `users[].permissions` says more."),
    key("users[].password_hash", Secret, Unset,
        "The password's hash: argon2id as `cosgate hash-password` prints it, bcrypt (`$2b$`) or SHA-512 crypt (`$6$`); required, but for `anonymous`, who has none."),
    key("users[].home", Text, Is("/"),
        "Path below `storage.prefix` that the user sees as `/`."),
];

/// The rows of what holds for one user alone.
#[rustfmt::skip]
pub(in crate::config) const LIMITS: &[Key] = &[
    key("users[].allow_from", List, Unset,
        "Networks and addresses that the user may log in from, such as `10.0.0.0/8`; any if not set."),
    key("users[].max_sessions", Count(1, 1_000_000), Derived("no limit; `anonymous`: 50"),
        "Sessions of the user at a time; one more login is answered with 421."),
    key("users[].max_sessions_per_ip", Count(1, 1_000_000), Derived("no limit; `anonymous`: 5"),
        "Those of them from one client address (IPv6: from one /64 network)."),
    key("users[].max_file_size", Size, Unset,
        "Largest file the user may store; `upload.max_file_size` holds besides."),
    key("users[].ascii", Choice(&["convert", "as_is"]), Derived("`ascii`"),
        "What `TYPE A` does to the user's files."),
    key("users[].charset", Text, Derived("`charset`"),
        "The same for the user's clients, from the login on."),
    key("users[].require_tls", Choice(SWITCH), Is("false"),
        "Whether the user is refused on a connection without TLS."),
    key("users[].require_close_notify", Choice(SWITCH), Derived("`tls.require_close_notify`"),
        "Whether the user's uploads over TLS must end with close_notify, with the same risk if not."),
    key("users[].client_cert_cn", Text, Unset,
        "Common name that the client's certificate must have, 1 to 64 characters."),
];

/// Somebody who may log in.
#[derive(Debug, Clone)]
pub struct User {
    /// Login name, 1 to 128 bytes without control characters.
    pub name: String,
    /// True for the user whom everybody is without a password.
    pub is_anonymous: bool,
    /// The hash for the password; none: the user is anonymous, or somebody else has checked it ([`HttpAuth`](crate::config::HttpAuth)).
    pub password_hash: Option<PasswordHash>,
    /// The path that the user sees as `/`: absolute, no `.`, `..`, `//` or trailing `/` (but `/` itself).
    pub home: String,
    /// The user's rights.
    pub permissions: Permissions,
    /// Bucket of the user's own; none: [`Storage::bucket`](crate::config::Storage::bucket).
    pub bucket: Option<String>,
    /// Where that bucket is; none: where [`Storage`](crate::config::Storage) says.
    pub site: Option<StoreLocation>,
    /// Credentials of the user's own; none: the gateway's.
    pub credentials: Option<StaticCredentials>,
    /// More places in the user's tree.
    pub mounts: Vec<Mount>,
    /// Networks that the user may come from; empty: any.
    pub allow_from: Vec<IpNet>,
    /// Sessions at a time; at least 1. None: no limit but [`Sessions`](crate::config::Sessions).
    pub max_sessions: Option<usize>,
    /// Sessions at a time from one network (IPv4 address or IPv6 /64); at least 1. None: no limit of the user's own.
    pub max_sessions_per_ip: Option<usize>,
    /// Limits of bandwidth; those of [`Config::limits`](crate::config::Config::limits) hold besides, but for a session's own.
    pub limits: Limits,
    /// The user's own, in the place of [`Upload`](crate::config::Upload)'s.
    pub upload: UploadOverrides,
    /// Largest file in bytes; [`Upload::max_file_size`](crate::config::Upload::max_file_size) holds besides.
    pub max_file_size: Option<u64>,
    /// The effect of `TYPE A` to the user's files; none: as [`Config::ascii`](crate::config::Config::ascii) says.
    pub ascii: Option<Ascii>,
    /// The charset of the user's clients; none: as [`Config::charset`](crate::config::Config::charset) says.
    pub charset: Option<Charset>,
    /// Logins on a connection without TLS are refused.
    pub require_tls: bool,
    /// True if the user's uploads must end with close_notify; none: as [`Tls::require_close_notify`](crate::config::Tls::require_close_notify) says.
    pub require_close_notify: Option<bool>,
    /// Common name that the client's certificate must have.
    pub client_cert_cn: Option<String>,
}

impl User {
    /// The mounts and, as the last one, the home at `/`, each with what holds there: a mount's own, or the user's.
    pub fn places(&self) -> impl Iterator<Item = Mount> {
        let home = Mount {
            path: "/".to_owned(),
            home: self.home.clone(),
            permissions: self.permissions,
            bucket: self.bucket.clone(),
            site: self.site.clone(),
            credentials: self.credentials.clone(),
            max_file_size: self.max_file_size,
            upload: self.upload.clone(),
        };
        let mounts = self.mounts.iter().map(|mount| Mount {
            max_file_size: mount.max_file_size.or(self.max_file_size),
            upload: mount.upload.or(&self.upload),
            ..mount.clone()
        });
        mounts.chain([home])
    }

    /// Somebody with all rights and no conditions or places of the own.
    pub fn unconditional(name: &str, home: &str, password_hash: Option<PasswordHash>) -> Self {
        User {
            name: name.to_owned(),
            is_anonymous: false,
            password_hash,
            home: home.to_owned(),
            permissions: Permissions::ALL,
            bucket: None,
            site: None,
            credentials: None,
            mounts: Vec::new(),
            allow_from: Vec::new(),
            max_sessions: None,
            max_sessions_per_ip: None,
            limits: Limits::default(),
            upload: UploadOverrides::default(),
            max_file_size: None,
            ascii: None,
            charset: None,
            require_tls: false,
            require_close_notify: None,
            client_cert_cn: None,
        }
    }
}

impl User {
    /// The meaning of an anonymous user, for warnings.
    pub fn openness(&self) -> String {
        let from = match self.allow_from.as_slice() {
            [] => "from everywhere".to_owned(),
            networks => format!("from {}", listed(networks)),
        };
        let mounts = self.mounts.iter();
        let mounts: String = mounts
            .map(|mount| format!(", and {} at {}", mount.permissions, printable(&mount.path)))
            .collect();
        format!(
            "anonymous access is on: whoever connects {from} gets in without a password, with the permissions {} below {}{mounts}",
            self.permissions,
            printable(&self.home)
        )
    }
}

/// Reads the list `users`; entries with a problem are left out.
pub(super) fn entries(
    read: &mut Reader,
    common: &StorageDefaults,
    authority: Authority,
) -> Vec<User> {
    let mut names = HashSet::new();
    let mut users = Vec::new();
    for index in 0..read.sections(USERS) {
        let user = entry(read, index, common, authority);
        if let Some(name) = user.name
            && !names.insert(name.clone())
        {
            let advice = "another user has this name already; rename or remove one";
            read.refuse_entry(USERS, index, "name", Some(&name), advice);
        }
        users.extend(user.whole.ok());
    }
    users
}

/// One entry: its name even where the rest is refused, so that a second one of the same name is found.
struct Entry {
    name: Option<String>,
    whole: Result<User, Refused>,
}

fn entry(read: &mut Reader, index: usize, common: &StorageDefaults, authority: Authority) -> Entry {
    let name = read.entry(USERS, index, "name", name);
    // every key is read, so that one run finds everything that is wrong
    let is_anonymous = authority == Authority::Hash && name.as_deref() == Some(ANONYMOUS);
    let password_hash = match authority {
        Authority::Hash if is_anonymous => without_identity(read, index).map(|()| None),
        Authority::Hash => read
            .entry(USERS, index, "password_hash", PasswordHash::parse)
            .map(Some)
            .ok_or(Refused),
        Authority::Endpoint => Ok(None),
    };
    if authority == Authority::Endpoint {
        for key in ["home", "permissions"] {
            if !read.entry_is_set(USERS, index, key) {
                read.refuse_entry(USERS, index, key, None, "this is required; add it");
            }
        }
    }
    let home = read.entry(USERS, index, "home", home);
    let delete = read.entry_optional(USERS, index, "delete", parse::switch);
    let permissions = rights::permissions(read, USERS, index, delete, None);
    let permissions = match is_anonymous && !read.entry_is_set(USERS, index, "permissions") {
        true => permissions.map(|_| Permissions::READ),
        false => permissions,
    };
    let (bucket, site, credentials) = site::store(read, USERS, index, common);
    let around = Around {
        home: home.as_deref(),
        permissions,
        delete,
        bucket: bucket
            .as_ref()
            .map(Option::as_deref)
            .map_err(|error| *error),
        site: site.as_ref().map(Option::as_ref).map_err(|error| *error),
    };
    let mounts = mounts::mounts(read, index, common, authority, &around);
    let allow_from = read.entry_list(USERS, index, "allow_from", parse::network);
    let sessions = |text: &str| {
        parse::count(text, 1, 1_000_000).map(|count| usize::try_from(count).unwrap_or(usize::MAX))
    };
    let max_sessions = read.entry_optional(USERS, index, "max_sessions", sessions);
    let max_sessions_per_ip = read.entry_optional(USERS, index, "max_sessions_per_ip", sessions);
    let of_anonymous = |own: Option<usize>, default| own.or(is_anonymous.then_some(default));
    let limits = limits::of_user(read, index);
    let upload = overrides::read(read, USERS, index);
    let max_file_size = read.entry_optional(USERS, index, "max_file_size", parse::size);
    let ascii = read.entry_optional(USERS, index, "ascii", parse::choice);
    let charset = read.entry_optional(USERS, index, "charset", files::charset);
    let require_tls = read.entry_optional(USERS, index, "require_tls", parse::switch);
    let require_close_notify =
        read.entry_optional(USERS, index, "require_close_notify", parse::switch);
    let client_cert_cn = read.entry_optional(USERS, index, "client_cert_cn", common_name);
    let whole = || {
        Ok(User {
            name: name.clone().ok_or(Refused)?,
            is_anonymous,
            password_hash: password_hash?,
            home: home.ok_or(Refused)?,
            permissions: permissions?,
            bucket: bucket?,
            site: site?,
            credentials: credentials?,
            mounts: mounts?,
            allow_from: allow_from?,
            max_sessions: of_anonymous(max_sessions?, ANONYMOUS_SESSIONS),
            max_sessions_per_ip: of_anonymous(max_sessions_per_ip?, ANONYMOUS_SESSIONS_PER_IP),
            limits: limits?,
            upload: upload?,
            max_file_size: max_file_size?,
            ascii: ascii?,
            charset: charset?,
            require_tls: require_tls?.unwrap_or_default(),
            require_close_notify: require_close_notify?,
            client_cert_cn: client_cert_cn?,
        })
    };
    let whole = whole();
    Entry { name, whole }
}

/// Refuses what says who somebody is, for a user who is nobody in particular.
fn without_identity(read: &mut Reader, index: usize) -> Result<(), Refused> {
    let mut sound = Ok(());
    for key in ["password_hash", "client_cert_cn"] {
        if read.entry_is_set(USERS, index, key) {
            let advice = "the user `anonymous` is whoever connects, without a password or a certificate; remove this, or give the \
                          user another name";
            read.refuse_entry(USERS, index, key, None, advice);
            sound = Err(Refused);
        }
    }
    sound
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

/// The common name of a certificate, at most 64 characters (RFC 5280, appendix A.1, ub-common-name).
fn common_name(text: &str) -> Parsed<String> {
    if text.chars().count() > 64 || text.chars().any(char::is_control) {
        Err("a common name has 1 to 64 characters, none of them a control character".into())
    } else {
        Ok(text.to_string())
    }
}

/// The name of the user whom everybody is without a password (RFC 1635).
pub const ANONYMOUS: &str = "anonymous";

/// The default of `users[].max_sessions` for `anonymous`: a twentieth of `sessions.max` by default, so that strangers leave room for users.
const ANONYMOUS_SESSIONS: usize = 50;

/// The default of `users[].max_sessions_per_ip` for `anonymous`: as many as browsers and mirroring programs open.
const ANONYMOUS_SESSIONS_PER_IP: usize = 5;

/// As long as the longest names of common directories; a name goes into every log line.
const MAX_NAME_BYTES: usize = 128;

/// The lines of one user, with what is set; where they come from stands beside `users` or `users_file`.
pub(in crate::config) fn user_lines(list: &str, index: usize, user: &User) -> Vec<String> {
    let mut keys = vec![("name", printable(&user.name))];
    if user.password_hash.is_some() {
        keys.push(("password_hash", REDACTED.to_string()));
    }
    keys.push(("home", printable(&user.home)));
    keys.push(("permissions", user.permissions.to_string()));
    keys.extend(site::lines(
        user.bucket.as_deref(),
        user.site.as_ref(),
        user.credentials.as_ref(),
    ));
    if !user.allow_from.is_empty() {
        keys.push(("allow_from", listed(&user.allow_from)));
    }
    keys.extend(
        user.max_sessions
            .map(|count| ("max_sessions", count.to_string())),
    );
    keys.extend(
        user.max_sessions_per_ip
            .map(|count| ("max_sessions_per_ip", count.to_string())),
    );
    keys.extend(limits::user_lines(&user.limits));
    keys.extend(overrides::lines(&user.upload));
    keys.extend(
        user.max_file_size
            .map(|bytes| ("max_file_size", size_text(bytes))),
    );
    keys.extend(user.ascii.map(|ascii| ("ascii", ascii.to_string())));
    keys.extend(
        user.charset
            .map(|charset| ("charset", charset.name().to_lowercase())),
    );
    if user.require_tls {
        keys.push(("require_tls", "true".to_string()));
    }
    keys.extend(
        user.require_close_notify
            .map(|required| ("require_close_notify", required.to_string())),
    );
    keys.extend(
        user.client_cert_cn
            .iter()
            .map(|name| ("client_cert_cn", printable(name))),
    );
    let keys = keys.into_iter().map(|(key, value)| (key.to_owned(), value));
    let mounts = user.mounts.iter().enumerate();
    let of_mounts = mounts.flat_map(|(at, mount)| mount_lines(at, mount));
    keys.chain(of_mounts)
        .map(|(key, value)| format!("{list}[{index}].{key} = {value}"))
        .collect()
}

fn listed(networks: &[IpNet]) -> String {
    let networks: Vec<String> = networks.iter().map(ToString::to_string).collect();
    networks.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

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
