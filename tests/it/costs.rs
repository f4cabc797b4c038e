//! The requests that commands cost at the store.

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

/// Method and target of each request that changes or asks for something, without its query.
fn operations(proxy: &Proxy) -> Vec<String> {
    let requests = proxy.take_requests();
    let lines = requests.iter().filter_map(|head| {
        let mut words = head.split_whitespace();
        let (method, target) = (words.next()?, words.next()?);
        let path = target.split('?').next()?.trim_start_matches("/cosgate");
        Some(format!("{method} {path}"))
    });
    lines.collect()
}

#[tokio::test]
async fn what_each_command_costs_is_known() {
    let (gateway, proxy) = TestGateway::behind_proxy(&[]).await;
    let mut ftp = gateway.login().await;
    // what is learnt once per bucket is learnt now
    ftp.store("STOR learn", b"x").await;
    ftp.command("DELE learn").await;
    proxy.take_requests();

    ftp.store("STOR f", b"small").await;
    assert_eq!(operations(&proxy), ["PUT /f"]);
    ftp.fetch("RETR f").await;
    assert_eq!(operations(&proxy), ["GET /f"]);
    ftp.store("APPE f", b" tail").await;
    // the second HEAD looks right before, until a refusal has shown that the store does
    assert_eq!(
        operations(&proxy),
        ["HEAD /f", "GET /f", "HEAD /f", "PUT /f"]
    );
    ftp.command("RNFR f").await;
    assert_eq!(operations(&proxy), ["HEAD /f"]);
    ftp.command("RNTO g").await;
    let rename = ["HEAD /f", "GET /", "PUT /g", "DELETE /f"];
    assert_eq!(operations(&proxy), rename);
    ftp.command("DELE g").await;
    assert_eq!(operations(&proxy), ["HEAD /g", "DELETE /g"]);
}
