//! Files of users in the form of passwd(5) or shadow(5): `name:hash`, and maybe more fields, the sixth of which is a home.
//!
//! ProFTPD's `AuthUserFile`, Pure-FTPd's `pureftpd.passwd`, `pam_pwdfile` of vsftpd and `htpasswd` all have it.

use secrecy::SecretString;

use super::error::Mistake;
use crate::config::printable;
use crate::password::PasswordHash;

/// A user who can go on with the same password.
#[derive(Debug)]
pub(super) struct Entry {
    pub name: String,
    pub hash: SecretString,
    /// The directory, without a `/` at its end; none where the file has no homes.
    pub home: Option<String>,
}

/// Reads the users of `text`; `warnings` says who is left out and why. Nothing of a hash is repeated.
pub(super) fn read(
    text: &str,
    mistakes: &mut Vec<Mistake>,
    warnings: &mut Vec<String>,
) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut locked = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_end();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut wrong = |advice: &str| {
            mistakes.push(Mistake {
                line: Some(index + 1),
                key: "user".to_owned(),
                advice: advice.to_owned(),
            });
        };
        let fields: Vec<&str> = line.split(':').collect();
        let (name, hash) = match fields[..] {
            [name, hash, ..] if !name.is_empty() && name.len() <= 128 => (name, hash),
            _ => {
                wrong("this is not name:hash; give a file in the form of /etc/shadow");
                continue;
            }
        };
        if line.chars().any(char::is_control) {
            wrong("it has control characters; remove them");
            continue;
        }
        // which is printed, as no hash may be; a machine's account may end in $
        if name.trim_end_matches('$').contains('$') || name.starts_with('{') {
            wrong("a hash stands where the name should; see whether the line is broken");
            continue;
        }
        // *, !, !! and x: no password, or one that is elsewhere
        if hash.len() < 4 || hash.starts_with(['*', '!']) {
            locked.push(printable(name));
            continue;
        }
        if PasswordHash::parse(hash).is_err() {
            warnings.push(format!(
                "user {} is left out: its password's hash is of a kind or cost that is not taken; make a new one with \
                 `cosgate hash-password`",
                printable(name)
            ));
            continue;
        }
        if entries.iter().any(|entry| entry.name == name) {
            wrong("this user stands in a line above, too; remove one");
            continue;
        }
        let home = fields.get(5).filter(|home| home.starts_with('/'));
        if name.contains('/') || home.is_some_and(|home| home.split('/').any(|it| it == "..")) {
            wrong("a name has no slash, and a home no ..; correct it");
            continue;
        }
        entries.push(Entry {
            name: name.to_owned(),
            hash: hash.into(),
            home: home.map(|home| plain(home)),
        });
    }
    if !locked.is_empty() {
        // of what may be hundreds, enough to know which are meant
        const SHOWN: usize = 10;
        let more = locked.len().saturating_sub(SHOWN);
        locked.truncate(SHOWN);
        let mut names = locked.join(", ");
        if more > 0 {
            names += &format!(" and {more} more");
        }
        warnings.push(format!(
            "users without a password in this file are left out: {names}"
        ));
    }
    entries
}

/// `/srv/ftp/alice` for `/srv/ftp//./alice/./`, which is how Pure-FTPd marks where a user is kept.
pub(super) fn plain(path: &str) -> String {
    let parts = path
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".");
    parts.map(|part| format!("/{part}")).collect()
}

/// The directory above all of `homes`: their directories' longest common beginning.
pub(super) fn base<'a>(homes: impl Iterator<Item = &'a str>) -> String {
    let parents = homes.map(|home| {
        let parent = home.rsplit_once('/').map_or("", |(parent, _)| parent);
        parent.split('/').collect::<Vec<_>>()
    });
    let common = parents.reduce(|one, other| {
        let same = one.iter().zip(&other).take_while(|(a, b)| a == b).count();
        one[..same].to_vec()
    });
    common.unwrap_or_default().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::HASH_FOR_TESTS as HASH;

    #[test]
    fn a_hash_in_the_place_of_a_name_is_a_mistake_and_not_repeated() {
        for line in [
            format!("{HASH}:1:1::/h:"),
            format!("alice{HASH}:x"),
            "{SSHA}c2VjcmV0:x".to_owned(),
            format!("{HASH}:{HASH}"),
        ] {
            let (mut mistakes, mut warnings) = (Vec::new(), Vec::new());
            assert!(
                read(&line, &mut mistakes, &mut warnings).is_empty(),
                "{line}"
            );
            assert_eq!((mistakes.len(), warnings.len()), (1, 0), "{line}");
            assert!(!mistakes[0].advice.contains("$argon2id"), "{mistakes:?}");
        }
        let (mut mistakes, mut warnings) = (Vec::new(), Vec::new());
        let machine = read(&format!("host$:{HASH}"), &mut mistakes, &mut warnings);
        assert_eq!((machine.len(), mistakes.len()), (1, 0));
    }

    #[test]
    fn users_of_each_form_are_read_and_the_rest_is_named() {
        let text = format!(
            "# comment\nalice:{HASH}:1000:1000::/srv/ftp/alice/./:/bin/false::::::::::::\nbob:{HASH}\n\
             root:!:19000:0:99999:7:::\ndaemon:*:1\nold:$1$salt$hunter2\nshadow:{HASH}:19000:0:99999:7:::\nx:x:0:0::/root:/bin/sh\n"
        );
        let (mut mistakes, mut warnings) = (Vec::new(), Vec::new());
        let entries = read(&text, &mut mistakes, &mut warnings);
        assert!(mistakes.is_empty(), "{mistakes:?}");
        let seen: Vec<_> = entries
            .iter()
            .map(|entry| (entry.name.as_str(), entry.home.as_deref()))
            .collect();
        assert_eq!(
            seen,
            [
                ("alice", Some("/srv/ftp/alice")),
                ("bob", None),
                ("shadow", None)
            ]
        );
        let said = warnings.join("\n");
        assert!(said.contains("user old is left out"), "{said}");
        assert!(said.contains("left out: root, daemon, x"), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
    }

    #[test]
    fn lines_that_are_no_users_are_mistakes() {
        let (mut mistakes, mut warnings) = (Vec::new(), Vec::new());
        let text = format!(
            "hunter2\n:{HASH}\na:{HASH}\na:{HASH}\nb\u{1b}:{HASH}\nc/d:{HASH}\ne:{HASH}:1:1::/a/../b:\n"
        );
        assert_eq!(read(&text, &mut mistakes, &mut warnings).len(), 1);
        let lines: Vec<_> = mistakes.iter().filter_map(|mistake| mistake.line).collect();
        assert_eq!(lines, [1, 2, 4, 5, 6, 7]);
        assert!(!format!("{mistakes:?}").contains("hunter2"));
    }

    #[test]
    fn the_base_is_what_all_homes_lie_below() {
        for (homes, expected) in [
            (&["/home/a", "/home/b"][..], "/home"),
            (&["/home/a"], "/home"),
            (&["/srv/ftp", "/srv/ftp/a"], "/srv"),
            (&["/a/x", "/b/x"], ""),
            (&["/a"], ""),
            (&[], ""),
        ] {
            assert_eq!(base(homes.iter().copied()), expected, "{homes:?}");
        }
    }
}
