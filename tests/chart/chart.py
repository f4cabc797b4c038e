"""Renders the chart, and shows a render as the objects that it is made of."""

import subprocess
import tempfile
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "helm"
PRESETS = sorted((CHART / "ci").glob("*.yaml"))

# The oldest version that the chart takes, and the newest that helm's own version knows.
VERSIONS = ["1.28", "1.35"]

# Values with which several replicas are possible.
BUCKET = {"config": {"storage": {"provider": "s3", "bucket": "files"}}, "existingSecret": "cosgate"}


class Refused(Exception):
    """Helm made nothing; the text says why."""


class Helm:
    """The program helm."""

    def __init__(self, program):
        self.program = program

    def run(self, *arguments):
        """Its standard output, or Refused with what it said."""
        done = subprocess.run([self.program, *map(str, arguments)], capture_output=True, text=True, timeout=120)
        if done.returncode:
            raise Refused(done.stderr + done.stdout)
        return done.stdout

    def text(self, values=None, preset=None, version=VERSIONS[-1], name="cosgate", namespace="ftp"):
        """The manifests as text. `values` are laid over the preset, and both over the chart's defaults."""
        arguments = ["template", name, CHART, "--namespace", namespace, "--kube-version", version + ".0"]
        if preset:
            arguments += ["-f", preset]
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            yaml.safe_dump(values or {}, file)
            file.flush()
            return self.run(*arguments, "-f", file.name)

    def render(self, values=None, preset=None, **options):
        """The manifests as a Render."""
        return Render(self.text(values, preset, **options))


class Render:
    """The objects of one render."""

    def __init__(self, text):
        self.text = text
        self.objects = [loaded for loaded in yaml.safe_load_all(text) if loaded]

    def all(self, kind):
        return [found for found in self.objects if found["kind"] == kind]

    def one(self, kind):
        found = self.all(kind)
        assert len(found) == 1, f"{len(found)} objects of kind {kind}"
        return found[0]

    @property
    def public(self):
        """The Services that clients connect to, by name."""
        return {
            name(service): service
            for service in self.all("Service")
            if service["metadata"]["labels"]["app.kubernetes.io/component"] != "admin"
        }

    @property
    def stateful_set(self):
        return self.one("StatefulSet")

    @property
    def pod(self):
        return self.stateful_set["spec"]["template"]["spec"]

    @property
    def container(self):
        assert len(self.pod["containers"]) == 1
        return self.pod["containers"][0]

    @property
    def env(self):
        """The container's variables: name to entry."""
        entries = {entry["name"]: entry for entry in self.container["env"]}
        assert len(entries) == len(self.container["env"]), "a variable is set twice"
        return entries

    @property
    def config_files(self):
        """The files that the container's volume `config` has: name to text."""
        [found] = [one["data"] for one in self.all("ConfigMap") if "cosgate.yaml" in one["data"]]
        assert set(found) <= {"cosgate.yaml", "access.yaml"}
        return found

    @property
    def config_text(self):
        return self.config_files["cosgate.yaml"]

    @property
    def config(self):
        return yaml.safe_load(self.config_text)


def name(thing):
    return thing["metadata"]["name"]


def passive_ports(service):
    """The ports of a Service that lead to the same port."""
    return [port["port"] for port in service["spec"]["ports"] if port["port"] == port["targetPort"]]


def control_ports(service):
    """The other ports: public to the pod's own."""
    return {
        port["port"]: port["targetPort"] for port in service["spec"]["ports"] if port["port"] != port["targetPort"]
    }


def range_of(config):
    first, _, last = config["passive"]["ports"].partition("-")
    return list(range(int(first), int(last or first) + 1))


def over(values, **more):
    """`values` with some of its top level replaced."""
    return {**values, **more}
