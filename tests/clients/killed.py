"""A gateway that dies by SIGKILL in the middle of 50 uploads, and what its next start finds: each file whole, the old one or
the new one, and nothing else."""

import contextlib
import ftplib
import hashlib
import io
import random
import threading

from gateway import PASSWORD, USER
from support import MIB, expect, wait_until

UPLOADS = 50
# After so many replies of 226 the gateway is killed; 0: when all uploads are half-way. Other stores are slower.
KILLS = {"embedded": [0, 25, 45]}
OTHER_KILLS = [25]
PATIENCE = 120

# What the embedded store keeps in its index.
INLINE_BYTES = 16 << 10

SETTINGS = {"upload": {"min_part_size": "5MiB"}, "sessions": {"max_per_ip": 100}}


class Half(io.BytesIO):
    """Content that waits at its half until all others have come to theirs."""

    def __init__(self, content, barrier):
        super().__init__(content)
        self.half, self.barrier = len(content) // 2, barrier

    def read(self, size=-1):
        if self.barrier and self.tell() >= self.half:
            barrier, self.barrier = self.barrier, None
            barrier.wait(PATIENCE)
        return super().read(size)


def connect(gateway):
    ftp = ftplib.FTP(timeout=PATIENCE, encoding="utf-8")
    ftp.connect("127.0.0.1", gateway.port)
    ftp.login(USER, PASSWORD)
    return ftp


def plan(number, rng):
    """Verb, the content that is there before, and what is sent."""
    kind = number % 5
    if kind == 0:
        return "STOR", None, rng.randbytes(rng.randrange(100, 40_000))
    if kind == 1:
        return "STOR", rng.randbytes(30_000), rng.randbytes(rng.randrange(100, 40_000))
    if kind == 2:
        return "STOR", None, rng.randbytes(6 * MIB + rng.randrange(MIB))
    if kind == 3:
        return "STOR", rng.randbytes(5 * MIB + 3), rng.randbytes(11 * MIB + rng.randrange(MIB))
    return "APPE", rng.randbytes(200_000), rng.randbytes(rng.randrange(100, 200_000))


def under_uploads(world, name):
    for kill in KILLS.get(name, OTHER_KILLS):
        with world.report.check("cosgate", f"killed after {kill} of {UPLOADS} uploads, each file is whole, and nothing else is left"):
            one_kill(world, name, kill)


def one_kill(world, store, kill):
    gateway, rng = world.gateway, random.Random(kill)
    plans = {f"k{kill}-{number}": plan(number, rng) for number in range(UPLOADS)}
    with contextlib.closing(connect(gateway)) as ftp:
        for name, (_, before, _) in plans.items():
            if before is not None:
                ftp.storbinary(f"STOR {name}", io.BytesIO(before))
    acknowledged, barrier = set(), threading.Barrier(UPLOADS + 1)

    def upload(name, verb, content):
        with contextlib.suppress(OSError, EOFError, ftplib.Error, threading.BrokenBarrierError), \
                contextlib.closing(connect(gateway)) as ftp:
            if ftp.storbinary(f"{verb} {name}", Half(content, barrier), blocksize=64 << 10).startswith("226"):
                acknowledged.add(name)

    threads = [threading.Thread(target=upload, args=(name, verb, sent)) for name, (verb, _, sent) in plans.items()]
    for thread in threads:
        thread.start()
    try:
        if kill:
            barrier.wait(PATIENCE)
            wait_until(lambda: len(acknowledged) >= kill, f"{kill} uploads", PATIENCE)
        else:
            wait_until(lambda: barrier.n_waiting == UPLOADS, "all uploads are half-way", PATIENCE)
    finally:
        gateway.kill()
        barrier.abort()
        for thread in threads:
            thread.join(PATIENCE)
    expect(not any(thread.is_alive() for thread in threads), "a client hangs, though the gateway is gone")

    # whoever sweeps looks for what has not moved for a while
    gateway.config["upload"] = gateway.config["upload"] | {"stale_after": "2s"}
    gateway.start()
    unfinished = len(world.store.unfinished_uploads())
    new = 0
    for name, (verb, before, sent) in plans.items():
        old = before and hashlib.sha256(before).hexdigest()
        after = hashlib.sha256((before if verb == "APPE" else b"") + sent).hexdigest()
        found = world.store.sha256(name)
        expect(found in (old, after), f"{verb} {name} is neither the old file nor the new one")
        expect(found == after or name not in acknowledged, f"{verb} {name} was acknowledged and is the old file")
        new += found == after
    expect(set(world.store.keys(f"k{kill}-")) <= plans.keys(), "there are other names")
    wait_until(lambda: not world.store.unfinished_uploads(), "no upload is left unfinished", 30)
    print(f"     {len(acknowledged)} had a 226 and {new} are new; {unfinished} uploads were left to the sweeper", flush=True)
    # the next clients find a gateway that works
    with contextlib.closing(connect(gateway)) as ftp:
        for name, (_, _, sent) in plans.items():
            ftp.storbinary(f"STOR {name}", io.BytesIO(sent))
    if store == "embedded":
        wait_until(lambda: no_body_is_left(world), "bodies that nothing names are gone", 30)
    with contextlib.closing(connect(gateway)) as ftp:
        for name in plans:
            ftp.delete(name)
    gateway.kill()
    del gateway.config["upload"]["stale_after"]
    gateway.start()
    expect(not world.store.keys(f"k{kill}-"), "a deleted file is back after another kill")
    if store == "embedded":
        expect(no_body_is_left(world), "bodies that nothing names are left")


def no_body_is_left(world):
    """True if the files of the embedded store have as many bytes as its objects have outside its index."""
    bodies = sum(file.stat().st_size for file in (world.directory / "data" / "blobs").rglob("*") if file.is_file())
    sizes = world.store.keys().values()
    return sum(max(0, size - INLINE_BYTES) for size in sizes) <= bodies <= sum(sizes)
