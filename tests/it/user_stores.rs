//! Users whose buckets are at another store than the gateway's own.

use crate::support::{TestGateway, TestStore, eventually, login, pattern, users};

#[tokio::test]
async fn each_users_files_and_signatures_go_to_the_users_own_store_only() {
    let (second, elsewhere, _) = TestStore::behind_proxy().await;
    let (id, secret) = second.keys_of_its_own();
    let place = format!(
        "endpoint: 'http://{}', region: second, access_key_id: {id}, secret_access_key: {secret}",
        elsewhere.address()
    );
    let list = format!(
        "USERS={}",
        users(&[
            "name: here",
            &format!("name: there, {place}"),
            &format!("name: tenant, bucket: tenants, home: /t, {place}"),
        ])
    );
    let settings = [list.as_str(), "STORAGE__REGION=first"];
    let (gateway, at_home) = TestGateway::behind_proxy(&settings).await;
    let common_id = gateway.keys_of_its_own().0.to_owned();
    assert_ne!(common_id, id);
    second.create_bucket("tenants").await;

    let large = pattern(12 << 20);
    for (user, bytes) in [
        ("here", &b"here"[..]),
        ("there", &large),
        ("tenant", b"tenant"),
    ] {
        let mut ftp = login(&gateway, user).await;
        at_home.take_requests();
        elsewhere.take_requests();
        assert_eq!(ftp.store("STOR f", bytes).await.code, 226, "{user}");
        assert_eq!(ftp.command("RNFR f").await.code, 350);
        assert_eq!(ftp.command("RNTO g").await.code, 250, "{user}");
        assert_eq!(ftp.fetch("RETR g").await.0, bytes, "{user}");
        let (listing, _) = ftp.fetch("NLST").await;
        assert_eq!(String::from_utf8_lossy(&listing), "g\r\n", "{user}");
        let (used, unused, id, region) = match user {
            "here" => (&at_home, &elsewhere, common_id.as_str(), "first"),
            _ => (&elsewhere, &at_home, id, "second"),
        };
        assert_eq!(unused.take_requests(), Vec::<String>::new(), "{user}");
        let requests = used.take_requests();
        assert!(!requests.is_empty());
        for head in requests {
            let signed = head.contains(&format!("Credential={id}/"));
            let scope = format!("/{region}/s3/aws4_request");
            assert!(signed && head.contains(&scope), "{user}: {head}");
        }
    }
    assert_eq!(gateway.object("g").await.as_deref(), Some(&b"here"[..]));
    assert_eq!(second.object("g").await, Some(large));
    let stored = second.object_in("tenants", "t/g").await;
    assert_eq!(stored.as_deref(), Some(&b"tenant"[..]));

    // the one store's trouble is not the other's
    elsewhere.set_down(true);
    let mut ftp = login(&gateway, "here").await;
    assert_eq!(ftp.store("STOR h", b"still").await.code, 226);
    gateway.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn the_sweeper_looks_after_the_buckets_at_other_stores_too() {
    let (second, elsewhere, _) = TestStore::behind_proxy().await;
    let (id, secret) = second.keys_of_its_own();
    second.begin_multipart("dead", 100).await;
    let list = users(&[&format!(
        "name: there, endpoint: 'http://{}', access_key_id: {id}, secret_access_key: {secret}",
        elsewhere.address()
    )]);
    let settings = [
        &format!("USERS={list}"),
        "UPLOAD__STALE_AFTER=500ms",
        "UPLOAD__SWEEP=all",
    ];
    let (gateway, _at_home) = TestGateway::behind_proxy(&settings).await;
    eventually("it is swept", || async { second.unfinished().await == 0 }).await;
    gateway.stop().await;
    second.stop().await;
}
