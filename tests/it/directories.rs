//! Names, directories and listings.

use futures::StreamExt;

use crate::support::{TestGateway, pattern};

#[tokio::test]
async fn a_directory_is_made_entered_filled_and_removed() {
    let gateway = TestGateway::start().await;
    let mut ftp = gateway.login().await;
    let made = ftp.command("MKD d").await;
    assert_eq!(
        (made.code, made.text.as_str()),
        (257, "257 \"/d\" created\r\n")
    );
    assert_eq!(gateway.keys().await, ["d/"]);
    assert_eq!(ftp.command("MKD d").await.code, 550);
    assert_eq!(ftp.command("CWD d").await.code, 250);
    assert_eq!(ftp.command("PWD").await.text, "257 \"/d\"\r\n");
    assert_eq!(ftp.store("STOR f", b"x").await.code, 226);
    assert_eq!(gateway.keys().await, ["d/", "d/f"]);
    assert_eq!(ftp.command("CDUP").await.code, 250);
    assert_eq!(ftp.command("RMD d").await.code, 550, "it is not empty");
    assert_eq!(gateway.keys().await, ["d/", "d/f"]);
    assert_eq!(ftp.command("DELE d/f").await.code, 250);
    assert_eq!(ftp.command("RMD d").await.code, 250);
    assert!(gateway.keys().await.is_empty());
    assert_eq!(ftp.command("RMD d").await.code, 550);
    assert_eq!(ftp.command("CWD d").await.code, 550);
}

#[tokio::test]
async fn a_directory_without_a_marker_is_listed_and_entered() {
    let gateway = TestGateway::start().await;
    gateway.put_object("dir/sub/file", b"x".to_vec()).await;
    let mut ftp = gateway.login().await;
    assert_eq!(ftp.listing("NLST").await, "dir\r\n");
    assert_eq!(ftp.command("CWD dir/sub").await.code, 250);
    assert_eq!(ftp.listing("NLST").await, "file\r\n");
    assert!(ftp.listing("MLSD /dir").await.starts_with("type=dir;"));
}

#[tokio::test]
async fn a_name_exists_only_if_its_key_does_whatever_shares_its_prefix() {
    let gateway = TestGateway::start().await;
    for key in ["a.txt", "ab/c", "a-1", "p", "p/q"] {
        gateway.put_object(key, b"x".to_vec()).await;
    }
    let mut ftp = gateway.login().await;
    for line in [
        "SIZE a", "CWD a", "RETR a", "DELE a", "MDTM a", "MLST a", "RNFR a", "RMD a",
    ] {
        let reply = if line.starts_with("RETR") {
            ftp.fetch(line).await.1
        } else {
            ftp.command(line).await
        };
        assert_eq!(reply.code, 550, "{line}: {reply:?}");
    }
    // a file and a directory may share a name, as keys may
    assert_eq!(ftp.command("SIZE p").await.code, 213);
    assert_eq!(ftp.command("CWD p").await.code, 250);
    assert_eq!(ftp.listing("NLST").await, "q\r\n");
    assert_eq!(gateway.keys().await.len(), 5);
}

#[tokio::test]
async fn deleting_what_is_missing_or_a_directory_is_refused() {
    let gateway = TestGateway::start().await;
    gateway.put_object("d/f", b"x".to_vec()).await;
    let mut ftp = gateway.login().await;
    assert_eq!(ftp.command("DELE nothing").await.code, 550);
    assert_eq!(ftp.command("DELE d").await.code, 550);
    assert_eq!(ftp.command("RMD d/f").await.code, 550);
    assert_eq!(gateway.keys().await, ["d/f"]);
}

#[tokio::test]
async fn a_file_is_renamed_and_replaces_another() {
    let gateway = TestGateway::start().await;
    let mut ftp = gateway.login().await;
    ftp.store("STOR a b#?%+ü.tmp", b"content").await;
    ftp.store("STOR final", b"old").await;
    assert_eq!(ftp.command("RNFR a b#?%+ü.tmp").await.code, 350);
    assert_eq!(ftp.command("RNTO final").await.code, 250);
    assert_eq!(gateway.keys().await, ["final"]);
    assert_eq!(
        gateway.object("final").await.as_deref(),
        Some(&b"content"[..])
    );
    // the two commands belong together
    assert_eq!(ftp.command("RNTO other").await.code, 503);
    ftp.command("RNFR final").await;
    ftp.command("NOOP").await;
    assert_eq!(ftp.command("RNTO other").await.code, 503);
    assert_eq!(ftp.command("RNFR nothing").await.code, 550);
    assert_eq!(ftp.command("RNTO other").await.code, 503);
}

