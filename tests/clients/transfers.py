"""What single clients do beyond plain transfers: data connections of each kind, resuming, appending, whole trees, refusals."""

import contextlib
import ftplib
import io
import os
import re
import signal
import subprocess
import time

from drivers import Curl, Ftplib, Lftp, Ncftp, Server, Tnftp, parse_long_listing
from gateway import PART_BYTES, PASSWORD, READER
from support import (
    HAS_IPV6, MIB, Failure, environment, expect, expect_equal, indented, make_file, scratch, sha256, wait_until,
)

# What is kept is read again below the part size and copied inside the store from the part size on; both must work.
KEPT = [("below the part size", 1000), ("above the part size", PART_BYTES + 77)]


def every_special(world, selected):
    for kind, checks in SPECIAL.items():
        if kind.name in selected:
            for check in checks:
                check(world, kind(world.server()))


def sent(dialogue, command):
    """True if the client sent this command, in the dialogue that `curl -v` shows."""
    return re.search(rf"^> {command}\b", dialogue, re.MULTILINE) is not None


# ---- kinds of data connections

def curl_data_connections(world, curl):
    with scratch(world.directory) as local:
        source = make_file(local / "source", 3 * MIB)
        for what, option, verb, other in [
            ("EPSV", [], "EPSV", "PASV"), ("PASV", ["--disable-epsv"], "PASV", "EPSV"),
        ]:
            with world.report.check(curl.name, f"up and down with {what}"):
                for transfer in (["-T", source], ["-o", local / "back"]):
                    dialogue = curl.run(*option, *transfer, path=f"{what}.bin").text
                    expect(sent(dialogue, verb) and not sent(dialogue, other), f"not {verb}{indented(dialogue)}")
                world.expect_stored(f"/{what}.bin", sha256(source))
                expect_equal(sha256(local / "back"), sha256(source), "SHA-256 of the download")


def over_ipv6(world, client):
    if not HAS_IPV6:
        world.report.skip(client.name, "round trip over IPv6", "this machine has no ::1")
        return
    with world.report.check(client.name, "round trip over IPv6"), scratch(world.directory) as local:
        source = make_file(local / "source", PART_BYTES + 5)
        client = type(client)(world.server(host="::1"))
        client.upload(source, "/over IPv6")
        world.expect_stored("/over IPv6", sha256(source))
        client.download("/over IPv6", local / "back")
        expect_equal(sha256(local / "back"), sha256(source), "SHA-256 of the download")


def curl_active_mode(world, curl):
    with world.report.check(curl.name, "active mode is refused with 502"):
        outcome = curl.run("-P", "-", check=False)
        expect(sent(outcome.text, "EPRT") and "< 502 " in outcome.text, f"no 502{indented(outcome.text)}")
        expect_equal(outcome.code, 30, "curl's exit code (30: the PORT command failed)")


def lftp_active_mode(world, lftp):
    with world.report.check(lftp.name, "active mode fails with an error"):
        outcome = lftp.run("set ftp:passive-mode no", "set ftp:auto-passive-mode no", "ls", check=False, seconds=30)
        expect(outcome.code != 0 and "502" in outcome.text, f"ended with {outcome.code}{indented(outcome.text)}")


def ncftp_active_mode(world, ncftp):
    with world.report.check(ncftp.name, "active mode fails with an error"):
        outcome = ncftp.run("ncftpls", "-E", f"{ncftp.server.url}/", check=False, seconds=30)
        expect(outcome.code != 0, f"ended with 0{indented(outcome.text)}")


# ---- resuming and appending

def curl_resume(world, curl):
    def resume_download(path, partial):
        curl.run("-C", "-", "-o", partial, path=path)

    def resume_upload(source, path):
        curl.run("-C", "-", "-T", source, path=path)

    def append(source, path):
        curl.run("--append", "-T", source, path=path)

    resuming(world, curl, resume_download, resume_upload, append)


def lftp_resume(world, lftp):
    def resume_download(path, partial):
        lftp.run(f'get -c "{path}" -o "{partial}"')

    def resume_upload(source, path):
        lftp.run(f'put -c "{source}" -o "{path}"')

    resuming(world, lftp, resume_download, resume_upload)


def ncftp_resume(world, ncftp):
    def resume_download(path, partial):
        # it resumes the file of the same name in the directory that it is told
        os.rename(partial, partial.with_name(path.strip("/")))
        ncftp.run("ncftpget", "-z", ncftp.server.host, str(partial.parent), path)
        os.rename(partial.with_name(path.strip("/")), partial)

    def append(source, path):
        named = source.with_name(path.strip("/"))
        os.rename(source, named)
        ncftp.run("ncftpput", "-A", ncftp.server.host, "/", named)
        os.rename(named, source)

    resuming(world, ncftp, resume_download, None, append)


