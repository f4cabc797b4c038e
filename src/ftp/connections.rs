//! Control connections: how many there may be, in all, from one network, and from one network before the login.
//!
//! The last is lower than the others, so that a stranger who connects and says nothing can't take the places of users for
//! as long as `sessions.login_timeout`.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::config::Sessions;
use crate::descriptors::Descriptors;
use crate::net::network;
use crate::permits::{self, Permits};

/// The control connections that are open, and their limits.
#[derive(Debug)]
pub struct ControlConnections {
    max: usize,
    max_per_network: usize,
    max_unauthenticated: usize,
    refused_from: u64,
    all: Arc<Permits<()>>,
    by_network: Arc<Permits<IpAddr>>,
    unauthenticated: Arc<Permits<IpAddr>>,
    serial: AtomicU64,
}

/// The text of a 421 for a client whose address is refused.
pub const ADDRESS_REFUSED: &str = "Connections from your address are not accepted";

/// Permission for one connection, given back on drop.
#[derive(Debug)]
pub struct Permit {
    _all: permits::Permit<()>,
    _network: permits::Permit<IpAddr>,
    unauthenticated: Option<permits::Permit<IpAddr>>,
}

/// Why a connection is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// `sessions.max`, or as many as the file descriptors are enough for.
    Sessions,
    /// File descriptors are nearly used up.
    Descriptors,
    /// `sessions.max_per_ip`
    Network,
    /// `sessions.max_unauthenticated_per_ip`
    Unauthenticated,
    /// `access.deny`
    Denied,
    /// `access.allow`
    NotAllowed,
}

impl Refusal {
    /// All of them.
    pub const ALL: [Refusal; 6] = [
        Refusal::Sessions,
        Refusal::Descriptors,
        Refusal::Network,
        Refusal::Unauthenticated,
        Refusal::Denied,
        Refusal::NotAllowed,
    ];

    /// The text of the 421.
    pub fn text(self) -> &'static str {
        match self {
            Refusal::Sessions | Refusal::Descriptors => "Too many sessions, try again later",
            Refusal::Network => "Too many sessions from your address, try again later",
            Refusal::Unauthenticated => {
                "Too many sessions from your address have not logged in, try again later"
            }
            Refusal::Denied | Refusal::NotAllowed => ADDRESS_REFUSED,
        }
    }

    /// One word, for a metric's label.
    pub fn word(self) -> &'static str {
        match self {
            Refusal::Sessions => "sessions",
            Refusal::Descriptors => "descriptors",
            Refusal::Network => "address",
            Refusal::Unauthenticated => "unauthenticated",
            Refusal::Denied => "denied",
            Refusal::NotAllowed => "not_allowed",
        }
    }
}

impl ControlConnections {
    /// None yet, within the limits of `sessions` and of `descriptors`.
    pub fn new(sessions: &Sessions, descriptors: &Descriptors) -> Arc<Self> {
        let max = sessions.max.min(descriptors.sessions);
        let max_unauthenticated = if max < sessions.max {
            // chosen for more sessions than the descriptors are enough for
            let share = Sessions::unauthenticated_share(max);
            sessions.max_unauthenticated_per_ip.min(share)
        } else {
            sessions.max_unauthenticated_per_ip
        };
        Arc::new(ControlConnections {
            max,
            max_per_network: sessions.max_per_ip,
            max_unauthenticated,
            refused_from: descriptors.refused_from(),
            all: Arc::default(),
            by_network: Arc::default(),
            unauthenticated: Arc::default(),
            serial: AtomicU64::new(0),
        })
    }

