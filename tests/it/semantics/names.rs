//! Names

use crate::support::TestGateway;

/// Keys as other programs make them, and the names that clients see.
const ODD: &[(&str, &str)] = &[
    ("tab\tx", "tab%09x"),
    ("ctl\u{1}x", "ctl%01x"),
    ("cr\rx", "cr%0Dx"),
    ("lf\nx", "lf%0Ax"),
    ("esc\u{1b}[31m", "esc%1B[31m"),
    ("can\u{18}em\u{19}sub\u{1a}", "can%18em%19sub%1A"),
    ("del\u{7f}", "del%7F"),
    ("c1\u{85}", "c1%C2%85"),
    ("code%0Ax", "code%250Ax"),
    ("nonchar\u{fffe}", "nonchar\u{fffe}"),
    ("u2028\u{2028}x", "u2028\u{2028}x"),
    ("plus+ %41", "plus+ %41"),
    ("pct%", "pct%"),
    ("]]>&lt;<", "]]>&lt;<"),
    (" blanks ", " blanks "),
    ("back\\slash", "back\\slash"),
];

/// `..` in the root is the root, for every command.
#[tokio::test]
async fn up_from_the_root_is_the_root_for_every_command() {
    let gateway = TestGateway::start().await;
    let mut ftp = gateway.login().await;
    ftp.store("STOR f", b"x").await;
    assert_eq!(ftp.command("MKD d").await.code, 257);
    for line in ["CDUP", "CWD ..", "XCUP", "CWD ../..", "CWD /.."] {
        let reply = ftp.command(line).await;
        assert_eq!(reply.code, 250, "{line}: {reply:?}");
        assert_eq!(ftp.command("PWD").await.text, "257 \"/\"\r\n", "{line}");
    }
    assert_eq!(ftp.listing("NLST ..").await, "../d\r\n../f\r\n");
    assert_eq!(ftp.listing("LIST ..").await.lines().count(), 2);
    assert_eq!(ftp.listing("MLSD ..").await.lines().count(), 2);
    assert_eq!(ftp.command("SIZE ../f").await.text, "213 1\r\n");
    assert_eq!(ftp.command("CWD ../d").await.code, 250);
    assert_eq!(ftp.command("CWD ../../../d").await.code, 250);
    assert_eq!(ftp.command("PWD").await.text, "257 \"/d\"\r\n");
}

/// A key with control characters is shown percent-encoded, and is fetched, measured and renamed by that name; its
/// neighbours are shown as ever.
#[tokio::test]
async fn an_odd_key_is_shown_escaped_and_its_neighbours_as_ever() {
    for version in ["v1", "v2"] {
        let gateway = TestGateway::with(&[&format!("STORAGE__LIST_VERSION={version}")]).await;
        for (number, (key, _)) in ODD.iter().enumerate() {
            let bytes = key.as_bytes().to_vec();
            gateway.put_object(&format!("d{number}/{key}"), bytes).await;
            let neighbour = format!("d{number}/neighbour");
            gateway.put_object(&neighbour, Vec::new()).await;
        }
        let mut ftp = gateway.login().await;
        for (number, (key, name)) in ODD.iter().enumerate() {
            let mut names = [format!("d{number}/{name}"), format!("d{number}/neighbour")];
            names.sort();
            let listing = ftp.listing(&format!("NLST d{number}")).await;
            let lines: Vec<&str> = listing.split_terminator("\r\n").collect();
            assert_eq!(lines, names, "{key:?} {version}");
            let facts = ftp.listing(&format!("MLSD d{number}")).await;
            assert!(facts.contains(&format!("; {name}\r\n")), "{facts:?}");

            let path = format!("d{number}/{name}");
            let (bytes, reply) = ftp.fetch(&format!("RETR {path}")).await;
            assert_eq!((bytes, reply.code), (key.as_bytes().to_vec(), 226));
            let size = ftp.command(&format!("SIZE {path}")).await;
            assert_eq!(size.text, format!("213 {}\r\n", key.len()));
            // it gets a better name, or goes with its directory
            assert_eq!(ftp.command(&format!("RNFR d{number}")).await.code, 350);
            assert_eq!(ftp.command(&format!("RNTO e{number}")).await.code, 250);
            let path = format!("e{number}/{name}");
            assert_eq!(ftp.command(&format!("RNFR {path}")).await.code, 350);
            assert_eq!(ftp.command("RNTO plain").await.code, 250);
            assert_eq!(
                gateway.object("plain").await.as_deref(),
                Some(key.as_bytes())
            );
        }
    }
}

