//! `passive.*`: the ports for passive data connections, and the slice of them that one replica of several binds.
//!
//! Replicas behind one public address share one range of ports. Each binds a slice of its own, so that a data connection
//! reaches the replica that holds its control connection by its port alone, without any affinity in the balancer.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::config::keys::row::*;
use crate::config::parse;
use crate::config::reader::Reader;

/// The rows of the table.
#[rustfmt::skip]
pub(in crate::config) const KEYS: &[Key] = &[
    key("passive.ports", Text, Is("30000-30015"),
        "Ports for passive data connections, one port or a range `FROM-TO`, 1 to 65535; every one must be reachable for clients."),
    key("passive.accept_timeout", Time, Is("10s"),
        "How long a client may take to connect to its passive port; then the transfer is answered with 425."),
    key("passive.slice_size", Count(1, 65_535), Unset,
        "Ports per replica, when several replicas share `passive.ports` behind one address: replica n binds only the n-th slice, counted from 0."),
    key("passive.ordinal", Count(0, 65_534), Derived("from the end of `kubernetes.pod_name`, `cosgate-2`"),
        "The replica's number; with the downward API from the label `apps.kubernetes.io/pod-index`."),
];

/// Passive data connections.
#[derive(Debug, Clone)]
pub struct Passive {
    /// Ports to listen on: all of `passive.ports`, or this replica's slice; never a port of [`Config::listen`](crate::config::Config::listen) or
    /// [`Admin::listen`](crate::config::Admin::listen).
    pub ports: RangeInclusive<u16>,
    /// The longest time that a client may take to connect to its passive port; 1 ms to 7 days.
    pub accept_timeout: Duration,
}

/// One replica's part of `passive.ports`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slice {
    /// Ports of each replica; divides the range.
    pub size: u16,
    /// This replica's number; there is a slice for it.
    pub ordinal: u16,
}

/// Reads `passive.*`; `pod_name` gives the ordinal where `passive.ordinal` doesn't. Returns the whole range, too, and this replica's
/// slice of it, if there are slices.
pub(super) fn resolve(
    read: &mut Reader,
    listen: &[SocketAddr],
    pod_name: Option<&str>,
) -> (Passive, RangeInclusive<u16>, Option<Slice>) {
    let range = read.value("passive.ports", parse::ports);
    if let Some(taken) = listen
        .iter()
        .find(|address| range.contains(&address.port()))
    {
        let port = taken.port();
        read.refuse(
            "passive.ports",
            format!("{port} is the control port (listen); choose a range without it"),
        );
    }
    if *range.start() <= *EPHEMERAL_PORTS.end() && *range.end() >= *EPHEMERAL_PORTS.start() {
        read.warn(
            "passive.ports",
            "Linux gives ports 32768 to 60999 to outgoing connections \
             (net.ipv4.ip_local_port_range), \
             so one of these may be taken at start; choose ports below 32768 or reserve them \
             (net.ipv4.ip_local_reserved_ports)",
        );
    }
    let slice = own_slice(read, &range, pod_name);
    let passive = Passive {
        ports: slice.map_or_else(|| range.clone(), |slice| slice.ports(&range)),
        accept_timeout: read.duration("passive.accept_timeout"),
    };
    (passive, range, slice)
}

impl Slice {
    /// The ports that belong to this replica.
    fn ports(self, range: &RangeInclusive<u16>) -> RangeInclusive<u16> {
        let first = range.start() + self.ordinal * self.size;
        first..=first + (self.size - 1)
    }
}

