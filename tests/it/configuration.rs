//! The program as its user starts it: configuration in, exit codes and output out.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use tempfile::TempDir;

/// The built program with nothing of this machine's environment but what a program needs.
fn cosgate(arguments: &[&str], env: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cosgate"));
    command
        .args(arguments)
        .env_clear()
        .envs(env.iter().copied());
    command
}

/// Exit code, standard output, standard error.
pub fn run(arguments: &[&str], env: &[(&str, &str)], input: &str) -> (Option<i32>, String, String) {
    let mut command = cosgate(arguments, env);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    child
        .stdin
        .take()
        .expect("piped")
        .write_all(input.as_bytes())
        .expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// The running program in a directory of its own.
pub struct Program {
    pub address: SocketAddr,
    pub password: String,
    /// The admin port, if it is on.
    pub admin: Option<SocketAddr>,
    child: Child,
    output: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
    _directory: TempDir,
}

static NEXT_PORT: AtomicU16 = AtomicU16::new(19_000);

/// The user of the container image.
const NOBODY: u32 = 65_532;

impl Program {
    pub fn start(env: &[(&str, &str)]) -> Self {
        // another program may have one of the ports: a few more tries
        (0..20)
            .find_map(|_| Self::try_start(env, &[], false))
            .expect("the program starts")
    }

    /// With settings, each `KEY=value` without the prefix, and with variables.
    pub fn with(settings: &[impl AsRef<str>], env: &[(&str, &str)]) -> Self {
        let settings: Vec<(String, &str)> = settings
            .iter()
            .map(|setting| setting.as_ref().split_once('=').expect("KEY=value"))
            .map(|(key, value)| (format!("COSGATE_{key}"), value))
            .collect();
        let settings = settings.iter().map(|(key, value)| (key.as_str(), *value));
        let env: Vec<(&str, &str)> = settings.chain(env.iter().copied()).collect();
        Self::start(&env)
    }

    /// As in a container: a user without any rights, whoever runs the tests.
    fn start_without_rights() -> Self {
        (0..20)
            .find_map(|_| Self::try_start(&[], &[], true))
            .expect("the program starts")
    }

    /// As `prefix` starts it: a program and its arguments, before the gateway's own path.
    pub fn start_by(prefix: &[&str], env: &[(&str, &str)]) -> Self {
        (0..20)
            .find_map(|_| Self::try_start(env, prefix, false))
            .expect("the program starts")
    }

    fn try_start(env: &[(&str, &str)], prefix: &[&str], without_rights: bool) -> Option<Self> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let from = NEXT_PORT.fetch_add(4, Ordering::Relaxed);
        let ports = format!("{from}-{}", from + 3);
        let own = [
            ("COSGATE_LISTEN", "127.0.0.1:0"),
            ("COSGATE_ADMIN__LISTEN", "off"),
            ("COSGATE_PASSIVE__PORTS", ports.as_str()),
            ("COSGATE_LOG__FORMAT", "json"),
        ];
        let mut command = cosgate(&[], &own);
        if let [program, arguments @ ..] = prefix {
            command = Command::new(program);
            command.args(arguments).arg(env!("CARGO_BIN_EXE_cosgate"));
            command.env_clear().envs(own);
        }
        if without_rights && rustix::process::getuid().is_root() {
            // the build's own directory may be closed to others
            let program = directory.path().join("cosgate");
            std::fs::copy(env!("CARGO_BIN_EXE_cosgate"), &program).expect("copies");
            chown(directory.path(), Some(NOBODY), Some(NOBODY)).expect("root may");
            command = Command::new(program);
            command.env_clear().envs(own).uid(NOBODY).gid(NOBODY);
        }
        command
            .envs(env.iter().copied())
            .current_dir(directory.path());
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let output = Arc::new(Mutex::new(String::new()));
        let mut log = BufReader::new(child.stdout.take().expect("piped")).lines();
        let serving = log
            .by_ref()
            .map_while(Result::ok)
            .inspect(|line| append(&output, line))
            .find(|line| line.contains("is serving"));
        let Some(serving) = serving else {
            let _ = child.wait();
            return None;
        };
        // in JSON and in text
        let address_of = |name: &str| -> Option<SocketAddr> {
            let (_, value) = serving
                .split_once(&format!("{name}\":"))
                .or_else(|| serving.split_once(&format!(" {name}=")))?;
            let value = value.trim_start_matches(['"', '[']);
            value.split(['"', ']', ' ', ',']).next()?.parse().ok()
        };
        let admin = address_of("admin");
        let address = address_of("listen").expect("an address");
        let mut password = String::new();
        // with users of its own the program makes none
        if !env.iter().any(|(key, _)| *key == "COSGATE_USERS") {
            let block = log.by_ref().map(|line| line.expect("UTF-8"));
            for line in block.take_while(|line| !line.contains("cosgate init")) {
                if let Some((_, after)) = line.split_once("user demo, password ") {
                    password = after.to_owned();
                }
            }
            assert!(!password.is_empty(), "the password is printed");
        }
        let lines = Arc::clone(&output);
        let log = std::thread::spawn(move || {
            log.map_while(Result::ok)
                .for_each(|line| append(&lines, &line));
        });
        let hints = BufReader::new(child.stderr.take().expect("piped"));
        let lines = Arc::clone(&output);
        let hints = std::thread::spawn(move || {
            let hints = hints.lines().map_while(Result::ok);
            hints.for_each(|line| append(&lines, &line));
        });
        Some(Program {
            output,
            readers: vec![log, hints],
            address,
            password,
            admin,
            child,
            _directory: directory,
        })
    }

    /// The lines of the log so far, from that it serves on.
    pub fn log(&self) -> Vec<String> {
        let output = self.output();
        let lines = output
            .lines()
            .skip_while(|line| !line.contains("is serving"));
        lines.map(str::to_owned).collect()
    }

    /// Resident memory in KiB.
    pub fn resident_kib(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .expect("the kernel tells it");
        line.split_whitespace()
            .nth(1)
            .expect("a number")
            .parse()
            .expect("a number")
    }

    /// Sets the most file descriptors that the program may have.
    pub fn limit_descriptors(&self, most: u64) {
        use rustix::process::{Pid, Resource, Rlimit, prlimit};
        let limit = Rlimit {
            current: Some(most),
            maximum: Some(4096),
        };
        prlimit(Some(Pid::from_child(&self.child)), Resource::Nofile, limit).expect("it runs");
    }

    /// The output of the program so far, without the password of the demo user.
    pub fn output(&self) -> String {
        self.output.lock().expect("no panic").clone()
    }

    /// SIGTERM, and all that the program has written.
    pub fn end(mut self) -> String {
        self.signal();
        self.child.wait().expect("it ends");
        for reader in std::mem::take(&mut self.readers) {
            reader.join().expect("no panic");
        }
        self.output()
    }

    /// SIGKILL, which leaves everything as it is.
    pub fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    /// SIGTERM, and the exit code.
    pub fn terminate(mut self) -> Option<i32> {
        self.stop()
    }

    /// The same, for what is looked at afterwards.
    pub fn stop(&mut self) -> Option<i32> {
        self.signal();
        self.child.wait().expect("it ends").code()
    }

    /// The last line of the log of a program that has ended.
    pub fn end_of_log(&mut self) -> String {
        for reader in std::mem::take(&mut self.readers) {
            reader.join().expect("no panic");
        }
        self.log().pop().expect("it has served")
    }

    fn signal(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
    }
}

