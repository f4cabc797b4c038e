//! `kubernetes.*`: the cluster around this process.

use std::path::PathBuf;

use strum::{EnumString, VariantNames};

use crate::config::keys::row::*;
use crate::config::parse::{self, Parsed};
use crate::config::reader::Reader;

/// The rows of the table.
#[rustfmt::skip]
pub(in crate::config) const KEYS: &[Key] = &[
    key("kubernetes.service", Text, Unset,
        "Service of type LoadBalancer whose address clients get; it is watched, so changes reach open sessions."),
    key("kubernetes.namespace", Text, Derived("the pod's own, or the kubeconfig's"),
        "Namespace of that Service."),
    key("kubernetes.pod_name", Text, Unset,
        "This pod's name, from the downward API (`metadata.name`); with a watched Service, Events say why it is not ready."),
    key("kubernetes.pod_uid", Text, Unset,
        "This pod's UID, from the downward API (`metadata.uid`), so that `kubectl describe pod` shows those Events."),
    key("kubernetes.in_cluster", Choice(InCluster::VARIANTS), Is("auto"),
        "Whether this is a pod, whose own address clients must not get; `auto`: yes if KUBERNETES_SERVICE_HOST is set."),
    key("kubernetes.kubeconfig", Text, Unset,
        "Path of a kubeconfig, to watch the Service from outside of the cluster; not needed in a pod."),
];

/// The cluster around this process.
#[derive(Debug, Clone)]
pub struct Kubernetes {
    /// True if this process runs in a pod, the address of which is of no use to clients outside.
    pub in_cluster: bool,
    /// The Service of type LoadBalancer whose address clients get; a name of RFC 1123.
    pub service: Option<String>,
    /// Its namespace; none: the pod's own, or the kubeconfig's.
    pub namespace: Option<String>,
    /// This pod's name.
    pub pod_name: Option<String>,
    /// This pod's UID, so that its Events are shown with it.
    pub pod_uid: Option<String>,
    /// The way to an API server from outside of a pod.
    pub kubeconfig: Option<PathBuf>,
}

/// Words of `kubernetes.in_cluster`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, VariantNames)]
#[strum(serialize_all = "snake_case")]
enum InCluster {
    Auto,
    True,
    False,
}

/// Reads the section; `in_pod` is what `auto` means.
pub(super) fn resolve(read: &mut Reader, in_pod: bool) -> Kubernetes {
    let in_cluster = match read.choice("kubernetes.in_cluster") {
        InCluster::Auto => None,
        InCluster::True => Some(true),
        InCluster::False => Some(false),
    };
    let kubernetes = Kubernetes {
        in_cluster: in_cluster.unwrap_or(in_pod),
        service: read.optional("kubernetes.service", |text| {
            label(text, "the name of a Service")
        }),
        namespace: read.optional("kubernetes.namespace", |text| {
            label(text, "the name of a namespace")
        }),
        pod_name: read.optional("kubernetes.pod_name", pod_name),
        pod_uid: read.optional("kubernetes.pod_uid", pod_uid),
        kubeconfig: read.optional("kubernetes.kubeconfig", parse::file),
    };
    if in_cluster.is_none() && read.is_valid("kubernetes.in_cluster") {
        let found = if in_pod { "true" } else { "false" };
        read.record_effective("kubernetes.in_cluster", found);
    }
    if kubernetes.service.is_some() && kubernetes.kubeconfig.is_none() && !in_pod {
        read.refuse(
            "kubernetes.service",
            "this process runs in no pod (KUBERNETES_SERVICE_HOST is not set), so there is no API server to ask; set \
             kubernetes.kubeconfig to reach one from outside, or use masquerade_address instead",
        );
    }
    kubernetes
}

/// A name of RFC 1123, as Services and namespaces have them; it goes into a URL and a field selector.
fn label(text: &str, what: &str) -> Parsed<String> {
    if (1..=63).contains(&text.len()) && is_label(text) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "this is not {what}; write it alone, in lower-case letters, digits and hyphens"
        ))
    }
}

/// A pod's name: labels with dots in between.
fn pod_name(text: &str) -> Parsed<String> {
    if text.len() <= 253 && text.split('.').all(is_label) {
        Ok(text.to_owned())
    } else {
        Err(
            "this is no pod's name; fill it from the downward API (fieldPath: metadata.name)"
                .into(),
        )
    }
}

/// A pod's UID, which goes into Events.
fn pod_uid(text: &str) -> Parsed<String> {
    let is_sound = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if (1..=64).contains(&text.len()) && text.bytes().all(is_sound) {
        Ok(text.to_owned())
    } else {
        Err("this is no UID; fill it from the downward API (fieldPath: metadata.uid)".into())
    }
}

fn is_label(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}
