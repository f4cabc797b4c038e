//! Mounts: several places in one tree

use crate::mounts::Places;
use crate::support::{TestGateway, login, pattern, users};

/// Each mount's requests go to its own store, signed with its own keys and for its own region.
#[tokio::test]
async fn each_mounts_requests_and_signatures_go_to_its_own_store_only() {
    let places = Places::start(&[]).await;
    let common = places.gateway.keys_of_its_own().0.to_owned();
    let own = places.far.keys_of_its_own().0.to_owned();
    let mut ftp = login(&places.gateway, "u").await;
    let large = pattern(12 << 20);
    for directory in ["", "archive", "far"] {
        places.at_home.take_requests();
        places.elsewhere.take_requests();
        let reply = ftp.command(format!("CWD /{directory}")).await;
        assert_eq!(reply.code, 250, "{reply:?}");
        let pwd = ftp.command("PWD").await.text;
        assert_eq!(pwd, format!("257 \"/{directory}\"\r\n"));
        assert_eq!(ftp.command("MKD d").await.code, 257, "{directory}");
        assert_eq!(ftp.store("STOR d/f", b"first").await.code, 226);
        assert_eq!(ftp.store("APPE d/f", b" and more").await.code, 226);
        assert_eq!(ftp.command("TYPE I").await.code, 200);
        assert_eq!(ftp.command("SIZE d/f").await.text, "213 14\r\n");
        let set = ftp.command("MFMT 20200102030405 d/f").await;
        assert_eq!(set.code, 213, "{directory}: {set:?}");
        assert_eq!(ftp.command("MDTM d/f").await.text, "213 20200102030405\r\n");
        assert_eq!(ftp.command("HASH d/f").await.code, 213);
        assert_eq!(ftp.command("REST 6").await.code, 350);
        assert_eq!(ftp.fetch("RETR d/f").await.0, b"and more");
        assert_eq!(ftp.store("STOR large", &large).await.code, 226);
        assert_eq!(ftp.command("RNFR large").await.code, 350);
        assert_eq!(ftp.command("RNTO d/large").await.code, 250);
        assert_eq!(ftp.fetch("RETR d/large").await.0, large);
        assert_eq!(ftp.listing("NLST d").await, "d/f\r\nd/large\r\n");
        let path = format!("{directory}/d/large");
        let behind = places.behind(path.trim_start_matches('/')).await;
        assert!(behind == Some(large.clone()), "{directory}");
        assert_eq!(ftp.command("RMD d").await.code, 550);
        assert_eq!(ftp.command("DELE d/large").await.code, 250);
        assert_eq!(ftp.command("DELE d/f").await.code, 250);
        assert_eq!(ftp.command("RMD d").await.code, 250);
        let (used, unused, id, region) = match directory {
            "far" => (&places.elsewhere, &places.at_home, &own, "second"),
            _ => (&places.at_home, &places.elsewhere, &common, "first"),
        };
        assert_eq!(unused.take_requests(), Vec::<String>::new(), "{directory}");
        for head in used.take_requests() {
            let signed = head.contains(&format!("Credential={id}/"));
            let scope = format!("/{region}/s3/aws4_request");
            assert!(signed && head.contains(&scope), "{directory}: {head}");
        }
    }
    assert_eq!(places.gateway.keys().await, Vec::<String>::new());
    // the one store's trouble is not the other's
    places.elsewhere.set_down(true);
    assert_eq!(ftp.store("STOR /archive/g", b"still").await.code, 226);
    assert_eq!(
        ftp.listing("NLST /").await,
        "/archive\r\n/far\r\n/shared\r\n"
    );
    places.stop().await;
}

