//! The admin port: slow requests, large heads, and answers that nobody reads.

use std::time::Duration;

use futures::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::{Attacked, ends, trickle};
use crate::support::http::get;

#[tokio::test]
async fn heads_that_come_byte_by_byte_end_at_their_time_limit() {
    let attacked = Attacked::start(&[]).await;
    let slow = (0..12).map(|_| async {
        let mut socket = attacked.admin_socket().await;
        let head = b"GET /metrics HTTP/1.1\r\nx: ".iter();
        let head = head.chain(b"y".iter().cycle());
        let (pause, within) = (Duration::from_millis(200), Duration::from_secs(40));
        assert!(
            trickle(&mut socket, head, pause, within).await,
            "it goes on and on"
        );
    });
    join_all(slow).await;
    attacked.recovers().await;
}

#[tokio::test]
async fn large_heads_bodies_and_nonsense_are_refused_and_take_no_memory() {
    let attacked = Attacked::start(&[]).await;
    let long = "x".repeat(1 << 20);
    let many: String = (0..20_000)
        .map(|number| format!("x-{number}: y\r\n"))
        .collect();
    for request in [
        format!("GET /{long} HTTP/1.1\r\nhost: x\r\n\r\n"),
        format!("GET /metrics HTTP/1.1\r\nhost: x\r\nx: {long}\r\n\r\n"),
        format!("GET /metrics HTTP/1.1\r\nhost: x\r\n{many}\r\n"),
        "\r\n".repeat(100_000) + "nonsense\r\n\r\n",
        "USER anonymous\r\nPASS x\r\n".to_owned(),
    ] {
        for _ in 0..20 {
            let mut socket = attacked.admin_socket().await;
            let (mut reading, mut writing) = socket.split();
            let answer = async {
                let mut bytes = Vec::new();
                let _ = reading.read_to_end(&mut bytes).await;
                String::from_utf8_lossy(&bytes).into_owned()
            };
            let both = async { tokio::join!(writing.write_all(request.as_bytes()), answer).1 };
            let answer = timeout(Duration::from_secs(30), both)
                .await
                .expect("it ends");
            let shown = &request[..request.len().min(60)];
            assert!(!answer.starts_with("HTTP/1.1 2"), "{shown:?}: {answer}");
        }
    }
    // a body that is announced and never comes has an answer all the same
    let mut bodies = Vec::new();
    for _ in 0..10 {
        let mut socket = attacked.admin_socket().await;
        let request = "GET /livez HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n";
        socket.write_all(request.as_bytes()).await.expect("taken");
        let mut status = [0; 12];
        let read = timeout(Duration::from_secs(30), socket.read_exact(&mut status)).await;
        read.expect("in time").expect("an answer");
        assert_eq!(&status, b"HTTP/1.1 200");
        bodies.push(socket);
    }
    drop(bodies);
    attacked.recovers().await;
}

#[tokio::test]
async fn requests_whose_answers_nobody_reads_take_no_memory_and_no_place_of_a_probe() {
    let attacked = Attacked::start(&[]).await;
    let requests = "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n".repeat(1000);
    let mut deaf = Vec::new();
    for _ in 0..10 {
        let mut socket = attacked.admin_socket().await;
        let mut sent = 0;
        // until the gateway takes no more: its answers wait to be read
        while let Ok(Ok(())) = timeout(
            Duration::from_millis(500),
            socket.write_all(requests.as_bytes()),
        )
        .await
        {
            sent += requests.len();
            assert!(sent < 64 << 20, "the gateway swallows everything");
        }
        deaf.push(socket);
    }
    let grown = attacked.grown_kib().await;
    assert!(grown < 24.0 * 1024.0, "{grown} KiB");
    for path in ["/livez", "/readyz"] {
        assert_eq!(get(attacked.admin(), path, &[]).await.status, 200, "{path}");
    }
    // and those that have had their time are ended
    let mut first = deaf.swap_remove(0);
    drop(deaf);
    let has_ended = ends(&mut first, Duration::from_secs(90)).await;
    assert!(has_ended, "it goes on and on");
    attacked.recovers().await;
}