fn append(output: &Mutex<String>, line: &str) {
    let mut output = output.lock().expect("no panic");
    output.push_str(line);
    output.push('\n');
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn with_nothing_configured_it_serves_a_demo_user_and_ends_at_sigterm() {
    let program = Program::start(&[]);
    let mut ftp = crate::support::Ftp::connect(program.address).await;
    ftp.login("demo", &program.password).await;
    assert_eq!(ftp.store("STOR f", b"hello").await.code, 226);
    assert_eq!(ftp.fetch("RETR f").await.0, b"hello");
    assert_eq!(program.terminate(), Some(0));
    assert_eq!(ftp.reply().await.code, 421);
}

/// The output of a program to standard output, up to a line with `last` or to its end.
fn lines_until(child: &mut Child, last: &str) -> Vec<String> {
    let output = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut lines = Vec::new();
    for line in output.map_while(Result::ok) {
        let is_last = line.contains(last);
        lines.push(line);
        if is_last {
            break;
        }
    }
    lines
}

#[test]
fn the_demo_user_is_shown_once_in_a_block_of_its_own_whatever_the_log() {
    for (format, level) in [("text", "info"), ("json", "debug"), ("text", "off")] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let env = [
            ("COSGATE_LISTEN", "127.0.0.1:0"),
            ("COSGATE_ADMIN__LISTEN", "127.0.0.1:0"),
            ("COSGATE_PASSIVE__PORTS", "18990-18993"),
            ("COSGATE_LOG__FORMAT", format),
            ("COSGATE_LOG__LEVEL", level),
        ];
        let mut child = cosgate(&[], &env)
            .current_dir(directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let lines = lines_until(&mut child, "cosgate init");
        child.kill().expect("it runs");
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        let passwords = lines.iter().filter(|line| line.contains("password"));
        assert_eq!(passwords.count(), 1, "{lines:?}");
        let begin = lines
            .iter()
            .position(|line| line.contains("user demo, password "))
            .expect("a block");
        // from the blank line before it on nothing else
        assert_eq!(lines[begin - 1], "");
        assert!(
            lines[begin..]
                .iter()
                .all(|line| line.is_empty() || line.starts_with("  ")),
            "{lines:?}"
        );
        if format == "text" && level == "info" {
            let serving = lines.iter().find(|line| line.contains("is serving"));
            let serving = serving.expect("it is logged before");
            assert!(serving.contains("admin=127.0.0.1:"), "{serving}");
            assert!(!serving.contains("Some("), "{serving}");
        }
    }
}

#[tokio::test]
async fn it_needs_no_rights_to_store_and_to_read_files() {
    let program = Program::start_without_rights();
    let mut ftp = crate::support::Ftp::connect(program.address).await;
    ftp.login("demo", &program.password).await;
    assert_eq!(ftp.store("STOR f", b"hello").await.code, 226);
    assert_eq!(ftp.fetch("RETR f").await.0, b"hello");
    assert_eq!(program.terminate(), Some(0));
}

#[test]
fn a_bad_configuration_starts_nothing_and_names_every_mistake() {
    let env = [
        ("COSGATE_UPLOAD__MIN_PART_SIZE", "1KiB"),
        ("COSGATE_LISTEN", "nowhere"),
        ("COSGATE_STORAGE__BUKET", "x"),
        ("COSGATE_STORAGE__SECRET_ACCESS_KEY", "hunter2"),
    ];
    for command in [&["serve"][..], &["check-config"], &[]] {
        let (code, output, errors) = run(command, &env, "");
        assert_eq!(code, Some(64), "{errors}");
        assert!(output.is_empty(), "{output}");
        for part in [
            "upload.min_part_size = 1KiB",
            "COSGATE_UPLOAD__MIN_PART_SIZE",
            "listen",
            "nowhere",
            "BUKET",
            "BUCKET",
        ] {
            assert!(errors.contains(part), "{part}: {errors}");
        }
        assert!(!errors.contains("hunter2"), "{errors}");
    }
}

#[test]
fn check_config_prints_each_value_with_its_origin_and_no_secret() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("cosgate.yaml");
    std::fs::write(
        &file,
        "greeting: from the file\nstorage:\n  access_key_id: '0123'\n",
    )
    .expect("writes");
    let secret = directory.path().join("secret");
    std::fs::write(&secret, "hunter2\n").expect("writes");
    let env = [
        ("COSGATE_CONFIG", file.to_str().expect("UTF-8")),
        (
            "COSGATE_STORAGE__SECRET_ACCESS_KEY_FILE",
            secret.to_str().expect("UTF-8"),
        ),
        ("COSGATE_SESSIONS__MAX", "7"),
        ("COSGATE_STORAGE__PREFIX", ""),
        ("COSGATE_PORT", "tcp://10.0.0.1:21"),
    ];
    let (code, output, errors) = run(&["check-config"], &env, "");
    assert_eq!(code, Some(0), "{errors}");
    assert!(
        output.contains("from the file") && output.contains("COSGATE_SESSIONS__MAX"),
        "{output}"
    );
    assert!(
        !output.contains("hunter2") && !output.contains("0123"),
        "{output}"
    );
}

