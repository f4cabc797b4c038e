//! Which source of the public address wins: pure functions over what the sources say.

use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;

use crate::config::{MasqueradeAddress, Multiple};
use crate::masquerade::mapping::{Mapping, PortMap};

/// The statements of all sources at this moment.
#[derive(Debug, Clone)]
pub(super) struct Sources {
    /// `masquerade_address`
    pub configured: Option<MasqueradeAddress>,
    /// `masquerade.mapping_file`, if that is set: what it says, or why nothing can be read from it.
    pub mapping: Option<Result<Arc<Mapping>, String>>,
    /// The watched Service, if one is watched.
    pub service: Option<ServiceStatus>,
    /// `proxy_protocol.masquerade`
    pub proxy_header: bool,
    /// True if the control connection's own address is a pod's.
    pub in_cluster: bool,
    /// `masquerade.multiple`
    pub multiple: Multiple,
    /// The last look-up of a name.
    pub looked_up: Option<LookUp>,
}

/// The watched Service's statement about its load balancer. Addresses stay when the Service or its watch is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceStatus {
    /// The first IPv4 address of the load balancer.
    pub address: Option<Ipv4Addr>,
    /// The first host name of the load balancer.
    pub hostname: Option<String>,
    /// Why there is neither; of interest only then.
    pub missing: String,
    /// Why the watch does not work at present.
    pub trouble: Option<String>,
}

/// The result of a name's look-up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LookUp {
    pub name: String,
    /// IPv4 addresses in ascending order, at least one; or why there are none.
    pub addresses: Result<Vec<Ipv4Addr>, String>,
}

/// Where the address comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// `masquerade_address`
    Configured,
    /// `masquerade.mapping_file`
    MappingFile,
    /// An address in the Service's status.
    ServiceAddress,
    /// A host name in the Service's status.
    ServiceHostname,
}

/// The address for clients that come from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// This address, whatever the client connected to. 0.0.0.0 means the control connection's.
    Known {
        /// The address.
        address: Ipv4Addr,
        /// The source of the address.
        origin: Origin,
    },
    /// The address that the client connected to. Never in a cluster.
    ControlConnection,
    /// None but what each connection's PROXY header names.
    ProxyHeader,
    /// None, for this reason.
    Unknown(Arc<str>),
}

/// The public ports of the passive ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ports {
    /// They are the same.
    AsBound,
    /// They differ.
    Mapped(Arc<PortMap>),
    /// They differ, and are not known for this reason.
    Unknown(Arc<str>),
}

/// The winning source's choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Selected {
    Address(Ipv4Addr, Origin),
    /// Whatever this name resolves to.
    Name(String, Origin),
    ControlConnection,
    Nothing(String),
}

/// The order of the sources. A source that is set and has nothing to say yet is waited for: advertising the next one's address
/// meanwhile would send clients astray.
pub(super) fn select(sources: &Sources) -> Selected {
    match &sources.configured {
        Some(MasqueradeAddress::Ipv4(address)) => {
            return Selected::Address(*address, Origin::Configured);
        }
        Some(MasqueradeAddress::Dns(name)) => {
            return Selected::Name(name.clone(), Origin::Configured);
        }
        None => {}
    }
    match &sources.mapping {
        Some(Ok(mapping)) => match &mapping.address {
            Some(MasqueradeAddress::Ipv4(address)) => {
                return Selected::Address(*address, Origin::MappingFile);
            }
            Some(MasqueradeAddress::Dns(name)) => {
                return Selected::Name(name.clone(), Origin::MappingFile);
            }
            // it speaks of ports only
            None => {}
        },
        Some(Err(reason)) => return Selected::Nothing(reason.clone()),
        None => {}
    }
    if let Some(service) = &sources.service {
        return match (service.address, &service.hostname) {
            (Some(address), _) => Selected::Address(address, Origin::ServiceAddress),
            (None, Some(name)) => Selected::Name(name.clone(), Origin::ServiceHostname),
            (None, None) => Selected::Nothing(match &service.trouble {
                Some(trouble) => format!("{}: {trouble}", service.missing),
                None => service.missing.clone(),
            }),
        };
    }
    if sources.in_cluster {
        Selected::Nothing(NO_SOURCE.to_owned())
    } else {
        Selected::ControlConnection
    }
}

/// The decision now, after `last` was.
pub(super) fn decide(sources: &Sources, last: &Decision) -> Decision {
    let new = match select(sources) {
        Selected::Address(address, origin) => Decision::Known { address, origin },
        Selected::Name(name, origin) => match address_of(&name, sources, last) {
            Ok(address) => Decision::Known { address, origin },
            Err(reason) => Decision::Unknown(reason.into()),
        },
        Selected::ControlConnection => Decision::ControlConnection,
        Selected::Nothing(reason) => Decision::Unknown(reason.into()),
    };
    match (&new, last) {
        // an address that worked a moment ago is better than none
        (Decision::Unknown(_), Decision::Known { .. }) => last.clone(),
        (Decision::Unknown(_), _) if sources.proxy_header => Decision::ProxyHeader,
        _ => new,
    }
}

/// The addresses of `name`, by its last look-up.
fn address_of(name: &str, sources: &Sources, last: &Decision) -> Result<Ipv4Addr, String> {
    let addresses = match &sources.looked_up {
        Some(look_up) if look_up.name == name => match &look_up.addresses {
            Ok(addresses) => addresses,
            Err(reason) => return Err(format!("{name} can't be resolved: {reason}")),
        },
        _ => return Err(format!("{name} has not been resolved yet")),
    };
    match (addresses.as_slice(), sources.multiple, last) {
        ([], ..) => Err(format!("{name} has no IPv4 address")),
        ([only], ..) => Ok(*only),
        (_, Multiple::Zero, _) => Ok(Ipv4Addr::UNSPECIFIED),
        // name servers change the order with each answer: the address must not change with it
        (several, Multiple::First, Decision::Known { address, .. })
            if several.contains(address) =>
        {
            Ok(*address)
        }
        ([first, ..], Multiple::First, _) => Ok(*first),
    }
}

/// The public ports now.
pub(super) fn ports(sources: &Sources) -> Ports {
    match &sources.mapping {
        None => Ports::AsBound,
        Some(Ok(mapping)) => Ports::Mapped(Arc::clone(&mapping.ports)),
        Some(Err(reason)) => Ports::Unknown(reason.as_str().into()),
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Configured => "masquerade_address",
            Self::MappingFile => "masquerade.mapping_file",
            Self::ServiceAddress => "the Service's load balancer",
            Self::ServiceHostname => "the host name of the Service's load balancer",
        })
    }
}

/// In a cluster without any source.
const NO_SOURCE: &str = "this is a pod, and nothing says at which address clients reach it; set kubernetes.service or masquerade_address";
