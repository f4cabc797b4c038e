"""A small S3 client that looks into the store past the gateway, and what the gateway is given to find it."""

import contextlib
import datetime
import hashlib
import hmac
import http.client
import urllib.parse
import xml.etree.ElementTree as xml

from support import expect

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


def settings(provider, port):
    return {
        "provider": provider, "bucket": BUCKET, "region": REGION, "addressing": "path",
        "endpoint": f"http://127.0.0.1:{port}", "access_key_id": ACCESS_KEY, "secret_access_key": SECRET_KEY,
    }


def has_bucket(client):
    try:
        return client.create_bucket() == 200
    except (OSError, http.client.HTTPException):
        return False
