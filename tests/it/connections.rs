//! Limits of control connections: from one address, before the login, and with few file descriptors.

use crate::configuration::Program;
use crate::support::http::{get, metric};
use crate::support::{Ftp, TestGateway, eventually, users};

/// Connects from 127.0.0.`last`; the reply that comes without asking.
async fn greeted(from: u8, address: std::net::SocketAddr) -> (Ftp, u16) {
    let mut ftp = Ftp::connect_silently_from([127, 0, 0, from], address).await;
    let reply = ftp.reply().await;
    (ftp, reply.code)
}

#[tokio::test]
async fn who_does_not_log_in_takes_few_places_and_none_of_another_address() {
    let gateway = TestGateway::with(&[
        &format!("USERS={}", users(&["name: u"])),
        "SESSIONS__MAX_UNAUTHENTICATED_PER_IP=3",
        "ADMIN__LISTEN=127.0.0.1:0",
    ])
    .await;
    let mut silent = Vec::new();
    for _ in 0..2 {
        silent.push(gateway.connect().await);
    }
    // who logs in is not counted any more
    let mut held = Vec::new();
    for _ in 0..5 {
        let mut ftp = gateway.connect().await;
        ftp.login("u", "secret").await;
        held.push(ftp);
    }
    silent.push(gateway.connect().await);
    let (mut refused, code) = greeted(1, gateway.address()).await;
    assert_eq!(code, 421);
    assert!(refused.is_closed().await);
    let (mut other, code) = greeted(2, gateway.address()).await;
    assert_eq!(code, 220);
    other.login("u", "secret").await;

    let admin = gateway.gateway.admin_address().expect("it is on");
    let refused = "cosgate_connections_refused_total{reason=\"unauthenticated\"}";
    assert_eq!(metric(admin, refused).await, 1.0);
    drop(silent);
    eventually("there is room again", || async {
        greeted(1, gateway.address()).await.1 == 220
    })
    .await;
    gateway.stop().await;
}

#[tokio::test]
async fn the_soft_limit_of_descriptors_is_raised() {
    let script = "ulimit -S -n 256 && exec \"$0\"";
    let program = Program::start_by(
        &["/bin/sh", "-c", script],
        &[("COSGATE_ADMIN__LISTEN", "127.0.0.1:0")],
    );
    let admin = program.admin.expect("it is on");
    let limit = metric(admin, "process_max_fds").await;
    let hard = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    assert_eq!(limit, hard.map_or(f64::INFINITY, |hard| hard as f64));
}

#[tokio::test]
async fn strangers_take_no_descriptors_from_transfers_and_probes() {
    // enough for (310 - 200 - 2 * 4) / 9 = 11 sessions
    let script = "ulimit -n 310 && exec \"$0\"";
    let list = users(&["name: u"]);
    let program = Program::start_by(
        &["/bin/sh", "-c", script],
        &[
            ("COSGATE_ADMIN__LISTEN", "127.0.0.1:0"),
            ("COSGATE_USERS", &list),
        ],
    );
    let warned = |line: &String| line.contains("descriptors_short");
    let before = |program: &Program| {
        let output = program.output();
        output.lines().map(str::to_owned).filter(warned).count()
    };
    assert_eq!(before(&program), 1, "{}", program.output());

    let mut ftp = Ftp::connect(program.address).await;
    ftp.login("u", "secret").await;
    let mut strangers = Vec::new();
    let refused = loop {
        // one address may hold a fifth of them without a login
        let host = 2 + u8::try_from(strangers.len() / 2).expect("few");
        let (stranger, code) = greeted(host, program.address).await;
        strangers.push(stranger);
        if code != 220 {
            break code;
        }
    };
    assert_eq!(refused, 421);
    assert_eq!(
        strangers.len(),
        11,
        "ten fit beside the user, and one was refused"
    );
    for _ in 0..400 {
        strangers.push(Ftp::connect_silently_from([127, 0, 0, 99], program.address).await);
    }
    let bytes = vec![b'x'; 20 << 20];
    assert_eq!(ftp.store("STOR f", &bytes).await.code, 226);
    assert_eq!(ftp.fetch("RETR f").await.0.len(), bytes.len());
    let admin = program.admin.expect("it is on");
    assert_eq!(get(admin, "/readyz", &[]).await.status, 200);
    assert_eq!(before(&program), 1, "it is said once");
}
