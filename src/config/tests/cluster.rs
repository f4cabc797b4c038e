//! `masquerade.*`, `kubernetes.*` and the slices of `passive.ports`.

use super::*;

const SLICES: [&str; 2] = ["PASSIVE__PORTS=30000-30047", "PASSIVE__SLICE_SIZE=16"];

fn slices<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&SLICES[..], more].concat()
}

#[test]
fn replica_two_of_three_binds_its_sixteen_ports_and_no_others() {
    let loaded = good(with_env(&slices(&["PASSIVE__ORDINAL=2"])));
    assert_eq!(loaded.config.passive.ports, 30032..=30047);
    let loaded = good(with_env(&slices(&["KUBERNETES__POD_NAME=cosgate-1"])));
    assert_eq!(loaded.config.passive.ports, 30016..=30031);
    assert!(loaded.describe().contains("passive.ordinal = 1"));
    // what is said outright wins over what a name may mean
    let both = ["KUBERNETES__POD_NAME=cosgate-1", "PASSIVE__ORDINAL=0"];
    let loaded = good(with_env(&slices(&both)));
    assert_eq!(loaded.config.passive.ports, 30000..=30015);
}

#[test]
fn a_label_that_the_downward_api_leaves_empty_is_no_ordinal() {
    let env = ["PASSIVE__ORDINAL=", "KUBERNETES__POD_NAME=cosgate-1"];
    let loaded = good(with_env(&slices(&env)));
    assert_eq!(loaded.config.passive.ports, 30016..=30031);
}

#[test]
fn without_slices_the_ordinal_in_a_pods_name_means_nothing() {
    let loaded = good(with_env(&["KUBERNETES__POD_NAME=cosgate-1"]));
    assert_eq!(loaded.config.passive.ports, 30000..=30015);
}

#[test]
fn an_unknown_ordinal_is_refused_rather_than_guessed() {
    refused(
        with_env(&slices(&[])),
        &["passive.slice_size = 16", "apps.kubernetes.io/pod-index"],
    );
    refused(
        with_env(&slices(&["KUBERNETES__POD_NAME=cosgate-7d9f8b6c5-24789"])),
        &[
            "cosgate-7d9f8b6c5-24789 ends with no ordinal",
            "StatefulSet",
        ],
    );
    refused(
        with_env(&slices(&["PASSIVE__ORDINAL=two"])),
        &["passive.ordinal = two", "whole number from 0 to 65534"],
    );
    refused(
        with_env(&["PASSIVE__ORDINAL=1"]),
        &["passive.ordinal = 1", "passive.slice_size is not set"],
    );
}

#[test]
fn a_replica_beyond_the_last_slice_is_an_error_that_says_what_to_raise() {
    refused(
        with_env(&slices(&["PASSIVE__ORDINAL=3"])),
        &["30000-30063", "at most 3 replicas"],
    );
    let high = [
        "PASSIVE__PORTS=65000-65499",
        "PASSIVE__SLICE_SIZE=500",
        "PASSIVE__ORDINAL=2",
    ];
    refused(with_env(&high), &["not that many ports"]);
    refused(
        with_env(&slices(&["PASSIVE__ORDINAL=65534"])),
        &["not that many ports"],
    );
}

#[test]
fn slices_divide_the_range_without_a_rest() {
    let env = [
        "PASSIVE__PORTS=30000-30049",
        "PASSIVE__SLICE_SIZE=16",
        "PASSIVE__ORDINAL=0",
    ];
    refused(with_env(&env), &["set passive.ports = 30000-30047"]);
    let env = [
        "PASSIVE__PORTS=30000-30003",
        "PASSIVE__SLICE_SIZE=5",
        "PASSIVE__ORDINAL=0",
    ];
    refused(with_env(&env), &["only 4 ports"]);
}

#[test]
fn the_admin_port_stays_out_of_the_slices_of_other_replicas_too() {
    let env = ["PASSIVE__ORDINAL=2", "ADMIN__LISTEN=127.0.0.1:30003"];
    refused(with_env(&slices(&env)), &["admin.listen", "passive.ports"]);
}

#[test]
fn a_process_that_kubernetes_started_knows_it() {
    let pod = [("KUBERNETES_SERVICE_HOST".to_owned(), "10.0.0.1".to_owned())];
    let loaded = good(load_from(None, pod.clone()));
    assert!(loaded.config.kubernetes.in_cluster);
    assert!(loaded.describe().contains("kubernetes.in_cluster = true"));
    assert!(!good(with_env(&[])).config.kubernetes.in_cluster);
    let off = variables(&["KUBERNETES__IN_CLUSTER=false"]);
    let loaded = good(load_from(None, pod.into_iter().chain(off)));
    assert!(!loaded.config.kubernetes.in_cluster);
    let on = good(with_env(&["KUBERNETES__IN_CLUSTER=true"]));
    assert!(on.config.kubernetes.in_cluster);
    refused(
        with_env(&["KUBERNETES__IN_CLUSTER=maybe"]),
        &["write auto, true or false"],
    );
}

