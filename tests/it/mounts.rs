//! Several places in one tree: mounts in other buckets, other directories and other stores.

mod events;

use crate::held::{cut, go_on, size};
use crate::support::http::get;
use crate::support::proxy::Proxy;
use crate::support::{TestGateway, TestStore, eventually, login, pattern, users};

/// A gateway whose user `u` has the home `/u`, and mounts in another bucket (`/archive`), in another directory, to be read only
/// (`/shared/in`), and at another store with other keys (`/far`).
pub struct Places {
    pub gateway: TestGateway,
    pub at_home: Proxy,
    pub far: TestStore,
    pub elsewhere: Proxy,
}

impl Places {
    pub async fn start(more: &[&str]) -> Self {
        let (far, elsewhere, _) = TestStore::behind_proxy().await;
        let mount = far_mount(&far, &elsewhere).replace("home", "region: second, home");
        let list = users(&[&format!(
            "name: u, home: /u, mounts: [{{path: /archive, bucket: archive}}, \
             {{path: /shared/in, home: /in, permissions: R}}, {mount}]"
        )]);
        let list = format!("USERS={list}");
        let own = [list.as_str(), "STORAGE__REGION=first"];
        let (gateway, at_home) = TestGateway::behind_proxy(&[&own, more].concat()).await;
        gateway.create_bucket("archive").await;
        Places {
            gateway,
            at_home,
            far,
            elsewhere,
        }
    }

    pub async fn stop(self) {
        self.gateway.stop().await;
        self.far.stop().await;
    }

    /// The bytes that lie behind a path of the tree.
    pub async fn behind(&self, path: &str) -> Option<Vec<u8>> {
        match path.split_once('/') {
            Some(("archive", key)) => self.gateway.object_in("archive", key).await,
            Some(("far", key)) => self.far.object(&format!("far/{key}")).await,
            _ => self.gateway.object(&format!("u/{path}")).await,
        }
    }
}

#[tokio::test]
async fn wrong_keys_of_a_mount_shut_that_mount_only() {
    let (far, elsewhere, _) = TestStore::behind_proxy().await;
    let secret = far.keys_of_its_own().1.to_owned();
    let mount = far_mount(&far, &elsewhere).replace(&secret, "not-the-secret");
    let list = users(&[&format!(
        "name: u, home: /u, mounts: [{mount}, {{path: /near, home: /near}}, {{path: /gone, bucket: missing}}]"
    )]);
    let settings = [&*format!("USERS={list}"), "ADMIN__LISTEN=127.0.0.1:0"];
    let (gateway, _at_home) = TestGateway::behind_proxy(&settings).await;
    far.put_object("far/f", b"x".to_vec()).await;
    let mut ftp = login(&gateway, "u").await;
    assert_eq!(ftp.listing("NLST").await, "far\r\ngone\r\nnear\r\n");
    for line in [
        "CWD far",
        "MLST far",
        "SIZE far/f",
        "MDTM far/f",
        "DELE far/f",
        "MKD far/d",
        "RNFR far/f",
        "RNFR far/../far/f",
    ] {
        let reply = ftp.command(line).await;
        assert_eq!(reply.code, 550, "{line}: {reply:?}");
        assert!(!reply.text.contains("not-the-secret"), "{reply:?}");
    }
    for line in ["RETR far/f", "NLST far", "NLST far/*", "MLSD far"] {
        assert_eq!(ftp.fetch(line).await.1.code, 550, "{line}");
    }
    assert_eq!(ftp.store("STOR far/g", b"x").await.code, 550);
    // up and down again, through mount points that can't be entered
    assert_eq!(ftp.store("STOR far/../near/h", b"near").await.code, 226);
    assert_eq!(ftp.fetch("RETR /far/x/../../near/./h").await.0, b"near");
    assert_eq!(ftp.listing("NLST near/*").await, "near/h\r\n");
    // the operator learns which bucket it is
    assert_eq!(ftp.command("CWD gone").await.code, 550);
    let admin = gateway.gateway.admin_address().expect("it is on");
    eventually("the failures are shown", || async {
        let page = get(admin, "/status", &[]).await.body;
        let is_shown = |part: &str| page.contains(part);
        !is_shown("not-the-secret")
            && is_shown("in the bucket missing: ")
            && is_shown("keys are wrong")
    })
    .await;
    assert_eq!(gateway.keys().await, ["near/h"]);
    assert_eq!(far.keys().await, ["far/f"]);
    gateway.stop().await;
    far.stop().await;
}

/// A mount at another store, as one entry of `mounts`.
fn far_mount(far: &TestStore, elsewhere: &Proxy) -> String {
    let (id, secret) = far.keys_of_its_own();
    format!(
        "{{path: /far, home: /far, endpoint: 'http://{}', access_key_id: {id}, secret_access_key: {secret}}}",
        elsewhere.address()
    )
}

#[tokio::test]
async fn an_upload_to_a_mount_is_held_in_the_mounts_store() {
    let (far, elsewhere, _) = TestStore::behind_proxy().await;
    let mount = far_mount(&far, &elsewhere);
    let list = users(&[&format!("name: u, mounts: [{mount}]")]);
    let settings = [
        &format!("USERS={list}"),
        "UPLOAD__ON_INTERRUPT=hold",
        "UPLOAD__MIN_PART_SIZE=5MiB",
    ];
    let (gateway, _at_home) = TestGateway::behind_proxy(&settings).await;
    let mut ftp = login(&gateway, "u").await;
    let bytes = pattern(12 << 20);
    let reply = cut(&mut ftp, "STOR /far/f", &bytes).await;
    assert_eq!(reply.code, 426, "{reply:?}");
    let mut ftp = login(&gateway, "u").await;
    let held = size(&mut ftp, "/far/f").await;
    assert!(held.is_some_and(|held| held >= 5 << 20), "{held:?}");
    assert_eq!((gateway.unfinished().await, far.unfinished().await), (0, 1));
    let reply = go_on(&mut ftp, "/far/f", &bytes).await;
    assert_eq!(reply.code, 226, "{reply:?}");
    assert!(far.object("far/f").await == Some(bytes));
    gateway.stop().await;
    far.stop().await;
}

#[tokio::test]
async fn the_sweeper_looks_after_mounts_too() {
    let (far, elsewhere, _) = TestStore::behind_proxy().await;
    far.begin_multipart("far/dead", 100).await;
    // beyond what credentials for the mount often reach
    far.begin_multipart("other/dead", 100).await;
    let mount = far_mount(&far, &elsewhere);
    let list = users(&[&format!("name: u, mounts: [{mount}]")]);
    let settings = [
        &format!("USERS={list}"),
        "UPLOAD__STALE_AFTER=500ms",
        "UPLOAD__SWEEP=all",
    ];
    let (gateway, _at_home) = TestGateway::behind_proxy(&settings).await;
    eventually("it is swept", || async { far.unfinished().await == 1 }).await;
    assert_eq!(far.unfinished_keys().await, ["other/dead"]);
    gateway.stop().await;
    far.stop().await;
}
