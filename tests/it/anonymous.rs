//! The user who is everybody: anonymous FTP (RFC 1635).

use cosgate::config::load_from;

use crate::configuration::Program;
use crate::support::http::metric;
use crate::support::{Ftp, TestGateway, cheap_hash, eventually, users};

/// A gateway on which `anonymous` is what `keys` say, beside the user `u`.
async fn gateway(keys: &str, more: &[&str]) -> TestGateway {
    let hash = cheap_hash("secret");
    let list = format!("USERS=[{{name: anonymous{keys}}}, {{name: u, password_hash: '{hash}'}}]");
    let own = [
        list.as_str(),
        "ADMIN__LISTEN=127.0.0.1:0",
        "AUTH__LOCKOUT__DELAY=10ms",
        "AUTH__LOCKOUT__MAX_DELAY=10ms",
        "AUTH__LOCKOUT__PER_USER=2",
        "AUTH__LOCKOUT__PER_ADDRESS=2",
    ];
    TestGateway::with(&[&own, more].concat()).await
}

/// The code of a login from 127.0.0.`from`, and the session.
async fn log_in(gateway: &TestGateway, from: u8, name: &str, password: &str) -> (Ftp, u16) {
    let mut ftp = Ftp::connect_from([127, 0, 0, from], gateway.address()).await;
    assert_eq!(ftp.command(&format!("USER {name}")).await.code, 331);
    let code = ftp.command(&format!("PASS {password}")).await.code;
    (ftp, code)
}

#[tokio::test]
async fn anybody_gets_in_by_either_name_with_any_password_and_only_reads_below_the_home() {
    let gateway = gateway(", home: /pub", &[]).await;
    gateway
        .put_object("pub/file", b"for everybody".to_vec())
        .await;
    gateway.put_object("secret", b"for nobody".to_vec()).await;
    for (name, password) in [
        ("anonymous", "someone@example.com"),
        ("ftp", ""),
        ("FTP", "x"),
        ("Anonymous", "secret"),
    ] {
        let mut ftp = gateway.connect().await;
        let asked = ftp.command(&format!("USER {name}")).await;
        assert!(
            asked.code == 331 && asked.text.contains("anything"),
            "{asked:?}"
        );
        assert_eq!(
            ftp.command(&format!("PASS {password}")).await.code,
            230,
            "{name}"
        );
        assert_eq!(ftp.fetch("RETR file").await.0, b"for everybody");
        assert!(ftp.listing("LIST").await.contains("file"));
        assert_eq!(ftp.store("STOR new", b"x").await.code, 550);
        assert_eq!(ftp.command("DELE file").await.code, 550);
        assert_eq!(ftp.command("MKD d").await.code, 550);
        assert_eq!(ftp.command("RNFR file").await.code, 550);
        assert_eq!(ftp.fetch("RETR ../secret").await.1.code, 550);
    }
    gateway.stop().await;
}

#[tokio::test]
async fn permissions_and_sizes_that_are_set_hold() {
    let gateway = gateway(", home: /in, permissions: write, max_file_size: 100", &[]).await;
    let (mut ftp, code) = log_in(&gateway, 1, "anonymous", "x").await;
    assert_eq!(code, 230);
    assert_eq!(ftp.store("STOR small", &[1; 100]).await.code, 226);
    assert_eq!(ftp.store("STOR large", &[1; 101]).await.code, 552);
    assert_eq!(ftp.fetch("RETR small").await.1.code, 550);
    assert_eq!(gateway.object("in/small").await, Some(vec![1; 100]));
    gateway.stop().await;
}

#[tokio::test]
async fn without_such_a_user_nobody_is_anonymous() {
    let list = format!("USERS={}", users(&["name: u"]));
    let gateway = TestGateway::with(&[&list, "AUTH__LOCKOUT__DELAY=10ms"]).await;
    for name in ["anonymous", "ftp"] {
        assert_eq!(log_in(&gateway, 1, name, "a@b").await.1, 530, "{name}");
    }
    gateway.stop().await;
    // a user of that name with a password is that user
    let hash = cheap_hash("mine");
    let list =
        format!("USERS=[{{name: anonymous, home: /pub}}, {{name: ftp, password_hash: '{hash}'}}]");
    let gateway = TestGateway::with(&[&list, "AUTH__LOCKOUT__DELAY=10ms"]).await;
    assert_eq!(log_in(&gateway, 1, "ftp", "a@b").await.1, 530);
    let (mut own, code) = log_in(&gateway, 1, "ftp", "mine").await;
    assert_eq!(code, 230);
    assert_eq!(own.store("STOR f", b"x").await.code, 226);
    gateway.stop().await;
}

