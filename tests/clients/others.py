"""Libraries and programs beside the five clients that every check runs: Perl's Net::FTP, PHP's ftp extension, Python's aioftp, wput,
and what lftp, rclone and basic-ftp do with whole trees."""

import asyncio
import json
import os
import signal
import subprocess
import time
import urllib.parse
from pathlib import Path

import scenarios
from drivers import Lftp, parse_long_listing
from gateway import PART_BYTES
from secure import BasicFtp, Rclone
from support import Failure, environment, expect, expect_equal, indented, make_file, run, scratch, sha256
from transfers import contents, make_tree, resuming

SCRIPTS = Path(__file__).parent


class Scripted:
    """A library behind a script that does one verb for each start."""

    command = ()

    def __init__(self, server):
        self.server = server

    def run(self, verb, *arguments, seconds=60):
        server = self.server
        return run([*self.command, server.port, server.user, server.password, verb, *arguments], home=server.home, seconds=seconds)

    def upload(self, local, remote, seconds=60):
        self.run("upload", local, remote, seconds=seconds)

    def download(self, remote, local, seconds=60):
        self.run("download", remote, local, seconds=seconds)

    def mkdir(self, path):
        self.run("mkdir", path)

    def rename(self, old, new):
        self.run("rename", old, new)

    def delete(self, path):
        self.run("delete", path)

    def rmdir(self, path):
        self.run("rmdir", path)


class NetFtp(Scripted):
    name = "Net-FTP"
    command = ("perl", SCRIPTS / "net_ftp.pl")

    def listing(self, directory):
        return parse_long_listing(self.run("list", directory).stdout.decode())


class Php(Scripted):
    name = "PHP"
    command = ("php", "-n", "-d", "extension=ftp", SCRIPTS / "ftp.php")

    def listing(self, directory):
        entries = json.loads(self.run("list", directory).stdout)
        return {entry["name"]: int(entry.get("size", 0)) for entry in entries if entry["type"] in ("file", "dir")}


class Aioftp:
    name = "aioftp"

    def __init__(self, server):
        self.server = server

    def run(self, work, seconds=60):
        import aioftp

        async def session():
            server = self.server
            async with aioftp.Client.context(server.host, server.port, server.user, server.password, socket_timeout=20) as client:
                return await work(client)

        return asyncio.run(asyncio.wait_for(session(), seconds))

    def upload(self, local, remote, seconds=60):
        self.run(lambda client: client.upload(local, remote, write_into=True), seconds)

    def download(self, remote, local, seconds=60):
        self.run(lambda client: client.download(remote, local, write_into=True), seconds)

    def listing(self, directory):
        entries = self.run(lambda client: _all(client.list(directory)))
        return {path.name: int(facts.get("size", 0)) for path, facts in entries}

    def mkdir(self, path):
        self.run(lambda client: client.make_directory(path))

    def rename(self, old, new):
        self.run(lambda client: client.rename(old, new))

    def delete(self, path):
        self.run(lambda client: client.remove_file(path))

    def rmdir(self, path):
        self.run(lambda client: client.remove_directory(path))


async def _all(entries):
    return [entry async for entry in entries]


class PlainLftp(Lftp):
    # of itself it takes TLS where that is offered
    settings = (*Lftp.settings, "ftp:ssl-allow no")


class Wput:
    """It uploads, and nothing else."""

    name = "wput"

    def __init__(self, server):
        self.server = server

    def upload(self, local, remote, *options):
        server = self.server
        login = ":".join(urllib.parse.quote(word, safe="") for word in (server.user, server.password))
        url = f"ftp://{login}@{server.host}:{server.port}{urllib.parse.quote(remote)}"
        return run(["wput", "--disable-tls", "-t", "1", "-v", *options, local, url], home=server.home)


def every_client(world, server, selected):
    for kind in (NetFtp, Php, Aioftp):
        if kind.name in selected:
            client = kind(server)
            scenarios.files(world, client)
            scenarios.directories(world, client)
    for kind, checks in {
        NetFtp: [net_ftp_resume, net_ftp_tree], Php: [php_resume], Aioftp: [aioftp_tree], Wput: [wput],
        PlainLftp: [lftp_mirror_killed], Rclone: [rclone_check], BasicFtp: [basic_ftp_tree],
    }.items():
        if kind.name in selected:
            for check in checks:
                check(world, kind(server))


def net_ftp_resume(world, client):
    resuming(
        world, client, lambda path, partial: client.run("resume_download", path, partial), None,
        lambda source, path: client.run("append", source, path),
    )


def net_ftp_tree(world, client):
    with world.report.check(client.name, "rmdir with RECURSE removes a tree"), scratch(world.directory) as local:
        PlainLftp(client.server).run(f'mirror -R "{make_tree(local / "tree")}" /net-ftp')
        client.run("rmtree", "/net-ftp")
        expect_equal(world.store.keys("net-ftp"), {}, "keys after the removal")


