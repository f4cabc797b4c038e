//! The waits of an upload, and their ends: a store that holds its answer back keeps no client and no drain waiting.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout};

use crate::support::proxy::{Hold, Proxy};
use crate::support::{Ftp, TestGateway, eventually, pattern};

const MIB: usize = 1024 * 1024;

/// Far less than the store's own bounds, which are minutes.
const SOON: Duration = Duration::from_secs(20);

/// An upload whose bytes have all come, and of which the store holds a request back.
async fn held_back(
    settings: &[&str],
    request: fn(&str) -> bool,
    caught: u64,
) -> (TestGateway, Proxy, Hold, Ftp) {
    let common = ["UPLOAD__MIN_PART_SIZE=5MiB", "UPLOAD__CONCURRENCY=2"];
    let (gateway, proxy) = TestGateway::behind_proxy(&[&common, settings].concat()).await;
    let hold = proxy.hold_if(request);
    let mut ftp = gateway.login().await;
    let mut data = ftp.data().await;
    assert_eq!(ftp.command("STOR f").await.code, 150);
    // two parts and a last one that finds no place
    tokio::spawn(async move {
        // of an upload that is aborted the gateway doesn't take everything
        let _ = data.write_all(&pattern(12 * MIB)).await;
        let _ = data.shutdown().await;
    });
    eventually("the store holds the requests back", || async {
        hold.caught() == caught
    })
    .await;
    if caught == 2 {
        eventually("all bytes have come", || async {
            gateway.gateway.store().buffered_bytes() >= 12 * MIB as u64
        })
        .await;
    }
    (gateway, proxy, hold, ftp)
}

fn is_part(head: &str) -> bool {
    head.starts_with("PUT ") && head.contains("partNumber=")
}

fn is_begin(head: &str) -> bool {
    head.starts_with("POST ") && head.contains("uploads")
}

#[tokio::test]
async fn an_abort_ends_an_upload_whatever_it_waits_for() {
    for (request, caught) in [(is_part as fn(&str) -> bool, 2), (is_begin, 1)] {
        let discard = ["UPLOAD__ON_INTERRUPT=discard"];
        let (gateway, _proxy, hold, mut ftp) = held_back(&discard, request, caught).await;
        let aborted = timeout(SOON, ftp.command("ABOR")).await;
        assert_eq!(aborted.expect("in time").code, 426);
        assert_eq!(ftp.reply().await.code, 226);
        drop(hold);
        assert_eq!(gateway.object("f").await, None);
        eventually("nothing is left at the store", || async {
            gateway.unfinished().await == 0
        })
        .await;
        gateway.stop().await;
    }
}

#[tokio::test]
async fn a_client_that_has_gone_ends_the_wait_of_its_last_part() {
    let discard = ["UPLOAD__ON_INTERRUPT=discard"];
    let (gateway, _proxy, hold, ftp) = held_back(&discard, is_part, 2).await;
    drop(ftp);
    let gone = eventually("the session has ended", || async {
        gateway.gateway.sessions() == 0
    });
    timeout(SOON, gone).await.expect("in time");
    drop(hold);
}

#[tokio::test]
async fn the_drain_deadline_ends_the_wait_of_a_last_part_kept_or_not() {
    for outcome in ["discard", "keep"] {
        let on_interrupt = format!("UPLOAD__ON_INTERRUPT={outcome}");
        let settings = [on_interrupt.as_str(), "DRAIN__DEADLINE=1s"];
        let (gateway, _proxy, hold, _ftp) = held_back(&settings, is_part, 2).await;
        let (gateway, store) = gateway.into_parts();
        let since = Instant::now();
        let stopped = timeout(SOON * 2, gateway.stop()).await;
        assert!(
            stopped.is_ok(),
            "{outcome}: {:?} and not stopped",
            since.elapsed()
        );
        drop(hold);
        assert_eq!(store.object("f").await, None, "{outcome}");
    }
}
