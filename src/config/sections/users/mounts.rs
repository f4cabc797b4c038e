//! A user's mounts: directories of the user's tree whose files lie in places of their own.
//!
//! Invariant: no file has two paths in one tree. Mounts don't lie in each other, and their places don't either.

use super::list::{Authority, USERS};
use super::rights::{self, Permissions};
use super::site::{self, StorageDefaults, StoreLocation};
use crate::config::error::printable;
use crate::config::keys::row::*;
use crate::config::parse::{self, Parsed, size_text};
use crate::config::reader::{Reader, Refused};
use crate::config::sections::overrides::{self, UploadOverrides};
use crate::config::sections::storage::credentials::StaticCredentials;

/// The rows of the table.
#[rustfmt::skip]
pub(in crate::config) const KEYS: &[Key] = &[
    key("users[].mounts", Sections, Unset,
        "More places in the user's tree: up to 100 directories, each with files of a bucket or prefix of its own."),
    key("users[].mounts[].path", Text, Unset,
        "Where the user sees the mount, such as `/archive`; required. Mounts don't lie in each other."),
    key("users[].mounts[].home", Text, Is("/"),
        "Path below `storage.prefix` that the user sees there; apart from the user's other places, or the directory that the mount covers."),
    key("users[].mounts[].permissions", List, Derived("`users[].permissions`"),
        "The user's rights there, written as `users[].permissions`; `users[].delete: false` holds for them too."),
    key("users[].mounts[].bucket", Text, Unset,
        "The mount's bucket; `storage.bucket` if not set, whatever `users[].bucket` says."),
    key("users[].mounts[].region", Text, Derived("the endpoint's; else `storage.region`"),
        "As `users[].region`, for this mount."),
    key("users[].mounts[].endpoint", Text, Derived("`storage.endpoint`; cos: of `users[].mounts[].region`"),
        "As `users[].endpoint`, for this mount."),
    key("users[].mounts[].access_key_id", Secret, Unset,
        "Access key for this mount; the gateway's credentials if not set, whatever `users[].access_key_id` says."),
    key("users[].mounts[].secret_access_key", Secret, Unset,
        "Secret key; goes with `users[].mounts[].access_key_id`."),
    key("users[].mounts[].session_token", Secret, Unset,
        "Session token of the mount's temporary credentials."),
];

/// A directory of a user's tree with a place of its own.
#[derive(Debug, Clone)]
pub struct Mount {
    /// The path at which the user sees it: absolute, no `.`, `..`, `//` or trailing `/`.
    pub path: String,
    /// The path below `storage.prefix` that the user sees there, in the form of [`User::home`](crate::config::User::home).
    pub home: String,
    /// The user's rights in it.
    pub permissions: Permissions,
    /// Its bucket; none: [`Storage::bucket`](crate::config::Storage::bucket).
    pub bucket: Option<String>,
    /// Where that bucket is; none: where [`Storage`](crate::config::Storage) says.
    pub site: Option<StoreLocation>,
    /// Credentials of its own; none: the gateway's.
    pub credentials: Option<StaticCredentials>,
    /// Largest file in bytes, in the place of [`User::max_file_size`](crate::config::User::max_file_size).
    pub max_file_size: Option<u64>,
    /// The mount's own, in the place of [`User::upload`](crate::config::User::upload)'s.
    pub upload: UploadOverrides,
}

/// The home that mounts lie in, as far as it is valid.
pub(super) struct Around<'a> {
    pub home: Option<&'a str>,
    pub permissions: Result<Permissions, Refused>,
    /// `users[].delete`
    pub delete: Result<Option<bool>, Refused>,
    pub bucket: Result<Option<&'a str>, Refused>,
    pub site: Result<Option<&'a StoreLocation>, Refused>,
}

/// Reads the mounts of the user at `index`.
pub(super) fn mounts(
    read: &mut Reader,
    index: usize,
    common: &StorageDefaults,
    authority: Authority,
    around: &Around<'_>,
) -> Result<Vec<Mount>, Refused> {
    let list = format!("{USERS}[{index}].mounts");
    let count = read.entry_count(&list);
    if count > MAX_MOUNTS {
        let advice = format!("a user has at most {MAX_MOUNTS} mounts; remove some");
        read.refuse_entry(USERS, index, "mounts", Some(&count.to_string()), &advice);
        return Err(Refused);
    }
    let mut mounts: Vec<Mount> = Vec::new();
    let mut refused = false;
    for at in 0..count {
        let mount = mount(read, &list, at, common, authority, around).and_then(|mount| {
            apart(read, &list, at, common, around, &mounts, &mount).map(|()| mount)
        });
        match mount {
            Ok(mount) => mounts.push(mount),
            Err(Refused) => refused = true,
        }
    }
    if refused { Err(Refused) } else { Ok(mounts) }
}

