//! Changes of the address as Kubernetes Events of the Service, where the service account may write them.

use std::net::Ipv4Addr;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::{ServiceWatch, is_forbidden};
use crate::masquerade::Published;

/// At most one Event in this time; an address that flaps must not fill the API server.
const PAUSE: Duration = Duration::from_secs(10);

/// An Event is worth no longer wait.
const WITHIN: Duration = Duration::from_secs(10);

impl ServiceWatch {
    /// Writes an Event for each change of the published address, until `stop` or until the API server forbids it.
    pub async fn announce(
        self,
        mut published: watch::Receiver<Published>,
        stop: CancellationToken,
    ) {
        let announce = async {
            let mut last = published.borrow_and_update().decision.address();
            while published.changed().await.is_ok() {
                let Some(new) = published.borrow_and_update().decision.address() else {
                    continue;
                };
                let Some(old) = last.replace(new).filter(|old| *old != new) else {
                    continue;
                };
                let reference = self.reference.borrow().clone();
                let Some(reference) = reference else { continue };
                if !self.write(old, new, &reference).await {
                    return;
                }
                // meanwhile changes collect into one
                tokio::time::sleep(PAUSE).await;
            }
        };
        tokio::select! {
            () = announce => {}
            () = stop.cancelled() => {}
        }
    }

    /// False if there is no use in another try.
    async fn write(&self, old: Ipv4Addr, new: Ipv4Addr, service: &ObjectReference) -> bool {
        let reporter = Reporter {
            controller: "cosgate".to_owned(),
            instance: self.pod_name.clone(),
        };
        let event = Event {
            type_: EventType::Normal,
            reason: "MasqueradeAddressChanged".to_owned(),
            note: Some(format!(
                "FTP clients are now told {new} for data connections, before it was {old}"
            )),
            action: "Masquerade".to_owned(),
            secondary: None,
        };
        // A recorder repeats the text of the last Event of its kind, so each Event gets a new one.
        let recorder = Recorder::new(self.client.clone(), reporter);
        match tokio::time::timeout(WITHIN, recorder.publish(&event, service)).await {
            Ok(Ok(())) => debug!(%old, %new, "Event written"),
            Ok(Err(error)) if is_forbidden(&error) => {
                info!(
                    "changes of the address are not announced as Events: the service account may not create them"
                );
                return false;
            }
            Ok(Err(error)) => debug!(%error, "Event not written"),
            Err(_) => debug!("Event not written in time"),
        }
        true
    }
}
