"""Who listens where: one replica, several behind one address, an address for each."""

import base64

import yaml
from chart import BUCKET, control_ports, name, over, passive_ports, range_of

TKE = {"sharing": {"method": "tke", "key": "lb-6swtxxxx"}}


def shared(replicas, per_replica, **more):
    return over(BUCKET, replicas=replicas, passive={"portsPerReplica": per_replica}, loadBalancer=TKE, **more)


def test_one_replica_is_a_stateful_set_of_one_and_one_service_with_every_port(helm):
    render = helm.render()
    assert render.stateful_set["spec"]["replicas"] == 1
    assert list(render.public) == ["cosgate"]
    service = render.public["cosgate"]
    assert control_ports(service) == {21: 2121}
    assert passive_ports(service) == list(range(30000, 30016)) == range_of(render.config)
    assert "slice_size" not in render.config["passive"]
    assert "COSGATE_PASSIVE__ORDINAL" not in render.env
    assert render.config["kubernetes"] == {"service": "cosgate"}
    assert service["spec"]["externalTrafficPolicy"] == "Local"
    assert service["spec"]["publishNotReadyAddresses"] is True


def test_no_port_is_in_two_slices_and_every_passive_port_is_in_one(helm):
    for replicas, per_replica in [(2, 1), (2, 24), (3, 16), (5, 9), (7, 7), (49, 1)]:
        render = helm.render(shared(replicas, per_replica))
        slices = [render.public[f"cosgate-data-{ordinal}"] for ordinal in range(replicas)]
        ports = [port for service in slices for port in passive_ports(service)]
        assert len(ports) == len(set(ports)) == replicas * per_replica, (replicas, per_replica)
        assert ports == range_of(render.config), "slices follow each other in the order of ordinals"
        assert render.config["passive"]["slice_size"] == per_replica
        assert all(len(passive_ports(service)) == per_replica for service in slices)
        assert 1 + len(ports) <= 50


def test_each_data_service_leads_to_its_own_pod_and_control_to_all(helm):
    render = helm.render(shared(3, 16))
    assert sorted(render.public) == ["cosgate", "cosgate-data-0", "cosgate-data-1", "cosgate-data-2"]
    pods = render.stateful_set["spec"]["template"]["metadata"]["labels"]
    for ordinal in range(3):
        data = render.public[f"cosgate-data-{ordinal}"]
        selector = dict(data["spec"]["selector"])
        assert selector.pop("statefulset.kubernetes.io/pod-name") == f"cosgate-{ordinal}"
        assert selector.items() <= pods.items()
        assert control_ports(data) == {}
        # a pod that drains stays reachable for its own sessions
        assert data["spec"]["publishNotReadyAddresses"] is True
    control = render.public["cosgate"]["spec"]
    assert control["selector"].items() <= pods.items()
    assert control_ports(render.public["cosgate"]) == {21: 2121} and not passive_ports(render.public["cosgate"])
    # and takes no new ones
    assert "publishNotReadyAddresses" not in control


