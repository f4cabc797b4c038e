#!/usr/bin/env python3
"""Mixed load by 200 sessions for 20 minutes, and a look at what it costs the gateway every few seconds: memory, descriptors,
tasks and latencies have to be flat at the end.

`run.py GATEWAY` is the long form, `--short` that of CI. Half of the sessions use TLS. They store and fetch small and large files,
list, rename, delete, rest, break off in the middle of uploads and downloads, and vanish; each file that comes back is compared with
what was sent. The store is another process of the same program. `--csv FILE` keeps the samples, `--svg FILE` draws them.

Ends with 1 unless all of this holds:

- every reply was the expected one, and every file came back as it was sent;
- in the last half of the samples, straight lines through resident memory, descriptors and tasks rise by less than LIMITS says (in the
  short form memory may rise by 64 MiB: the gateway's buffers have not all been in use before, and one large upload more or less is 20);
- the 99th percentile of small operations in the last quarter is not more than 1.5 times that of the second one, or 50 ms more (in the
  short form, where a quarter has few operations, 3 times, or a second more);
- when the sessions are gone, sessions, reservations and buffers are 0, tasks and descriptors are back, and no upload is unfinished.
"""

import sys

sys.dont_write_bytecode = True  # a checkout stays clean

import argparse
import asyncio
import collections
import contextlib
import csv
import hashlib
import json
import os
import random
import re
import resource
import signal
import socket
import ssl
import statistics
import struct
import subprocess
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "clients"))

from s3 import ACCESS_KEY, BUCKET, S3, SECRET_KEY  # noqa: E402
from support import end, free_ports, http_status, indented, wait_until  # noqa: E402

KIB, MIB = 1 << 10, 1 << 20
POOL = random.Random(1).randbytes(24 * MIB)
# For one operation.
PATIENCE = 120
# What a session does next, by weight. The gateway's part of the work should take less than this machine has.
MIX = {
    "store": 30, "fetch": 28, "list": 16, "rename": 8, "delete": 4, "store large": 2, "fetch large": 3, "cut store": 3,
    "cut fetch": 3, "vanish": 1, "rest": 2,
}
SMALL = {"store", "fetch", "list", "rename", "delete"}
# A line through the last half may rise by so much from its begin to its end: a part of its middle, and at least so much.
LIMITS = {"resident_mib": (0.05, 8), "descriptors": (0.05, 20), "tasks": (0.05, 40)}
SHORT_LIMITS = LIMITS | {"resident_mib": (0.05, 64)}


class Unexpected(Exception):
    """A reply or a file that should have been another one."""


class Vanished(Exception):
    """The session has broken off on purpose."""


