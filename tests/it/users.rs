//! Users: rights, conditions, buckets of their own.

use crate::support::tls::{Authority, TlsClient};
use crate::support::{Ftp, TestGateway, eventually, login, try_login, users};

#[tokio::test]
async fn one_session_too_many_is_421_and_there_is_room_when_another_ends() {
    let gateway = TestGateway::with(&[&format!(
        "USERS={}",
        users(&["name: u, max_sessions: 2", "name: other"])
    )])
    .await;
    let first = login(&gateway, "u").await;
    let _second = login(&gateway, "u").await;
    let reply = try_login(&gateway, "u", "secret").await;
    assert_eq!(reply.code, 421);
    assert!(reply.text.contains("sessions of this user"), "{reply:?}");
    let wrong = try_login(&gateway, "u", "wrong").await;
    assert_eq!(wrong.code, 530, "only who knows the password hears of it");
    login(&gateway, "other").await;
    drop(first);
    eventually("there is room again", || async {
        try_login(&gateway, "u", "secret").await.code == 230
    })
    .await;
}

#[tokio::test]
async fn a_condition_that_is_not_met_sounds_like_a_wrong_password() {
    let authority = Authority::new();
    let ca = format!("TLS__CLIENT_CA={}", authority.file("ca.crt").display());
    let settings = [
        &*format!(
            "USERS={}",
            users(&[
                "name: far, allow_from: 203.0.113.0/24",
                "name: near, allow_from: [203.0.113.0/24, 127.0.0.1]",
                "name: safe, require_tls: true",
                "name: certified, client_cert_cn: camera-7",
            ])
        ),
        "AUTH__LOCKOUT__DELAY=10ms",
        "AUTH__LOCKOUT__PER_ADDRESS=0",
        &ca,
        "TLS__CLIENT_AUTH=optional",
    ];
    let gateway = TestGateway::with_tls(&authority, &settings).await;
    let wrong = try_login(&gateway, "far", "wrong").await;
    assert_eq!(wrong.code, 530);
    for user in ["far", "safe", "certified", "nobody"] {
        assert_eq!(try_login(&gateway, user, "secret").await, wrong, "{user}");
    }
    login(&gateway, "near").await;

    // met under TLS; who must be safe protects data connections, too
    let secured = async |client: &TlsClient, user: &str| {
        let ftp = Ftp::connect(gateway.address()).await;
        let mut ftp = ftp.secure(client).await.expect("a handshake");
        assert_eq!(ftp.command(&format!("USER {user}")).await.code, 331);
        let reply = ftp.command("PASS secret").await;
        (ftp, reply)
    };
    let (mut ftp, reply) = secured(&authority.client(), "safe").await;
    assert_eq!(reply.code, 230);
    assert_eq!(ftp.command("EPSV").await.code, 521);
    ftp.protect(&authority.client()).await;
    assert_eq!(ftp.store("STOR f", b"safe").await.code, 226);

    assert_eq!(secured(&authority.client(), "certified").await.1, wrong);
    assert_eq!(
        secured(&authority.client_named("camera-8"), "certified")
            .await
            .1,
        wrong
    );
    let (_, reply) = secured(&authority.client_named("camera-7"), "certified").await;
    assert_eq!(reply.code, 230);
    gateway.stop().await;
}

#[tokio::test]
async fn users_of_other_servers_move_with_their_hashes() {
    // made with crypt(3) of libxcrypt from these passwords
    let users = "USERS=[{name: shadow, password_hash: '$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1'}, \
                 {name: htpasswd, password_hash: '$2y$05$/OK.fbVrR/bpIqNJ5ianF.OGgjYrCx73oCO4F/tdYhlT5v8plPbja'}]";
    let gateway = TestGateway::with(&[users, "AUTH__LOCKOUT__DELAY=10ms"]).await;
    for (user, password) in [("shadow", "Hello world!"), ("htpasswd", "correct horse")] {
        assert_eq!(try_login(&gateway, user, password).await.code, 230);
        assert_eq!(try_login(&gateway, user, "wrong").await.code, 530);
    }
}

#[tokio::test]
async fn a_user_has_a_bucket_and_credentials_of_the_own() {
    let own = "access_key_id: ID12345678, secret_access_key: right-secret-key";
    let wrong = "access_key_id: ID12345678, secret_access_key: wrong-secret-key";
    let gateway = TestGateway::with(&[
        &format!(
            "USERS={}",
            users(&[
                "name: common",
                "name: tenant, bucket: tenants, home: /t",
                &format!("name: right, bucket: tenants, {own}"),
                &format!("name: wrong, bucket: tenants, {wrong}"),
            ])
        ),
        "STORAGE__ACCESS_KEY_ID=ID12345678",
        "STORAGE__SECRET_ACCESS_KEY=right-secret-key",
    ])
    .await;
    gateway.create_bucket("tenants").await;
    for (user, bucket, key) in [
        ("common", "cosgate", "f"),
        ("tenant", "tenants", "t/f"),
        ("right", "tenants", "f"),
    ] {
        let mut ftp = login(&gateway, user).await;
        assert_eq!(
            ftp.store("STOR f", user.as_bytes()).await.code,
            226,
            "{user}"
        );
        let stored = gateway.object_in(bucket, key).await;
        assert_eq!(stored.as_deref(), Some(user.as_bytes()), "{user}");
        assert_eq!(ftp.fetch("RETR f").await.0, user.as_bytes());
    }
    let mut ftp = login(&gateway, "wrong").await;
    let refused = ftp.store("STOR f", b"x").await;
    assert_eq!(refused.code, 550, "{refused:?}");
    assert!(refused.text.contains("denied"), "{refused:?}");
    assert_eq!(
        gateway.object_in("tenants", "f").await.as_deref(),
        Some(&b"right"[..])
    );
}

#[tokio::test]
async fn the_sweeper_looks_after_the_buckets_of_users_too() {
    let data = tempfile::tempdir().expect("a directory");
    let directory = format!("STORAGE__DATA_DIR={}", data.path().display());
    let list = format!(
        "USERS={}",
        users(&["name: tenant, bucket: tenants, home: /t"])
    );
    let settings = [
        directory.as_str(),
        &list,
        "UPLOAD__STALE_AFTER=500ms",
        "UPLOAD__SWEEP=all",
    ];
    let gateway = TestGateway::with(&settings).await;
    gateway.create_bucket("tenants").await;
    gateway.begin_multipart_in("tenants", "t/dead", 100).await;
    assert_eq!(gateway.unfinished_in("tenants").await, 1);
    eventually("it is swept", || async {
        gateway.unfinished_in("tenants").await == 0
    })
    .await;
}
