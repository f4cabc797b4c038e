//! Files out of the store: read ahead, in order, one version.

use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;
use tokio::task::JoinSet;

use crate::support::tls::{Authority, Wire};
use crate::support::{Ftp, TestGateway, eventually, pattern};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Small chunks, so that a file of some MiB has many.
pub const SMALL_CHUNKS: [&str; 2] = ["DOWNLOAD__CHUNK_SIZE=256KiB", "DOWNLOAD__READ_AHEAD=1MiB"];

/// The GetObject requests among `requests`.
fn gets(requests: &[String]) -> usize {
    requests
        .iter()
        .filter(|head| head.starts_with("GET /cosgate/f"))
        .count()
}

#[tokio::test]
async fn files_around_the_chunk_size_come_whole_from_any_offset() {
    let gateway = TestGateway::with(&SMALL_CHUNKS).await;
    let mut ftp = gateway.login().await;
    let chunk = 256 * KIB;
    for size in [0, 1, chunk - 1, chunk, chunk + 1, 3 * chunk, 9 * chunk + 7] {
        let bytes = pattern(size);
        gateway.put_object("f", bytes.clone()).await;
        let offsets = [
            0,
            1,
            chunk - 1,
            chunk,
            chunk + 1,
            2 * chunk + 77_777,
            size.saturating_sub(1),
            size,
        ];
        for offset in offsets.into_iter().filter(|offset| *offset <= size) {
            ftp.command(&format!("REST {offset}")).await;
            let (fetched, reply) = ftp.fetch("RETR f").await;
            assert_eq!(reply.code, 226, "{size} from {offset}: {reply:?}");
            assert!(fetched == bytes[offset..], "{size} from {offset}");
        }
        for beyond in [size as u64 + 1, i64::MAX as u64, u64::MAX] {
            ftp.command(&format!("REST {beyond}")).await;
            let reply = ftp.fetch("RETR f").await.1;
            assert_eq!(reply.code, 554, "{size} from {beyond}: {reply:?}");
        }
    }
    assert_eq!(gateway.gateway.store().read_ahead_bytes(), 0);
}

#[tokio::test]
async fn a_file_of_one_chunk_is_one_request_and_a_larger_one_is_one_per_chunk() {
    let (gateway, proxy) = TestGateway::behind_proxy(&SMALL_CHUNKS).await;
    let mut ftp = gateway.login().await;
    for (size, offset, expected) in [
        (1, 0, 1),
        (256 * KIB, 0, 1),
        (256 * KIB, 1000, 1),
        (256 * KIB + 1, 0, 2),
        (2 * MIB, 0, 8),
        (2 * MIB, 1_900_000, 1),
    ] {
        gateway.put_object("f", pattern(size)).await;
        proxy.take_requests();
        if offset > 0 {
            ftp.command(&format!("REST {offset}")).await;
        }
        assert_eq!(ftp.fetch("RETR f").await.0.len(), size - offset);
        let requests = proxy.take_requests();
        assert_eq!(requests.len(), expected, "{size} from {offset}");
        assert_eq!(gets(&requests), expected);
        let pinned = requests.iter().filter(|head| head.contains("if-match"));
        assert_eq!(pinned.count(), expected - 1, "all but the first are pinned");
    }
}

#[tokio::test]
async fn chunks_are_fetched_in_parallel() {
    let latency = Duration::from_millis(200);
    let mut seconds = Vec::new();
    for concurrency in [1, 4] {
        let concurrency = format!("DOWNLOAD__CONCURRENCY={concurrency}");
        let settings = [SMALL_CHUNKS[0], SMALL_CHUNKS[1], concurrency.as_str()];
        let (gateway, proxy) = TestGateway::behind_proxy(&settings).await;
        let bytes = pattern(4 * MIB);
        gateway.put_object("f", bytes.clone()).await;
        let mut ftp = gateway.login().await;
        proxy.set_latency(latency);
        let started = Instant::now();
        assert!(ftp.fetch("RETR f").await.0 == bytes);
        seconds.push(started.elapsed().as_secs_f64());
    }
    // 16 requests of 200 ms, one after another or four at a time
    let ratio = seconds[0] / seconds[1];
    assert!(ratio > 2.0, "{seconds:?}: {ratio:.1} times as fast");
}

