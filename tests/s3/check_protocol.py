#!/usr/bin/env python3
"""Checks an S3 endpoint against the semantics of AWS S3 with boto3.

    check_protocol.py ENDPOINT ACCESS_KEY_ID SECRET_ACCESS_KEY

Prints `ok NAME` or `FAILED NAME: REASON` for each check and ends with `N passed, N failed`; the exit
code is 1 if any failed. It works in buckets of its own and removes them.
"""

import base64
import concurrent.futures
import datetime
import functools
import hashlib
import http.client
import io
import os
import socket
import sys
import time
import traceback
import urllib.parse
import zlib

import boto3
import botocore.auth
import botocore.awsrequest
import botocore.config
import botocore.credentials
import botocore.exceptions

ENDPOINT, ACCESS, SECRET = sys.argv[1:4]
MIB = 1 << 20
RUN = os.urandom(4).hex()
BUCKET = f"check-{RUN}"
CHECKS = []


def client(when="when_required", secret=SECRET, access=ACCESS):
    return boto3.client(
        "s3",
        endpoint_url=ENDPOINT,
        aws_access_key_id=access,
        aws_secret_access_key=secret,
        region_name="eu-north-1",
        config=botocore.config.Config(
            s3={"addressing_style": "path"},
            retries={"total_max_attempts": 1},
            request_checksum_calculation=when,
            response_checksum_validation=when,
            max_pool_connections=32,
        ),
    )


s3 = client()
modern = client("when_supported")


def check(function):
    CHECKS.append(function)
    return function


def refused(code, status, call, **arguments):
    """The call must fail with this error code and HTTP status."""
    try:
        call(**arguments)
    except botocore.exceptions.ClientError as error:
        got = error.response["Error"]["Code"]
        got_status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        assert (got, got_status) == (code, status), f"got {got} {got_status}, not {code} {status}"
        return error.response
    raise AssertionError(f"succeeded instead of {code}")


def put(key, body=b"body", **arguments):
    return s3.put_object(Bucket=BUCKET, Key=key, Body=body, **arguments)


def body(key, **arguments):
    return s3.get_object(Bucket=BUCKET, Key=key, **arguments)["Body"].read()


def head(key, **arguments):
    return s3.head_object(Bucket=BUCKET, Key=key, **arguments)


def same(got, expected):
    assert got == expected, f"got {got!r:.300}, not {expected!r:.300}"


def md5(data):
    return hashlib.md5(data).hexdigest()


def b64(data):
    return base64.b64encode(data).decode()


def crc32(data):
    return b64(zlib.crc32(data).to_bytes(4, "big"))


@functools.cache
def crc64nvme(data):
    table = []
    for n in range(256):
        for _ in range(8):
            n = n >> 1 ^ (0x9A6C9329AC4BC9B5 if n & 1 else 0)
        table.append(n)
    crc = 0xFFFFFFFFFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return b64((crc ^ 0xFFFFFFFFFFFFFFFF).to_bytes(8, "big"))


SUMS = {
    "CRC32": ("ChecksumCRC32", crc32),
    "CRC64NVME": ("ChecksumCRC64NVME", crc64nvme),
}


class Upload:
    """A multipart upload that is completed step by step."""

    def __init__(self, key, bucket=None, **arguments):
        self.at = {"Bucket": bucket or BUCKET, "Key": key}
        answer = s3.create_multipart_upload(**self.at, **arguments)
        self.id = answer["UploadId"]
        self.parts = []

    def part(self, number, data, **arguments):
        answer = s3.upload_part(
            **self.at, UploadId=self.id, PartNumber=number, Body=data, **arguments
        )
        part = {"PartNumber": number, "ETag": answer["ETag"]}
        part |= {name: value for name, value in answer.items() if name.startswith("Checksum")}
        self.parts.append(part)
        return answer

    def complete(self, parts=None, **arguments):
        parts = self.parts if parts is None else parts
        return s3.complete_multipart_upload(
            **self.at, UploadId=self.id, MultipartUpload={"Parts": parts}, **arguments
        )

    def abort(self):
        return s3.abort_multipart_upload(**self.at, UploadId=self.id)


class Signer(botocore.auth.S3SigV4Auth):
    """Signs whatever payload hash it is told to."""

    def __init__(self, payload):
        credentials = botocore.credentials.Credentials(ACCESS, SECRET)
        super().__init__(credentials, "s3", "us-east-1")
        self.told = payload

    def payload(self, request):
        return self.told


def signed(method, path, data=b"", headers=(), payload=None, send=None):
    """One raw request, for what boto3 would not send; returns status, headers and body."""
    request = botocore.awsrequest.AWSRequest(
        method=method, url=ENDPOINT + path, data=data, headers=dict(headers)
    )
    Signer(payload or hashlib.sha256(data).hexdigest()).add_auth(request)
    parts = urllib.parse.urlsplit(ENDPOINT)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=20)
    try:
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in request.headers.items():
            connection.putheader(name, value)
        if "content-length" not in {name.lower() for name in request.headers}:
            connection.putheader("Content-Length", str(len(data)))
        connection.endheaders()
        connection.send(data if send is None else send)
        if send is not None and len(send) < len(data):
            return None
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()
    finally:
        connection.close()


# Buckets and authentication


