//! `proxy_protocol.*`: proxies that name their clients.

use ipnet::IpNet;

use crate::config::keys::row::*;
use crate::config::parse;
use crate::config::reader::Reader;

const TRUSTED: &str = "proxy_protocol.trusted";
const MASQUERADE: &str = "proxy_protocol.masquerade";

/// The rows of the table.
#[rustfmt::skip]
pub(in crate::config) const KEYS: &[Key] = &[
    key(TRUSTED, List, Unset,
        "Networks and addresses of proxies, such as `10.1.2.3`: connections from there to the control, implicit TLS and passive ports must begin with a PROXY header (version 1 or 2), and the client is whom it names; name the proxies alone, since whoever is in these networks can claim any address."),
    key(MASQUERADE, Choice(SWITCH), Is("false"),
        "Whether PASV reports the address that the client connected to by the PROXY header, if it is a public IPv4 address; else, and without a header, the other sources hold."),
];

/// Proxies that name their clients by the PROXY protocol.
#[derive(Debug, Clone)]
pub struct ProxyProtocol {
    /// Connections from here begin with a PROXY header; none: no header is read.
    pub trusted: Vec<IpNet>,
    /// True if PASV reports the header's destination, if that is public; false without `trusted`.
    pub masquerade: bool,
}

/// Reads the section.
pub(super) fn resolve(read: &mut Reader) -> ProxyProtocol {
    let trusted = read.optional_list(TRUSTED, parse::network);
    let masquerade = read.switch(MASQUERADE);
    if masquerade && trusted.is_empty() && read.is_valid(TRUSTED) {
        read.refuse(
            MASQUERADE,
            "the address comes from PROXY headers, and none is taken from anybody: set proxy_protocol.trusted to the addresses of \
             your proxies, or remove this",
        );
    }
    if let Some(everybody) = trusted.iter().find(|network| network.prefix_len() == 0) {
        let words = format!(
            "{everybody} is everybody: whoever reaches the ports can claim any client's address, and passes allow_from and lockouts \
             by it; name the addresses of the proxies, unless nobody else reaches the ports"
        );
        read.warn(TRUSTED, &words);
    }
    ProxyProtocol {
        trusted,
        masquerade,
    }
}