#[test]
fn a_service_can_be_watched_from_a_pod_or_with_a_kubeconfig() {
    refused(
        with_env(&["KUBERNETES__SERVICE=ftp"]),
        &["kubernetes.service = ftp", "kubernetes.kubeconfig"],
    );
    let loaded = good(with_env(&[
        "KUBERNETES__SERVICE=ftp",
        "KUBERNETES__KUBECONFIG=/etc/kubeconfig",
    ]));
    assert_eq!(loaded.config.kubernetes.service.as_deref(), Some("ftp"));
    for name in ["FTP", "a/b", "a,metadata.name=b", "-a", &"a".repeat(64)] {
        refused(
            with_env(&[
                &format!("KUBERNETES__SERVICE={name}"),
                "KUBERNETES__KUBECONFIG=/k",
            ]),
            &["not the name of a Service"],
        );
    }
}

#[test]
fn internal_networks_come_as_a_list_or_with_commas() {
    let networks = |loaded: &Loaded| {
        let networks = &loaded.config.masquerade.internal_cidrs;
        networks.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let loaded = good(with_env(&[
        "MASQUERADE__INTERNAL_CIDRS=10.0.0.0/8, fd00::/8,192.0.2.1",
    ]));
    assert_eq!(
        networks(&loaded),
        ["10.0.0.0/8", "fd00::/8", "192.0.2.1/32"]
    );
    let text = "masquerade: {internal_cidrs: [10.0.0.0/8, 192.168.0.0/16]}\n";
    let loaded = good(with_yaml(text, &[]));
    assert_eq!(networks(&loaded), ["10.0.0.0/8", "192.168.0.0/16"]);
    assert!(networks(&good(with_env(&[]))).is_empty());
    refused(
        with_env(&["MASQUERADE__INTERNAL_CIDRS=10.1.0.0/8"]),
        &["write 10.0.0.0/8"],
    );
    refused(
        with_env(&["MASQUERADE__INTERNAL_CIDRS=10.0.0.0/33"]),
        &["this is no network"],
    );
}

#[test]
fn trusted_proxies_are_networks_and_addresses() {
    let trusted = |loaded: &Loaded| {
        let networks = &loaded.config.proxy_protocol.trusted;
        networks.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let loaded = good(with_env(&[
        "PROXY_PROTOCOL__TRUSTED=10.1.2.3, 10.2.0.0/16,fd00::5",
    ]));
    assert_eq!(
        trusted(&loaded),
        ["10.1.2.3/32", "10.2.0.0/16", "fd00::5/128"]
    );
    assert!(!loaded.config.proxy_protocol.masquerade && loaded.warnings.is_empty());
    let text = "proxy_protocol: {trusted: [192.0.2.1], masquerade: true}\n";
    let loaded = good(with_yaml(text, &[]));
    assert_eq!(trusted(&loaded), ["192.0.2.1/32"]);
    assert!(loaded.config.proxy_protocol.masquerade);
    assert!(trusted(&good(with_env(&[]))).is_empty());
    refused(
        with_env(&["PROXY_PROTOCOL__TRUSTED=10.1.0.0/8"]),
        &["proxy_protocol.trusted = 10.1.0.0/8", "write 10.0.0.0/8"],
    );
    refused(
        with_env(&["PROXY_PROTOCOL__TRUSTED=haproxy.example.com"]),
        &["this is no network"],
    );
    refused(
        with_env(&["PROXY_PROTOCOL__MASQUERADE=true"]),
        &[
            "proxy_protocol.masquerade = true (from COSGATE_PROXY_PROTOCOL__MASQUERADE)",
            "set proxy_protocol.trusted",
        ],
    );
}

#[test]
fn to_trust_everybody_as_a_proxy_is_warned_of() {
    for everybody in ["0.0.0.0/0", "::/0", "10.1.2.3, ::/0"] {
        let loaded = good(with_env(&[&format!("PROXY_PROTOCOL__TRUSTED={everybody}")]));
        assert!(
            loaded
                .warnings
                .iter()
                .any(|warning| warning.starts_with("proxy_protocol.trusted")
                    && warning.contains("is everybody")),
            "{:?}",
            loaded.warnings
        );
    }
}
