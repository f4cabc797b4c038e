//! The embedded store on a disk that fills up: the program on a tmpfs of its own, in a mount namespace of its own.
//!
//! Needs user namespaces or root. Where neither may mount, there is nothing to fill, and the scenario says so and ends.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::support::http::get;
use crate::support::{Ftp, eventually, pattern, users};

const MIB: usize = 1 << 20;

static NEXT_PORT: AtomicU16 = AtomicU16::new(17_800);

/// A file system that goes away with the program.
struct Small {
    child: Child,
    address: SocketAddr,
    admin: SocketAddr,
    /// The lines with which a program says that it serves.
    serving: mpsc::Receiver<String>,
    directory: TempDir,
}

/// Control and admin port.
fn addresses(serving: &str) -> (SocketAddr, SocketAddr) {
    let mut addresses = serving.split("127.0.0.1:").skip(1).map(|rest| {
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next();
        let port = digits.expect("digits").parse().expect("a port");
        SocketAddr::from(([127, 0, 0, 1], port))
    });
    let mut next = || addresses.next().expect("an address");
    (next(), next())
}

impl Small {
    /// None where this user may not mount.
    fn start() -> Option<Self> {
        for namespaces in [&["--user", "--map-root-user", "--mount"][..], &["--mount"]] {
            let mut may = Command::new("unshare");
            may.args(namespaces)
                .args(["mount", "-t", "tmpfs", "tmpfs", "/mnt"]);
            let may = may.stderr(Stdio::null()).status();
            if may.is_ok_and(|status| status.success()) {
                // another program may have one of the ports: a few more tries
                let started = (0..20).find_map(|_| Self::try_start(namespaces));
                return Some(started.expect("it starts"));
            }
        }
        None
    }

    fn try_start(namespaces: &[&str]) -> Option<Self> {
        let directory = tempfile::tempdir().expect("a directory");
        let port = NEXT_PORT.fetch_add(4, Ordering::Relaxed);
        // after a SIGKILL the next one begins
        let script = "mount -t tmpfs -o size=32m tmpfs \"$1\" || exit; \"$0\"; while [ $? = 137 ]; do \"$0\"; done";
        let mut child = Command::new("unshare")
            .args(namespaces)
            .args(["/bin/sh", "-c", script, env!("CARGO_BIN_EXE_cosgate")])
            .arg(directory.path())
            .env("COSGATE_LISTEN", "127.0.0.1:0")
            .env("COSGATE_ADMIN__LISTEN", "127.0.0.1:0")
            .env("COSGATE_PASSIVE__PORTS", format!("{port}-{}", port + 3))
            .env("COSGATE_USERS", users(&["name: u"]))
            .env("COSGATE_STORAGE__DATA_DIR", directory.path().join("data"))
            .env("COSGATE_STORAGE__RETRY__MAX_BACKOFF", "50ms")
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let (sender, serving) = mpsc::channel();
        // what nobody reads would stand in the pipe
        std::thread::spawn(move || {
            let lines = lines.map_while(Result::ok);
            for line in lines.filter(|line| line.contains("is serving")) {
                let _ = sender.send(line);
            }
        });
        let Ok(line) = serving.recv() else {
            let _ = child.wait();
            return None;
        };
        let (address, admin) = addresses(&line);
        Some(Small {
            child,
            address,
            admin,
            serving,
            directory,
        })
    }

    /// The program, which the shell has started.
    fn program(&self) -> Option<Pid> {
        let shell = self.child.id();
        let children = std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children"));
        Pid::from_raw(children.ok()?.trim().parse().ok()?)
    }

    /// SIGKILL, and the next start on the same disk.
    fn kill_and_start(&mut self) {
        let program = self.program().expect("it runs");
        kill_process(program, Signal::KILL).expect("it runs");
        let line = self.serving.recv_timeout(Duration::from_secs(60));
        (self.address, self.admin) = addresses(&line.expect("it starts again"));
    }

    async fn login(&self) -> Ftp {
        let mut ftp = Ftp::connect(self.address).await;
        ftp.login("u", "secret").await;
        ftp
    }

    async fn ready(&self) -> String {
        let answer = get(self.admin, "/readyz", &[]).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body
    }

