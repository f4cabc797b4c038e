//! Directories of very many entries.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::Uri;
use axum::response::{IntoResponse, Response};
use tokio::io::AsyncReadExt;
use tokio::time::{sleep, timeout};

use super::Attacked;

/// Entries of the directory; `HOSTILE_ENTRIES=1000000` for a million.
static ENTRIES: LazyLock<u64> = LazyLock::new(|| {
    let set = std::env::var("HOSTILE_ENTRIES");
    set.map_or(200_000, |set| set.parse().expect("a number"))
});

const PAGE: u64 = 1000;

/// A store that has nothing but one large directory.
struct LargeDirectory {
    address: SocketAddr,
    pages: Arc<AtomicU64>,
}

impl LargeDirectory {
    async fn start() -> Self {
        let pages = Arc::new(AtomicU64::new(0));
        let app = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&pages));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a free port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move { axum::serve(listener, app).await });
        LargeDirectory { address, pages }
    }

    /// Pages that have been asked for.
    fn pages(&self) -> u64 {
        self.pages.load(Ordering::SeqCst)
    }
}

/// One page, from the number in the token on.
async fn answer(State(pages): State<Arc<AtomicU64>>, uri: Uri) -> Response {
    let query = uri.query().unwrap_or_default();
    let parameter = |name: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value.to_owned())
    };
    if !query.contains("list-type=2") {
        return axum::http::StatusCode::NOT_FOUND.into_response();
    }
    let most = parameter("max-keys").and_then(|keys| keys.parse().ok());
    let most: u64 = most.unwrap_or(PAGE).min(PAGE);
    let from = parameter("continuation-token").and_then(|token| token.parse().ok());
    let from: u64 = from.unwrap_or(0);
    let prefix = parameter("prefix").unwrap_or_default();
    if prefix.contains("warm") || prefix.ends_with("none%2F") {
        return xml("<IsTruncated>false</IsTruncated><KeyCount>0</KeyCount>");
    }
    pages.fetch_add(1, Ordering::SeqCst);
    let to = (from + most).min(*ENTRIES);
    let mut page = format!("<KeyCount>{}</KeyCount>", to - from);
    let prefix = prefix.replace("%2F", "/");
    for number in from..to {
        page += &format!(
            "<Contents><Key>{prefix}entry-{number:07}</Key><LastModified>2020-01-01T00:00:00.000Z</LastModified>\
             <ETag>\"0\"</ETag><Size>{number}</Size><StorageClass>STANDARD</StorageClass></Contents>"
        );
    }
    page += &match to < *ENTRIES {
        true => format!(
            "<IsTruncated>true</IsTruncated><NextContinuationToken>{to}</NextContinuationToken>"
        ),
        false => "<IsTruncated>false</IsTruncated>".to_owned(),
    };
    xml(&page)
}

fn xml(content: &str) -> Response {
    let body = format!(
        "<?xml version=\"1.0\"?><ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{content}</ListBucketResult>"
    );
    ([("content-type", "application/xml")], body).into_response()
}

async fn start(store: &LargeDirectory) -> Attacked {
    let endpoint = format!("http://{}", store.address);
    Attacked::with_store(&[
        ("STORAGE__PROVIDER", "s3"),
        ("STORAGE__ENDPOINT", &endpoint),
        ("STORAGE__BUCKET", "bucket"),
        ("STORAGE__ACCESS_KEY_ID", "key"),
        ("STORAGE__SECRET_ACCESS_KEY", "secret"),
        ("UPLOAD__SWEEP", "off"),
    ])
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_huge_directory_is_listed_within_bounded_memory() {
    let store = LargeDirectory::start().await;
    let attacked = start(&store).await;
    let mut ftp = attacked.login().await;
    let mut data = ftp.data().await;
    let begun = std::time::Instant::now();
    assert_eq!(ftp.command("NLST").await.code, 150);
    let (mut lines, mut most, mut looked) = (0_u64, 0.0_f64, 0);
    let mut chunk = vec![0; 64 * 1024];
    loop {
        let read = timeout(Duration::from_secs(60), data.read(&mut chunk)).await;
        let read = read.expect("it goes on").expect("no reset");
        if read == 0 {
            break;
        }
        lines += chunk[..read].iter().filter(|byte| **byte == b'\n').count() as u64;
        if lines / 20_000 > looked {
            looked = lines / 20_000;
            most = most.max(attacked.grown_kib().await);
        }
    }
    assert_eq!(lines, *ENTRIES);
    let reply = ftp.reply().await;
    assert!(
        reply.text.contains(&format!("{} entries", *ENTRIES)),
        "{reply:?}"
    );
    println!("{:?}, at most {most} KiB more", begun.elapsed());
    assert!(looked >= 9 && most < 32.0 * 1024.0, "{most} KiB more");
    drop((ftp, data));
    attacked.recovers_without_store().await;
}

#[tokio::test]
async fn a_listing_that_nobody_reads_or_that_is_cut_asks_the_store_for_no_more_pages() {
    let store = LargeDirectory::start().await;
    let attacked = start(&store).await;
    let mut held = Vec::new();
    for last in 1..=10 {
        let mut ftp = attacked.login_from(last, "u").await;
        let data = ftp.data().await;
        let line = ["MLSD", "LIST"][usize::from(last % 2)];
        assert_eq!(ftp.command(line).await.code, 150);
        held.push((ftp, data));
    }
    // what the sockets' buffers take, and then nothing: three looks, since a busy machine may have nothing to show for 2 s
    let (mut before, mut quiet) = (0, 0);
    while quiet < 3 {
        quiet = if store.pages() > before { 0 } else { quiet + 1 };
        before = store.pages();
        sleep(Duration::from_secs(2)).await;
    }
    assert!(before < 10 * 300, "{before} pages");
    assert!(attacked.grown_kib().await < 48.0 * 1024.0);
    for (number, (mut ftp, data)) in held.into_iter().enumerate() {
        match number % 3 {
            0 => {
                assert_eq!(ftp.command("ABOR").await.code, 426);
                assert_eq!(ftp.reply().await.code, 226);
            }
            1 => {
                data.set_zero_linger().expect("a socket");
                drop(data);
                assert_eq!(ftp.reply().await.code, 426);
            }
            _ => drop((ftp, data)),
        }
    }
    attacked.recovers_without_store().await;
    let after = store.pages();
    assert!(after <= before + 20, "{after} pages after {before}");
}