/// A key with control characters is deleted by its percent-encoded name, and a new one is never made: 553.
#[tokio::test]
async fn an_odd_key_is_deleted_by_its_name_and_none_is_made() {
    let gateway = TestGateway::start().await;
    gateway.put_object("a\nb", b"x".to_vec()).await;
    gateway.put_object("odd\u{1}/f", b"x".to_vec()).await;
    let mut ftp = gateway.login().await;
    assert_eq!(ftp.listing("NLST").await, "a%0Ab\r\nodd%01\r\n");
    assert_eq!(ftp.command("CWD odd%01").await.code, 250);
    assert_eq!(ftp.command("DELE f").await.code, 250);
    ftp.command("CWD /").await;
    assert_eq!(ftp.command("DELE a%0Ab").await.code, 250);
    assert!(gateway.object("a\nb").await.is_none());
    for line in ["STOR x%0Ay", "APPE x%0Ay"] {
        assert_eq!(ftp.store(line, b"x").await.code, 553, "{line}");
    }
    assert_eq!(ftp.command("MKD x%0Ay").await.code, 553);
    ftp.store("STOR plain", b"x").await;
    ftp.command("RNFR plain").await;
    assert_eq!(ftp.command("RNTO x%0Ay").await.code, 553);
    // other codes are nothing but letters
    assert_eq!(ftp.store("STOR a%20b%41", b"x").await.code, 226);
    assert!(gateway.object("a%20b%41").await.is_some());
    // and what only looks like an escape has a name as well
    assert_eq!(ftp.store("STOR x%250Ay", b"x").await.code, 226);
    assert!(gateway.object("x%0Ay").await.is_some());
}

/// Keys with an empty component, `.` or `..` are left out of a listing, whose 226 counts them; their directory is not
/// empty.
#[tokio::test]
async fn keys_that_no_path_reaches_are_left_out_and_counted() {
    let gateway = TestGateway::start().await;
    for key in ["d/f", "d//x", "d/./y", "d/../z", "/leading"] {
        gateway.put_object(key, b"x".to_vec()).await;
    }
    let mut ftp = gateway.login().await;
    let (names, reply) = ftp.fetch("NLST d").await;
    assert_eq!(String::from_utf8(names).as_deref(), Ok("d/f\r\n"));
    assert!(reply.text.contains("1 entries; 3 keys"), "{reply:?}");
    assert_eq!(ftp.listing("NLST").await, "d\r\n");
    assert_eq!(ftp.command("DELE d//f").await.code, 250);
    assert_eq!(ftp.command("RMD d").await.code, 550, "keys are left");
    assert_eq!(gateway.keys().await.len(), 4);
}

/// A directory whose marker has content counts as not empty, and a rename takes the content along.
#[tokio::test]
async fn a_marker_with_content_is_not_removed() {
    let gateway = TestGateway::start().await;
    gateway.put_object("d/", b"precious".to_vec()).await;
    let mut ftp = gateway.login().await;
    assert_eq!(ftp.command("CWD d").await.code, 250);
    assert_eq!(ftp.command("RMD /d").await.code, 550);
    let (_, reply) = ftp.fetch("NLST").await;
    assert!(reply.text.contains("0 entries; 1 keys"), "{reply:?}");
    assert_eq!(
        gateway.object("d/").await.as_deref(),
        Some(&b"precious"[..])
    );
    ftp.command("RNFR /d").await;
    assert_eq!(ftp.command("RNTO /e").await.code, 250);
    assert_eq!(
        gateway.object("e/").await.as_deref(),
        Some(&b"precious"[..])
    );
}

/// A stale unfinished upload is aborted, also where its neighbours have names that XML can't carry.
#[tokio::test]
async fn a_key_with_control_characters_does_not_blind_the_sweeper() {
    let settings = ["UPLOAD__STALE_AFTER=1s", "UPLOAD__SWEEP=all"];
    let gateway = TestGateway::with(&settings).await;
    gateway.begin_multipart_unread("odd\u{1}").await;
    gateway.begin_multipart("plain", 10).await;
    assert_eq!(gateway.unfinished_keys_encoded().await, ["odd%01", "plain"]);
    crate::support::eventually("the stale upload of its neighbour is aborted", async || {
        let keys = gateway.unfinished_keys_encoded().await;
        keys.iter().all(|key| key != "plain")
    })
    .await;
}

/// Names with quotes, spaces and letters of any language come back as they were sent.
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
