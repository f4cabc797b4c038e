#!/usr/bin/env python3
"""Durable events under everything that goes wrong at once: uploads by many sessions through two gateways, of which one is killed
now and then, at a store that answers some requests with 500, to a sink that is stopped now and then.

`campaign.py GATEWAY` is the long form; `--short` takes a minute. The store is a third process of the same program, behind a proxy that
makes the faults. In the end every upload that got a 226 must have its event, every id must name one version, no event may name
an object that is not there, the outbox must be empty, and memory must be flat. Needs boto3. Prints `N passed, N failed`.

`campaign.py GATEWAY --costs` measures what an upload costs without events, with `memory` and with `durable` delivery.
"""

import sys

sys.dont_write_bytecode = True  # a checkout stays clean

import argparse
import asyncio
import collections
import concurrent.futures
import ftplib
import itertools
import json
import math
import os
import random
import re
import signal
import socket
import statistics
import subprocess
import tempfile
import threading
import time
from pathlib import Path

BUCKET = "cosgate"
OUTBOX = ".cosgate/outbox/"
PATIENCE = 60
KIB, MIB = 1024, 1024 * 1024


# ---- the store's proxy, and the sink: processes of their own ----


async def read_head(reader):
    return await reader.readuntil(b"\r\n\r\n")


def header(head, name):
    found = re.search(rb"(?im)^" + name + rb":[ \t]*([^\r\n]*)", head)
    return found[1] if found else None


async def copy_body(reader, head, writer, has_body=True):
    """Passes on the body that belongs to a head; without a writer it is thrown away."""
    async def take(count):
        while count > 0:
            chunk = await reader.read(min(count, 256 * KIB))
            if not chunk:
                raise asyncio.IncompleteReadError(b"", count)
            count -= len(chunk)
            if writer:
                writer.write(chunk)
                await writer.drain()

    if not has_body:
        return
    if (header(head, b"transfer-encoding") or b"").lower() == b"chunked":
        while True:
            line = await reader.readline()
            if writer:
                writer.write(line)
            size = int(line.split(b";")[0], 16)
            await take(size + 2)
            if size == 0:
                return
    await take(int(header(head, b"content-length") or 0))


ERROR = b"<Error><Code>InternalError</Code><Message>as the campaign has it</Message></Error>"


def refusal(head):
    body = b"" if head.startswith(b"HEAD") else ERROR
    return b"HTTP/1.1 500 As Scripted\r\ncontent-type: application/xml\r\ncontent-length: %d\r\n\r\n" % len(body) + body


async def proxy(port, store, errors, latency, log):
    """Answers a part of the requests with 500, half of them before the store has done its work and half of them after."""
    counts = collections.Counter()
    rng = random.Random(7)

    async def client(reader, writer):
        upstream = None
        try:
            while True:
                head = await read_head(reader)
                counts[head.split(b" ", 1)[0].decode() + (" outbox" if b"/" + OUTBOX.encode() in head.split(b"\r\n")[0] else "")] += 1
                if latency:
                    await asyncio.sleep(latency)
                fate = rng.random() / errors if errors else 1
                if fate < 0.5:
                    await copy_body(reader, head, None)
                    counts["500 before"] += 1
                    writer.write(refusal(head))
                    await writer.drain()
                    continue
                if upstream is None:
                    upstream = await asyncio.open_connection("127.0.0.1", store)
                upstream[1].write(head)
                if (header(head, b"expect") or b"").lower() == b"100-continue":
                    writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                    await writer.drain()
                await copy_body(reader, head, upstream[1])
                await upstream[1].drain()
                answer = await read_head(upstream[0])
                while answer.startswith(b"HTTP/1.1 100"):
                    answer = await read_head(upstream[0])
                status = int(answer.split(b" ", 2)[1])
                has_body = not head.startswith(b"HEAD") and status not in (204, 304)
                if fate < 1:
                    await copy_body(upstream[0], answer, None, has_body)
                    counts["500 after"] += 1
                    writer.write(refusal(head))
                else:
                    writer.write(answer)
                    await copy_body(upstream[0], answer, writer, has_body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, OSError):
            pass
        finally:
            for each in [writer] + ([upstream[1]] if upstream else []):
                each.close()

    async def report():
        while True:
            # whoever reads it finds all of it
            new = Path(f"{log}.new")
            new.write_text(json.dumps(counts))
            new.replace(log)
            await asyncio.sleep(0.1)

    server = await asyncio.start_server(client, "127.0.0.1", port, limit=MIB, backlog=1024)
    async with server:
        await asyncio.gather(server.serve_forever(), report())