    /// A path as the program sees it.
    fn inside(&self, name: &str) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.child.id()));
        let directory = self.directory.path();
        root.join(directory.strip_prefix("/").expect("absolute"))
            .join(name)
    }

    /// Takes what is left of the disk, to its last block.
    fn fill(&self) {
        let mut junk = File::create(self.inside("junk")).expect("created");
        for size in [65_536, 512] {
            while junk.write_all(&vec![b'x'; size]).is_ok() {}
        }
    }

    fn empty(&self) {
        std::fs::remove_file(self.inside("junk")).expect("removed");
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let program = self.program();
        // first, so that it starts no other
        let _ = self.child.kill();
        if let Some(program) = program {
            let _ = kill_process(program, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

const NOTE: &str =
    "note: the disk of the embedded store is full: uploads are refused until there is space\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_takes_no_uploads_and_all_is_well_when_there_is_space() {
    let Some(small) = Small::start() else {
        eprintln!("no right to mount a file system: nothing was tried");
        return;
    };
    let mut ftp = small.login().await;
    let (big, little) = (pattern(12 * MIB), pattern(5000));
    assert_eq!(ftp.store("STOR kept", &big).await.code, 226);
    assert_eq!(ftp.store("STOR little", &little).await.code, 226);
    assert_eq!(ftp.store("STOR d/last", &little).await.code, 226);
    assert_eq!(small.ready().await, "ready\n");

    // its own uploads fill it: the next is refused, the older file stays, and what arrived of it leaves nothing
    let full = ftp.store("STOR kept", &pattern(24 * MIB)).await;
    assert_eq!(full.code, 452, "{full:?}");
    assert_eq!(ftp.fetch("RETR kept").await.0, big);
    eventually("the refused upload's parts are gone", || async {
        small.ready().await == "ready\n"
    })
    .await;
    assert_eq!(ftp.store("STOR other", &pattern(MIB)).await.code, 226);

    // other programs take everything
    small.fill();
    assert_eq!(small.ready().await, format!("ready\n{NOTE}"));
    for (line, bytes) in [
        ("STOR little", &little[..100]),
        ("STOR new", &pattern(MIB)[..]),
        ("APPE little", b"more"),
    ] {
        let reply = ftp.store(line, bytes).await;
        assert_eq!(reply.code, 452, "{line}: {reply:?}");
    }
    let reply = ftp.command("MKD made").await;
    assert!(matches!(reply.code, 450..=452), "{reply:?}");
    assert_eq!(ftp.fetch("RETR kept").await.0, big);
    assert_eq!(ftp.fetch("RETR little").await.0, little);
    assert_eq!(
        ftp.listing("NLST").await,
        "d\r\nkept\r\nlittle\r\nother\r\n"
    );

    // the index may not even find a block for a deletion; the file then stays as it was
    let reply = ftp.command("DELE little").await;
    assert!(matches!(reply.code, 250 | 450..=452), "{reply:?}");
    let is_there = ftp.command("SIZE little").await.code == 213;
    assert_eq!(is_there, reply.code != 250, "{reply:?}");

    small.empty();
    assert_eq!(small.ready().await, "ready\n");
    assert_eq!(ftp.store("STOR little", &little[..77]).await.code, 226);
    assert_eq!(ftp.fetch("RETR little").await.0, &little[..77]);
    assert_eq!(ftp.fetch("RETR kept").await.0, big);
    assert_eq!(ftp.command("DELE d/last").await.code, 250);
    assert_eq!(ftp.command("RNFR kept").await.code, 350);
    assert_eq!(ftp.command("RNTO moved").await.code, 250);
    assert_eq!(ftp.fetch("RETR moved").await.0, big);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_changes_on_a_full_disk_leave_each_file_as_its_reply_says() {
    let Some(small) = Small::start() else {
        eprintln!("no right to mount a file system: nothing was tried");
        return;
    };
    let mut ftp = small.login().await;
    let body = |number: usize| vec![number as u8; 9000];
    for number in 0..60 {
        let reply = ftp.store(&format!("STOR f{number}"), &body(number)).await;
        assert_eq!(reply.code, 226);
    }
    let mut there = [true; 60];
    for round in 0..3 {
        small.fill();
        for (number, is_there) in there.iter_mut().enumerate().skip(round * 20).take(20) {
            let reply = ftp.command(&format!("DELE f{number}")).await;
            assert!(matches!(reply.code, 250 | 450..=452), "{reply:?}");
            *is_there = reply.code != 250;
        }
        for (number, is_there) in there.iter().enumerate() {
            let (bytes, reply) = ftp.fetch(&format!("RETR f{number}")).await;
            let expected = if *is_there { 226 } else { 550 };
            assert_eq!(reply.code, expected, "f{number}: {reply:?}");
            assert!(!is_there || bytes == body(number), "f{number}");
        }
        small.empty();
        let name = format!("STOR again{round}");
        assert_eq!(ftp.store(&name, &body(round)).await.code, 226);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_killed_on_a_full_disk_starts_again_with_all_files() {
    let Some(mut small) = Small::start() else {
        eprintln!("no right to mount a file system: nothing was tried");
        return;
    };
    let mut ftp = small.login().await;
    let (big, little) = (pattern(12 * MIB), pattern(5000));
    assert_eq!(ftp.store("STOR big", &big).await.code, 226);
    for number in 0..50 {
        let reply = ftp.store(&format!("STOR f{number}"), &little).await;
        assert_eq!(reply.code, 226);
    }
    for round in 0..3 {
        small.fill();
        let full = ftp.store("STOR new", &pattern(MIB)).await;
        assert_eq!(full.code, 452, "{full:?}");
        // a change for which there may or may not be a block
        let deleted = ftp.command(&format!("DELE f{round}")).await;
        assert!(matches!(deleted.code, 250 | 450..=452), "{deleted:?}");
        let mut unfinished = ftp.data().await;
        assert_eq!(ftp.command("STOR big").await.code, 150);
        tokio::io::AsyncWriteExt::write_all(&mut unfinished, &little)
            .await
            .expect("writes");
        small.kill_and_start();

        ftp = small.login().await;
        assert_eq!(small.ready().await, format!("ready\n{NOTE}"));
        assert_eq!(ftp.fetch("RETR big").await.0, big);
        for number in round + 1..50 {
            let (bytes, reply) = ftp.fetch(&format!("RETR f{number}")).await;
            assert!(bytes == little, "f{number}: {reply:?}");
        }
        let is_there = ftp.command(&format!("SIZE f{round}")).await.code == 213;
        assert_eq!(is_there, deleted.code != 250, "{deleted:?}");
        assert_eq!(ftp.command("SIZE new").await.code, 550);
        small.empty();
        assert_eq!(ftp.store("STOR new", &pattern(MIB)).await.code, 226);
        assert_eq!(ftp.command("DELE new").await.code, 250);
        ftp.command(&format!("DELE f{round}")).await;
    }
}
