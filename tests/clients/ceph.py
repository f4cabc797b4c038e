"""Ceph's object gateway (RGW) over one monitor and one OSD that keeps its objects in memory: Debian's packages radosgw, ceph-mon,
ceph-osd and ceph-common."""

import contextlib
import subprocess
import uuid

from s3 import ACCESS_KEY, S3, SECRET_KEY, has_bucket, settings
from support import Failure, end, environment, free_ports, indented, run, wait_until

PROGRAMS = ["ceph", "ceph-authtool", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin"]

ALL = ["--cap", "mon", "allow *", "--cap", "osd", "allow *", "--cap", "mgr", "allow *"]

CONFIGURATION = """
[global]
fsid = {fsid}
mon host = {monitor}
public addr = 127.0.0.1
cluster addr = 127.0.0.1
keyring = {directory}/keyring
run dir = {directory}
admin socket = {directory}/$name.asok
log file = {directory}/$name.log
mon data = {directory}/mon
osd data = {directory}/osd
osd objectstore = memstore
memstore device bytes = 4294967296
rgw data = {directory}/rgw
rgw frontends = beast endpoint=127.0.0.1:{port}
# one OSD, and a few placement groups for each of RGW's pools
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd crush chooseleaf type = 0
mon allow pool size one = true
mon data avail crit = 1
mon data avail warn = 1

[client.rgw.check]
keyring = {directory}/keyring
"""


@contextlib.contextmanager
def ceph(directory):
    """A monitor, an OSD, RGW with one user and one bucket. Yields settings and a client."""
    monitor, port = free_ports(1), free_ports(1)
    fsid, osd = uuid.uuid4(), uuid.uuid4()
    for name in ("mon", "osd", "rgw"):
        (directory / name).mkdir()
    configuration = directory / "ceph.conf"
    configuration.write_text(
        CONFIGURATION.format(fsid=fsid, monitor=f"[v2:127.0.0.1:{monitor}/0]", directory=directory, port=port)
    )

    def command(*words):
        return run(words, home=directory, seconds=90)

    def configured(program, *words):
        return command(program, "-c", configuration, *words)

    running = []

    def start(program, *words):
        with open(directory / f"{program}.out", "wb") as output:
            running.append(subprocess.Popen(
                [program, "-c", configuration, "-f", *words], stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                cwd=directory, env=environment(directory), start_new_session=True,
            ))

    try:
        command("ceph-authtool", "--create-keyring", "keyring", "--gen-key", "-n", "mon.", *ALL)
        for name in ("client.admin", "client.rgw.check", "osd.0"):
            command("ceph-authtool", "keyring", "--gen-key", "-n", name, *ALL)
        command("monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[v2:127.0.0.1:{monitor}]", "monmap")
        configured("ceph-mon", "--mkfs", "-i", "a", "--monmap", "monmap", "--keyring", "keyring")
        start("ceph-mon", "-i", "a")
        configured("ceph", "--connect-timeout", "60", "osd", "new", osd, "0")
        configured("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        configured("ceph", "osd", "crush", "add", "osd.0", "1.0", "host=here", "root=default")
        start("ceph-osd", "-i", "0")
        start("radosgw", "-n", "client.rgw.check")
        configured("radosgw-admin", "user", "create", "--uid=check", "--display-name=check", f"--access-key={ACCESS_KEY}",
                   f"--secret={SECRET_KEY}")
        client = S3(port)
        try:
            wait_until(lambda: has_bucket(client), "RGW", 120, alive=lambda: all(it.poll() is None for it in running))
        except Failure as failure:
            logs = "".join(path.read_text(errors="replace") for path in directory.glob("*.out"))
            raise Failure(f"{failure}{indented(logs, 20)}") from failure
        yield settings("s3", port), client
    finally:
        # RGW first, since it waits for the others
        for process in reversed(running):
            end(process)
