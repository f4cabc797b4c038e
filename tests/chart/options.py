"""What an operator may add and change: volumes, containers, rights, probes, labels, claims, ranges, and what stays as it is."""

from pathlib import Path
from tempfile import NamedTemporaryFile

import yaml

from api_server import ApiServer
from chart import BUCKET, CHART, control_ports, name, over, passive_ports, range_of

PER_REPLICA = {"addresses": "perReplica"}
TKE = {"sharing": {"method": "tke", "key": "lb-6swtxxxx"}}


def checksum(render):
    return render.stateful_set["spec"]["template"]["metadata"]["annotations"]["checksum/config"]


def test_files_that_the_configuration_names_are_mounted_by_extra_volumes(helm):
    volume = {"name": "authorities", "configMap": {"name": "authorities"}}
    mount = {"name": "authorities", "mountPath": "/etc/authorities", "readOnly": True}
    render = helm.render({"extraVolumes": [volume], "extraVolumeMounts": [mount],
                          "config": {"tls": {"client_ca": "/etc/authorities/ca.crt"}}})
    assert volume in render.pod["volumes"] and mount in render.container["volumeMounts"]
    assert len(render.pod["volumes"]) == len(helm.render().pod["volumes"]) + 1


def test_containers_run_beside_and_before_the_gateway(helm):
    beside, before = {"name": "exporter", "image": "exporter"}, {"name": "wait", "image": "busybox"}
    pod = helm.render({"extraContainers": [beside], "initContainers": [before]}).pod
    assert [name["name"] for name in pod["containers"]] == ["cosgate", "exporter"], "kubectl logs takes the first one"
    assert pod["containers"][1] == beside and pod["initContainers"] == [before]


def test_openshift_chooses_user_and_groups(helm):
    render = helm.render({"podSecurityContext": {"runAsUser": None, "runAsGroup": None, "fsGroup": None}})
    for pod in [render.pod, render.one("Pod")["spec"]]:
        assert not {"runAsUser", "runAsGroup", "fsGroup"} & set(pod["securityContext"])
        assert pod["securityContext"]["runAsNonRoot"] is True and pod["securityContext"]["seccompProfile"]
    assert render.container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_probes_keep_their_question_and_take_other_times(helm):
    container = helm.render({"probes": {"readiness": {"periodSeconds": 30}, "liveness": {"initialDelaySeconds": 5}}}).container
    assert container["readinessProbe"] == {"httpGet": {"path": "/readyz", "port": "admin"}, "periodSeconds": 30, "timeoutSeconds": 6,
                                           "failureThreshold": 3}
    assert container["livenessProbe"]["initialDelaySeconds"] == 5 and container["livenessProbe"]["httpGet"]["path"] == "/livez"


def test_pods_are_replaced_as_the_operator_says(helm):
    spec = helm.render({"updateStrategy": {"type": "OnDelete"}, "minReadySeconds": 20, "revisionHistoryLimit": 3}).stateful_set["spec"]
    assert (spec["updateStrategy"], spec["minReadySeconds"], spec["revisionHistoryLimit"]) == ({"type": "OnDelete"}, 20, 3)


def test_why_a_pod_ended_stands_in_its_status(helm):
    render = helm.render()
    assert render.container["terminationMessagePolicy"] == "FallbackToLogsOnError"
    assert render.one("Pod")["spec"]["containers"][0]["terminationMessagePolicy"] == "FallbackToLogsOnError"


def test_the_level_of_the_log_restarts_no_pod_and_everything_else_does(helm):
    plain, debug = helm.render(), helm.render({"config": {"log": {"level": "debug"}}})
    assert debug.config["log"]["level"] == "debug" and checksum(plain) == checksum(debug)
    text = helm.render({"config": {"log": {"level": "debug", "format": "text"}}})
    assert checksum(text) != checksum(plain)
    assert checksum(text) == checksum(helm.render({"config": {"log": {"format": "text"}}}))