/// Listings show mount points as directories, and hide what the home's bucket has under their names.
#[tokio::test]
async fn listings_show_mount_points_and_hide_what_lies_behind_them() {
    let places = Places::start(&[]).await;
    for key in [
        "u/a",
        "u/archive",
        "u/archive/x",
        "u/far/y",
        "u/shared",
        "u/shared/in",
        "u/shared/own",
        "u/z",
        "in/pic",
        "in/sub/p",
    ] {
        places.gateway.put_object(key, b"12345".to_vec()).await;
    }
    let mut ftp = login(&places.gateway, "u").await;
    places.at_home.take_requests();
    let names = "a\r\narchive\r\nfar\r\nshared\r\nz\r\n";
    assert_eq!(ftp.listing("NLST").await, names);
    assert_eq!(places.at_home.take_requests().len(), 1);
    assert_eq!(places.elsewhere.take_requests().len(), 0);
    let facts = ftp.listing("MLSD").await;
    let lines: Vec<&str> = facts.lines().collect();
    assert_eq!(lines.len(), 5, "{facts}");
    assert!(lines[0].starts_with("type=file;size=5;"), "{facts}");
    for (line, name) in lines[1..4].iter().zip([" archive", " far", " shared"]) {
        assert!(
            line.starts_with("type=dir;") && line.ends_with(name),
            "{facts}"
        );
    }
    let long = ftp.listing("LIST -a").await;
    let directories = long.lines().filter(|line| line.starts_with('d')).count();
    assert_eq!((long.lines().count(), directories), (5, 3), "{long}");
    assert_eq!(ftp.listing("NLST a*").await, "a\r\narchive\r\n");
    assert_eq!(ftp.listing("NLST /sha*").await, "/shared\r\n");
    let status = ftp.command("STAT /").await.text;
    assert!(
        status.contains("archive") && status.contains(" z\r\n"),
        "{status}"
    );
    // above a mount: what the home has is merged with the mount's name
    assert_eq!(
        ftp.listing("NLST shared").await,
        "shared/in\r\nshared/own\r\n"
    );
    assert_eq!(
        ftp.listing("NLST /shared/in").await,
        "/shared/in/pic\r\n/shared/in/sub\r\n"
    );
    assert_eq!(ftp.listing("NLST archive").await, "");
    for path in ["/archive", "/far", "/shared", "/shared/in"] {
        let facts = ftp.command(format!("MLST {path}")).await;
        assert!(facts.text.contains("type=dir;"), "{path}: {facts:?}");
        assert_eq!(
            ftp.command(format!("SIZE {path}")).await.code,
            550,
            "{path}"
        );
        assert_eq!(
            ftp.fetch(format!("RETR {path}")).await.1.code,
            550,
            "{path}"
        );
        assert_eq!(ftp.command(format!("CWD {path}")).await.code, 250, "{path}");
    }
    assert_eq!(ftp.command("SIZE /archive/x").await.code, 550);
    assert_eq!(ftp.command("CWD /archive/x").await.code, 550);
    assert_eq!(ftp.fetch("RETR /far/y").await.1.code, 550);
    assert_eq!(ftp.fetch("RETR /shared/in/pic").await.0, b"12345");
    places.stop().await;
}

/// Mount points and the directories above them are there whatever the store has, and can't be removed, renamed or replaced: 550.
#[tokio::test]
async fn mount_points_and_what_is_above_them_exist_in_an_empty_bucket_and_stay() {
    let places = Places::start(&[]).await;
    let mut ftp = login(&places.gateway, "u").await;
    for path in ["/shared", "/shared/in", "/archive"] {
        assert_eq!(ftp.command(format!("CWD {path}")).await.code, 250, "{path}");
    }
    assert_eq!(ftp.command("CWD /").await.code, 250);
    assert_eq!(ftp.listing("NLST shared").await, "shared/in\r\n");
    places.gateway.put_object("u/shared/", Vec::new()).await;
    places.gateway.put_object("u/file", b"x".to_vec()).await;
    for path in ["archive", "shared", "shared/in", "far"] {
        for command in ["RMD", "RNFR", "DELE", "MKD", "MFMT 20200102030405"] {
            let reply = match (command, path) {
                // read only
                ("RMD" | "RNFR" | "DELE" | "MKD", "shared/in") => continue,
                _ => ftp.command(format!("{command} {path}")).await,
            };
            assert_eq!(reply.code, 550, "{command} {path}: {reply:?}");
            if let "RMD" | "RNFR" = command {
                assert!(reply.text.contains("mount point"), "{reply:?}");
            }
        }
        for command in ["STOR", "APPE"] {
            let reply = ftp.store(format!("{command} {path}"), b"x").await;
            assert_eq!(reply.code, 550, "{command} {path}: {reply:?}");
        }
        assert_eq!(ftp.command("RNFR file").await.code, 350);
        let reply = ftp.command(format!("RNTO {path}")).await;
        assert_eq!(reply.code, 550, "{path}: {reply:?}");
    }
    assert_eq!(ftp.command("RMD /").await.code, 553);
    assert_eq!(places.gateway.keys().await, ["u/file", "u/shared/"]);
    places.stop().await;
}

