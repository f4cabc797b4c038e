//! Passive ports with real connections to them.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::bind;
use crate::passive::{NoPort, PassivePool, Stray};

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A pool of `count` ports that happened to be free just now.
fn pool(count: u16, accept_timeout: Duration) -> (Arc<PassivePool>, CancellationToken) {
    static FROM: std::sync::atomic::AtomicU16 = std::sync::atomic::AtomicU16::new(18_000);
    let stop = CancellationToken::new();
    for _ in 0..100 {
        let from = FROM.fetch_add(count, Ordering::Relaxed);
        if let Ok(pool) = bind(
            LOCAL,
            from..=from + count - 1,
            None,
            accept_timeout,
            &Arc::default(),
            &stop,
        ) {
            return (pool, stop);
        }
    }
    panic!(
        "no free ports between 18000 and {}",
        FROM.load(Ordering::Relaxed)
    );
}

#[tokio::test]
async fn a_connection_reaches_the_session_that_reserved_its_port() {
    let (pool, _stop) = pool(2, Duration::from_secs(10));
    let mut first = pool
        .reserve(LOCAL, 1, Duration::ZERO, |_| true)
        .await
        .expect("a port");
    let mut second = pool
        .reserve(LOCAL, 1, Duration::ZERO, |_| true)
        .await
        .expect("another port");
    assert_ne!(first.port(), second.port());
    let client = TcpStream::connect((LOCAL, second.port()))
        .await
        .expect("connects");
    let server = second.connection().await.expect("is handed over");
    assert_eq!(
        server.peer_addr().expect("connected"),
        client.local_addr().expect("connected")
    );
    assert!(
        tokio::time::timeout(Duration::from_millis(50), first.connection())
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_stranger_is_reset_and_counted() {
    use tokio::io::AsyncReadExt;
    let (pool, _stop) = pool(1, Duration::from_secs(10));
    let other: IpAddr = "127.0.0.2".parse().expect("an address");
    let reservation = pool
        .reserve(other, 1, Duration::ZERO, |_| true)
        .await
        .expect("a port");
    let mut stranger = TcpStream::connect((LOCAL, reservation.port()))
        .await
        .expect("connects");
    assert!(stranger.read_u8().await.is_err());
    assert_eq!(pool.strays(), 1);
}

/// A connection to `port`: true if it is reset, false if it stays open for a moment.
async fn is_reset(port: u16) -> bool {
    use tokio::io::AsyncReadExt;
    let mut client = TcpStream::connect((LOCAL, port)).await.expect("connects");
    let read = tokio::time::timeout(Duration::from_millis(100), client.read_u8());
    matches!(read.await, Ok(Err(_)))
}

#[tokio::test]
async fn a_late_connection_is_reset_and_reaches_no_other_session() {
    let (pool, _stop) = pool(1, Duration::from_millis(400));
    let given_up = pool.reserve(LOCAL, 1, Duration::ZERO, |_| true).await;
    let port = given_up.as_ref().expect("a port").port();
    drop(given_up);
    // nobody else gets the pair, and what arrives meanwhile is reset, however often
    let other = pool.reserve(LOCAL, 2, Duration::ZERO, |_| true).await;
    assert_eq!(other.err(), Some(NoPort::Busy));
    assert!(is_reset(port).await && is_reset(port).await);
    assert_eq!(pool.strays(), 2);
    // another session waits for it
    let begun = Instant::now();
    let mut fresh = pool
        .reserve(LOCAL, 2, Duration::from_secs(10), |_| true)
        .await
        .expect("after the quarantine");
    assert!(begun.elapsed() < Duration::from_secs(5));
    let _client = TcpStream::connect((LOCAL, port)).await.expect("connects");
    assert!(fresh.connection().await.is_some());
}

#[tokio::test]
async fn a_session_has_its_own_pair_again_at_once() {
    let (pool, _stop) = pool(1, Duration::from_secs(100));
    for _ in 0..3 {
        let again = pool.reserve(LOCAL, 1, Duration::ZERO, |_| true).await;
        assert!(again.is_ok());
    }
    let other = pool.reserve(LOCAL, 2, Duration::ZERO, |_| true).await;
    assert_eq!(other.err(), Some(NoPort::Busy));
    // another address has pairs of its own
    let elsewhere: IpAddr = "127.0.0.2".parse().expect("an address");
    let elsewhere = pool.reserve(elsewhere, 2, Duration::ZERO, |_| true).await;
    assert!(elsewhere.is_ok());
}

#[tokio::test]
async fn of_two_connections_for_a_pair_that_a_session_had_twice_none_reaches_another_session() {
    let (pool, _stop) = pool(1, Duration::from_secs(100));
    drop(pool.reserve(LOCAL, 1, Duration::ZERO, |_| true).await);
    let mut again = pool
        .reserve(LOCAL, 1, Duration::ZERO, |_| true)
        .await
        .expect("its own pair");
    let port = again.port();
    let _first = TcpStream::connect((LOCAL, port)).await.expect("connects");
    assert!(again.connection().await.is_some());
    let other = pool.reserve(LOCAL, 2, Duration::ZERO, |_| true).await;
    assert_eq!(other.err(), Some(NoPort::Busy), "the second may still come");
    assert!(is_reset(port).await);
}

#[tokio::test]
async fn a_session_that_asks_again_and_again_leaves_half_of_the_ports_to_others() {
    let (pool, _stop) = pool(8, Duration::from_secs(100));
    let mut held = None;
    for _ in 0..20 {
        // the new one takes the place of the old one, as after a second EPSV
        drop(held.take());
        held = pool.reserve(LOCAL, 1, Duration::ZERO, |_| true).await.ok();
        assert!(held.is_some());
    }
    for other in 2..5 {
        let reserved = pool.reserve(LOCAL, other, Duration::ZERO, |_| true).await;
        assert!(reserved.is_ok(), "session {other}");
        std::mem::forget(reserved);
    }
}

#[tokio::test]
async fn a_port_is_free_for_others_once_its_connection_has_come() {
    let (pool, _stop) = pool(1, Duration::from_secs(100));
    let mut first = pool
        .reserve(LOCAL, 1, Duration::ZERO, |_| true)
        .await
        .expect("a port");
    let waiting = tokio::spawn({
        let pool = pool.clone();
        async move {
            pool.reserve(LOCAL, 2, Duration::from_secs(10), |_| true)
                .await
        }
    });
    let _client = TcpStream::connect((LOCAL, first.port()))
        .await
        .expect("connects");
    assert!(first.connection().await.is_some());
    assert!(waiting.await.expect("no panic").is_ok());
    drop(first);
}

#[tokio::test]
async fn a_client_that_never_comes_loses_its_port_to_one_that_needs_it_after_a_quarantine() {
    let timeout = Duration::from_millis(50);
    let (pool, _stop) = pool(1, timeout);
    let mut stale = pool
        .reserve(LOCAL, 1, Duration::ZERO, |_| true)
        .await
        .expect("a port");
    let begun = Instant::now();
    let fresh = pool
        .reserve(LOCAL, 2, Duration::from_secs(10), |_| true)
        .await;
    assert!(fresh.is_ok());
    assert!(begun.elapsed() >= 2 * timeout, "{:?}", begun.elapsed());
    assert!(stale.connection().await.is_none());
    // the stale one's end must not free the port of the fresh one
    drop(stale);
    assert_eq!(pool.reserved(), 1);
}

#[tokio::test]
async fn where_a_stray_came_from_is_known_for_the_diagnosis() {
    let (pool, _stop) = pool(1, Duration::from_secs(10));
    let elsewhere: IpAddr = "127.0.0.2".parse().expect("an address");
    let reservation = pool
        .reserve(elsewhere, 1, Duration::ZERO, |_| true)
        .await
        .expect("a port");
    assert_eq!(
        pool.stray_since(reservation.port(), reservation.since()),
        None
    );
    assert!(is_reset(reservation.port()).await);
    let stray = pool.stray_since(reservation.port(), reservation.since());
    assert_eq!(stray, Some(Stray::Client(LOCAL)));
    assert_eq!(pool.stray_since(reservation.port(), Instant::now()), None);
}

#[tokio::test]
async fn a_port_that_clients_cannot_reach_is_never_chosen() {
    let (pool, _stop) = pool(3, Duration::from_secs(10));
    let only = pool.ports()[1];
    let reserve = |owner| pool.reserve(LOCAL, owner, Duration::ZERO, |port| port == only);
    let first = reserve(1).await.expect("a port");
    assert_eq!(first.port(), only);
    assert_eq!(
        reserve(2).await.err(),
        Some(NoPort::Busy),
        "the others are not usable"
    );
    let at_once = std::time::Instant::now();
    let none = pool.reserve(LOCAL, 1, Duration::from_secs(10), |_| false);
    assert_eq!(none.await.err(), Some(NoPort::Unusable));
    assert!(
        at_once.elapsed() < Duration::from_secs(5),
        "nothing to wait for"
    );
}

#[tokio::test]
async fn a_taken_port_is_an_error_that_names_it() {
    let taken = TcpListener::bind((LOCAL, 0)).await.expect("a free port");
    let port = taken.local_addr().expect("bound").port();
    let stop = CancellationToken::new();
    let second = Duration::from_secs(1);
    let error =
        bind(LOCAL, port..=port, None, second, &Arc::default(), &stop).expect_err("it is taken");
    assert!(
        error.to_string().contains(&format!("127.0.0.1:{port}")),
        "{error}"
    );
}
