"""The plain manifests in k8s/, rendered from the chart: `manifests.py --helm HELM` compares, `--write` renders them anew."""

import argparse
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TARGET = ROOT / "k8s" / "cosgate.yaml"
HEADER = """\
# The chart's default: one gateway with the embedded store and a demo user, for a trial. Made from helm/ by
# tests/chart/manifests.py, which also checks that it has not drifted: change the chart and render it again.
"""
# fixed, so that the result is the same on every machine
ARGUMENTS = ["--namespace", "cosgate", "--kube-version", "1.30.0", "--skip-tests"]
# what only Helm has a use for
HELMS_OWN = re.compile(r"^(# Source: .*| *(helm\.sh/chart|app\.kubernetes\.io/managed-by): .*)\n", re.MULTILINE)


def render(helm):
    command = [helm, "template", "cosgate", str(ROOT / "helm"), *ARGUMENTS]
    text = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    return HEADER + HELMS_OWN.sub("", text)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--helm", default="helm", help="the program helm")
    parser.add_argument("--write", action="store_true", help="write the file instead of comparing it")
    arguments = parser.parse_args()
    text = render(arguments.helm)
    if arguments.write:
        TARGET.write_text(text)
    elif TARGET.read_text() != text:
        sys.exit(f"{TARGET.relative_to(ROOT)} is not what the chart renders: tests/chart/manifests.py --write")


if __name__ == "__main__":
    main()
