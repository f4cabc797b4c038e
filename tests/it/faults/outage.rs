//! The store is gone for a while under load: commands wait or fail, no reply is wrong, and the service returns by itself.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;

use super::campaign::{Counts, SESSIONS, SLACK, has_only, sessions, start};
use crate::support::proxy::Proxy;
use crate::support::readings::Readings;
use crate::support::{TestStore, eventually};

const SEED: u64 = 11;

#[derive(Debug, Clone, Copy)]
enum Outage {
    /// Connections break, and new ones are refused.
    Refused,
    /// Requests are taken, and nothing comes of them.
    Silent,
}

impl Outage {
    fn set(self, proxy: &Proxy, gone: bool) {
        match self {
            Outage::Refused => proxy.set_away(gone),
            Outage::Silent => proxy.set_silent(gone),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_gone_for_seconds_is_served_again_by_itself() {
    let gone = Duration::from_secs(4);
    for outage in [Outage::Refused, Outage::Silent] {
        under_load(outage, gone, &["STORAGE__REQUEST_TIMEOUT=1s"]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes"]
async fn a_store_that_is_gone_for_a_minute_is_served_again_by_itself() {
    let gone = Duration::from_secs(60);
    for outage in [Outage::Refused, Outage::Silent] {
        under_load(outage, gone, &[]).await;
    }
}

/// The time until every session has had an answer that is not an error, from when the store is back.
const BACK_WITHIN: Duration = Duration::from_secs(20);

async fn under_load(outage: Outage, gone: Duration, settings: &[&str]) {
    let (store, proxy, own) = TestStore::behind_proxy().await;
    let own: Vec<&str> = own.iter().map(String::as_str).collect();
    let (gateway, admin) = start(&[&own[..], settings, &["UPLOAD__MIN_PART_SIZE=5MiB"]].concat());
    let before = Readings::of(admin).await;
    let counts: Vec<Counts> = (0..SESSIONS).map(|_| Counts::default()).collect();
    let is_over = AtomicBool::new(false);
    let all = sessions(gateway.address, &store, &counts, SEED).await;
    let running = all
        .into_iter()
        .map(|session| session.run(|_| is_over.load(Ordering::SeqCst)));
    let done = || -> Vec<u64> {
        let done = |counts: &Counts| counts.done.load(Ordering::SeqCst);
        counts.iter().map(done).collect()
    };
    let failed = || -> u64 {
        let failed = |counts: &Counts| counts.failed.load(Ordering::SeqCst);
        counts.iter().map(failed).sum()
    };
    let conduct = async {
        eventually("all sessions are at work", || async {
            done().iter().all(|done| *done > 5)
        })
        .await;
        outage.set(&proxy, true);
        tokio::time::sleep(gone).await;
        let (refused, then) = (failed(), done());
        outage.set(&proxy, false);
        let back = Instant::now();
        eventually("every session is served again", || async {
            done().iter().zip(&then).all(|(now, then)| now > then)
        })
        .await;
        let took = back.elapsed();
        eprintln!(
            "{outage:?} for {gone:?}: {refused} commands failed, all were served again after {took:.1?}"
        );
        assert!(took < BACK_WITHIN, "{outage:?}: {took:?}");
        let (failing, then) = (failed(), done());
        eventually("they go on", || async {
            done().iter().zip(&then).all(|(now, then)| *now > then + 5)
        })
        .await;
        // what had begun before may still fail
        let late = failed() - failing;
        assert!(late <= SESSIONS as u64, "{outage:?}: {late} failed after");
        is_over.store(true, Ordering::SeqCst);
    };
    let (expected, ()) = tokio::join!(join_all(running), conduct);
    before.are_all_again(admin, SLACK).await;
    has_only(&store, expected.concat(), SEED).await;
    assert_eq!(gateway.terminate(), Some(0));
    store.stop().await;
}