#[tokio::test]
async fn many_slow_downloads_stay_within_the_budget_and_all_come_to_an_end() {
    let budget = 4 * MIB as u64;
    let gateway = TestGateway::with(&[
        SMALL_CHUNKS[0],
        SMALL_CHUNKS[1],
        "DOWNLOAD__MEMORY_BUDGET=4MiB",
        "SESSIONS__MAX_PER_IP=100",
        "PASSIVE__ACCEPT_TIMEOUT=20s",
    ])
    .await;
    let bytes = pattern(12 * MIB);
    gateway.put_object("f", bytes.clone()).await;
    let downloads = (0..50).map(|_| async {
        let mut ftp = gateway.login().await;
        let mut data = ftp.data().await;
        assert_eq!(ftp.command("RETR f").await.code, 150);
        let (mut at, mut part) = (0, vec![0; 128 * KIB]);
        loop {
            let read = data.read(&mut part).await.expect("data");
            if read == 0 {
                break;
            }
            assert!(part[..read] == bytes[at..at + read], "at {at}");
            at += read;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        assert_eq!(at, bytes.len());
        assert_eq!(ftp.reply().await.code, 226);
    });
    let watched = async {
        let mut peak = 0;
        loop {
            peak = gateway.gateway.store().read_ahead_bytes().max(peak);
            assert!(peak <= budget, "{peak} bytes read ahead");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        _ = futures::future::join_all(downloads) => {}
        () = watched => {}
    }
    assert_eq!(gateway.gateway.store().read_ahead_bytes(), 0);
}

#[tokio::test]
async fn a_client_that_takes_nothing_frees_what_was_read_ahead() {
    let gateway = TestGateway::with(&["DOWNLOAD__STALL_TIMEOUT=500ms"]).await;
    gateway.put_object("f", pattern(64 * MIB)).await;
    let mut ftp = gateway.login().await;
    let data = ftp.data().await;
    assert_eq!(ftp.command("RETR f").await.code, 150);
    assert!(gateway.gateway.store().read_ahead_bytes() > 0);
    assert_eq!(ftp.reply().await.code, 426);
    assert_eq!(gateway.gateway.store().read_ahead_bytes(), 0);
    drop(data);
}

#[tokio::test]
async fn an_abort_is_answered_while_the_store_is_silent() {
    let (gateway, proxy) = TestGateway::behind_proxy(&SMALL_CHUNKS).await;
    gateway.put_object("f", pattern(16 * MIB)).await;
    let mut ftp = gateway.login().await;
    let mut data = ftp.data().await;
    assert_eq!(ftp.command("RETR f").await.code, 150);
    data.read_u8().await.expect("the first byte");
    proxy.set_latency(Duration::from_secs(60));
    // the client takes all there is, so that the gateway waits for the store
    let draining =
        tokio::spawn(async move { tokio::io::copy(&mut data, &mut tokio::io::sink()).await });
    let store = gateway.gateway.store();
    let mut moved = String::new();
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = ftp.command("STAT").await.text;
        if now == moved {
            break;
        }
        moved = now;
    }
    let asked = Instant::now();
    assert_eq!(ftp.command("ABOR").await.code, 426);
    assert_eq!(ftp.reply().await.code, 226);
    assert!(asked.elapsed() < Duration::from_secs(5));
    assert_eq!(store.read_ahead_bytes(), 0);
    assert!(draining.await.expect("no panic").is_err(), "a reset");
}

#[tokio::test]
async fn a_client_that_takes_nothing_gives_back_what_http_holds_and_gets_the_whole_file_later() {
    // what HTTP holds of one body is more than half of it
    let gateway = TestGateway::with(&["DOWNLOAD__MEMORY_BUDGET=2MiB"]).await;
    let bytes = pattern(24 * MIB);
    gateway.put_object("f", bytes.clone()).await;
    let mut slow = gateway.login().await;
    let mut data = slow.data().await;
    assert_eq!(slow.command("RETR f").await.code, 150);
    let store = gateway.gateway.store();
    eventually("it has its share", || async {
        store.read_ahead_bytes() > 0
    })
    .await;
    eventually("it has given it back", || async {
        store.read_ahead_bytes() == 0
    })
    .await;
    // others are as fast as ever
    let mut swift = gateway.login().await;
    let (fetched, reply) = swift.fetch("RETR f").await;
    assert_eq!(reply.code, 226, "{reply:?}");
    assert!(fetched == bytes);
    let mut fetched = Vec::new();
    data.read_to_end(&mut fetched).await.expect("all of it");
    assert!(fetched == bytes);
    assert_eq!(slow.reply().await.code, 226);
    assert_eq!(store.read_ahead_bytes(), 0);
}

#[tokio::test]
async fn without_any_memory_a_download_comes_in_small_ranges() {
    let settings = ["DOWNLOAD__MEMORY_BUDGET=2MiB", "SESSIONS__MAX_PER_IP=10"];
    let (gateway, proxy) = TestGateway::behind_proxy(&settings).await;
    let bytes = pattern(24 * MIB);
    gateway.put_object("f", bytes.clone()).await;
    // takes the share that there is
    let mut first = gateway.login().await;
    let _data = first.data().await;
    assert_eq!(first.command("RETR f").await.code, 150);
    eventually("it has its share", || async {
        gateway.gateway.store().read_ahead_bytes() > 0
    })
    .await;
    proxy.take_requests();
    let mut second = gateway.login().await;
    let (fetched, reply) = second.fetch("RETR f").await;
    assert_eq!(reply.code, 226, "{reply:?}");
    assert!(fetched == bytes);
    let ranges = gets(&proxy.take_requests());
    assert!(ranges > 3, "{ranges} requests");
}

/// Downloads under TLS that have begun, and whose clients have read nothing; each goes on as `client` says, which is given its size, too.
///
/// The last bytes of a file are rustls's for a while, when the kernel's queue is full. How much that takes nobody knows, so there are files of
/// many sizes: the beginnings of what is returned.
async fn slow_downloads<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
    client: impl Fn(usize, Ftp, Wire) -> F,
) -> (TestGateway, Vec<u8>, JoinSet<T>) {
    let authority = Authority::new();
    let many = ["SESSIONS__MAX_PER_IP=200", "PASSIVE__ACCEPT_TIMEOUT=30s"];
    let gateway = TestGateway::with_tls(&authority, &many).await;
    let tls = authority.client();
    let (step, count) = (48 * KIB, 100);
    let bytes = pattern(count * step);
    let mut downloads = JoinSet::new();
    for number in 1..=count {
        let size = number * step;
        let name = format!("f{size}");
        gateway.put_object(&name, bytes[..size].to_vec()).await;
        let ftp = gateway.connect().await.secure(&tls).await;
        let mut ftp = ftp.expect("a handshake");
        ftp.login("demo", &gateway.password).await;
        ftp.protect(&tls).await;
        let socket = ftp.data().await;
        // what is not read stays at the gateway
        let _ = socket2::SockRef::from(&socket).set_recv_buffer_size(16 * KIB);
        assert_eq!(ftp.command(&format!("RETR {name}")).await.code, 150);
        let data = ftp.wrap(socket).await.expect("a handshake");
        downloads.spawn(client(size, ftp, data));
    }
    (gateway, bytes, downloads)
}

