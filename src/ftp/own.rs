//! The ports on which the gateway itself listens: active mode never connects to them.
//!
//! A client on the gateway's own machine (a sidecar, a tunnel's end, a user with a shell) names a port of its own address with PORT, and
//! that may be the admin port, the embedded store's or a passive port that another session waits on. What listens there trusts local
//! connections more than a stranger's, and the bytes of an upload would be its request.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};

/// The ports on which the gateway listens, on whichever of the machine's addresses.
#[derive(Debug, Default)]
pub struct OwnPorts(HashSet<u16>);

impl OwnPorts {
    /// All of them.
    pub fn new(ports: impl IntoIterator<Item = u16>) -> Self {
        OwnPorts(ports.into_iter().collect())
    }

    /// True if `address` is one of this machine's, and the port one of the gateway's own.
    pub fn include(&self, address: SocketAddr) -> bool {
        self.0.contains(&address.port()) && is_of_this_machine(address.ip().to_canonical())
    }
}

/// A socket can be bound only to an address of this machine. What can't be found out counts as one, so that the answer errs on the safe
/// side (a link-local address needs the interface, which no client names).
fn is_of_this_machine(address: IpAddr) -> bool {
    let bound = UdpSocket::bind(SocketAddr::new(address, 0));
    !matches!(bound, Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_ports_are_refused_on_every_address_of_this_machine_only() {
        let own = OwnPorts::new([8080]);
        for (address, is_own) in [
            ("127.0.0.1:8080", true),
            ("127.9.9.9:8080", true),
            ("[::ffff:127.0.0.1]:8080", true),
            ("127.0.0.1:8081", false),
            // TEST-NET-3 (RFC 5737): nobody's
            ("203.0.113.7:8080", false),
        ] {
            let parsed: SocketAddr = address.parse().expect("an address");
            assert_eq!(own.include(parsed), is_own, "{address}");
        }
    }
}
