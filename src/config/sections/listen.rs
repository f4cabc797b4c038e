//! The control port: `listen` and `greeting`.

use std::net::SocketAddr;
use std::ops::RangeInclusive;

use super::Admin;
use crate::config::keys::row::*;
use crate::config::parse::{self, Parsed};
use crate::config::reader::Reader;

/// The rows of the table.
#[rustfmt::skip]
pub(in crate::config) const KEYS: &[Key] = &[
    key("listen", List, Is("0.0.0.0:2121"),
        "Addresses and ports of the FTP control port; several with commas or as a list, IPv6 as `[::]:2121` (in YAML in quotes)."),
    key("greeting", Text, Is("cosgate ready"),
        "Text of the 220 greeting, one line of at most 200 bytes."),
];

/// Reads `listen`.
pub(super) fn listen(read: &mut Reader) -> Vec<SocketAddr> {
    let listen = read.list("listen", parse::socket_address);
    for (i, address) in listen.iter().enumerate() {
        if let Some(other) = listen[..i].iter().find(|other| overlap(**other, *address)) {
            let advice = if other == address {
                format!("{address} stands here twice; remove one")
            } else {
                format!("{other} and {address} are the same port of the same machine; remove one")
            };
            read.refuse("listen", advice);
        }
    }
    listen
}

/// One line for the 220 reply.
pub(crate) fn greeting(text: &str) -> Parsed<String> {
    if text.chars().any(char::is_control) {
        // A line break would end the reply, and what follows would be read as the next one.
        Err("the greeting is one line; remove line breaks and other control characters".into())
    } else if text.len() > MAX_GREETING_BYTES {
        Err(format!(
            "the greeting has {} bytes; shorten it to {MAX_GREETING_BYTES}",
            text.len()
        ))
    } else {
        Ok(text.to_string())
    }
}

/// True if only one of the two can be bound. Port 0 is a new port each time.
pub(super) fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    one.port() == other.port()
        && one.port() != 0
        && one.is_ipv4() == other.is_ipv4()
        && (one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified())
}

/// Refuses `admin.listen` where the port is another one's.
pub(super) fn admin_conflicts(
    read: &mut Reader,
    admin: &Admin,
    listen: &[SocketAddr],
    passive: &RangeInclusive<u16>,
) {
    let Some(address) = admin.listen else { return };
    if listen.iter().any(|other| overlap(*other, address)) {
        read.refuse(
            "admin.listen",
            "this is the control port (listen); choose another port, or off",
        );
    }
    if passive.contains(&address.port()) {
        read.refuse(
            "admin.listen",
            "this port is one of passive.ports; choose another port, or off",
        );
    }
}

/// Refuses addresses of `tls.implicit_listen` whose port is another one's.
pub(super) fn implicit_conflicts(
    read: &mut Reader,
    implicit: &[SocketAddr],
    listen: &[SocketAddr],
    passive: &RangeInclusive<u16>,
    admin: &Admin,
) {
    const KEY: &str = "tls.implicit_listen";
    for (i, address) in implicit.iter().enumerate() {
        let taken = if implicit[..i].iter().any(|other| overlap(*other, *address)) {
            "stands here twice; remove one"
        } else if listen.iter().any(|other| overlap(*other, *address)) {
            "is the control port (listen); choose another port, such as 990 or 2990"
        } else if passive.contains(&address.port()) {
            "is one of passive.ports; choose another port"
        } else if admin.listen.is_some_and(|other| overlap(other, *address)) {
            "is the admin port (admin.listen); choose another port"
        } else {
            continue;
        };
        read.refuse(KEY, format!("{address} {taken}"));
    }
}

/// Some clients read replies into small fixed buffers.
const MAX_GREETING_BYTES: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greeting_is_one_short_line() {
        assert!(greeting("Willkommen – 欢迎").is_ok());
        assert!(greeting("a\r\n230 in").is_err());
        assert!(greeting(&"x".repeat(201)).is_err());
    }
}