/// The permissions of a path are those of its mount, or the user's where the mount has none; `delete: false` of a user holds in all of them.
#[tokio::test]
async fn a_mounts_rights_are_its_own_or_those_of_the_user() {
    let list = users(&[
        "name: rw, home: /h, mounts: [{path: /r, home: /r, permissions: R}, {path: /h/in, home: /h/h/in, permissions: [write, list]}, \
         {path: /kept, home: /k}], delete: false",
        "name: r, home: /h, permissions: R, mounts: [{path: /own, home: /r}, {path: /rw, home: /rw, permissions: RW}]",
    ]);
    let gateway = TestGateway::with(&[&format!("USERS={list}")]).await;
    for key in ["h/f", "r/f", "k/f", "h/h/in/f"] {
        gateway.put_object(key, b"x".to_vec()).await;
    }
    let mut ftp = login(&gateway, "rw").await;
    for (line, code) in [
        ("STOR /r/new", 550),
        ("STOR /h/in/new", 226),
        ("STOR /kept/new", 226),
        ("STOR /new", 226),
        // `delete: false` holds in mounts, too
        ("STOR /kept/f", 550),
    ] {
        assert_eq!(ftp.store(line, b"y").await.code, code, "{line}");
    }
    for (line, code) in [
        ("RETR /r/f", 226),
        // one directory of the home with other rights
        ("RETR /h/in/f", 550),
        ("RETR /f", 226),
    ] {
        assert_eq!(ftp.fetch(line).await.1.code, code, "{line}");
    }
    assert_eq!(ftp.command("DELE /kept/f").await.code, 550);
    assert_eq!(ftp.command("MLST /r/f").await.code, 250);
    let mut ftp = login(&gateway, "r").await;
    assert_eq!(ftp.store("STOR /own/g", b"x").await.code, 550);
    assert_eq!(ftp.store("STOR /g", b"x").await.code, 550);
    assert_eq!(ftp.store("STOR /rw/g", b"x").await.code, 226);
    assert_eq!(ftp.command("DELE /rw/g").await.code, 250);
    gateway.stop().await;
}

/// A rename from one mount to another of the same store moves a file, or a whole directory, as any rename does.
#[tokio::test]
async fn a_rename_across_mounts_of_one_store_moves_the_file_or_the_whole_directory() {
    let places = Places::start(&[]).await;
    let mut ftp = login(&places.gateway, "u").await;
    let large = pattern(12 << 20);
    assert_eq!(ftp.store("STOR large", &large).await.code, 226);
    assert_eq!(ftp.command("MFMT 20200102030405 large").await.code, 213);
    assert_eq!(ftp.command("RNFR large").await.code, 350);
    assert_eq!(ftp.command("RNTO archive/2020/large").await.code, 250);
    assert_eq!(
        ftp.command("MDTM archive/2020/large").await.text,
        "213 20200102030405\r\n"
    );
    assert!(places.behind("archive/2020/large").await == Some(large.clone()));
    assert_eq!(places.behind("large").await, None);
    // and back, over another file
    assert_eq!(ftp.store("STOR old", b"old").await.code, 226);
    assert_eq!(ftp.command("RNFR archive/2020/large").await.code, 350);
    assert_eq!(ftp.command("RNTO old").await.code, 250);
    assert!(places.behind("old").await == Some(large));
    assert_eq!(ftp.listing("NLST archive/2020").await, "");

    for name in ["d/1", "d/s/2", "d/s/t/3"] {
        assert_eq!(
            ftp.store(format!("STOR {name}"), name.as_bytes())
                .await
                .code,
            226
        );
    }
    assert_eq!(ftp.command("RNFR d").await.code, 350);
    assert_eq!(ftp.command("RNTO archive/e").await.code, 250);
    for name in ["1", "s/2", "s/t/3"] {
        let moved = places.behind(&format!("archive/e/{name}")).await;
        assert_eq!(moved, Some(format!("d/{name}").into_bytes()), "{name}");
    }
    assert_eq!(ftp.command("CWD /d").await.code, 550);
    // nothing is replaced by a directory
    assert_eq!(ftp.command("MKD /e").await.code, 257);
    assert_eq!(ftp.command("RNFR /archive/e").await.code, 350);
    assert_eq!(ftp.command("RNTO /e").await.code, 550);
    places.stop().await;
}

