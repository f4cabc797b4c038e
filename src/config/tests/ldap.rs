//! The directory that checks logins.

use super::*;
use crate::ldap::Security;

const URL: &str = "AUTH__LDAP__URL=ldaps://dc1.example.com";
const BIND: &str = "AUTH__LDAP__BIND=uid={user},dc=x";
const SERVICE: [&str; 4] = [
    "AUTH__LDAP__SERVICE_DN=cn=ftp,dc=x",
    "AUTH__LDAP__SERVICE_PASSWORD=hunter2",
    "AUTH__LDAP__BASE=dc=x",
    "AUTH__LDAP__FILTER=(uid={user})",
];
const GROUPS: &str =
    "AUTH__LDAP__GROUPS=[{dn: 'cn=a,dc=x'}, {dn: 'cn=b,dc=x', permissions: R, home: '/b/{user}'}]";

fn ldap(settings: &[&str]) -> LdapAuth {
    let loaded = good(with_env(settings));
    loaded.config.auth.ldap.expect("a directory")
}

#[test]
fn a_bind_template_is_enough() {
    let ldap = ldap(&[URL, BIND]);
    assert_eq!(
        (ldap.place.host.as_str(), ldap.place.port),
        ("dc1.example.com", 636)
    );
    assert!(matches!(ldap.lookup, LdapLookup::Bind { search: None, .. }));
    assert_eq!(ldap.home, "/{user}");
    assert_eq!(ldap.permissions, Permissions::ALL);
    assert_eq!(ldap.cache, Some(Duration::from_secs(30)));
}

#[test]
fn a_service_account_has_a_password_that_is_never_shown_and_groups_have_defaults() {
    let mut settings = vec![URL, GROUPS, "AUTH__LDAP__HOME=/all/{user}"];
    settings.extend(SERVICE);
    let loaded = good(with_env(&settings));
    let shown = loaded.describe();
    for line in [
        "auth.ldap.service_password = ***",
        "auth.ldap.groups[0].permissions = RW",
        "auth.ldap.groups[0].home = /all/{user}",
        "auth.ldap.groups[1].permissions = R\n",
        "auth.ldap.groups[1].home = /b/{user}",
    ] {
        assert!(shown.contains(line), "no {line} in {shown}");
    }
    assert!(!shown.contains("hunter2"), "{shown}");
    let ldap = loaded.config.auth.ldap.expect("a directory");
    let LdapLookup::Search { service, .. } = &ldap.lookup else {
        panic!("{:?}", ldap.lookup);
    };
    assert_eq!(service.password.expose_secret(), "hunter2");
    assert!(!format!("{ldap:?}").contains("hunter2"));
    assert!(!ldap.asks_user_entry());

    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("password");
    fs::write(&file, "from a file\n").expect("written");
    let variable = format!("AUTH__LDAP__SERVICE_PASSWORD_FILE={}", file.display());
    let ldap = self::ldap(&[URL, SERVICE[0], &variable, SERVICE[2], SERVICE[3]]);
    let LdapLookup::Search { service, .. } = &ldap.lookup else {
        panic!("{:?}", ldap.lookup);
    };
    assert_eq!(service.password.expose_secret(), "from a file");
}

#[test]
fn what_is_missing_or_contradicts_is_refused_by_its_key() {
    let upn = "AUTH__LDAP__BIND={user}@example.com";
    let http = "AUTH__HTTP__URL=https://users.example.com/";
    for (settings, words) in [
        (&[URL][..], &["auth.ldap.bind", "auth.ldap.service_dn"][..]),
        (&[BIND], &["auth.ldap.bind", "goes with auth.ldap.url"]),
        (&SERVICE, &["auth.ldap.filter", "goes with auth.ldap.url"]),
        (
            &[URL, BIND, SERVICE[0]],
            &["auth.ldap.service_dn", "remove one"],
        ),
        (
            &[URL, BIND, SERVICE[1]],
            &["auth.ldap.service_password", "remove it"],
        ),
        (
            &[URL, BIND, SERVICE[2]],
            &["auth.ldap.filter: ", "required"],
        ),
        (
            &[URL, SERVICE[0]],
            &[
                "auth.ldap.service_password: ",
                "auth.ldap.base: ",
                "auth.ldap.filter: ",
            ],
        ),
        (&[URL, upn, GROUPS], &["auth.ldap.base: ", "must be known"]),
        (
            &[URL, BIND, http],
            &["auth.ldap.url", "auth.http.url is set"],
        ),
        (
            &[URL, BIND, "AUTH__LDAP__STARTTLS=true"],
            &["auth.ldap.starttls = true", "ldaps://"],
        ),
        (
            &[
                BIND,
                "AUTH__LDAP__URL=ldap://dc1",
                "AUTH__LDAP__STARTTLS=false",
            ],
            &["auth.ldap.url = ldap://dc1", "unencrypted"],
        ),
        (
            &[URL, BIND, "AUTH__LDAP__GROUPS=[{home: /}]"],
            &["auth.ldap.groups[0].dn", "required"],
        ),
        (
            &[URL, BIND, "AUTH__LDAP__HOME=/{dn}"],
            &["auth.ldap.home = /{dn}", "only {user}"],
        ),
        (
            &[URL, BIND, "AUTH__LDAP__GROUP_FILTER=(a=b)"],
            &["auth.ldap.group_filter = (a=b)", "(memberOf={group})"],
        ),
    ] {
        let text = refused(with_env(settings), words);
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn passwords_in_the_clear_are_warned_of() {
    let plain = [
        BIND,
        "AUTH__LDAP__URL=ldap://dc1",
        "AUTH__LDAP__STARTTLS=false",
        "AUTH__LDAP__ALLOW_PLAIN=true",
    ];
    let loaded = good(with_env(&plain));
    assert!(
        loaded
            .warnings
            .iter()
            .any(|words| words.contains("unencrypted"))
    );
    let place = loaded.config.auth.ldap.expect("a directory").place;
    assert_eq!((place.port, place.security), (389, Security::Off));
}
