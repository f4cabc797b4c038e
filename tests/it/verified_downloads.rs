//! Downloads are compared with the checksum that the store keeps.

use std::sync::atomic::Ordering;

use tokio::io::AsyncReadExt;

use crate::integrity::in_front_of;
use crate::support::cos::CosDouble;
use crate::support::http::get;
use crate::support::{Ftp, TestGateway, pattern};

const KIB: usize = 1024;

/// The bytes that came, whether the connection was reset, and the reply.
async fn retrieve(ftp: &mut Ftp, line: &str) -> (Vec<u8>, bool, u16) {
    let mut data = ftp.data().await;
    assert_eq!(ftp.command(line).await.code, 150);
    let mut bytes = Vec::new();
    let is_reset = data.read_to_end(&mut bytes).await.is_err();
    (bytes, is_reset, ftp.reply().await.code)
}

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

#[tokio::test]
async fn a_file_of_one_chunk_is_verified_without_another_request() {
    let (gateway, proxy) = TestGateway::behind_proxy(&[]).await;
    let mut ftp = gateway.login().await;
    assert_eq!(ftp.store("STOR f", &pattern(KIB)).await.code, 226);
    proxy.take_requests();
    assert_eq!(ftp.fetch("RETR f").await.1.code, 226);
    assert_eq!(proxy.take_requests().len(), 1);
    // what begins later is no whole, and nothing is compared
    assert_eq!(ftp.command("REST 10").await.code, 350);
    proxy.flip_after(900);
    let (came, _, code) = retrieve(&mut ftp, "RETR f").await;
    assert_eq!((came.len(), code), (KIB - 10, 226));
}

#[tokio::test]
async fn cos_tells_its_checksum_with_every_answer() {
    let cos = CosDouble::start().await;
    let (gateway, mut ftp) = in_front_of(&cos, &["DOWNLOAD__CHUNK_SIZE=64KiB"]).await;
    for size in [10 * KIB, 300 * KIB] {
        let bytes = pattern(size);
        assert_eq!(ftp.store("STOR f", &bytes).await.code, 226);
        assert_eq!(retrieve(&mut ftp, "RETR f").await, (bytes, false, 226));
        cos.state.lie.store(true, Ordering::SeqCst);
        let (came, is_reset, code) = retrieve(&mut ftp, "RETR f").await;
        assert_eq!((is_reset, code), (true, 451));
        assert!(came.len() < size);
        cos.state.lie.store(false, Ordering::SeqCst);
    }
    gateway.stop().await;
}
