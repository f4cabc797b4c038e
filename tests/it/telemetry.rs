//! The program's own reports: traces at a collector, metrics on the admin port, lines in the log.

mod collectors;
mod lines;
mod metrics;
mod traces;

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::configuration::Program;
use crate::support::collector::{Collector, Span};
use crate::support::gateway::TestStore;
use crate::support::proxy::Proxy;
use crate::support::{Ftp, eventually};

const MIB: usize = 1024 * 1024;

/// The program with traces, its store in this process, and the collector.
struct Traced {
    program: Program,
    collector: Collector,
    store: TestStore,
    proxy: Proxy,
}

impl Traced {
    async fn start(settings: &[(&str, &str)]) -> Self {
        let collector = Collector::start().await;
        let (store, proxy, own) = TestStore::behind_proxy().await;
        let endpoint = format!("http://{}", collector.address);
        let traces = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_BSP_SCHEDULE_DELAY", "50"),
        ];
        let program = Program::with(&own, &[&traces[..], settings].concat());
        Traced {
            program,
            collector,
            store,
            proxy,
        }
    }

    async fn login(&self) -> Ftp {
        login(&self.program).await
    }

    /// The log line of the transfer that belongs to `root`.
    async fn line(&self, root: &Span) -> serde_json::Value {
        let find = || {
            let lines = self.program.log().into_iter();
            let mut lines = lines.map(|line| serde_json::from_str(&line).expect("JSON"));
            lines.find(|line: &serde_json::Value| line["trace_id"] == root.trace.as_str())
        };
        eventually("the line is written", || async { find().is_some() }).await;
        find().expect("it is there")
    }
}

async fn login(program: &Program) -> Ftp {
    let mut ftp = Ftp::connect(program.address).await;
    ftp.login("demo", "secret").await;
    ftp
}

fn count(program: &Program, event: &str) -> usize {
    let event = format!("\"event\":\"{event}\"");
    let lines = program.log();
    lines.iter().filter(|line| line.contains(&event)).count()
}

/// The answer's head and body.
async fn get(admin: SocketAddr, accept: &str) -> (String, String) {
    let mut socket = TcpStream::connect(admin).await.expect("it listens");
    let request = format!(
        "GET /metrics HTTP/1.1\r\nhost: x\r\naccept: {accept}\r\nconnection: close\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).await.expect("taken");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.expect("UTF-8");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    (head.to_owned(), body.to_owned())
}

#[tokio::test]
async fn the_log_level_follows_the_configuration_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("cosgate.yaml");
    std::fs::write(&file, "log: {level: info}\n").expect("written");
    let path = file.to_str().expect("UTF-8");
    let program = Program::start(&[("COSGATE_CONFIG", path)]);
    let mut ftp = Ftp::connect(program.address).await;
    ftp.login("demo", &program.password).await;
    let is_loud = |lines: &[String]| {
        let debug = "\"level\":\"DEBUG\"";
        lines.iter().any(|line| line.contains(debug))
    };
    assert_eq!(ftp.command("NOOP").await.code, 200);
    // as an editor or kubelet does it: a new file in the old one's place
    let replace = |text: &str| {
        let new = directory.path().join("new");
        std::fs::write(&new, text).expect("written");
        std::fs::rename(new, &file).expect("replaced");
    };
    replace("log: {level: 'info,cosgate=debug'}\n");
    eventually("the level has changed", || async {
        count(&program, "log_level") == 1
    })
    .await;
    // lines come in their order, and later than the replies
    let log = program.log();
    let changed = |line: &String| line.contains("\"event\":\"log_level\"");
    let changed = log.iter().position(changed);
    let until = &log[..changed.expect("it is there")];
    assert!(!is_loud(until), "{until:?}");
    assert_eq!(ftp.command("NOOP").await.code, 200);
    eventually("it shows more", || async { is_loud(&program.log()) }).await;
    replace("log: {level: 'info,,=nonsense='}\n");
    eventually("it is refused", || async {
        count(&program, "configuration_refused") == 1
    })
    .await;
    let line = program
        .log()
        .into_iter()
        .find(|line| line.contains("configuration_refused"));
    let line = line.expect("it is there");
    assert!(
        line.contains("log.level") && line.contains("info,cosgate=debug"),
        "{line}"
    );
    // a change is told at whichever of both levels shows it
    for (level, changes) in [("warn", 2), ("info", 3)] {
        replace(&format!("log: {{level: {level}}}\n"));
        eventually(level, || async { count(&program, "log_level") == changes }).await;
    }
    let log = program.log();
    let log = log.iter().map(String::as_str);
    lines::expect_no_name_twice(log.filter(|line| line.starts_with('{')));
}