/// A rename from mount to mount reads and deletes there and writes here: it needs these rights, too.
#[tokio::test]
async fn a_rename_across_mounts_grants_no_other_right() {
    let list = users(&[
        "name: u, home: /h, mounts: [{path: /drop, home: /drop, permissions: [write, rename, delete]}, \
         {path: /kept, home: /kept, permissions: [read, write, rename]}, {path: /shown, home: /shown, permissions: [read, list, rename, delete]}]",
    ]);
    let gateway = TestGateway::with(&[&format!("USERS={list}")]).await;
    for key in ["h/f", "drop/f", "kept/f", "shown/f"] {
        gateway.put_object(key, b"x".to_vec()).await;
    }
    let mut ftp = login(&gateway, "u").await;
    for (from, to, code) in [
        ("drop/f", "g", 550),
        ("kept/f", "g", 550),
        ("f", "shown/g", 550),
        ("drop/f", "drop/g", 250),
        ("shown/f", "g", 250),
        ("f", "drop/h", 250),
    ] {
        assert_eq!(ftp.command(&format!("RNFR {from}")).await.code, 350);
        let reply = ftp.command(&format!("RNTO {to}")).await;
        assert_eq!(reply.code, code, "{from} {to}: {reply:?}");
    }
    assert_eq!(gateway.keys().await, ["drop/g", "drop/h", "h/g", "kept/f"]);
    gateway.stop().await;
}

/// A rename between two stores is 553 with the reason, and changes nothing.
#[tokio::test]
async fn a_rename_between_stores_or_without_the_right_changes_nothing() {
    let places = Places::start(&[]).await;
    places.gateway.put_object("in/pic", b"pic".to_vec()).await;
    let mut ftp = login(&places.gateway, "u").await;
    assert_eq!(ftp.store("STOR f", b"here").await.code, 226);
    assert_eq!(ftp.store("STOR far/g", b"there").await.code, 226);
    for (from, to, code, reason) in [
        ("f", "far/f", 553, "different stores"),
        ("far/g", "g", 553, "different stores"),
        ("far/g", "archive/g", 553, "different stores"),
        ("f", "shared/in/f", 550, "may not"),
    ] {
        assert_eq!(ftp.command(format!("RNFR {from}")).await.code, 350);
        places.at_home.take_requests();
        places.elsewhere.take_requests();
        let reply = ftp.command(format!("RNTO {to}")).await;
        assert_eq!(reply.code, code, "{from} {to}: {reply:?}");
        assert!(reply.text.contains(reason), "{from} {to}: {reply:?}");
        assert_eq!(places.at_home.take_requests(), Vec::<String>::new());
        assert_eq!(places.elsewhere.take_requests(), Vec::<String>::new());
    }
    assert_eq!(ftp.command("RNFR shared/in/pic").await.code, 550);
    assert_eq!(places.behind("f").await.as_deref(), Some(&b"here"[..]));
    assert_eq!(places.behind("far/g").await.as_deref(), Some(&b"there"[..]));
    places.stop().await;
}
