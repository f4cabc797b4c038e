//! Slow clients and a small memory budget: whoever is slow is slow alone.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::configuration::Program;
use crate::support::{Ftp, TestGateway, eventually, login, pattern, users};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Room for two parts and a little, and parts that grow with the file.
const SMALL_BUDGET: [&str; 4] = [
    "UPLOAD__MEMORY_BUDGET=24MiB",
    "UPLOAD__MIN_PART_SIZE=6MiB",
    "UPLOAD__MAX_FILE_SIZE=80GiB",
    "SESSIONS__MAX_PER_IP=200",
];

async fn gateway(names: &[&str]) -> TestGateway {
    let names: Vec<String> = names
        .iter()
        .map(|name| format!("name: {name}, home: /"))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let names = format!("USERS={}", users(&names));
    TestGateway::with(&[&SMALL_BUDGET[..], &[names.as_str()]].concat()).await
}

/// Uploads that bring `burst` bytes as fast as they can, and then one at a time; they have begun when they hold what memory they get.
struct Slow {
    uploads: JoinSet<(Ftp, String, usize)>,
    stop: CancellationToken,
    content: Arc<Vec<u8>>,
}

impl Slow {
    async fn begin(gateway: &TestGateway, users: &[&str], each: usize, burst: usize) -> Self {
        let stop = CancellationToken::new();
        let content = Arc::new(pattern(burst + MIB));
        let mut uploads = JoinSet::new();
        for number in 0..each * users.len() {
            let user = users[number % users.len()];
            let mut ftp = login(gateway, user).await;
            let mut data = ftp.data().await;
            let name = format!("slow{number}");
            assert_eq!(ftp.command(&format!("STOR {name}")).await.code, 150);
            let (stop, content) = (stop.clone(), Arc::clone(&content));
            uploads.spawn(async move {
                let sent = trickle(&mut data, &content, burst, &stop).await;
                data.shutdown().await.expect("ends");
                let reply = ftp.reply().await;
                assert_eq!(reply.code, 226, "{name}: {reply:?}");
                (ftp, name, sent)
            });
        }
        eventually("they have what they get", || async {
            gateway.gateway.store().buffered_bytes() > 8 * MIB as u64
        })
        .await;
        Slow {
            uploads,
            stop,
            content,
        }
    }

    /// Lets all uploads end, and looks at what is stored.
    async fn end(mut self, gateway: &TestGateway) {
        self.stop.cancel();
        while let Some(done) = self.uploads.join_next().await {
            let (_ftp, name, sent) = done.expect("no panic");
            let stored = gateway.object(&name).await.expect("it is there");
            assert!(
                stored == self.content[..sent],
                "{name}: {} of {sent}",
                stored.len()
            );
        }
        assert_eq!(gateway.unfinished().await, 0);
        eventually("all memory is free", || async {
            gateway.gateway.store().buffered_bytes() == 0
        })
        .await;
    }
}

/// Returns how many bytes of `content` were sent before `stop`.
async fn trickle(
    data: &mut TcpStream,
    content: &[u8],
    burst: usize,
    stop: &CancellationToken,
) -> usize {
    data.write_all(&content[..burst]).await.expect("writes");
    for (at, byte) in content.iter().enumerate().skip(burst) {
        tokio::select! {
            () = stop.cancelled() => return at,
            () = sleep(Duration::from_millis(100)) => {}
        }
        data.write_all(&[*byte]).await.expect("writes");
    }
    content.len()
}

/// Stores a small and a large file as `user`, each within its time.
async fn others_are_served(gateway: &TestGateway, user: &str) {
    let mut ftp = login(gateway, user).await;
    for (bytes, within) in [(KIB, 10), (20 * MIB, 60), (KIB, 10)] {
        let bytes = pattern(bytes);
        let since = Instant::now();
        let reply = ftp.store("STOR other", &bytes).await;
        assert_eq!(reply.code, 226, "{} bytes: {reply:?}", bytes.len());
        let took = since.elapsed();
        assert!(
            took < Duration::from_secs(within),
            "{} bytes: {took:?}",
            bytes.len()
        );
        assert!(gateway.object("other").await == Some(bytes));
    }
}

#[tokio::test]
async fn a_user_whose_uploads_stop_short_of_a_part_keeps_nobody_else_waiting() {
    let gateway = gateway(&["slow", "other"]).await;
    let slow = Slow::begin(&gateway, &["slow"], 12, 4 * MIB).await;
    others_are_served(&gateway, "other").await;
    slow.end(&gateway).await;
    gateway.stop().await;
}

