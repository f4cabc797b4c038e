//! Child processes, and what the kernel counts for them.

use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// The longest time that a child may take for one answer; a transfer of many GiB on a slow store fits.
const PATIENCE: Duration = Duration::from_secs(600);

/// The longest time that a gateway may drain after SIGTERM.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// The variable that names a file of certificates to be trusted in place of the system's.
pub const TRUSTED: &str = "SSL_CERT_FILE";

/// A process of our own that takes its orders line by line. It ends when this is dropped.
pub struct Helper {
    child: Child,
    commands: Option<ChildStdin>,
    answers: Receiver<String>,
}

impl Helper {
    /// Starts this very program in another role, in which it trusts `certificate`; returns it with its first line.
    pub fn start(role: &[String], certificate: &Path) -> io::Result<(Self, String)> {
        let mut command = Command::new(std::env::current_exe()?);
        command.env(TRUSTED, certificate);
        let mut child = command
            .args(role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let commands = child.stdin.take();
        let output = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let (sender, answers) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let helper = Helper {
            child,
            commands,
            answers,
        };
        let first = helper.answer()?;
        Ok((helper, first))
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// One command and its answer.
    pub fn ask(&mut self, command: &str) -> io::Result<String> {
        let commands = self.commands.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        commands.write_all(format!("{command}\n").as_bytes())?;
        self.answer()
    }

    fn answer(&self) -> io::Result<String> {
        let line = self.answers.recv_timeout(PATIENCE);
        line.map_err(|_| io::Error::other("a helper process gave no answer"))
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        drop(self.commands.take());
        end(&mut self.child, Duration::from_secs(2));
    }
}

/// A process that serves until it is asked to stop.
pub struct Daemon(pub Child);

impl Daemon {
    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        signal(self.0.id(), Signal::TERM);
        end(&mut self.0, STOP_TIMEOUT);
    }
}

fn end(child: &mut Child, limit: Duration) {
    let deadline = Instant::now() + limit;
    while Instant::now() < deadline {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// Sends a signal to one process.
pub fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// The kernel's counters for a process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// CPU seconds in user and kernel mode, all threads, ended ones included.
    pub cpu_seconds: f64,
    /// The most memory that was resident since [`reset_peak`], in bytes.
    pub peak_bytes: u64,
    /// The memory that is resident now, in bytes.
    pub resident_bytes: u64,
}

/// Reads /proc; zeros if there is none.
pub fn usage(pid: u32) -> Usage {
    /// USER_HZ, which is 100 on every architecture that Rust's Linux targets have.
    const TICKS_PER_SECOND: f64 = 100.0;
    let read =
        |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let stat = read("stat");
    // the name in parentheses may hold spaces; utime and stime are the 12th and 13th field behind it
    let fields = stat
        .rsplit_once(')')
        .map_or("", |(_, rest)| rest)
        .split_whitespace();
    let ticks: f64 = fields
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<f64>().ok())
        .sum();
    let status = read("status");
    let bytes = |name: &str| {
        let mut lines = status.lines();
        let kib = lines.find_map(|line| line.strip_prefix(name))?;
        let kib = kib.trim().trim_end_matches("kB").trim();
        kib.parse::<u64>().ok().map(|kib| kib * 1024)
    };
    Usage {
        cpu_seconds: ticks / TICKS_PER_SECOND,
        peak_bytes: bytes("VmHWM:").unwrap_or(0),
        resident_bytes: bytes("VmRSS:").unwrap_or(0),
    }
}

/// Lets the peak begin again at what is resident now (Linux; elsewhere the peak is that of the whole run).
pub fn reset_peak(pid: u32) {
    let _ = std::fs::write(format!("/proc/{pid}/clear_refs"), "5");
}
