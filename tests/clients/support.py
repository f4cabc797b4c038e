"""What every check needs: the report, a working directory, bounded subprocesses, ports and test data."""

import contextlib
import dataclasses
import hashlib
import os
import random
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

MIB = 1 << 20
GIB = 1 << 30


class Failure(Exception):
    """A check did not hold; the text says what was expected and what was seen."""


class Report:
    """Prints one line per check and counts them."""

    def __init__(self):
        self.store = "none"
        self.passed = 0
        self.failed = 0
        self.skipped = 0
        self.new_log = lambda: ""

    @contextlib.contextmanager
    def check(self, client, what):
        """Runs the body as one check: whatever it raises is a failure of this check, and the others go on."""
        self.new_log()  # what was logged before does not belong to this check
        began = time.monotonic()
        try:
            yield
        except Exception as error:  # a check must not end the others
            reason = str(error) if isinstance(error, Failure) else f"{type(error).__name__}: {error}"
            self.failed += 1
            self._line("FAILED", client, what, f": {reason}{self.new_log()}")
        else:
            self.passed += 1
            self._line("ok", client, what, f" ({time.monotonic() - began:.1f} s)")

    def skip(self, client, what, reason):
        self.skipped += 1
        self._line("skipped", client, what, f": {reason}")

    def close(self):
        """Prints the closing line and returns the exit code."""
        skipped = f", {self.skipped} skipped" if self.skipped else ""
        print(f"{self.passed} passed, {self.failed} failed{skipped}", flush=True)
        return 1 if self.failed or not self.passed else 0

    def _line(self, result, client, what, rest):
        print(f"{result} {self.store} {client} {what}{rest}", flush=True)


def expect(condition, text):
    if not condition:
        raise Failure(text)


def expect_equal(seen, expected, what):
    if seen != expected:
        raise Failure(f"{what}: expected {expected!r}, saw {seen!r}")


@dataclasses.dataclass
class Outcome:
    """How a program ended; `text` is its standard output and its standard error."""

    code: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self):
        return (self.stdout + b"\n" + self.stderr).decode(errors="replace")


def environment(home):
    """A plain environment: nothing of the caller's shell, proxies or start-up files changes a client's behaviour."""
    return {"PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": str(home), "LANG": "C.UTF-8", "TERM": "dumb"}


def run(command, *, home, stdin="", seconds=60, cwd=None, check=True):
    """Runs a program to its end, or ends it and everything that it started when its time is up."""
    command = [str(word) for word in command]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        cwd=cwd or home, env=environment(home), start_new_session=True,
    )
    try:
        stdout, stderr = process.communicate(stdin.encode(), timeout=seconds)
        hung = False
    except subprocess.TimeoutExpired:
        hung = True
    finally:
        # the group may outlive its leader; nothing of it is needed any more
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    if hung:
        stdout, stderr = process.communicate()
    outcome = Outcome(process.returncode, stdout, stderr)
    if hung:
        raise Failure(f"{command[0]} hung, ended after {seconds} s{indented(outcome.text)}")
    if check and outcome.code != 0:
        raise Failure(f"{command[0]} ended with {outcome.code}{indented(outcome.text)}")
    return outcome


def end(process, seconds=20):
    """SIGTERM, and SIGKILL for what is still there after so long."""
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def indented(text, lines=40):
    """The last lines of `text`, set apart from the line of the check."""
    kept = [line for line in text.replace("\r", "\n").split("\n") if line.strip()][-lines:]
    return "".join(f"\n    {line[:300]}" for line in kept)


def wait_until(condition, what, seconds, alive=lambda: True):
    """Polls until `condition` holds, its time is up, or there is nobody left who could make it true."""
    deadline = time.monotonic() + seconds
    while not condition():
        expect(alive(), f"{what}: the process ended")
        expect(time.monotonic() < deadline, f"{what}: not within {seconds} s")
        time.sleep(0.05)


def _is_free(port):
    families = [(socket.AF_INET, "127.0.0.1")] + ([(socket.AF_INET6, "::1")] if HAS_IPV6 else [])
    for family, address in families:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError:
                return False
    return True


def _has_ipv6():
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        return True
    return False


HAS_IPV6 = _has_ipv6()

# Below Linux's ephemeral ports (32768 and up), so that no outgoing connection takes one before its server binds it.
PORTS = range(18000, 32000)


def free_ports(count):
    """The first of `count` consecutive ports that are free on both loopback addresses."""
    for _ in range(200):
        first = random.randrange(PORTS.start, PORTS.stop - count)
        if all(_is_free(port) for port in range(first, first + count)):
            return first
    raise Failure(f"no {count} consecutive free ports in {PORTS.start}-{PORTS.stop}")


def http_status(port, path):
    """The status of a GET on loopback, or 0 when nobody answers."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
            return int(connection.makefile("rb").readline().split()[1])
    except (OSError, IndexError, ValueError):
        return 0


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def make_file(path, size):
    """A file of random bytes: a part that is lost, repeated or out of order shows in its checksum."""
    with open(path, "wb") as file:
        for offset in range(0, size, 8 * MIB):
            file.write(os.urandom(min(8 * MIB, size - offset)))
    return path


@contextlib.contextmanager
def scratch(parent, prefix="scratch"):
    """A directory that is gone afterwards."""
    with tempfile.TemporaryDirectory(dir=parent, prefix=f"{prefix}-", ignore_cleanup_errors=True) as name:
        yield Path(name)