#[test]
fn hash_password_prints_a_hash_that_the_configuration_takes() {
    let (code, hash, errors) = run(&["hash-password"], &[], "correct horse\n");
    assert_eq!(code, Some(0), "{errors}");
    assert!(hash.starts_with("$argon2id$"), "{hash}");
    let users = format!("[{{name: u, password_hash: '{}'}}]", hash.trim_end());
    let (code, output, errors) = run(&["check-config"], &[("COSGATE_USERS", &users)], "");
    assert_eq!(code, Some(0), "{errors}");
    assert!(!output.contains("$argon2id$"), "{output}");
    assert_eq!(run(&["hash-password"], &[], "\n").0, Some(64));
}

#[test]
fn check_config_warns_where_the_descriptors_are_too_few_for_all_sessions() {
    let shell = |limit: &str| {
        let script = format!("ulimit -n {limit} && exec \"$0\" check-config");
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_cosgate")]);
        let output = command.env_clear().output().expect("it runs");
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stderr).expect("UTF-8")
    };
    let few = shell("1024");
    assert!(few.contains("sessions.max = 1000 may need"), "{few}");
    assert!(few.contains("LimitNOFILE="), "{few}");
    assert!(!shell("9232").contains("descriptors"));
}

#[test]
fn a_taken_port_or_directory_is_69_and_says_which() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let data = directory.path().to_str().expect("UTF-8");
    let common = [
        ("COSGATE_STORAGE__DATA_DIR", data),
        ("COSGATE_ADMIN__LISTEN", "off"),
        ("COSGATE_PASSIVE__PORTS", "18990"),
    ];
    let (code, _, errors) = run(
        &[],
        &[&common[..], &[("COSGATE_LISTEN", &address)]].concat(),
        "",
    );
    assert_eq!(code, Some(69), "{errors}");
    assert!(errors.contains(&address), "{errors}");
    let file = directory.path().join("file");
    std::fs::write(&file, "x").expect("writes");
    let settings = [
        ("COSGATE_STORAGE__DATA_DIR", file.to_str().expect("UTF-8")),
        ("COSGATE_ADMIN__LISTEN", "off"),
        ("COSGATE_PASSIVE__PORTS", "18991"),
        ("COSGATE_LISTEN", "127.0.0.1:0"),
    ];
    let (code, _, errors) = run(&[], &settings, "");
    assert_eq!(code, Some(69), "{errors}");
    assert!(errors.contains("file"), "{errors}");
}

