//! Logins, limits, timers and probes.

use std::time::Duration;

use argon2::password_hash::{PasswordHasher, SaltString};

use crate::configuration::Program;
use crate::support::readings::Readings;
use crate::support::{Ftp, TestGateway, eventually, eventually_within, users};

#[tokio::test]
async fn a_wrong_password_is_refused_and_the_third_one_closes_the_connection() {
    let gateway = TestGateway::start().await;
    let mut ftp = gateway.connect().await;
    for (user, code) in [("demo", 530), ("nobody", 530), ("demo", 421)] {
        assert_eq!(ftp.try_login(user, "wrong").await.code, code);
    }
    assert!(ftp.is_closed().await);
    let mut ftp = gateway.login().await;
    assert_eq!(
        ftp.command("USER demo").await.code,
        503,
        "one login is enough"
    );
}

#[tokio::test]
async fn a_flood_of_logins_does_not_stop_a_running_session() {
    let gateway = TestGateway::start().await;
    let mut ftp = gateway.login().await;
    let mut flood = Vec::new();
    for _ in 0..60 {
        let mut stranger = gateway.connect().await;
        stranger.send_raw(b"USER demo\r\nPASS wrong\r\n").await;
        flood.push(stranger);
    }
    let asked = std::time::Instant::now();
    assert_eq!(ftp.store("STOR f", b"x").await.code, 226);
    assert!(
        asked.elapsed() < Duration::from_secs(5),
        "{:?}",
        asked.elapsed()
    );
}

#[tokio::test]
async fn the_limits_answer_421_with_the_reason() {
    let gateway = TestGateway::with(&["SESSIONS__MAX_PER_IP=2"]).await;
    let (first, _second) = (gateway.connect().await, gateway.connect().await);
    let mut third = Ftp::connect_silently(gateway.address()).await;
    let reply = third.reply().await;
    assert_eq!(reply.code, 421);
    assert!(reply.text.contains("from your address"), "{reply:?}");
    assert!(third.is_closed().await);
    drop(first);
    eventually("there is room again", || async {
        gateway.gateway.sessions() == 1
    })
    .await;
    gateway.connect().await;

    let gateway = TestGateway::with(&["SESSIONS__MAX=1"]).await;
    let _only = gateway.connect().await;
    let reply = Ftp::connect_silently(gateway.address()).await.reply().await;
    assert_eq!(reply.code, 421);
    assert!(reply.text.contains("Too many sessions,"), "{reply:?}");
}

#[tokio::test]
async fn who_does_not_log_in_or_does_nothing_is_sent_away() {
    let gateway = TestGateway::with(&["SESSIONS__LOGIN_TIMEOUT=300ms"]).await;
    let mut ftp = gateway.connect().await;
    assert_eq!(ftp.reply().await.code, 421);
    assert!(ftp.is_closed().await);

    let gateway = TestGateway::with(&["SESSIONS__IDLE_TIMEOUT=300ms"]).await;
    let mut ftp = gateway.login().await;
    assert_eq!(ftp.reply().await.code, 421);
    assert!(ftp.is_closed().await);
}

#[tokio::test]
async fn a_long_transfer_is_not_idle() {
    use tokio::io::AsyncWriteExt;
    let gateway = TestGateway::with(&["SESSIONS__IDLE_TIMEOUT=200ms"]).await;
    let mut ftp = gateway.login().await;
    let mut data = ftp.data().await;
    assert_eq!(ftp.command("STOR f").await.code, 150);
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        data.write_all(b"slowly ").await.expect("writes");
    }
    drop(data);
    assert_eq!(ftp.reply().await.code, 226);
    assert_eq!(gateway.object("f").await.map(|bytes| bytes.len()), Some(56));
}

#[tokio::test]
async fn probes_that_connect_and_leave_are_no_sessions_afterwards() {
    let gateway = TestGateway::start().await;
    for _ in 0..100 {
        drop(
            tokio::net::TcpStream::connect(gateway.address())
                .await
                .expect("connects"),
        );
    }
    eventually("all are gone", || async { gateway.gateway.sessions() == 0 }).await;
}