@check
def buckets_are_created_and_found():
    name = f"other-{RUN}"
    s3.create_bucket(Bucket=name)
    s3.head_bucket(Bucket=name)
    assert name in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]
    assert s3.get_bucket_location(Bucket=name)["LocationConstraint"] is None
    refused("BucketAlreadyOwnedByYou", 409, s3.create_bucket, Bucket=name)
    refused("404", 404, s3.head_bucket, Bucket=f"missing-{RUN}")
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=name)


@check
def a_missing_bucket_is_named_by_every_operation():
    at = {"Bucket": f"missing-{RUN}", "Key": "k"}
    gone = lambda call, **more: refused("NoSuchBucket", 404, call, **at | more)
    gone(s3.put_object, Body=b"x")
    gone(s3.get_object)
    gone(s3.delete_object)
    gone(s3.create_multipart_upload)
    put("k")
    gone(s3.copy_object, CopySource=f"{BUCKET}/k")
    gone(s3.upload_part, Body=b"x" * 100, PartNumber=1, UploadId="x")
    for call in s3.list_objects, s3.list_objects_v2, s3.list_multipart_uploads:
        refused("NoSuchBucket", 404, call, Bucket=at["Bucket"])
    refused("NoSuchBucket", 404, s3.copy_object, Bucket=BUCKET, Key="c", CopySource=at)


@check
def wrong_credentials_are_refused():
    wrong = client(secret="wrong")
    refused("SignatureDoesNotMatch", 403, wrong.list_objects_v2, Bucket=BUCKET)
    refused("SignatureDoesNotMatch", 403, wrong.put_object, Bucket=BUCKET, Key="w", Body=b"x")
    unknown = client(access="unknown")
    refused("InvalidAccessKeyId", 403, unknown.list_objects_v2, Bucket=BUCKET)
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(ENDPOINT).netloc, timeout=20)
    connection.request("GET", f"/{BUCKET}/k")
    same(connection.getresponse().status, 403)
    refused("404", 404, s3.head_object, Bucket=BUCKET, Key="w")


@check
def what_is_not_there_says_so():
    refused("NotImplemented", 501, s3.put_bucket_versioning, Bucket=BUCKET,
            VersioningConfiguration={"Status": "Enabled"})
    refused("NotImplemented", 501, put, key="k", ServerSideEncryption="AES256")
    put("tagged", Tagging="a=b")
    same(s3.get_object_tagging(Bucket=BUCKET, Key="tagged")["TagSet"], [{"Key": "a", "Value": "b"}])


# Objects


@check
def an_object_comes_back_with_all_its_headers():
    expires = datetime.datetime(2031, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)
    sent = {
        "ContentType": "text/plain; charset=utf-8",
        "CacheControl": "no-cache",
        "ContentDisposition": 'attachment; filename="a b.txt"',
        "ContentEncoding": "gzip",
        "ContentLanguage": "de",
        "StorageClass": "STANDARD_IA",
        "Metadata": {"mtime": "1700000000.123", "owner": "ftp user"},
    }
    before = datetime.datetime.now(datetime.timezone.utc)
    answer = put("headers", b"hello", Expires=expires, **sent)
    same(answer["ETag"], f'"{md5(b"hello")}"')
    for got in head("headers"), s3.get_object(Bucket=BUCKET, Key="headers"):
        for name, value in sent.items():
            same(got[name], value)
        same(got["ExpiresString"], "Thu, 02 Jan 2031 03:04:05 GMT")
        same(got["ContentLength"], 5)
        same(got["ETag"], answer["ETag"])
        same(got["AcceptRanges"], "bytes")
        assert abs((got["LastModified"] - before).total_seconds()) < 5
        assert "ContentRange" not in got
    put("plain", b"")
    same(head("plain")["ContentType"], "binary/octet-stream")
    assert "StorageClass" not in head("plain")
    refused("InvalidStorageClass", 400, put, key="k", StorageClass="GOLD")
    refused("MetadataTooLarge", 400, put, key="k", Metadata={"m": "x" * 2100})


@check
def bodies_of_every_size_survive():
    for size in 0, 1, 16383, 16384, 16385, 65536, 262143, 262144, 262145, 3 * MIB + 7:
        data = os.urandom(size)
        same(put("size", data)["ETag"], f'"{md5(data)}"')
        assert body("size") == data, size
        same(head("size")["ContentLength"], size)


@check
def responses_can_be_overridden():
    put("override")
    got = s3.get_object(Bucket=BUCKET, Key="override", ResponseContentType="text/x",
                        ResponseContentDisposition="inline")
    same((got["ContentType"], got["ContentDisposition"]), ("text/x", "inline"))


@check
def keys_are_any_utf8():
    keys = ["dir/", "p", "p/q", "..", "../up", "a//b", "/lead", "sp ace+plus", "ünï/日本", "q?x=1&y#z",
            "%2F", "a%20b", "back\\slash", "quote'\"", "<&>", "*", "~t", "é" * 512, "x" * 1024]
    prefix = "keys/"
    for key in keys[:-2]:
        put(prefix + key, key.encode())
    for key in keys[-2:]:
        put(key, key.encode())
        same(body(key), key.encode())
        s3.delete_object(Bucket=BUCKET, Key=key)
    for key in keys[:-2]:
        same(body(prefix + key), key.encode())
    listed = [item["Key"] for item in s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix)["Contents"]]
    same(listed, sorted((prefix + key for key in keys[:-2]), key=str.encode))
    for key in keys[:-2]:
        s3.delete_object(Bucket=BUCKET, Key=prefix + key)
    assert "Contents" not in s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix)
    put("trail", b"file")
    put("trail/", b"")
    put("trail/x", b"below")
    same((body("trail"), body("trail/"), body("trail/x")), (b"file", b"", b"below"))


