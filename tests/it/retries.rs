//! Requests that fail: which are sent again, how often, and how long that may take.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;

use crate::support::faults::Fault;
use crate::support::http::get;
use crate::support::proxy::Proxy;
use crate::support::{Ftp, TestGateway, pattern};

const MIB: usize = 1024 * 1024;
const LONG_AGO: &str = "Tue, 15 Nov 1994 08:12:31 GMT";

/// Pauses of no length, so that a scenario takes none.
const SHORT_BACKOFF: &str = "STORAGE__RETRY__MAX_BACKOFF=5ms";

/// Refuses the first `times` requests that `matches` names.
fn refuse_first(
    proxy: &Proxy,
    times: usize,
    (status, code): (u16, &str),
    matches: &'static [&'static str],
) -> Arc<AtomicUsize> {
    let seen = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&seen);
    proxy.refuse_if((status, code, &httpdate()), move |head| {
        let line = head.lines().next().unwrap_or_default();
        let is_meant = matches
            .iter()
            .all(|part| line.contains(part) || head.contains(part));
        is_meant && counter.fetch_add(1, Ordering::SeqCst) < times
    });
    seen
}

fn httpdate() -> String {
    let now = aws_sdk_s3::primitives::DateTime::from(std::time::SystemTime::now());
    let format = aws_sdk_s3::primitives::DateTimeFormat::HttpDate;
    now.fmt(format).expect("a date")
}

#[tokio::test]
async fn each_upload_gets_all_its_attempts_however_many_fail_at_once() {
    const SESSIONS: usize = 30;
    const UPLOADS: usize = 3;
    let (gateway, proxy) =
        TestGateway::behind_proxy(&[SHORT_BACKOFF, "PASSIVE__PORTS=24000-24031"]).await;
    proxy.refuse_if((503, "SlowDown", LONG_AGO), |head| head.starts_with("PUT"));
    let sessions = (0..SESSIONS).map(|number| {
        let gateway = &gateway;
        async move {
            let mut ftp = gateway.login().await;
            for upload in 0..UPLOADS {
                let reply = ftp.store(&format!("STOR f-{number}-{upload}"), b"x").await;
                assert_eq!(reply.code, 451, "{reply:?}");
            }
        }
    });
    futures::future::join_all(sessions).await;
    let mut attempts: HashMap<String, usize> = HashMap::new();
    for head in proxy.take_requests() {
        let target = head.split(' ').nth(1).unwrap_or_default();
        let key = target.split('?').next().unwrap_or_default();
        if head.starts_with("PUT") {
            *attempts.entry(key.to_owned()).or_default() += 1;
        }
    }
    assert_eq!(attempts.len(), SESSIONS * UPLOADS);
    assert!(attempts.values().all(|count| *count == 4), "{attempts:?}");
}

#[tokio::test]
async fn what_passes_with_time_is_sent_again_whatever_its_status_is() {
    let (gateway, proxy) =
        TestGateway::behind_proxy(&[SHORT_BACKOFF, "UPLOAD__MIN_PART_SIZE=5MiB"]).await;
    let mut ftp = gateway.login().await;
    for answer in [
        (429, "TooManyRequests"),
        (429, "Whatever"),
        (400, "SlowDown"),
        (200, "InternalError"),
        (200, "SlowDown"),
        (408, "Whatever"),
    ] {
        let seen = refuse_first(&proxy, 2, answer, &["PUT", "/f"]);
        let reply = ftp.store("STOR f", b"bytes").await;
        assert_eq!(reply.code, 226, "{answer:?}: {reply:?}");
        assert_eq!(seen.load(Ordering::SeqCst), 3, "{answer:?}");
    }
    // a copy and the end of an upload in parts say 200 before they know
    refuse_first(
        &proxy,
        1,
        (200, "InternalError"),
        &["PUT", "x-amz-copy-source"],
    );
    assert_eq!(ftp.command("RNFR f").await.code, 350);
    assert_eq!(ftp.command("RNTO g").await.code, 250);
    assert_eq!(gateway.object("g").await.as_deref(), Some(&b"bytes"[..]));
    refuse_first(&proxy, 1, (200, "InternalError"), &["POST", "uploadId="]);
    let bytes = pattern(6 * MIB);
    let reply = ftp.store("STOR large", &bytes).await;
    assert_eq!(reply.code, 226, "{reply:?}");
    assert!(gateway.object("large").await == Some(bytes));
}

#[tokio::test]
async fn a_body_that_arrived_damaged_is_sent_once_more_and_not_for_ever() {
    let (gateway, proxy) = TestGateway::behind_proxy(&[SHORT_BACKOFF]).await;
    let mut ftp = gateway.login().await;
    let seen = refuse_first(&proxy, 1, (400, "BadDigest"), &["PUT"]);
    assert_eq!(ftp.store("STOR f", b"bytes").await.code, 226);
    assert_eq!(seen.load(Ordering::SeqCst), 2);
    let seen = refuse_first(&proxy, usize::MAX, (400, "BadDigest"), &["PUT"]);
    assert_eq!(ftp.store("STOR f", b"other").await.code, 451);
    assert_eq!(seen.load(Ordering::SeqCst), 2);
    assert_eq!(gateway.object("f").await.as_deref(), Some(&b"bytes"[..]));
}

