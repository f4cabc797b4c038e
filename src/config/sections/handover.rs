//! `handover.*`: data connections that come to another replica than the one that waits for them.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

use super::listen::overlap;
use super::passive::Slice;
use crate::config::keys::row::*;
use crate::config::parse::{self, Parsed};
use crate::config::reader::Reader;

/// The rows of the table.
#[rustfmt::skip]
pub(in crate::config) const KEYS: &[Key] = &[
    key("handover.listen", Text, Unset,
        "Address and port where the other replicas connect, in a private network; turns handover on: each replica binds all of `passive.ports`, and brings a data connection on a port of another one's slice to its owner."),
    key("handover.peers", List, Unset,
        "Where the handover ports of the replicas are: one address with `{ordinal}` for the replica's number, such as `cosgate-{ordinal}.cosgate-admin.default.svc`, or a list with one address per replica; the port is that of `handover.listen` if there is none."),
    key("handover.key", Secret, Unset,
        "Key that replicas show each other, the same for all: at least 32 bytes, such as `openssl rand -hex 32` makes."),
    key("handover.max_connections", Count(1, 100_000), Is("1000"),
        "Data connections that a replica relays to others at a time; one more is reset. From one client address at most `sessions.max_per_ip`."),
    key("handover.idle_timeout", Time, Is("15m"),
        "A relayed connection on which nothing moves for this time is reset; the owner's `upload.stall_timeout` and `download.stall_timeout` usually end it before."),
];

/// Handover between the replicas behind one address.
#[derive(Debug, Clone)]
pub struct Handover {
    /// The address to which other replicas connect.
    pub listen: SocketAddr,
    /// The handover ports of all replicas.
    pub peers: Peers,
    /// Authenticates replicas to each other; at least 32 bytes.
    pub key: SecretString,
    /// The passive ports of all replicas, all of which this one binds.
    pub ports: RangeInclusive<u16>,
    /// Ports of each replica; divides `ports` into at least two slices.
    pub slice_size: u16,
    /// This replica's number, below [`Handover::replicas`].
    pub ordinal: u16,
    /// Connections that are relayed at a time.
    pub max_connections: usize,
    /// The longest rest of a relayed connection; 1 ms to 7 days.
    pub idle_timeout: Duration,
}

/// The handover ports of the replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peers {
    /// A name with `{ordinal}` in the place of the replica's number.
    Pattern(String, u16),
    /// Name or address, and port, in the order of the ordinals.
    Each(Vec<(String, u16)>),
}

/// Stands for the replica's number.
const ORDINAL: &str = "{ordinal}";

/// HMAC-SHA256 gains nothing from longer keys, and loses with shorter ones (RFC 2104, section 3).
const KEY_BYTES: usize = 32;

impl Handover {
    /// Replicas that there are slices for.
    pub fn replicas(&self) -> u16 {
        // a whole range has 65,535 ports at the most, and a slice at least one
        u16::try_from(self.ports.len() / usize::from(self.slice_size)).unwrap_or(u16::MAX)
    }

    /// The replica whose slice `port` is in; `None` for a port outside of [`Handover::ports`].
    pub fn owner(&self, port: u16) -> Option<u16> {
        let is_passive = self.ports.contains(&port);
        is_passive.then(|| (port - self.ports.start()) / self.slice_size)
    }

    /// A key that is derived from [`Handover::key`] for one purpose: its HMAC-SHA256 of the purpose, whose first part is different from
    /// all others, and from the first bytes of a PROXY header.
    pub fn derived_key(&self, purpose: &[&[u8]]) -> [u8; 32] {
        let key = self.key.expose_secret().as_bytes();
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
        purpose.iter().for_each(|part| mac.update(part));
        mac.finalize().into_bytes().into()
    }
}

impl Peers {
    /// Name or address, and port, of a replica's handover port.
    pub fn of(&self, ordinal: u16) -> Option<(String, u16)> {
        match self {
            Peers::Pattern(name, port) => {
                Some((name.replace(ORDINAL, &ordinal.to_string()), *port))
            }
            Peers::Each(peers) => peers.get(usize::from(ordinal)).cloned(),
        }
    }
}

