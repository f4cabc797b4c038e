"""The chart as a package whose bytes depend on its files only: `package.py --helm HELM --out DIRECTORY`, Helm 4 or newer.

Helm writes the files' times into the package. Here they are those of the commit, or of SOURCE_DATE_EPOCH
(https://reproducible-builds.org/specs/source-date-epoch/), so whoever packages the same commit gets the same digest.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "helm"


def package(helm, out, epoch, chart=CHART):
    """The package's path."""
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory, "helm")
        shutil.copytree(chart, copy)
        for path in [copy, *copy.rglob("*")]:
            os.utime(path, (epoch, epoch))
        command = [helm, "package", str(copy), "--destination", str(out)]
        said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    return Path(said.rpartition(": ")[2].strip())


def epoch_of_the_source():
    if "SOURCE_DATE_EPOCH" in os.environ:
        return int(os.environ["SOURCE_DATE_EPOCH"])
    command = ["git", "-C", str(ROOT), "log", "-1", "--format=%ct"]
    return int(subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--helm", default="helm", help="the program helm")
    parser.add_argument("--out", default=".", help="the directory of the package")
    arguments = parser.parse_args()
    made = package(arguments.helm, arguments.out, epoch_of_the_source())
    print(hashlib.sha256(made.read_bytes()).hexdigest(), made)


if __name__ == "__main__":
    main()