def test_labels_and_names_are_those_that_were_asked_for(helm):
    values = {"nameOverride": "ftp", "commonLabels": {"team": "files"}, "service": {"labels": {"exposed": "yes"}}, "monitoring": {
        "serviceMonitor": {"enabled": True}}, "networkPolicy": {"enabled": True, "adminFrom": [{"podSelector": {}}]}}
    render = helm.render(values, name="shop")
    assert name(render.stateful_set) == "shop-ftp"
    template = render.stateful_set["spec"]["template"]["metadata"]["labels"]
    selector = render.stateful_set["spec"]["selector"]["matchLabels"]
    assert selector == {"app.kubernetes.io/name": "ftp", "app.kubernetes.io/instance": "shop"}
    assert selector.items() <= template.items() and template["team"] == "files"
    for one in render.objects:
        if one["kind"] != "Pod":
            assert one["metadata"]["labels"]["team"] == "files", name(one)
    assert all(service["metadata"]["labels"]["exposed"] == "yes" for service in render.public.values())
    # selectors never change with labels that come and go
    assert all("team" not in service["spec"]["selector"] for service in render.all("Service"))
    # and the alerts still find the job
    relabeling = {"targetLabel": "job", "replacement": "cosgate"}
    assert relabeling in render.one("ServiceMonitor")["spec"]["endpoints"][0]["relabelings"]


def test_a_parent_chart_may_say_enabled(helm):
    assert helm.render({"enabled": True}).text == helm.render().text


def test_services_have_the_families_of_addresses_that_were_asked_for(helm):
    render = helm.render(over(BUCKET, replicas=2, loadBalancer=TKE, service={
        "ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv6", "IPv4"]}))
    for service in render.public.values():
        assert service["spec"]["ipFamilyPolicy"] == "PreferDualStack" and service["spec"]["ipFamilies"] == ["IPv6", "IPv4"]
    assert "ipFamilyPolicy" not in helm.render().public["cosgate"]["spec"]


def test_each_replica_has_an_address_and_annotations_of_its_own(helm):
    each = [{"annotations": {"eip": "a"}, "loadBalancerIP": "192.0.2.1"}, {"annotations": {"eip": "b"}}]
    render = helm.render(over(BUCKET, replicas=2, loadBalancer=PER_REPLICA, service={"annotations": {"both": "x"}, "perReplica": each}))
    first, second = render.public["cosgate-0"], render.public["cosgate-1"]
    assert first["metadata"]["annotations"] == {"both": "x", "eip": "a"} and first["spec"]["loadBalancerIP"] == "192.0.2.1"
    assert second["metadata"]["annotations"] == {"both": "x", "eip": "b"} and "loadBalancerIP" not in second["spec"]


def test_a_volume_may_be_there_already_or_go_with_its_stateful_set(helm):
    render = helm.render({"persistence": {"enabled": True, "existingClaim": "mine"}})
    assert "volumeClaimTemplates" not in render.stateful_set["spec"]
    assert {"name": "data", "persistentVolumeClaim": {"claimName": "mine"}} in render.pod["volumes"]
    made = helm.render({"persistence": {"enabled": True, "accessModes": ["ReadWriteOncePod"], "annotations": {"backup": "no"},
                                        "retentionPolicy": {"whenDeleted": "Delete"}}}).stateful_set["spec"]
    [claim] = made["volumeClaimTemplates"]
    assert claim["spec"]["accessModes"] == ["ReadWriteOncePod"] and claim["metadata"]["annotations"] == {"backup": "no"}
    assert made["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Delete"}


def test_the_network_policy_opens_the_ports_of_what_the_configuration_names(helm):
    config = {"storage": {"provider": "s3", "endpoint": "http://minio:9000", "bucket": "files"},
              "auth": {"http": {"url": "https://users.example.com:8443/login"}},
              "events": {"sinks": [{"name": "a", "url": "https://events.example.com:9443/hook"}, {"name": "b", "url": "tls://nats"}]}}
    for endpoint, port in [("http://minio:9000", 9000), ("http://minio/path:1", 80), ("https://s3.example.com", 443), ("http://[fd00::1]:99", 99)]:
        config["storage"]["endpoint"] = endpoint
        spec = helm.render({"config": config, "networkPolicy": {"enabled": True}}).one("NetworkPolicy")["spec"]
        ports = [one["port"] for one in spec["egress"][0]["ports"]]
        assert {port, 8443, 9443, 4222} <= set(ports) and len(set(ports)) == len(ports) - 1, "53 twice, for UDP and TCP"
    for url, port in [("ldaps://dc1.example.com", 636), ("ldap://dc1.example.com", 389), ("ldaps://dc1.example.com:3269", 3269)]:
        config["auth"] = {"ldap": {"url": url}}
        spec = helm.render({"config": config, "networkPolicy": {"enabled": True}}).one("NetworkPolicy")["spec"]
        assert port in [one["port"] for one in spec["egress"][0]["ports"]], url


