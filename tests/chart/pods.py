"""What a pod may, what it is given, and how it ends."""

import base64
import re
from pathlib import Path

import yaml

from chart import BUCKET, CHART, PRESETS, ROOT, name, over


def every_render(helm):
    yield "defaults", helm.render()
    for preset in PRESETS:
        yield preset.stem, helm.render(preset=preset)


def test_pods_are_within_restricted_pod_security(helm):
    for preset, render in every_render(helm):
        pod, container = render.pod["securityContext"], render.container["securityContext"]
        assert pod["runAsNonRoot"] is True and pod["runAsUser"] == 65532, preset
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}, preset
        assert container["allowPrivilegeEscalation"] is False, preset
        assert container["capabilities"] == {"drop": ["ALL"]}, preset
        assert container["readOnlyRootFilesystem"] is True, preset
        assert render.pod["enableServiceLinks"] is False, preset
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(render.pod), preset
        kinds = {kind for volume in render.pod["volumes"] for kind in volume if kind != "name"}
        assert kinds <= {"configMap", "secret", "emptyDir"}, preset
        assert not any("hostPort" in port for port in container.get("ports", [])), preset


def test_volumes_are_mounted_whole_so_that_changes_arrive(helm):
    for preset, render in every_render(helm):
        volumes = {volume["name"] for volume in render.pod["volumes"]}
        claims = render.stateful_set["spec"].get("volumeClaimTemplates", [])
        volumes |= {name(claim) for claim in claims}
        mounts = render.container["volumeMounts"]
        assert {mount["name"] for mount in mounts} == volumes, preset
        assert not any("subPath" in mount for mount in mounts), preset
        # read-only, but for the embedded store's directory
        assert all(mount.get("readOnly") or mount["mountPath"] == "/data" for mount in mounts), preset


def test_the_end_of_a_pod_leaves_time_for_the_drain(helm):
    for deadline, seconds in [("10m", 690), ("90s", 180), ("1h 30m", 5490), ("2hours", 7290), ("1500ms", 92), ("1d", 86490)]:
        render = helm.render({"config": {"drain": {"deadline": deadline}}})
        assert render.pod["terminationGracePeriodSeconds"] == seconds, deadline
    sleep = helm.render().container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert 0 < sleep < 90, "it is part of the grace period"
    assert "lifecycle" not in helm.render(version="1.28").container, "sleep came with 1.30"
    assert "lifecycle" not in helm.render({"drain": {"preStopSeconds": 0}}).container


def test_the_file_of_users_is_a_file_and_never_in_the_environment(helm):
    render = helm.render(BUCKET)
    users = next(volume for volume in render.pod["volumes"] if volume["name"] == "users")
    assert users["secret"]["items"] == [{"key": "users.yaml", "path": "users.yaml"}]
    mount = next(mount for mount in render.container["volumeMounts"] if mount["name"] == "users")
    assert render.config["users_file"] == mount["mountPath"] + "/users.yaml"
    assert "envFrom" not in render.container
    for variable in render.env.values():
        reference = variable["valueFrom"].get("secretKeyRef")
        if reference:
            assert reference == {"name": "cosgate", "key": variable["name"], "optional": True}
    without = helm.render(over(BUCKET, secretKeys={"users": ""}))
    assert "users_file" not in without.config
    assert "users" not in [volume["name"] for volume in without.pod["volumes"]]


def test_lists_of_addresses_change_without_a_restart(helm):
    lists = {"allow": ["10.0.0.0/8"], "deny": ["10.6.6.6", "2001:db8::/32"]}
    before, after = helm.render(BUCKET), helm.render(over(BUCKET, access=lists))
    path = Path(before.config["access"]["file"])
    mount = next(mount for mount in before.container["volumeMounts"] if mount["name"] == "config")
    assert str(path.parent) == mount["mountPath"] and "subPath" not in mount
    assert yaml.safe_load(before.config_files[path.name]) == {"allow": [], "deny": []}
    assert yaml.safe_load(after.config_files[path.name]) == lists
    assert before.stateful_set == after.stateful_set
    own = helm.render(over(BUCKET, config={"access": {"file": "/lists/access.yaml"}}))
    assert own.config["access"]["file"] == "/lists/access.yaml" and path.name not in own.config_files


def test_every_secret_of_the_configuration_can_come_from_the_secret(helm):
    # the guide's table names a second variable, ..._FILE, for secrets only; a test of the program compares the table
    table = (ROOT / "src/guide/configuration.md").read_text()
    secrets = set(re.findall(r"^\| `[a-z_.]+` \| `(COSGATE_\w+)`, `\1_FILE` \|", table, re.MULTILINE))
    assert len(secrets) >= 3
    render = helm.render(over(BUCKET, replicas=2, handover={"enabled": True}))
    assert secrets <= set(render.env), secrets


