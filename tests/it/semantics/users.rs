//! Users and rights

use crate::support::{TestGateway, login, users};

/// A user's rights show in the replies to the same commands; `+` stands for done, `-` for 550.
async fn probe(gateway: &TestGateway, user: &str) -> Vec<&'static str> {
    gateway.put_object("dir/", Vec::new()).await;
    gateway.put_object("empty/", Vec::new()).await;
    for key in ["old", "gone", "named", "dir/file"] {
        gateway.put_object(key, b"old".to_vec()).await;
    }
    let mut ftp = login(gateway, user).await;
    let mut done = Vec::new();
    let mut note = |what, code: u16| match code {
        226 | 213 | 250 | 257 => done.push(what),
        550 => {}
        other => panic!("{user}: {what}: {other}"),
    };
    note("RETR", ftp.fetch("RETR old").await.1.code);
    for line in ["LIST", "NLST", "MLSD"] {
        note(line, ftp.fetch(line).await.1.code);
    }
    note("MLST", ftp.command("MLST old").await.code);
    note("STAT", ftp.command("STAT /").await.code);
    note("SIZE", ftp.command("SIZE old").await.code);
    note(
        "STOR",
        ftp.store(&format!("STOR new-{user}"), b"new").await.code,
    );
    note("MKD", ftp.command(&format!("MKD made-{user}")).await.code);
    note("MFMT", ftp.command("MFMT 20200101000000 named").await.code);
    note("replace", ftp.store("STOR old", b"new").await.code);
    note("APPE", ftp.store("APPE old", b"er").await.code);
    ftp.command("REST 1").await;
    note("REST", ftp.store("STOR old", b"x").await.code);
    note("DELE", ftp.command("DELE gone").await.code);
    note("RMD", ftp.command("RMD empty").await.code);
    for (what, target) in [("rename", "renamed"), ("rename onto", "old")] {
        let from = ftp.command("RNFR named").await.code;
        if from == 350 {
            note(
                what,
                ftp.command(&format!("RNTO {target}-{user}")).await.code,
            );
        } else {
            note(what, from);
        }
        gateway.put_object("named", b"old".to_vec()).await;
        gateway
            .put_object(&format!("old-{user}"), b"old".to_vec())
            .await;
    }
    done
}

/// Each right allows its own commands and no other; a command without its right is 550.
#[tokio::test]
async fn each_right_allows_its_commands_and_no_other() {
    const LISTS: [&str; 5] = ["LIST", "NLST", "MLSD", "MLST", "STAT"];
    const WRITES: [&str; 3] = ["STOR", "MKD", "MFMT"];
    const OVERWRITES: [&str; 3] = ["replace", "APPE", "REST"];
    let rights = [
        ("read", vec![&["RETR", "SIZE"][..]]),
        ("list", vec![&LISTS, &["SIZE"]]),
        ("write", vec![&["SIZE"], &WRITES]),
        ("delete", vec![&["SIZE"], &["DELE", "RMD"]]),
        ("rename", vec![&["SIZE"], &["rename"]]),
        ("write, overwrite", vec![&["SIZE"], &WRITES, &OVERWRITES]),
        (
            "rename, overwrite",
            vec![&["SIZE"], &["rename", "rename onto"]],
        ),
        ("R", vec![&["RETR"], &LISTS, &["SIZE"]]),
        (
            "W",
            vec![
                &["SIZE"],
                &WRITES,
                &OVERWRITES,
                &["DELE", "RMD"],
                &["rename", "rename onto"],
            ],
        ),
        (
            "RW, delete: false",
            vec![&["RETR"], &LISTS, &["SIZE"], &WRITES],
        ),
    ];
    for (number, (granted, commands)) in rights.iter().enumerate() {
        let (words, rest) = granted
            .split_once(", delete")
            .map_or((*granted, ""), |(words, _)| (words, ", delete: false"));
        let user = format!("name: u{number}, permissions: [{words}]{rest}");
        let gateway = TestGateway::with(&[&format!("USERS={}", users(&[&user]))]).await;
        // the second rename meets a file only if the user's first one made room; its target is put there by the probe
        gateway
            .put_object(&format!("old-u{number}"), b"old".to_vec())
            .await;
        let done = probe(&gateway, &format!("u{number}")).await;
        assert_eq!(done, commands.concat(), "{granted}");
        gateway.stop().await;
    }
}

/// A user without the right to overwrite stores new files, and changes none that is there.
#[tokio::test]
async fn what_may_not_be_overwritten_keeps_its_bytes_and_a_new_name_is_free() {
    let gateway =
        TestGateway::with(&[&format!("USERS={}", users(&["name: u, delete: false"]))]).await;
    let mut ftp = login(&gateway, "u").await;
    assert_eq!(ftp.store("STOR f", b"first").await.code, 226);
    for (line, restart) in [("STOR f", 0), ("APPE f", 0), ("STOR f", 2)] {
        if restart > 0 {
            assert_eq!(ftp.command(&format!("REST {restart}")).await.code, 350);
        }
        assert_eq!(ftp.store(line, b"second").await.code, 550, "{line}");
    }
    let refused = ftp.command("DELE f").await;
    assert!(refused.text.contains("ermission"), "{refused:?}");
    assert_eq!(gateway.object("f").await.as_deref(), Some(&b"first"[..]));
    assert_eq!(ftp.store("STOR g", b"second").await.code, 226);
    assert_eq!(ftp.store("APPE h", b"third").await.code, 226);
}

/// A user's own `max_file_size` is exact to the byte, and the smaller limit holds.
#[tokio::test]
async fn a_users_own_file_size_limit_is_exact_and_the_smaller_one_holds() {
    let gateway = TestGateway::with(&[
        &format!(
            "USERS={}",
            users(&[
                "name: small, max_file_size: 1000",
                "name: large, max_file_size: 1GiB"
            ])
        ),
        "UPLOAD__MAX_FILE_SIZE=5000",
    ])
    .await;
    for (user, limit) in [("small", 1000), ("large", 5000)] {
        let mut ftp = login(&gateway, user).await;
        assert_eq!(
            ftp.store("STOR f", &vec![b'x'; limit]).await.code,
            226,
            "{user}"
        );
        assert_eq!(
            ftp.store("STOR f", &vec![b'y'; limit + 1]).await.code,
            552,
            "{user}"
        );
        assert_eq!(gateway.object("f").await, Some(vec![b'x'; limit]));
    }
}
