//! What the kernel holds of transfers that stand still.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::support::{TestGateway, pattern};

const MIB: usize = 1024 * 1024;

/// Of 24 MiB for each direction the kernel's queues have 6, 256 KiB each.
const TRANSFERS: usize = 24;

const SETTINGS: [&str; 5] = [
    "UPLOAD__MEMORY_BUDGET=24MiB",
    "UPLOAD__MIN_PART_SIZE=5MiB",
    "UPLOAD__MAX_FILE_SIZE=1GiB",
    "DOWNLOAD__MEMORY_BUDGET=24MiB",
    "SESSIONS__MAX_PER_IP=200",
];

/// The download that began first leaves as much unsent as the kernel gives it, 4 MiB by default and more on some machines, and the ones that
/// followed what they shared then: 6 MiB, halved, by three, and so on.
const MOST_UNSENT: usize = 8 * MIB + 6 * 4 * MIB;

/// Of what is received the kernel counts all memory, which is about twice the bytes.
const MOST_UNREAD: usize = 24 * MIB;

/// Bytes that the kernel holds of connections from these local ports: not yet sent or acknowledged, not yet read.
fn held(ports: &HashSet<u16>) -> (usize, usize) {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("this is Linux");
    let (mut unsent, mut unread) = (0, 0);
    for line in table.lines().skip(1) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let port = fields[1].split_once(':').expect("an address").1;
        if ports.contains(&u16::from_str_radix(port, 16).expect("a port")) {
            let (sent, received) = fields[4].split_once(':').expect("two queues");
            unsent += usize::from_str_radix(sent, 16).expect("bytes");
            unread += usize::from_str_radix(received, 16).expect("bytes");
        }
    }
    (unsent, unread)
}

/// The queues when they have stopped growing.
async fn held_at_rest(ports: &HashSet<u16>) -> (usize, usize) {
    let mut before = held(ports);
    loop {
        sleep(Duration::from_millis(500)).await;
        let now = held(ports);
        if now == before {
            return now;
        }
        before = now;
    }
}

#[tokio::test]
async fn uploads_that_wait_for_memory_leave_little_in_the_kernel_and_lose_nothing() {
    let (gateway, proxy) = TestGateway::behind_proxy(&SETTINGS).await;
    let content = Arc::new(pattern(14 * MIB));
    // all have sent a part, fast, when the store stops
    let fast = Arc::new(Barrier::new(TRANSFERS + 1));
    let (mut uploads, mut ports) = (JoinSet::new(), HashSet::new());
    for number in 0..TRANSFERS {
        let mut ftp = gateway.login().await;
        let mut data = ftp.data().await;
        ports.insert(data.peer_addr().expect("connected").port());
        let reply = ftp.command(&format!("STOR f{number}")).await;
        assert_eq!(reply.code, 150, "{reply:?}");
        let (content, fast) = (Arc::clone(&content), Arc::clone(&fast));
        uploads.spawn(async move {
            // a part has some KiB more than it must have
            let (first, rest) = content.split_at(5 * MIB + 64 * 1024);
            data.write_all(first).await.expect("sends");
            fast.wait().await;
            fast.wait().await;
            data.write_all(rest).await.expect("sends");
            drop(data);
            (number, ftp.reply().await)
        });
    }
    fast.wait().await;
    let hold = proxy.hold_if(|request| request.starts_with("PUT"));
    fast.wait().await;
    let (_, unread) = held_at_rest(&ports).await;
    assert!(unread > TRANSFERS * 64 * 1024, "{unread} bytes wait");
    assert!(unread < MOST_UNREAD, "{unread} bytes wait");
    drop(hold);
    while let Some(done) = uploads.join_next().await {
        let (number, reply) = done.expect("no panic");
        assert_eq!(reply.code, 226, "f{number}: {reply:?}");
        let stored = gateway.object(&format!("f{number}")).await;
        assert!(stored.as_ref() == Some(&*content), "f{number}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn downloads_that_nobody_takes_leave_little_in_the_kernel_and_lose_nothing() {
    let gateway = TestGateway::with(&SETTINGS).await;
    let content = pattern(20 * MIB);
    let mut ftp = gateway.login().await;
    assert_eq!(ftp.store("STOR f", &content).await.code, 226);
    let (mut downloads, mut ports) = (Vec::new(), HashSet::new());
    for _ in 0..TRANSFERS {
        let mut ftp = gateway.login().await;
        let mut data = ftp.data().await;
        ports.insert(data.peer_addr().expect("connected").port());
        assert_eq!(ftp.command("RETR f").await.code, 150);
        let mut taken = vec![0; 6 * MIB];
        data.read_exact(&mut taken).await.expect("comes");
        downloads.push((ftp, data, taken));
    }
    let (unsent, _) = held_at_rest(&ports).await;
    assert!(unsent > TRANSFERS * 64 * 1024, "{unsent} bytes wait");
    assert!(unsent < MOST_UNSENT, "{unsent} bytes wait");
    for (mut ftp, mut data, mut taken) in downloads {
        data.read_to_end(&mut taken).await.expect("comes");
        assert!(taken == content, "{} bytes", taken.len());
        assert_eq!(ftp.reply().await.code, 226);
    }
    gateway.stop().await;
}
