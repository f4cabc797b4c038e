"""Runs the gateway as a person would: a configuration file, a process, the admin port, a signal."""

import contextlib
import json
import os
import signal
import subprocess
import time

from support import HAS_IPV6, Failure, environment, expect, free_ports, http_status, indented, run, wait_until

USER = "alice"
PASSWORD = "pass word: söme#thing"
READER = "reader"
PART_BYTES = 5 << 20


class Gateway:
    """One `cosgate serve` with two users: one who may read and write, one who may only read the same files.

    `settings` are further keys of the configuration.
    """

    def __init__(self, program, directory, storage, **settings):
        self.program = program
        self.directory = directory
        first = free_ports(19)
        self.port, self.admin_port, self.implicit_port = first, first + 1, first + 18
        self.config = {
            "listen": [f"127.0.0.1:{self.port}"] + ([f"[::1]:{self.port}"] if HAS_IPV6 else []),
            "passive": {"ports": f"{first + 2}-{first + 17}", "accept_timeout": "5s"},
            "storage": storage,
            "upload": {"min_part_size": "5MiB"},
            "admin": {"listen": f"127.0.0.1:{self.admin_port}"},
            "log": {"format": "text", "level": "info"},
            "users": [
                {"name": USER, "password_hash": self._hash(PASSWORD), "permissions": "RW"},
                {"name": READER, "password_hash": self._hash(PASSWORD), "permissions": "R"},
            ],
        } | settings
        if "tls" in settings:
            self.config["tls"] = settings["tls"] | {"implicit_listen": f"127.0.0.1:{self.implicit_port}"}
        self.log_file = directory / "gateway.log"
        self.log_file.touch()
        self.log_seen = 0
        self.env = {}
        self.process = None

    def _hash(self, password):
        return run([self.program, "hash-password"], home=self.directory, stdin=password + "\n").stdout.decode().strip()

    def start(self):
        """Returns when the gateway says that it is ready for clients."""
        # JSON is YAML, so that nothing but the standard library is needed to write it
        config_file = self.directory / "cosgate.yaml"
        config_file.write_text(json.dumps(self.config, ensure_ascii=False))
        with open(self.log_file, "ab") as log:
            self.process = subprocess.Popen(
                [self.program, "serve", "--config", config_file], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                cwd=self.directory, env=environment(self.directory) | self.env, start_new_session=True,
            )
        try:
            wait_until(
                lambda: http_status(self.admin_port, "/readyz") == 200, "/readyz", 60,
                alive=lambda: self.process.poll() is None,
            )
        except Failure as failure:
            raise Failure(f"the gateway does not get ready: {failure}{self.new_log()}") from failure

    def terminate(self, seconds):
        """Sends SIGTERM and returns the exit code and the seconds that it took."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failure(f"still running {seconds} s after SIGTERM{self.new_log()}") from None
        return code, time.monotonic() - began

    def kill(self):
        """Ends the gateway, whatever it is doing."""
        if self.process and self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def log(self):
        return self.log_file.read_text(errors="replace")

    def settled_log(self):
        """The log once nothing more comes: a thread of its own writes the gateway's lines, and may come to them after the replies."""
        log = self.log()
        for _ in range(100):
            time.sleep(0.3)
            seen, log = log, self.log()
            if log == seen:
                return log
        raise Failure(f"the log goes on and on{self.new_log()}")

    def new_log(self):
        """The last lines that the gateway has logged since the last call."""
        with open(self.log_file, "rb") as log:
            log.seek(self.log_seen)
            new = log.read()
        self.log_seen += len(new)
        return indented(new.decode(errors="replace"), 15)


def expect_no_panic(log):
    lines = [line for line in log.splitlines() if "panicked" in line]
    expect(not lines, f"the gateway panicked{indented(chr(10).join(lines))}")
