//! Directories that stay, and names that must not collide

use crate::support::TestGateway;

/// A directory stays when its last entry is deleted or moved away, until a client removes it.
#[tokio::test]
async fn a_directory_stays_when_its_last_entry_goes() {
    let gateway = TestGateway::start().await;
    let mut ftp = gateway.login().await;
    // a poller: fetch, delete, look again
    gateway.put_object("in/a", b"x".to_vec()).await;
    gateway.put_object("in/b", b"x".to_vec()).await;
    assert_eq!(ftp.command("CWD in").await.code, 250);
    assert_eq!(ftp.command("DELE a").await.code, 250);
    assert_eq!(gateway.keys().await, ["in/b"]);
    assert_eq!(ftp.command("DELE b").await.code, 250);
    assert_eq!(gateway.keys().await, ["in/"]);
    assert_eq!(ftp.listing("NLST").await, "");
    assert_eq!(ftp.command("CWD /in").await.code, 250);
    // moved away, a file or a directory
    ftp.command("CWD /").await;
    gateway.put_object("cam/x", b"x".to_vec()).await;
    ftp.command("RNFR cam/x").await;
    assert_eq!(ftp.command("RNTO done").await.code, 250);
    assert_eq!(ftp.command("CWD cam").await.code, 250);
    ftp.command("CWD /").await;
    gateway.put_object("up/sub/x", b"x".to_vec()).await;
    ftp.command("RNFR up/sub").await;
    assert_eq!(ftp.command("RNTO sub").await.code, 250);
    assert_eq!(
        gateway.keys().await,
        ["cam/", "done", "in/", "sub/x", "up/"]
    );
    for directory in ["in", "cam", "up"] {
        assert_eq!(ftp.command(&format!("RMD {directory}")).await.code, 250);
    }
    assert_eq!(gateway.keys().await, ["done", "sub/x"]);
}

/// `MKD a/b/c` makes all that is missing, and each directory is removed by itself.
#[tokio::test]
async fn what_was_made_in_one_go_is_removed_step_by_step() {
    let gateway = TestGateway::start().await;
    let mut ftp = gateway.login().await;
    assert_eq!(ftp.command("MKD a/b/c").await.code, 257);
    assert_eq!(gateway.keys().await, ["a/", "a/b/", "a/b/c/"]);
    for directory in ["a/b/c", "a/b", "a"] {
        let reply = ftp.command(&format!("RMD {directory}")).await;
        assert_eq!(reply.code, 250, "{directory}: {reply:?}");
    }
    // and where an upload or another program made it
    gateway.put_object("d/e/f/", Vec::new()).await;
    gateway.put_object("d/e/x", Vec::new()).await;
    for line in ["RMD d/e/f", "DELE d/e/x", "RMD d/e", "RMD d"] {
        assert_eq!(ftp.command(line).await.code, 250, "{line}");
    }
    assert!(gateway.keys().await.is_empty());
}

/// Two sessions that take the last two entries of a directory at once leave the directory.
#[tokio::test]
async fn two_sessions_that_take_the_last_two_entries_leave_the_directory() {
    let (gateway, proxy) = TestGateway::behind_proxy(&[]).await;
    let (mut one, mut other) = (gateway.login().await, gateway.login().await);
    proxy.set_latency(std::time::Duration::from_millis(30));
    for round in 0..5 {
        let directory = format!("d{round}");
        for name in ["a", "b"] {
            let key = format!("{directory}/{name}");
            gateway.put_object(&key, Vec::new()).await;
        }
        let (a, b) = (format!("DELE {directory}/a"), format!("DELE {directory}/b"));
        let (a, b) = tokio::join!(one.command(&a), other.command(&b));
        assert_eq!((a.code, b.code), (250, 250));
        assert_eq!(one.command(&format!("CWD /{directory}")).await.code, 250);
        one.command("CWD /").await;
    }
}

/// The last entry of a directory is deleted only once the store has the marker of the directory.
#[tokio::test]
async fn the_marker_is_there_before_the_last_entry_goes() {
    let settings = ["STORAGE__RETRY__MAX_ATTEMPTS=1"];
    let (gateway, proxy) = TestGateway::behind_proxy(&settings).await;
    gateway.put_object("d/f", b"x".to_vec()).await;
    let mut ftp = gateway.login().await;
    proxy.fail_if(|head| head.starts_with("PUT /cosgate/d/"));
    let reply = ftp.command("DELE d/f").await;
    assert!(matches!(reply.code, 450 | 451), "{reply:?}");
    assert_eq!(gateway.keys().await, ["d/f"]);
    proxy.fail_if(|_| false);
    assert_eq!(ftp.command("DELE d/f").await.code, 250);
    assert_eq!(gateway.keys().await, ["d/"]);
}

/// A file gets no name that sessions of this gateway have seen as a directory: 550.
#[tokio::test]
async fn a_file_gets_no_name_that_sessions_have_seen_as_a_directory() {
    let gateway = TestGateway::start().await;
    let mut ftp = gateway.login().await;
    ftp.command("MKD made").await;
    ftp.store("STOR filled/f", b"x").await;
    for key in ["listed/f", "entered/sub/f"] {
        gateway.put_object(key, b"x".to_vec()).await;
    }
    ftp.listing("LIST").await;
    let mut other = gateway.login().await;
    for name in ["made", "filled", "listed", "entered"] {
        for verb in ["STOR", "APPE"] {
            let reply = other.store(&format!("{verb} {name}"), b"oops").await;
            assert_eq!(reply.code, 550, "{verb} {name}: {reply:?}");
        }
        other.store("STOR g", b"x").await;
        other.command("RNFR g").await;
        assert_eq!(other.command(&format!("RNTO {name}")).await.code, 550);
        assert!(gateway.object(name).await.is_none());
    }
    // a directory that is gone is no obstacle
    ftp.command("RMD made").await;
    assert_eq!(other.store("STOR made", b"x").await.code, 226);
}

