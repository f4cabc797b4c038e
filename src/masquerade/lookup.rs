//! Names to IPv4 addresses, again and again.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use tokio::sync::watch;
use tracing::{debug, info, warn};

use crate::masquerade::address::is_usable;
use crate::masquerade::decision::LookUp;

/// A name is resolved again this often, since load balancers change their addresses behind it.
pub(super) const RESOLVE_INTERVAL: Duration = Duration::from_secs(30);

/// As long as there is no address, the name is asked for more often.
const UNRESOLVED_INTERVAL: Duration = Duration::from_secs(3);

/// One look-up takes no longer than this.
const WITHIN: Duration = Duration::from_secs(10);

/// Asks for the name that `wanted` holds and publishes the answers. A new name is asked for at once.
pub(super) async fn keep_resolving<R, F>(
    mut wanted: watch::Receiver<Option<String>>,
    publish: watch::Sender<Option<LookUp>>,
    resolve: R,
) where
    R: Fn(String) -> F,
    F: Future<Output = Result<Vec<Ipv4Addr>, String>>,
{
    loop {
        let name = wanted.borrow_and_update().clone();
        let Some(name) = name else {
            if wanted.changed().await.is_err() {
                return;
            }
            continue;
        };
        let asked = async {
            let answer = tokio::time::timeout(WITHIN, resolve(name.clone())).await;
            answer.unwrap_or_else(|_| Err("no answer in time".to_owned()))
        };
        let addresses = tokio::select! {
            addresses = asked => addresses,
            // the answer for the old name is of no use any more
            changed = wanted.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
        };
        let pause = if addresses.is_ok() {
            RESOLVE_INTERVAL
        } else {
            UNRESOLVED_INTERVAL
        };
        let new = LookUp { name, addresses };
        publish.send_if_modified(|last| {
            let is_new = last.as_ref() != Some(&new);
            match (&new.addresses, is_new) {
                (Ok(addresses), true) => info!(name = new.name, ?addresses, "name resolved"),
                (Err(error), true) => {
                    warn!(
                        name = new.name,
                        error, "name can't be resolved, a known address stays"
                    );
                }
                (_, false) => debug!(name = new.name, "name asked for again, nothing new"),
            }
            *last = Some(new);
            is_new
        });
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            changed = wanted.changed() => if changed.is_err() { return },
        }
    }
}

/// The IPv4 addresses of a name by the system's resolver, in ascending order.
pub(super) async fn by_system(name: String) -> Result<Vec<Ipv4Addr>, String> {
    let looked_up = tokio::net::lookup_host((name.as_str(), 0)).await;
    let addresses = looked_up.map_err(|error| error.to_string())?;
    let mut addresses: Vec<Ipv4Addr> = addresses
        .filter_map(|address| match address.ip() {
            IpAddr::V4(address) => Some(address).filter(|address| is_usable(*address)),
            IpAddr::V6(_) => None,
        })
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    if addresses.is_empty() {
        Err("the name has no IPv4 address".to_owned())
    } else {
        Ok(addresses)
    }
}
