//! Faults of the store that one upload meets once: the retries and the proofs get it through.

mod campaign;
pub mod dice;
mod model;
mod outage;

use crate::support::faults::{Answer, Fault};
use crate::support::{TestGateway, pattern};

const MIB: usize = 1024 * 1024;

/// One of each kind.
fn faults() -> Vec<(&'static str, Fault)> {
    vec![
        ("503", Fault::refuse(503, "SlowDown")),
        (
            "500 after the work",
            Fault::refuse_after(500, "InternalError"),
        ),
        ("lost answer", Fault::LoseAnswer),
        ("lost request", Fault::LoseRequest),
        (
            "headers of a proxy",
            Fault::edit(|answer| answer.set("via", "1.1 proxy")),
        ),
    ]
}

#[tokio::test]
async fn one_fault_of_any_kind_costs_no_upload() {
    let settings = [
        "UPLOAD__MIN_PART_SIZE=5MiB",
        "STORAGE__RETRY__MAX_BACKOFF=50ms",
    ];
    let (gateway, proxy) = TestGateway::behind_proxy(&settings).await;
    let mut ftp = gateway.login().await;
    for (name, fault) in faults() {
        for (operation, bytes) in [
            ("PutObject", pattern(1000)),
            ("UploadPart", pattern(6 * MIB)),
            ("CompleteMultipartUpload", pattern(6 * MIB)),
        ] {
            let met = proxy.faults_met();
            proxy.fault(operation, fault.clone()).on_key("f");
            let reply = ftp.store("STOR f", &bytes).await;
            assert_eq!(reply.code, 226, "{operation}, {name}: {reply:?}");
            assert!(
                gateway.object("f").await == Some(bytes),
                "{operation}, {name}"
            );
            assert_eq!(proxy.faults_met(), met + 1, "{operation}, {name}");
        }
    }
    assert_eq!(gateway.unfinished().await, 0);
}

#[tokio::test]
async fn a_store_that_refuses_from_the_second_upload_on_has_the_first_one() {
    let settings = ["STORAGE__RETRY__MAX_ATTEMPTS=2"];
    let (gateway, proxy) = TestGateway::behind_proxy(&settings).await;
    let mut ftp = gateway.login().await;
    let away = Fault::Answer(Answer::empty(503));
    proxy.fault("PutObject", away).after(1).always();
    assert_eq!(ftp.store("STOR a", b"first").await.code, 226);
    proxy.take_operations();
    assert_eq!(ftp.store("STOR b", b"second").await.code, 451);
    let operations = proxy.take_operations();
    assert_eq!(operations[..2], ["PutObject b", "PutObject b"]);
    assert_eq!(gateway.keys().await, ["a"]);
    proxy.clear_faults();
    proxy
        .fault("*", Fault::refuse(500, "InternalError"))
        .times(1);
    assert_eq!(ftp.store("STOR b", b"second").await.code, 226);
}
