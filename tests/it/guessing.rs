//! The guard against guessing, and what checks of passwords cost.

use std::time::{Duration, Instant};

use crate::support::{Ftp, TestGateway, cheap_hash, eventually, login, try_login, users};

#[tokio::test]
async fn guessing_gets_slower_and_is_locked_out_for_its_address_and_user_alone() {
    let gateway = TestGateway::with(&[
        &format!("USERS={}", users(&["name: alice", "name: bob"])),
        "AUTH__LOCKOUT__PER_USER=3",
        "AUTH__LOCKOUT__DELAY=100ms",
        "AUTH__LOCKOUT__DURATION=3s",
    ])
    .await;
    let mut stayed = login(&gateway, "alice").await;
    for (user, pause) in [("alice", 100), ("alice", 200), ("alice", 400)] {
        let begun = Instant::now();
        assert_eq!(try_login(&gateway, user, "wrong").await.code, 530);
        assert!(
            begun.elapsed() >= Duration::from_millis(pause),
            "{:?}",
            begun.elapsed()
        );
    }
    let locked = Instant::now();
    let reply = try_login(&gateway, "alice", "secret").await;
    assert_eq!(reply.code, 421);
    assert!(reply.text.contains("Too many failed logins"), "{reply:?}");
    login(&gateway, "bob").await;
    assert_eq!(
        stayed.command("PWD").await.code,
        257,
        "a session that is open goes on"
    );
    eventually("the lockout ends", || async {
        try_login(&gateway, "alice", "secret").await.code == 230
    })
    .await;
    assert!(
        locked.elapsed() >= Duration::from_secs(2),
        "{:?}",
        locked.elapsed()
    );
}

#[tokio::test]
async fn unknown_names_count_as_much_and_take_as_long_as_known_ones() {
    let gateway = TestGateway::with(&[
        &format!("USERS={}", users(&["name: alice"])),
        "AUTH__LOCKOUT__PER_USER=2",
        "AUTH__LOCKOUT__DELAY=200ms",
    ])
    .await;
    for user in ["alice", "nobody"] {
        let begun = Instant::now();
        let mut codes = Vec::new();
        for _ in 0..3 {
            codes.push(try_login(&gateway, user, "wrong").await.code);
        }
        assert_eq!(codes, [530, 530, 421], "{user}");
        assert!(
            begun.elapsed() >= Duration::from_millis(200),
            "{user}: {:?}",
            begun.elapsed()
        );
    }
}

/// Counts what the process holds, so the gateway runs in a process of its own.
#[tokio::test]
async fn checks_of_real_hashes_use_the_same_memory_again() {
    let hash = cosgate::auth::hash_password(&"secret".to_owned().into()).expect("hashes");
    let hash = secrecy::ExposeSecret::expose_secret(&hash);
    let list = format!("[{{name: u, password_hash: '{hash}'}}]");
    let server = crate::configuration::Program::start(&[("COSGATE_USERS", &list)]);
    let login = async || {
        let mut ftp = Ftp::connect(server.address).await;
        ftp.login("u", "secret").await;
    };
    for _ in 0..10 {
        login().await;
    }
    let before = server.resident_kib();
    for _ in 0..100 {
        login().await;
    }
    let grown = server.resident_kib().saturating_sub(before);
    println!("{grown} KiB more after 100 logins");
    assert!(
        grown < 8 * 1024,
        "{grown} KiB more: less than the memory of a single check"
    );
}

#[tokio::test]
async fn a_flood_of_logins_leaves_a_running_upload_its_speed() {
    let gateway = TestGateway::with(&[
        "AUTH__LOCKOUT__PER_USER=0",
        "AUTH__LOCKOUT__PER_ADDRESS=0",
        "SESSIONS__MAX_UNAUTHENTICATED_PER_IP=250",
    ])
    .await;
    let bytes = vec![b'x'; 32 << 20];
    let mut ftp = gateway.login().await;
    let calm = Instant::now();
    assert_eq!(ftp.store("STOR calm", &bytes).await.code, 226);
    let calm = calm.elapsed();
    let mut flood = Vec::new();
    for _ in 0..200 {
        // real hashes: each takes a core for tens of milliseconds
        let mut stranger = gateway.connect().await;
        stranger.send_raw(b"USER demo\r\nPASS wrong\r\n").await;
        flood.push(stranger);
    }
    let stormy = Instant::now();
    assert_eq!(ftp.store("STOR stormy", &bytes).await.code, 226);
    let stormy = stormy.elapsed();
    // half of the cores at the most; the rest is room for a busy machine
    assert!(
        stormy < calm * 10 + Duration::from_secs(5),
        "{stormy:?} after {calm:?}"
    );
}

#[tokio::test]
async fn a_failed_login_takes_as_long_as_the_dearest_hash_whoever_it_is_for() {
    let dear = bcrypt::hash("secret", 11).expect("hashes");
    let list = format!(
        "USERS=[{{name: cheap, password_hash: '{}'}}, {{name: dear, password_hash: '{dear}'}}, \
         {{name: far, password_hash: '{}', allow_from: 192.0.2.1}}]",
        cheap_hash("secret"),
        cheap_hash("secret")
    );
    let gateway = TestGateway::with(&[
        &list,
        "AUTH__LOCKOUT__PER_USER=0",
        "AUTH__LOCKOUT__PER_ADDRESS=0",
        "AUTH__LOCKOUT__DELAY=1ms",
        "AUTH__LOCKOUT__MAX_DELAY=1ms",
    ])
    .await;
    // what a busy machine adds is left out by the shortest of several
    let shortest = async |user: &str, password: &str, code: u16| {
        let mut shortest = Duration::MAX;
        for _ in 0..4 {
            let mut ftp = gateway.connect().await;
            ftp.command(&format!("USER {user}")).await;
            let begun = Instant::now();
            let reply = ftp.command(&format!("PASS {password}")).await;
            shortest = shortest.min(begun.elapsed());
            assert_eq!(reply.code, code, "{user}");
        }
        shortest
    };
    let dear = shortest("dear", "wrong", 530).await;
    for (user, password) in [("cheap", "wrong"), ("nobody", "wrong"), ("far", "secret")] {
        let took = shortest(user, password, 530).await;
        assert!(
            took > dear / 3,
            "{user}: {took:?}, and {dear:?} for a dear hash"
        );
    }
    let right = shortest("cheap", "secret", 230).await;
    println!("{dear:?} for a failure, {right:?} for a success");
}
