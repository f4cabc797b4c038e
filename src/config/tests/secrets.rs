//! Users, secrets, and what is shown of them.

use super::*;

#[test]
fn a_secret_may_come_from_a_file_and_loses_one_line_break() {
    for (content, secret) in [
        ("key", "key"),
        ("key\n", "key"),
        ("key\r\n", "key"),
        ("0123\n", "0123"),
    ] {
        let (_dir, path) = yaml(content);
        let env = [
            format!("STORAGE__SECRET_ACCESS_KEY_FILE={}", path.display()),
            "STORAGE__ACCESS_KEY_ID=id".into(),
        ];
        let loaded = good(with_env(&[&env[0], &env[1]]));
        let credentials = loaded
            .config
            .storage
            .credentials
            .clone()
            .expect("both are set");
        assert_eq!(credentials.secret_access_key.expose_secret(), secret);
        assert!(
            loaded
                .describe()
                .contains("# COSGATE_STORAGE__SECRET_ACCESS_KEY_FILE: ")
        );
    }
}

#[test]
fn a_secret_file_that_does_not_serve_is_named_with_its_variable() {
    let (dir, path) = yaml("");
    let file = |path: &std::path::Path| format!("STORAGE__SESSION_TOKEN_FILE={}", path.display());
    let name = "COSGATE_STORAGE__SESSION_TOKEN_FILE";
    refused(with_env(&[&file(&path)]), &[name, "is empty"]);
    refused(
        with_env(&[&file(&dir.path().join("none"))]),
        &[name, "none: cannot be read"],
    );
    refused(with_env(&[&file(dir.path())]), &[name, "cannot be read"]);
    refused(
        with_env(&[&file(&path), "STORAGE__SESSION_TOKEN=x"]),
        &[name, "COSGATE_STORAGE__SESSION_TOKEN is set too"],
    );
    refused(
        with_env(&["GREETING_FILE=/x"]),
        &["only secrets", "COSGATE_GREETING"],
    );
}

#[test]
fn users_are_read_from_file_and_environment() {
    let text = format!(
        "users:\n- name: 0123\n  password_hash: {HASH}\n  home: in/\n  permissions: r\n- name: bob\n  password_hash: {HASH}\n"
    );
    let users = good(with_yaml(&text, &[])).config.users;
    assert_eq!(
        (users[0].name.as_str(), users[0].home.as_str()),
        ("0123", "/in")
    );
    assert_eq!(users[0].permissions.to_string(), "R");
    assert_eq!(
        (
            users[1].home.as_str(),
            users[1].permissions.to_string().as_str()
        ),
        ("/", "RW")
    );
    let users = good(with_yaml(&text, &[&super::users()])).config.users;
    assert_eq!(users.len(), 1);
}

#[test]
fn users_with_faults_are_refused_each_by_its_place() {
    let entry = |rest: &str| format!("users: [{{name: a, password_hash: {HASH}}}, {rest}]");
    for (rest, words) in [
        (
            "{name: a, password_hash: HASH}",
            &["users[1].name = a", "another user"][..],
        ),
        ("{name: b}", &["users[1].password_hash (from", "required"]),
        (
            "{name: b, password_hash: x}",
            &["users[1].password_hash = ***", "cosgate hash-password"],
        ),
        (
            "{name: b, password: hunter2, password_hash: HASH}",
            &[
                "users[1].password (from",
                "clear text",
                "cosgate hash-password",
            ],
        ),
        (
            "{name: b, password: hunter2}",
            &["users[1].password (from", "clear text"],
        ),
        (
            "{name: b, password_hash: HASH, home: ../x}",
            &["users[1].home = ../x"],
        ),
        (
            "{name: b, password_hash: HASH, permissions: all}",
            &["users[1].permissions = all", "RW"],
        ),
        ("hunter2", &["users[1] (from"]),
        ("{}", &["users[1].name", "users[1].password_hash"]),
    ] {
        let error = refused(with_yaml(&entry(&rest.replace("HASH", HASH)), &[]), words);
        assert!(!error.contains("hunter2"), "{error}");
        assert!(
            !error.contains("password_hash (from") || rest == "{name: b}" || rest == "{}",
            "{error}"
        );
    }
    refused(
        with_env(&["USERS=[{"]),
        &["users (from COSGATE_USERS)", "not valid YAML or JSON"],
    );
}

#[test]
fn no_secret_is_ever_shown() {
    const SECRET: &str = "hunter2";
    let (dir, secret_file) = yaml(SECRET);
    let file = format!("STORAGE__SESSION_TOKEN_FILE={}", secret_file.display());
    let loaded = good(with_env(&[
        &format!("STORAGE__ACCESS_KEY_ID={SECRET}"),
        &format!("STORAGE__SECRET_ACCESS_KEY={SECRET}"),
        &file,
        &users(),
        "AUTH__HTTP__URL=https://directory.example.com",
        &format!("AUTH__HTTP__TOKEN={SECRET}"),
    ]));
    let shown = format!("{loaded:?}{:#?}{}", loaded.config, loaded.describe());
    assert!(
        !shown.contains(SECRET) && !shown.contains("argon2id"),
        "{shown}"
    );
    assert!(shown.contains("users[0].password_hash = ***"));

    for env in [
        "STORAGE__ACCESS_KEY_ID=hunter2",
        "STORAGE__SECRET_ACCESS_KEY=hunter2 x",
        "STORAGE__SESSION_TOKEN=hunter2",
        "STORAGE__SECRET=hunter2",
        "STORAGE__ENDPOINT=https://a:hunter2@host",
        "MASQUERADE_ADDRESS=ftp://a:hunter2@host",
        "AUTH__HTTP__URL=https://a:hunter2@host",
        "AUTH__HTTP__TOKEN=hunter2 x",
        "AUTH__HTTP__TOKEN=hunter2",
        "USERS=[{name: a, password_hash: $2b$99$hunter2}]",
        "USERS=[{name: a, secret_access_key: hunter2}]",
        "USERS=alice:hunter2",
        "USERS=[alice: {hunter2",
        "USERS=[{name: a, password: hunter2}]",
        "USERS=[{name: a, password_hash: hunter2}]",
        "USERS=[{name: a, password_hash: [hunter2]}]",
        "USERS=[!secret hunter2]",
    ] {
        let error = with_env(&[env]).expect_err(env);
        assert!(!format!("{error}{error:?}").contains(SECRET), "{error}");
    }
    for text in [
        "storage: {secret_acess_key: hunter2}",
        "storage: {secret_access_key: [hunter2]}",
        "storage: hunter2",
        "hunter2",
        "a: b: hunter2",
        "a: !x hunter2",
        "a: \"hunter2",
    ] {
        let error = with_yaml(text, &[]).expect_err(text);
        assert!(!format!("{error}{error:?}").contains(SECRET), "{error}");
    }
    drop(dir);
}

#[test]
fn the_description_names_every_key_in_the_order_of_the_table() {
    let printed = good(with_env(&[&users()])).describe();
    let mut rest = printed.as_str();
    for key in table().iter().filter(|key| !key.path.contains("[]")) {
        let at = rest
            .find(&format!("{} = ", key.path))
            .unwrap_or_else(|| panic!("{}", key.path));
        rest = &rest[at..];
    }
    assert!(printed.contains("users[0].name = alice\n"), "{printed}");
}