#[tokio::test]
async fn slow_uploads_of_many_users_send_what_a_part_needs_and_hold_little() {
    let gateway = gateway(&["a", "b", "c", "d", "e", "f", "other"]).await;
    let slow = Slow::begin(&gateway, &["a", "b", "c", "d", "e", "f"], 5, 5 * MIB).await;
    others_are_served(&gateway, "other").await;
    // of the same users as well
    others_are_served(&gateway, "a").await;
    slow.end(&gateway).await;
    gateway.stop().await;
}

/// What is kept of the file takes memory as well, and must not take what the rest then waits for.
#[tokio::test]
async fn a_file_is_continued_by_a_client_that_connects_late_while_others_lack_memory() {
    let gateway = gateway(&["slow", "other"]).await;
    let slow = Slow::begin(&gateway, &["slow"], 12, 4 * MIB).await;
    let content = pattern(MIB);
    let kept = content.len() - 10 * KIB;
    gateway.put_object("log", content[..kept].to_vec()).await;
    let mut ftp = login(&gateway, "other").await;
    let port = ftp.epsv().await;
    assert_eq!(ftp.command("APPE log").await.code, 150);
    sleep(Duration::from_millis(500)).await;
    let address = (gateway.address().ip(), port);
    let mut data = TcpStream::connect(address).await.expect("connects");
    data.write_all(&content[kept..]).await.expect("writes");
    data.shutdown().await.expect("ends");
    let reply = ftp.reply().await;
    assert_eq!(reply.code, 226, "{reply:?}");
    assert!(gateway.object("log").await.expect("it is there") == content);
    slow.end(&gateway).await;
    gateway.stop().await;
}

#[tokio::test]
async fn clients_that_bring_more_than_the_memory_holds_take_as_long_as_their_pace_says() {
    let gateway = gateway(&["a", "b"]).await;
    let content = Arc::new(pattern(MIB));
    let mut uploads = JoinSet::new();
    let since = Instant::now();
    // 2 s and 4 s
    for (number, pause) in (0..60).map(|number| (number, 62 + 63 * (number % 2))) {
        let mut ftp = login(&gateway, ["a", "b"][number as usize % 2]).await;
        let mut data = ftp.data().await;
        let name = format!("f{number}");
        assert_eq!(ftp.command(&format!("STOR {name}")).await.code, 150);
        let content = Arc::clone(&content);
        uploads.spawn(async move {
            for piece in content.chunks(32 * KIB) {
                sleep(Duration::from_millis(pause)).await;
                data.write_all(piece).await.expect("writes");
            }
            drop(data);
            (name, ftp.reply().await)
        });
    }
    while let Some(done) = uploads.join_next().await {
        let (name, reply) = done.expect("no panic");
        assert_eq!(reply.code, 226, "{name}: {reply:?}");
        assert!(
            gateway.object(&name).await.as_ref() == Some(&*content),
            "{name}"
        );
    }
    let took = since.elapsed();
    assert!(took < Duration::from_secs(60), "{took:?}");
    gateway.stop().await;
}

#[tokio::test]
async fn the_memory_of_many_downloads_that_nobody_takes_goes_back_to_the_kernel() {
    const DOWNLOADS: usize = 200;
    let users = users(&["name: u"]);
    // enough that each may have HTTP's buffers filled, and some read ahead
    let program = Program::start(&[
        ("COSGATE_USERS", &users),
        ("COSGATE_DOWNLOAD__MEMORY_BUDGET", "256MiB"),
        ("COSGATE_SESSIONS__MAX_PER_IP", "300"),
    ]);
    let mut ftp = Ftp::connect(program.address).await;
    ftp.login("u", "secret").await;
    assert_eq!(ftp.store("STOR f", &pattern(24 * MIB)).await.code, 226);
    assert_eq!(ftp.fetch("RETR f").await.1.code, 226);
    let before = program.resident_kib();
    let grown = || program.resident_kib().saturating_sub(before) / 1024;
    let mut downloads = Vec::new();
    for _ in 0..DOWNLOADS {
        let mut ftp = Ftp::connect(program.address).await;
        ftp.login("u", "secret").await;
        let data = ftp.data().await;
        assert_eq!(ftp.command("RETR f").await.code, 150);
        downloads.push((ftp, data));
    }
    eventually("they hold what they have read", || async { grown() > 110 }).await;
    drop(downloads);
    eventually("most of it is the kernel's again", || async {
        grown() < 64
    })
    .await;
}
