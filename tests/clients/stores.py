"""The object stores behind the gateway, and a small S3 client that looks into them past the gateway."""

import contextlib
import datetime
import hashlib
import hmac
import http.client
import json
import subprocess
import urllib.parse
import xml.etree.ElementTree as xml
from pathlib import Path

from support import Failure, environment, expect, free_ports, indented, wait_until

ACCESS_KEY = "clientscheck"
SECRET_KEY = "clients-check-secret"
REGION = "us-east-1"
BUCKET = "files"


class S3:
    """Signature V4 over plain HTTP with path addressing: the few requests that the checks need."""

    def __init__(self, port):
        self.port = port

    def create_bucket(self):
        return self._request("PUT", f"/{BUCKET}")[0]

    def sha256(self, key):
        """SHA-256 of the object's bytes, or None if there is no such object."""
        status, digest = self._request("GET", f"/{BUCKET}/{key}", digest=True)
        if status == 404:
            return None
        expect(status == 200, f"GET of {key} from the store: {status}")
        return digest

    def keys(self, prefix=""):
        """All keys that begin with `prefix`, with the sizes of their objects."""
        found, token = {}, {}
        while True:
            tree = self._tree({"list-type": "2", "prefix": prefix, **token})
            for entry in tree.findall("Contents"):
                found[entry.findtext("Key")] = int(entry.findtext("Size"))
            if tree.findtext("IsTruncated") != "true":
                return found
            token = {"continuation-token": tree.findtext("NextContinuationToken")}

    def unfinished_uploads(self):
        return [upload.findtext("Key") for upload in self._tree({"uploads": ""}).findall("Upload")]

    def _tree(self, query):
        status, body = self._request("GET", f"/{BUCKET}", query)
        expect(status == 200, f"listing of the store: {status} {body[:300]!r}")
        tree = xml.fromstring(body)
        for element in tree.iter():
            element.tag = element.tag.rpartition("}")[2]
        return tree

    def _request(self, method, path, query=None, digest=False):
        path = urllib.parse.quote(path)
        query = urllib.parse.urlencode(sorted((query or {}).items()), quote_via=urllib.parse.quote)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            connection.request(method, f"{path}?{query}", headers=self._signed(method, path, query))
            response = connection.getresponse()
            if not digest or response.status != 200:
                return response.status, response.read()
            hasher = hashlib.sha256()
            while chunk := response.read(1 << 20):
                hasher.update(chunk)
            return response.status, hasher.hexdigest()

    def _signed(self, method, path, query):
        time = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        empty = hashlib.sha256().hexdigest()
        headers = {"host": f"127.0.0.1:{self.port}", "x-amz-content-sha256": empty, "x-amz-date": time}
        names = ";".join(headers)
        canonical = "".join(f"{name}:{value}\n" for name, value in headers.items())
        request = "\n".join([method, path, query, canonical, names, empty])
        scope = f"{time[:8]}/{REGION}/s3/aws4_request"
        text = "\n".join(["AWS4-HMAC-SHA256", time, scope, hashlib.sha256(request.encode()).hexdigest()])
        key = f"AWS4{SECRET_KEY}".encode()
        for step in scope.split("/"):
            key = hmac.digest(key, step.encode(), "sha256")
        signature = hmac.digest(key, text.encode(), "sha256").hex()
        credential = f"{ACCESS_KEY}/{scope}"
        headers["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={signature}"
        )
        return headers


def _settings(provider, port):
    return {
        "provider": provider, "bucket": BUCKET, "region": REGION, "addressing": "path",
        "endpoint": f"http://127.0.0.1:{port}", "access_key_id": ACCESS_KEY, "secret_access_key": SECRET_KEY,
    }


@contextlib.contextmanager
def embedded(directory):
    """The store inside the gateway, on a known port, so that the checks can look in. Yields settings and a client."""
    port = free_ports(1)
    yield _settings("embedded", port) | {"data_dir": str(directory / "data")}, S3(port)


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
            wait_until(lambda: _has_bucket(client), "SeaweedFS", 120, alive=lambda: process.poll() is None)
        except Failure as failure:
            raise Failure(f"{failure}{indented(log.read_text(errors='replace'), 10)}") from failure
        yield _settings("s3", ports["s3.port"]), client
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        # its gRPC services leave these behind, always in this directory, whatever TMPDIR says
        for service, port in ports.items():
            Path(f"/tmp/seaweedfs-{service.partition('.')[0]}-grpc-{port}.sock").unlink(missing_ok=True)


def _has_bucket(client):
    try:
        return client.create_bucket() == 200
    except (OSError, http.client.HTTPException):
        return False