#[tokio::test]
async fn a_wrong_clock_is_named() {
    let (gateway, proxy) =
        TestGateway::behind_proxy(&[SHORT_BACKOFF, "ADMIN__LISTEN=127.0.0.1:0"]).await;
    let admin = gateway.gateway.admin_address().expect("it is on");
    let mut ftp = gateway.login().await;
    proxy.refuse_if((403, "RequestTimeTooSkewed", LONG_AGO), |head| {
        head.starts_with("PUT")
    });
    let reply = ftp.store("STOR f", b"bytes").await;
    assert_eq!(reply.code, 550, "{reply:?}");
    let page = get(admin, "/status", &[]).await.body;
    assert!(page.contains("clock is"), "{page}");
    assert!(page.contains("s ahead of the store"), "{page}");
}

#[tokio::test]
async fn a_date_that_was_wrong_once_fails_no_later_command() {
    let (gateway, proxy) = TestGateway::behind_proxy(&[SHORT_BACKOFF]).await;
    let mut ftp = gateway.login().await;
    assert_eq!(ftp.store("STOR f", b"old").await.code, 226);
    // the SDK signs as the last answer's date says: so it is too when this machine's clock is set right
    let wrong = || Fault::edit(|answer| answer.set("date", LONG_AGO));
    proxy.fault("HeadObject", wrong());
    assert_eq!(ftp.command("SIZE f").await.code, 213);
    let reply = ftp.store("STOR f", b"new").await;
    assert_eq!(reply.code, 226, "{reply:?}");
    // an answer to a HEAD has no code
    proxy.fault("PutObject", wrong());
    assert_eq!(ftp.store("STOR f", b"newer").await.code, 226);
    let reply = ftp.command("SIZE f").await;
    assert_eq!((reply.code, reply.text.trim_end()), (213, "213 5"));
    proxy.fault("HeadObject", wrong());
    assert_eq!(ftp.command("SIZE f").await.code, 213);
    assert_eq!(ftp.fetch("RETR f").await.0, b"newer");
}

/// The code of the reply, and the time until it came.
async fn timed(work: impl Future<Output = u16>) -> (u16, Duration) {
    let began = Instant::now();
    (work.await, began.elapsed())
}

/// Well over the limit of a second, for a loaded machine; the limits by size that were before would take 16 s.
const SOON: Duration = Duration::from_secs(8);

const IMPATIENT: [&str; 4] = [
    SHORT_BACKOFF,
    "STORAGE__REQUEST_TIMEOUT=400ms",
    "STORAGE__RETRY__TIME_LIMIT=1s",
    "UPLOAD__MIN_PART_SIZE=5MiB",
];

#[tokio::test]
async fn a_silent_store_is_waited_for_as_long_as_the_limit_says() {
    let (gateway, proxy) = TestGateway::behind_proxy(&IMPATIENT).await;
    gateway.put_object("f", pattern(MIB)).await;
    let mut ftp = gateway.login().await;
    proxy.set_silent(true);
    for bytes in [10, MIB, 4 * MIB] {
        let bytes = pattern(bytes);
        let (code, took) = timed(async { ftp.store("STOR new", &bytes).await.code }).await;
        assert_eq!(code, 451, "{}", bytes.len());
        assert!(took < SOON, "{} bytes: {took:?}", bytes.len());
    }
    let (code, took) = timed(async { ftp.command("SIZE f").await.code }).await;
    assert_eq!(code, 451);
    assert!(took < SOON, "{took:?}");
    let (code, took) = timed(async { ftp.fetch("RETR f").await.1.code }).await;
    assert_eq!(code, 451);
    assert!(took < SOON, "{took:?}");
    proxy.set_silent(false);
    assert_eq!(ftp.store("STOR new", b"bytes").await.code, 226);
}

#[tokio::test]
async fn a_download_that_stops_in_the_middle_ends_within_the_limit_and_in_a_reset() {
    let (gateway, proxy) = TestGateway::behind_proxy(&IMPATIENT).await;
    gateway.put_object("f", pattern(64 * MIB)).await;
    let mut ftp: Ftp = gateway.login().await;
    let mut data = ftp.data().await;
    assert_eq!(ftp.command("RETR f").await.code, 150);
    data.read_u8().await.expect("the first byte");
    proxy.set_silent(true);
    let began = Instant::now();
    let mut rest = Vec::new();
    let ended = data.read_to_end(&mut rest).await;
    assert!(ended.is_err(), "{} bytes look like a file", rest.len());
    let reply = ftp.reply().await;
    assert_eq!(reply.code, 451, "{reply:?}");
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}

/// The SDK has a watch of its own, which gave up a body after 20 s without a byte.
#[tokio::test]
async fn a_store_that_pauses_within_an_answer_is_waited_for_as_long_as_the_limit_says() {
    let (gateway, proxy) = TestGateway::behind_proxy(&[]).await;
    let bytes = pattern(MIB);
    gateway.put_object("f", bytes.clone()).await;
    let mut ftp = gateway.login().await;
    proxy.take_operations();
    // of 30 s that are allowed
    let pause = Fault::SlowAnswer(2, Duration::from_secs(25));
    proxy.fault("GetObject", pause);
    let (fetched, reply) = ftp.fetch("RETR f").await;
    assert_eq!(reply.code, 226, "{reply:?}");
    assert!(fetched == bytes, "{} bytes", fetched.len());
    assert_eq!(proxy.take_operations(), ["GetObject f"]);
}