/// Nothing is stored, made or moved below a file: 550.
#[tokio::test]
async fn nothing_is_made_below_a_file() {
    let gateway = TestGateway::start().await;
    let mut ftp = gateway.login().await;
    ftp.store("STOR f", b"x").await;
    ftp.store("STOR g", b"x").await;
    gateway.put_object("unseen", b"x".to_vec()).await;
    for line in ["STOR f/x", "STOR f/a/b", "APPE f/x"] {
        assert_eq!(ftp.store(line, b"y").await.code, 550, "{line}");
    }
    // these ask the store anyway
    for file in ["f", "unseen"] {
        for line in [
            format!("MKD {file}"),
            format!("MKD {file}/d"),
            format!("MKD {file}/d/e"),
        ] {
            assert_eq!(ftp.command(&line).await.code, 550, "{line}");
        }
        ftp.command("RNFR g").await;
        assert_eq!(ftp.command(&format!("RNTO {file}/g")).await.code, 550);
    }
    assert_eq!(gateway.keys().await, ["f", "g", "unseen"]);
    ftp.command("DELE f").await;
    assert_eq!(ftp.store("STOR f/x", b"y").await.code, 226);
}

/// A file and a directory of one name, which other programs can make, both stay usable.
#[tokio::test]
async fn a_pair_that_others_made_stays_usable() {
    let gateway = TestGateway::start().await;
    for key in ["p", "p/q"] {
        gateway.put_object(key, b"x".to_vec()).await;
    }
    let mut ftp = gateway.login().await;
    ftp.listing("LIST").await;
    assert_eq!(ftp.command("SIZE p").await.code, 213);
    assert_eq!(ftp.store("STOR p", b"new").await.code, 226);
    assert_eq!(ftp.store("STOR p/r", b"new").await.code, 226);
    assert_eq!(ftp.command("DELE p").await.code, 250);
    assert_eq!(gateway.keys().await, ["p/q", "p/r"]);
}

/// A directory stays also when its last entry was moved into a directory below it, and that one is removed.
#[tokio::test]
async fn a_directory_stays_when_its_last_entry_moved_down_and_went() {
    let gateway = TestGateway::start().await;
    let mut ftp = gateway.login().await;
    let lines = [
        // a file
        vec!["STOR top/f", "RNFR top/f", "RNTO top/sub/g"],
        // a directory, which is what stays in `top` when another entry goes
        vec![
            "STOR top/d/g",
            "STOR top/other",
            "DELE top/other",
            "RNFR top/d",
            "RNTO top/sub",
        ],
    ];
    for lines in lines {
        for line in lines.iter().chain(&["DELE top/sub/g", "RMD top/sub"]) {
            let reply = match line.starts_with("STOR") {
                true => ftp.store(line, b"x").await,
                false => ftp.command(line).await,
            };
            assert!(reply.code < 400, "{line}: {reply:?}");
        }
        assert_eq!(gateway.keys().await, ["top/"], "{lines:?}");
        assert_eq!(ftp.command("RMD top").await.code, 250);
    }
}

/// A directory that a session has seen, or one in which it has seen another one, gives no file its name.
#[tokio::test]
async fn a_file_gets_no_name_of_a_directory_that_was_seen() {
    let gateway = TestGateway::start().await;
    for key in [
        "listed/sub/f",
        "entered/sub/f",
        "asked/sub/f",
        "walked/sub/f",
    ] {
        gateway.put_object(key, b"x".to_vec()).await;
    }
    let mut ftp = gateway.login().await;
    assert_eq!(ftp.fetch("LIST listed/sub").await.1.code, 226);
    assert_eq!(ftp.command("CWD /entered/sub").await.code, 250);
    assert_eq!(ftp.command("SIZE /asked/sub/f").await.code, 213);
    assert_eq!(ftp.fetch("RETR /walked/sub/f").await.1.code, 226);
    for name in ["listed", "entered", "asked", "walked"] {
        for name in [name.to_owned(), format!("{name}/sub")] {
            let reply = ftp.store(&format!("STOR /{name}"), b"oops").await;
            assert_eq!(reply.code, 550, "{name}: {reply:?}");
        }
    }
    gateway.stop().await;
}

/// The directories of a tree that a session has renamed are known by their new names, too: no file gets one of them, and the
/// old ones are free.
#[tokio::test]
async fn a_file_gets_no_name_of_a_directory_that_was_renamed() {
    let gateway = TestGateway::start().await;
    let mut ftp = gateway.login().await;
    ftp.store("STOR a/b/f", b"x").await;
    ftp.command("MKD a/c").await;
    ftp.command("MKD empty").await;
    for (from, to) in [("a", "new"), ("empty", "up/there/empty")] {
        assert_eq!(ftp.command(&format!("RNFR {from}")).await.code, 350);
        assert_eq!(ftp.command(&format!("RNTO {to}")).await.code, 250);
    }
    for name in ["up", "up/there"] {
        let reply = ftp.store(&format!("STOR {name}"), b"oops").await;
        assert_eq!(reply.code, 550, "{name}: {reply:?}");
    }
    for name in ["new", "new/b", "new/c", "new/b/f/x"] {
        let reply = ftp.store(&format!("STOR {name}"), b"oops").await;
        assert_eq!(reply.code, 550, "{name}: {reply:?}");
    }
    assert_eq!(ftp.store("STOR a", b"x").await.code, 226);
    let kept = ["a", "new/b/f", "new/c/", "up/there/empty/"];
    assert_eq!(gateway.keys().await, kept);
}
