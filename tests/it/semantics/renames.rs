//! Renames

use crate::copies::put_many;
use crate::support::{TestGateway, pattern};

/// `RNTO` onto a file replaces it.
#[tokio::test]
async fn a_file_is_renamed_and_replaces_another() {
    let gateway = TestGateway::start().await;
    let mut ftp = gateway.login().await;
    ftp.store("STOR a b#?%+ü.tmp", b"content").await;
    ftp.store("STOR final", b"old").await;
    assert_eq!(ftp.command("RNFR a b#?%+ü.tmp").await.code, 350);
    assert_eq!(ftp.command("RNTO final").await.code, 250);
    assert_eq!(gateway.keys().await, ["final"]);
    assert_eq!(
        gateway.object("final").await.as_deref(),
        Some(&b"content"[..])
    );
    // the two commands belong together
    assert_eq!(ftp.command("RNTO other").await.code, 503);
    ftp.command("RNFR final").await;
    ftp.command("NOOP").await;
    assert_eq!(ftp.command("RNTO other").await.code, 503);
    assert_eq!(ftp.command("RNFR nothing").await.code, 550);
    assert_eq!(ftp.command("RNTO other").await.code, 503);
}

/// A directory is renamed with all that is in it; onto a name that is taken, or into itself, it is not: 550.
#[tokio::test]
async fn a_directory_is_renamed_with_all_that_is_in_it() {
    let gateway = TestGateway::start().await;
    for key in ["d/", "d/1", "d/s/2", "d/s/t/3", "dd/4", "d.txt"] {
        gateway.put_object(key, key.as_bytes().to_vec()).await;
    }
    let mut ftp = gateway.login().await;
    ftp.command("RNFR d").await;
    assert_eq!(ftp.command("RNTO d/inside").await.code, 550);
    ftp.command("RNFR d").await;
    assert_eq!(
        ftp.command("RNTO dd").await.code,
        550,
        "it is there already"
    );
    ftp.command("RNFR d").await;
    assert_eq!(ftp.command("RNTO new/e").await.code, 250);
    let keys = gateway.keys().await;
    assert_eq!(
        keys,
        [
            "d.txt",
            "dd/4",
            "new/e/",
            "new/e/1",
            "new/e/s/2",
            "new/e/s/t/3"
        ]
    );
    assert_eq!(
        gateway.object("new/e/s/t/3").await.as_deref(),
        Some(&b"d/s/t/3"[..])
    );
}

/// A rename of a directory that breaks off while it copies leaves the old directory complete and no copies; sent again,
/// it works.
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

/// Copies of a failed rename that can't be removed are counted in the reply.
#[tokio::test]
async fn copies_that_cannot_be_removed_are_counted_in_the_reply() {
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

/// A rename that breaks off while it deletes leaves the new directory complete, and the reply says so.
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

/// A file that another program stores into a directory while it moves stays where it is.
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

/// A rename of a directory that broke off goes on when it is sent again, at any gateway: the new name may exist if all
/// files that both directories have are the same, and only one of the two has others besides.
#[tokio::test]
async fn a_directory_rename_that_broke_off_goes_on_when_it_is_sent_again() {
    let (gateway, proxy) = TestGateway::behind_proxy(&["STORAGE__RETRY__MAX_ATTEMPTS=2"]).await;
    let mut ftp = gateway.login().await;
    for number in 0..20 {
        let key = format!("d/{number:02}");
        gateway.put_object(&key, key.clone().into_bytes()).await;
    }
    // in parts, so that the copy's ETag isn't that of the source
    assert_eq!(ftp.store("STOR d/big", &pattern(9 << 20)).await.code, 226);

    // while copies were deleted that had been made
    proxy.fail_if(|head| {
        head.starts_with("PUT /cosgate/new/19") || head.starts_with("DELETE /cosgate/new/")
    });
    ftp.command("RNFR d").await;
    let reply = ftp.command("RNTO new").await;
    assert_eq!(reply.code, 451, "{reply:?}");
    assert!(reply.text.contains("copies made are left"), "{reply:?}");
    // while the old files were deleted
    proxy.fail_if(|head| head.starts_with("DELETE /cosgate/d/1"));
    ftp.command("RNFR d").await;
    let reply = ftp.command("RNTO new").await;
    assert_eq!(reply.code, 451, "{reply:?}");
    assert!(reply.text.contains("10 files are left"), "{reply:?}");
    assert_eq!(gateway.keys().await.len(), 31);

    proxy.fail_if(|_| false);
    ftp.command("RNFR d").await;
    assert_eq!(ftp.command("RNTO new").await.code, 250);
    let keys = gateway.keys().await;
    assert_eq!(keys.len(), 21);
    assert!(keys.iter().all(|key| key.starts_with("new/")), "{keys:?}");
    assert_eq!(gateway.object("new/07").await, Some(b"d/07".to_vec()));

    // a directory that only looks like it is another one
    for (key, bytes) in [("d/07", "d/07"), ("d/08", "something else")] {
        gateway.put_object(key, bytes.into()).await;
    }
    ftp.command("RNFR d").await;
    assert_eq!(ftp.command("RNTO new").await.code, 550);
    assert_eq!(gateway.keys().await.len(), 23);
}

/// Of two renames of one directory at once, one is done, and the other is 550.
#[tokio::test]
async fn two_renames_of_one_directory_do_not_run_at_the_same_time() {
    let (gateway, proxy) = TestGateway::behind_proxy(&[]).await;
    for name in ["a", "b"] {
        gateway
            .put_object(&format!("d/{name}"), b"old".to_vec())
            .await;
    }
    let (mut one, mut other) = (gateway.login().await, gateway.login().await);
    one.command("RNFR d").await;
    other.command("RNFR d").await;
    let hold = proxy.hold_if(|head| head.starts_with("PUT /cosgate/x/"));
    one.send("RNTO x").await;
    hold.wait().await;
    let second = async { other.command("RNTO y").await.code };
    let first = async {
        tokio::task::yield_now().await;
        drop(hold);
        one.reply().await.code
    };
    assert_eq!(tokio::join!(first, second), (250, 550));
    assert_eq!(gateway.keys().await, ["x/a", "x/b"]);
}

/// A directory is not renamed onto one that it is in, whatever both have: 550.
#[tokio::test]
async fn a_directory_is_not_renamed_onto_one_that_it_is_in() {
    let gateway = TestGateway::start().await;
    let mut ftp = gateway.login().await;
    // the same file in both looks like a rename that broke off
    for path in ["d/f", "d/e/f"] {
        assert_eq!(ftp.store(&format!("STOR {path}"), b"same").await.code, 226);
    }
    assert_eq!(ftp.command("RNFR d/e").await.code, 350);
    assert_eq!(ftp.command("RNTO d").await.code, 550);
    assert_eq!(gateway.keys().await, ["d/e/f", "d/f"]);
}
