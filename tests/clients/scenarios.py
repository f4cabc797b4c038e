"""What every client must be able to do, on every store."""

import dataclasses
from pathlib import Path

from drivers import CLIENTS, Ftplib, Lftp, Curl, Server
from gateway import PART_BYTES, PASSWORD, USER, Gateway
from s3 import S3
from support import GIB, Report, expect, expect_equal, make_file, scratch, sha256


@dataclasses.dataclass
class World:
    """A running gateway, the store behind it, and the report."""

    report: Report
    gateway: Gateway
    store: S3
    directory: Path

    def server(self, **other):
        return Server(self.gateway.port, USER, PASSWORD, self.directory, **other)

    def expect_stored(self, path, digest):
        """The object of the FTP path holds these bytes; None means that there is no such object."""
        expect_equal(self.store.sha256(path.lstrip("/")), digest, f"SHA-256 of {path} in the store")


FILES = [
    ("empty", "empty.bin", 0),
    ("one byte", "one.bin", 1),
    ("part size - 1", "below.bin", PART_BYTES - 1),
    ("part size", "exact.bin", PART_BYTES),
    ("part size + 1", "above.bin", PART_BYTES + 1),
    ("five parts and a bit", "many.bin", 5 * PART_BYTES + 4321),
    ("name with spaces", "a name with spaces.bin", 1000),
    ("name with non-ASCII letters", "Größe-數據-й.bin", 1000),
]

# A minute and a half for each store request chain on a loaded machine; a hang still ends in time.
LARGE_SECONDS = 300


def every_client(world, selected):
    for kind in CLIENTS:
        if kind.name in selected:
            client = kind(world.server())
            files(world, client)
            directories(world, client)


def files(world, client):
    """Up, seen in the listing, the same bytes in the store, the same bytes down."""
    home = f"/{client.name}-files"
    with world.report.check(client.name, "make a directory for files"):
        client.mkdir(home)
    for what, name, size in FILES:
        with world.report.check(client.name, f"round trip: {what}"):
            round_trip(world, client, home, name, size)
    with world.report.check(client.name, "an upload replaces what was there"), scratch(world.directory) as local:
        source = make_file(local / "source", 100)
        client.upload(source, f"{home}/many.bin")
        world.expect_stored(f"{home}/many.bin", sha256(source))


def round_trip(world, client, home, name, size):
    with scratch(world.directory) as local:
        source = make_file(local / "source", size)
        client.upload(source, f"{home}/{name}")
        world.expect_stored(f"{home}/{name}", sha256(source))
        expect_equal(client.listing(home).get(name), size, f"size of {name} in the listing of {home}")
        client.download(f"{home}/{name}", local / "back")
        expect_equal(sha256(local / "back"), sha256(source), "SHA-256 of the download")


def directories(world, client):
    """Directories and names come and go, and nothing is left in the store."""
    top = f"/{client.name}-tree"
    key = f"{client.name}-tree"
    with scratch(world.directory) as local:
        source = make_file(local / "source", 10_000)
        with world.report.check(client.name, "make nested directories and a file in them"):
            client.mkdir(top)
            client.mkdir(f"{top}/in ner")
            client.upload(source, f"{top}/in ner/file")
            world.expect_stored(f"{top}/in ner/file", sha256(source))
            expect("in ner" in client.listing(top), f"the directory is missing in the listing of {top}")
        with world.report.check(client.name, "rename a file"):
            client.rename(f"{top}/in ner/file", f"{top}/in ner/renamed Ä")
            world.expect_stored(f"{top}/in ner/renamed Ä", sha256(source))
            world.expect_stored(f"{top}/in ner/file", None)
        with world.report.check(client.name, "rename a directory"):
            client.rename(f"{top}/in ner", f"{top}/moved")
            expect_equal(
                world.store.keys(f"{key}/"),
                {f"{key}/": 0, f"{key}/moved/": 0, f"{key}/moved/renamed Ä": 10_000}, "keys after the renames",
            )
        with world.report.check(client.name, "delete the file and the directories"):
            client.delete(f"{top}/moved/renamed Ä")
            client.rmdir(f"{top}/moved")
            client.rmdir(top)
            expect_equal(world.store.keys(f"{key}/"), {}, "keys after the deletions")


def large(world, clients):
    """1 GiB each way. The source is made once; what is not needed any more goes at once."""
    with scratch(world.directory, "large") as local:
        source = make_file(local / "source", GIB)
        digest = sha256(source)
        for client in clients:
            path = f"/1 GiB by {client.name}"
            with world.report.check(client.name, "1 GiB: upload"):
                client.upload(source, path, LARGE_SECONDS)
            with world.report.check(client.name, "1 GiB: the same bytes in the store"):
                world.expect_stored(path, digest)
            with world.report.check(client.name, "1 GiB: download"):
                client.download(path, local / "back", LARGE_SECONDS)
                expect_equal(sha256(local / "back"), digest, "SHA-256 of the download")
            (local / "back").unlink(missing_ok=True)
            with world.report.check(client.name, "1 GiB: delete"):
                client.delete(path)
                world.expect_stored(path, None)


def large_clients(world, store, selected):
    """SeaweedFS takes about eleven CPU seconds for a GiB, so one client must do there."""
    kinds = [Curl, Lftp, Ftplib] if store == "embedded" else [Curl]
    return [kind(world.server()) for kind in kinds if kind.name in selected]
