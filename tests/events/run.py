#!/usr/bin/env python3
"""Events of the built gateway, as consumers that nobody here wrote see them: NATS JetStream by nats-py, HTTPS by Python's own server,
and every event parsed by the CloudEvents SDK.

`run.py GATEWAY [--nats-server PROGRAM]`; needs of PyPI cloudevents, nats-py and trustme. Prints `N passed, N failed`.
"""

import sys

sys.dont_write_bytecode = True  # a checkout stays clean

import argparse
import asyncio
import contextlib
import ftplib
import inspect
import io
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import nats
import trustme
from cloudevents.v1.http import from_http

PATIENCE = 60


CANDIDATES = iter(range(15000 + os.getpid() % 400 * 12, 32000))


def free_ports(count):
    """Ports below the kernel's ephemeral range on which nothing listens, and which nobody was given before."""
    found = []
    for port in CANDIDATES:
        with contextlib.closing(socket.socket()) as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                found.append(port)
        if len(found) == count:
            return found
    raise AssertionError("no free ports")


def eventually(what, condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"never came true: {what}"
        time.sleep(0.05)


@contextlib.contextmanager
def running(command, env=None, log=None):
    with open(log or os.devnull, "ab") as output:
        process = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(PATIENCE)


@contextlib.contextmanager
def gateway(program, directory, sinks, **more):
    """The gateway with its embedded store and these sinks: a function that makes a client that has logged in."""
    control, admin, first, last = free_ports(4)
    log = Path(directory) / f"gateway-{control}.log"
    env = {"PATH": os.environ["PATH"], "COSGATE_LISTEN": f"127.0.0.1:{control}", "COSGATE_ADMIN__LISTEN": f"127.0.0.1:{admin}",
           "COSGATE_PASSIVE__PORTS": f"{first}-{last}", "COSGATE_STORAGE__DATA_DIR": str(Path(directory) / f"data-{control}"),
           "COSGATE_EVENTS__SINKS": json.dumps(sinks), **more}
    with running([program], env, log) as process:
        def started():
            assert process.poll() is None, log.read_text()
            return re.search(r"password (\S+)\n", log.read_text())

        eventually("the gateway started", started)
        password = started()[1]

        def client():
            ftp = ftplib.FTP()
            ftp.connect("127.0.0.1", control, timeout=PATIENCE)
            ftp.login("demo", password)
            return ftp

        yield client, process, log


class Hook:
    """A consumer by HTTPS, with a certificate of `authority`."""

    def __init__(self, authority):
        taken = self.taken = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                taken.append((dict(self.headers.items()), body))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def parsed(headers, body):
    """The event, by the SDK: it refuses what lacks an attribute or has a wrong one."""
    event = from_http(headers, body)
    assert event["specversion"] == "1.0" and event["type"].startswith("cosgate.object.")
    return event


def of_stream(port, count, subject="cosgate.object.>"):
    """So many messages of the stream, by a durable consumer of its own."""
    async def read():
        client = await nats.connect(f"nats://127.0.0.1:{port}")
        try:
            subscription = await client.jetstream().pull_subscribe(subject, "reader", stream="FILES")
            messages = []
            deadline = time.monotonic() + PATIENCE
            while len(messages) < count and time.monotonic() < deadline:
                with contextlib.suppress(nats.errors.TimeoutError):
                    for message in await subscription.fetch(count, timeout=1):
                        await message.ack()
                        messages.append(message)
            return messages
        finally:
            await client.close()

    return asyncio.run(read())


def make_stream(port):
    async def make():
        client = await nats.connect(f"nats://127.0.0.1:{port}")
        await client.jetstream().add_stream(name="FILES", subjects=["cosgate.object.>"])
        await client.close()

    asyncio.run(make())


@contextlib.contextmanager
def nats_server(program, directory, port):
    with running([program, "-js", "-a", "127.0.0.1", "-p", str(port), "-sd", str(Path(directory) / "jetstream")]):
        def up():
            with contextlib.closing(socket.socket()) as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        eventually("the NATS server listens", up)
        yield


def test_an_https_consumer_gets_events_that_the_sdk_can_read(program, directory):
    authority = trustme.CA()
    bundle = Path(directory) / "authority.pem"
    bundle.write_bytes(authority.cert_pem.bytes())
    hook = Hook(authority)
    sink = {"name": "hook", "url": hook.url, "ca_file": str(bundle), "token": "s3cret-token"}
    with gateway(program, directory, [sink]) as (client, _, log):
        with client() as ftp:
            ftp.storbinary("STOR a.txt", io.BytesIO(b"hello"))
            ftp.rename("a.txt", "b.txt")
            ftp.delete("b.txt")
        eventually("three events came", lambda: len(hook.taken) == 3)
        text = log.read_text()
    hook.close()
    events = sorted((parsed(*one) for one in hook.taken), key=lambda event: event["id"])
    assert [event["type"].rpartition(".")[2] for event in events] == ["stored", "renamed", "deleted"]
    assert [event["subject"] for event in events] == ["cosgate/a.txt", "cosgate/b.txt", "cosgate/b.txt"]
    assert events[0].data["size"] == 5 and events[1].data["previous"] == "a.txt"
    assert all({key.lower(): value for key, value in headers.items()}["authorization"] == "Bearer s3cret-token" for headers, _ in hook.taken)
    assert "s3cret-token" not in text


def test_a_consumer_whose_certificate_is_not_trusted_gets_nothing(program, directory):
    hook = Hook(trustme.CA())
    with gateway(program, directory, [{"name": "hook", "url": hook.url}], COSGATE_EVENTS__FLUSH_TIMEOUT="100ms") as (client, _, log):
        with client() as ftp:
            ftp.storbinary("STOR a.txt", io.BytesIO(b"hello"))
        eventually("the failure was said", lambda: "sink_failing" in log.read_text())
    assert not hook.taken
    hook.close()


def test_a_stream_of_jetstream_has_each_event_once(program, directory, nats_program):
    [port] = free_ports(1)
    with nats_server(nats_program, directory, port):
        make_stream(port)
        with gateway(program, directory, [{"name": "stream", "url": f"nats://127.0.0.1:{port}"}]) as (client, _, _):
            with client() as ftp:
                for number in range(50):
                    ftp.storbinary(f"STOR {number}.txt", io.BytesIO(b"x" * number))
                ftp.delete("7.txt")
            messages = of_stream(port, 51)
        events = [parsed({"content-type": message.headers["content-type"]}, message.data) for message in messages]
        assert len({event["id"] for event in events}) == 51
        assert all(message.headers["Nats-Msg-Id"] == event["id"] for message, event in zip(messages, events))
        stored = {event.data["key"]: event.data["size"] for event in events if event["type"].endswith("stored")}
        assert stored == {f"{number}.txt": number for number in range(50)}
        assert [message.subject for message in messages if message.subject.endswith("deleted")] == ["cosgate.object.deleted"]


def test_events_wait_for_a_server_that_is_away_and_for_a_stream_that_is_missing(program, directory, nats_program):
    [port] = free_ports(1)
    with gateway(program, directory, [{"name": "stream", "url": f"nats://127.0.0.1:{port}"}], COSGATE_EVENTS__TIMEOUT="1s") as (client, _, log):
        with client() as ftp:
            ftp.storbinary("STOR a.txt", io.BytesIO(b"hello"))
            eventually("the failure was said", lambda: "sink_failing" in log.read_text())
            with nats_server(nats_program, directory, port):
                ftp.storbinary("STOR b.txt", io.BytesIO(b"hello"))
                make_stream(port)
                messages = of_stream(port, 2)
                assert sorted(json.loads(message.data)["data"]["key"] for message in messages) == ["a.txt", "b.txt"]
                eventually("the recovery was said", lambda: "sink_recovered" in log.read_text())


def test_what_waits_at_sigterm_is_sent_or_counted_in_the_last_lines(program, directory, nats_program):
    [port] = free_ports(1)
    sink = [{"name": "stream", "url": f"nats://127.0.0.1:{port}"}]
    with gateway(program, directory, sink, COSGATE_EVENTS__FLUSH_TIMEOUT="1s", COSGATE_EVENTS__TIMEOUT="1s") as (client, process, log):
        with client() as ftp:
            for name in ["a", "b", "c"]:
                ftp.storbinary(f"STOR {name}", io.BytesIO(b"hello"))
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)
        assert process.returncode == 0
        line = json.loads(next(line for line in log.read_text().splitlines() if "events_lost" in line))
        assert line["left"] == 3 and line["sink"] == "stream", line


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("gateway")
    parser.add_argument("--nats-server", default="nats-server")
    options = parser.parse_args()
    passed = failed = 0
    for name, test in inspect.getmembers(sys.modules[__name__], inspect.isfunction):
        if not name.startswith("test_"):
            continue
        with tempfile.TemporaryDirectory(prefix="cosgate-events-") as directory:
            offered = {"program": str(Path(options.gateway).resolve()), "directory": directory, "nats_program": options.nats_server}
            try:
                test(**{given: offered[given] for given in inspect.signature(test).parameters})
                passed += 1
            except Exception:
                failed += 1
                print(f"FAILED {name[5:].replace('_', ' ')}\n{traceback.format_exc()}")
    print(f"{passed} passed, {failed} failed")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
