//! The building blocks of the scenarios.

pub mod cloud;
pub mod collector;
pub mod consumer;
pub mod cos;
pub mod faults;
pub mod front;
pub mod ftp;
pub mod gateway;
pub mod guide;
pub mod http;
pub mod kube_api;
pub mod mount;
pub mod proxy;
pub mod readings;
pub mod sigv4;
pub mod slapd;
pub mod strict_cos;
pub mod tls;

pub use consumer::{Absent, Consumer};
pub use ftp::{Ftp, Relay, Reply};
pub use gateway::{TestGateway, TestStore, cheap_hash, users};
pub use kube_api::KubeApi;
pub use mount::Mount;

use std::time::Duration;

/// Bytes that differ from place to place, so that a part in the wrong order is seen.
pub fn pattern(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}

/// Waits until `condition` holds; a scenario never sleeps blindly.
pub async fn eventually<F: Future<Output = bool>>(what: &str, condition: impl FnMut() -> F) {
    eventually_within(Duration::from_secs(60), what, condition).await;
}

/// The same for what takes its time.
pub async fn eventually_within<F: Future<Output = bool>>(
    within: Duration,
    what: &str,
    mut condition: impl FnMut() -> F,
) {
    let deadline = tokio::time::Instant::now() + within;
    while !condition().await {
        assert!(
            tokio::time::Instant::now() < deadline,
            "never came true: {what}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A session of `user`, whose password is `secret`.
pub async fn login(gateway: &TestGateway, user: &str) -> Ftp {
    let mut ftp = gateway.connect().await;
    ftp.login(user, "secret").await;
    ftp
}

/// The reply to a login with this password.
pub async fn try_login(gateway: &TestGateway, user: &str, password: &str) -> Reply {
    gateway.connect().await.try_login(user, password).await
}
