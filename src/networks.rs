//! Lists of networks, and the question whether an address is in one of them.

use std::net::IpAddr;

use ipnet::IpNet;

/// Networks that an address is looked up in, in a time that hardly grows with their number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks {
    /// Disjoint and in ascending order.
    ranges: Vec<IpNet>,
}

impl Networks {
    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The number of networks, neighbours and those inside others joined.
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// True if `address` is in one of them. An IPv4 address in IPv6 form (RFC 4291, section 2.5.5.2) is the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let before = self
            .ranges
            .partition_point(|range| range.network() <= address);
        self.ranges[..before]
            .last()
            .is_some_and(|range| range.contains(&address))
    }
}

impl FromIterator<IpNet> for Networks {
    fn from_iter<I: IntoIterator<Item = IpNet>>(networks: I) -> Self {
        let networks: Vec<IpNet> = networks.into_iter().collect();
        let mut ranges = IpNet::aggregate(&networks);
        ranges.sort_unstable();
        Networks { ranges }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn networks(texts: &[&str]) -> Networks {
        let parsed = texts.iter().map(|text| text.parse().expect("a network"));
        parsed.collect()
    }

    #[test]
    fn an_address_is_in_a_network_whichever_way_it_is_written() {
        let list = networks(&[
            "10.1.0.0/16",
            "10.1.2.0/24",
            "192.0.2.7/32",
            "fd00::/8",
            "2001:db8::1/128",
        ]);
        for (address, inside) in [
            ("10.1.255.255", true),
            ("::ffff:10.1.0.0", true),
            ("10.2.0.0", false),
            ("10.0.255.255", false),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("fdff::1", true),
            ("2001:db8::1", true),
            ("2001:db8::2", false),
            ("0.0.0.0", false),
            ("::", false),
        ] {
            let parsed = address.parse().expect("an address");
            assert_eq!(list.contains(parsed), inside, "{address}");
        }
        assert!(!Networks::default().contains(IpAddr::from([127, 0, 0, 1])));
        assert!(networks(&["0.0.0.0/0"]).contains(IpAddr::from([255, 255, 255, 255])));
        assert!(!networks(&["0.0.0.0/0"]).contains("::1".parse().expect("an address")));
    }

    proptest! {
        #[test]
        fn the_lookup_finds_what_a_walk_through_the_list_finds(
            nets in prop::collection::vec((any::<u32>(), 0_u8..=32), 0..20),
            probes in prop::collection::vec(any::<u32>(), 1..20),
        ) {
            let nets: Vec<IpNet> = nets
                .into_iter()
                .map(|(bits, prefix)| IpNet::new_assert(IpAddr::from(bits.to_be_bytes()), prefix).trunc())
                .collect();
            let list: Networks = nets.iter().copied().collect();
            // the edges are where such a search goes wrong
            let edges = nets.iter().flat_map(|net| [net.network(), net.broadcast()]);
            let probes = probes.into_iter().map(|bits| IpAddr::from(bits.to_be_bytes()));
            for address in edges.chain(probes) {
                let walked = nets.iter().any(|net| net.contains(&address));
                prop_assert_eq!(list.contains(address), walked);
            }
        }
    }
}
