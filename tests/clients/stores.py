"""The object stores behind the gateway, each a context manager that yields settings for the gateway and a client."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path

from ceph import ceph
from s3 import ACCESS_KEY, S3, SECRET_KEY, has_bucket, settings
from support import Failure, end, environment, free_ports, indented, wait_until

# The last two are tried by hand.
STORES = ["embedded", "seaweedfs", "moto", "ceph"]


def started(name, directory, weed):
    """The store of this name; `weed` is SeaweedFS's program."""
    return {"embedded": embedded, "seaweedfs": lambda there: seaweedfs(weed, there), "moto": moto, "ceph": ceph}[name](directory)


@contextlib.contextmanager
def embedded(directory):
    """The store inside the gateway, on a known port, so that the checks can look in. Yields settings and a client."""
    port = free_ports(1)
    yield settings("embedded", port) | {"data_dir": str(directory / "data")}, S3(port)


@contextlib.contextmanager
def seaweedfs(weed, directory):
    """A SeaweedFS server with one bucket. Yields settings and a client."""
    services = ["master.port", "volume.port", "filer.port", "s3.port"]
    services += [f"{service}.grpc" for service in services]
    first = free_ports(len(services))
    ports = {service: first + offset for offset, service in enumerate(services)}
    identity = {
        "name": "check", "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    (directory / "identities.json").write_text(json.dumps({"identities": [identity]}))
    (directory / "data").mkdir()
    command = [
        weed, "server", f"-dir={directory / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
        "-master.telemetry=false", "-master.volumeSizeLimitMB=1024", "-volume.max=50",
        "-filer", f"-filer.localSocket={directory / 'filer.sock'}",
        "-s3", f"-s3.config={directory / 'identities.json'}", f"-s3.localSocket={directory / 's3.sock'}",
        "-s3.port.iceberg=0", "-s3.port.lance=0",
    ]
    command += [f"-{service}={port}" for service, port in ports.items()]
    log = directory / "weed.log"
    with open(log, "wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=directory,
            env=environment(directory), start_new_session=True,
        )
    try:
        client = S3(ports["s3.port"])
        try:
            # its parts come up one after another; the bucket can be made when all of them are there
            wait_until(lambda: has_bucket(client), "SeaweedFS", 120, alive=lambda: process.poll() is None)
        except Failure as failure:
            raise Failure(f"{failure}{indented(log.read_text(errors='replace'), 10)}") from failure
        yield settings("s3", ports["s3.port"]), client
    finally:
        end(process)
        # its gRPC services leave these behind, always in this directory, whatever TMPDIR says
        for service, port in ports.items():
            Path(f"/tmp/seaweedfs-{service.partition('.')[0]}-grpc-{port}.sock").unlink(missing_ok=True)


@contextlib.contextmanager
def moto(directory):
    """moto's server, of PyPI's package moto[server] for the interpreter that runs this, with one bucket."""
    port = free_ports(1)
    with open(directory / "moto.log", "wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stdin=subprocess.DEVNULL, stdout=output,
            stderr=output, cwd=directory, env=environment(directory), start_new_session=True,
        )
    try:
        client = S3(port)
        wait_until(lambda: has_bucket(client), "moto", 60, alive=lambda: process.poll() is None)
        yield settings("s3", port), client
    finally:
        process.kill()
        process.wait()
