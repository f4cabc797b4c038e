//! Mounts: more places in a user's tree.

use super::*;

fn with(user: &str, mounts: &str, more: &[&str]) -> Result<Config, String> {
    let users = format!("USERS=[{{name: a, password_hash: '{HASH}', {user}, mounts: [{mounts}]}}]");
    let mut env = vec![
        "STORAGE__PROVIDER=s3",
        "STORAGE__BUCKET=files",
        "STORAGE__ENDPOINT=https://minio.example.com",
        "STORAGE__ACCESS_KEY_ID=id",
        "STORAGE__SECRET_ACCESS_KEY=key",
        &users,
    ];
    env.extend(more);
    let loaded = with_env(&env).map_err(|error| error.to_string())?;
    let shown = loaded.describe();
    assert!(
        !shown.contains("hunter2") && !shown.contains("theirs"),
        "{shown}"
    );
    Ok(loaded.config)
}

#[test]
fn a_mount_has_the_keys_of_a_users_store_and_the_users_rights() {
    let config = with(
        "home: /a, permissions: R",
        "{path: /x/, bucket: other}, {path: /in/y, home: y, permissions: 'read, write', endpoint: 'https://far.example.com', \
         region: r, access_key_id: theirs, secret_access_key: hunter2}",
        &[],
    );
    let config = config.expect("taken");
    let [first, second] = &config.users[0].mounts[..] else {
        panic!("two mounts: {config:?}");
    };
    assert_eq!((first.path.as_str(), first.home.as_str()), ("/x", "/"));
    assert_eq!(first.permissions.to_string(), "R");
    assert_eq!(first.bucket.as_deref(), Some("other"));
    assert!(first.site.is_none() && first.credentials.is_none());
    assert_eq!(
        (second.path.as_str(), second.home.as_str()),
        ("/in/y", "/y")
    );
    assert_eq!(second.permissions.to_string(), "read, write");
    let site = second.site.as_ref().expect("elsewhere");
    assert_eq!(site.endpoint.as_deref(), Some("https://far.example.com"));
    assert!(second.credentials.is_some());
    let config = with(
        "home: /a, delete: false",
        "{path: /x, home: /x, permissions: RW}",
        &[],
    );
    let rights = config.expect("taken").users[0].mounts[0].permissions;
    assert_eq!(rights.to_string(), "read, write, list");
}

#[test]
fn mounts_are_printed_without_their_keys() {
    let users = format!(
        "USERS=[{{name: a, password_hash: '{HASH}', home: /a, mounts: [{{path: /x, bucket: other, access_key_id: theirs, \
         secret_access_key: hunter2}}]}}]"
    );
    let loaded = with_env(&cos(&users.replace("other", "other-1250000000"), &[])).expect("taken");
    let shown = loaded.describe();
    for line in [
        "users[0].mounts[0].path = /x\n",
        "users[0].mounts[0].bucket = other-1250000000\n",
        "users[0].mounts[0].secret_access_key = ***\n",
    ] {
        assert!(shown.contains(line), "{shown}");
    }
}

