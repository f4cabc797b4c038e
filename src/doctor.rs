//! `cosgate doctor`: named checks, each with what was seen and how to fix it.
//!
//! ```text
//! cosgate doctor                  this configuration: store, certificate, public address, ports, machine
//! cosgate doctor --connect HOST   a running gateway, from where clients stand
//!
//! examination ── one check after the other, each within its time ──> report (text, JSON)
//!      ├─ gateway: visit (the way in), data (connections and files), address (the advertised one), trust (TLS), client (wire)
//!      └─ configuration: store, reach, network (address, certificate, cluster), directory, handover, machine (ports, memory,
//!         descriptors)
//! ```
//!
//! Invariants: every wait is bounded; nothing that authenticates is printed; what a check leaves in the store is removed
//! again, also when a later check fails.

mod address;
mod configuration;
mod connect;
mod data;
mod directory;
mod events;
mod examination;
mod failure;
mod gateway;
mod handover;
mod machine;
mod network;
mod reach;
mod report;
mod rights;
mod store;
mod trust;
mod user_stores;
mod visit;

use std::path::PathBuf;

use secrecy::SecretString;

pub use configuration::examine_configuration;
pub use examination::Limits;
pub use gateway::examine_gateway;
pub use report::{Check, Outcome, Report, Verdict};

/// A gateway, and how to visit it.
#[derive(Debug, Clone)]
pub struct Target {
    /// A DNS name or an address, without brackets.
    pub host: String,
    /// The control port.
    pub port: u16,
    /// When TLS begins.
    pub security: Security,
    /// The user of the examination; none: what comes before the login is examined.
    pub login: Option<Login>,
    /// PEM file with authorities that are trusted besides the system's.
    pub ca: Option<PathBuf>,
    /// A certificate that is not trusted does not end the visit.
    pub insecure: bool,
    /// Host and port of its admin port, which is asked whether it is ready; none: it is not asked.
    pub admin: Option<(String, u16)>,
    /// Where the probe file goes; none: where the login leads. No control characters.
    pub directory: Option<String>,
}

/// A user.
#[derive(Debug, Clone)]
pub struct Login {
    /// Without control characters.
    pub user: String,
    /// Without control characters.
    pub password: SecretString,
}

/// When TLS begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// With AUTH TLS, if that is offered.
    Auto,
    /// With AUTH TLS.
    Explicit,
    /// With the first byte.
    Implicit,
    /// Never.
    Off,
}

impl Target {
    /// Host and port as people write them.
    pub fn address(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    /// Reads `HOST`, `HOST:PORT`, `[IPV6]:PORT` or `IPV6`.
    pub fn parse(text: &str) -> Result<(String, Option<u16>), String> {
        let advice =
            || format!("{text} is no HOST[:PORT]; IPv6 addresses with a port stand in brackets");
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']').ok_or_else(advice)?;
                (host, rest.strip_prefix(':'))
            }
            None if text.matches(':').count() > 1 => (text, None),
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let port = port.map(|port| port.parse().ok().filter(|port| *port != 0));
        let sound = !host.is_empty() && !host.chars().any(|c| c.is_control() || c == '/');
        match port {
            Some(None) => Err(advice()),
            _ if !sound => Err(advice()),
            port => Ok((host.to_owned(), port.flatten())),
        }
    }
}

/// The name of something that is removed again.
fn random_name() -> String {
    let mut bytes = [0; 8];
    // without randomness the clock has to do: the name only has to be nobody else's
    if getrandom::fill(&mut bytes).is_err() {
        let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
        bytes = (now.as_nanos() as u64).to_be_bytes();
    }
    format!(".cosgate-doctor-{:016x}", u64::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports_are_read() {
        for (text, host, port) in [
            ("ftp.example.com", "ftp.example.com", None),
            ("ftp.example.com:2121", "ftp.example.com", Some(2121)),
            ("[::1]:21", "::1", Some(21)),
            ("::1", "::1", None),
            ("[::1]", "::1", None),
        ] {
            assert_eq!(Target::parse(text), Ok((host.to_owned(), port)), "{text}");
        }
        for text in ["", ":21", "a:", "a:0", "a:b", "[::1", "a:70000", "ftp://a"] {
            assert!(Target::parse(text).is_err(), "{text}");
        }
    }
}
