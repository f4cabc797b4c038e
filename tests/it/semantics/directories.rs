//! Directories and listings

use futures::StreamExt;

use crate::support::gateway::start;
use crate::support::{Ftp, TestGateway, TestStore, pattern};

/// A directory is made by `MKD`, entered, filled, and removed by `RMD` once it is empty.
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

/// A directory that other programs made by a key below it is listed and can be entered.
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

/// A name exists if its key does, or a key below it, whatever else begins in the same way.
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

/// `DELE` of what is missing or of a directory is 550.
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

/// Listings take a path, a file, options of `ls`, and a pattern in the last name.
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

/// A listing has all entries, however many there are, and that of an empty root has none.
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

/// `MLST`, `STAT` and `MDTM` take names from the working directory on.
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

/// A name in `NLST` leads to its file from where the client stands; a pattern behind a file is 550, as it is behind what is
/// missing.
#[tokio::test]
async fn a_name_of_nlst_leads_to_its_file_and_nothing_is_listed_behind_one() {
    let gateway = TestGateway::start().await;
    let mut ftp = gateway.login().await;
    ftp.store("STOR d/f", b"x").await;
    assert_eq!(ftp.command("CWD d").await.code, 250);
    for (argument, name) in [
        ("f", "f"),
        ("./f/", "./f"),
        ("../d/f", "../d/f"),
        ("f/.", "/d/f"),
        ("x/../f/x/..", "/d/f"),
    ] {
        assert_eq!(
            ftp.listing(&format!("NLST {argument}")).await,
            format!("{name}\r\n")
        );
        assert_eq!(ftp.command(&format!("SIZE {name}")).await.code, 213);
    }
    for line in ["NLST f/*", "LIST f/*", "STAT f/?", "NLST missing/*"] {
        let code = match line.starts_with("STAT") {
            true => ftp.command(line).await.code,
            false => ftp.fetch(line).await.1.code,
        };
        assert_eq!(code, 550, "{line}");
    }
}

/// `LIST` and `NLST` take words off that look like options of `ls`; a name that begins with a dash is written `./-x`, or behind
/// `--`. `LIST -R` is 504.
#[tokio::test]
async fn a_name_that_begins_with_a_dash_is_listed_behind_two_dashes() {
    let gateway = TestGateway::start().await;
    let mut ftp = gateway.login().await;
    ftp.store("STOR -x/f", b"x").await;
    ftp.store("STOR a", b"x").await;
    assert_eq!(ftp.listing("NLST -x").await, "-x\r\na\r\n");
    assert_eq!(ftp.listing("NLST ./-x").await, "./-x/f\r\n");
    assert_eq!(ftp.listing("NLST -la -- -x").await, "-x/f\r\n");
    assert_eq!(ftp.listing("MLSD -x").await.lines().count(), 1);
    assert_eq!(ftp.fetch("LIST -lR").await.1.code, 504);
}

/// A listing shows what was stored, renamed, deleted or made before it, at every gateway of the bucket.
#[tokio::test]
async fn a_listing_shows_what_was_done_before_at_every_gateway() {
    let (_store, _proxy, settings) = TestStore::behind_proxy().await;
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let gateways = [start(&settings).await, start(&settings).await];
    let mut sessions = Vec::new();
    for gateway in &gateways {
        let mut ftp = Ftp::connect(gateway.addresses()[0]).await;
        ftp.login("demo", "secret").await;
        sessions.push(ftp);
    }
    let steps = [
        ("STOR f", "type=file;size=5; f\r\n"),
        ("APPE f", "type=file;size=10; f\r\n"),
        ("MKD d", "type=dir; d\r\ntype=file;size=10; f\r\n"),
        ("RNFR f", "type=dir; d\r\ntype=file;size=10; f\r\n"),
        ("RNTO d/g", "type=dir; d\r\n"),
        ("STOR d/g", "type=dir; d\r\n"),
        ("DELE d/g", "type=dir; d\r\n"),
        ("RMD d", ""),
    ];
    for ftp in &mut sessions {
        assert_eq!(ftp.command("OPTS MLST type;size;").await.code, 200);
    }
    for (line, expected) in steps {
        let reply = match line.split(' ').next() {
            Some("STOR" | "APPE") => sessions[0].store(line, b"bytes").await,
            _ => sessions[0].command(line).await,
        };
        assert!(reply.code < 400, "{line}: {reply:?}");
        // the one that acts must not list between RNFR and RNTO
        assert_eq!(sessions[1].listing("MLSD").await, expected, "{line}");
        if !line.starts_with("RNFR") {
            assert_eq!(sessions[0].listing("MLSD").await, expected, "{line}");
        }
    }
    for gateway in gateways {
        gateway.stop().await;
    }
}
