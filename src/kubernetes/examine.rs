//! The requests of `cosgate doctor` to the API server: each verb that the watcher needs, once.

use std::net::Ipv4Addr;
use std::pin::pin;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use kube::api::{ListParams, WatchEvent, WatchParams};

use super::{ClientError, client, describe_answer, ingress, without_ingress};
use crate::config;

/// The result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examined {
    /// `namespace/name`
    pub service: String,
    /// The verbs that were refused or not answered, with the reason.
    pub refused: Vec<(&'static str, String)>,
    /// The load balancer's first IPv4 address and host name; or why there is neither.
    pub ingress: Result<(Option<Ipv4Addr>, Option<String>), String>,
}

/// Uses get, list and watch on `service` in the way the watcher does.
pub async fn examine(service: &str, config: &config::Kubernetes) -> Result<Examined, ClientError> {
    let (client, namespace) = client(config, &super::Contact::default()).await?;
    let services: Api<Service> = Api::namespaced(client, &namespace);
    let name = format!("{namespace}/{service}");
    let selector = format!("metadata.name={service}");
    let mut refused = Vec::new();
    let mut note = |verb, error: &kube::Error| refused.push((verb, describe_answer(error).1));

    let got = services.get_opt(service).await;
    if let Err(error) = &got {
        note("get", error);
    }
    let listed = services
        .list(&ListParams::default().fields(&selector).limit(1))
        .await;
    if let Err(error) = &listed {
        note("list", error);
    }
    // the server ends it after a second, whether there is news or not
    let parameters = WatchParams::default().fields(&selector).timeout(1);
    match services.watch(&parameters, "0").await {
        Ok(events) => {
            if let Some(Ok(WatchEvent::Error(status))) = pin!(events).next().await {
                note("watch", &kube::Error::Api(status));
            }
        }
        Err(error) => note("watch", &error),
    }
    let found = match (got, listed) {
        (Ok(found), _) => Ok(found),
        (Err(_), Ok(list)) => Ok(list.items.into_iter().next()),
        (Err(error), Err(_)) => Err(describe_answer(&error).1),
    };
    let ingress = match found {
        Ok(Some(found)) => match ingress(&found) {
            (None, None) => Err(without_ingress(&name, Some(&found))),
            known => Ok(known),
        },
        Ok(None) => Err(format!("the Service {name} does not exist")),
        Err(reason) => Err(reason),
    };
    Ok(Examined {
        service: name,
        refused,
        ingress,
    })
}
