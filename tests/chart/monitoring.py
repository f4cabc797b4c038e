"""ServiceMonitor, dashboard, alerts and `helm test`: that they fit the chart, and that what they name is there.

What exists is asked of the program: it serves a few clients, and /metrics tells names, labels and label values. Values that
did not occur there, such as outcomes of a store that fails, are those that the guide's table of metrics names.
"""

import contextlib
import ftplib
import io
import json
import os
import re
import socket
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

import yaml

from chart import BUCKET, CHART, PRESETS, ROOT, name, over

DASHBOARD = CHART / "files" / "dashboard.json"
RULES = CHART / "files" / "rules.yaml"
ALL = {"serviceMonitor": {"enabled": True}, "dashboard": {"enabled": True}, "rules": {"enabled": True}}
PATIENCE = 60

# Labels that Prometheus gives to what it scrapes, and the one of a histogram's buckets.
OF_THE_TARGET = {"job", "instance", "namespace", "pod", "le"}

# A metric by name and its matchers, as PromQL writes them; words that are no metric don't begin like this.
METRIC = re.compile(r"\b((?:cosgate|process)_\w+|up\b)(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)(=~|!~|!=|=)"([^"]*)"')
LABELS = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right) ?\(([^)]*)\)")


def rules():
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def panels():
    """The panels of the dashboard; those that are titles of rows left out."""
    dashboard = json.loads(DASHBOARD.read_text())
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def expressions():
    """Everything that is asked of Prometheus: where, the expression."""
    for rule in rules():
        yield rule["alert"], rule["expr"]
    for panel in panels():
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for variable in json.loads(DASHBOARD.read_text())["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], re.fullmatch(r"label_values\((.*), \w+\)", variable["query"]["query"])[1]


@contextlib.contextmanager
def gateway(cosgate):
    """The gateway with its embedded store and FTPS: control and admin port, and the demo user's password."""
    ports = []
    for port in range(21000 + os.getpid() % 500 * 10, 32000):
        with contextlib.closing(socket.socket()) as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                ports.append(port)
        if len(ports) == 4:
            break
    control, admin, first, last = ports
    with tempfile.TemporaryDirectory() as directory:
        env = {"PATH": os.environ["PATH"], "COSGATE_LISTEN": f"127.0.0.1:{control}", "COSGATE_ADMIN__LISTEN": f"127.0.0.1:{admin}",
               "COSGATE_PASSIVE__PORTS": f"{first}-{last}", "COSGATE_STORAGE__DATA_DIR": f"{directory}/data",
               "COSGATE_TLS__SELF_SIGNED": "true", "COSGATE_EVENTS__FLUSH_TIMEOUT": "10ms",
               # nobody listens there, so there is a backlog
               "COSGATE_EVENTS__SINKS": '[{"name": "nobody", "url": "http://127.0.0.1:9"}]'}
        log = Path(directory) / "log"
        with log.open("wb") as output:
            process = subprocess.Popen([cosgate], env=env, cwd=directory, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            deadline = time.monotonic() + PATIENCE
            while not (password := re.search(r"password (\S+)\n", log.read_text())):
                assert process.poll() is None and time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
            yield control, admin, password[1]
        finally:
            process.terminate()
            process.wait(PATIENCE)


def exported(cosgate):
    """What /metrics shows after a few clients: names with their types, and each metric's labels with their values."""
    with gateway(cosgate) as (control, admin, password):
        with ftplib.FTP() as ftp:
            ftp.connect("127.0.0.1", control, timeout=PATIENCE)
            ftp.login("demo", password)
            ftp.storbinary("STOR a.txt", io.BytesIO(b"hello"))
            ftp.retrbinary("RETR a.txt", lambda _: None)
        with ftplib.FTP() as ftp, contextlib.suppress(ftplib.error_perm):
            ftp.connect("127.0.0.1", control, timeout=PATIENCE)
            ftp.login("demo", "no")
        text = urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics", timeout=PATIENCE).read().decode()
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    labels = {}
    for sample, matchers in re.findall(r"^(\w+)(?:\{(.*)\})? ", text, re.MULTILINE):
        of = labels.setdefault(sample, {})
        for label, value in re.findall(r'(\w+)="([^"]*)"', matchers):
            of.setdefault(label, set()).add(value)
    return types, labels


def table():
    """The guide's table of metrics, which a test of the program compares with the source: labels and words of each."""
    rows = re.findall(r"^\| `(\w+)` \| (counter|gauge|histogram) \| (.*?) \| (.*) \|$", (ROOT / "src/guide/monitoring.md").read_text(), re.MULTILINE)
    return {row[0]: (set(re.findall(r"`(\w+)`", row[2])), set(re.findall(r"`(\w+)`", row[3]))) for row in rows}


def family(sample, types):
    """The metric that a sample belongs to: that of a histogram has no ending."""
    base = re.sub(r"_(bucket|sum|count)$", "", sample)
    return base if types.get(base) == "histogram" else sample


def test_what_dashboard_and_alerts_name_is_exported(cosgate):
    types, samples = exported(cosgate)
    documented = table()
    assert set(types) == set(documented), set(types) ^ set(documented)
    used = set()
    for where, expression in expressions():
        allowed = set(OF_THE_TARGET)
        for sample, matchers in METRIC.findall(expression):
            if sample == "up":
                continue
            metric = family(sample, types)
            assert metric in types, f"{where}: {sample} is not exported"
            assert (types[metric] == "histogram") == sample.endswith("_bucket"), f"{where}: {sample}"
            used.add(metric)
            labels, words = documented[metric]
            seen = samples.get(sample, {})
            assert set(seen) <= labels | {"le"}, f"{metric}: {seen}"
            allowed |= labels
            for label, operator, value in MATCHER.findall(matchers):
                assert label in labels | OF_THE_TARGET, f"{where}: {sample} has no label {label}"
                if label not in OF_THE_TARGET:
                    for one in value.split("|") if "~" in operator else [value]:
                        assert one in words | seen.get(label, set()), f"{where}: {sample} with {label}={one} does not occur"
            # what is a rate must be a counter, or it means nothing
            if re.search(rf"\b(rate|increase)\({sample}\b", expression):
                assert types[metric] in ("counter", "histogram"), f"{where}: the rate of {sample}"
        for group in LABELS.findall(expression):
            unknown = {label.strip() for label in group.split(",") if label.strip()} - allowed
            assert not unknown, f"{where}: {unknown} in {expression}"
    assert len(used) >= 25, f"the dashboard shows less than there is: {sorted(set(types) - used)}"


def test_legends_of_panels_are_labels_that_the_expression_keeps(helm):
    for panel in panels():
        for target in panel["targets"]:
            legend = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            kept = {label.strip() for group in re.findall(r"\bby \(([^)]*)\)", target["expr"]) for label in group.split(",")}
            assert legend <= kept, f"{panel['title']}: {legend - kept}"


def test_the_dashboard_can_be_read_and_every_panel_explains_itself(helm):
    dashboard = json.loads(DASHBOARD.read_text())
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids)), "a panel's id is there twice"
    variables = [variable["name"] for variable in dashboard["templating"]["list"]]
    assert variables == ["datasource", "namespace", "pod"]
    cells = set()
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        taken = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert panel["title"] and at["x"] + at["w"] <= 24 and not taken & cells, f"{panel['title']} lies over another"
        cells |= taken
    for panel in panels():
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        for target in panel["targets"]:
            assert target["datasource"]["uid"] == panel["datasource"]["uid"] == "${datasource}", panel["title"]
            for _, matchers in METRIC.findall(target["expr"]):
                assert 'namespace=~"$namespace",pod=~"$pod"' in matchers, f"{panel['title']}: not for the chosen pods"


def test_alerts_say_how_bad_it_is_and_what_to_do(helm):
    alerts = [rule["alert"] for rule in rules()]
    assert len(alerts) == len(set(alerts)) >= 15
    guide = (ROOT / "src/guide/monitoring.md").read_text()
    section = re.search(r"^## Alerts$(.*?)^## ", guide, re.MULTILINE | re.DOTALL)[1]
    described = re.findall(r"^\| `(Cosgate\w+)`", section, re.MULTILINE)
    assert described == alerts, "the guide's table is in the order of the rules"
    for rule in rules():
        assert rule["labels"]["severity"] in ("critical", "warning"), rule["alert"]
        assert re.fullmatch(r"\d+[mh]", rule.get("for", "")) or re.search(r"increase\(.*\[15m\]", rule["expr"]), rule["alert"]
        notes = rule["annotations"]
        assert set(notes) == {"summary", "description", "runbook"} and notes["runbook"] == "src/guide/monitoring.md#alerts", rule["alert"]
        assert len(notes["description"]) > 60 and notes["description"].endswith("."), rule["alert"]


def test_prometheus_takes_the_rules_and_their_unit_tests_pass(promtool):
    check(promtool, "check", "rules", RULES)
    check(promtool, "test", "rules", Path(__file__).with_name("rules_test.yaml"))


def test_prometheus_takes_the_expressions_of_the_dashboard(promtool, directory):
    chosen = {"$__rate_interval": "5m", "$__range": "6h", "$namespace": "ftp", "$pod": ".*"}
    recorded = []
    for number, (_, expression) in enumerate(expressions()):
        for variable, value in chosen.items():
            expression = expression.replace(variable, value)
        assert "$" not in expression, expression
        recorded.append({"record": f"panel:{number}", "expr": expression})
    file = Path(directory) / "panels.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": recorded}]}))
    check(promtool, "check", "rules", file)