#[tokio::test]
async fn a_client_under_tls_may_pause_at_the_end_of_a_file_as_long_as_before_it() {
    let (_gateway, bytes, mut downloads) = slow_downloads(|size, mut ftp, mut data| async move {
        tokio::time::sleep(Duration::from_secs(7)).await;
        let mut fetched = Vec::new();
        let read = data.read_to_end(&mut fetched).await;
        drop(data);
        (size, fetched, read.is_ok(), ftp.reply().await)
    })
    .await;
    while let Some(download) = downloads.join_next().await {
        let (size, fetched, is_whole, reply) = download.expect("no panic");
        assert!(
            is_whole && reply.code == 226,
            "{size}: {} came, {reply:?}",
            fetched.len()
        );
        assert!(fetched == bytes[..size], "{size}");
    }
}

#[tokio::test]
async fn an_abort_ends_a_download_whose_last_bytes_the_client_does_not_take() {
    let (_gateway, _, mut downloads) = slow_downloads(|size, mut ftp, data| async move {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let since = Instant::now();
        let reply = ftp.command("ABOR").await;
        assert!(matches!(reply.code, 226 | 426), "{size}: {reply:?}");
        assert!(matches!(ftp.reply().await.code, 225 | 226), "{size}");
        drop(data);
        since.elapsed()
    })
    .await;
    while let Some(download) = downloads.join_next().await {
        let took = download.expect("no panic");
        assert!(took < Duration::from_secs(4), "{took:?}");
    }
}