fn mount(
    read: &mut Reader,
    list: &str,
    index: usize,
    common: &StorageDefaults,
    authority: Authority,
    around: &Around<'_>,
) -> Result<Mount, Refused> {
    let path = read.entry(list, index, "path", path);
    if authority == Authority::Endpoint && !read.entry_is_set(list, index, "home") {
        read.refuse_entry(list, index, "home", None, "this is required; add it");
    }
    let home = read.entry(list, index, "home", home);
    let inherited = Some(around.permissions);
    let permissions = rights::permissions(read, list, index, around.delete, inherited);
    let (bucket, site, credentials) = site::store(read, list, index, common);
    let max_file_size = read.entry_optional(list, index, "max_file_size", parse::size);
    let upload = overrides::read(read, list, index);
    Ok(Mount {
        path: path.ok_or(Refused)?,
        home: home.ok_or(Refused)?,
        permissions: permissions?,
        bucket: bucket?,
        site: site?,
        credentials: credentials?,
        max_file_size: max_file_size?,
        upload: upload?,
    })
}

/// Refuses a mount whose path or place is not apart from those before it and from the home.
fn apart(
    read: &mut Reader,
    list: &str,
    index: usize,
    common: &StorageDefaults,
    around: &Around<'_>,
    before: &[Mount],
    mount: &Mount,
) -> Result<(), Refused> {
    let overlap = |one: &str, other: &str| contains(one, other) || contains(other, one);
    if let Some(other) = before
        .iter()
        .find(|other| overlap(&other.path, &mount.path))
    {
        let advice = match other.path == mount.path {
            true => "another mount has this path already; choose another path".to_owned(),
            false => format!(
                "the mount at {} is above or below, and mounts don't lie in each other; choose another path",
                printable(&other.path)
            ),
        };
        read.refuse_entry(list, index, "path", Some(&mount.path), &advice);
        return Err(Refused);
    }
    let bucket = common.bucket_at(mount.bucket.as_deref(), mount.site.as_ref());
    let is_here = |other_bucket: Option<&str>, site: Option<&StoreLocation>, other_home: &str| {
        common.bucket_at(other_bucket, site) == bucket && overlap(other_home, &mount.home)
    };
    let other = before
        .iter()
        .find(|other| is_here(other.bucket.as_deref(), other.site.as_ref(), &other.home));
    let mut other = other.map(|other| (format!("the mount at {}", other.path), &*other.home));
    if let (Some(home), Ok(bucket), Ok(site)) = (around.home, around.bucket, around.site) {
        let covered = format!("{}{}", home.trim_end_matches('/'), mount.path);
        if is_here(bucket, site, home) && mount.home != covered {
            other.get_or_insert(("the user's home".to_owned(), home));
        }
    }
    let Some((name, home)) = other else {
        return Ok(());
    };
    let advice = format!(
        "{} has {} of the same bucket, so files would have two paths there, with two sets of rights; choose a directory that neither \
         lies in that one nor holds it",
        printable(&name),
        printable(home)
    );
    read.refuse_entry(list, index, "home", Some(&mount.home), &advice);
    Err(Refused)
}

/// A path below `storage.prefix`.
pub(super) fn home(text: &str) -> Parsed<String> {
    Ok(format!("/{}", parse::segments(text)?.join("/")))
}

fn path(text: &str) -> Parsed<String> {
    if !text.starts_with('/') {
        return Err("a mount's path is absolute; begin it with /".into());
    }
    // names with a control character are written so, and then one directory would have two names
    if text.contains('%') {
        return Err("a mount's path has no %; choose another name".into());
    }
    match home(text)?.as_str() {
        "/" => Err("at / is the home; choose a directory in it, such as /archive".into()),
        path => Ok(path.to_owned()),
    }
}

/// True if the directory `inner` is `outer` or lies in it.
fn contains(outer: &str, inner: &str) -> bool {
    let rest = inner.strip_prefix(outer.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What is set, as lines for [`user_lines`](super::entry::user_lines).
pub(super) fn mount_lines(index: usize, mount: &Mount) -> Vec<(String, String)> {
    let mut keys = vec![
        ("path", printable(&mount.path)),
        ("home", printable(&mount.home)),
        ("permissions", mount.permissions.to_string()),
    ];
    keys.extend(site::lines(
        mount.bucket.as_deref(),
        mount.site.as_ref(),
        mount.credentials.as_ref(),
    ));
    keys.extend(
        mount
            .max_file_size
            .map(|bytes| ("max_file_size", size_text(bytes))),
    );
    keys.extend(overrides::lines(&mount.upload));
    let lines = keys.into_iter();
    lines
        .map(|(key, value)| (format!("mounts[{index}].{key}"), value))
        .collect()
}

/// Each command looks through them, and no tree that people read has so many.
const MAX_MOUNTS: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mounts_path_is_absolute_plain_and_not_the_home() {
        assert_eq!(path("/a//b/"), Ok("/a/b".to_owned()));
        for wrong in ["a", "/", "//", "/./", "/a/../b", "/a%0Ab", "/a\nb"] {
            assert!(path(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn directories_contain_each_other_by_whole_names() {
        for (outer, inner, is_inside) in [
            ("/", "/a", true),
            ("/", "/", true),
            ("/a", "/a", true),
            ("/a", "/a/b", true),
            ("/a", "/ab", false),
            ("/a/b", "/a", false),
        ] {
            assert_eq!(contains(outer, inner), is_inside, "{outer} {inner}");
        }
    }
}
