//! Downloads are compared with the checksum that the store keeps.

use std::sync::atomic::Ordering;

use aws_sdk_s3::types::ChecksumAlgorithm;
use tokio::io::AsyncReadExt;

use crate::integrity::in_front_of;
use crate::support::cos::CosDouble;
use crate::support::faults::{Answer, Fault};
use crate::support::gateway::BUCKET;
use crate::support::http::get;
use crate::support::proxy::Proxy;
use crate::support::{Ftp, TestGateway, pattern};

const KIB: usize = 1024;

/// The bytes that came, whether the connection was reset, and the reply.
pub async fn retrieve(ftp: &mut Ftp, line: &str) -> (Vec<u8>, bool, u16) {
    let mut data = ftp.data().await;
    assert_eq!(ftp.command(line).await.code, 150);
    let mut bytes = Vec::new();
    let is_reset = data.read_to_end(&mut bytes).await.is_err();
    (bytes, is_reset, ftp.reply().await.code)
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
async fn cos_sends_its_checksum_with_every_answer() {
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

/// Answers to GetObject without a checksum, as many stores give them to a request for a range; from the second one on
/// with a flipped bit.
fn without_checksum(proxy: &Proxy) {
    let checksum = "x-amz-checksum-crc64nvme";
    proxy.fault(
        "GetObject",
        Fault::edit(move |answer| answer.remove(checksum)),
    );
    let damage = move |answer: &mut Answer| {
        answer.remove(checksum);
        *answer.body.last_mut().expect("a byte") ^= 1;
    };
    proxy.fault("GetObject", Fault::edit(damage)).always();
}

#[tokio::test]
async fn a_small_file_of_the_gateways_own_is_compared_with_its_etag() {
    let (gateway, proxy) = TestGateway::behind_proxy(&[]).await;
    let mut ftp = gateway.login().await;
    let bytes = pattern(60 * KIB);
    assert_eq!(ftp.store("STOR f", &bytes).await.code, 226);
    assert_eq!(ftp.command("RNFR f").await.code, 350);
    assert_eq!(ftp.command("RNTO g").await.code, 250);
    without_checksum(&proxy);
    proxy.take_requests();
    assert_eq!(
        retrieve(&mut ftp, "RETR g").await,
        (bytes.clone(), false, 226)
    );
    let (came, is_reset, code) = retrieve(&mut ftp, "RETR g").await;
    assert_eq!((is_reset, code), (true, 451));
    assert!(came.len() < bytes.len());
    assert_eq!(proxy.take_operations(), ["GetObject g", "GetObject g"]);
}

#[tokio::test]
async fn a_store_without_checksums_has_the_etag_of_a_larger_file_too() {
    let settings = ["DOWNLOAD__CHUNK_SIZE=64KiB"];
    let (gateway, proxy) = TestGateway::behind_proxy(&settings).await;
    let checksum = "x-amz-checksum-crc64nvme";
    proxy
        .fault(
            "PutObject",
            Fault::edit(move |answer| answer.remove(checksum)),
        )
        .always();
    let mut ftp = gateway.login().await;
    let bytes = pattern(150 * KIB);
    assert_eq!(ftp.store("STOR f", &bytes).await.code, 226);
    // the store is known by its answer to the first upload
    assert_eq!(ftp.store("STOR f", &bytes).await.code, 226);
    proxy.take_requests();
    assert_eq!(
        retrieve(&mut ftp, "RETR f").await,
        (bytes.clone(), false, 226)
    );
    assert_eq!(proxy.take_operations(), ["GetObject f"; 3]);
    without_checksum(&proxy);
    let (came, is_reset, code) = retrieve(&mut ftp, "RETR f").await;
    assert_eq!((is_reset, code), (true, 451));
    assert!(came.len() < bytes.len());
}

#[tokio::test]
async fn a_file_of_somebody_else_is_compared_with_the_checksum_that_head_names() {
    let (gateway, proxy) = TestGateway::behind_proxy(&[]).await;
    let mut ftp = gateway.login().await;
    // the store is known to keep checksums
    assert_eq!(ftp.store("STOR f", b"1").await.code, 226);
    let bytes = pattern(60 * KIB);
    let put = gateway.s3().put_object().bucket(BUCKET).key("g");
    let put = put.checksum_algorithm(ChecksumAlgorithm::Crc64Nvme);
    put.body(bytes.clone().into()).send().await.expect("stored");
    without_checksum(&proxy);
    assert_eq!(
        retrieve(&mut ftp, "RETR g").await,
        (bytes.clone(), false, 226)
    );
    let (came, is_reset, code) = retrieve(&mut ftp, "RETR g").await;
    assert_eq!((is_reset, code), (true, 451));
    assert!(came.len() < bytes.len());
}

#[tokio::test]
async fn a_download_that_can_not_be_compared_though_there_is_a_checksum_is_451() {
    let settings = [
        "DOWNLOAD__CHUNK_SIZE=64KiB",
        "ADMIN__LISTEN=127.0.0.1:0",
        "STORAGE__RETRY__MAX_ATTEMPTS=2",
    ];
    let (gateway, proxy) = TestGateway::behind_proxy(&settings).await;
    let admin = gateway.gateway.admin_address().expect("it is on");
    let mut ftp = gateway.login().await;
    let bytes = pattern(300 * KIB);
    assert_eq!(ftp.store("STOR f", &bytes).await.code, 226);
    let replaced = Fault::edit(|answer| answer.set("etag", "\"0123456789abcdef0123456789abcdef\""));
    for fault in [Fault::refuse(500, "InternalError"), replaced] {
        proxy.fault("HeadObject", fault).always();
        let (came, is_reset, code) = retrieve(&mut ftp, "RETR f").await;
        assert_eq!((is_reset, code), (true, 451));
        assert!(came.len() < bytes.len());
        proxy.clear_faults();
        assert_eq!(
            retrieve(&mut ftp, "RETR f").await,
            (bytes.clone(), false, 226)
        );
    }
    // nothing is known to be damaged
    let metrics = get(admin, "/metrics", &[]).await.body;
    assert!(
        metrics.contains("cosgate_integrity_failures_total 0"),
        "{metrics}"
    );
}