async def sink(port, log):
    """Takes events into a file, a line each, before it answers."""
    with open(log, "ab", buffering=0) as taken:
        async def client(reader, writer):
            try:
                while True:
                    head = await read_head(reader)
                    body = await reader.readexactly(int(header(head, b"content-length") or 0))
                    taken.write(body.replace(b"\n", b" ") + b"\n")
                    writer.write(b"HTTP/1.1 204 Taken\r\n\r\n")
                    await writer.drain()
            except (asyncio.IncompleteReadError, ConnectionError, OSError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(client, "127.0.0.1", port)
        async with server:
            await server.serve_forever()


# ---- what is run ----

CANDIDATES = iter(range(11000 + os.getpid() % 300 * 12, 32000))


def free_ports(count):
    """Ports in a row, below the kernel's ephemeral range, on which nothing listens."""
    found = []
    for port in CANDIDATES:
        with socket.socket() as probe:
            found = [*found, port] if probe.connect_ex(("127.0.0.1", port)) else []
        if len(found) == count:
            return found
    raise AssertionError("no free ports")


def eventually(what, condition, patience=PATIENCE):
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, f"never came true: {what}"
        time.sleep(0.1)


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Process:
    """A process that can be started again."""

    def __init__(self, command, env, log, ready):
        self.command, self.env, self.log, self.ready = command, env, log, ready
        self.process = None

    def start(self):
        with open(self.log, "ab") as output:
            self.process = subprocess.Popen(self.command, env=self.env, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        eventually(f"{self.log} is ready", self.is_up)

    def is_up(self):
        assert self.process.poll() is None, Path(self.log).read_text()[-3000:]
        return listens(self.ready)

    def stop(self, how=signal.SIGTERM):
        if self.process and self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(PATIENCE)

    def resident(self):
        """MiB, or none while it is down."""
        try:
            status = Path(f"/proc/{self.process.pid}/status").read_text()
        except OSError:
            return None
        found = re.search(r"VmRSS:\s+(\d+)", status)
        return int(found[1]) / KIB if found else None

    def cpu(self):
        """Seconds."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class World:
    """A store, its proxy, a sink and gateways."""

    def __init__(self, program, directory, gateways, errors=0.0, latency=0.0, **settings):
        self.directory = Path(directory)
        self.events, self.counts = self.directory / "events", self.directory / "counts"
        own = [sys.executable, __file__, str(program)]
        env = {"PATH": os.environ["PATH"], "COSGATE_LOG__FORMAT": "json"}
        keys = {"COSGATE_STORAGE__ACCESS_KEY_ID": "campaign", "COSGATE_STORAGE__SECRET_ACCESS_KEY": "campaign-secret"}
        self.store_port, admin, control, first, last = free_ports(5)
        store = {**env, **keys, "COSGATE_STORAGE__ENDPOINT": f"http://127.0.0.1:{self.store_port}", "COSGATE_LISTEN": f"127.0.0.1:{control}",
                 "COSGATE_ADMIN__LISTEN": f"127.0.0.1:{admin}", "COSGATE_PASSIVE__PORTS": f"{first}-{last}",
                 "COSGATE_STORAGE__DATA_DIR": str(self.directory / "store")}
        self.store = Process([str(program)], store, self.directory / "store.log", control)
        [port] = free_ports(1)
        parameters = f"{port},{self.store_port},{errors},{latency}"
        self.proxy = Process([*own, "--proxy", parameters, "--log", str(self.counts)], env, self.directory / "proxy.log", port)
        [self.sink_port] = free_ports(1)
        self.sink = Process([*own, "--sink", str(self.sink_port), "--log", str(self.events)], env, self.directory / "sink.log", self.sink_port)
        hashed = subprocess.run([program, "hash-password"], input=b"secret\n", env=env, capture_output=True, check=True).stdout
        users = [{"name": "demo", "password_hash": hashed.decode().strip()}]
        self.gateways = []
        for number in range(gateways):
            ports = free_ports(64)
            own = {**env, **keys, "COSGATE_STORAGE__PROVIDER": "s3", "COSGATE_STORAGE__ENDPOINT": f"http://127.0.0.1:{port}",
                   "COSGATE_STORAGE__BUCKET": BUCKET, "COSGATE_USERS": json.dumps(users), "COSGATE_LISTEN": f"127.0.0.1:{ports[0]}",
                   "COSGATE_ADMIN__LISTEN": f"127.0.0.1:{ports[1]}", "COSGATE_PASSIVE__PORTS": f"{ports[2]}-{ports[-1]}",
                   "COSGATE_SESSIONS__MAX_PER_IP": "100", **settings}
            self.gateways.append((Process([str(program)], own, self.directory / f"gateway-{number}.log", ports[0]), ports[0]))

    def __enter__(self):
        for process in [self.store, self.proxy, self.sink, *(gateway for gateway, _ in self.gateways)]:
            process.start()
        return self

    def __exit__(self, *_):
        for process in [*(gateway for gateway, _ in self.gateways), self.sink, self.proxy, self.store]:
            process.stop()

    def sinks(self):
        return json.dumps([{"name": "pipeline", "url": f"http://127.0.0.1:{self.sink_port}/hook"}])

    def s3(self):
        import boto3
        from botocore.config import Config

        return boto3.client("s3", endpoint_url=f"http://127.0.0.1:{self.store_port}", region_name="us-east-1", aws_access_key_id="campaign",
                            aws_secret_access_key="campaign-secret", config=Config(max_pool_connections=16, s3={"addressing_style": "path"}))

    def requests(self):
        time.sleep(0.3)
        return collections.Counter(json.loads(self.counts.read_text()))

    def taken(self):
        return [json.loads(line) for line in self.events.read_bytes().splitlines()]


class Bytes:
    """Content to read, of random bytes that are made once."""

    POOL = os.urandom(21 * MIB)

    def __init__(self, size):
        start = random.randrange(len(self.POOL) - size + 1)
        self.view = memoryview(self.POOL)[start:start + size]
        self.at = 0

    def read(self, count):
        chunk = self.view[self.at:self.at + count]
        self.at += len(chunk)
        return chunk


def some_size(rng):
    """4 KiB to 20 MiB: nine in ten up to 64 KiB, one in a hundred above 1 MiB, each evenly by its logarithm."""
    lowest, highest = rng.choices([(4 * KIB, 64 * KIB), (64 * KIB, MIB), (MIB, 20 * MIB)], [90, 9, 1])[0]
    return int(math.exp(rng.uniform(math.log(lowest), math.log(highest))))


class Campaign:
    def __init__(self, world, options):
        self.world, self.options = world, options
        self.numbers = itertools.count()
        self.acknowledged, self.attempts, self.replies = {}, collections.Counter(), collections.Counter()
        self.lock, self.over = threading.Lock(), threading.Event()
        self.memory = []

    def session(self, number):
        """Uploads until enough have a 226, each under a new name, or one in twenty under a name of the session's own."""
        rng, ftp = random.Random(number), None
        while not self.over.is_set():
            try:
                if ftp is None:
                    ftp = ftplib.FTP(timeout=PATIENCE)
                    ftp.connect("127.0.0.1", self.world.gateways[rng.randrange(len(self.world.gateways))][1])
                    ftp.login("demo", "secret")
                name = f"shared-{number}" if rng.random() < 0.05 else f"f-{next(self.numbers)}"
                size = some_size(rng)
                with self.lock:
                    self.attempts[name] += 1
                reply = ftp.storbinary(f"STOR {name}", Bytes(size), blocksize=64 * KIB)
                assert reply.startswith("226"), reply
                with self.lock:
                    self.acknowledged.setdefault(name, []).append(size)
                    self.replies["226"] += 1
                    if self.replies["226"] >= self.options.uploads:
                        self.over.set()
            except ftplib.Error as error:
                with self.lock:
                    self.replies[str(error)[:3]] += 1
                if str(error)[:3] == "421":
                    ftp = None
            except (OSError, EOFError) as error:
                with self.lock:
                    self.replies[type(error).__name__] += 1
                ftp = None
                time.sleep(0.2)

    def done(self):
        with self.lock:
            return self.replies["226"] / self.options.uploads

    def watch_memory(self):
        while not self.over.wait(1):
            sizes = [gateway.resident() for gateway, _ in self.world.gateways]
            self.memory.append((self.done(), sizes))

    def trouble(self):
        """Stops the sink, and kills a gateway, at even distances over the uploads."""
        options, world = self.options, self.world
        stops = [("sink", (at + 0.5) / options.stops) for at in range(options.stops)]
        kills = [("kill", (at + 0.7) / options.kills) for at in range(options.kills)]
        waiting = []
        for what, when in sorted(stops + kills, key=lambda each: each[1]):
            while self.done() < when and not self.over.is_set():
                time.sleep(0.1)
            print(f"{what} at {self.done():.0%}", flush=True)
            if what == "sink":
                def away():
                    world.sink.stop(signal.SIGKILL)
                    time.sleep(options.away)
                    world.sink.start()

                waiting.append(threading.Thread(target=away))
                waiting[-1].start()
            else:
                gateway, _ = random.choice(world.gateways)
                gateway.stop(signal.SIGKILL)
                time.sleep(1)
                gateway.start()
        for thread in waiting:
            thread.join()

    def run(self):
        started = time.monotonic()
        sessions = [threading.Thread(target=self.session, args=(number,)) for number in range(self.options.sessions)]
        others = [threading.Thread(target=self.trouble), threading.Thread(target=self.watch_memory)]
        for thread in sessions + others:
            thread.start()
        for thread in sessions + others:
            thread.join()
        print(f"{self.replies['226']} uploads in {time.monotonic() - started:.0f} s; replies and errors: {dict(self.replies)}")
        print(f"at the store: {dict(self.world.requests())}", flush=True)


def listed(s3, prefix):
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
    return {entry["Key"]: entry for page in pages for entry in page.get("Contents", [])}


def check(campaign, world, results):
    """What must hold, by name."""
    s3 = world.s3()

    def is_empty():
        return not listed(s3, OUTBOX)

    began = time.monotonic()
    try:
        eventually("the outbox is empty", is_empty, campaign.options.patience)
        results["the outbox ends empty"] = None
    except AssertionError:
        results["the outbox ends empty"] = f"{len(listed(s3, OUTBOX))} entries are left"
    print(f"the outbox was empty after {time.monotonic() - began:.0f} s", flush=True)
    objects = listed(s3, "")
    names = [key for key in objects if not key.startswith(OUTBOX)]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        heads = dict(zip(names, pool.map(lambda key: s3.head_object(Bucket=BUCKET, Key=key), names)))
    marks = {key: head["Metadata"].get("cosgate-id") for key, head in heads.items()}
    events = world.taken()
    by_id, by_key = collections.defaultdict(list), collections.defaultdict(set)
    for event in events:
        by_id[event["id"]].append(event)
        if event["type"].endswith(".stored"):
            by_key[event["data"]["key"]].add(event["id"])
    repeated = sum(len(each) > 1 for each in by_id.values())
    unconfirmed = [event for event in events if event["data"].get("confirmed") is False]
    print(f"{len(events)} events with {len(by_id)} ids, {repeated} ids more than once, {len(unconfirmed)} not confirmed")

    missing = [(name, len(sizes), len(by_key[name])) for name, sizes in campaign.acknowledged.items() if len(by_key[name]) < len(sizes)]
    results["each upload with a 226 has its event"] = f"{len(missing)} have none, such as {missing[:3]}" if missing else None
    too_many = [name for name, ids in by_key.items() if len(ids) > campaign.attempts[name]]
    results["there are no more ids than uploads"] = str(too_many[:3]) if too_many else None

    def versions(each):
        return {(event["data"]["key"], event["data"].get("etag"), event["data"].get("size")) for event in each
                if event["data"].get("confirmed") is not False}

    several = [id for id, each in by_id.items() if len(versions(each)) > 1]
    results["each id names one version"] = str(several[:3]) if several else None
    wrong = []
    for event in events:
        data = event["data"]
        if not event["type"].endswith(".stored"):
            continue
        head = heads.get(data["key"])
        if head is None:
            wrong.append(("not there", data["key"]))
        elif data.get("confirmed") is not False and not data["key"].startswith("shared-"):
            if (marks[data["key"]], head["ContentLength"], head["ETag"].strip('"')) != (event["id"], data["size"], data["etag"]):
                wrong.append(("another one", data["key"]))
    results["no event names a whole object that is not there"] = f"{len(wrong)}, such as {wrong[:3]}" if wrong else None
    lost = [name for name, sizes in campaign.acknowledged.items() if name.startswith("f-") and heads.get(name, {}).get("ContentLength") not in sizes]
    results["each upload with a 226 is in the store"] = str(lost[:3]) if lost else None
    half = [size for done, sizes in campaign.memory for size in sizes if size and 0.2 < done <= 0.6]
    rest = [size for done, sizes in campaign.memory for size in sizes if size and done > 0.6]
    if half and rest:
        print(f"resident MiB of a gateway: up to {max(half):.0f} before 60 % of the uploads, up to {max(rest):.0f} after")
        results["memory is flat"] = None if max(rest) < max(half) * 1.3 + 20 else f"{max(half):.0f} MiB, then {max(rest):.0f}"


def campaign(program, options):
    results = {}
    with tempfile.TemporaryDirectory(prefix="cosgate-campaign-") as directory:
        world = World(program, directory, 2, errors=options.errors)
        for gateway, _ in world.gateways:
            gateway.env.update({"COSGATE_EVENTS__DELIVERY": "durable", "COSGATE_EVENTS__SINKS": world.sinks(),
                                "COSGATE_EVENTS__REPLAY_AFTER": f"{options.replay_after}s"})
        with world:
            running = Campaign(world, options)
            running.run()
            check(running, world, results)
        for log in sorted(Path(directory).glob("gateway-*.log")):
            if "panicked" in log.read_text():
                results[f"{log.name} has no panic"] = "it has"
    for name, failure in results.items():
        print(f"ok {name}" if failure is None else f"FAILED {name}: {failure}")
    failed = sum(failure is not None for failure in results.values())
    print(f"{len(results) - failed} passed, {failed} failed")
    return failed > 0


def costs(program, options):
    """Requests, milliseconds and CPU time for each file, one after the other, at a store that takes its time for each request."""
    print(f"{options.files} files, one after the other; {options.latency * 1000:.0f} ms for each request; median ms from STOR to 226")
    print("| size | client | events | requests | of the outbox | ms | CPU ms |\n|---|---|---|---|---|---|---|")
    for size, away in [(4 * KIB, 0.0), (4 * KIB, options.latency), (MIB, 0.0), (20 * MIB, 0.0)]:
        files = options.files if size < MIB * 10 else max(options.files // 10, 3)
        for delivery in ["none", "memory", "durable"]:
            with tempfile.TemporaryDirectory(prefix="cosgate-costs-") as directory:
                world = World(program, directory, 1, latency=options.latency)
                gateway, port = world.gateways[0]
                # no janitor's rounds among what is counted
                gateway.env.update({"COSGATE_UPLOAD__SWEEP": "off", "COSGATE_EVENTS__REPLAY_AFTER": "1h", "COSGATE_ADMIN__LISTEN": "off"})
                if delivery != "none":
                    gateway.env.update({"COSGATE_EVENTS__SINKS": world.sinks(), "COSGATE_EVENTS__DELIVERY": delivery})
                with world, ftplib.FTP(timeout=PATIENCE) as ftp:
                    ftp.connect("127.0.0.1", port)
                    ftp.login("demo", "secret")
                    took = []

                    def upload(name):
                        content = Bytes(size)
                        with data_connection(ftp) as data:
                            began = time.monotonic()
                            assert ftp.sendcmd(f"STOR {name}").startswith("150")
                            # a distant client's data follow the 150 by a round trip
                            time.sleep(away)
                            while chunk := content.read(256 * KIB):
                                data.sendall(chunk)
                        assert ftp.voidresp().startswith("226")
                        took.append(time.monotonic() - began)

                    ftp.voidcmd("TYPE I")
                    for number in range(3):
                        upload(f"warm-{number}")
                    time.sleep(2)
                    before, cpu, took[:] = world.requests(), gateway.cpu(), []
                    for number in range(files):
                        upload(f"f-{number}")
                    # the deletions, too
                    time.sleep(2)
                    cpu, after = gateway.cpu() - cpu, world.requests() - before
                    requests, outbox = sum(after.values()), sum(count for what, count in after.items() if "outbox" in what)
                    print(f"| {size // KIB} KiB | {'near' if not away else '30 ms away'} | {delivery} | {requests / files:.2f} | "
                          f"{outbox / files:.2f} | {statistics.median(took) * 1000:.1f} | {cpu / files * 1000:.2f} |", flush=True)


def data_connection(ftp):
    host, port = ftp.makepasv()
    return socket.create_connection((host, port), timeout=PATIENCE)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gateway", type=Path)
    parser.add_argument("--short", action="store_true", help="the form of CI")
    parser.add_argument("--costs", action="store_true")
    parser.add_argument("--uploads", type=int, default=10_000)
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--errors", type=float, default=0.05, help="part of the requests that get a 500")
    parser.add_argument("--stops", type=int, default=2, help="how often the sink is stopped")
    parser.add_argument("--away", type=float, default=60, help="for how many seconds")
    parser.add_argument("--kills", type=int, default=5, help="how often a gateway is killed")
    parser.add_argument("--replay-after", type=int, default=60, help="seconds")
    parser.add_argument("--patience", type=float, default=600, help="seconds until the outbox must be empty")
    parser.add_argument("--files", type=int, default=100, help="of --costs, for each kind")
    parser.add_argument("--latency", type=float, default=0.03, help="of --costs, seconds")
    parser.add_argument("--proxy", help=argparse.SUPPRESS)
    parser.add_argument("--sink", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--log", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.proxy:
        port, store, errors, latency = options.proxy.split(",")
        return asyncio.run(proxy(int(port), int(store), float(errors), float(latency), options.log))
    if options.sink:
        return asyncio.run(sink(options.sink, options.log))
    program = options.gateway.resolve()
    if options.costs:
        return costs(program, options)
    if options.short:
        options.uploads, options.sessions, options.stops, options.away, options.kills, options.replay_after = 400, 8, 1, 5, 2, 4
    return campaign(program, options)


if __name__ == "__main__":
    sys.exit(main())
