"""The clients, each behind the same few verbs, each driven the way a person drives it.

A verb raises `Failure` when the client reports one. Whether the store holds the right bytes is for the checks to see.
"""

import dataclasses
import ftplib
import re
import time
import urllib.parse
from pathlib import Path

from support import Failure, expect, indented, run


@dataclasses.dataclass(frozen=True)
class Server:
    """Where to log in, and as whom; `home` is where a client may leave its own files."""

    port: int
    user: str
    password: str
    home: Path
    host: str = "127.0.0.1"

    @property
    def url(self):
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"ftp://{host}:{self.port}"


def parse_long_listing(text):
    """Names and sizes of an `ls -l` listing."""
    entries = {}
    for line in text.splitlines():
        fields = line.split(None, 8)
        if len(fields) == 9 and fields[0][0] in "-d":
            entries[fields[8]] = int(fields[4])
    return entries


class Curl:
    name = "curl"
    options = ()

    def __init__(self, server):
        self.server = server

    def run(self, *arguments, path="", seconds=60, check=True):
        credentials = f"{self.server.user}:{self.server.password}"
        command = ["curl", "-q", "-sS", "-v", "--max-time", seconds, "-u", credentials, *self.options, *arguments]
        url = [] if path is None else [self.url(path)]  # without one, the arguments name it
        return run([*command, *url], home=self.server.home, seconds=seconds + 5, check=check)

    def url(self, path):
        return f"{self.server.url}/{urllib.parse.quote(path)}"

    def upload(self, local, remote, seconds=60):
        self.run("-T", local, path=remote, seconds=seconds)

    def download(self, remote, local, seconds=60):
        self.run("-o", local, path=remote, seconds=seconds)

    def listing(self, directory):
        return parse_long_listing(self.run(path=f"{directory}/").stdout.decode())

    def mkdir(self, path):
        self.commands(f"MKD {path}")

    def rename(self, old, new):
        self.commands(f"RNFR {old}", f"RNTO {new}")

    def delete(self, path):
        self.commands(f"DELE {path}")

    def rmdir(self, path):
        self.commands(f"RMD {path}")

    def commands(self, *lines):
        self.run("-I", *(word for line in lines for word in ("-Q", line)))


class Lftp:
    name = "lftp"
    settings = ("cmd:fail-exit yes", "net:max-retries 1", "net:timeout 20", "xfer:clobber yes")

    def __init__(self, server):
        self.server = server

    def run(self, *lines, seconds=60, check=True):
        login = f"open -u {_quoted(self.server.user)},{_quoted(self.server.password)} {self.server.url}"
        script = [f"set {setting}" for setting in self.settings] + ["debug -o lftp.log 5", login, *lines]
        log = self.server.home / "lftp.log"
        log.unlink(missing_ok=True)
        try:
            return run(["lftp", "-c", "; ".join(script)], home=self.server.home, seconds=seconds, check=check)
        except Failure as failure:
            dialogue = log.read_text(errors="replace") if log.exists() else ""
            raise Failure(f"{failure}{indented(dialogue, 15)}") from failure

    def upload(self, local, remote, seconds=60):
        self.run(f"put {_quoted(local)} -o {_quoted(remote)}", seconds=seconds)

    def download(self, remote, local, seconds=60):
        self.run(f"get {_quoted(remote)} -o {_quoted(local)}", seconds=seconds)

    def listing(self, directory):
        return parse_long_listing(self.run(f"ls {_quoted(directory)}").stdout.decode())

    def mkdir(self, path):
        self.run(f"mkdir {_quoted(path)}")

    def rename(self, old, new):
        self.run(f"mv {_quoted(old)} {_quoted(new)}")

    def delete(self, path):
        self.run(f"rm {_quoted(path)}")

    def rmdir(self, path):
        self.run(f"rmdir {_quoted(path)}")