#[tokio::test]
async fn a_directory_is_renamed_with_all_that_is_in_it() {
    let gateway = TestGateway::start().await;
    for key in ["d/", "d/1", "d/s/2", "d/s/t/3", "dd/4", "d.txt"] {
        gateway.put_object(key, key.as_bytes().to_vec()).await;
    }
    let mut ftp = gateway.login().await;
    ftp.command("RNFR d").await;
    assert_eq!(ftp.command("RNTO d/inside").await.code, 550);
    ftp.command("RNFR d").await;
    assert_eq!(
        ftp.command("RNTO dd").await.code,
        550,
        "it is there already"
    );
    ftp.command("RNFR d").await;
    assert_eq!(ftp.command("RNTO new/e").await.code, 250);
    let keys = gateway.keys().await;
    assert_eq!(
        keys,
        [
            "d.txt",
            "dd/4",
            "new/e/",
            "new/e/1",
            "new/e/s/2",
            "new/e/s/t/3"
        ]
    );
    assert_eq!(
        gateway.object("new/e/s/t/3").await.as_deref(),
        Some(&b"d/s/t/3"[..])
    );
}

#[tokio::test]
async fn listings_take_a_path_a_file_options_and_a_pattern() {
    let gateway = TestGateway::start().await;
    for key in ["d/a.jpg", "d/b.jpg", "d/c.txt", "d/s/x.jpg"] {
        gateway.put_object(key, b"12345".to_vec()).await;
    }
    let mut ftp = gateway.login().await;
    let all = ftp.listing("LIST -a -l d").await;
    assert_eq!(all.lines().count(), 4);
    assert!(
        all.lines()
            .all(|line| line.starts_with("-rw-r--r--") || line.starts_with("drwxr-xr-x"))
    );
    assert!(
        ftp.listing("LIST d/a.jpg").await.contains("a.jpg"),
        "a file lists itself"
    );
    // names of an NLST are good as arguments (RFC 1123)
    assert_eq!(ftp.listing("NLST d/a.jpg").await, "d/a.jpg\r\n");
    assert_eq!(ftp.listing("NLST d/*.jpg").await, "d/a.jpg\r\nd/b.jpg\r\n");
    ftp.command("CWD d").await;
    assert_eq!(ftp.listing("NLST *.jpg").await, "a.jpg\r\nb.jpg\r\n");
    assert_eq!(ftp.listing("NLST -la").await.lines().count(), 4);
    let facts = ftp.listing("MLSD").await;
    assert!(
        facts
            .lines()
            .any(|line| line.starts_with("type=file;size=5;modify=2") && line.ends_with("; a.jpg")),
        "{facts}"
    );
    assert!(facts.lines().any(|line| line == "type=dir; s"), "{facts}");
    assert_eq!(ftp.fetch("LIST nothing").await.1.code, 550);
    assert_eq!(ftp.listing("LIST /").await.lines().count(), 1);
}

#[tokio::test]
async fn a_listing_of_many_entries_is_complete_and_the_empty_root_is_empty() {
    let gateway = TestGateway::start().await;
    let mut ftp = gateway.login().await;
    assert_eq!(ftp.listing("LIST").await, "");
    futures::stream::iter(0..1203)
        .for_each_concurrent(16, |i| {
            let gateway = &gateway;
            async move {
                gateway
                    .put_object(&format!("many/file-{i:04}"), Vec::new())
                    .await
            }
        })
        .await;
    let names = ftp.listing("NLST many").await;
    let expected: String = (0..1203).map(|i| format!("many/file-{i:04}\r\n")).collect();
    assert_eq!(names, expected);
}

#[tokio::test]
async fn mlst_stat_and_mdtm_resolve_against_the_working_directory() {
    let gateway = TestGateway::start().await;
    gateway.put_object("d/f", pattern(42)).await;
    let mut ftp = gateway.login().await;
    ftp.command("CWD d").await;
    let facts = ftp.command("MLST f").await;
    assert_eq!(facts.code, 250);
    assert!(
        facts.text.contains("\r\n type=file;size=42;modify="),
        "{facts:?}"
    );
    assert!(facts.text.contains("; /d/f\r\n250 "), "{facts:?}");
    assert!(ftp.command("MLST").await.text.contains(" type=dir; /d\r\n"));
    let time = ftp.command("MDTM f").await;
    assert_eq!(time.code, 213);
    assert_eq!(time.text.trim_end().len(), "213 20261122195536".len());
    let status = ftp.command("STAT f").await;
    assert_eq!(status.code, 213);
    assert!(status.text.contains(" f\r\n"), "{status:?}");
    let status = ftp.command("STAT /d").await;
    assert!(
        status.text.lines().count() == 3 && status.text.contains(" f\r\n"),
        "{status:?}"
    );
    assert_eq!(ftp.command("STAT nothing").await.code, 550);
    assert_eq!(ftp.command("STAT").await.code, 211);
    // a directory has its marker's time, or none
    assert_eq!(ftp.command("MDTM /d").await.code, 550);
    ftp.command("MKD /m").await;
    assert_eq!(ftp.command("MDTM /m").await.code, 213);
    assert_eq!(ftp.command("SIZE /m").await.code, 550);
}

