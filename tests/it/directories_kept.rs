//! Directories that stay when they get empty, and names that must not collide; with what both cost at the store.

use crate::support::TestGateway;
use crate::support::proxy::Proxy;

/// The requests since the last call, as `PUT key` or `LIST`.
fn requests(proxy: &Proxy) -> Vec<String> {
    let heads = proxy.take_requests();
    let lines = heads.iter().map(|head| {
        let line = head.lines().next().unwrap_or_default();
        let (method, target) = line.split_once(' ').unwrap_or((line, ""));
        match target.contains("prefix=") {
            true => "LIST".to_owned(),
            false => {
                let path = target.split(['?', ' ']).next().unwrap_or_default();
                format!("{method} {}", path.trim_start_matches("/cosgate/"))
            }
        }
    });
    lines.collect()
}

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

#[tokio::test]
async fn nothing_is_asked_where_nothing_gets_empty() {
    let (gateway, proxy) = TestGateway::behind_proxy(&[]).await;
    for number in 0..20 {
        let key = format!("many/{number:02}");
        gateway.put_object(&key, Vec::new()).await;
    }
    let mut ftp = gateway.login().await;
    // the first delete of all finds out which conditions the store knows
    ftp.store("STOR first", b"x").await;
    assert_eq!(ftp.command("DELE first").await.code, 250);
    requests(&proxy);
    // one small file, one request; in a directory and by a name of its own at first
    for name in ["f", "new/f", "new/g", "new/f"] {
        assert_eq!(ftp.store(&format!("STOR {name}"), b"x").await.code, 226);
        assert_eq!(requests(&proxy), [format!("PUT {name}")]);
    }
    // another entry of the directory is known, or none is needed
    ftp.store("STOR new/h", b"x").await;
    requests(&proxy);
    assert_eq!(ftp.command("DELE new/g").await.code, 250);
    assert_eq!(requests(&proxy), ["HEAD new/g", "DELETE new/g"]);
    assert_eq!(ftp.command("DELE f").await.code, 250);
    assert_eq!(requests(&proxy), ["HEAD f", "DELETE f"]);
    // as a camera does it: no look at the directory, whose only entry this may be
    ftp.store("STOR cam/x.part", b"x").await;
    ftp.command("RNFR cam/x.part").await;
    requests(&proxy);
    assert_eq!(ftp.command("RNTO cam/x").await.code, 250);
    let lists = |all: &[String]| all.iter().filter(|line| *line == "LIST").count();
    let asked = requests(&proxy);
    assert_eq!(lists(&asked), 1, "for the new name only: {asked:?}");
    // many that nobody has seen: one look for all, and a marker in the end
    for number in 0..20 {
        assert_eq!(
            ftp.command(&format!("DELE many/{number:02}")).await.code,
            250
        );
    }
    let asked = requests(&proxy);
    assert_eq!(lists(&asked), 2, "{asked:?}");
    assert_eq!(asked.len(), 2 * 20 + 2 + 1, "{asked:?}");
    assert_eq!(ftp.command("CWD many").await.code, 250);
    // a marker that is known
    ftp.command("CWD /").await;
    ftp.command("MKD d").await;
    ftp.store("STOR d/f", b"x").await;
    requests(&proxy);
    assert_eq!(ftp.command("DELE d/f").await.code, 250);
    assert_eq!(requests(&proxy), ["HEAD d/f", "DELETE d/f"]);
}

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
