//! `sessions.*`: limits on control connections.

use std::time::Duration;

use crate::config::keys::row::*;
use crate::config::reader::Reader;

/// The rows of the table.
#[rustfmt::skip]
pub(in crate::config) const KEYS: &[Key] = &[
    key("sessions.max", Count(1, 1_000_000), Is("1000"),
        "Control connections in all; one more is answered with 421. Fewer where the limit of file descriptors is too low for so many."),
    key("sessions.max_per_ip", Count(1, 1_000_000), Is("250"),
        "Control connections from one client address (IPv6: from one /64 network)."),
    key("sessions.max_unauthenticated_per_ip", Count(1, 1_000_000), Derived("a fifth of `sessions.max`, at most 100"),
        "Those of them that have not logged in yet; one more is answered with 421."),
    key("sessions.idle_timeout", Time, Is("10m"),
        "A session without a command or a transfer is closed after this time."),
    key("sessions.login_timeout", Time, Is("60s"),
        "A client that has not logged in is disconnected after this time."),
];

/// Limits on control connections.
#[derive(Debug, Clone)]
pub struct Sessions {
    /// Sessions in all; at least 1.
    pub max: usize,
    /// Sessions from one client network (IPv4 address or IPv6 /64); at least 1.
    pub max_per_ip: usize,
    /// Sessions from one network that have not logged in; at least 1.
    pub max_unauthenticated_per_ip: usize,
    /// A session without command or transfer ends after this; 1 ms to 7 days.
    pub idle_timeout: Duration,
    /// A client has to be logged in after this; 1 ms to 7 days.
    pub login_timeout: Duration,
}

impl Sessions {
    /// The share of `max` sessions that one network may hold without a login, at least 1: a fifth, so that four addresses
    /// that never log in leave a place for somebody else.
    pub fn unauthenticated_share(max: usize) -> usize {
        (max / 5).max(1)
    }
}

/// Reads the section.
pub(super) fn resolve(read: &mut Reader) -> Sessions {
    const WITHOUT_LOGIN: &str = "sessions.max_unauthenticated_per_ip";
    let max = read.number("sessions.max");
    let max_unauthenticated_per_ip = match read.optional_count(WITHOUT_LOGIN) {
        Some(count) => usize::try_from(count).unwrap_or(usize::MAX),
        None => {
            let share = Sessions::unauthenticated_share(max).min(MOST_UNAUTHENTICATED);
            read.record_effective(WITHOUT_LOGIN, &share.to_string());
            share
        }
    };
    let sessions = Sessions {
        max,
        max_per_ip: read.number("sessions.max_per_ip"),
        max_unauthenticated_per_ip,
        idle_timeout: read.duration("sessions.idle_timeout"),
        login_timeout: read.duration("sessions.login_timeout"),
    };
    let silent = sessions.max_unauthenticated_per_ip.min(sessions.max_per_ip);
    if silent.saturating_mul(FEW_ADDRESSES) >= sessions.max && sessions.max > FEW_ADDRESSES {
        let words = format!(
            "{FEW_ADDRESSES} addresses that connect and never log in can hold all of sessions.max = {} for \
             sessions.login_timeout; set it to {} or less",
            sessions.max,
            (sessions.max - 1) / FEW_ADDRESSES
        );
        read.warn(WITHOUT_LOGIN, &words);
    }
    sessions
}

/// The default of `sessions.max_unauthenticated_per_ip` where `sessions.max` is large.
const MOST_UNAUTHENTICATED: usize = 100;

/// Addresses that nearly anybody has at hand.
const FEW_ADDRESSES: usize = 4;
