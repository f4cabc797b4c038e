//! Stores that break.

use crate::support::{TestGateway, pattern};

const MIB: usize = 1024 * 1024;

#[tokio::test]
async fn an_unreachable_store_is_450_and_changes_nothing() {
    let (gateway, proxy) = TestGateway::behind_proxy(&[
        "STORAGE__RETRY__MAX_ATTEMPTS=2",
        "UPLOAD__MIN_PART_SIZE=5MiB",
    ])
    .await;
    gateway.put_object("f", b"old".to_vec()).await;
    let mut ftp = gateway.login().await;
    proxy.set_down(true);
    for bytes in [pattern(10), pattern(6 * MIB)] {
        let reply = ftp.store("STOR f", &bytes).await;
        assert_eq!(reply.code, 450, "{reply:?}");
    }
    // a size that can't be asked for is not a size of 0
    assert_eq!(ftp.store("APPE f", b"more").await.code, 450);
    assert_eq!(ftp.fetch("RETR f").await.1.code, 450);
    assert_eq!(ftp.fetch("LIST").await.1.code, 450);
    for line in ["SIZE f", "DELE f", "MKD d", "CWD f", "RNFR f"] {
        assert_eq!(ftp.command(line).await.code, 450, "{line}");
    }
    proxy.set_down(false);
    assert_eq!(gateway.object("f").await.as_deref(), Some(&b"old"[..]));
    assert_eq!(gateway.keys().await, ["f"]);
    assert_eq!(
        ftp.fetch("RETR f").await.0,
        b"old",
        "and the session goes on"
    );
}

#[tokio::test]
async fn a_body_that_the_store_cuts_is_taken_up_again() {
    let (gateway, proxy) = TestGateway::behind_proxy(&[]).await;
    let bytes = pattern(3 * MIB);
    gateway.put_object("f", bytes.clone()).await;
    let mut ftp = gateway.login().await;
    for cut in [100_000, MIB as u64, 2 * MIB as u64 + 17] {
        proxy.cut_after(cut);
        let (fetched, reply) = ftp.fetch("RETR f").await;
        assert_eq!(reply.code, 226, "{reply:?}");
        assert!(fetched == bytes, "cut after {cut}: {} bytes", fetched.len());
    }
}

#[tokio::test]
async fn kept_bytes_that_the_store_cuts_are_taken_up_again() {
    let (gateway, proxy) = TestGateway::behind_proxy(&[]).await;
    let old = pattern(MIB);
    gateway.put_object("f", old.clone()).await;
    let mut ftp = gateway.login().await;
    proxy.cut_after(100_000);
    assert_eq!(ftp.store("APPE f", b" and more").await.code, 226);
    let whole = [&old[..], b" and more"].concat();
    assert!(gateway.object("f").await == Some(whole));
}

#[tokio::test]
async fn a_store_that_stays_away_in_the_middle_is_no_226() {
    let (gateway, proxy) = TestGateway::behind_proxy(&["STORAGE__RETRY__MAX_ATTEMPTS=2"]).await;
    gateway.put_object("f", pattern(64 * MIB)).await;
    let mut ftp = gateway.login().await;
    let mut data = ftp.data().await;
    assert_eq!(ftp.command("RETR f").await.code, 150);
    tokio::io::AsyncReadExt::read_u8(&mut data)
        .await
        .expect("the first byte");
    proxy.set_down(true);
    let mut rest = Vec::new();
    let ended = tokio::io::AsyncReadExt::read_to_end(&mut data, &mut rest).await;
    assert!(
        ended.is_err(),
        "a short file must end in a reset, after {} bytes",
        rest.len()
    );
    let reply = ftp.reply().await;
    assert!(matches!(reply.code, 450 | 451), "{reply:?}");
}

#[tokio::test]
async fn an_upload_survives_a_broken_connection_to_the_store() {
    let (gateway, proxy) = TestGateway::behind_proxy(&["UPLOAD__MIN_PART_SIZE=5MiB"]).await;
    let mut ftp = gateway.login().await;
    let bytes = pattern(17 * MIB);
    // within the first answers of the store
    proxy.cut_after(50);
    let reply = ftp.store("STOR f", &bytes).await;
    assert_eq!(reply.code, 226, "{reply:?}");
    assert!(gateway.object("f").await == Some(bytes));
}