def test_a_secret_made_by_the_chart_holds_users_and_keys(helm):
    users = [{"name": "camera-7", "password_hash": "$argon2id$x", "permissions": "W"}]
    env = {"COSGATE_STORAGE__ACCESS_KEY_ID": "AKID", "COSGATE_STORAGE__SECRET_ACCESS_KEY": "0123"}
    render = helm.render({"secret": {"users": users, "env": env}})
    data = {key: base64.b64decode(value).decode() for key, value in render.one("Secret")["data"].items()}
    assert yaml.safe_load(data.pop("users.yaml")) == users
    assert data == env
    assert "$argon2id$x" not in render.text and "AKID" not in render.config_text
    other = helm.render({"secret": {"users": users, "env": {**env, "COSGATE_STORAGE__SECRET_ACCESS_KEY": "4567"}}})
    annotations = [one.stateful_set["spec"]["template"]["metadata"]["annotations"] for one in (render, other)]
    assert annotations[0]["checksum/secret"] != annotations[1]["checksum/secret"], "variables never update by themselves"
    assert not helm.render().all("Secret")


def test_a_change_of_the_configuration_replaces_the_pods(helm):
    before, after = helm.render(), helm.render({"config": {"greeting": "welcome"}})
    sums = {one.stateful_set["spec"]["template"]["metadata"]["annotations"]["checksum/config"] for one in (before, after)}
    assert len(sums) == 2


def test_numbers_reach_the_configuration_as_they_are_written(helm):
    render = helm.render({"config": {"sessions": {"max": 1000000}, "storage": {"access_key_id": "0123"}}})
    assert "max: 1000000\n" in render.config_text
    assert render.config["storage"]["access_key_id"] == "0123"


def test_certificates_are_mounted_and_named_in_the_configuration(helm):
    certificate = {"certManager": {"enabled": True, "issuerRef": {"name": "ca"}, "dnsNames": ["ftp.example.com"]}}
    for tls, secret in [({"existingSecret": "mine"}, "mine"), (certificate, "cosgate-tls")]:
        render = helm.render({"tls": {**tls, "implicitPort": 990}, "config": {"listen": ["0.0.0.0:2121", "[::]:2121"]}})
        volume = next(volume for volume in render.pod["volumes"] if volume["name"] == "tls")
        assert volume["secret"]["secretName"] == secret
        assert render.config["tls"] == {
            "cert": "/etc/cosgate/tls/tls.crt", "key": "/etc/cosgate/tls/tls.key",
            "implicit_listen": "0.0.0.0:2990,[::]:2990",
        }
        ports = {port["port"]: port["targetPort"] for port in render.public["cosgate"]["spec"]["ports"]}
        assert (ports[21], ports[990]) == (2121, 2990)
    issued = render.one("Certificate")["spec"]
    assert issued["secretName"] == "cosgate-tls" and issued["dnsNames"] == ["ftp.example.com"]
    assert issued["issuerRef"] == {"name": "ca", "kind": "ClusterIssuer", "group": "cert-manager.io"}


def test_the_built_in_store_has_the_only_volume_that_is_written(helm):
    render = helm.render({"persistence": {"enabled": True, "size": "20Gi", "storageClass": "fast"}})
    claim = render.stateful_set["spec"]["volumeClaimTemplates"][0]
    assert name(claim) == "data" and claim["spec"]["resources"]["requests"]["storage"] == "20Gi"
    assert claim["spec"]["storageClassName"] == "fast"
    bucket = helm.render(over(BUCKET, persistence={"enabled": True}))
    assert "volumeClaimTemplates" not in bucket.stateful_set["spec"]
    assert "data" not in [mount["name"] for mount in bucket.container["volumeMounts"]]


def test_a_network_policy_lets_clients_to_ftp_and_to_nothing_else(helm):
    policy = {"networkPolicy": {"enabled": True, "clientCidrs": ["192.0.2.0/24"]}}
    spec = helm.render(policy).one("NetworkPolicy")["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    clients, admin = spec["ingress"]
    # the admin port is open to `helm test` only
    assert [list(one) for one in admin["from"]] == [["podSelector"]]
    # and the pod of `helm test`
    assert [one for one in clients["from"] if "podSelector" not in one] == [{"ipBlock": {"cidr": "192.0.2.0/24"}}]
    assert clients["ports"] == [
        {"port": 2121, "protocol": "TCP"}, {"port": 30000, "endPort": 30015, "protocol": "TCP"},
    ]
    assert [port["port"] for port in spec["egress"][0]["ports"]] == [53, 53, 443, 6443]
    active = helm.render({**policy, "config": {"active": {"enabled": True}}}).one("NetworkPolicy")["spec"]
    assert {"port": 1024, "endPort": 65535, "protocol": "TCP"} in active["egress"][0]["ports"]


def test_every_value_has_its_line_of_explanation(helm):
    """A value, or the section that it is in, is preceded by a comment with `# --`."""
    explained, comment = {}, []
    for line in (CHART / "values.yaml").read_text().splitlines():
        found = re.match(r"( *)(\w+):( |$)(.*)", line)
        if line.lstrip().startswith("#"):
            comment.append(line)
        elif found:
            depth = len(found[1])
            explained = {at: said for at, said in explained.items() if at < depth}
            explained[depth] = any("# -- " in said for said in comment)
            assert not found[4] or any(explained.values()), f"no `# --` for: {line}"
            comment = []
        else:
            comment = []


def test_names_stay_within_their_limit(helm):
    render = helm.render(name="a" * 53)
    assert all(len(name(one)) <= 57 for one in render.objects)
