//! The public address, with a real Kubernetes API server.
//!
//! `cargo test` leaves this out, since it needs a cluster, and fails rather than skips without one:
//!
//! ```sh
//! COSGATE_TEST_KUBECONFIG=~/.kube/config cargo test --test kubernetes
//! ```
//!
//! The kubeconfig's current context says cluster, namespace and user; the user has to be allowed `create`, `get`, `list`,
//! `watch` and `delete` on `services` and `patch` on `services/status` there. One Service is made, of a load balancer class
//! that no controller serves, and removed in the end. Any cluster will do, such as kind's. The same scenarios run against a
//! double of an API server in `tests/it/masquerade.rs`, with every `cargo test`.

// made for all scenarios; these here need a part of it
#[allow(dead_code)]
#[path = "it/support/mod.rs"]
mod support;

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Service;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use support::{Ftp, TestGateway};

/// The longest time that a change of the address may take to reach a client.
const AT_ONCE: Duration = Duration::from_secs(2);

fn at(last: u8) -> (Ipv4Addr, Value) {
    let address = Ipv4Addr::new(203, 0, 113, last);
    (address, json!([{"ip": address.to_string()}]))
}

/// Waits until the session's PASV reports `address`, and says how long it took.
async fn told(ftp: &mut Ftp, address: Ipv4Addr) -> Duration {
    let begun = Instant::now();
    loop {
        match ftp.pasv().await {
            Ok((told, _)) if told == address => return begun.elapsed(),
            other => assert!(begun.elapsed() < Duration::from_secs(60), "{other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_real_api_server_reports_changes_within_two_seconds() {
    let path = std::env::var("COSGATE_TEST_KUBECONFIG").expect(
        "COSGATE_TEST_KUBECONFIG has to name a kubeconfig: this is about a real API server, and nothing can take its place",
    );
    cosgate::install_crypto_provider();
    let kubeconfig = kube::config::Kubeconfig::read_from(&path).expect("a kubeconfig");
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default())
        .await
        .expect("a current context");
    let client = kube::Client::try_from(config).expect("a client");
    let services: kube::Api<Service> = kube::Api::default_namespaced(client);
    let name = format!("cosgate-test-{}", std::process::id());
    let service: Service = serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false,
            // a class that no controller serves, so that the status is this test's alone
            "loadBalancerClass": "cosgate.test/none", "ports": [{"port": 21}]}
    }))
    .expect("a Service");
    let create = || async {
        let created = services.create(&PostParams::default(), &service).await;
        created.expect("the kubeconfig may create Services");
    };
    let set = async |ingress: &Value| {
        let status = json!({"status": {"loadBalancer": {"ingress": ingress}}});
        let parameters = PatchParams::default();
        let patched = services
            .patch_status(&name, &parameters, &Patch::Merge(&status))
            .await;
        patched.expect("the kubeconfig may patch a Service's status");
    };
    let delete = || async {
        let deleted = services.delete(&name, &DeleteParams::default()).await;
        deleted.expect("the kubeconfig may delete Services");
    };

    let gateway = TestGateway::with(&[
        "KUBERNETES__IN_CLUSTER=true",
        &format!("KUBERNETES__SERVICE={name}"),
        &format!("KUBERNETES__KUBECONFIG={path}"),
    ])
    .await;
    let mut ftp = gateway.login().await;
    assert!(ftp.pasv().await.is_err(), "there is no Service yet");
    create().await;
    let (first, ingress) = at(7);
    set(&ingress).await;
    told(&mut ftp, first).await;
    for last in 8..12 {
        let (address, ingress) = at(last);
        set(&ingress).await;
        let took = told(&mut ftp, address).await;
        assert!(took < AT_ONCE, "{took:?}");
    }
    let (last, _) = at(11);
    delete().await;
    create().await;
    assert_eq!(ftp.pasv().await.map(|told| told.0), Ok(last), "it stays");
    let (address, ingress) = at(20);
    set(&ingress).await;
    let took = told(&mut ftp, address).await;
    delete().await;
    assert!(took < AT_ONCE, "{took:?}");
}
