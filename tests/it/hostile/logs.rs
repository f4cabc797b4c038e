//! The log and the traces: what clients write stands in a field, and never begins a line or a record of its own.

use crate::configuration::Program;
use crate::support::collector::Collector;
use crate::support::gateway::TestStore;
use crate::support::{Ftp, eventually};

/// Words that would be a line of the log if they got there as they are.
const FORGED: &str = "2020-01-01T00:00:00.000000Z  INFO cosgate: logged in user=root";

/// Names that are to break out of a field. No line end can be sent; keys of the store have them.
const NAMES: &[&str] = &[
    "\u{1b}[2J\u{1b}[31mred",
    "\u{b}\u{c}tab\tx",
    "\u{85}\u{9b}31m",
    "\u{8}\u{8}\u{8}\u{7f}",
    "\u{2028}\u{2029}x",
    "quote\" user=\"root\" x=\"",
    "\",\"level\":\"ERROR\",\"message\":\"",
    "{field} %s ${jndi:ldap://x} <script>",
];

/// A store outside, and the program with a log of this format.
async fn start(
    format: &str,
    traces: Option<&Collector>,
) -> (TestStore, crate::support::proxy::Proxy, Program) {
    let (store, proxy, own) = TestStore::behind_proxy().await;
    let endpoint = traces.map(|collector| format!("http://{}", collector.address));
    let mut env = vec![
        ("COSGATE_LOG__FORMAT", format),
        ("COSGATE_LOG__LEVEL", "debug"),
        ("COSGATE_AUTH__LOCKOUT__PER_USER", "0"),
        ("COSGATE_AUTH__LOCKOUT__PER_ADDRESS", "0"),
        ("COSGATE_AUTH__LOCKOUT__DELAY", "1ms"),
        ("COSGATE_AUTH__LOCKOUT__MAX_DELAY", "1ms"),
        ("COSGATE_UPLOAD__ON_INTERRUPT", "keep"),
    ];
    if let Some(endpoint) = &endpoint {
        env.extend([
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_BSP_SCHEDULE_DELAY", "50"),
        ]);
    }
    let program = Program::with(&own, &env);
    (store, proxy, program)
}

/// Everything that writes a client's words, and keys that others made, into the log.
async fn attack(store: &TestStore, program: &Program) {
    let keys: Vec<String> = (0..6)
        .map(|number| format!("k{number}\n{FORGED}\r\n\u{1b}[2J"))
        .collect();
    for key in &keys {
        store.put_object(key, b"x".to_vec()).await;
    }
    for name in NAMES {
        let mut ftp = Ftp::connect(program.address).await;
        ftp.command(format!("USER {name}")).await;
        ftp.command(format!("PASS {name}")).await;
        ftp.command(format!("{name} {name}")).await;
        ftp.command("QUIT").await;
    }
    let mut ftp = Ftp::connect(program.address).await;
    ftp.login("demo", "secret").await;
    for name in NAMES {
        for verb in ["STOR", "APPE", "RETR", "MLSD"] {
            ftp.store(format!("{verb} {name}"), b"x").await;
        }
        for verb in [
            "SIZE",
            "MKD",
            "DELE",
            "RNFR",
            "CWD",
            "HASH",
            "OPTS",
            "SITE",
            "MFMT 20200101000000",
            "AUTH",
        ] {
            ftp.command(format!("{verb} {name}")).await;
        }
    }
    // the name of such a key as a listing has it
    let listed = ftp.listing("NLST").await;
    let mut odd = listed.lines().filter(|name| name.starts_with('k'));
    let mut next = || odd.next().expect("six of them").to_owned();
    assert_eq!(ftp.fetch(format!("RETR {}", next())).await.0, b"x");
    assert_eq!(ftp.command(format!("DELE {}", next())).await.code, 250);
    assert_eq!(
        ftp.command(format!("MFMT 20200101000000 {}", next()))
            .await
            .code,
        213
    );
    assert_eq!(ftp.command(format!("RNFR {}", next())).await.code, 350);
    assert_eq!(ftp.command("RNTO renamed").await.code, 250);
    // one that breaks off, and is kept
    let name = next();
    let data = ftp.data().await;
    ftp.send(format!("APPE {name}")).await;
    data.set_zero_linger().expect("a socket");
    drop(data);
    ftp.reply().await;
    ftp.command("NOOP").await;
    ftp.command("QUIT").await;
}

/// True for what steers a terminal or ends a line somewhere, but the line's own end.
fn steers(c: char) -> bool {
    c != '\n' && (c.is_control() || matches!(c, '\u{2028}' | '\u{2029}'))
}

/// The time that each line of a text log begins with.
fn begins_with_a_time(line: &str) -> bool {
    let time = line.as_bytes();
    time.len() > 30 && time[4] == b'-' && time[10] == b'T' && time[19] == b'.' && time[26] == b'Z'
}

#[tokio::test]
async fn each_record_of_a_text_log_is_one_line_whatever_names_hold() {
    let (store, _proxy, program) = start("text", None).await;
    attack(&store, &program).await;
    let output = program.end();
    assert!(!output.contains(steers), "{output:?}");
    assert!(output.contains("jndi"), "names are logged: {output}");
    for line in output.lines().filter(|line| !line.is_empty()) {
        assert!(begins_with_a_time(line), "{line:?}");
        assert!(!line.starts_with(FORGED), "{line:?}");
    }
    store.stop().await;
}

#[tokio::test]
async fn each_record_of_a_json_log_is_one_object_with_its_own_level() {
    let (store, _proxy, program) = start("json", None).await;
    attack(&store, &program).await;
    let output = program.end();
    let mut records = 0;
    for line in output.lines().filter(|line| !line.is_empty()) {
        let record: serde_json::Value = serde_json::from_str(line).expect(line);
        assert_ne!(record["level"], "ERROR", "{line}");
        // a key that stands twice would be the later one's
        for key in ["\"level\":", "\"timestamp\":", "\"event\":", "\"user\":"] {
            assert!(line.matches(key).count() <= 1, "{line}");
        }
        assert!(!line.contains(steers), "{line:?}");
        records += 1;
    }
    assert!(records > 100, "{records} records");
    store.stop().await;
}

#[tokio::test]
async fn names_of_spans_come_from_the_program_alone() {
    let collector = Collector::start().await;
    let (store, _proxy, program) = start("json", Some(&collector)).await;
    attack(&store, &program).await;
    eventually("spans come", || async { collector.spans().len() > 20 }).await;
    program.end();
    for span in collector.spans() {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | ' ');
        assert!(
            span.name.chars().all(is_plain) && span.name.len() < 40,
            "{:?}",
            span.name
        );
        for name in span.attributes.keys() {
            assert!(name.chars().all(is_plain) && name.len() < 60, "{name:?}");
        }
    }
    store.stop().await;
}
