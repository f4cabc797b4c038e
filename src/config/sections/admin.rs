//! `admin.*`: the HTTP probes, metrics and the status page.

use std::net::SocketAddr;
use std::ops::RangeInclusive;

use secrecy::SecretString;
use strum::{EnumString, VariantNames};

use crate::config::keys::row::*;
use crate::config::parse::{self, Parsed};
use crate::config::reader::Reader;

/// The rows of the table.
#[rustfmt::skip]
pub(in crate::config) const KEYS: &[Key] = &[
    key("admin.listen", Text, Is("127.0.0.1:8080"),
        "Address and port of the HTTP probes `/livez` and `/readyz`, of `/metrics` and the status page, or `off`."),
    key("admin.status", Choice(OnOff::VARIANTS), Is("on"),
        "Whether `/` on the admin port is the status page; where other machines can reach the port it stays off without `admin.token`."),
    key("admin.token", Secret, Unset,
        "Token that the status page asks for, 16 to 256 letters, as Bearer token or as the password of HTTP Basic."),
    key("admin.store_outage", Choice(StoreOutage::VARIANTS), Is("note"),
        "What an outage of the store is to `/readyz`: a `note`, since it is the same for all gateways and clients get 451 with the reason, or after a minute `not_ready`. A store that has never answered is always a reason not to be ready."),
];

/// The HTTP probes, metrics and the status page.
#[derive(Debug, Clone)]
pub struct Admin {
    /// Address of the HTTP server; none: it is off.
    pub listen: Option<SocketAddr>,
    /// True if there is a status page.
    pub status: bool,
    /// The token; at least 16 letters.
    pub token: Option<SecretString>,
    /// The effect of an outage of the store means to `/readyz`.
    pub store_outage: StoreOutage,
}

/// The effect of an outage of a store that has answered before means to `/readyz`. One that has never answered is always a reason not
/// to be ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum StoreOutage {
    /// A note: the outage is everybody's, and clients are better answered than refused.
    Note,
    /// After a minute the gateway is not ready.
    NotReady,
}

/// Words of `admin.status`. YAML 1.1 writers turn `on` and `off` into `true` and `false`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, VariantNames)]
enum OnOff {
    #[strum(to_string = "on", serialize = "true")]
    On,
    #[strum(to_string = "off", serialize = "false")]
    Off,
}

/// Reads the section.
pub(super) fn resolve(read: &mut Reader) -> Admin {
    let admin = Admin {
        listen: read.value("admin.listen", admin_address),
        status: read.choice::<OnOff>("admin.status") == OnOff::On,
        token: read
            .optional("admin.token", admin_token)
            .map(SecretString::from),
        store_outage: read.choice("admin.store_outage"),
    };
    let is_open = admin.listen.is_some_and(|at| !at.ip().is_loopback());
    if is_open && admin.status && admin.token.is_none() && read.is_set("admin.status") {
        read.warn(
            "admin.status",
            "the page shows names of users and files, and admin.listen can be reached from other machines: it stays off \
             until admin.token is set",
        );
    }
    admin
}

/// An address to listen on, or `off`.
fn admin_address(text: &str) -> Parsed<Option<SocketAddr>> {
    match text {
        // YAML 1.1 writers turn `off` into `false`.
        "off" | "false" => Ok(None),
        address => parse::socket_address(address)
            .map(Some)
            .map_err(|advice| advice + "; or off"),
    }
}

/// A token that can't be guessed, and that fits into a header and a browser's password field.
fn admin_token(text: &str) -> Parsed<String> {
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Err(
            "a token has no spaces, line breaks or letters beyond ASCII; copy it again without"
                .into(),
        )
    } else if !TOKEN_BYTES.contains(&text.len()) {
        let (min, max) = (TOKEN_BYTES.start(), TOKEN_BYTES.end());
        Err(format!(
            "a token has {min} to {max} letters; `openssl rand -hex 16` makes one"
        ))
    } else {
        Ok(text.to_string())
    }
}

/// Nobody guesses 16 letters by trying; the end is far below what a header may have.
const TOKEN_BYTES: RangeInclusive<usize> = 16..=256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_at_an_address_or_off() {
        assert_eq!(admin_address("off"), Ok(None));
        let advice = admin_address("on").expect_err("no address");
        assert!(advice.ends_with("or off"), "{advice}");
    }
}
