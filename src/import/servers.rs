//! The configurations of vsftpd, ProFTPD and Pure-FTPd, as far as they have a counterpart.
//!
//! Each server's keys are read in its own module into [`Found`]; what they mean for cosgate is the same from there on. None of
//! these files names a store, and users are elsewhere (`/etc/passwd`, a file, a directory service): a file of the form of
//! passwd or shadow gives them ([`super::passwd`]).

mod lines;
mod proftpd;
mod pureftpd;
mod vsftpd;

use self::lines::Lines;
use super::Mistake;
use super::plan::Setting;
use crate::config;

/// A program whose configuration is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Server {
    Vsftpd,
    ProFtpd,
    PureFtpd,
}

/// The content of a file, in cosgate's terms.
#[derive(Debug, Default)]
pub(super) struct Found {
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
pub(super) struct Certificate {
    pub chain: String,
    pub key: String,
    /// `tls.required`.
    pub required: &'static str,
}

impl Found {
    /// Sets a key of cosgate.
    fn set(&mut self, path: &'static str, value: impl Into<String>) {
        self.settings.push(Setting {
            path,
            value: value.into(),
            comments: Vec::new(),
        });
    }

    /// Says something to the reader of the result.
    fn remark(&mut self, text: impl Into<String>) {
        self.remarks.push(text.into());
    }

    /// Says something to the reader of the terminal, too.
    fn warn(&mut self, text: impl Into<String>) {
        self.warnings.push(text.into());
    }

    /// Names the keys that nobody asked for.
    fn leave_out(&mut self, lines: &Lines<'_>) {
        if let Some(left) = lines.left_out() {
            self.warn(format!("without counterpart, and left out: {left}"));
        }
    }

    fn set_seconds(&mut self, path: &'static str, seconds: Option<u64>) {
        // 0 is "never" in all three; cosgate's own time holds then
        if let Some(seconds) = seconds.filter(|seconds| *seconds > 0) {
            self.set(path, format!("{}s", seconds.min(MOST_SECONDS)));
        }
    }

    fn set_count(&mut self, path: &'static str, count: Option<u64>) {
        // 0 is "any number" there
        if let Some(count) = count.filter(|count| *count > 0) {
            self.set(path, count.min(1_000_000).to_string());
        }
    }
}

/// The program that `text` configures, by the keys in it; none if it is none of the three.
pub(super) fn recognise(text: &str) -> Option<Server> {
    let has_section = text.lines().any(|line| line.trim_start().starts_with('['));
    if has_section {
        return None;
    }
    let of = |server, count: usize| (count, server);
    let found = [
        of(Server::Vsftpd, vsftpd::known(text)),
        of(Server::ProFtpd, proftpd::known(text)),
        of(Server::PureFtpd, pureftpd::known(text)),
    ];
    let most = found.into_iter().max_by_key(|(count, _)| *count)?;
    (most.0 > 0).then_some(most.1)
}

/// Reads `text` as `server` does.
pub(super) fn read(server: Server, text: &str, mistakes: &mut Vec<Mistake>) -> Found {
    match server {
        Server::Vsftpd => vsftpd::read(text, mistakes),
        Server::ProFtpd => proftpd::read(text, mistakes),
        Server::PureFtpd => pureftpd::read(text, mistakes),
    }
}

fn port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err("write a port from 1 to 65535".to_owned()),
    }
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "write a whole number".to_owned())
}

fn ip(text: &str) -> Result<String, String> {
    text.parse::<std::net::IpAddr>()
        .map(|address| address.to_string())
        .map_err(|_| "write an IP address".to_owned())
}

fn masquerade(text: &str) -> Result<String, String> {
    config::masquerade_address(text).map(|_| text.to_owned())
}

fn greeting(text: &str) -> Result<String, String> {
    config::greeting(text.trim_matches('"'))
}

fn absolute(text: &str) -> Result<String, String> {
    let text = text.trim_matches('"');
    match text.starts_with('/') && !text.chars().any(char::is_control) {
        true => Ok(text.to_owned()),
        false => Err("write an absolute path".to_owned()),
    }
}

fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "yes" | "true" | "on" | "1" => Ok(true),
        "no" | "false" | "off" | "0" => Ok(false),
        _ => Err("write yes or no".to_owned()),
    }
}

/// Longer times are refused by cosgate.
const MOST_SECONDS: u64 = 7 * 24 * 60 * 60;

/// `FROM TO`.
fn two_ports(text: &str) -> Result<(u16, u16), String> {
    const WANTED: &str = "write the first and the last port, such as 30000 30015";
    let (from, to) = text.split_once(char::is_whitespace).ok_or(WANTED)?;
    match (port(from)?, port(to.trim())?) {
        (from, to) if from <= to => Ok((from, to)),
        _ => Err(format!("the range is the wrong way round; {WANTED}")),
    }
}
