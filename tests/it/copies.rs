//! Changes of files inside the store: renames that break, listings by both operations, times that clients set.

use crate::support::{TestGateway, pattern};

async fn put_many(gateway: &TestGateway, directory: &str, count: usize) -> Vec<String> {
    let keys: Vec<String> = (0..count)
        .map(|number| format!("{directory}/{}/key-{number:04}", number % 3))
        .collect();
    let puts = keys
        .iter()
        .map(|key| gateway.put_object(key, key.as_bytes().to_vec()));
    futures::future::join_all(puts).await;
    keys
}

#[tokio::test]
async fn the_list_operation_is_a_choice() {
    for version in ["v1", "v2"] {
        let setting = format!("STORAGE__LIST_VERSION={version}");
        let (gateway, proxy) = TestGateway::behind_proxy(&[&setting]).await;
        put_many(&gateway, "d", 6).await;
        let mut ftp = gateway.login().await;
        assert_eq!(ftp.listing("NLST d/1").await.lines().count(), 2);
        assert_eq!(ftp.command("CWD d").await.code, 250);
        assert_eq!(ftp.command("RMD /d").await.code, 550);
        ftp.command("RNFR /d").await;
        assert_eq!(ftp.command("RNTO /new").await.code, 250);
        let requests = proxy.take_requests();
        let is_list = |head: &&String| head.starts_with("GET /cosgate") && head.contains("prefix=");
        let lists: Vec<&String> = requests.iter().filter(is_list).collect();
        assert!(lists.len() >= 5, "{requests:?}");
        for head in lists {
            assert_eq!(head.contains("list-type=2"), version == "v2", "{head}");
        }
    }
}

#[tokio::test]
async fn a_rename_that_breaks_leaves_the_source_complete_and_no_copies() {
    let (gateway, proxy) = TestGateway::behind_proxy(&["STORAGE__RETRY__MAX_ATTEMPTS=2"]).await;
    let keys = {
        let mut keys = put_many(&gateway, "d", 50).await;
        keys.sort();
        keys
    };
    let mut ftp = gateway.login().await;
    proxy.fail_if(|head| head.starts_with("PUT /cosgate/new/1/key-0031"));
    ftp.command("RNFR d").await;
    let reply = ftp.command("RNTO new").await;
    assert_eq!(reply.code, 451, "{reply:?}");
    assert!(
        reply.text.contains("old directory is complete"),
        "{reply:?}"
    );
    assert!(reply.text.contains("were removed"), "{reply:?}");
    assert_eq!(gateway.keys().await, keys);

    // and after the store has recovered, the same command works
    proxy.fail_if(|_| false);
    ftp.command("RNFR d").await;
    assert_eq!(ftp.command("RNTO new").await.code, 250);
    assert_eq!(gateway.keys().await.len(), 50);
    assert!(gateway.object("new/1/key-0031").await.is_some());
}

#[tokio::test]
async fn copies_that_cannot_be_removed_are_reported() {
    let (gateway, proxy) = TestGateway::behind_proxy(&["STORAGE__RETRY__MAX_ATTEMPTS=2"]).await;
    put_many(&gateway, "d", 30).await;
    let mut ftp = gateway.login().await;
    proxy.fail_if(|head| {
        head.starts_with("PUT /cosgate/new/2/key-0029")
            || head.starts_with("DELETE /cosgate/new/0/key-0000")
    });
    ftp.command("RNFR d").await;
    let reply = ftp.command("RNTO new").await;
    assert_eq!(reply.code, 451, "{reply:?}");
    assert!(reply.text.contains("but 1 of the"), "{reply:?}");
    let keys = gateway.keys().await;
    assert_eq!(keys.len(), 31);
    assert_eq!(keys[30], "new/0/key-0000");
}

#[tokio::test]
async fn a_source_that_cannot_be_deleted_leaves_the_target_complete() {
    let (gateway, proxy) = TestGateway::behind_proxy(&["STORAGE__RETRY__MAX_ATTEMPTS=2"]).await;
    put_many(&gateway, "d", 30).await;
    let mut ftp = gateway.login().await;
    proxy.fail_if(|head| head.starts_with("DELETE /cosgate/d/1/key-0010"));
    ftp.command("RNFR d").await;
    let reply = ftp.command("RNTO new").await;
    assert_eq!(reply.code, 451, "{reply:?}");
    assert!(
        reply.text.contains("new directory is complete"),
        "{reply:?}"
    );
    let keys = gateway.keys().await;
    assert_eq!(keys.len(), 31);
    assert_eq!(keys[0], "d/1/key-0010");
}

#[tokio::test]
async fn what_is_stored_into_a_directory_while_it_moves_stays() {
    let (gateway, proxy) = TestGateway::behind_proxy(&[]).await;
    put_many(&gateway, "d", 30).await;
    let mut ftp = gateway.login().await;
    proxy.take_requests();
    proxy.set_latency(std::time::Duration::from_millis(150));
    ftp.command("RNFR d").await;
    ftp.send("RNTO new").await;
    let is_copy = |head: &String| head.starts_with("PUT /cosgate/new/");
    while !proxy.take_requests().iter().any(is_copy) {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    // behind all that was listed
    gateway.put_object("d/late", b"late".to_vec()).await;
    assert_eq!(ftp.reply().await.code, 250);
    let keys = gateway.keys().await;
    assert_eq!(keys.len(), 31);
    assert_eq!(keys[0], "d/late");
}

#[tokio::test]
async fn a_client_can_set_the_time_of_a_file() {
    let gateway = TestGateway::start().await;
    let mut ftp = gateway.login().await;
    let bytes = pattern(1000);
    ftp.store("STOR f", &bytes).await;
    assert_eq!(
        ftp.command("MFMT 20020717210715 f").await.text,
        "213 Modify=20020717210715; /f\r\n"
    );
    assert_eq!(ftp.command("MDTM f").await.text, "213 20020717210715\r\n");
    let facts = ftp.command("MLST f").await;
    assert!(
        facts
            .text
            .contains(" type=file;size=1000;modify=20020717210715; /f\r\n"),
        "{facts:?}"
    );
    // before 1970, and a second time
    assert_eq!(ftp.command("MFMT 19690720201740 f").await.code, 213);
    assert_eq!(ftp.command("MDTM f").await.text, "213 19690720201740\r\n");
    assert!(gateway.object("f").await == Some(bytes));
    // it goes with the file
    ftp.command("RNFR f").await;
    assert_eq!(ftp.command("RNTO g").await.code, 250);
    assert_eq!(ftp.command("MDTM g").await.text, "213 19690720201740\r\n");

    ftp.command("MKD d").await;
    assert_eq!(ftp.command("MFMT 20020717210715 d").await.code, 550);
    assert_eq!(ftp.command("MFMT 20020717210715 nothing").await.code, 550);
    assert_eq!(ftp.command("MFMT 20021317210715 g").await.code, 501);
    assert_eq!(ftp.command("SITE CHMOD 644 g").await.code, 200);
    assert_eq!(ftp.command("SITE EXEC ls").await.code, 504);
    // the next command has its own meaning again
    assert_eq!(ftp.command("SIZE g").await.text, "213 1000\r\n");
}