@check
def a_key_over_1024_bytes_is_too_long():
    refused("KeyTooLongError", 400, put, key="x" * 1025)
    refused("KeyTooLongError", 400, put, key="é" * 513)


@check
def a_missing_key_is_no_such_key():
    refused("NoSuchKey", 404, s3.get_object, Bucket=BUCKET, Key="missing")
    refused("404", 404, s3.head_object, Bucket=BUCKET, Key="missing")
    same(s3.delete_object(Bucket=BUCKET, Key="missing")["ResponseMetadata"]["HTTPStatusCode"], 204)


@check
def deleting_many_answers_for_each():
    for key in "d1", "d2", "d3":
        put(key)
    objects = [{"Key": key} for key in ("d1", "d2", "never", "x" * 1025)]
    for who in s3, modern:
        answer = who.delete_objects(Bucket=BUCKET, Delete={"Objects": objects})
        same([item["Key"] for item in answer["Deleted"]], ["d1", "d2", "never"])
        same([item["Code"] for item in answer["Errors"]], ["KeyTooLongError"])
    answer = s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": "d3"}], "Quiet": True})
    assert "Deleted" not in answer and "Errors" not in answer
    refused("404", 404, s3.head_object, Bucket=BUCKET, Key="d3")
    many = [{"Key": f"n{n}"} for n in range(1001)]
    refused("MalformedXML", 400, s3.delete_objects, Bucket=BUCKET, Delete={"Objects": many})


# Integrity


@check
def content_md5_is_verified():
    for data in b"small", os.urandom(100_000):
        put("md5", data, ContentMD5=b64(hashlib.md5(data).digest()))
        wrong = b64(hashlib.md5(b"other").digest())
        refused("BadDigest", 400, put, key="md5", body=data + b"!", ContentMD5=wrong)
        refused("InvalidDigest", 400, put, key="md5", ContentMD5="nonsense")
        same(body("md5"), data)


@check
def checksums_in_headers_are_verified_stored_and_returned():
    for algorithm, (field, compute) in SUMS.items():
        data = os.urandom(20_000) + algorithm.encode()
        answer = put("sum", data, **{field: compute(data)})
        same((answer[field], answer["ChecksumType"]), (compute(data), "FULL_OBJECT"))
        for got in head("sum", ChecksumMode="ENABLED"), s3.get_object(
            Bucket=BUCKET, Key="sum", ChecksumMode="ENABLED"
        ):
            same((got[field], got["ChecksumType"]), (compute(data), "FULL_OBJECT"))
        assert field not in head("sum")
        assert field not in head("sum", ChecksumMode="ENABLED", Range="bytes=0-1")
        refused("BadDigest", 400, put, key="sum", body=b"other", **{field: compute(data)})
        same(body("sum"), data)


@check
def checksums_in_trailers_are_verified():
    # Over plain HTTP boto3 sends STREAMING-UNSIGNED-PAYLOAD-TRAILER only for unseekable streams,
    # so the frames are made by hand.
    for algorithm, (field, compute) in SUMS.items():
        data = os.urandom(70_000)
        name = f"x-amz-checksum-{algorithm.lower()}"

        def send(value, cut=None):
            half = len(data) // 2
            frames = b""
            for chunk in data[:half], data[half:]:
                frames += f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n"
            frames += b"0\r\n"
            if cut is None:
                frames += f"{name}:{value}\r\n\r\n".encode()
            frames = frames[:cut]
            headers = {
                "Content-Encoding": "aws-chunked",
                "Content-Type": "text/plain",
                "X-Amz-Trailer": name,
                "X-Amz-Decoded-Content-Length": str(len(data)),
            }
            return signed("PUT", f"/{BUCKET}/trailer", frames, headers,
                          payload="STREAMING-UNSIGNED-PAYLOAD-TRAILER")

        status, _, text = send(compute(data))
        same((status, text), (200, b""))
        got = s3.get_object(Bucket=BUCKET, Key="trailer", ChecksumMode="ENABLED")
        same((got[field], got["Body"].read()), (compute(data), data))
        assert not got.get("ContentEncoding")
        status, _, text = send(compute(b"other"))
        assert status == 400 and b"<Code>BadDigest</Code>" in text, (status, text)
        for cut in 1_000_000, 40_000:
            status, _, text = send(compute(data), cut)
            assert status == 400 and b"<Code>IncompleteBody</Code>" in text, (cut, status, text)
        same(body("trailer"), data)


@check
def the_default_checksums_of_sdks_work():
    data = os.urandom(50_000)
    same(modern.put_object(Bucket=BUCKET, Key="modern", Body=data)["ChecksumCRC32"], crc32(data))
    same(modern.get_object(Bucket=BUCKET, Key="modern")["Body"].read(), data)
    data = os.urandom(20 * MIB)
    modern.upload_fileobj(io.BytesIO(data), BUCKET, "modern")
    got = head("modern", ChecksumMode="ENABLED")
    assert got["ETag"].endswith('-3"') and got["ChecksumType"] == "COMPOSITE", got
    copy = io.BytesIO()
    modern.download_fileobj(BUCKET, "modern", copy)
    assert copy.getvalue() == data