def check(*command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stdout + done.stderr


def test_nothing_of_it_is_there_unless_it_is_asked_for(helm):
    render = helm.render()
    assert not render.all("ServiceMonitor") and not render.all("PrometheusRule")
    assert [name(one) for one in render.all("ConfigMap")] == ["cosgate"]
    assert not any(variable.startswith("OTEL_") for variable in render.env)


def test_the_service_monitor_finds_the_admin_service_and_no_other(helm):
    for values in [{}, over(BUCKET, replicas=3, loadBalancer={"addresses": "perReplica"}), {"config": {
            "listen": "0.0.0.0:2121", "admin": {"listen": "0.0.0.0:9100"}}}]:
        render = helm.render(over(values, monitoring={"serviceMonitor": {
            "enabled": True, "interval": "15s", "scrapeTimeout": "10s", "labels": {"release": "prometheus"}}}))
        monitor = render.one("ServiceMonitor")
        assert monitor["apiVersion"] == "monitoring.coreos.com/v1" and monitor["metadata"]["namespace"] == "ftp"
        assert monitor["metadata"]["labels"]["release"] == "prometheus"
        spec = monitor["spec"]
        assert set(spec) == {"namespaceSelector", "selector", "endpoints"}
        assert spec["namespaceSelector"] == {"matchNames": ["ftp"]}
        wanted = spec["selector"]["matchLabels"].items()
        [service] = [one for one in render.all("Service") if wanted <= one["metadata"]["labels"].items()]
        assert name(service) == "cosgate-admin"
        [endpoint] = spec["endpoints"]
        # the alerts' job
        assert endpoint.pop("relabelings") == [{"targetLabel": "job", "replacement": "cosgate"}]
        assert endpoint == {"port": "admin", "scheme": "http", "path": "/metrics", "interval": "15s", "scrapeTimeout": "10s"}
        [port] = [one for one in service["spec"]["ports"] if one["name"] == endpoint["port"]]
        [container] = [one for one in render.container["ports"] if one["name"] == "admin"]
        assert port["targetPort"] == container["containerPort"] == int(render.config["admin"]["listen"].rpartition(":")[2])
    assert 'up{job="cosgate"}' in RULES.read_text()


def test_rules_and_dashboard_are_the_files_themselves(helm):
    monitoring = over(ALL, rules={"enabled": True, "labels": {"role": "alerts"}}, dashboard={
        "enabled": True, "namespace": "grafana", "annotations": {"grafana_folder": "FTP"}})
    render = helm.render({"monitoring": monitoring})
    rule = render.one("PrometheusRule")
    assert rule["apiVersion"] == "monitoring.coreos.com/v1" and rule["metadata"]["labels"]["role"] == "alerts"
    assert rule["spec"] == yaml.safe_load(RULES.read_text())
    [made] = [one for one in render.all("ConfigMap") if name(one) == "cosgate-dashboard"]
    assert made["metadata"]["namespace"] == "grafana"
    assert made["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert made["metadata"]["annotations"] == {"grafana_folder": "FTP"}
    assert list(made["data"]) == ["cosgate.json"]
    assert json.loads(made["data"]["cosgate.json"]) == json.loads(DASHBOARD.read_text())


def test_a_network_policy_lets_prometheus_and_helm_test_in(helm):
    prometheus = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    policy = {"enabled": True, "clientCidrs": ["192.0.2.0/24"], "adminFrom": [prometheus]}
    render = helm.render({"networkPolicy": policy, "monitoring": ALL, "traces": {"endpoint": "http://jaeger:4318"}})
    clients, admin = render.one("NetworkPolicy")["spec"]["ingress"]
    assert prometheus in admin["from"] and admin["ports"] == [{"port": 8080, "protocol": "TCP"}]
    labels = render.one("Pod")["metadata"]["labels"].items()
    for allowed in [clients, admin]:
        [peer] = [one for one in allowed["from"] if "podSelector" in one]
        assert peer["podSelector"]["matchLabels"].items() <= labels
    # without anybody else the test is still let in
    _, admin = helm.render({"networkPolicy": {"enabled": True}}).one("NetworkPolicy")["spec"]["ingress"]
    assert admin["from"] == [peer]


def test_traces_name_the_pod_and_pass_the_network_policy(helm):
    for endpoint, port in [("http://jaeger:4318", 4318), ("https://collector.example.com", 443), ("http://10.0.0.9/v1:2", 80)]:
        render = helm.render({"traces": {"endpoint": endpoint, "protocol": "grpc"}, "networkPolicy": {"enabled": True}})
        env = {variable: entry.get("value") for variable, entry in render.env.items()}
        assert env["OTEL_EXPORTER_OTLP_ENDPOINT"] == endpoint and env["OTEL_EXPORTER_OTLP_PROTOCOL"] == "grpc"
        names = list(env)
        for used in re.findall(r"\$\((\w+)\)", env["OTEL_RESOURCE_ATTRIBUTES"]):
            assert names.index(used) < names.index("OTEL_RESOURCE_ATTRIBUTES"), "only earlier variables are filled in"
        egress = render.one("NetworkPolicy")["spec"]["egress"][0]["ports"]
        assert {"port": port, "protocol": "TCP"} in egress, endpoint


def test_helm_test_runs_the_doctor_within_restricted_pod_security(helm):
    for values, preset in [({}, None), *(({}, preset) for preset in PRESETS)]:
        render = helm.render(values, preset)
        pod = render.one("Pod")
        assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
        spec = pod["spec"]
        [container] = spec["containers"]
        assert container["image"] == render.container["image"]
        assert spec["securityContext"]["runAsNonRoot"] is True and spec["securityContext"]["runAsUser"] == 65532
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "runAsNonRoot": True, "capabilities": {"drop": ["ALL"]},
        }
        assert spec["automountServiceAccountToken"] is False and spec["enableServiceLinks"] is False
        assert spec["restartPolicy"] == "Never" and spec["activeDeadlineSeconds"] > 0
        for one in [*render.all("Service"), *render.all("PodDisruptionBudget")]:
            selector = one["spec"]["selector"].get("matchLabels", one["spec"]["selector"])
            assert not selector.items() <= pod["metadata"]["labels"].items(), f"{name(one)} would send clients to the test"
        # it connects to a Service that has control and passive ports, or to a pod, which has both
        host, _, port = container["args"][container["args"].index("--connect") + 1].partition(":")
        host = host.removesuffix(".ftp.svc")
        if host in render.public:
            ports = render.public[host]["spec"]["ports"]
            assert int(port) in [one["port"] for one in ports if one["name"] == "ftp"] and len(ports) > 1
        else:
            assert host == f"{name(render.stateful_set)}-0.{render.stateful_set['spec']['serviceName']}"
            assert int(port) in [one["containerPort"] for one in render.container["ports"] if one["name"] == "ftp"]
        # readiness is asked of a pod by its own name
        host, _, port = container["args"][container["args"].index("--admin") + 1].partition(":")
        service = render.stateful_set["spec"]["serviceName"]
        assert host == f"{name(render.stateful_set)}-0.{service}.ftp.svc"
        [headless] = [one for one in render.all("Service") if name(one) == service]
        assert headless["spec"]["clusterIP"] == "None" and int(port) in [one["port"] for one in headless["spec"]["ports"]]


def test_helm_test_asks_for_tls_where_the_chart_gives_the_gateway_some(helm):
    certificate = {"tls": {"existingSecret": "tls"}}
    cases = [({}, "off"), (certificate, "auto"), ({"config": {"tls": {"self_signed": True}}}, "auto"),
             # what stands elsewhere is not the chart's to know
             ({"test": {"host": "ftp.example.com"}}, "auto"), ({"test": {"tls": "explicit"}}, "explicit")]
    for values, wanted in cases:
        [container] = helm.render(values).one("Pod")["spec"]["containers"]
        assert container["args"][container["args"].index("--tls") + 1] == wanted, values


def test_helm_test_logs_in_only_as_the_user_that_is_named(helm):
    def doctor(**test):
        render = helm.render({"test": test, "tls": {"existingSecret": "tls", "implicitPort": 990}})
        [container] = render.one("Pod")["spec"]["containers"]
        return container

    plain = doctor()
    admin = ["--admin", "cosgate-0.cosgate-admin.ftp.svc:8080"]
    assert plain["args"] == ["doctor", "--connect", "cosgate.ftp.svc:21", "--tls", "auto", "--insecure", *admin]
    assert "env" not in plain
    user = doctor(user="probe", passwordSecret={"name": "probe", "key": "word"}, host="ftp.example.com", tls="implicit")
    assert user["args"] == ["doctor", "--connect", "ftp.example.com:990", "--tls", "implicit", *admin, "--user", "probe"]
    assert user["env"] == [
        {"name": "COSGATE_DOCTOR_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "probe", "key": "word"}}},
    ]
