//! Kinds of addresses.

use std::net::{IpAddr, Ipv4Addr};

/// True for an address that means something in one network only.
pub(crate) fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_unspecified()
                // RFC 6598, for carriers; clouds use it inside, too
                || (a == 100 && (64..128).contains(&b))
        }
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

/// True if a client can connect to this address at all.
pub(crate) fn is_usable(address: Ipv4Addr) -> bool {
    !(address.is_unspecified() || address.is_broadcast() || address.is_multicast())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_networks_are_known() {
        for (address, private) in [
            ("10.1.2.3", true),
            ("172.31.0.1", true),
            ("100.64.0.1", true),
            ("169.254.1.1", true),
            ("127.0.0.1", true),
            ("100.128.0.1", false),
            ("203.0.113.7", false),
            ("::1", true),
            ("fd00::1", true),
            ("2001:db8::1", false),
            ("::ffff:10.0.0.1", true),
        ] {
            let address: IpAddr = address.parse().expect("an address");
            assert_eq!(is_private(address), private, "{address}");
        }
    }
}
