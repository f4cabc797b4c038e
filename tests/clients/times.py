"""`rclone sync` twice: the second run copies nothing, whichever times listings give (`listing.times`)."""

import dataclasses
import json
import os
from datetime import datetime

from secure import Rclone
from support import expect_equal, make_file, scratch

FILES = 40
# far from the time of the upload, and not all alike
OLD = 1_000_000_000


def uploads(world):
    return world.gateway.settled_log().count('verb="STOR"')


def sync(world, client, local):
    """The number of files that one run of `rclone sync` has stored."""
    before = uploads(world)
    client.run("sync", local, "gateway:/synced")
    return uploads(world) - before


def twice(world, client, local):
    for number in range(FILES):
        file = make_file(local / f"file {number}", 1000 + number)
        os.utime(file, (OLD + number, OLD + number))
    expect_equal(sync(world, client, local), FILES, "files stored by the first run")
    expect_equal(sync(world, client, local), 0, "files stored by the second run")


def kept(world, server, selected):
    """`listing.times: metadata`: times arrive, and a file that has only another time is found."""
    if Rclone.name not in selected:
        return
    for version in ("1.2", "1.3"):
        client = Rclone(dataclasses.replace(server, version=version))
        with world.report.check(client.name, f"sync twice with listing.times: metadata, TLS {version}"), \
                scratch(world.directory) as local:
            client.run("mkdir", "gateway:/synced")
            client.run("delete", "gateway:/synced")
            twice(world, client, local)
            for entry in json.loads(client.run("lsjson", "gateway:/synced")):
                time = datetime.fromisoformat(entry["ModTime"][:19] + "+00:00").timestamp()
                expect_equal(time, OLD + int(entry["Name"].split()[1]), f"the time of {entry['Name']}")
            # of the same size, and a day younger
            changed = make_file(local / "file 7", 1007)
            os.utime(changed, (OLD + 86_400, OLD + 86_400))
            expect_equal(sync(world, client, local), 1, "files stored after one was changed")
            expect_equal(sync(world, client, local), 0, "files stored after that")


def by_size(world, server, selected):
    """`listing.times: store`: MFMT isn't announced, so that rclone compares sizes."""
    if Rclone.name not in selected:
        return
    client = Rclone(server)
    with world.report.check(client.name, "sync twice with listing.times: store"), scratch(world.directory) as local:
        twice(world, client, local)
