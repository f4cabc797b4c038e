//! The log's lines: what stands in them, and what happens when nobody reads them.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::http::metric;
use crate::support::{Ftp, users};

/// The program, whose standard output is read only when a scenario says so.
struct Unread {
    child: Child,
    output: BufReader<ChildStdout>,
    address: SocketAddr,
    admin: SocketAddr,
    _directory: TempDir,
}

static NEXT_PORT: AtomicU16 = AtomicU16::new(17_000);

impl Unread {
    fn start(format: &str) -> Self {
        // another program may have one of the ports: a few more tries
        let started = (0..20).find_map(|_| Self::try_start(format));
        started.expect("it starts")
    }

    fn try_start(format: &str) -> Option<Self> {
        let directory = tempfile::tempdir().expect("a directory");
        let port = NEXT_PORT.fetch_add(4, Ordering::Relaxed);
        let mut child = Command::new(env!("CARGO_BIN_EXE_cosgate"))
            .env_clear()
            .env("COSGATE_LISTEN", "127.0.0.1:0")
            .env("COSGATE_ADMIN__LISTEN", "127.0.0.1:0")
            .env("COSGATE_PASSIVE__PORTS", format!("{port}-{}", port + 3))
            .env("COSGATE_LOG__FORMAT", format)
            .env("COSGATE_LOG__LEVEL", "debug")
            .env("COSGATE_USERS", users(&["name: u"]))
            .current_dir(directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut output = BufReader::new(child.stdout.take().expect("piped"));
        let mut lines = output.by_ref().lines().map_while(Result::ok);
        let Some(line) = lines.find(|line| line.contains("is serving")) else {
            let _ = child.wait();
            return None;
        };
        let mut addresses = line.split("127.0.0.1:").skip(1).map(|rest| {
            let digits = rest.split(|c: char| !c.is_ascii_digit()).next();
            let port = digits.expect("digits").parse().expect("a port");
            SocketAddr::from(([127, 0, 0, 1], port))
        });
        Some(Unread {
            child,
            output,
            address: addresses.next().expect("the control port"),
            admin: addresses.next().expect("the admin port"),
            _directory: directory,
        })
    }

    async fn dropped(&self) -> f64 {
        metric(self.admin, "cosgate_log_lines_dropped_total").await
    }

    fn signal(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
    }

    /// Reads the rest, and ends the program.
    fn rest(mut self) -> String {
        self.signal();
        let mut text = String::new();
        self.output.read_to_string(&mut text).expect("UTF-8");
        assert!(self.child.wait().expect("it ends").success());
        text
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Commands until log lines are dropped; each of them leaves two lines of more than 100 bytes.
async fn fill(program: &Unread, ftp: &mut Ftp) {
    const BATCH: usize = 500;
    let deadline = Instant::now() + Duration::from_secs(100);
    while program.dropped().await == 0.0 {
        assert!(Instant::now() < deadline, "nothing is dropped");
        for _ in 0..BATCH {
            ftp.send(&format!("NOOP {}", "x".repeat(3000))).await;
            assert_eq!(ftp.reply().await.code, 200);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_nobody_reads_stops_neither_transfers_nor_the_end() {
    let mut program = Unread::start("json");
    let mut ftp = Ftp::connect(program.address).await;
    ftp.login("u", "secret").await;
    fill(&program, &mut ftp).await;
    assert_eq!(ftp.store("STOR f", b"hello").await.code, 226);
    assert_eq!(ftp.fetch("RETR f").await.0, b"hello");
    program.signal();
    let mut ended = || program.child.try_wait().expect("it is a child");
    let deadline = Instant::now() + Duration::from_secs(60);
    while ended().is_none() {
        assert!(Instant::now() < deadline, "it does not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A line that says what is missing is missing itself there, and must not be the reason for another one.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_whose_reader_has_gone_is_no_endless_loop() {
    let mut program = Unread::start("json");
    let nothing = std::fs::File::open("/dev/null").expect("it is there");
    let gone = ChildStdout::from(std::os::fd::OwnedFd::from(nothing));
    drop(std::mem::replace(&mut program.output, BufReader::new(gone)));
    let mut ftp = Ftp::connect(program.address).await;
    ftp.login("u", "secret").await;
    assert_eq!(ftp.store("STOR f", b"hello").await.code, 226);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = program.dropped().await;
    assert!(before > 0.0, "the lines are lost");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let lost = program.dropped().await - before;
    assert!(lost < 100.0, "{lost} lines of an idle program");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_says_how_many_lines_are_missing() {
    let program = Unread::start("json");
    let mut ftp = Ftp::connect(program.address).await;
    ftp.login("u", "secret").await;
    fill(&program, &mut ftp).await;
    let dropped = program.dropped().await;
    drop(ftp);
    let text = tokio::task::spawn_blocking(move || program.rest());
    let text = text.await.expect("no panic");
    let last: serde_json::Value =
        serde_json::from_str(text.lines().last().expect("lines")).expect("whole lines");
    assert_eq!(last["event"], "log_lines_dropped", "{last}");
    assert!(
        last["lines"].as_f64().expect("a number") >= dropped,
        "{last}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn control_characters_of_clients_do_not_reach_who_reads_the_log() {
    for format in ["text", "json"] {
        let program = Unread::start(format);
        let mut ftp = Ftp::connect(program.address).await;
        ftp.command("USER \x1b[31mred\x1b]0;title\x07").await;
        assert_eq!(ftp.command("PASS x").await.code, 530);
        ftp.command("NOOP \x1b[2J\u{9b}2J").await;
        drop(ftp);
        let text = tokio::task::spawn_blocking(move || program.rest());
        let text = text.await.expect("no panic");
        assert!(
            text.contains("[31mred"),
            "{format}: it is not logged\n{text}"
        );
        let control = |c: &char| c.is_control() && *c != '\n';
        assert_eq!(text.chars().find(control), None, "{format}: {text:?}");
    }
}

/// The names in an object, each as often as it stands there.
struct Names(Vec<String>);

impl<'de> serde::Deserialize<'de> for Names {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Names;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Names, A::Error> {
                let mut names = Vec::new();
                while let Some((name, _)) = map.next_entry::<String, serde::de::IgnoredAny>()? {
                    names.push(name);
                }
                Ok(Names(names))
            }
        }
        from.deserialize_map(Visitor)
    }
}

/// Holds when no name stands twice in a line.
#[track_caller]
pub fn expect_no_name_twice<'a>(lines: impl IntoIterator<Item = &'a str>) {
    for line in lines {
        let Ok(Names(mut names)) = serde_json::from_str(line) else {
            panic!("no object: {line}");
        };
        names.sort();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count, "a name stands there twice: {line}");
    }
}