@check
def one_checksum_at_a_time():
    both = {"ChecksumCRC32": crc32(b"body"), "ChecksumCRC64NVME": crc64nvme(b"body")}
    refused("InvalidRequest", 400, put, key="both", **both)
    sha = b64(hashlib.sha256(b"body").digest())
    refused("NotImplemented", 501, put, key="sha", ChecksumSHA256=sha)
    refused("InvalidRequest", 400, s3.create_multipart_upload, Bucket=BUCKET, Key="sha",
            ChecksumAlgorithm="SHA256")
    refused("404", 404, s3.head_object, Bucket=BUCKET, Key="sha")


@check
def a_signed_payload_must_be_the_signed_one():
    for data in b"x" * 100, b"x" * 300_000:
        put("signed", b"old")
        status, _, text = signed("PUT", f"/{BUCKET}/signed", data,
                                 payload=hashlib.sha256(b"other").hexdigest())
        assert status == 400 and b"XAmzContentSHA256Mismatch" in text, (status, text)
        same(body("signed"), b"old")


@check
def a_body_that_ends_early_changes_nothing():
    put("early", b"old")
    for size, sent in (1000, 10), (5 * MIB, 3 * MIB):
        signed("PUT", f"/{BUCKET}/early", b"x" * size, send=b"x" * sent)
    time.sleep(0.3)
    same(body("early"), b"old")