def reset(writer):
    """Ends a connection so that nobody takes it for the end of a file."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Session:
    """One control connection after another, in a directory of its own."""

    def __init__(self, number, port, seed, results):
        self.number, self.port, self.results = number, port, results
        self.rng = random.Random(f"{seed}-{number}")
        self.tls = None
        if number % 2:
            self.tls = ssl.create_default_context()
            self.tls.check_hostname, self.tls.verify_mode = False, ssl.CERT_NONE
        self.address = (f"127.0.1.{number % 16 + 1}", 0)
        self.files = {}
        self.reader = self.writer = None

    async def run(self, pause, ended):
        # not all in the same moment
        await asyncio.sleep(self.rng.uniform(0, pause))
        while not ended():
            try:
                async with asyncio.timeout(PATIENCE):
                    await self.login()
                for _ in range(self.rng.randrange(10, 60)):
                    if ended():
                        break
                    await self.one_operation(pause)
                async with asyncio.timeout(PATIENCE):
                    await self.expect("QUIT", 221)
            except Vanished:
                pass
            except (Unexpected, OSError, EOFError, ValueError, TimeoutError) as error:
                self.results.failures.append(f"session {self.number}: {error!r}")
            finally:
                if self.writer:
                    self.writer.close()
                    with contextlib.suppress(OSError, TimeoutError):
                        async with asyncio.timeout(10):
                            await self.writer.wait_closed()

    async def one_operation(self, pause):
        kind = self.rng.choices(list(MIX), list(MIX.values()))[0]
        began = time.monotonic()
        async with asyncio.timeout(PATIENCE):
            await getattr(self, kind.replace(" ", "_"))()
        self.results.count(kind, time.monotonic() - began)
        await asyncio.sleep(self.rng.expovariate(1 / pause))

    async def login(self):
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port, local_addr=self.address)
        await self.reply(220)
        if self.tls:
            await self.expect("AUTH TLS", 234)
            await self.writer.start_tls(self.tls)
        await self.expect("USER load", 331)
        await self.expect("PASS secret", 230)
        if self.tls:
            await self.expect("PBSZ 0", 200)
            await self.expect("PROT P", 200)
        await self.expect("TYPE I", 200)
        # it is there from the second session on
        await self.expect(f"MKD s{self.number}", 257, 550)
        await self.expect(f"CWD s{self.number}", 250)

    async def expect(self, line, *codes):
        self.writer.write(f"{line}\r\n".encode())
        await self.writer.drain()
        return await self.reply(*codes, after=line)

    async def reply(self, *codes, after="the connection"):
        while True:
            line = (await self.reader.readline()).decode()
            if not line:
                raise Unexpected(f"{after}: the control connection ended")
            if re.match(r"\d{3} ", line):
                break
        if int(line[:3]) not in codes:
            raise Unexpected(f"{after}: {line.strip()}")
        return line

    async def data(self, line):
        """The data connection of a transfer that has begun."""
        port = int((await self.expect("EPSV", 229)).split("|")[3])
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=self.address)
        await self.expect(line, 150)
        if self.tls:
            await writer.start_tls(self.tls)
        return reader, writer

    async def send(self, line, content):
        _, writer = await self.data(line)
        for start in range(0, len(content), 64 * KIB):
            writer.write(content[start:start + 64 * KIB])
            await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        await self.reply(226, after=line)

    async def receive(self, line):
        reader, writer = await self.data(line)
        digest, length = hashlib.sha1(), 0
        while chunk := await reader.read(256 * KIB):
            digest.update(chunk)
            length += len(chunk)
        writer.close()
        await self.reply(226, after=line)
        return length, digest.digest()

    def content(self, low, high):
        size = self.rng.randrange(low, high)
        start = self.rng.randrange(len(POOL) - size)
        return memoryview(POOL)[start:start + size]

    async def store_as(self, name, content):
        self.files.pop(name, None)
        await self.send(f"STOR {name}", content)
        self.files[name] = (len(content), hashlib.sha1(content).digest())

    def some_file(self, large):
        names = [name for name in self.files if name.startswith("large") == large]
        return self.rng.choice(names) if names else None

    async def store(self):
        await self.store_as(f"f{self.rng.randrange(12)}", self.content(1, 100 * KIB))

    async def store_large(self):
        await self.store_as(f"large{self.rng.randrange(2)}", self.content(5 * MIB, 20 * MIB))

    async def fetch(self, large=False):
        name = self.some_file(large)
        if name and await self.receive(f"RETR {name}") != self.files[name]:
            raise Unexpected(f"RETR {name}: other bytes")

    async def fetch_large(self):
        await self.fetch(large=True)

    async def list(self):
        await self.receive(self.rng.choice(["LIST", "NLST", "MLSD"]))

    async def rename(self):
        name, to = self.some_file(False), f"f{self.rng.randrange(12)}"
        if name and name != to:
            await self.expect(f"RNFR {name}", 350)
            self.files.pop(to, None)
            was = self.files.pop(name)
            await self.expect(f"RNTO {to}", 250)
            self.files[to] = was

    async def delete(self):
        if name := self.some_file(False):
            del self.files[name]
            await self.expect(f"DELE {name}", 250)

    async def cut_store(self):
        """What becomes of the file is the gateway's settings' business: nothing is expected of it."""
        name = self.rng.choice(["f0", "f1", "large0"])
        self.files.pop(name, None)
        _, writer = await self.data(f"STOR {name}")
        writer.write(self.content(1, 300 * KIB))
        await asyncio.sleep(self.rng.uniform(0, 0.3))
        reset(writer)
        await self.reply(226, 426, 451, 425, after="an upload that was cut")

    async def cut_fetch(self):
        if name := self.some_file(True) or self.some_file(False):
            reader, writer = await self.data(f"RETR {name}")
            await reader.read(1000)
            reset(writer)
            await self.reply(226, 426, 451, 425, after="a download that was cut")

    async def vanish(self):
        """Without a word, in the middle of an upload."""
        self.files.pop("f2", None)
        _, writer = await self.data("STOR f2")
        writer.write(self.content(1, 100 * KIB))
        reset(writer)
        reset(self.writer)
        raise Vanished

    async def rest(self):
        await asyncio.sleep(self.rng.uniform(5, 15))


class Results:
    def __init__(self):
        self.failures, self.total = [], collections.Counter()
        self.window = []

    def count(self, kind, seconds):
        self.total[kind] += 1
        if kind in SMALL:
            self.window.append(seconds)

    def take_window(self):
        window, self.window = sorted(self.window), []
        return window


def percentile(values, part):
    """Of sorted values."""
    return values[min(len(values) - 1, int(len(values) * part))] if values else 0.0


# ---- the gateway and its store ----


def metrics(admin):
    """Sums of all samples of each metric."""
    with socket.create_connection(("127.0.0.1", admin), timeout=30) as connection:
        connection.sendall(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")
        text = connection.makefile("rb").read().decode()
    sums = collections.Counter()
    for name, value in re.findall(r"^(\w+)(?:\{[^}]*\})? (\S+)$", text, re.MULTILINE):
        sums[name] += float(value)
    return sums


@contextlib.contextmanager
def running(program, env, log, admin):
    with open(log, "wb") as output:
        process = subprocess.Popen([program, "serve"], stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                                   env={"PATH": os.environ["PATH"], **env}, cwd=log.parent)
    try:
        wait_until(lambda: http_status(admin, "/readyz") == 200, f"{log.name}{indented(log.read_text(errors='replace'))}", 60,
                   alive=lambda: process.poll() is None)
        yield process
    finally:
        end(process, 30)


def settings(directory, program):
    """Environments of the store and of the gateway, and their ports."""
    first = free_ports(8 + 128)
    keys = {"COSGATE_STORAGE__ACCESS_KEY_ID": ACCESS_KEY, "COSGATE_STORAGE__SECRET_ACCESS_KEY": SECRET_KEY,
            "COSGATE_STORAGE__BUCKET": BUCKET, "COSGATE_STORAGE__ENDPOINT": f"http://127.0.0.1:{first}"}
    store = {**keys, "COSGATE_STORAGE__PROVIDER": "embedded", "COSGATE_STORAGE__DATA_DIR": str(directory / "data"),
             "COSGATE_LISTEN": f"127.0.0.1:{first + 1}", "COSGATE_ADMIN__LISTEN": f"127.0.0.1:{first + 2}",
             "COSGATE_PASSIVE__PORTS": f"{first + 3}"}
    hashed = subprocess.run([program, "hash-password"], input=b"secret\n", capture_output=True, check=True,
                            env={"PATH": os.environ["PATH"]}).stdout.decode().strip()
    gateway = {**keys, "COSGATE_STORAGE__PROVIDER": "s3", "COSGATE_LISTEN": f"127.0.0.1:{first + 4}",
               "COSGATE_ADMIN__LISTEN": f"127.0.0.1:{first + 5}", "COSGATE_PASSIVE__PORTS": f"{first + 8}-{first + 135}",
               "COSGATE_USERS": json.dumps([{"name": "load", "password_hash": hashed}]), "COSGATE_TLS__SELF_SIGNED": "true",
               "COSGATE_UPLOAD__MIN_PART_SIZE": "5MiB", "COSGATE_SESSIONS__MAX_PER_IP": "100"}
    return store, gateway, {"s3": first, "store": first + 2, "control": first + 4, "admin": first + 5}


FIELDS = ["seconds", "sessions", "resident_mib", "descriptors", "tasks", "operations", "p50_ms", "p95_ms", "p99_ms", "store_mib"]


def sample(ports, began, window):
    now, store = metrics(ports["admin"]), metrics(ports["store"])
    return {
        "seconds": round(time.monotonic() - began, 1), "sessions": int(now["cosgate_sessions"]),
        "resident_mib": round(now["process_resident_memory_bytes"] / MIB, 1), "descriptors": int(now["process_open_fds"]),
        "tasks": int(now["cosgate_tasks"]), "operations": len(window),
        **{f"p{part}_ms": round(1000 * percentile(window, part / 100), 1) for part in (50, 95, 99)},
        "store_mib": round(store["process_resident_memory_bytes"] / MIB, 1),
    }


async def load(options, ports, results):
    """All sessions until the time is over; returns the samples and the latencies of each."""
    began = time.monotonic()
    ended = lambda: time.monotonic() - began > options.seconds  # noqa: E731
    sessions = [Session(number, ports["control"], options.seed, results) for number in range(options.sessions)]
    tasks = [asyncio.create_task(session.run(options.pause, ended)) for session in sessions]
    samples, windows = [], []
    while not ended():
        await asyncio.sleep(options.every)
        window = results.take_window()
        row = await asyncio.to_thread(sample, ports, began, window)
        samples.append(row)
        windows.append(window)
        if len(samples) % max(1, int(30 / options.every)) == 0:
            print("   " + ", ".join(f"{name} {value}" for name, value in row.items()), flush=True)
    await asyncio.gather(*tasks)
    return samples, windows


# ---- the verdict ----


def verdict(samples, windows, results, limits=LIMITS, latency=(1.5, 0.05)):
    """What is not as it should be, and the numbers of the report. `latency` is the growth of the 99th percentile that is none: a factor,
    and seconds."""
    faults, report = [], []
    if results.failures:
        faults.append(f"{len(results.failures)} failures, such as {results.failures[:5]}")
    half = samples[len(samples) // 2:]
    seconds = [row["seconds"] for row in half]
    for name, (part, least) in limits.items():
        values = [row[name] for row in half]
        slope = statistics.linear_regression(seconds, values).slope
        rise = slope * (seconds[-1] - seconds[0])
        limit = max(part * statistics.mean(values), least)
        report.append((name, f"{statistics.mean(values):.1f} ({min(values)} to {max(values)})", f"{rise:+.1f} (limit {limit:.0f})"))
        if rise > limit:
            faults.append(f"{name} rises by {rise:.1f} in the last half")
    quarter = len(windows) // 4
    second, last = (sorted(sum(part, [])) for part in (windows[quarter:2 * quarter], windows[3 * quarter:]))
    before, after = percentile(second, 0.99), percentile(last, 0.99)
    limit = max(latency[0] * before, before + latency[1])
    report.append(("p50, p99 of small operations, ms", f"{1000 * percentile(last, 0.5):.0f}, {1000 * after:.0f}",
                   f"second quarter {1000 * before:.0f} (limit {1000 * limit:.0f})"))
    if after > limit:
        faults.append(f"p99 is {1000 * after:.0f} ms, and was {1000 * before:.0f} ms")
    return faults, report


def leftovers(ports, idle, options):
    """What is not as it was before the load, when all sessions are gone."""
    # connections to the store are kept for a while, each with a task of its own
    slack = options.sessions // 2

    def remains():
        now = metrics(ports["admin"])
        zero = ["cosgate_sessions", "cosgate_passive_reservations", "cosgate_buffer_memory_used_bytes"]
        found = {name: now[name] for name in zero if now[name]}
        found |= {name: (idle[name], now[name]) for name in ["cosgate_tasks", "process_open_fds"] if now[name] > idle[name] + slack}
        return found

    deadline = time.monotonic() + 60
    while (found := remains()) and time.monotonic() < deadline:
        time.sleep(0.5)
    faults = [f"after the load: {found}"] if found else []
    unfinished = S3(ports["s3"]).unfinished_uploads()
    return faults + ([f"unfinished uploads: {unfinished}"] if unfinished else [])


def draw(samples, file):
    """Three panels, one below the other: memory, descriptors and tasks, latencies."""
    width, height, left = 640, 120, 56
    panels = [("resident MiB", ["resident_mib", "store_mib"]), ("descriptors, tasks", ["descriptors", "tasks"]),
              ("ms: p50, p95, p99", ["p50_ms", "p95_ms", "p99_ms"])]
    colours = ["#1f6feb", "#d29922", "#cf222e"]
    end = samples[-1]["seconds"]
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width + left + 10}" height="{len(panels) * (height + 30) + 10}" '
           'font-family="sans-serif" font-size="11">', '<rect width="100%" height="100%" fill="white"/>']
    for number, (title, names) in enumerate(panels):
        top = number * (height + 30) + 20
        most = max(row[name] for row in samples for name in names) * 1.1 or 1
        out.append(f'<text x="{left}" y="{top - 6}">{title}</text>')
        out.append(f'<path d="M{left} {top}v{height}h{width}" fill="none" stroke="#888"/>')
        for part in (0.5, 1):
            out.append(f'<text x="{left - 4}" y="{top + height * (1 - part) + 8:.0f}" text-anchor="end">{most * part:.0f}</text>')
        for name, colour in zip(names, colours):
            points = " ".join(f"{left + width * row['seconds'] / end:.0f},{top + height * (1 - row[name] / most):.0f}" for row in samples)
            out.append(f'<polyline points="{points}" fill="none" stroke="{colour}"><title>{name}</title></polyline>')
    out.append(f'<text x="{left + width}" y="{len(panels) * (height + 30) + 4}" text-anchor="end">{end / 60:.0f} min</text></svg>')
    file.write_text("\n".join(out) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gateway", type=Path)
    parser.add_argument("--short", action="store_true", help="the form of CI: 60 s, 60 sessions")
    parser.add_argument("--seconds", type=float, default=1200)
    parser.add_argument("--sessions", type=int, default=200)
    parser.add_argument("--pause", type=float, default=4, help="mean pause of a session between two operations, seconds")
    parser.add_argument("--every", type=float, default=5, help="seconds between two samples")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--svg", type=Path)
    options = parser.parse_args()
    if options.short:
        options.seconds, options.sessions, options.every, options.pause = 60, 60, 2, 2
    program = options.gateway.resolve()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 8192)), hard))
    print(f"seed {options.seed}: {options.sessions} sessions, {options.seconds:.0f} s", flush=True)
    results = Results()
    with tempfile.TemporaryDirectory(prefix="cosgate-soak.") as directory:
        directory = Path(directory)
        store, gateway, ports = settings(directory, program)
        with running(program, store, directory / "store.log", ports["store"]), \
                running(program, gateway, directory / "gateway.log", ports["admin"]) as process:
            idle = metrics(ports["admin"])
            samples, windows = asyncio.run(load(options, ports, results))
            faults, report = verdict(samples, windows, results, *((SHORT_LIMITS, (3, 1)) if options.short else ()))
            faults += leftovers(ports, idle, options)
            process.send_signal(signal.SIGTERM)
            if code := process.wait(60):
                faults.append(f"the gateway ended with {code}")
        log = (directory / "gateway.log").read_text(errors="replace")
        if panics := [line for line in log.splitlines() if "panicked" in line]:
            faults.append(f"panics: {panics[:3]}")
        if faults:
            print("\n".join(line[:300] for line in log.splitlines() if '"level":"ERROR"' in line or '"level":"WARN"' in line)[-3000:])
    if options.csv:
        with open(options.csv, "w", newline="") as output:
            writer = csv.DictWriter(output, FIELDS)
            writer.writeheader()
            writer.writerows(samples)
    if options.svg:
        draw(samples, options.svg)
    print("   " + ", ".join(f"{kind}: {count}" for kind, count in results.total.most_common()))
    for name, values, rise in report:
        print(f"   {name}: {values}; {rise}")
    for fault in faults:
        print(f"FAIL {fault}")
    print(f"{0 if faults else 1} passed, {len(faults)} failed")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
