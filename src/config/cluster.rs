//! `masquerade.*` and `kubernetes.*`: what clients are told, and the cluster around this process.

use std::path::PathBuf;

use super::parse::{self, Parsed};
use super::reader::Reader;
use super::{AfterGrace, Kubernetes, Masquerade, Multiple, names};

/// Reads `masquerade.*` and `masquerade_address`.
pub(super) fn masquerade(read: &mut Reader) -> Masquerade {
    Masquerade {
        address: read.optional("masquerade_address", names::masquerade_address),
        mapping_file: read.optional("masquerade.mapping_file", path),
        multiple: read.value("masquerade.multiple", multiple),
        internal_cidrs: read.optional_list("masquerade.internal_cidrs", network),
        grace: read.duration("masquerade.grace"),
        after_grace: read.value("masquerade.after_grace", |text| match text {
            "unready" => Ok(AfterGrace::Unready),
            "serve" => Ok(AfterGrace::Serve),
            _ => Err("write unready or serve".into()),
        }),
    }
}

/// Reads `kubernetes.*`; `in_pod` is what `auto` means.
pub(super) fn kubernetes(read: &mut Reader, in_pod: bool) -> Kubernetes {
    let in_cluster = read.value("kubernetes.in_cluster", |text| match text {
        "auto" => Ok(None),
        _ => parse::switch(text)
            .map(Some)
            .map_err(|advice| advice.replace("true or", "auto, true or")),
    });
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
        kubeconfig: read.optional("kubernetes.kubeconfig", path),
    };
    if in_cluster.is_none() && read.is_sound("kubernetes.in_cluster") {
        let found = if in_pod { "true" } else { "false" };
        read.settle("kubernetes.in_cluster", found);
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

/// Which address of a name with several is told.
fn multiple(text: &str) -> Parsed<Multiple> {
    match text {
        "first" => Ok(Multiple::First),
        "zero" => Ok(Multiple::Zero),
        _ => Err("write first or zero".into()),
    }
}

/// A network such as `10.0.0.0/8`; an address alone is itself.
fn network(text: &str) -> Parsed<ipnet::IpNet> {
    if let Ok(address) = text.parse::<std::net::IpAddr>() {
        return Ok(address.into());
    }
    match text.parse::<ipnet::IpNet>() {
        // what somebody means with bits beyond the prefix can't be told
        Ok(network) if network.trunc() != network => Err(format!(
            "there are bits of a host beside the network; write {}",
            network.trunc()
        )),
        Ok(network) => Ok(network),
        Err(_) => Err("this is no network; write one such as 10.0.0.0/8 or fd00::/8".into()),
    }
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

/// A path of a file that need not be there yet.
fn path(text: &str) -> Parsed<PathBuf> {
    if text.contains('\0') || text.ends_with('/') {
        Err("this is no path of a file; write one such as /etc/podinfo/mapping".into())
    } else {
        Ok(PathBuf::from(text))
    }
}
