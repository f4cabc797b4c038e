//! The address that clients get: `masquerade_address` and `masquerade.*`.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use strum::{EnumString, VariantNames};

use crate::config::keys::row::*;
use crate::config::parse::{self, Parsed};
use crate::config::reader::Reader;

/// The rows of the table.
#[rustfmt::skip]
pub(in crate::config) const KEYS: &[Key] = &[
    key("masquerade_address", Text, Unset,
        "IPv4 address or DNS name that clients connect to for data (PASV); set it behind NAT or a load balancer."),
    key("masquerade.mapping_file", Text, Unset,
        "File that says which public port leads to which passive port (and optionally the public address), such as a pod annotation mounted by the downward API; read again when it changes."),
    key("masquerade.multiple", Choice(Multiple::VARIANTS), Is("first"),
        "What PASV replies with when a name has several IPv4 addresses: `first` keeps to one of them, `zero` is 0.0.0.0, which many clients take as the control connection's address."),
    key("masquerade.internal_cidrs", List, Unset,
        "Networks of clients inside, such as `10.0.0.0/8`: they get the address that their control connection reached (in a cluster the pod's), and the bound ports."),
    key("masquerade.grace", Time, Is("60s"),
        "How long an address that is not known yet is nothing unusual, since balancers take time; then the log warns, and `masquerade.after_grace` decides."),
    key("masquerade.after_grace", Choice(AfterGrace::VARIANTS), Is("unready"),
        "What a gateway is then that has never known its address: `unready` still, or ready to `serve` by EPSV alone."),
];

/// Where the public address comes from.
#[derive(Debug, Clone)]
pub struct Masquerade {
    /// The address, when it is set by hand (`masquerade_address`).
    pub address: Option<MasqueradeAddress>,
    /// A file that says which public port leads to which passive port.
    pub mapping_file: Option<PathBuf>,
    /// The answer when a name has several IPv4 addresses.
    pub multiple: Multiple,
    /// Clients from here get the control connection's own address.
    pub internal_cidrs: Vec<IpNet>,
    /// The time for which an address that is not known yet is nothing unusual; 1 ms to 7 days.
    pub grace: Duration,
    /// The readiness of a gateway that has never known one.
    pub after_grace: AfterGrace,
}

/// The public address that is sent to clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MasqueradeAddress {
    /// A fixed address; never 0.0.0.0, broadcast or multicast.
    Ipv4(Ipv4Addr),
    /// A name to resolve, again and again, to an IPv4 address.
    Dns(String),
}

/// The answer when a name has several IPv4 addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum Multiple {
    /// One of them, the same as long as it is among them.
    First,
    /// 0.0.0.0: many clients take it as "where the control connection goes".
    Zero,
}

/// The readiness of a gateway that has never known its address when `masquerade.grace` has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum AfterGrace {
    /// Not ready, until it knows one.
    Unready,
    /// Ready, with EPSV alone.
    Serve,
}

impl fmt::Display for MasqueradeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ipv4(address) => address.fmt(f),
            Self::Dns(name) => f.write_str(name),
        }
    }
}

/// Reads `masquerade.*` and `masquerade_address`.
pub(super) fn resolve(read: &mut Reader) -> Masquerade {
    Masquerade {
        address: read.optional("masquerade_address", masquerade_address),
        mapping_file: read.optional("masquerade.mapping_file", parse::file),
        multiple: read.choice("masquerade.multiple"),
        internal_cidrs: read.optional_list("masquerade.internal_cidrs", parse::network),
        grace: read.duration("masquerade.grace"),
        after_grace: read.choice("masquerade.after_grace"),
    }
}

/// The address for clients: an IPv4 address or a DNS name.
pub(crate) fn masquerade_address(text: &str) -> Parsed<MasqueradeAddress> {
    const WANTED: &str = "write the IPv4 address or DNS name that clients use";
    if text.contains("//") {
        return Err(format!("this is a URL; {WANTED}, without scheme and path"));
    }
    if text.trim_matches(['[', ']']).parse::<Ipv6Addr>().is_ok() {
        return Err(format!(
            "PASV replies carry IPv4 only (IPv6 clients use EPSV, which needs no address); {WANTED}"
        ));
    }
    if let Some((host, port)) = text.rsplit_once(':')
        && port.parse::<u16>().is_ok()
    {
        return Err(format!(
            "the port does not belong here (see passive.ports); write {host}"
        ));
    }
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        return if address.is_unspecified() || address.is_broadcast() || address.is_multicast() {
            Err(format!("no client can connect to this address; {WANTED}"))
        } else {
            Ok(MasqueradeAddress::Ipv4(address))
        };
    }
    if is_dns_name(text) {
        Ok(MasqueradeAddress::Dns(
            text.trim_end_matches('.').to_ascii_lowercase(),
        ))
    } else {
        Err(format!(
            "this is neither an IPv4 address nor a DNS name; {WANTED}"
        ))
    }
}

/// Host name rules of RFC 1123, section 2.1; a name whose last label is a number would be taken
/// for an address.
fn is_dns_name(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let last = name.rsplit('.').next().unwrap_or_default();
    name.len() <= 253 && name.split('.').all(is_label) && !last.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advice<T>(parsed: Parsed<T>) -> String {
        parsed.err().expect("this is to be refused")
    }

    #[test]
    fn a_masquerade_address_is_an_ipv4_address_or_a_dns_name() {
        assert_eq!(
            masquerade_address("203.0.113.7"),
            Ok(MasqueradeAddress::Ipv4([203, 0, 113, 7].into()))
        );
        assert_eq!(
            masquerade_address("FTP.example.com."),
            Ok(MasqueradeAddress::Dns("ftp.example.com".into()))
        );
        for (text, words) in [
            ("2001:db8::1", "EPSV"),
            ("[::1]", "EPSV"),
            ("203.0.113.7:21", "write 203.0.113.7"),
            ("ftp.example.com:2121", "write ftp.example.com"),
            ("ftp://ftp.example.com", "URL"),
            ("0.0.0.0", "no client"),
            ("255.255.255.255", "no client"),
            ("224.0.0.1", "no client"),
            ("300.1.1.1", "neither"),
            ("1.2.3", "neither"),
            ("a_b.example", "neither"),
            ("-a.example", "neither"),
            ("ftp..example", "neither"),
            ("ftp example", "neither"),
        ] {
            assert!(advice(masquerade_address(text)).contains(words), "{text}");
        }
    }
}
