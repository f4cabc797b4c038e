//! The users file: read at start, and again when it changes.

use std::time::Duration;

use cosgate::config::load_from;
use tokio::io::AsyncWriteExt;

use crate::support::{Mount, TestGateway, cheap_hash, eventually, login, try_login, users};

/// A gateway with a users file that is read again soon.
async fn gateway(mount: &Mount, more: &[&str]) -> TestGateway {
    let file = format!("USERS_FILE={}", mount.file().display());
    let own = [
        file.as_str(),
        "RELOAD__INTERVAL=20ms",
        "AUTH__LOCKOUT__DELAY=10ms",
        "AUTH__LOCKOUT__PER_USER=0",
        "AUTH__LOCKOUT__PER_ADDRESS=0",
        "AUTH__LOCKOUT__MAX_DELAY=10ms",
    ];
    TestGateway::with(&[&own, more].concat()).await
}

#[tokio::test]
async fn a_swapped_users_file_counts_from_the_next_login_on_and_ends_no_upload() {
    let mount = Mount::new("users.yaml", &users(&["name: old", "name: both"]));
    let list = format!("USERS={}", users(&["name: fixed"]));
    let gateway = gateway(&mount, &[&list]).await;
    let mut ftp = login(&gateway, "old").await;
    let mut data = ftp.data().await;
    assert_eq!(ftp.command("STOR f").await.code, 150);
    data.write_all(b"before ").await.expect("writes");

    mount.swap(
        "v1",
        &format!(
            "users: {}",
            users(&["name: new", "name: both, permissions: R"])
        ),
    );
    eventually("the new user is known", || async {
        try_login(&gateway, "new", "secret").await.code == 230
    })
    .await;
    assert_eq!(try_login(&gateway, "old", "secret").await.code, 530);
    let mut both = login(&gateway, "both").await;
    assert_eq!(both.store("STOR g", b"x").await.code, 550, "only reads now");
    login(&gateway, "fixed").await;

    data.write_all(b"and after").await.expect("writes");
    drop(data);
    assert_eq!(ftp.reply().await.code, 226);
    assert_eq!(
        gateway.object("f").await.as_deref(),
        Some(&b"before and after"[..])
    );
    assert_eq!(
        ftp.store("STOR h", b"x").await.code,
        226,
        "the session goes on"
    );
}

#[tokio::test]
async fn a_bad_users_file_leaves_the_last_good_one_in_force_and_says_why() {
    let mount = Mount::new("users.yaml", &users(&["name: alice"]));
    let list = format!("USERS={}", users(&["name: fixed"]));
    let gateway = gateway(&mount, &[&list]).await;
    let mut state = gateway.gateway.users().reload_state();
    let bad = [
        (
            "{name: alice, password: hunter2}",
            "users[0].password",
            "clear text",
        ),
        (
            "{name: alice, password_hash: hunter2}",
            "users[0].password_hash",
            "no password hash",
        ),
        ("", "users_file", "no users"),
        ("{name: fixed}", "fixed", "`users`"),
    ];
    let mut first = None;
    for (version, (entry, key, why)) in bad.into_iter().enumerate() {
        let content = match entry {
            "" => String::new(),
            "{name: fixed}" => users(&["name: fixed"]),
            entry => format!("[{entry}]"),
        };
        mount.swap(&format!("v{}", version + 1), &content);
        let failed = state.wait_for(|state| {
            state
                .failure
                .as_ref()
                .is_some_and(|failure| failure.error.contains(why))
        });
        let failed = tokio::time::timeout(Duration::from_secs(60), failed).await;
        let failure = failed
            .expect("in time")
            .expect("published")
            .failure
            .clone()
            .expect("failed");
        assert!(
            failure.error.contains(key) && !failure.error.contains("hunter2"),
            "{failure:?}"
        );
        assert_eq!(*first.get_or_insert(failure.since), failure.since);
        login(&gateway, "alice").await;
    }
    mount.swap("v9", &users(&["name: bob"]));
    let good = state.wait_for(|state| state.failure.is_none());
    tokio::time::timeout(Duration::from_secs(60), good)
        .await
        .expect("in time")
        .expect("published");
    login(&gateway, "bob").await;
}

#[test]
fn a_users_file_with_faults_keeps_the_program_from_starting_and_names_line_and_remedy() {
    let hash = cheap_hash("secret");
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("users.yaml");
    let load = || {
        load_from(
            None,
            [("COSGATE_USERS_FILE".to_owned(), path.display().to_string())],
        )
    };
    let missing = load().expect_err("there is no file").to_string();
    assert!(
        missing.contains("users_file = ") && missing.contains("cannot be read"),
        "{missing}"
    );
    for (content, words) in [
        (
            "- name: a\n  password: hunter2\n".to_owned(),
            &["users[0].password", "line 2", "cosgate hash-password"][..],
        ),
        (
            "- name: a\n  password_hash: hunter2\n".to_owned(),
            &[
                "users[0].password_hash = ***",
                "line 2",
                "cosgate hash-password",
            ],
        ),
        (
            format!(
                "users:\n- name: a\n  password_hash: {hash}\n- name: a\n  password_hash: {hash}\n"
            ),
            &["users[1].name = a", "line 4", "another user"],
        ),
        (
            format!("- name: a\n  password_hash: {hash}\n  permissions: [read, shred]\n"),
            &["users[0].permissions = shred", "overwrite"],
        ),
        (
            format!("- name: a\n  password_hash: {hash}\n  allow_from: []\n"),
            &["users[0].allow_from", "empty"],
        ),
        (
            format!(
                "- name: a\n  password_hash: {hash}\n  permissions: overwrite\n  delete: false\n"
            ),
            &["users[0].permissions", "nothing is left"],
        ),
        (
            format!("- name: a\n  password_hash: {hash}\n  secret_access_key: hunter2\n"),
            &["users[0].access_key_id"],
        ),
        (
            "users: []\nlisten: 0.0.0.0:21\n".to_owned(),
            &["only `users`", "listen"],
        ),
        ("users: [".to_owned(), &["users_file", "not valid YAML"]),
        ("hunter2".to_owned(), &["users_file", "list of users"]),
    ] {
        std::fs::write(&path, content).expect("written");
        let error = load().expect_err("it is refused").to_string();
        for word in words {
            assert!(error.contains(word), "no {word:?} in {error}");
        }
        assert!(
            error.contains("users.yaml") && !error.contains("hunter2"),
            "{error}"
        );
    }
    std::fs::write(&path, format!(r#"[{{"name": "a", "password_hash": "{hash}", "secret_access_key": "hunter2", "access_key_id": "hunter2"}}]"#)).expect("written");
    let loaded = load().expect("JSON serves as well");
    let shown = format!("{loaded:?}{}", loaded.describe());
    assert!(
        !shown.contains("hunter2") && !shown.contains("argon2id"),
        "{shown}"
    );
    assert!(shown.contains("users_file[0].name = a"), "{shown}");
}
