"""The gateway's clock jumps under its work, forward and back: no upload fails, nothing that counts time notices, and a store with
another clock is none the worse for it. Needs Debian's package libfaketime."""

import contextlib
import ftplib
import hashlib
import io
import random
import time
from pathlib import Path

from gateway import PASSWORD, USER
from killed import connect
from support import MIB, Failure, expect, expect_equal, wait_until

LIBRARIES = list(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
# The library looks into the file so often.
NOTICED_AFTER = 1.5
LOCKED_SECONDS = 4

JUMPS = ["+2d", "-2d"]

SETTINGS = {
    "upload": {"min_part_size": "5MiB", "stale_after": "8s"},
    "auth": {"lockout": {"per_address": 3, "per_user": 3, "duration": f"{LOCKED_SECONDS}s", "delay": "10ms", "max_delay": "10ms"}},
    "sessions": {"idle_timeout": "60s"},
}


class Clock:
    """The wall clock of one gateway; the monotonic one goes on as it is."""

    def __init__(self, gateway):
        self.file = gateway.directory / "clock"
        self.file.write_text("+0")
        gateway.env = {
            "LD_PRELOAD": str(LIBRARIES[0]), "FAKETIME_TIMESTAMP_FILE": str(self.file), "FAKETIME_CACHE_DURATION": "1",
            "DONT_FAKE_MONOTONIC": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def jump(self, offset):
        new = self.file.with_suffix(".new")
        new.write_text(offset)
        new.replace(self.file)
        time.sleep(NOTICED_AFTER)


class Upload:
    """One that has begun, and goes on when it may."""

    def __init__(self, gateway, name, content):
        self.name, self.content = name, content
        self.ftp = connect(gateway)
        self.ftp.voidcmd("TYPE I")
        self.data = self.ftp.transfercmd(f"STOR {name}")
        self.sent = 0
        self.send_to(len(content) * 2 // 3)

    def send_to(self, end):
        self.data.sendall(self.content[self.sent:end])
        self.sent = end

    def finish(self):
        self.send_to(len(self.content))
        self.data.close()
        reply = self.ftp.voidresp()
        self.ftp.close()
        expect(reply.startswith("226"), reply)


def is_locked(gateway):
    """Of a user with the right password."""
    with contextlib.closing(ftplib.FTP(timeout=30, encoding="utf-8")) as ftp:
        ftp.connect("127.0.0.1", gateway.port)
        try:
            ftp.login(USER, PASSWORD)
        except (ftplib.error_perm, ftplib.error_temp):
            return True
    return False


def started_with_clock(world):
    clock = Clock(world.gateway)
    world.gateway.terminate(15)
    world.gateway.start()
    return clock


def takes_requests(store):
    """False while its clock is another one than this machine's."""
    with contextlib.suppress(Failure):
        store.unfinished_uploads()
        return True
    return False


def on_embedded(world):
    """The store's clock is the gateway's own."""
    gateway, report, rng = world.gateway, world.report, random.Random(5)
    clock = started_with_clock(world)
    for offset in JUMPS:
        with report.check("cosgate", f"uploads and sessions go on when the clock jumps by {offset}"):
            resting = connect(gateway)
            uploads = [Upload(gateway, f"jump{offset}-{size}", rng.randbytes(size)) for size in (100, 100_000, 16 * MIB, 11 * MIB)]
            wait_until(lambda: len(world.store.unfinished_uploads()) == 2, "parts are stored", 30)
            clock.jump(offset)
            # the sweeper looks every two seconds
            time.sleep(3)
            for upload in uploads:
                upload.finish()
            expect(resting.voidcmd("NOOP").startswith("200"), "the session that rested")
            names = resting.nlst()
            expect({upload.name for upload in uploads} <= set(names), f"listed: {names}")
            resting.close()
            # past the gateway only requests of this machine's time are taken
            clock.jump("+0")
            wait_until(lambda: takes_requests(world.store), "the clock is right again", 30)
            for upload in uploads:
                expect_equal(world.store.sha256(upload.name), hashlib.sha256(upload.content).hexdigest(), upload.name)
            expect_equal(world.store.unfinished_uploads(), [], "unfinished uploads")
    for offset in JUMPS:
        with report.check("cosgate", f"a lockout is as long as it should be when the clock jumps by {offset}"):
            for _ in range(3):
                with contextlib.closing(ftplib.FTP(timeout=30, encoding="utf-8")) as ftp, contextlib.suppress(ftplib.Error):
                    ftp.connect("127.0.0.1", gateway.port)
                    ftp.login(USER, "wrong")
            began = time.monotonic()
            clock.jump(offset)
            expect(is_locked(gateway), "the lockout is over at once")
            wait_until(lambda: not is_locked(gateway), "the end of the lockout", 3 * LOCKED_SECONDS)
            seconds = time.monotonic() - began
            expect(LOCKED_SECONDS - 1 < seconds < 2 * LOCKED_SECONDS, f"it lasted {seconds:.1f} s")
            clock.jump("+0")


def elsewhere(world):
    """The store has a clock of its own, and refuses what is signed with another time."""
    clock = started_with_clock(world)
    for offset in ["+1h", "+0"]:
        with world.report.check("cosgate", f"no command fails when the gateway's clock is set to {offset} of the store's"), \
                contextlib.closing(connect(world.gateway)) as ftp:
            ftp.voidcmd("TYPE I")
            ftp.storbinary("STOR clock", io.BytesIO(b"before"))
            clock.jump(offset)
            # the first request has no body, so that its refusal has no code
            expect_equal(ftp.size("clock"), 6, "SIZE")
            clock.jump("+0" if offset != "+0" else "+1h")
            ftp.storbinary("STOR clock", io.BytesIO(offset.encode()))
            clock.jump(offset)
            lines = []
            ftp.retrbinary("RETR clock", lines.append)
            expect_equal(b"".join(lines), offset.encode(), "RETR")
            ftp.delete("clock")
    clock.jump("+0")


CHECKS = {"embedded": on_embedded}
