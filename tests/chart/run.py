#!/usr/bin/env python3
"""Tests of the chart: its logic, its schema, the manifests in k8s/, and what the program says of its configuration.

Prints a line per failure and `N passed, N failed` at the end; the exit code is 0 only if none failed. Needs helm, kubectl,
promtool and openssl, and of PyPI the packages PyYAML and kubernetes-validate; the gateway's program for what it says of its
configuration, and for the metrics that it exports.
"""

import sys

sys.dont_write_bytecode = True  # a checkout stays clean

import argparse
import inspect
import os
import shutil
import subprocess
import tempfile
import traceback
from pathlib import Path

import configuration
import manifests
import monitoring
import options as operator_options
import package
import pods
import readme
import refusals
import shapes
from chart import CHART, PRESETS, ROOT, VERSIONS, Helm

# Kinds that clusters learn from elsewhere, so kubernetes-validate has no schema of them; tests look at their contents.
FOREIGN = ["TkeServiceConfig", "Certificate", "ServiceMonitor", "PrometheusRule"]


def test_lint_finds_nothing(helm):
    helm.run("lint", "--strict", "--quiet", CHART)
    for preset in PRESETS:
        helm.run("lint", "--strict", "--quiet", CHART, "-f", preset)


def test_a_render_is_the_same_each_time(helm):
    # a key that the chart makes is another one each time that there is no cluster to look in
    key = {"handover": {"existingSecret": "mine"}}
    for preset in PRESETS:
        assert helm.text(key, preset=preset) == helm.text(key, preset=preset), preset.stem


def test_a_package_is_the_same_whoever_makes_it(helm, directory):
    made = []
    for number in range(2):
        chart, out = Path(directory, f"chart-{number}"), Path(directory, f"out-{number}")
        shutil.copytree(CHART, chart)
        out.mkdir()
        for path in chart.rglob("*"):
            path.chmod(0o755 if path.is_dir() or number else 0o600)
            os.utime(path, (number * 1000 + 86400, number * 1000 + 86400))
        made.append(package.package(helm.program, out, 1_800_000_000, chart).read_bytes())
    assert made[0] == made[1]


def test_the_plain_manifests_are_what_the_chart_renders(helm):
    text = manifests.TARGET.read_text()
    assert text == manifests.render(helm.program), "k8s/cosgate.yaml has drifted: tests/chart/manifests.py --write"


def test_kustomize_builds_the_plain_manifests(helm, kubectl):
    built = run(kubectl, "kustomize", str(ROOT / "k8s"))
    kinds = [line.split()[1] for line in built.splitlines() if line.startswith("kind: ")]
    assert sorted(kinds) == [
        "ConfigMap", "Namespace", "Role", "RoleBinding", "Service", "Service", "ServiceAccount", "StatefulSet",
    ]


def test_everything_is_valid_for_the_oldest_and_the_newest_kubernetes(helm, validate, directory):
    plain = [ROOT / "k8s" / "namespace.yaml", ROOT / "k8s" / "cosgate.yaml", ROOT / "k8s" / "jaeger.yaml"]
    options = {"autoscaling": {"enabled": True}, "networkPolicy": {"enabled": True, "adminFrom": [{"podSelector": {}}]},
               "persistence": {"enabled": True}, "topologySpreadConstraints": [
                   {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}],
               "tolerations": [{"operator": "Exists"}], "nodeSelector": {"pool": "ftp"}, "podLabels": {"a": "b"},
               "monitoring": monitoring.ALL, "traces": {"endpoint": "http://jaeger:4318"},
               "test": {"user": "probe", "passwordSecret": {"name": "probe"}},
               "image": {"pullSecrets": [{"name": "registry"}]}, "loadBalancer": {"sourceRanges": ["192.0.2.0/24"]},
               "tls": {"certManager": {"enabled": True, "issuerRef": {"name": "ca"}, "dnsNames": ["ftp.example.com"]}}}
    for version in VERSIONS:
        files = [] if version == VERSIONS[0] else list(plain)
        for name, values, preset in [
            ("defaults", {}, None),
            ("options", options, CHART / "ci" / "tke-shared.yaml"),
            *((preset.stem, {}, preset) for preset in PRESETS),
        ]:
            file = Path(directory) / f"{name}.yaml"
            file.write_text(helm.text(values, preset, version=version))
            files.append(file)
        done = subprocess.run([validate, "-k", version, "--strict", "--quiet", *files], capture_output=True, text=True, timeout=300)
        said = done.stdout + done.stderr
        assert done.returncode == 0, f"{version}: {said}"
        unknown = [line for line in said.splitlines() if "find schema" in line and not any(f"kind {one} " in line for one in FOREIGN)]
        assert not unknown, f"{version}: {unknown}"


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def main():
    described, _, _ = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(description=described)
    parser.add_argument("--helm", default="helm", help="the program helm")
    parser.add_argument("--kubectl", default="kubectl", help="the program kubectl")
    parser.add_argument("--promtool", default="promtool", help="Prometheus' program promtool")
    parser.add_argument("--validate", default="kubernetes-validate", help="the program kubernetes-validate")
    parser.add_argument("--cosgate", required=True, help="the gateway's program")
    options = parser.parse_args()
    passed = failed = 0
    with tempfile.TemporaryDirectory(prefix="cosgate-chart-") as directory:
        offered = {"helm": Helm(options.helm), "kubectl": options.kubectl, "validate": options.validate, "promtool": options.promtool,
                   "cosgate": str(Path(options.cosgate).resolve()), "directory": directory}
        for module in [sys.modules[__name__], shapes, pods, operator_options, refusals, configuration, monitoring, readme]:
            for name, test in inspect.getmembers(module, inspect.isfunction):
                if not name.startswith("test_"):
                    continue
                try:
                    test(**{given: offered[given] for given in inspect.signature(test).parameters})
                    passed += 1
                except Exception:
                    failed += 1
                    print(f"FAILED {name[5:].replace('_', ' ')}\n{traceback.format_exc()}")
    print(f"{passed} passed, {failed} failed")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
