//! File descriptors: how many this process may open, and how many sessions they are enough for.
//!
//! Invariant: a session that is accepted finds the descriptors that its transfers need, and so do the store and the admin
//! port, whatever strangers connect. Sessions beyond that are refused with a reply.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::cluster::handover::MAX_UNVERIFIED;
use crate::config::Config;
use crate::proxy_protocol::MAX_WAITING;

/// The capacity of a limit of file descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptors {
    /// The most that may be open; `u64::MAX` without a limit.
    pub limit: u64,
    /// The need of `sessions.max` sessions at the most, and of the connections that are handed over.
    pub needed: u64,
    /// Sessions that there may be: `sessions.max`, or fewer.
    pub sessions: usize,
    /// Data connections of other replicas that may be relayed: `handover.max_connections`, or fewer; 0 without handover.
    pub relays: usize,
    wanted: usize,
}

/// The control connection and the transfer's own descriptor of it, the pair of sockets between edge and engine, and a data connection.
/// Requests to the store come besides.
const PER_SESSION: u64 = 5;

/// The connections of the admin port (128), listeners, the runtime, the log, resolvers, watched files, the API server, the
/// endpoint of `auth.http` or the directory of `auth.ldap` and the collector of traces.
const BESIDES: u64 = 200;

/// A passive port's listener, and one connection that waits to be taken.
const PER_PASSIVE_PORT: u64 = 2;

/// The client's connection, the owner's, and a pipe for each direction that carries many bytes.
const PER_RELAY: u64 = 6;

/// A stream of lockout events in each direction.
const PER_PEER: u64 = 2;

/// Slices may be many more than replicas that run.
const MAX_PEERS: u64 = 100;

/// The part of the descriptors that relays may have where there are too few: sessions without them could do nothing, but relays serve
/// the sessions of others.
const RELAYS_PART: u64 = 3;

/// New control connections are refused when no more than this is left, whoever has taken the rest.
const LAST_RESERVE: u64 = 64;

impl Descriptors {
    /// The capacity of `limit`.
    pub fn of(config: &Config, limit: u64) -> Self {
        let requests = config.upload.concurrency.max(config.download.concurrency);
        let per_session = PER_SESSION + requests as u64;
        let implicit = config.tls.iter().flat_map(|tls| &tls.implicit_listen);
        let mut addresses: Vec<_> = config.listen.iter().chain(implicit).collect();
        addresses.sort_unstable_by_key(|address| address.ip());
        addresses.dedup_by_key(|address| address.ip());
        let ports = (config.bound_ports().len() * addresses.len()) as u64;
        let unverified = match &config.handover {
            Some(_) => MAX_UNVERIFIED as u64,
            None => 0,
        };
        let streams = config.shared_lockouts().map_or(0, |handover| {
            PER_PEER * u64::from(handover.replicas() - 1).min(MAX_PEERS)
        });
        let headers = match config.proxy_protocol.trusted.as_slice() {
            [] => 0,
            _ => MAX_WAITING as u64,
        };
        let fixed = BESIDES + PER_PASSIVE_PORT * ports + unverified + streams + headers;
        let (wanted, relays) = (config.sessions.max, max_relays(config));
        let all = fixed + per_session * wanted as u64 + PER_RELAY * relays;
        // where there are too few, relays get no more than a part of them
        let left = limit.saturating_sub(fixed);
        let relays = if all > limit {
            relays.min(left / RELAYS_PART / PER_RELAY)
        } else {
            relays
        };
        let fit = (left - PER_RELAY * relays) / per_session;
        Descriptors {
            limit,
            needed: all,
            relays: usize::try_from(relays).unwrap_or(usize::MAX),
            // one is better than a gateway that refuses everybody
            sessions: usize::try_from(fit).unwrap_or(usize::MAX).clamp(1, wanted),
            wanted,
        }
    }

    /// The fault and its remedy, if the limit is too low for `sessions.max`.
    pub fn shortage(&self) -> Option<String> {
        (self.sessions < self.wanted).then(|| {
            format!(
                "{} file descriptors are allowed, sessions.max = {} may need {}: only {} sessions are accepted; {}",
                self.limit,
                self.wanted,
                self.needed,
                self.sessions,
                self.remedy()
            )
        })
    }