#[tokio::test]
async fn the_guard_neither_counts_nor_stops_anonymous_logins() {
    let gateway = gateway(", allow_from: [127.0.0.1, 127.0.0.2]", &[]).await;
    // what is refused is no guess
    for _ in 0..5 {
        assert_eq!(log_in(&gateway, 3, "anonymous", "x").await.1, 530);
    }
    let (_, code) = log_in(&gateway, 3, "u", "secret").await;
    assert_eq!(code, 230, "the address is not locked out");
    for _ in 0..2 {
        log_in(&gateway, 2, "u", "wrong").await;
    }
    assert_eq!(
        log_in(&gateway, 2, "u", "secret").await.1,
        421,
        "locked out"
    );
    assert_eq!(log_in(&gateway, 2, "anonymous", "x").await.1, 230);
    gateway.stop().await;
}

#[tokio::test]
async fn sessions_are_limited_in_all_and_from_one_address() {
    let gateway = gateway(", max_sessions: 3, max_sessions_per_ip: 2", &[]).await;
    let mut open = Vec::new();
    for (from, expected) in [(1, 230), (1, 230), (1, 421), (2, 230), (3, 421)] {
        let (ftp, code) = log_in(&gateway, from, "ftp", "x").await;
        assert_eq!(code, expected, "127.0.0.{from}");
        if code == 230 {
            open.push(ftp);
        }
    }
    assert_eq!(
        log_in(&gateway, 3, "u", "secret").await.1,
        230,
        "others have room"
    );
    open.clear();
    eventually("there is room again", || async {
        log_in(&gateway, 3, "anonymous", "x").await.1 == 230
    })
    .await;
    let admin = gateway.gateway.admin_address().expect("it is on");
    let refused = metric(admin, "cosgate_logins_total{result=\"too_many_sessions\"}").await;
    assert!(refused >= 2.0, "{refused}");
    gateway.stop().await;
}

#[test]
fn what_makes_no_sense_for_nobody_in_particular_is_refused_and_the_rest_is_said_loudly() {
    let load = |list: &str| load_from(None, [("COSGATE_USERS".to_owned(), list.to_owned())]);
    let hash = cheap_hash("secret");
    for key in [
        format!("password_hash: '{hash}'"),
        "client_cert_cn: camera".to_owned(),
    ] {
        let error = load(&format!("[{{name: anonymous, {key}}}]")).expect_err("refused");
        let (error, name) = (error.to_string(), key.split(':').next().expect("a key"));
        assert!(
            error.contains(&format!("users[0].{name}")) && error.contains("remove this"),
            "{error}"
        );
        assert!(!error.contains("argon2id"), "{error}");
    }
    for (keys, words) in [
        (
            "",
            &[
                "anonymous access is on",
                "everywhere",
                "permissions R below /",
            ][..],
        ),
        (
            ", home: /in, permissions: W, allow_from: 10.0.0.0/8",
            &["from 10.0.0.0/8", "permissions W below /in"],
        ),
    ] {
        let loaded = load(&format!("[{{name: anonymous{keys}}}]")).expect("valid");
        for word in words {
            assert!(
                loaded.warnings.iter().any(|line| line.contains(word)),
                "no {word:?} in {:?}",
                loaded.warnings
            );
        }
        let shown = loaded.describe();
        for line in [
            "users[0].max_sessions = 50",
            "users[0].max_sessions_per_ip = 5",
        ] {
            assert!(shown.contains(line), "{shown}");
        }
    }
    let error = load("[{name: Anonymous}]").expect_err("a user like any other");
    assert!(
        error.to_string().contains("users[0].password_hash"),
        "{error}"
    );
}

#[tokio::test]
async fn the_log_says_at_the_start_that_it_is_on_and_never_what_was_sent_as_the_password() {
    let program = Program::start(&[
        ("COSGATE_USERS", "[{name: anonymous, home: /pub}]"),
        ("COSGATE_LOG__LEVEL", "debug"),
    ]);
    let mut ftp = Ftp::connect(program.address).await;
    ftp.login("ftp", "jane.doe@example.com").await;
    assert_eq!(ftp.command("QUIT").await.code, 221);
    let output = program.end();
    assert!(output.contains("anonymous access is on"), "{output}");
    assert!(output.contains("logged in"), "{output}");
    assert!(!output.contains("jane.doe"), "{output}");
}