class Ncftp:
    """ncftpput, ncftpget and ncftpls for files, the interactive ncftp for the rest."""

    name = "ncftp"
    options = ()

    def __init__(self, server):
        self.server = server

    def run(self, program, *arguments, seconds=60, check=True, cwd=None):
        login = ["-u", self.server.user, "-p", self.server.password, "-P", self.server.port, "-t", 20, "-r", 1, *self.options]
        log = self.server.home / "ncftp.log"
        log.unlink(missing_ok=True)
        try:
            command = [program, "-d", log, *login, *arguments]
            return run(command, home=self.server.home, seconds=seconds, check=check, cwd=cwd)
        except Failure as failure:
            dialogue = log.read_text(errors="replace") if log.exists() else ""
            raise Failure(f"{failure}{indented(dialogue, 15)}") from failure

    def upload(self, local, remote, seconds=60):
        self.run("ncftpput", "-C", self.server.host, local, remote, seconds=seconds)

    def download(self, remote, local, seconds=60):
        self.run("ncftpget", "-C", self.server.host, remote, local, seconds=seconds)

    def listing(self, directory):
        # no percent signs here: ncftpls takes the path of a URL as it stands
        return parse_long_listing(self.run("ncftpls", "-l", f"{self.server.url}{directory}/").stdout.decode())

    def mkdir(self, path):
        self.interactive(f"mkdir {_quoted(path)}")

    def rename(self, old, new):
        self.interactive(f"rename {_quoted(old)} {_quoted(new)}")

    def delete(self, path):
        self.interactive(f"rm {_quoted(path)}")

    def rmdir(self, path):
        self.interactive(f"rmdir {_quoted(path)}")

    def interactive(self, *lines):
        server = self.server
        login = f"open -u {_quoted(server.user)} -p {_quoted(server.password)} -P {server.port} {server.host}"
        return run(["ncftp"], home=server.home, stdin="\n".join([login, *lines, "bye", ""]))


class Tnftp:
    """tnftp fed with a script. It always ends with 0, so its replies are read."""

    name = "tnftp"
    options = ("-p",)

    def __init__(self, server):
        self.server = server

    def run(self, *lines, seconds=60, check=True):
        login = f'user {self.server.user} "{self.server.password}"'
        script = "\n".join([f"open {self.server.host} {self.server.port}", login, "binary", *lines, "bye", ""])
        outcome = run(["tnftp", "-n", "-i", "-v", *self.options], home=self.server.home, stdin=script, seconds=seconds)
        refused = re.search(r"^(ftp: |[45]\d\d )", outcome.text, re.MULTILINE)
        expect(not (check and refused), f"tnftp met a refusal{indented(outcome.text)}")
        return outcome

    def upload(self, local, remote, seconds=60):
        self.run(f"put {_quoted(local)} {_quoted(remote)}", seconds=seconds)

    def download(self, remote, local, seconds=60):
        self.run(f"get {_quoted(remote)} {_quoted(local)}", seconds=seconds)

    def listing(self, directory):
        return parse_long_listing(self.run(f"ls {_quoted(directory)}").stdout.decode())

    def mkdir(self, path):
        self.run(f"mkdir {_quoted(path)}")

    def rename(self, old, new):
        self.run(f"rename {_quoted(old)} {_quoted(new)}")

    def delete(self, path):
        self.run(f"delete {_quoted(path)}")

    def rmdir(self, path):
        self.run(f"rmdir {_quoted(path)}")


class Ftplib:
    """Python's own client; a connection for each verb, like the other clients."""

    name = "ftplib"

    def __init__(self, server):
        self.server = server

    def connect(self, seconds=60):
        ftp = ftplib.FTP(timeout=seconds, encoding="utf-8")
        ftp.connect(self.server.host, self.server.port)
        ftp.login(self.server.user, self.server.password)
        return ftp

    def upload(self, local, remote, seconds=60, **arguments):
        with self.connect() as ftp, open(local, "rb") as file:
            ftp.storbinary(f"STOR {remote}", file, 1 << 20, callback=_time_limit(seconds), **arguments)

    def download(self, remote, local, seconds=60):
        in_time = _time_limit(seconds)
        with self.connect() as ftp, open(local, "wb") as file:
            ftp.retrbinary(f"RETR {remote}", lambda block: (in_time(block), file.write(block)), 1 << 20)

    def listing(self, directory):
        with self.connect() as ftp:
            facts = dict(ftp.mlsd(directory))
        return {name: int(fact.get("size", 0)) for name, fact in facts.items() if fact["type"] in ("file", "dir")}

    def mkdir(self, path):
        with self.connect() as ftp:
            ftp.mkd(path)

    def rename(self, old, new):
        with self.connect() as ftp:
            ftp.rename(old, new)

    def delete(self, path):
        with self.connect() as ftp:
            ftp.delete(path)

    def rmdir(self, path):
        with self.connect() as ftp:
            ftp.rmd(path)


def _time_limit(seconds):
    """Called for each block, so that a transfer that crawls ends as well as one that stands still."""
    deadline = time.monotonic() + seconds

    def in_time(_block):
        expect(time.monotonic() < deadline, f"ftplib: the transfer is not done within {seconds} s")

    return in_time


def _quoted(word):
    """One word for the command languages of lftp, ncftp and tnftp."""
    return '"' + str(word).replace("\\", "\\\\").replace('"', '\\"') + '"'


CLIENTS = [Curl, Lftp, Ncftp, Tnftp, Ftplib]