/// The slice of this replica's ordinal, if there are slices.
fn own_slice(
    read: &mut Reader,
    range: &RangeInclusive<u16>,
    pod_name: Option<&str>,
) -> Option<Slice> {
    let size = read.optional("passive.slice_size", |text| parse::count(text, 1, 65_535));
    let ordinal = read.optional("passive.ordinal", |text| {
        parse::count(text, 0, 65_534)
            .map_err(|advice| advice + ", the replica's number as in its pod's name")
    });
    let Some(size) = size else {
        if ordinal.is_some() {
            read.refuse(
                "passive.ordinal",
                "it chooses a slice of passive.ports, and passive.slice_size is not set; set that too, or remove this",
            );
        }
        return None;
    };
    let ports = range.len() as u64;
    if !ports.is_multiple_of(size) {
        let (from, to) = (*range.start(), *range.end());
        let whole = ports - ports % size;
        let advice = if whole == 0 {
            format!("passive.ports has only {ports} ports; lower this, or widen {from}-{to}")
        } else {
            format!(
                "the {ports} ports of passive.ports don't divide into slices of {size}, the last one would be shorter; \
                 set passive.ports = {from}-{}, or another slice_size",
                u64::from(from) + whole - 1
            )
        };
        read.refuse("passive.slice_size", advice);
        return None;
    }
    if !read.is_valid("passive.ordinal") {
        return None;
    }
    let Some(number) = ordinal.or_else(|| pod_name.and_then(ordinal_of)) else {
        let advice = match pod_name {
            Some(name) => format!(
                "kubernetes.pod_name = {name} ends with no ordinal, so the replica's slice is unknown; run the \
                 replicas as a StatefulSet, or set passive.ordinal"
            ),
            None => {
                "the replica's ordinal is unknown, so its slice is too; set passive.ordinal (downward API: the label \
                 apps.kubernetes.io/pod-index) or kubernetes.pod_name (metadata.name)"
                    .to_owned()
            }
        };
        read.refuse("passive.slice_size", advice);
        return None;
    };
    if ordinal.is_none() {
        read.record_effective("passive.ordinal", &number.to_string());
    }
    let slices = ports / size;
    if number >= slices {
        let from = u64::from(*range.start());
        let needed = from + (number + 1) * size - 1;
        let advice = if needed <= 65_535 {
            format!(
                "replica {number} needs slice {} of passive.ports, which has {slices}; widen passive.ports to \
                 {from}-{needed} (and open them at the balancer), or run at most {slices} replicas",
                number + 1
            )
        } else {
            format!(
                "replica {number} needs slice {} of passive.ports, which has {slices}, and there are not that many \
                 ports; lower passive.slice_size, or run fewer replicas",
                number + 1
            )
        };
        read.refuse("passive.slice_size", advice);
        return None;
    }
    let within_the_range = |number| u16::try_from(number).expect("a slice is inside the range");
    Some(Slice {
        size: within_the_range(size),
        ordinal: within_the_range(number),
    })
}

/// The ordinal at the end of the name that a StatefulSet gives its pods, `cosgate-2`.
///
/// The last part of a Deployment's pod name can look like a number (`-24789`, always five characters), and to take it for
/// an ordinal would have two replicas bind one slice: more than four digits are none.
fn ordinal_of(pod_name: &str) -> Option<u64> {
    let (_, digits) = pod_name.rsplit_once('-')?;
    let sound = (1..=4).contains(&digits.len())
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && (digits == "0" || !digits.starts_with('0'));
    sound.then(|| digits.parse().ok()).flatten()
}

/// Linux's default of net.ipv4.ip_local_port_range.
const EPHEMERAL_PORTS: RangeInclusive<u16> = 32768..=60999;

#[cfg(test)]
mod tests {
    use super::ordinal_of;

    #[test]
    fn only_the_name_of_a_statefulsets_pod_has_an_ordinal() {
        for (name, ordinal) in [
            ("cosgate-0", Some(0)),
            ("cosgate-2", Some(2)),
            ("my-ftp-9999", Some(9999)),
            ("cosgate", None),
            ("cosgate-", None),
            ("cosgate-02", None),
            ("cosgate-7d9f8b6c5-24789", None),
            ("cosgate-7d9f8b6c5-x2k4b", None),
            ("cosgate-+1", None),
            ("2", None),
        ] {
            assert_eq!(ordinal_of(name), ordinal, "{name}");
        }
    }
}