def test_a_range_of_ports_is_one_listener_of_a_service(helm):
    alibaba = {"class": "alibabacloud.com/nlb", "portRange": "alibaba", "sharing": {"method": "annotations"}}
    render = helm.render(over(BUCKET, replicas=3, passive={"portsPerReplica": 100}, loadBalancer=alibaba))
    key = "service.beta.kubernetes.io/alibaba-cloud-loadbalancer-listener-port-range"
    ranges = []
    for ordinal in range(3):
        service = render.public[f"cosgate-data-{ordinal}"]
        [listed] = passive_ports(service)
        span, _, of = service["metadata"]["annotations"][key].partition(":")
        first, last = map(int, span.split("-"))
        assert listed == first == int(of)
        ranges += range(first, last + 1)
    assert ranges == range_of(render.config) and len(ranges) == 300, "far beyond the 50 listeners of before"
    assert key not in render.public["cosgate"]["metadata"].get("annotations", {}), "the control port is no range"
    huawei = helm.render(preset=CHART / "ci" / "cce-elb.yaml").public["cosgate"]
    assert yaml.safe_load(huawei["metadata"]["annotations"]["kubernetes.io/elb.port-ranges"]) == {"p30000": ["30000,30015"]}
    assert control_ports(huawei) == {21: 2121} and [one["name"] for one in huawei["spec"]["ports"]] == ["ftp", "p30000"]


def test_tke_is_told_what_its_kinds_of_clusters_need(helm):
    shared = helm.render(over(BUCKET, replicas=2, loadBalancer=TKE, tke={"serverless": True}))
    for service in shared.public.values():
        assert service["metadata"]["annotations"]["service.kubernetes.io/qcloud-share-existed-lb"] == "true"
    direct = helm.render({"tke": {"directAccess": True, "passToTarget": True}}).public["cosgate"]
    assert direct["metadata"]["annotations"]["service.cloud.tencent.com/pass-to-target"] == "true"


def notes(helm, **values):
    """What helm prints at the end of an installation."""
    with NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(values, file)
        file.flush()
        text = helm.run("install", "cosgate", CHART, "-n", "ftp", "--dry-run=client", "-f", file.name)
    return text.partition("NOTES:")[2]


def test_the_notes_name_the_port_that_clients_reach(helm):
    balancer = notes(helm)
    assert "ftp://$ADDRESS:21/" in balancer and "get service cosgate" in balancer
    for config in [{}, {"masquerade_address": "192.0.2.1"}]:
        node = notes(helm, service={"type": "NodePort", "nodePort": 30121}, config=config)
        assert "ftp://$ADDRESS:30121/" in node and "ftp://$ADDRESS:21/" not in node
        assert ("ADDRESS=192.0.2.1" in node) == bool(config)
        # without an address that is told, PASV fails: it is said
        assert ("config.masquerade_address is not set" in node) != bool(config)


def test_turning_autoscaling_on_leaves_the_pods_that_there_are(helm, directory):
    scaling = over(BUCKET, loadBalancer=TKE, autoscaling={"enabled": True, "maxReplicas": 3})
    there = {"apiVersion": "apps/v1", "kind": "StatefulSet", "spec": {"replicas": 3}, "metadata": {
        "name": "cosgate", "namespace": "ftp", "labels": {"app.kubernetes.io/managed-by": "Helm"},
        "annotations": {"meta.helm.sh/release-name": "cosgate", "meta.helm.sh/release-namespace": "ftp"}}}
    with ApiServer({"/apis/apps/v1/namespaces/ftp/statefulsets/cosgate": there}) as cluster:
        kubeconfig, values = Path(directory, "kubeconfig"), Path(directory, "scaling.yaml")
        kubeconfig.write_text(cluster.kubeconfig)
        values.write_text(yaml.safe_dump(scaling))
        text = helm.run("template", "cosgate", CHART, "-n", "ftp", "-f", values, "--dry-run=server", "--kubeconfig", kubeconfig,
                        "--disable-openapi-validation")
    [stateful_set] = [one for one in yaml.safe_load_all(text) if one and one["kind"] == "StatefulSet"]
    assert stateful_set["spec"]["replicas"] == 3
    assert "replicas" not in helm.render(scaling).stateful_set["spec"], "at the first installation it is the scaler's"