#[tokio::test]
async fn the_admin_port_answers_probes_and_says_why_it_is_not_ready() {
    let (gateway, proxy) = TestGateway::behind_proxy(&["ADMIN__LISTEN=127.0.0.1:0"]).await;
    let admin = gateway.gateway.admin_address().expect("it is on");
    assert!(get(admin, "/livez").await.starts_with("HTTP/1.1 200 "));
    assert!(get(admin, "/readyz").await.starts_with("HTTP/1.1 200 "));
    gateway.stop().await;

    let (gateway, second) = TestGateway::behind_proxy(&[
        "ADMIN__LISTEN=127.0.0.1:0",
        "STORAGE__RETRY__MAX_ATTEMPTS=1",
        "MASQUERADE_ADDRESS=name.invalid",
    ])
    .await;
    second.set_down(true);
    let answer = get(
        gateway.gateway.admin_address().expect("it is on"),
        "/readyz",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("the store"), "{answer}");
    assert!(answer.contains("masquerade address"), "{answer}");
    drop(proxy);
}

pub async fn get(address: std::net::SocketAddr, path: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut socket = tokio::net::TcpStream::connect(address)
        .await
        .expect("the admin port listens");
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.expect("writes");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.expect("an answer");
    answer
}

/// Counts what the process holds, so the gateway runs in a process of its own.
#[tokio::test]
async fn two_thousand_idle_sessions_cost_less_than_10_kb_each() {
    const SESSIONS: usize = 2000;
    // a hash that costs nothing to check: 2,000 real ones would take a minute
    let cheap = argon2::Params::new(8, 1, 1, None).expect("the least that argon2 takes");
    let argon2 = argon2::Argon2::new(Default::default(), Default::default(), cheap);
    let salt = SaltString::from_b64("c2FsdHNhbHQ").expect("base64");
    let hash = argon2
        .hash_password(b"secret", &salt)
        .expect("hashes")
        .to_string();
    let users = format!("[{{name: u, password_hash: '{hash}'}}]");
    let server = Program::start(&[
        ("COSGATE_USERS", &users),
        ("COSGATE_SESSIONS__MAX", "3000"),
        ("COSGATE_SESSIONS__MAX_PER_IP", "3000"),
    ]);
    let address = server.address;
    // argon2's memory and the thread pools are there after the first few logins
    let mut sessions = Vec::new();
    for _ in 0..20 {
        let mut ftp = Ftp::connect(address).await;
        ftp.login("u", "secret").await;
        sessions.push(ftp);
    }
    let before = server.resident_kib();
    for _ in 0..SESSIONS / 50 {
        let batch = (0..50).map(|_| async {
            let mut ftp = Ftp::connect(address).await;
            ftp.login("u", "secret").await;
            ftp
        });
        sessions.extend(futures::future::join_all(batch).await);
    }
    let each = (server.resident_kib() - before) as f64 / SESSIONS as f64;
    println!("{each:.1} KiB per idle session that has logged in");
    assert!(each < 10_000.0 / 1024.0, "{each:.1} KiB per session");
    for ftp in sessions.iter_mut().step_by(100) {
        assert_eq!(ftp.command("PWD").await.code, 257);
    }
}

#[tokio::test]
async fn a_client_that_rests_gives_tasks_and_descriptors_back_and_goes_on_where_it_was() {
    const SESSIONS: usize = 20;
    let users = users(&["name: u"]);
    let program = Program::start(&[
        ("COSGATE_USERS", &users),
        ("COSGATE_ADMIN__LISTEN", "127.0.0.1:0"),
    ]);
    let admin = program.admin.expect("it is on");
    let empty = Readings::of(admin).await;
    let mut sessions = Vec::new();
    for number in 0..SESSIONS {
        let mut ftp = Ftp::connect(program.address).await;
        ftp.login("u", "secret").await;
        assert_eq!(ftp.command(&format!("MKD d{number}")).await.code, 257);
        assert_eq!(ftp.command(&format!("CWD d{number}")).await.code, 250);
        assert_eq!(ftp.store("STOR f", b"bytes").await.code, 226);
        sessions.push(ftp);
    }
    assert_eq!(sessions[0].command("RNFR f").await.code, 350);
    eventually_within(Duration::from_secs(30), "they rest", || async {
        let now = Readings::of(admin).await;
        // one task and one descriptor of each, in place of three; some connections to the store stay open for a while
        let most = SESSIONS as f64 + 15.0;
        now.tasks <= empty.tasks + most && now.descriptors <= empty.descriptors + most
    })
    .await;
    assert_eq!(sessions[0].command("RNTO g").await.code, 250);
    for (number, ftp) in sessions.iter_mut().enumerate() {
        let name = if number == 0 { "g" } else { "f" };
        let (bytes, reply) = ftp.fetch(&format!("RETR {name}")).await;
        assert_eq!((bytes.as_slice(), reply.code), (&b"bytes"[..], 226));
    }
}
