//! The content of a server's file, in cosgate's terms.

use super::lines::Lines;
use crate::import::plan::Setting;

/// The content of a file, in cosgate's terms.
#[derive(Debug, Default)]
pub(in crate::import) struct Found {
    /// The program's name.
    pub program: &'static str,
    /// Addresses to listen on, without ports.
    pub addresses: Vec<String>,
    pub port: u16,
    /// Name of the key of the passive ports, first and last port.
    pub passive_ports: Option<(&'static str, (u16, u16))>,
    pub masquerade_address: Option<String>,
    /// TLS from the first byte, in the place of `AUTH TLS`.
    pub is_implicit: bool,
    pub certificate: Option<Certificate>,
    /// Everything else that has a key here.
    pub settings: Vec<Setting>,
    /// The users' rights, as `users[].permissions`.
    pub permissions: &'static str,
    /// The directory of a user without one of its own; `$USER` stands for its name.
    pub home: Option<String>,
    /// For the reader of the result.
    pub remarks: Vec<String>,
    /// For the reader of the terminal, too.
    pub warnings: Vec<String>,
}

/// PEM files.
#[derive(Debug)]
pub(in crate::import) struct Certificate {
    pub chain: String,
    pub key: String,
    /// `tls.required`.
    pub required: &'static str,
}

impl Found {
    /// Sets a key of cosgate.
    pub(super) fn set(&mut self, path: &'static str, value: impl Into<String>) {
        self.settings.push(Setting {
            path,
            value: value.into(),
            comments: Vec::new(),
        });
    }

    /// Says something to the reader of the result.
    pub(super) fn remark(&mut self, text: impl Into<String>) {
        self.remarks.push(text.into());
    }

    /// Says something to the reader of the terminal, too.
    pub(super) fn warn(&mut self, text: impl Into<String>) {
        self.warnings.push(text.into());
    }

    /// Names the keys that nobody asked for.
    pub(super) fn leave_out(&mut self, lines: &Lines<'_>) {
        if let Some(left) = lines.left_out() {
            self.warn(format!("without counterpart, and left out: {left}"));
        }
    }

    pub(super) fn set_seconds(&mut self, path: &'static str, seconds: Option<u64>) {
        // 0 is "never" in all three; cosgate's own time holds then
        if let Some(seconds) = seconds.filter(|seconds| *seconds > 0) {
            self.set(path, format!("{}s", seconds.min(MOST_SECONDS)));
        }
    }

    pub(super) fn set_count(&mut self, path: &'static str, count: Option<u64>) {
        // 0 is "any number" there
        if let Some(count) = count.filter(|count| *count > 0) {
            self.set(path, count.min(1_000_000).to_string());
        }
    }
}

/// Longer times are refused by cosgate.
const MOST_SECONDS: u64 = 7 * 24 * 60 * 60;