#[test]
fn the_guide_has_a_row_for_every_key() {
    let rows = cosgate::config::markdown_rows();
    crate::support::guide::check_table("configuration.md", "# Configuration", &rows);
}

#[test]
fn usage_errors_are_64_and_help_is_0() {
    assert_eq!(run(&["--nonsense"], &[], "").0, Some(64));
    let (code, help, _) = run(&["--help"], &[], "");
    assert_eq!(code, Some(0));
    for command in ["serve", "check-config", "hash-password", "import"] {
        assert!(help.contains(command), "{help}");
    }
}

#[test]
fn a_replica_without_a_known_slice_does_not_start() {
    let (code, _, error) = run(&[], &[("COSGATE_PASSIVE__SLICE_SIZE", "8")], "");
    assert_eq!(code, Some(64), "{error}");
    assert!(error.contains("passive.ordinal"), "{error}");
    let beyond = [
        ("COSGATE_PASSIVE__SLICE_SIZE", "8"),
        ("COSGATE_KUBERNETES__POD_NAME", "cosgate-2"),
    ];
    let (code, _, error) = run(&[], &beyond, "");
    assert_eq!(code, Some(64), "{error}");
    assert!(
        error.contains("widen passive.ports to 30000-30023"),
        "{error}"
    );
}

#[test]
fn without_a_way_to_the_api_server_the_program_does_not_start() {
    let missing = [
        ("COSGATE_LISTEN", "127.0.0.1:0"),
        ("COSGATE_ADMIN__LISTEN", "off"),
        ("COSGATE_PASSIVE__PORTS", "18990"),
        ("COSGATE_KUBERNETES__SERVICE", "control"),
        ("COSGATE_KUBERNETES__KUBECONFIG", "/nowhere/kubeconfig"),
    ];
    let (code, _, error) = run(&[], &missing, "");
    assert_eq!(code, Some(64), "{error}");
    assert!(
        error.contains("kubernetes.kubeconfig = /nowhere/kubeconfig"),
        "{error}"
    );
    // a pod without its service account's token
    let pod = [
        ("KUBERNETES_SERVICE_HOST", "127.0.0.1"),
        ("KUBERNETES_SERVICE_PORT", "1"),
        ("COSGATE_LISTEN", "127.0.0.1:0"),
        ("COSGATE_ADMIN__LISTEN", "off"),
        ("COSGATE_PASSIVE__PORTS", "18991"),
        ("COSGATE_KUBERNETES__SERVICE", "control"),
    ];
    let (code, _, error) = run(&[], &pod, "");
    assert_eq!(code, Some(64), "{error}");
    assert!(error.contains("automountServiceAccountToken"), "{error}");
}
