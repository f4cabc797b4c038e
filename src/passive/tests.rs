//! The search for a port, and connections that come for another reservation.

use super::*;

#[tokio::test]
async fn addresses_that_never_come_back_take_no_memory_for_ever() {
    let local = IpAddr::from([127, 0, 0, 1]);
    let pool = Arc::new(PassivePool::new(local, 1..=2, Duration::from_millis(1)));
    for host in 0..50_000_u32 {
        let client = IpAddr::from(std::net::Ipv6Addr::from(u128::from(host) | 0x2001 << 112));
        let reserved = pool.reserve(client, 1, Duration::ZERO, |_| true).await;
        drop(reserved.expect("a port"));
    }
    let remembered = pool.taken.lock().pairs.len();
    assert!(remembered < 10_000, "{remembered} pairs");
    assert_eq!(pool.reserved(), 0);
}

/// A pool of one port, and its listener, which the test serves itself.
async fn served_by_hand(
    accept_timeout: Duration,
) -> (Arc<PassivePool>, tokio::net::TcpListener, u16) {
    let local = IpAddr::from([127, 0, 0, 1]);
    let listener = tokio::net::TcpListener::bind((local, 0))
        .await
        .expect("a port");
    let port = listener.local_addr().expect("bound").port();
    (
        Arc::new(PassivePool::new(local, port..=port, accept_timeout)),
        listener,
        port,
    )
}

#[tokio::test]
async fn what_a_client_has_closed_is_no_upload_of_its_next_reservation() {
    use tokio::io::AsyncWriteExt;
    let (pool, listener, port) = served_by_hand(Duration::from_secs(100)).await;
    let local = pool.address();
    let given_up = pool.reserve(local, 1, Duration::ZERO, |_| true).await;
    drop(TcpStream::connect((local, port)).await.expect("connects"));
    drop(given_up);
    let again = pool.reserve(local, 1, Duration::ZERO, |_| true).await;
    let mut again = again.expect("its own pair");
    let mut client = TcpStream::connect((local, port)).await.expect("connects");
    client.write_all(b"bytes").await.expect("writes");
    for _ in 0..2 {
        let (socket, peer) = listener.accept().await.expect("a connection");
        pool.deliver(port, socket, peer.ip());
    }
    let server = again.connection().await.expect("its own connection");
    let peer = server.peer_addr().expect("connected");
    assert_eq!(peer, client.local_addr().expect("connected"));
    assert_eq!(pool.strays(), 1);
}

#[tokio::test]
async fn a_free_port_is_found_without_a_look_at_all_of_them() {
    let local = IpAddr::from([127, 0, 0, 1]);
    let pool = Arc::new(PassivePool::new(local, 1..=2000, Duration::from_secs(10)));
    let looks = AtomicUsize::new(0);
    let usable = |_| {
        looks.fetch_add(1, Ordering::Relaxed);
        true
    };
    let mut reserved = Vec::new();
    for session in 0..1000 {
        let reservation = pool.reserve(local, session, Duration::ZERO, usable).await;
        reserved.push(reservation.expect("a port"));
    }
    assert_eq!(looks.into_inner(), 1000);
}