    /// Permission for a connection from `address` whose socket has this `descriptor`.
    pub fn admit(&self, address: IpAddr, descriptor: u64) -> Result<Permit, Refusal> {
        if descriptor >= self.refused_from {
            return Err(Refusal::Descriptors);
        }
        let network = network(address);
        let all = self
            .all
            .try_acquire((), self.max)
            .ok_or(Refusal::Sessions)?;
        let by_network = self.by_network.try_acquire(network, self.max_per_network);
        let by_network = by_network.ok_or(Refusal::Network)?;
        let unauthenticated = self
            .unauthenticated
            .try_acquire(network, self.max_unauthenticated);
        Ok(Permit {
            _all: all,
            _network: by_network,
            unauthenticated: Some(unauthenticated.ok_or(Refusal::Unauthenticated)?),
        })
    }

    /// Connections at this moment.
    pub fn count(&self) -> usize {
        self.all.held(&())
    }

    /// A number that no other session of this process has.
    pub fn next_id(&self) -> u64 {
        self.serial.fetch_add(1, Ordering::Relaxed) + 1
    }
}

impl Permit {
    /// The client has logged in.
    pub fn authenticated(&mut self) {
        self.unauthenticated = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections(change: impl FnOnce(&mut Sessions)) -> Arc<ControlConnections> {
        let loaded = crate::config::load_from(None, std::iter::empty());
        let mut config = loaded.expect("the defaults are valid").config;
        change(&mut config.sessions);
        ControlConnections::new(&config.sessions, &Descriptors::of(&config, 100_000))
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_customers_ipv6_addresses_are_one_network() {
        let connections = connections(|sessions| sessions.max_per_ip = 2);
        let mut held = Vec::new();
        for host in ["2001:db8:1:2::1", "2001:db8:1:2:ffff::2"] {
            held.push(connections.admit(address(host), 10).expect("free"));
        }
        let third = connections.admit(address("2001:db8:1:2::3"), 10);
        assert_eq!(third.err(), Some(Refusal::Network));
        for other in ["2001:db8:1:3::1", "192.0.2.1", "::ffff:192.0.2.2"] {
            held.push(connections.admit(address(other), 10).expect("another's"));
        }
        assert_eq!(connections.count(), 5);
        drop(held);
        assert_eq!(connections.count(), 0);
    }

    #[test]
    fn who_has_logged_in_makes_room_for_who_has_not() {
        let connections = connections(|sessions| sessions.max_unauthenticated_per_ip = 2);
        let from = address("192.0.2.1");
        let mut first = connections.admit(from, 10).expect("free");
        let second = connections.admit(from, 10).expect("free");
        let third = connections.admit(from, 10);
        assert_eq!(third.err(), Some(Refusal::Unauthenticated));
        first.authenticated();
        first.authenticated();
        let third = connections.admit(from, 10).expect("room again");
        drop((first, second));
        assert_eq!(connections.unauthenticated.held(&from), 1);
        drop(third);
        assert_eq!(connections.count(), 0);
    }

    #[test]
    fn four_addresses_that_never_log_in_leave_a_place_by_default() {
        for (max, descriptors) in [(1000, 100_000), (400, 100_000), (10, 100_000), (1000, 1024)] {
            let max_set = "COSGATE_SESSIONS__MAX".to_owned();
            let env = std::iter::once((max_set, max.to_string()));
            let config = crate::config::load_from(None, env).expect("valid").config;
            let limits = Descriptors::of(&config, descriptors);
            let connections = ControlConnections::new(&config.sessions, &limits);
            let mut held = Vec::new();
            for host in 1..=4 {
                let from = IpAddr::from([192, 0, 2, host]);
                held.extend(std::iter::from_fn(|| connections.admit(from, 10).ok()));
            }
            let other = connections.admit(address("198.51.100.1"), 10);
            assert!(other.is_ok(), "{max}, {descriptors}: {} held", held.len());
        }
    }

    #[test]
    fn the_last_descriptors_are_for_others() {
        let connections = connections(|_| {});
        let refused = connections.admit(address("192.0.2.1"), 99_990);
        assert_eq!(refused.err(), Some(Refusal::Descriptors));
    }
}
