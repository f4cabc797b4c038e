//! Clients that a program on the internet meets: floods, slow ones, those that lie and those that never end.
//!
//! In most of them the gateway under attack is a process of its own, of which [`Attacked`] takes the readings before and after: sessions, reservations,
//! buffer memory, tasks, descriptors and resident memory are as before once they have gone. Limits and waits that need no readings have
//! scenarios in `connections`, `sessions`, `guessing`, `waits`, `status`, `protection`, `proxy_protocol` and `active`.

mod admin;
mod commands;
mod connections;
mod data;
mod descriptors;
mod listings;
mod logs;
mod names;
mod proxies;
mod readings;
mod tls;

use std::time::{Duration, Instant};

use readings::Attacked;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// Reads until the gateway closes, with a reset or without; false if that takes longer than `within`.
async fn ends(mut socket: impl AsyncRead + Unpin, within: Duration) -> bool {
    let mut rest = Vec::new();
    timeout(within, socket.read_to_end(&mut rest)).await.is_ok()
}

/// Writes one byte after another, with `pause` between them, until the gateway closes; false if that takes longer than `within`.
async fn trickle<'a>(
    socket: &mut TcpStream,
    bytes: impl IntoIterator<Item = &'a u8>,
    pause: Duration,
    within: Duration,
) -> bool {
    let begun = Instant::now();
    for byte in bytes {
        if begun.elapsed() > within {
            return false;
        }
        if socket.write_all(&[*byte]).await.is_err() {
            return true;
        }
        sleep(pause).await;
    }
    unreachable!("the bytes never end");
}
