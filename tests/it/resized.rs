//! A container's memory limit that changes while the gateway runs, as by a resize of its pod in place.

use std::path::Path;
use std::time::Duration;

use cosgate::config::MemoryLimit;
use cosgate::store::follow::{Followed, follow_memory_limit};
use tokio_util::sync::CancellationToken;

use crate::support::{TestGateway, eventually, pattern};

const MIB: u64 = 1 << 20;

fn set(group: &Path, bytes: u64) {
    std::fs::write(group.join("memory.max"), format!("{bytes}\n")).expect("written");
}

#[tokio::test(flavor = "multi_thread")]
async fn budgets_follow_the_memory_limit_where_nobody_set_them() {
    let gateway = TestGateway::with(&["DOWNLOAD__MEMORY_BUDGET=96MiB"]).await;
    let store = gateway.gateway.store().clone();
    let directory = tempfile::tempdir().expect("a directory");
    let group = directory.path().join("kubepods/pod1");
    std::fs::create_dir_all(&group).expect("made");
    let own = directory.path().join("cgroup");
    std::fs::write(&own, "0::/kubepods/pod1\n").expect("written");
    set(&group, 1024 * MIB);
    let limit = MemoryLimit {
        root: directory.path().to_owned(),
        own,
    };
    let followed = Followed {
        limit,
        upload: true,
        download: false,
    };
    let stop = CancellationToken::new();
    let following = tokio::spawn(follow_memory_limit(store.clone(), followed, stop.clone()));
    // the limit of the start is no change
    let before = store.memory_limits();
    tokio::time::sleep(Duration::from_millis(100)).await;
    for limit in [4096, 800] {
        set(&group, limit * MIB);
        eventually(
            "the budget follows, and only the one that nobody set",
            || async { store.memory_limits() == (limit * MIB / 4, 96 * MIB) },
        )
        .await;
    }
    assert_ne!(store.memory_limits(), before);
    let mut ftp = gateway.login().await;
    let bytes = pattern(20 * MIB as usize);
    assert_eq!(ftp.store("STOR f", &bytes).await.code, 226);
    // what the largest part needs is the least, whatever the limit says
    set(&group, MIB);
    eventually("the least", || async {
        let (upload, _) = store.memory_limits();
        (64 * MIB..800 * MIB / 4).contains(&upload)
    })
    .await;
    assert_eq!(ftp.store("STOR f", &bytes).await.code, 226);
    stop.cancel();
    following.await.expect("ends");
    gateway.stop().await;
}
