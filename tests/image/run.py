#!/usr/bin/env python3
"""The size of the image, and the time from the start of its program to "ready".

`run.py GATEWAY`, where GATEWAY was built as the Dockerfile builds it (profile dist). The image is not built: its files are summed up,
the program, the libraries that the Dockerfile names, and BASE for what lies below. So no registry is needed.

Ends with 1 unless the image has no more than 30 MB, and half of ten starts are ready within 100 ms, on an empty and on a used data
directory of the embedded store. Ready is what a probe of Kubernetes sees: 200 from /readyz, asked for every millisecond.
"""

import sys

sys.dont_write_bytecode = True  # a checkout stays clean

import argparse
import os
import re
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "clients"))

from support import Report, end, expect, free_ports, http_status  # noqa: E402

MB = 1_000_000
LIMIT_BYTES = 30 * MB
# gcr.io/distroless/static-debian12, of which its README says "around 2 MiB"; it can't be fetched everywhere.
# So the sum is exact to some 0.1 MB. The list of dependencies that a release carries comes on top.
BASE_BYTES = 2 << 20
STARTS = 10
LIMIT_SECONDS = 0.1
# The longest wait for one start.
PATIENCE = 20


def image_files(gateway):
    """What the Dockerfile copies into the image, with the names that it gives."""
    text = (Path(__file__).resolve().parents[2] / "Dockerfile").read_text()
    libraries = re.search(r"for library in ([^;]+);", text).group(1).split()
    loader = re.search(r"amd64\).* loader=\S*/(\S+) ;;", text).group(1)
    files = {"cosgate": Path(gateway)}
    for name in [*libraries, loader]:
        found = subprocess.run(["gcc", f"-print-file-name={name}"], check=True, capture_output=True, text=True, timeout=60)
        files[name] = Path(found.stdout.strip())
    return files


def check_size(report, gateway):
    with report.check("image", f"has no more than {LIMIT_BYTES // MB} MB"):
        sizes = {name: path.stat().st_size for name, path in image_files(gateway).items()}
        told = ", ".join(f"{name} {size / MB:.1f}" for name, size in sizes.items())
        total = sum(sizes.values()) + BASE_BYTES
        print(f"image: {total / MB:.1f} MB ({told}, base {BASE_BYTES / MB:.1f})", flush=True)
        expect(total <= LIMIT_BYTES, f"{total / MB:.1f} MB")


def seconds_to_ready(gateway, directory):
    """One start on the embedded store in `directory`, with an identity that this run makes up."""
    first = free_ports(4)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COSGATE_")}
    environment |= {
        "COSGATE_LISTEN": f"127.0.0.1:{first}",
        "COSGATE_STORAGE__ENDPOINT": f"http://127.0.0.1:{first + 1}",
        "COSGATE_ADMIN__LISTEN": f"127.0.0.1:{first + 2}",
        "COSGATE_PASSIVE__PORTS": str(first + 3),
        "COSGATE_STORAGE__DATA_DIR": str(directory / "data"),
    }
    with open(directory / "log", "wb") as log:
        began = time.monotonic()
        program = subprocess.Popen([gateway, "serve"], env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=directory)
        try:
            while http_status(first + 2, "/readyz") != 200:
                expect(program.poll() is None, f"it ended: {(directory / 'log').read_text()}")
                expect(time.monotonic() < began + PATIENCE, f"not ready after {PATIENCE} s: {(directory / 'log').read_text()}")
                time.sleep(0.001)
            return time.monotonic() - began
        finally:
            end(program)


def check_starts(report, gateway):
    with report.check("start", f"is ready within {LIMIT_SECONDS * 1000:.0f} ms"), tempfile.TemporaryDirectory() as temp:
        fresh = []
        for number in range(STARTS):
            directory = Path(temp) / str(number)
            directory.mkdir()
            fresh.append(seconds_to_ready(gateway, directory))
        used = [seconds_to_ready(gateway, Path(temp) / "0") for _ in range(STARTS)]
        for what, times in (("an empty", fresh), ("a used", used)):
            least, middle, most = (f"{value * 1000:.0f}" for value in (min(times), statistics.median(times), max(times)))
            print(f"start on {what} directory: {least}, {middle}, {most} ms (least, median, most)", flush=True)
        for times in (fresh, used):
            expect(statistics.median(times) <= LIMIT_SECONDS, f"{statistics.median(times) * 1000:.0f} ms")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gateway", type=os.path.abspath)
    arguments = parser.parse_args()
    report = Report()
    check_size(report, arguments.gateway)
    check_starts(report, arguments.gateway)
    return report.close()


if __name__ == "__main__":
    sys.exit(main())