@check
def a_length_must_be_given():
    request = botocore.awsrequest.AWSRequest("PUT", f"{ENDPOINT}/{BUCKET}/nolength")
    Signer("UNSIGNED-PAYLOAD").add_auth(request)
    at = urllib.parse.urlsplit(ENDPOINT)
    head = [f"PUT /{BUCKET}/nolength HTTP/1.1", f"Host: {at.netloc}", "Transfer-Encoding: chunked"]
    head += [f"{name}: {value}" for name, value in request.headers.items()]
    # In one piece: the server may answer, and close, before it has seen the body.
    with socket.create_connection((at.hostname, at.port), timeout=20) as connection:
        connection.sendall("\r\n".join(head).encode() + b"\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
        text = connection.recv(4096)
    assert text.startswith(b"HTTP/1.1 411 ") and b"MissingContentLength" in text, text


# Conditions and ranges


@check
def writes_obey_conditions():
    s3.delete_object(Bucket=BUCKET, Key="cond")
    refused("NoSuchKey", 404, put, key="cond", IfMatch='"x"')
    etag = put("cond", b"1", IfNoneMatch="*")["ETag"]
    refused("PreconditionFailed", 412, put, key="cond", IfNoneMatch="*")
    refused("PreconditionFailed", 412, put, key="cond", IfMatch='"x"')
    put("cond", b"2", IfMatch=etag)
    same(body("cond"), b"2")
    refused("PreconditionFailed", 412, s3.delete_object, Bucket=BUCKET, Key="cond", IfMatch=etag)
    s3.delete_object(Bucket=BUCKET, Key="cond", IfMatch=head("cond")["ETag"])


@check
def one_of_many_exclusive_writers_wins():
    s3.delete_object(Bucket=BUCKET, Key="race")

    def attempt(n):
        try:
            put("race", f"{n}".encode() * 30_000, IfNoneMatch="*")
            return n
        except botocore.exceptions.ClientError as error:
            same(error.response["Error"]["Code"], "PreconditionFailed")

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        winners = [n for n in pool.map(attempt, range(32)) if n is not None]
    same(len(winners), 1)
    same(body("race"), f"{winners[0]}".encode() * 30_000)


@check
def reads_obey_conditions():
    etag = put("read")["ETag"]
    modified = head("read")["LastModified"]
    for call in s3.get_object, s3.head_object:
        at = {"Bucket": BUCKET, "Key": "read"}
        failed = "PreconditionFailed" if call == s3.get_object else "412"
        call(**at, IfMatch=etag)
        call(**at, IfMatch="*")
        refused(failed, 412, call, **at, IfMatch='"x"')
        unimplemented = "NotImplemented" if call == s3.get_object else "501"
        refused(unimplemented, 501, call, **at, IfUnmodifiedSince=modified)
        answer = refused("304", 304, call, **at, IfNoneMatch=etag)
        same(answer["ResponseMetadata"]["HTTPHeaders"]["etag"], etag)
        call(**at, IfNoneMatch='"x"')


@check
def ranges_give_their_bytes():
    data = os.urandom(1_000_000)
    put("range", data)
    for header, start, end in [
        ("bytes=0-0", 0, 1), ("bytes=0-", 0, len(data)), ("bytes=10-99", 10, 100),
        ("bytes=999999-", 999_999, 1_000_000), ("bytes=500000-2000000", 500_000, 1_000_000),
        ("bytes=-1", 999_999, 1_000_000), ("bytes=-2000000", 0, 1_000_000),
        ("bytes=262143-262145", 262_143, 262_146),
    ]:
        got = s3.get_object(Bucket=BUCKET, Key="range", Range=header)
        assert got["Body"].read() == data[start:end], header
        same(got["ContentRange"], f"bytes {start}-{end - 1}/{len(data)}")
        same(got["ContentLength"], end - start)
        same(got["ResponseMetadata"]["HTTPStatusCode"], 206)
        same(head("range", Range=header)["ContentLength"], end - start)
    answer = refused("InvalidRange", 416, body, key="range", Range="bytes=1000000-")
    same(answer["ResponseMetadata"]["HTTPHeaders"]["content-range"], "bytes */1000000")
    refused("InvalidRange", 416, body, key="range", Range="bytes=-0")
    put("empty", b"")
    refused("InvalidRange", 416, body, key="empty", Range="bytes=0-0")
    refused("InvalidRange", 416, body, key="empty", Range="bytes=-5")
    same(body("empty"), b"")
    put("inline", b"0123456789")
    same(body("inline", Range="bytes=3-5"), b"345")


# Copies


@check
def a_copy_takes_or_replaces_metadata():
    source = "copy/sp ace+ü?#%2F&.bin"
    data = os.urandom(100_000)
    etag = put(source, data, ContentType="a/b", Metadata={"m": "1"}, StorageClass="STANDARD_IA",
               ChecksumCRC64NVME=crc64nvme(data))["ETag"]
    at = {"Bucket": BUCKET, "CopySource": {"Bucket": BUCKET, "Key": source}}
    result = s3.copy_object(**at, Key="copied")["CopyObjectResult"]
    same((result["ETag"], result["ChecksumCRC64NVME"]), (etag, crc64nvme(data)))
    got = head("copied")
    same((got["ContentType"], got["Metadata"]), ("a/b", {"m": "1"}))
    assert "StorageClass" not in got
    s3.copy_object(**at, Key="copied", MetadataDirective="REPLACE", ContentType="c/d",
                   Metadata={"n": "2"}, ChecksumAlgorithm="CRC32")
    got = head("copied", ChecksumMode="ENABLED")
    same((got["ContentType"], got["Metadata"], got["ChecksumCRC32"]),
         ("c/d", {"n": "2"}, crc32(data)))
    s3.delete_object(Bucket=BUCKET, Key=source)
    same(body("copied"), data)
    refused("NoSuchKey", 404, s3.copy_object, **at, Key="copied")
    put("copy-inline", b"tiny")
    s3.copy_object(Bucket=BUCKET, Key="copied", CopySource=f"{BUCKET}/copy-inline")
    same(body("copied"), b"tiny")


@check
def a_copy_onto_itself_must_change_something():
    data = os.urandom(100_000)
    put("self", data, Metadata={"m": "1"})
    at = {"Bucket": BUCKET, "Key": "self", "CopySource": f"{BUCKET}/self"}
    refused("InvalidRequest", 400, s3.copy_object, **at)
    s3.copy_object(**at, MetadataDirective="REPLACE", Metadata={"m": "2"})
    same((head("self")["Metadata"], body("self")), ({"m": "2"}, data))
    s3.copy_object(**at, StorageClass="STANDARD_IA")
    same((head("self")["StorageClass"], body("self")), ("STANDARD_IA", data))


@check
def a_copy_obeys_conditions():
    etag = put("cs")["ETag"]
    put("ct", b"target")
    at = {"Bucket": BUCKET, "Key": "ct", "CopySource": f"{BUCKET}/cs"}
    refused("PreconditionFailed", 412, s3.copy_object, **at, CopySourceIfMatch='"x"')
    refused("PreconditionFailed", 412, s3.copy_object, **at, CopySourceIfNoneMatch=etag)
    past = datetime.datetime(2001, 1, 1)
    refused("NotImplemented", 501, s3.copy_object, **at, CopySourceIfUnmodifiedSince=past)
    refused("PreconditionFailed", 412, s3.copy_object, **at, IfNoneMatch="*")
    same(body("ct"), b"target")
    s3.copy_object(**at, CopySourceIfMatch=etag)
    same(body("ct"), b"body")


# Listings


def listing_bucket():
    name = f"list-{RUN}"
    s3.create_bucket(Bucket=name)
    keys = [f"d/{n:03}" for n in range(30)] + [f"d/e/{n}" for n in range(5)]
    keys += ["a", "b b+", "c/", "c/x", "d", "d.txt", "z/1/2", "é/x"]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: s3.put_object(Bucket=name, Key=key, Body=b"x" * len(key)), keys))
    return name, sorted(keys, key=str.encode)


def grouped(keys, prefix, delimiter):
    """The listing by its definition: keys and common prefixes in one order."""
    names = set()
    for key in keys:
        if key.startswith(prefix):
            end = key.find(delimiter, len(prefix)) if delimiter else -1
            names.add(key if end < 0 else key[: end + len(delimiter)])
    return sorted(names, key=str.encode)