    /// The ways to get a limit that is high enough, or do without.
    pub fn remedy(&self) -> String {
        format!(
            "raise the hard limit where the gateway is started (LimitNOFILE= of systemd, ulimit -Hn, --ulimit nofile= of \
             docker), or set sessions.max to {}",
            self.sessions
        )
    }

    /// The lowest descriptor that a new control connection may not have. The kernel gives the lowest number that is free,
    /// so a connection that gets this one shows that all below are in use.
    pub fn refused_from(&self) -> u64 {
        self.limit.saturating_sub(LAST_RESERVE)
    }
}

/// Data connections of other replicas that are relayed at a time.
fn max_relays(config: &Config) -> u64 {
    let handover = config.handover.as_ref();
    handover.map_or(0, |handover| handover.max_connections as u64)
}

/// The limit to which a process may raise its own.
pub fn hard_limit() -> u64 {
    getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX)
}

/// Raises this process's limit as far as it may be raised; returns the limit in force.
///
/// The soft limit is 1,024 nearly everywhere for the sake of programs that use select(2), which this one does not.
pub fn raise_limit() -> u64 {
    let before = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: before.maximum,
        maximum: before.maximum,
    };
    // refused: the limit stays as it is
    let _ = setrlimit(Resource::Nofile, raised);
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(limit: u64) -> Descriptors {
        let loaded = crate::config::load_from(None, std::iter::empty());
        Descriptors::of(&loaded.expect("the defaults are valid").config, limit)
    }

    #[test]
    fn a_high_limit_is_enough_for_all_sessions() {
        for limit in [9_232, 1_048_576, u64::MAX] {
            let enough = of(limit);
            assert_eq!((enough.needed, enough.sessions), (9_232, 1000), "{limit}");
            assert_eq!(enough.shortage(), None);
        }
    }

    #[test]
    fn connections_that_wait_for_their_proxy_header_have_descriptors_of_their_own() {
        let trusted = (
            "COSGATE_PROXY_PROTOCOL__TRUSTED".to_owned(),
            "192.0.2.1".to_owned(),
        );
        let loaded = crate::config::load_from(None, [trusted]).expect("a good configuration");
        let needed = Descriptors::of(&loaded.config, u64::MAX).needed;
        assert_eq!(needed, of(u64::MAX).needed + MAX_WAITING as u64);
    }

    #[test]
    fn a_low_limit_is_enough_for_fewer_sessions_and_the_remedy_is_named() {
        let low = of(1024);
        assert_eq!(low.sessions, (1024 - 200 - 32) / 9);
        let text = low.shortage().expect("too low");
        for words in [
            "1024 file descriptors",
            "LimitNOFILE=",
            "sessions.max to 88",
        ] {
            assert!(text.contains(words), "{words} in {text}");
        }
        assert_eq!(of(0).sessions, 1);
    }

    #[test]
    fn relays_have_descriptors_of_their_own_and_a_third_where_there_are_too_few() {
        let env = [
            ("PASSIVE__PORTS", "30000-30005"),
            ("PASSIVE__SLICE_SIZE", "2"),
            ("PASSIVE__ORDINAL", "0"),
            ("HANDOVER__LISTEN", "127.0.0.1:2122"),
            ("HANDOVER__PEERS", "replica-{ordinal}"),
            ("HANDOVER__KEY", "0123456789abcdef0123456789abcdef"),
        ];
        let env = env.map(|(key, value)| (format!("COSGATE_{key}"), value.to_owned()));
        let config = crate::config::load_from(None, env).expect("valid").config;
        let fixed = 200 + 256 + 2 * 2 + 2 * 6;
        let needed = fixed + 9 * 1000 + 6 * 1000;
        let enough = Descriptors::of(&config, needed);
        assert_eq!(
            (enough.needed, enough.relays, enough.sessions),
            (needed, 1000, 1000)
        );
        let low = Descriptors::of(&config, 1024);
        assert_eq!(low.relays, (1024 - fixed as usize) / 3 / 6);
        assert_eq!(low.sessions, (1024 - fixed as usize - 6 * low.relays) / 9);
        assert!(low.shortage().is_some());
    }
}
