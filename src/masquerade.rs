//! The address that PASV tells clients, and where it comes from.
//!
//! One value is published here and read at every PASV, so that a change reaches open sessions too. Sources: the configured
//! IPv4 address; the configured DNS name, resolved again and again; without either, the address on which the client
//! reached the control connection.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::MasqueradeAddress;

/// The published address. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Masquerade(watch::Receiver<Source>);

/// Where the address comes from at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// This address, whatever the client connected to.
    Known(Ipv4Addr),
    /// A name that hasn't been resolved yet: nothing can be told.
    Unknown,
    /// Nothing is configured: the control connection's own address.
    ControlConnection,
}

/// No address can be told now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoAddress {
    /// The configured name has not been resolved yet.
    #[error("the public address is not known yet")]
    Unresolved,
    /// The 227 reply has room for IPv4 only (RFC 959); RFC 2428's EPSV is for the rest.
    #[error("PASV has no room for an IPv6 address, use EPSV")]
    Ipv6,
}

/// A name is resolved again this often, since load balancers change their addresses behind it.
const RESOLVE_EVERY: Duration = Duration::from_secs(30);

/// One look-up takes no longer than this.
const RESOLVE_WITHIN: Duration = Duration::from_secs(10);

impl Masquerade {
    /// Publishes what is configured; a name is looked up in the background until `stop`.
    pub fn start(configured: Option<&MasqueradeAddress>, stop: CancellationToken) -> Self {
        let first = match configured {
            None => Source::ControlConnection,
            Some(MasqueradeAddress::Ipv4(address)) => Source::Known(*address),
            Some(MasqueradeAddress::Dns(_)) => Source::Unknown,
        };
        let (sender, receiver) = watch::channel(first);
        if let Some(MasqueradeAddress::Dns(name)) = configured {
            tokio::spawn(keep_resolving(name.clone(), sender, stop));
        }
        Masquerade(receiver)
    }

    /// What a client is told whose control connection ends at `local`.
    pub fn address(&self, local: IpAddr) -> Result<Ipv4Addr, NoAddress> {
        let IpAddr::V4(local) = local.to_canonical() else {
            return Err(NoAddress::Ipv6);
        };
        match *self.0.borrow() {
            Source::Known(address) => Ok(address),
            Source::Unknown => Err(NoAddress::Unresolved),
            Source::ControlConnection => Ok(local),
        }
    }

    /// True unless an address is configured and not known yet.
    pub fn is_known(&self) -> bool {
        *self.0.borrow() != Source::Unknown
    }
}

async fn keep_resolving(name: String, sender: watch::Sender<Source>, stop: CancellationToken) {
    let look_up_until_stopped = async {
        loop {
            match resolve(&name).await {
                Ok(address) => {
                    let changed = sender.send_if_modified(|current| {
                        let new = Source::Known(address);
                        std::mem::replace(current, new) != new
                    });
                    if changed {
                        info!(%name, %address, "masquerade address resolved");
                    }
                }
                // the last known address stays
                Err(error) => warn!(%name, error, "masquerade address can't be resolved"),
            }
            tokio::time::sleep(RESOLVE_EVERY).await;
        }
    };
    tokio::select! {
        () = look_up_until_stopped => {}
        () = stop.cancelled() => {}
    }
}

/// The lowest IPv4 address of a name: a name with several keeps giving the same one.
async fn resolve(name: &str) -> Result<Ipv4Addr, String> {
    let looked_up = tokio::time::timeout(RESOLVE_WITHIN, tokio::net::lookup_host((name, 0))).await;
    let addresses = looked_up
        .map_err(|_| "no answer in time".to_owned())?
        .map_err(|error| error.to_string())?;
    let v4 = addresses.filter_map(|address| match address.ip() {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    });
    v4.min()
        .ok_or_else(|| "the name has no IPv4 address".to_owned())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7));

    #[tokio::test]
    async fn the_configured_address_wins_over_the_control_connections() {
        let public = Ipv4Addr::new(203, 0, 113, 7);
        let configured = MasqueradeAddress::Ipv4(public);
        let masquerade = Masquerade::start(Some(&configured), CancellationToken::new());
        assert_eq!(masquerade.address(LOCAL), Ok(public));
        let masquerade = Masquerade::start(None, CancellationToken::new());
        assert_eq!(masquerade.address(LOCAL), Ok(Ipv4Addr::new(10, 0, 0, 7)));
        assert_eq!(
            masquerade.address(Ipv6Addr::LOCALHOST.into()),
            Err(NoAddress::Ipv6)
        );
        assert_eq!(
            masquerade.address("::ffff:10.0.0.7".parse().expect("an address")),
            Ok(Ipv4Addr::new(10, 0, 0, 7))
        );
    }

    #[tokio::test]
    async fn a_name_is_unknown_until_it_is_resolved() {
        let stop = CancellationToken::new();
        let masquerade = Masquerade::start(
            Some(&MasqueradeAddress::Dns("localhost".into())),
            stop.clone(),
        );
        let mut changes = masquerade.0.clone();
        let resolved = changes.wait_for(|source| *source != Source::Unknown);
        tokio::time::timeout(Duration::from_secs(10), resolved)
            .await
            .expect("in time")
            .expect("still looking up");
        assert_eq!(masquerade.address(LOCAL), Ok(Ipv4Addr::LOCALHOST));
        stop.cancel();
        let nowhere = Masquerade::start(
            Some(&MasqueradeAddress::Dns("name.invalid".into())),
            CancellationToken::new(),
        );
        assert_eq!(nowhere.address(LOCAL), Err(NoAddress::Unresolved));
        assert!(!nowhere.is_known());
    }
}