#[test]
fn what_is_wrong_with_a_mount_is_said_with_key_value_source_and_remedy() {
    for (mounts, words) in [
        ("{home: /x}", ["mounts[0].path", "required", "add it"]),
        (
            "{path: x, home: /x}",
            ["mounts[0].path = x", "absolute", "begin it with /"],
        ),
        (
            "{path: /, home: /x}",
            ["mounts[0].path = /", "the home", "choose"],
        ),
        (
            "{path: /b/../c, home: /x}",
            ["mounts[0].path = /b/../c", "no ..", "write the path"],
        ),
        (
            "{path: '/a%0Ab', home: /x}",
            ["mounts[0].path = /a%0Ab", "no %", "choose"],
        ),
        (
            "{path: /x, home: /x}, {path: /x, home: /y}",
            ["mounts[1].path = /x", "already", "choose another"],
        ),
        (
            "{path: /x/y, home: /x}, {path: /x, home: /y}",
            [
                "mounts[1].path = /x",
                "/x/y is above or below",
                "choose another",
            ],
        ),
        (
            "{path: /x, home: /x}, {path: /y, home: /x/y}",
            [
                "mounts[1].home = /x/y",
                "the mount at /x has /x",
                "two paths",
            ],
        ),
        (
            "{path: /x, home: /a/b}",
            [
                "mounts[0].home = /a/b",
                "the user's home has /a",
                "two paths",
            ],
        ),
        (
            "{path: /x}",
            [
                "mounts[0].home = /",
                "the user's home has /a",
                "choose a directory",
            ],
        ),
        (
            "{path: /x, home: /x, bucket: files}, {path: /y, home: /x}",
            ["mounts[1].home = /x", "the mount at /x", "choose"],
        ),
        (
            "{path: /x, home: /x, region: other}, {path: /y, home: /x}",
            ["mounts[1].home = /x", "the mount at /x", "choose"],
        ),
        (
            "{path: /x, home: /x, bucket: 'a/b'}",
            ["mounts[0].bucket", "a/b", "bucket"],
        ),
        (
            "{path: /x, home: /x, permissions: all}",
            ["mounts[0].permissions = all", "write R", "RW"],
        ),
        (
            "{path: /x, home: /x, access_key_id: theirs}",
            ["mounts[0].secret_access_key", "set without it", "add it"],
        ),
        (
            "{path: /x, home: /x, endpoint: 'https://far.example.com'}",
            ["mounts[0].endpoint", "set access_key_id", "far.example.com"],
        ),
        (
            "{path: /x, home: /x, endpoint: 'ftp://far'}",
            ["mounts[0].endpoint = ftp://far", "http", "COSGATE_USERS"],
        ),
        (
            "{path: /x, home: /x, perms: R}",
            ["mounts[0].perms", "no such key", "COSGATE_USERS"],
        ),
        ("/x", ["mounts[0]", "write a section with keys", "archive"]),
    ] {
        let error = with("home: /a", mounts, &[]).expect_err(mounts);
        for word in words.iter().chain(&["users[0].mounts", "COSGATE_USERS"]) {
            assert!(error.contains(word), "{mounts}: no {word:?} in {error}");
        }
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(!error.contains("theirs"), "{error}");
    }
    let many: Vec<String> = (0..101)
        .map(|at| format!("{{path: /{at}, home: /{at}}}"))
        .collect();
    let error = with("home: /a", &many.join(", "), &[]).expect_err("too many");
    assert!(
        error.contains("users[0].mounts = 101") && error.contains("at most 100"),
        "{error}"
    );
}

#[test]
fn places_may_share_a_name_where_they_share_no_file() {
    for (user, mounts) in [
        ("home: /a", "{path: /x, home: /ab}, {path: /xy, home: /abc}"),
        ("home: /a", "{path: /x, home: /a, bucket: other}"),
        ("home: /, bucket: own", "{path: /x}"),
        (
            "home: /a",
            "{path: /x, home: /a, endpoint: 'https://far.example.com', access_key_id: i, secret_access_key: s}",
        ),
        // the directory that the mount covers: other rights in one directory of the home
        ("home: /a", "{path: /in/x, home: /a/in/x, permissions: R}"),
        (
            "home: /",
            "{path: /in, home: /in, permissions: R}, {path: /out, home: /out}",
        ),
    ] {
        let config = with(user, mounts, &[]);
        assert!(config.is_ok(), "{user} {mounts}: {config:?}");
    }
}

#[test]
fn mounts_stand_in_the_users_file_and_in_an_endpoints_answer() {
    let text = format!(
        "- name: b\n  password_hash: '{HASH}'\n  home: /b\n  mounts:\n    - path: /x\n      home: /x\n    - path: y\n      home: /y\n"
    );
    let config = with("home: /a", "{path: /x, home: /x}", &[]).expect("taken");
    let common = StorageDefaults::of(&config.storage);
    let path = std::path::Path::new("users.yaml");
    let error = users_of_file(path, text.clone(), &common).expect_err("relative");
    let error = error.to_string();
    assert!(
        error.contains("users[0].mounts[1].path = y (from users.yaml, line 7)"),
        "{error}"
    );
    let users = users_of_file(path, text.replace("path: y", "path: /y"), &common);
    assert_eq!(users.expect("taken")[0].mounts.len(), 2);

    let answer = |mounts: &str| {
        let body =
            format!(r#"{{"name": "b", "home": "/b", "permissions": "RW", "mounts": {mounts}}}"#);
        answered_user(&body, &common).map_err(|error| error.to_string())
    };
    let user = answer(r#"[{"path": "/x", "home": "/x", "permissions": ["read", "list"]}]"#);
    let mounts = user.expect("taken").mounts;
    assert_eq!(mounts[0].permissions.to_string(), "R");
    let error = answer(r#"[{"path": "/x", "bucket": "other"}]"#).expect_err("says less");
    assert!(error.contains("users[0].mounts[0].home"), "{error}");
}
