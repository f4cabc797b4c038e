//! The outbox lies in the users' bucket, and no command of a client gets there.

use crate::support::{TestGateway, login, users};

const ENTRY: &str = ".cosgate/outbox/01ARZ3NDEKTSV4RRFFQ69G5FAV";

/// The names that a client may have for the entry, its directory and what is above it.
const NAMES: [&str; 12] = [
    ".cosgate",
    ".cosgate/",
    ".cosgate/outbox",
    ".cosgate/outbox/01ARZ3NDEKTSV4RRFFQ69G5FAV",
    "/.cosgate/outbox",
    "//.cosgate//outbox/01ARZ3NDEKTSV4RRFFQ69G5FAV",
    "./.cosgate/./outbox/01ARZ3NDEKTSV4RRFFQ69G5FAV",
    "a/../.cosgate/outbox/01ARZ3NDEKTSV4RRFFQ69G5FAV",
    "../../.cosgate/outbox/01ARZ3NDEKTSV4RRFFQ69G5FAV",
    ".COSGATE/outbox/01ARZ3NDEKTSV4RRFFQ69G5FAV",
    ".CosGate",
    "a/.cosgate/outbox/x",
];

#[tokio::test]
async fn no_command_reads_lists_writes_renames_or_removes_anything_there() {
    let (gateway, proxy) = TestGateway::behind_proxy(&[]).await;
    gateway.put_object(ENTRY, b"an event".to_vec()).await;
    gateway.put_object("a/file", b"a file".to_vec()).await;
    let mut ftp = gateway.login().await;
    // what a session learns of ordinary names costs requests, which are none of what is looked at
    assert_eq!(ftp.command("CWD a").await.code, 250);
    assert_eq!(ftp.command("CWD /").await.code, 250);
    proxy.take_requests();
    for name in NAMES {
        for command in [
            "CWD",
            "SIZE",
            "MDTM",
            "MLST",
            "STAT",
            "DELE",
            "MKD",
            "RMD",
            "RNFR",
            "HASH",
            "XCWD",
            "XMKD",
            "XRMD",
            "SITE SHA256",
            "SITE HASH",
            "SITE CHMOD 600",
            "MFMT 20200101000000",
            "SITE UTIME 20200101000000",
        ] {
            let reply = ftp.command(&format!("{command} {name}")).await;
            assert_eq!(reply.code, 550, "{command} {name}: {reply:?}");
        }
        for command in ["RETR", "LIST", "NLST", "MLSD", "LIST -a"] {
            let (bytes, reply) = ftp.fetch(&format!("{command} {name}")).await;
            assert_eq!(
                (bytes.len(), reply.code),
                (0, 550),
                "{command} {name}: {reply:?}"
            );
        }
        for command in ["STOR", "APPE"] {
            let reply = ftp.store(&format!("{command} {name}"), b"mine").await;
            assert_eq!(reply.code, 550, "{command} {name}: {reply:?}");
        }
        assert_eq!(ftp.command("REST 3").await.code, 350);
        let reply = ftp.store(&format!("STOR {name}"), b"mine").await;
        assert_eq!(reply.code, 550, "REST and STOR {name}: {reply:?}");
        assert_eq!(ftp.command("RNFR a/file").await.code, 350);
        let reply = ftp.command(&format!("RNTO {name}")).await;
        assert_eq!(reply.code, 550, "RNTO {name}: {reply:?}");
    }
    let asked = proxy.take_requests();
    let there = asked
        .iter()
        .find(|head| head.to_ascii_lowercase().contains("cosgate/outbox"));
    assert_eq!(there, None, "the store was asked for it");
    for command in [
        "LIST", "LIST -a", "NLST", "NLST -a", "MLSD", "NLST .c*", "NLST .*", "LIST *", "STAT .",
    ] {
        let text = match command {
            "STAT ." => ftp.command(command).await.text,
            _ => ftp.listing(command).await,
        };
        assert!(
            !text.to_ascii_lowercase().contains(".cosgate"),
            "{command}: {text}"
        );
    }
    assert!(ftp.listing("NLST").await.contains('a'));
    assert_eq!(
        gateway.object(ENTRY).await.as_deref(),
        Some(&b"an event"[..])
    );
    assert_eq!(gateway.keys().await, [ENTRY, "a/file"]);
    gateway.stop().await;
}

#[tokio::test]
async fn a_directory_that_is_renamed_leaves_anothers_outbox_where_it_is() {
    let list = format!(
        "USERS={}",
        users(&["name: all, home: /", "name: below, home: /b"])
    );
    let gateway = TestGateway::with(&[&list]).await;
    gateway
        .put_object("b/.cosgate/outbox/1", b"an event".to_vec())
        .await;
    gateway.put_object("b/file", b"a file".to_vec()).await;
    let mut ftp = login(&gateway, "all").await;
    assert_eq!(ftp.listing("NLST b").await, "b/file\r\n");
    assert_eq!(ftp.command("RNFR b").await.code, 350);
    assert_eq!(ftp.command("RNTO c").await.code, 250);
    assert_eq!(ftp.command("CWD b/.cosgate").await.code, 550);
    assert_eq!(gateway.keys().await, ["b/.cosgate/outbox/1", "c/file"]);
    gateway.stop().await;
}

#[tokio::test]
async fn a_home_in_the_outbox_has_no_files() {
    let list = users(&[
        "name: odd, home: /.events/outbox",
        "name: upper, home: /.EVENTS",
    ]);
    let settings = [&format!("USERS={list}"), "EVENTS__OUTBOX=.events/outbox/"];
    let gateway = TestGateway::with(&settings).await;
    let entry = ".events/outbox/1";
    gateway.put_object(entry, b"an event".to_vec()).await;
    for user in ["odd", "upper"] {
        let mut ftp = login(&gateway, user).await;
        let (_, reply) = ftp.fetch("NLST").await;
        assert_eq!(reply.code, 550, "{user}: {reply:?}");
        let (_, reply) = ftp.fetch("RETR 1").await;
        assert_eq!(reply.code, 550, "{user}: {reply:?}");
        assert_eq!(ftp.store("STOR 1", b"mine").await.code, 550, "{user}");
        assert_eq!(ftp.command("DELE 1").await.code, 550, "{user}");
    }
    assert_eq!(
        gateway.object(entry).await.as_deref(),
        Some(&b"an event"[..])
    );
    gateway.stop().await;
}