def test_an_ordinal_comes_from_the_pod_itself_and_all_watch_the_control_service(helm):
    render = helm.render(shared(3, 16))
    path = render.env["COSGATE_PASSIVE__ORDINAL"]["valueFrom"]["fieldRef"]["fieldPath"]
    assert path == "metadata.labels['apps.kubernetes.io/pod-index']"
    assert render.env["COSGATE_KUBERNETES__POD_NAME"]["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"
    assert render.config["kubernetes"]["service"] == "cosgate"
    assert "ordinal" not in render.config["passive"]


def test_services_share_an_address_by_the_means_of_the_platform(helm):
    cluster = {"externalTrafficPolicy": "Cluster"}
    for method, key, service, annotation, value in [
        ("tke", "lb-6swtxxxx", {}, "service.kubernetes.io/tke-existed-lbid", "lb-6swtxxxx"),
        ("cilium", "", cluster, "lbipam.cilium.io/sharing-key", "ftp-cosgate"),
        ("metallb", "mine", cluster, "metallb.io/allow-shared-ip", "mine"),
    ]:
        sharing = {"sharing": {"method": method, "key": key}}
        render = helm.render(over(BUCKET, replicas=3, loadBalancer=sharing, service=service))
        assert len(render.public) == 4
        for one in render.public.values():
            assert one["metadata"]["annotations"] == {annotation: value}, name(one)


def handed_over(replicas, handover=None, **more):
    return over(BUCKET, replicas=replicas, handover={"enabled": True, **(handover or {})}, **more)


def test_with_handover_one_service_leads_to_all_replicas_with_every_port(helm):
    render = helm.render(handed_over(3))
    assert list(render.public) == ["cosgate"]
    service = render.public["cosgate"]
    assert control_ports(service) == {21: 2121}
    assert passive_ports(service) == list(range(30000, 30006)) == range_of(render.config), "two of each replica"
    pods = render.stateful_set["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= pods.items()
    assert "statefulset.kubernetes.io/pod-name" not in service["spec"]["selector"]
    # a pod that drains has its connections by way of the others
    assert "publishNotReadyAddresses" not in service["spec"]
    assert not service["metadata"].get("annotations"), "no method of sharing"
    assert all(port["port"] != 2122 for port in service["spec"]["ports"])


def test_with_handover_replicas_know_their_slices_and_find_each_other(helm):
    render = helm.render(handed_over(3, config={**BUCKET["config"], "listen": "[::]:2121", "handover": {"idle_timeout": "5m"}}))
    assert render.config["passive"]["slice_size"] == 2
    assert render.config["handover"] == {
        "listen": "[::]:2122", "peers": "cosgate-{ordinal}.cosgate-admin.ftp.svc", "idle_timeout": "5m",
    }
    path = render.env["COSGATE_PASSIVE__ORDINAL"]["valueFrom"]["fieldRef"]["fieldPath"]
    assert path == "metadata.labels['apps.kubernetes.io/pod-index']"
    assert render.stateful_set["spec"]["serviceName"] == "cosgate-admin"
    headless = next(service for service in render.all("Service") if name(service) == "cosgate-admin")
    assert headless["spec"]["clusterIP"] == "None" and headless["spec"]["publishNotReadyAddresses"] is True
    assert {"name": "handover", "containerPort": 2122, "protocol": "TCP"} in render.pod["containers"][0]["ports"]


def test_the_key_of_handover_is_made_by_the_chart_or_named(helm):
    render = helm.render(handed_over(3))
    reference = render.env["COSGATE_HANDOVER__KEY"]["valueFrom"]["secretKeyRef"]
    assert reference == {"name": "cosgate-handover", "key": "COSGATE_HANDOVER__KEY"}
    made = next(secret for secret in render.all("Secret") if name(secret) == "cosgate-handover")
    key = base64.b64decode(made["data"]["COSGATE_HANDOVER__KEY"])
    assert len(key) == 64 and key.decode() not in yaml.safe_dump(render.one("ConfigMap"))
    render = helm.render(handed_over(3, {"existingSecret": "mine"}))
    assert render.env["COSGATE_HANDOVER__KEY"]["valueFrom"]["secretKeyRef"]["name"] == "mine"
    assert not render.all("Secret")


def test_handover_has_room_for_the_most_replicas_and_for_other_types_of_service(helm):
    scaling = {"enabled": True, "minReplicas": 2, "maxReplicas": 24}
    render = helm.render(handed_over(1, autoscaling=scaling))
    assert len(range_of(render.config)) == 48 and list(render.public) == ["cosgate"]
    for kind in ["ClusterIP", "NodePort"]:
        service = helm.render(handed_over(3, service={"type": kind})).public["cosgate"]
        assert service["spec"]["type"] == kind and passive_ports(service) == list(range(30000, 30006))
    wide = helm.render(handed_over(2, passive={"portsPerReplica": 5}))
    assert wide.config["passive"]["slice_size"] == 5 and len(range_of(wide.config)) == 10


def test_one_replica_hands_nothing_over(helm):
    render = helm.render(handed_over(1))
    assert "handover" not in render.config and "COSGATE_HANDOVER__KEY" not in render.env
    assert len(range_of(render.config)) == 16 and not render.all("Secret")


def test_only_the_replicas_reach_each_others_handover_port(helm):
    policy = helm.render(handed_over(3, networkPolicy={"enabled": True})).one("NetworkPolicy")["spec"]
    pods = policy["podSelector"]["matchLabels"]
    opened = [rule for rule in policy["ingress"] if {"port": 2122, "protocol": "TCP"} in rule["ports"]]
    assert [rule["from"] for rule in opened] == [[{"podSelector": {"matchLabels": pods}}]]
    assert opened[0]["ports"] == [{"port": 2122, "protocol": "TCP"}]
    out = [rule for rule in policy["egress"] if {"port": 2122, "protocol": "TCP"} in rule["ports"]]
    assert [rule["to"] for rule in out] == [[{"podSelector": {"matchLabels": pods}}]]
    without = helm.render({"networkPolicy": {"enabled": True}}).one("NetworkPolicy")
    assert "2122" not in yaml.safe_dump(without)


def test_an_address_per_replica_has_control_and_data_of_one_pod_on_it(helm):
    load_balancer = {"addresses": "perReplica"}
    render = helm.render(over(BUCKET, replicas=3, loadBalancer=load_balancer))
    assert sorted(render.public) == ["cosgate-0", "cosgate-1", "cosgate-2"]
    for service in render.public.values():
        # the Service is called as its pod: so a pod knows which one to watch
        assert service["spec"]["selector"]["statefulset.kubernetes.io/pod-name"] == name(service)
        assert control_ports(service) == {21: 2121}
        assert passive_ports(service) == range_of(render.config) == list(range(30000, 30016))
    assert "slice_size" not in render.config["passive"]
    watched = render.env["COSGATE_KUBERNETES__SERVICE"]["valueFrom"]["fieldRef"]["fieldPath"]
    assert watched == "metadata.name" and "kubernetes" not in render.config


def test_a_pod_may_read_the_service_that_it_watches_and_no_other(helm):
    per_replica = over(BUCKET, replicas=2, loadBalancer={"addresses": "perReplica"})
    elsewhere = {"service": {"type": "ClusterIP"}, "config": {"kubernetes": {"service": "edge"}}}
    for values, services in [
        ({}, ["cosgate"]),
        (shared(3, 16), ["cosgate"]),
        (per_replica, ["cosgate-0", "cosgate-1"]),
        (elsewhere, ["edge"]),
    ]:
        render = helm.render(values)
        rules = render.one("Role")["rules"]
        assert rules[0] == {
            "apiGroups": [""], "resources": ["services"], "resourceNames": services, "verbs": ["get", "list", "watch"],
        }
        assert rules[1:] == [{"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create"]}]
        assert render.pod["automountServiceAccountToken"] is True
    for values in [{"service": {"type": "ClusterIP"}}, {"config": {"masquerade_address": "203.0.113.7"}}]:
        render = helm.render(values)
        assert not render.all("Role") and render.pod["automountServiceAccountToken"] is False, values
        assert "kubernetes" not in render.config


def test_a_pod_waits_for_its_address_where_something_can_say_one(helm):
    inside = {"service": {"type": "ClusterIP"}}
    assert helm.render(inside).config["masquerade"] == {"after_grace": "serve"}
    networks = {"internal_cidrs": ["10.0.0.0/8"]}
    render = helm.render(over(inside, config={"masquerade": networks}))
    assert render.config["masquerade"] == {**networks, "after_grace": "serve"}
    for config in [
        {"masquerade_address": "203.0.113.7"},
        {"masquerade": {"mapping_file": "/etc/podinfo/mapping"}},
        {"kubernetes": {"service": "edge"}},
    ]:
        assert "after_grace" not in helm.render(over(inside, config=config)).config.get("masquerade", {}), config
    wanted = {"masquerade": {"after_grace": "unready"}}
    assert helm.render(over(inside, config=wanted)).config["masquerade"] == wanted["masquerade"]
    assert "masquerade" not in helm.render().config


def test_the_range_of_an_imported_configuration_is_divided_among_replicas(helm):
    passive = {"passive": {"ports": "40000-40029", "accept_timeout": "20s"}}
    render = helm.render({"config": passive})
    assert passive_ports(render.public["cosgate"]) == list(range(40000, 40030))
    assert render.config["passive"] == passive["passive"]
    config = {**BUCKET["config"], **passive}
    render = helm.render(over(BUCKET, config=config, replicas=3, loadBalancer=TKE))
    assert render.config["passive"] == {"ports": "40000-40029", "slice_size": 10, "accept_timeout": "20s"}
    assert passive_ports(render.public["cosgate-data-2"]) == list(range(40020, 40030))
    one = helm.render({"config": {"passive": {"ports": "40000"}}})
    assert passive_ports(one.public["cosgate"]) == [40000] and one.config["passive"]["ports"] == "40000"


def test_autoscaling_has_ports_and_services_for_its_most_replicas(helm):
    scaling = {"enabled": True, "minReplicas": 2, "maxReplicas": 4}
    render = helm.render(shared(1, 12, autoscaling=scaling))
    assert len(range_of(render.config)) == 48 and "cosgate-data-3" in render.public
    assert "replicas" not in render.stateful_set["spec"], "or each upgrade would undo the scaling"
    scaler = render.one("HorizontalPodAutoscaler")["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (2, 4)
    assert scaler["scaleTargetRef"]["name"] == name(render.stateful_set)


def test_node_ports_are_the_passive_ports_themselves(helm):
    render = helm.render({"service": {"type": "NodePort"}, "config": {"masquerade_address": "192.0.2.1"}})
    for port in render.public["cosgate"]["spec"]["ports"]:
        assert port["nodePort"] == (30021 if port["name"] == "ftp" else port["port"])


def test_tke_checks_no_passive_listener_of_any_service(helm):
    render = helm.render(shared(3, 16, tke={"directAccess": True, "serviceConfig": True}))
    configs = {name(one): one for one in render.all("TkeServiceConfig")}
    for service in render.public.values():
        annotations = service["metadata"]["annotations"]
        assert annotations["service.cloud.tencent.com/direct-access"] == "true"
        assert annotations["service.cloud.tencent.com/enable-grace-shutdown"] == "true"
        chosen = annotations.get("service.cloud.tencent.com/tke-service-config")
        assert (chosen is None) == (not passive_ports(service)), "the control listener keeps its check"
        if chosen:
            listeners = configs.pop(chosen)["spec"]["loadBalancer"]["l4Listeners"]
            assert [one["port"] for one in listeners] == passive_ports(service)
            assert all(one["healthCheck"] == {"enable": False} and one["protocol"] == "TCP" for one in listeners)
    assert not configs, "each TkeServiceConfig is used"


def test_the_admin_port_is_in_no_public_service(helm):
    for values in [{}, shared(2, 4), over(BUCKET, replicas=2, loadBalancer={"addresses": "perReplica"})]:
        render = helm.render(values)
        for service in render.public.values():
            assert all(port["targetPort"] != 8080 for port in service["spec"]["ports"])
        admin = [one for one in render.all("Service") if name(one) not in render.public]
        assert [name(one) for one in admin] == ["cosgate-admin"] == [render.stateful_set["spec"]["serviceName"]]
        assert admin[0]["spec"]["clusterIP"] == "None" and "type" not in admin[0]["spec"]
