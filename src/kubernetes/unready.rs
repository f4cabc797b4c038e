//! Why a pod is not ready, as a Kubernetes Event of the pod: kubelet's own Event names the status of `/readyz` only.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::{ServiceWatch, is_forbidden};

/// Readiness is looked at so often.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// A pod that starts is not ready for a moment, which is no news.
const LASTING: Duration = Duration::from_secs(12);

/// At most one Event in this time: reasons may change their words at each look.
const PAUSE: Duration = Duration::from_secs(300);

/// An Event is worth no longer wait.
const WITHIN: Duration = Duration::from_secs(10);

/// The most bytes of a note that the API server takes (events.k8s.io/v1, `note`).
const MAX_NOTE: usize = 1024;

/// Writes Events of this pod.
pub struct PodEvents {
    client: Client,
    pod: ObjectReference,
}

impl ServiceWatch {
    /// The writer of Events of this pod; none without `kubernetes.pod_name`.
    pub fn pod_events(&self) -> Option<PodEvents> {
        let name = self.pod_name.clone()?;
        Some(PodEvents {
            client: self.client.clone(),
            pod: ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: Some(name),
                namespace: Some(self.namespace.clone()),
                uid: self.pod_uid.clone(),
                ..ObjectReference::default()
            },
        })
    }
}

impl PodEvents {
    /// Writes an Event when the pod has not been ready for a while, and again while that lasts, until `stop` or until the API
    /// server forbids it. `reasons` says why the pod is not ready; nothing if it is.
    pub async fn announce_unreadiness(
        self,
        reasons: impl Fn() -> Vec<String>,
        stop: CancellationToken,
    ) {
        let announce = async {
            let mut unready = Duration::ZERO;
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                let reasons = reasons();
                if reasons.is_empty() {
                    unready = Duration::ZERO;
                    continue;
                }
                unready += LOOK_EVERY;
                if unready < LASTING {
                    continue;
                }
                if !self.write(&reasons.join("; ")).await {
                    return;
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        tokio::select! {
            () = announce => {}
            () = stop.cancelled() => {}
        }
    }

    /// False if there is no use in another try.
    async fn write(&self, reasons: &str) -> bool {
        let reporter = Reporter {
            controller: "cosgate".to_owned(),
            instance: self.pod.name.clone(),
        };
        let mut note = reasons.to_owned();
        note.truncate(note.floor_char_boundary(MAX_NOTE));
        let event = Event {
            type_: EventType::Warning,
            reason: "NotReady".to_owned(),
            note: Some(note),
            action: "Readiness".to_owned(),
            secondary: None,
        };
        // A recorder repeats the text of the last Event of its kind, so each Event gets a new one.
        let recorder = Recorder::new(self.client.clone(), reporter);
        match tokio::time::timeout(WITHIN, recorder.publish(&event, &self.pod)).await {
            Ok(Ok(())) => debug!("Event written"),
            Ok(Err(error)) if is_forbidden(&error) => {
                info!(
                    "why the pod is not ready is not written as an Event: the service account may not create them"
                );
                return false;
            }
            Ok(Err(error)) => debug!(%error, "Event not written"),
            Err(_) => debug!("Event not written in time"),
        }
        true
    }
}