def tnftp_resume(world, tnftp):
    def resume_download(path, partial):
        tnftp.run(f'reget "{path}" "{partial}"')

    def append(source, path):
        tnftp.run(f'append "{source}" "{path}"')

    resuming(world, tnftp, resume_download, None, append)


def ftplib_resume(world, client):
    def resume_download(path, partial):
        with client.connect() as ftp, open(partial, "ab") as file:
            ftp.retrbinary(f"RETR {path}", file.write, rest=file.tell())

    def resume_upload(source, path):
        with client.connect() as ftp, open(source, "rb") as file:
            file.seek(ftp.size(path))
            ftp.storbinary(f"STOR {path}", file, rest=file.tell())

    def append(source, path):
        with client.connect() as ftp, open(source, "rb") as file:
            ftp.storbinary(f"APPE {path}", file)

    resuming(world, client, resume_download, resume_upload, append)


def resuming(world, client, resume_download, resume_upload=None, append=None):
    """Each way to continue, from a first piece below and above the part size."""
    with scratch(world.directory) as local:
        whole = make_file(local / "whole", 2 * PART_BYTES + 4711)
        path = f"/{client.name}-resumed.bin"
        for where, kept in KEPT:
            first, second = local / "first", local / "second"
            data = whole.read_bytes()
            first.write_bytes(data[:kept])
            second.write_bytes(data[kept:])
            if resume_upload:
                with world.report.check(client.name, f"resume an upload, {where}"):
                    client.upload(first, path)
                    resume_upload(whole, path)
                    world.expect_stored(path, sha256(whole))
            if append:
                with world.report.check(client.name, f"append to a file, {where}"):
                    client.upload(first, path)
                    append(second, path)
                    world.expect_stored(path, sha256(whole))
            with world.report.check(client.name, f"resume a download, {where}"):
                client.upload(whole, path)
                partial = local / "partial"
                partial.write_bytes(data[:kept])
                resume_download(path, partial)
                expect_equal(sha256(partial), sha256(whole), "SHA-256 of the resumed download")


def curl_killed_upload(world, curl):
    """The client dies in the middle: what arrived is kept as one object, and the next run goes on from there."""
    with world.report.check(curl.name, "an upload killed in the middle is resumed"), scratch(world.directory) as local:
        source = make_file(local / "source", 4 * PART_BYTES)
        command = ["curl", "-q", "-sS", "--limit-rate", "8M", "-u", f"{curl.server.user}:{curl.server.password}",
                   "-T", source, f"{curl.server.url}/killed.bin"]
        process = subprocess.Popen(command, env=environment(world.directory), start_new_session=True)
        try:
            time.sleep(1.2)  # about ten of the twenty MiB; any moment before the end would do
            expect(process.poll() is None, f"curl ended with {process.poll()} before it was killed")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        wait_until(lambda: "killed.bin" in world.store.keys(), "the kept object", 20)
        kept = world.store.keys()["killed.bin"]
        expect(0 < kept < 4 * PART_BYTES, f"{kept} bytes were kept of {4 * PART_BYTES}")
        curl.run("-C", "-", "-T", source, path="killed.bin")
        world.expect_stored("/killed.bin", sha256(source))


# ---- many files

def make_tree(top):
    for directory, files in [("", 3), ("a", 12), ("a/b b", 12), ("c", 0), ("ö", 12)]:
        (top / directory).mkdir(parents=True, exist_ok=True)
        for number in range(files):
            make_file(top / directory / f"file {number}", number * 1000)
    return top


def contents(top):
    return {str(path.relative_to(top)): sha256(path) if path.is_file() else "directory" for path in top.rglob("*")}


def lftp_mirror(world, lftp):
    with scratch(world.directory) as local:
        source = make_tree(local / "source")
        with world.report.check(lftp.name, "mirror a tree, four transfers at a time"):
            lftp.run(f'mirror -R --parallel=4 "{source}" /mirrored')
            lftp.run(f'mirror --parallel=4 /mirrored "{local / "back"}"')
            expect_equal(contents(local / "back"), contents(source), "the tree that came back")
        with world.report.check(lftp.name, "remove a tree"):
            lftp.run("rm -r /mirrored")
            expect_equal(world.store.keys("mirrored"), {}, "keys after the removal")
        with world.report.check(lftp.name, "a download in four segments"):
            large = make_file(local / "large", 4 * PART_BYTES + 99)
            lftp.upload(large, "/segments.bin")
            lftp.run(f'pget -n 4 /segments.bin -o "{local / "segments"}"')
            expect_equal(sha256(local / "segments"), sha256(large), "SHA-256 of the download")


def ncftp_tree(world, ncftp):
    with world.report.check(ncftp.name, "a tree up and down"), scratch(world.directory) as local:
        source = make_tree(local / "tree")
        ncftp.run("ncftpput", "-R", ncftp.server.host, "/", source)
        (local / "back").mkdir()
        ncftp.run("ncftpget", "-R", ncftp.server.host, local / "back", "/tree")
        expect_equal(contents(local / "back" / "tree"), contents(source), "the tree that came back")