@check
def listings_page_group_and_order():
    bucket, keys = listing_bucket()
    for prefix in "", "d", "d/", "c/", "nothing":
        for delimiter in "", "/", "x":
            expected = grouped(keys, prefix, delimiter)
            for size in 1, 3, 7, 1000:
                for operation in "list_objects_v2", "list_objects":
                    names, pages = [], 0
                    arguments = {"Prefix": prefix, "Delimiter": delimiter} if delimiter else {"Prefix": prefix}
                    pager = s3.get_paginator(operation)
                    for page in pager.paginate(Bucket=bucket, **arguments,
                                               PaginationConfig={"PageSize": size}):
                        got = [item["Key"] for item in page.get("Contents", [])]
                        got += [item["Prefix"] for item in page.get("CommonPrefixes", [])]
                        assert len(got) <= size
                        names += sorted(got, key=str.encode)
                        pages += 1
                        if operation == "list_objects_v2":
                            same(page["KeyCount"], len(got))
                    same(names, expected)
                    same(pages, max(1, -(-len(expected) // size)))
    page = s3.list_objects_v2(Bucket=bucket, Prefix="d/000")
    item = page["Contents"][0]
    same((item["Size"], item["StorageClass"], item["ETag"]), (5, "STANDARD", f'"{md5(b"x" * 5)}"'))
    assert "Owner" not in item
    assert "Owner" in s3.list_objects_v2(Bucket=bucket, FetchOwner=True)["Contents"][0]


@check
def markers_tokens_and_limits():
    bucket = f"list-{RUN}"
    names = lambda page: [item["Key"] for item in page.get("Contents", [])]
    same(names(s3.list_objects_v2(Bucket=bucket, StartAfter="d/e/3")), ["d/e/4", "z/1/2", "é/x"])
    same(names(s3.list_objects(Bucket=bucket, Marker="d/e/3")), ["d/e/4", "z/1/2", "é/x"])
    same(names(s3.list_objects(Bucket=bucket, Marker="d/e/3", Prefix="d/")), ["d/e/4"])
    page = s3.list_objects(Bucket=bucket, Delimiter="/", MaxKeys=3)
    same(page["NextMarker"], "c/")
    assert "NextMarker" not in s3.list_objects(Bucket=bucket, MaxKeys=3)
    page = s3.list_objects_v2(Bucket=bucket, MaxKeys=0)
    same((page["IsTruncated"], page["KeyCount"]), (False, 0))
    same(s3.list_objects_v2(Bucket=bucket, MaxKeys=5000)["MaxKeys"], 1000)
    refused("InvalidArgument", 400, s3.list_objects_v2, Bucket=bucket, ContinuationToken="no token")
    status, _, text = signed("GET", f"/{bucket}?max-keys=-1")
    assert status == 400 and b"InvalidArgument" in text
    status, _, text = signed("GET", f"/{bucket}?encoding-type=url&list-type=2&prefix=b")
    assert b"<Key>b+b%2B</Key>" in text and b"<EncodingType>url</EncodingType>" in text, text
    status, _, text = signed("GET", f"/{bucket}?list-type=2&prefix=b")
    assert b"<Key>b b+</Key>" in text and b"EncodingType" not in text, text
    for key in names(s3.list_objects_v2(Bucket=bucket)):
        s3.delete_object(Bucket=bucket, Key=key)


# Multipart uploads


@check
def parts_become_one_object():
    parts = [os.urandom(5 * MIB), os.urandom(5 * MIB + 1), b"tail"]
    upload = Upload("multi", ContentType="a/b", Metadata={"m": "1"})
    for number, data in zip((1, 5, 10_000), parts):
        same(upload.part(number, data)["ETag"], f'"{md5(data)}"')
    refused("404", 404, s3.head_object, Bucket=BUCKET, Key="multi")
    answer = upload.complete()
    whole = b"".join(parts)
    etag = md5(b"".join(hashlib.md5(data).digest() for data in parts)) + "-3"
    same(answer["ETag"], f'"{etag}"')
    got = s3.get_object(Bucket=BUCKET, Key="multi")
    same((got["ETag"], got["ContentType"], got["Metadata"]), (f'"{etag}"', "a/b", {"m": "1"}))
    assert got["Body"].read() == whole
    assert body("multi", Range="bytes=5242870-10485770") == whole[5242870:10485771]
    got = s3.get_object(Bucket=BUCKET, Key="multi", PartNumber=2)
    same(got["PartsCount"], 3)
    assert got["Body"].read() == parts[1]
    same(head("multi", PartNumber=3)["ContentLength"], 4)
    refused("InvalidPartNumber", 416, body, key="multi", PartNumber=4)
    same(upload.complete()["ETag"], f'"{etag}"')
    refused("NoSuchUpload", 404, upload.abort)
    put("multi", b"other")
    refused("NoSuchUpload", 404, upload.complete)


@check
def a_part_may_be_replaced_and_left_out():
    upload = Upload("replace")
    upload.part(1, b"a" * 5 * MIB)
    upload.part(1, b"b" * 5 * MIB)
    upload.part(2, b"c" * 5 * MIB)
    upload.part(3, b"d")
    refused("InvalidPart", 400, upload.complete, parts=[upload.parts[0]])
    upload.complete([upload.parts[1], upload.parts[3]])
    same(body("replace"), b"b" * 5 * MIB + b"d")


@check
def a_wrong_list_of_parts_is_refused():
    upload = Upload("wrong")
    upload.part(1, b"a" * 5 * MIB)
    upload.part(2, b"small")
    upload.part(3, b"c")
    one, two, three = upload.parts
    refused("InvalidPartOrder", 400, upload.complete, parts=[two, one])
    refused("InvalidPartOrder", 400, upload.complete, parts=[one, one])
    refused("InvalidPart", 400, upload.complete, parts=[one, two | {"PartNumber": 4}])
    refused("InvalidPart", 400, upload.complete, parts=[one | {"ETag": '"x"'}])
    refused("EntityTooSmall", 400, upload.complete, parts=[one, two, three])
    refused("MalformedXML", 400, upload.complete, parts=[])
    upload.complete([one, two])
    same(head("wrong")["ContentLength"], 5 * MIB + 5)


@check
def an_upload_must_exist():
    upload = Upload("gone")
    upload.part(1, b"x")
    refused("InvalidArgument", 400, upload.part, number=0, data=b"x")
    refused("InvalidArgument", 400, upload.part, number=10_001, data=b"x")
    upload.abort()
    refused("NoSuchUpload", 404, upload.abort)
    refused("NoSuchUpload", 404, upload.part, number=1, data=b"x")
    refused("NoSuchUpload", 404, upload.part, number=1, data=b"x" * 6 * MIB)
    refused("NoSuchUpload", 404, upload.complete)
    refused("NoSuchUpload", 404, s3.list_parts, **upload.at, UploadId=upload.id)
    other = Upload("gone2")
    other.at["Key"] = "another"
    refused("NoSuchUpload", 404, other.part, number=1, data=b"x")


@check
def completing_obeys_conditions():
    put("cond-multi", b"old")
    upload = Upload("cond-multi")
    upload.part(1, b"new")
    refused("PreconditionFailed", 412, upload.complete, IfNoneMatch="*")
    refused("PreconditionFailed", 412, upload.complete, IfMatch='"x"')
    same(body("cond-multi"), b"old")
    upload.complete(IfMatch=head("cond-multi")["ETag"])
    same(body("cond-multi"), b"new")


@check
def parts_are_verified():
    upload = Upload("verify", ChecksumAlgorithm="CRC32")
    refused("BadDigest", 400, upload.part, number=1, data=b"x", ChecksumCRC32=crc32(b"y"))
    refused("BadDigest", 400, upload.part, number=1, data=b"x",
            ContentMD5=b64(hashlib.md5(b"y").digest()))
    refused("InvalidRequest", 400, upload.part, number=1, data=b"x",
            ChecksumCRC64NVME=crc64nvme(b"x"))
    same(upload.part(1, b"x", ChecksumCRC32=crc32(b"x"))["ChecksumCRC32"], crc32(b"x"))
    bare = [{"PartNumber": 1, "ETag": upload.parts[0]["ETag"]}]
    refused("InvalidRequest", 400, upload.complete, parts=bare)
    refused("InvalidPart", 400, upload.complete, parts=[bare[0] | {"ChecksumCRC32": crc32(b"y")}])
    upload.complete()


@check
def checksums_of_multipart_objects():
    parts = [os.urandom(5 * MIB), os.urandom(1000)]
    whole = b"".join(parts)
    for algorithm, (field, compute) in SUMS.items():
        for kind in ["FULL_OBJECT"] if algorithm == "CRC64NVME" else ["COMPOSITE", "FULL_OBJECT"]:
            upload = Upload("multi-sum", ChecksumAlgorithm=algorithm, ChecksumType=kind)
            for number, data in enumerate(parts, 1):
                # The first part comes with its checksum, the store computes that of the second.
                sent = {field: compute(data)} if number == 1 else {}
                same(upload.part(number, data, **sent)[field], compute(data))
            if kind == "FULL_OBJECT":
                expected = compute(whole)
            else:
                raw = b"".join(base64.b64decode(compute(data)) for data in parts)
                expected = compute(raw) + "-2"
            refused("BadDigest", 400, upload.complete, ChecksumType=kind,
                    **{field: compute(b"other")})
            answer = upload.complete(ChecksumType=kind, **{field: expected})
            same((answer[field], answer["ChecksumType"]), (expected, kind))
            got = head("multi-sum", ChecksumMode="ENABLED")
            same((got[field], got["ChecksumType"]), (expected, kind))
    refused("InvalidRequest", 400, s3.create_multipart_upload, Bucket=BUCKET, Key="k",
            ChecksumAlgorithm="CRC64NVME", ChecksumType="COMPOSITE")


@check
def parts_can_be_copied():
    data = os.urandom(6 * MIB)
    put("pc/source ü", data)
    upload = Upload("pc-target", ChecksumAlgorithm="CRC64NVME")
    at = upload.at | {"UploadId": upload.id,
                      "CopySource": {"Bucket": BUCKET, "Key": "pc/source ü"}}
    copied = [(1, "bytes=0-5242879", data[:5242880]), (2, "bytes=100-199", data[100:200])]
    for number, header, expected in copied:
        result = s3.upload_part_copy(**at, PartNumber=number, CopySourceRange=header)
        result = result["CopyPartResult"]
        same(result["ETag"], f'"{md5(expected)}"')
        upload.parts.append({"PartNumber": number, "ETag": result["ETag"]})
    refused("InvalidRange", 416, s3.upload_part_copy, **at, PartNumber=3,
            CopySourceRange="bytes=0-6291456")
    refused("InvalidArgument", 400, s3.upload_part_copy, **at, PartNumber=3,
            CopySourceRange="bytes=5-")
    refused("PreconditionFailed", 412, s3.upload_part_copy, **at, PartNumber=3,
            CopySourceIfMatch='"x"')
    refused("NoSuchKey", 404, s3.upload_part_copy, **at | {"CopySource": f"{BUCKET}/nope"},
            PartNumber=3)
    s3.delete_object(Bucket=BUCKET, Key="pc/source ü")
    answer = upload.complete()
    whole = data[:5242880] + data[100:200]
    assert body("pc-target") == whole
    same(answer["ChecksumCRC64NVME"], crc64nvme(whole))
    # Appending, as a gateway does it: the old object is part 1 of the new one.
    upload = Upload("pc-target")
    result = s3.upload_part_copy(**upload.at, UploadId=upload.id, PartNumber=1,
                                 CopySource=f"{BUCKET}/pc-target")["CopyPartResult"]
    upload.parts.append({"PartNumber": 1, "ETag": result["ETag"]})
    upload.part(2, b"appended")
    upload.complete()
    assert body("pc-target") == whole + b"appended"
    etag = s3.copy_object(Bucket=BUCKET, Key="pc-copy", CopySource=f"{BUCKET}/pc-target")
    same(etag["CopyObjectResult"]["ETag"], f'"{md5(whole + b"appended")}"')


@check
def parts_are_listed():
    upload = Upload("listed", StorageClass="STANDARD_IA")
    for number in 3, 1, 7:
        upload.part(number, b"x" * number)
    page = s3.list_parts(**upload.at, UploadId=upload.id)
    same([(part["PartNumber"], part["Size"]) for part in page["Parts"]], [(1, 1), (3, 3), (7, 7)])
    same((page["IsTruncated"], page["StorageClass"]), (False, "STANDARD_IA"))
    page = s3.list_parts(**upload.at, UploadId=upload.id, MaxParts=2)
    same((page["IsTruncated"], page["NextPartNumberMarker"]), (True, 3))
    page = s3.list_parts(**upload.at, UploadId=upload.id, PartNumberMarker=3)
    same([part["PartNumber"] for part in page["Parts"]], [7])
    upload.abort()


@check
def uploads_are_listed():
    bucket = f"uploads-{RUN}"
    s3.create_bucket(Bucket=bucket)
    made = [(key, Upload(key, bucket).id) for key in ("b", "a/1", "a/2", "b", "c/x y")]
    made.sort(key=lambda item: item[0])
    names = lambda page: [(item["Key"], item["UploadId"]) for item in page.get("Uploads", [])]
    page = s3.list_multipart_uploads(Bucket=bucket)
    same(names(page), made)
    assert abs(page["Uploads"][0]["Initiated"].timestamp() - time.time()) < 5
    same(names(s3.list_multipart_uploads(Bucket=bucket, Prefix="a/")), made[:2])
    page = s3.list_multipart_uploads(Bucket=bucket, Delimiter="/")
    same([item["Prefix"] for item in page["CommonPrefixes"]], ["a/", "c/"])
    same(names(page), made[2:4])
    for size in 1, 2, 3:
        seen = []
        pager = s3.get_paginator("list_multipart_uploads")
        for page in pager.paginate(Bucket=bucket, PaginationConfig={"PageSize": size}):
            assert len(names(page)) <= size
            seen += names(page)
        same(seen, made)
    same(names(s3.list_multipart_uploads(Bucket=bucket, KeyMarker="a/2")), made[2:])
    page = s3.list_multipart_uploads(Bucket=bucket, KeyMarker="b", UploadIdMarker=made[2][1])
    same(names(page), made[3:])
    status, _, text = signed("GET", f"/{bucket}?encoding-type=url&prefix=c&uploads=")
    assert b"<Key>c/x+y</Key>" in text, text


# Concurrency


@check
def the_last_of_parallel_writers_wins_whole():
    bodies = {bytes([n]): bytes([n]) * (200_000 + n) for n in range(24)}
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        writes = [pool.submit(put, "parallel", data) for data in bodies.values()]
        reads = [pool.submit(lambda: s3.get_object(Bucket=BUCKET, Key="parallel")) for _ in range(40)]
        for read in reads:
            try:
                got = read.result()
            except botocore.exceptions.ClientError as error:
                same(error.response["Error"]["Code"], "NoSuchKey")
                continue
            data = got["Body"].read()
            assert bodies[data[:1]] == data and got["ETag"] == f'"{md5(data)}"'
        for write in writes:
            write.result()
    data = body("parallel")
    assert bodies[data[:1]] == data


@check
def a_reader_keeps_its_version():
    old, new = os.urandom(8 * MIB), os.urandom(8 * MIB)
    put("version", old)
    got = s3.get_object(Bucket=BUCKET, Key="version")
    start = got["Body"].read(1000)
    put("version", new)
    s3.delete_object(Bucket=BUCKET, Key="version")
    assert start + got["Body"].read() == old


@check
def parallel_parts_arrive():
    upload = Upload("parallel-parts")
    parts = {number: bytes([number]) * 5 * MIB for number in range(1, 9)}
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda item: upload.part(*item), parts.items()))
    upload.parts.sort(key=lambda part: part["PartNumber"])
    upload.complete()
    assert body("parallel-parts") == b"".join(parts.values())


def clean_up():
    for bucket in s3.list_buckets(Prefix="")["Buckets"]:
        name = bucket["Name"]
        if not name.endswith(RUN):
            continue
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=name):
            keys = [{"Key": item["Key"]} for item in page.get("Contents", [])]
            if keys:
                s3.delete_objects(Bucket=name, Delete={"Objects": keys})


def main():
    passed = failed = 0
    s3.create_bucket(Bucket=BUCKET)
    for function in CHECKS:
        name = function.__name__
        try:
            function()
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)
            lines = [str(frame.lineno) for frame in place if frame.filename == __file__]
            reason = " ".join(str(error).split()) or type(error).__name__
            print(f"FAILED {name}: {reason[:400]} (line {' <- '.join(reversed(lines))})", flush=True)
            failed += 1
        else:
            print(f"ok {name}", flush=True)
            passed += 1
    clean_up()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
