//! Passwords that are typed on a terminal: nothing of them is shown, and the terminal is left as it was.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};

use crate::support::eventually;

/// The program with a terminal of its own as standard input and standard error.
struct Terminal {
    child: Child,
    keys: File,
    /// The program's end, to look at its modes.
    line: OwnedFd,
    shown: Arc<Mutex<String>>,
}

impl Terminal {
    fn start(arguments: &[&str]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&master).expect("granted");
        unlockpt(&master).expect("unlocked");
        let name = ptsname(&master, Vec::new()).expect("a name");
        let name = name.to_str().expect("ASCII").to_owned();
        let open = || {
            let mut options = File::options();
            let file = options
                .read(true)
                .write(true)
                .open(&name)
                .expect("it opens");
            OwnedFd::from(file)
        };
        let (line, standard_input, standard_error) = (open(), open(), open());
        let child = Command::new(env!("CARGO_BIN_EXE_cosgate"))
            .args(arguments)
            .env_clear()
            .stdin(standard_input)
            .stdout(Stdio::piped())
            .stderr(standard_error)
            .spawn()
            .expect("it starts");
        let keys = File::from(master);
        let mut screen = keys.try_clone().expect("a second descriptor");
        let shown = Arc::new(Mutex::new(String::new()));
        let text = Arc::clone(&shown);
        std::thread::spawn(move || {
            let mut bytes = [0; 1024];
            // an error: nobody has the other end any more
            while let Ok(count @ 1..) = screen.read(&mut bytes) {
                let more = String::from_utf8_lossy(&bytes[..count]).into_owned();
                text.lock().expect("no panic").push_str(&more);
            }
        });
        Terminal {
            child,
            keys,
            line,
            shown,
        }
    }

    fn echoes(&self) -> bool {
        let modes = tcgetattr(&self.line).expect("a terminal").local_modes;
        modes.contains(LocalModes::ECHO)
    }

    fn shown(&self) -> String {
        self.shown.lock().expect("no panic").clone()
    }

    async fn is_asked(&self) {
        eventually("it asks for the password", || async {
            self.shown().contains("Password") && !self.echoes()
        })
        .await;
    }

    async fn has_ended(&mut self) -> Option<i32> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(ended) = self.child.try_wait().expect("it is a child") {
                return ended.code();
            }
            assert!(Instant::now() < deadline, "it does not end");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const DOCTOR: [&str; 5] = ["doctor", "--connect", "127.0.0.1:1", "--user", "alice"];

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_is_typed_is_not_shown() {
    let mut terminal = Terminal::start(&["hash-password"]);
    terminal.is_asked().await;
    terminal.keys.write_all(b"hunter2\n").expect("typed");
    assert_eq!(terminal.has_ended().await, Some(0));
    let mut hash = String::new();
    let mut output = terminal.child.stdout.take().expect("piped");
    output.read_to_string(&mut hash).expect("UTF-8");
    assert!(hash.starts_with("$argon2id$"), "{hash}");
    assert!(
        !terminal.shown().contains("hunter2"),
        "{}",
        terminal.shown()
    );
    assert!(terminal.echoes());
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_ends_the_question_the_terminal_shows_what_is_typed_again() {
    for arguments in [&["hash-password"][..], &DOCTOR] {
        for signal in [Signal::TERM, Signal::HUP, Signal::INT] {
            let mut terminal = Terminal::start(arguments);
            terminal.is_asked().await;
            kill_process(Pid::from_child(&terminal.child), signal).expect("it runs");
            assert_ne!(terminal.has_ended().await, Some(0), "{signal:?}");
            assert!(terminal.echoes(), "{arguments:?} {signal:?}");
        }
        let mut terminal = Terminal::start(arguments);
        terminal.is_asked().await;
        terminal.keys.write_all(b"hun\x03").expect("typed");
        assert_ne!(terminal.has_ended().await, Some(0));
        assert!(terminal.echoes(), "{arguments:?} and Ctrl-C");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn init_asks_a_person_for_the_store_and_its_bucket() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("cosgate.yaml");
    let mut terminal = Terminal::start(&["init", "--out", file.to_str().expect("UTF-8")]);
    for (question, answer) in [
        ("Store: cos, s3 or embedded", "bucket\n"),
        ("Write one of the three words", "cos\n"),
        ("Bucket: ", "files-1250000000\n"),
        ("Region: ", "ap-shanghai\n"),
    ] {
        eventually(question, || async { terminal.shown().contains(question) }).await;
        terminal.keys.write_all(answer.as_bytes()).expect("typed");
    }
    assert_eq!(terminal.has_ended().await, Some(0));
    let text = std::fs::read_to_string(&file).expect("UTF-8");
    for line in [
        "  provider: cos",
        "  bucket: files-1250000000",
        "  region: ap-shanghai",
    ] {
        assert!(text.lines().any(|it| it == line), "no {line:?} in\n{text}");
    }
}