# ---- listings and refusals

def curl_names_only(world, curl):
    with world.report.check(curl.name, "NLST, MLSD, and the LIST of one file"), scratch(world.directory) as local:
        curl.mkdir("/listed")
        curl.upload(make_file(local / "source", 12), "/listed/x y")
        expect_equal(curl.run("--list-only", path="listed/").stdout.splitlines(), [b"x y"], "NLST")
        lines = curl.run("-X", "MLSD", path="listed/").stdout.decode().splitlines()
        facts = [line for line in lines if line.endswith("; x y")]
        expect(len(facts) == 1 and "size=12;" in facts[0].lower(), f"MLSD: {lines}")
        one = curl.run("-X", "LIST x y", path="listed/").stdout.decode()
        expect_equal(parse_long_listing(one), {"x y": 12}, "LIST of one file")


def curl_refusals(world, curl):
    wrong = Curl(Server(world.gateway.port, curl.server.user, "wrong", world.directory))
    reader = Curl(Server(world.gateway.port, READER, PASSWORD, world.directory))
    with world.report.check(curl.name, "a wrong password is refused"):
        outcome = wrong.run(check=False)
        expect_equal(outcome.code, 67, f"exit code (67: login denied){indented(outcome.text)}")
    with world.report.check(curl.name, "what is missing is 550"):
        outcome = curl.run("-o", world.directory / "missing", path="missing.bin", check=False)
        expect_equal(outcome.code, 78, f"exit code (78: no such file){indented(outcome.text)}")
    with world.report.check(curl.name, "a user who may only read"), scratch(world.directory) as local:
        source, other = make_file(local / "source", 10), make_file(local / "other", 11)
        curl.upload(source, "/protected")
        outcome = reader.run("-T", other, path="protected", check=False)
        expect("< 550 " in outcome.text and outcome.code != 0, f"the upload was not refused{indented(outcome.text)}")
        outcome = reader.run("-I", "-Q", "DELE /protected", check=False)
        expect("< 550 " in outcome.text, f"the deletion was not refused{indented(outcome.text)}")
        reader.download("/protected", local / "back")
        world.expect_stored("/protected", sha256(source))


def ftplib_session(world, client):
    """One connection for everything: directories, facts, a refused name, an abort, and it still works."""
    with world.report.check(client.name, "one session: CWD, PWD, CDUP, SIZE, MDTM, MFMT, NLST"), client.connect() as ftp:
        ftp.mkd("session dir")
        ftp.cwd("session dir")
        expect_equal(ftp.pwd(), "/session dir", "PWD")
        ftp.storbinary("STOR x", io.BytesIO(b"12345"))
        expect_equal(ftp.size("x"), 5, "SIZE")
        expect(re.fullmatch(r"213 \d{14}", ftp.sendcmd("MDTM x")[:18]), "MDTM is no time")
        expect_equal(ftp.sendcmd("MFMT 20200102030405 x")[:3], "213", "the reply to MFMT")
        expect_equal(ftp.sendcmd("MDTM x"), "213 20200102030405", "MDTM after MFMT")
        expect_equal(ftp.nlst(), ["x"], "NLST")
        expect_equal(ftp.sendcmd("CDUP")[:1], "2", "CDUP")
        expect_equal(ftp.pwd(), "/", "PWD after CDUP")
    with world.report.check(client.name, "refusals leave the session alive"), client.connect() as ftp:
        for line in ("SIZE missing", "RMD session dir", "CWD x/y", "RNTO x", "XYZZY", "DELE session dir"):
            try:
                reply = ftp.sendcmd(line)
            except ftplib.error_perm as error:
                reply = str(error)
            expect(reply.startswith("5"), f"{line}: {reply}")
        with contextlib.suppress(ftplib.error_perm):
            ftp.retrbinary("RETR missing", bytes)
            raise Failure("RETR of a missing file succeeded")
        expect_equal(ftp.pwd(), "/", "PWD")
    with world.report.check(client.name, "ABOR ends a download and the session goes on"), client.connect() as ftp:
        ftp.storbinary("STOR long.bin", io.BytesIO(os.urandom(6 * PART_BYTES)))
        data = ftp.transfercmd("RETR long.bin")
        data.recv(1000)
        reply = ftp.abort()
        data.close()
        if reply.startswith("426"):
            expect_equal(ftp.getresp()[:3], "226", "the reply after 426")
        ftp.delete("long.bin")


SPECIAL = {
    Curl: [curl_data_connections, over_ipv6, curl_active_mode, curl_resume, curl_killed_upload, curl_names_only,
           curl_refusals],
    Lftp: [over_ipv6, lftp_active_mode, lftp_resume, lftp_mirror],
    Ncftp: [ncftp_active_mode, ncftp_resume, ncftp_tree],
    Tnftp: [over_ipv6, tnftp_resume],
    Ftplib: [over_ipv6, ftplib_resume, ftplib_session],
}
