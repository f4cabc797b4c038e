//! The limits of requests that move many bytes.

use std::time::Duration;

use aws_config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{Builder, Config};

use crate::store::client::Store;

/// A body is given at least this long on the way, in bytes per second, before its attempt is called dead.
const SLOWEST_BODY: u64 = 64 * 1024;

/// Stores are given at least this long to move bytes themselves, in bytes per second.
const SLOWEST_COPY: u64 = 1024 * 1024;

impl Store {
    /// Limits for a request that carries `bytes`: attempts and all of them together end when nothing moves (see
    /// [`crate::store::progress`]). As long as bytes move they may take their time, on a link of [`SLOWEST_BODY`] at least.
    pub(super) fn timeouts_for(&self, bytes: u64) -> Builder {
        let body = Duration::from_secs(bytes / SLOWEST_BODY);
        let settings = self.settings();
        Config::builder().timeout_config(
            TimeoutConfig::builder()
                .operation_timeout(settings.retry_time + body * settings.max_attempts)
                .build(),
        )
    }

    /// Limits for a request whose `bytes` never leave the store, so that nobody sees them move: it gets the time for an
    /// answer, and a second for each MiB on top.
    pub(super) fn timeouts_for_copy(&self, bytes: u64) -> Builder {
        let copying = Duration::from_secs(bytes / SLOWEST_COPY);
        let settings = self.settings();
        Config::builder().timeout_config(
            TimeoutConfig::builder()
                .read_timeout(settings.request_timeout + copying)
                .operation_timeout(settings.retry_time + copying * settings.max_attempts)
                .build(),
        )
    }
}
