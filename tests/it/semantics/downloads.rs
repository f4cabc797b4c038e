//! Downloads

use std::time::Duration;

use tokio::io::AsyncReadExt;

use crate::downloads::SMALL_CHUNKS;
use crate::support::http::get;
use crate::support::{TestGateway, pattern};
use crate::verified_downloads::retrieve;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// `REST` and `RETR` send a file from that byte on: nothing at its end, 554 beyond it.
#[tokio::test]
async fn a_download_starts_at_the_restart_offset() {
    let gateway = TestGateway::start().await;
    let mut ftp = gateway.login().await;
    let bytes = pattern(100_000);
    gateway.put_object("file", bytes.clone()).await;
    for offset in [1, 99_999, 100_000] {
        assert_eq!(ftp.command(&format!("REST {offset}")).await.code, 350);
        let (fetched, reply) = ftp.fetch("RETR file").await;
        assert_eq!(reply.code, 226);
        assert!(fetched == bytes[offset..], "from {offset}");
    }
    ftp.command("REST 100001").await;
    assert_eq!(ftp.fetch("RETR file").await.1.code, 554);
    // the offset is used up, also by a transfer that failed
    assert_eq!(ftp.fetch("RETR file").await.0.len(), bytes.len());
}

/// A missing file is 550 before any 150, and its data connection ends without a byte.
#[tokio::test]
async fn a_missing_file_is_refused_before_any_150() {
    let gateway = TestGateway::start().await;
    let mut ftp = gateway.login().await;
    let mut data = ftp.data().await;
    assert_eq!(ftp.command("RETR nothing").await.code, 550);
    // and its data connection ends without a byte
    let mut bytes = Vec::new();
    let _ = data.read_to_end(&mut bytes).await;
    assert!(bytes.is_empty());
}

/// A file that is replaced or deleted while a client downloads it comes as one version, or ends with 451 and a reset;
/// never is it a mix of two.
#[tokio::test]
async fn a_file_that_changes_under_its_reader_is_451_and_never_a_mix() {
    let gateway = TestGateway::with(&SMALL_CHUNKS).await;
    let mut ftp = gateway.login().await;
    let (old, new) = (pattern(64 * MIB), vec![b'n'; 64 * MIB]);
    for replacement in [Some(new), None] {
        gateway.put_object("f", old.clone()).await;
        let mut data = ftp.data().await;
        assert_eq!(ftp.command("RETR f").await.code, 150);
        let first = data.read_u8().await.expect("the first byte");
        match replacement {
            Some(bytes) => gateway.put_object("f", bytes).await,
            None => assert_eq!(gateway.login().await.command("DELE f").await.code, 250),
        }
        let mut fetched = vec![first];
        let ended = data.read_to_end(&mut fetched).await;
        assert!(ended.is_err(), "a part of a file must end in a reset");
        assert_eq!(ftp.reply().await.code, 451);
        assert!(
            old.starts_with(&fetched),
            "{} bytes of one version",
            fetched.len()
        );
    }
}

/// A download that the store cuts is taken up again at the byte; where that fails it is 451 and a reset, never a short
/// file with 226.
#[tokio::test]
async fn a_download_that_the_store_cuts_is_taken_up_again() {
    let (gateway, proxy) = TestGateway::behind_proxy(&SMALL_CHUNKS).await;
    let bytes = pattern(3 * MIB);
    gateway.put_object("f", bytes.clone()).await;
    let mut ftp = gateway.login().await;
    for cut in (0..12_u64).map(|round| 600 + round * round * 21_011) {
        let cutting = async {
            // one break after another
            loop {
                proxy.cut_after(cut);
                tokio::time::sleep(Duration::from_millis(7)).await;
            }
        };
        let fetching = async {
            let (fetched, reply) = ftp.fetch("RETR f").await;
            // who cuts everything can win; then it must be told
            match reply.code {
                226 => assert!(fetched == bytes, "cut after {cut}: {} bytes", fetched.len()),
                code => assert_eq!(code, 451, "cut after {cut}: {reply:?}"),
            }
            reply.code
        };
        let code = tokio::select! {
            code = fetching => code,
            () = cutting => 0,
        };
        assert!(code == 226 || cut < 100_000, "cut after {cut}: {code}");
        proxy.cut_after(u64::MAX);
    }
}

/// A whole file that differs from its checksum in the store ends with 451 and a reset before its last bytes, and is
/// counted.
#[tokio::test]
async fn a_bit_that_flips_on_its_way_from_the_store_is_a_reset_and_451_and_counted() {
    let settings = ["DOWNLOAD__CHUNK_SIZE=64KiB", "ADMIN__LISTEN=127.0.0.1:0"];
    let (gateway, proxy) = TestGateway::behind_proxy(&settings).await;
    let admin = gateway.gateway.admin_address().expect("it is on");
    let mut ftp = gateway.login().await;
    for (size, flip) in [
        (60 * KIB, 20 * KIB),
        (300 * KIB, 20 * KIB),
        (300 * KIB, 290 * KIB),
    ] {
        let bytes = pattern(size);
        assert_eq!(ftp.store("STOR f", &bytes).await.code, 226);
        assert_eq!(
            retrieve(&mut ftp, "RETR f").await,
            (bytes.clone(), false, 226)
        );
        proxy.flip_after(flip as u64);
        let (came, is_reset, code) = retrieve(&mut ftp, "RETR f").await;
        assert_eq!(code, 451, "{size} {flip}");
        assert!(is_reset, "{size} {flip}");
        assert!(came.len() < size, "the whole file came, though it differs");
        assert_eq!(retrieve(&mut ftp, "RETR f").await, (bytes, false, 226));
    }
    let metrics = get(admin, "/metrics", &[]).await.body;
    assert!(
        metrics.contains("cosgate_integrity_failures_total 3"),
        "{metrics}"
    );
}