def php_resume(world, client):
    resuming(
        world, client, lambda path, partial: client.run("resume_download", path, partial),
        lambda source, path: client.run("resume_upload", source, path),
        lambda source, path: client.run("append", source, path),
    )


def aioftp_tree(world, client):
    with world.report.check(client.name, "a tree up, down and away"), scratch(world.directory) as local:
        source = make_tree(local / "source")
        client.run(lambda ftp: ftp.upload(source, "/aioftp-tree", write_into=True))
        client.run(lambda ftp: ftp.download("/aioftp-tree", local / "back", write_into=True))
        expect_equal(contents(local / "back"), contents(source), "the tree that came back")
        client.run(lambda ftp: ftp.remove("/aioftp-tree"))
        expect_equal(world.store.keys("aioftp-tree"), {}, "keys after the removal")


def wput(world, client):
    with world.report.check(client.name, "files up, one goes on"), scratch(world.directory) as local:
        for what, name, size in scenarios.FILES:
            source = make_file(local / "source", size)
            client.upload(source, f"/wput/{name}")
            world.expect_stored(f"/wput/{name}", sha256(source))
        source = make_file(local / "source", 2 * PART_BYTES)
        partial = local / "partial"
        partial.write_bytes(source.read_bytes()[:PART_BYTES + 1000])
        client.upload(partial, "/wput/more.bin")
        said = client.upload(source, "/wput/more.bin").text
        expect("==> REST " in said, f"it sent all of it{indented(said)}")
        world.expect_stored("/wput/more.bin", sha256(source))


def lftp_mirror_killed(world, lftp):
    """Each way, killed in the middle and then told to go on (`--continue`), until the trees are alike."""
    with world.report.check(lftp.name, "mirror both ways, killed and continued"), scratch(world.directory) as local:
        source = make_tree(local / "source")
        for number in range(3):
            make_file(source / f"large {number}", 6 * PART_BYTES + number)
        back = local / "back"
        for what, command in [
            ("up", f'mirror -R --continue "{source}" /killed-mirror'), ("down", f'mirror --continue /killed-mirror "{back}"'),
        ]:
            kill_lftp(lftp, command, 1.5, what)
            lftp.run(command)
            before = transfers_in(world)
            expect(before > 0, "no transfer is found in the log")
            lftp.run(command)
            expect_equal(transfers_in(world), before, f"transfers after a run that has nothing to do, {what}")
        expect_equal(contents(back), contents(source), "the tree that came back")


def transfers_in(world):
    log = world.gateway.settled_log()
    return log.count('verb="STOR"') + log.count('verb="RETR"')


def kill_lftp(lftp, command, seconds, what):
    """Runs it at a rate at which it isn't done by then, and kills it."""
    server = lftp.server
    script = "; ".join([
        *(f"set {setting}" for setting in lftp.settings), "set net:limit-total-rate 20000000",
        f'open -u "{server.user}","{server.password}" {server.url}', command,
    ])
    process = subprocess.Popen(["lftp", "-c", script], env=environment(server.home), cwd=server.home, start_new_session=True)
    try:
        time.sleep(seconds)
        expect(process.poll() is None, f"{what}: lftp ended with {process.poll()} before it was killed")
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def rclone_check(world, rclone):
    with world.report.check(rclone.name, "copy, check with and without --download, sync away"), scratch(world.directory) as local:
        source = make_tree(local / "source")
        rclone.run("copy", source, "gateway:/rclone-tree", "--create-empty-src-dirs")
        for how in ([], ["--download"]):
            rclone.run("check", source, "gateway:/rclone-tree", *how)
        (source / "a" / "file 3").write_bytes(os.urandom(3000))
        try:
            rclone.run("check", source, "gateway:/rclone-tree", "--download")
        except Failure as failure:
            expect("1 differences found" in str(failure), str(failure))
        else:
            raise Failure("a file that differs was not found")
        rclone.run("purge", "gateway:/rclone-tree")
        expect_equal(world.store.keys("rclone-tree"), {}, "keys after purge")


def basic_ftp_tree(world, client):
    with world.report.check(client.name, "a tree up, down and away"), scratch(world.directory) as local:
        source = make_tree(local / "source")
        # Node often closes the data connection of an empty file in the middle of its handshake, see ftps.py
        for empty in [path for path in source.rglob("*") if path.is_file() and not path.stat().st_size]:
            empty.unlink()
        client.run("uploadTree", source, "/basic-ftp-tree")
        client.run("downloadTree", local / "back", "/basic-ftp-tree")
        expect_equal(contents(local / "back"), contents(source), "the tree that came back")
        client.run("removeTree", "/basic-ftp-tree")
        expect_equal(world.store.keys("basic-ftp-tree"), {}, "keys after the removal")


NAMES = [kind.name for kind in (NetFtp, Php, Aioftp, Wput)]