#[tokio::test]
async fn names_with_quotes_spaces_and_foreign_letters_survive() {
    let gateway = TestGateway::start().await;
    let mut ftp = gateway.login().await;
    for name in [
        "with space",
        " leading and trailing ",
        "quo\"te",
        "Ünï©ode-文件",
        "-dash",
        "percent%20",
        "a+b&c=d",
        "'",
    ] {
        assert_eq!(
            ftp.store(&format!("STOR {name}"), name.as_bytes())
                .await
                .code,
            226,
            "{name:?}"
        );
        assert_eq!(
            gateway.object(name).await.as_deref(),
            Some(name.as_bytes()),
            "{name:?}"
        );
        assert_eq!(
            ftp.fetch(&format!("RETR {name}")).await.0,
            name.as_bytes(),
            "{name:?}"
        );
        assert!(
            ftp.listing("NLST").await.lines().any(|line| line == name),
            "{name:?}"
        );
        assert_eq!(
            ftp.command(&format!("DELE {name}")).await.code,
            250,
            "{name:?}"
        );
    }
    assert_eq!(
        ftp.command("MKD a\"b").await.text,
        "257 \"/a\"\"b\" created\r\n"
    );
    ftp.command("CWD a\"b").await;
    assert_eq!(ftp.command("PWD").await.text, "257 \"/a\"\"b\"\r\n");
}

#[tokio::test]
async fn two_homes_with_a_common_beginning_never_meet() {
    let hash = cosgate::auth::hash_password(&"secret".to_owned().into()).expect("hashes");
    let hash = secrecy::ExposeSecret::expose_secret(&hash);
    let users = format!(
        "USERS=[{{name: a, password_hash: '{hash}', home: /a}}, {{name: ab, password_hash: '{hash}', home: /ab}}, \
         {{name: reader, password_hash: '{hash}', permissions: R}}, {{name: writer, password_hash: '{hash}', permissions: W}}]"
    );
    let gateway = TestGateway::with(&[&users, "STORAGE__PREFIX=ftp/"]).await;
    let mut a = gateway.connect().await;
    a.login("a", "secret").await;
    let mut ab = gateway.connect().await;
    ab.login("ab", "secret").await;
    assert_eq!(ab.store("STOR secret", b"ab's").await.code, 226);
    assert_eq!(gateway.keys().await, ["ftp/ab/secret"]);
    assert_eq!(a.listing("NLST").await, "");
    for path in [
        "/../ab/secret",
        "../ab/secret",
        "/b/secret",
        "b/secret",
        "/ftp/ab/secret",
    ] {
        let code = a.fetch(&format!("RETR {path}")).await.1.code;
        assert!(matches!(code, 550 | 553), "{path}: {code}");
    }

    // rights: a reader changes nothing, a writer sees nothing
    let mut reader = gateway.connect().await;
    reader.login("reader", "secret").await;
    assert_eq!(reader.fetch("RETR ab/secret").await.0, b"ab's");
    assert_eq!(
        reader.store("STOR ab/secret", b"overwritten").await.code,
        550
    );
    for line in ["DELE ab/secret", "MKD x", "RMD ab"] {
        assert_eq!(reader.command(line).await.code, 550, "{line}");
    }
    assert_eq!(reader.command("RNFR ab/secret").await.code, 550);
    assert_eq!(reader.command("RNTO ab/other").await.code, 503);
    let mut writer = gateway.connect().await;
    writer.login("writer", "secret").await;
    assert_eq!(writer.store("STOR dropped", b"box").await.code, 226);
    assert_eq!(writer.fetch("RETR dropped").await.1.code, 550);
    assert_eq!(writer.fetch("LIST").await.1.code, 550);
    assert_eq!(gateway.keys().await, ["ftp/ab/secret", "ftp/dropped"]);
}
