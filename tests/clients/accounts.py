"""A users file with hashes that other programs made, swapped while a session goes on."""

import dataclasses
import io
import json
import os

from drivers import Curl, Ftplib
from gateway import PASSWORD
from support import expect, expect_equal, indented, make_file, run, scratch, sha256, wait_until


def crypt(directory, salt, password=PASSWORD):
    """A password hashed by the system's own crypt(3), which Perl lends."""
    script = "binmode STDOUT; print crypt($ENV{PASSWORD} // '', $ARGV[0]) // ''"
    command = ["env", f"PASSWORD={password}", "perl", "-e", script, salt]
    hashed = run(command, home=directory).stdout.decode()
    expect(hashed.startswith(salt), f"crypt(3) knows no {salt}: {hashed!r}")
    return hashed


def first_users(directory):
    return [
        {"name": "bcrypt", "password_hash": crypt(directory, "$2b$08$cosgatecosgatecosgateO"), "permissions": "RW",
         "home": "/accounts/bcrypt"},
        {"name": "sha512", "password_hash": crypt(directory, "$6$cosgateclients"), "permissions": "RW",
         "home": "/accounts/sha512"},
    ]


def write(file, users):
    """As an editor or kubelet does it: a new file takes the name of the old."""
    new = file.with_suffix(".new")
    new.write_text(json.dumps(users))
    os.replace(new, file)


def swapped(world, server, file):
    users = first_users(world.directory)
    for user in users:
        name = user["name"]
        with world.report.check("curl", f"a user of the users file with a {name} hash"), \
                scratch(world.directory) as local:
            source = make_file(local / "source", 1000)
            curl = Curl(dataclasses.replace(server, user=name))
            curl.upload(source, "/own.bin")
            world.expect_stored(f"/accounts/{name}/own.bin", sha256(source))
            outcome = Curl(dataclasses.replace(server, user=name, password="wrong")).run(check=False)
            expect_equal(outcome.code, 67, f"exit code with a wrong password{indented(outcome.text)}")
    with world.report.check("curl", "the users file is swapped: the next login counts, an open session goes on"), \
            Ftplib(dataclasses.replace(server, user="bcrypt")).connect() as session, \
            scratch(world.directory) as local:
        session.storbinary("STOR before", io.BytesIO(b"before"))
        seen = world.gateway.log().count("users_reloaded")
        write(file, [users[1], users[0] | {"name": "newcomer"}])
        wait_until(lambda: world.gateway.log().count("users_reloaded") > seen, "the new users file", 20)
        source = make_file(local / "source", 1000)
        Curl(dataclasses.replace(server, user="newcomer")).upload(source, "/new.bin")
        world.expect_stored("/accounts/bcrypt/new.bin", sha256(source))
        outcome = Curl(dataclasses.replace(server, user="bcrypt")).run(check=False)
        expect_equal(outcome.code, 67, f"exit code of a removed user{indented(outcome.text)}")
        session.storbinary("STOR after", io.BytesIO(b"after"))
        expect_equal(sorted(session.nlst()), ["after", "before", "new.bin", "own.bin"], "NLST of the open session")