/// Reads `handover.*`. `public` are the control ports, `range` the passive ports of all replicas.
pub(super) fn resolve(
    read: &mut Reader,
    public: &[SocketAddr],
    admin: Option<SocketAddr>,
    range: &RangeInclusive<u16>,
    slice: Option<Slice>,
) -> Option<Handover> {
    const LISTEN: &str = "handover.listen";
    let listen = read.optional(LISTEN, parse::socket_address);
    let peers = read.optional_list("handover.peers", |text| Ok(text.to_owned()));
    let key = read.optional("handover.key", shared_key);
    let max_connections = read.number("handover.max_connections");
    let idle_timeout = read.duration("handover.idle_timeout");
    let Some(listen) = listen else {
        if !peers.is_empty() && read.is_valid(LISTEN) {
            read.refuse(
                "handover.peers",
                "handover.listen is not set, so nothing is handed over; set that too, or remove this",
            );
        }
        return None;
    };
    let taken = if range.contains(&listen.port()) {
        Some("is one of passive.ports")
    } else if public.iter().any(|other| overlap(*other, listen)) {
        Some("is a control port (listen, tls.implicit_listen)")
    } else if admin.is_some_and(|other| overlap(other, listen)) {
        Some("is the admin port (admin.listen)")
    } else {
        None
    };
    if let Some(taken) = taken {
        read.refuse(
            LISTEN,
            format!("this {taken}; choose another port, such as 2122"),
        );
    }
    if let Some((one, other)) = two_of_a_family(public) {
        let advice = format!(
            "clients connect to both {one} and {other}, and a data connection that is handed over doesn't say to which of \
             them; listen on one IPv4 and one IPv6 address at the most, such as 0.0.0.0 and [::]"
        );
        read.refuse(LISTEN, advice);
    }
    let Some(slice) = slice else {
        if read.is_valid("passive.slice_size") && read.is_valid("passive.ordinal") {
            read.refuse(
                LISTEN,
                "replicas know whose a port is by its slice, and passive.slice_size is not set; set that too, 2 or more",
            );
        }
        return None;
    };
    if key.is_none() && read.is_valid("handover.key") {
        read.refuse(
            "handover.key",
            "handover.listen is set, and without a key anybody in the network could hand data connections over; set the same \
             key for all replicas, such as `openssl rand -hex 32` makes",
        );
    }
    let replicas = range.len() / usize::from(slice.size);
    let peers = all_peers(&peers, listen.port(), replicas)
        .map_err(|advice| read.refuse("handover.peers", advice))
        .ok()?;
    let handover = Handover {
        listen,
        peers,
        key: SecretString::from(key?),
        ports: range.clone(),
        slice_size: slice.size,
        ordinal: slice.ordinal,
        max_connections,
        idle_timeout,
    };
    // one replica has nobody to hand anything to
    (replicas > 1).then_some(handover)
}

/// Two addresses of one family, one of which would have to be chosen.
fn two_of_a_family(public: &[SocketAddr]) -> Option<(IpAddr, IpAddr)> {
    public.iter().enumerate().find_map(|(i, one)| {
        let other = public[..i]
            .iter()
            .find(|other| other.is_ipv4() == one.is_ipv4() && other.ip() != one.ip())?;
        Some((other.ip(), one.ip()))
    })
}

fn shared_key(text: &str) -> Parsed<String> {
    if text.len() >= KEY_BYTES {
        return Ok(text.to_owned());
    }
    Err(format!(
        "{} bytes are too few to keep anybody from guessing them; write at least {KEY_BYTES}, such as `openssl rand -hex 32` \
         makes",
        text.len()
    ))
}

fn all_peers(texts: &[String], default_port: u16, replicas: usize) -> Parsed<Peers> {
    let mut peers = texts
        .iter()
        .map(|text| peer(text, default_port))
        .collect::<Parsed<Vec<_>>>()?;
    match peers.len() {
        0 => Err(format!(
            "handover.listen is set, and where the other replicas are is not known; write one address with {ORDINAL} in it, or \
             one for each of the {replicas} slices of passive.ports"
        )),
        1 if peers[0].0.contains(ORDINAL) => {
            let (name, port) = peers.swap_remove(0);
            Ok(Peers::Pattern(name, port))
        }
        _ if peers.iter().any(|(name, _)| name.contains(ORDINAL)) => Err(format!(
            "an address with {ORDINAL} stands for all replicas; write it alone"
        )),
        count if count == replicas => Ok(Peers::Each(peers)),
        count => Err(format!(
            "{count} addresses for the {replicas} slices of passive.ports; write one for each, in the order of the ordinals, or \
             one with {ORDINAL} in it"
        )),
    }
}

/// `name`, `name:port`, `192.0.2.1:2122`, `[2001:db8::1]:2122`.
fn peer(text: &str, default_port: u16) -> Parsed<(String, u16)> {
    const WANTED: &str =
        "write a name or an address, and a port where it isn't that of handover.listen";
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok((address.ip().to_string(), address.port()));
    }
    if let Ok(address) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Ok((address.to_string(), default_port));
    }
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) => match port.parse() {
            Ok(port) if port > 0 => (name, port),
            _ => return Err(format!("{text} has no port behind its colon; {WANTED}")),
        },
        None => (text, default_port),
    };
    let is_sound = |byte: u8| byte.is_ascii_alphanumeric() || b"-.".contains(&byte);
    let plain = name.replace(ORDINAL, "0");
    if !(1..=253).contains(&plain.len()) || !plain.bytes().all(is_sound) {
        return Err(format!("{text} is no name of a machine; {WANTED}"));
    }
    Ok((name.to_owned(), port))
}
