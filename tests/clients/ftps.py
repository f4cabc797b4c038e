"""FTPS: every client in both versions of TLS, FileZilla's habits, resumed sessions, and long runs of uploads."""

import contextlib
import dataclasses
import ftplib
import re

from drivers import Curl, Ftplib, Lftp
from gateway import PART_BYTES
from scenarios import round_trip
from secure import SECURE_CLIENTS, VERSIONS, FileZilla, SecureCurl, SecureFtplib, SecureLftp, make_certificates
from support import MIB, expect, expect_equal, indented, make_file, scratch, sha256

FILES = [("empty.bin", 0), ("small.bin", 1000), ("parts.bin", 20 * MIB)]
MANY = 500



def protected(world, server, selected):
    """Against a gateway that requires TLS for everything."""
    Ftplib.mkdir(SecureFtplib(server), "/ftps")
    for kind in SECURE_CLIENTS:
        if kind.name in selected:
            everything(world, kind, server)
    if "curl" in selected:
        unprotected(world, Curl(server))
        untrusted(world, SecureCurl(server), 60)
        many_by_curl(world, SecureCurl(server))
    if "lftp" in selected:
        unprotected(world, Lftp(server))
        untrusted(world, SecureLftp(server), None)
    if "ftplib" in selected:
        for version in VERSIONS:
            ftplib_session(world, SecureFtplib(dataclasses.replace(server, version=version)))
        many_by_ftplib(world, SecureFtplib(server))


def files_for(world, client):
    """An empty file by basic-ftp is refused: Node closes the data connection in the middle of its handshake, when there is
    nothing to send (the log says "tls handshake eof"), which nobody can tell from a connection that was cut."""
    if client.name != "basic-ftp":
        return FILES
    world.report.skip(client.name, f"an empty file, TLS {client.server.version}", "Node closes before its TLS handshake is done")
    return FILES[1:]


def everything(world, kind, server):
    """Files of no, one and several parts, up and down and in the listing, explicit and implicit."""
    modes = [(version, False) for version in VERSIONS]
    if kind is not SecureFtplib:  # it knows no implicit FTPS
        modes += [("1.3", True)]
    for version, implicit in modes:
        port = world.gateway.implicit_port if implicit else server.port
        client = kind(dataclasses.replace(server, port=port, version=version, implicit=implicit))
        how = "implicit" if implicit else "explicit"
        files = files_for(world, client)
        with world.report.check(client.name, f"{how} FTPS, TLS {version}: round trips of {len(files)} files"):
            for name, size in files:
                round_trip(world, client, "/ftps", f"{how} {version} {client.name} {name}", size)


def unprotected(world, client):
    with world.report.check(client.name, "no password and no file without TLS"):
        if client.name == "lftp":
            outcome = client.run("set ftp:ssl-allow no", "ls", check=False)
        else:
            outcome = client.run(check=False)
        expect(outcome.code != 0 and "530" in outcome.text, f"ended with {outcome.code}{indented(outcome.text)}")


def untrusted(world, client, code):
    """The checks above would prove little about certificates if the clients took any."""
    with world.report.check(client.name, "a certificate of an unknown authority is refused by the client"):
        with scratch(world.directory) as other:
            make_certificates(other)
            server = dataclasses.replace(client.server, authority=other / "ca.pem")
            outcome = type(client)(server).run(*(["ls"] if client.name == "lftp" else []), check=False)
        expect(outcome.code != 0, f"it was taken{indented(outcome.text)}")
        if code:
            expect_equal(outcome.code, code, f"exit code{indented(outcome.text)}")


def ftplib_session(world, client):
    """One FTP_TLS connection for everything; storbinary and retrbinary end with TLS's own close."""
    version = client.server.version
    with world.report.check(client.name, f"one FTP_TLS session, TLS {version}"), scratch(world.directory) as local:
        source = make_file(local / "source", 2 * PART_BYTES + 1)
        with client.connect() as ftp:
            expect_equal(ftp.sock.version(), f"TLSv{version}", "version")
            ftp.mkd(f"session {version}")
            ftp.cwd(f"session {version}")
            for name in ("one", "two"):
                with open(source, "rb") as file:
                    reply = ftp.storbinary(f"STOR {name}", file)
                expect(reply.startswith("226"), f"STOR: {reply}")
            expect_equal(sorted(ftp.nlst()), ["one", "two"], "NLST")
            with open(local / "back", "wb") as file:
                ftp.retrbinary("RETR two", file.write)
            expect_equal(sha256(local / "back"), sha256(source), "SHA-256 of the download")
            ftp.delete("one")
            expect_equal([name for name, _ in ftp.mlsd(facts=["size"]) if name not in (".", "..")], ["two"], "MLSD")


# ---- many uploads on one control connection

def many_by_curl(world, curl):
    """One process and one control connection; curl ends with an error at the first upload that fails."""
    with world.report.check(curl.name, f"{MANY} uploads in a row over TLS 1.3"), scratch(world.directory) as local:
        files = make_many(local)
        curl.mkdir("/many-curl")
        orders = [f'upload-file = "{file}"\nurl = "{curl.url(f"many-curl/{file.name}")}"\n' for file in files]
        (local / "uploads").write_text("fail-early\n" + "".join(orders))
        # curl waits for up to 0.2 s in each: it begins the handshake on the data connection before it sends STOR, and then
        # looks at that connection only, where a server answers after STOR
        dialogue = curl.run("-K", local / "uploads", path=None, seconds=300).text
        expect_equal(len(re.findall(r"^< 226 ", dialogue, re.MULTILINE)), MANY, "uploads answered with 226")
        expect_equal(len(re.findall(r"^> USER ", dialogue, re.MULTILINE)), 1, "control connections")
        expect_many(world, "many-curl/", files)


def many_by_ftplib(world, client):
    with world.report.check(client.name, f"{MANY} uploads in a row over TLS 1.3"), scratch(world.directory) as local:
        many(world, client, local, "many-ftplib")


def many(world, client, local, directory, count=MANY):
    files = make_many(local, count)
    with client.connect() as ftp:
        expect_equal(ftp.sock.version(), "TLSv1.3", "version")
        ftp.mkd(directory)
        for path in files:
            with open(path, "rb") as file:
                ftp.storbinary(f"STOR {directory}/{path.name}", file)
    expect_many(world, f"{directory}/", files)


def make_many(local, count=MANY):
    """Each of another size, so that a listing shows a file that is cut or that stands for another."""
    return [make_file(local / f"{number:03}", number * 37) for number in range(count)]


def expect_many(world, prefix, files):
    expected = {f"{prefix}{file.name}": file.stat().st_size for file in files} | {prefix: 0}
    stored = world.store.keys(prefix)
    wrong = sorted(key for key in expected.keys() | stored.keys() if expected.get(key) != stored.get(key))
    expect(not wrong, f"{len(wrong)} keys are missing, too many or of another size, such as {wrong[:3]}")
    for file in files[::50]:
        world.expect_stored(f"{prefix}{file.name}", sha256(file))


# ---- resumed sessions

def resuming(world, server, selected):
    """Against a gateway with `tls.session_reuse: required`."""
    FileZilla(server).mkdir("/resumed")
    for version in VERSIONS:
        versioned = dataclasses.replace(server, version=version)
        filezilla(world, FileZilla(versioned))
    with world.report.check("filezilla-like", "100 uploads that resume one session"), scratch(world.directory) as local:
        many(world, FileZilla(server), local, "many-filezilla", 100)
    if "ftplib" in selected:
        for version in VERSIONS:
            not_resumed(world, SecureFtplib(dataclasses.replace(server, version=version)))
    for kind in SECURE_CLIENTS:
        for version in VERSIONS:
            if kind.name in selected and kind is not SecureFtplib:
                required(world, kind(dataclasses.replace(server, version=version)))


def filezilla(world, client):
    """Its commands in its order: the facts it wants, a file with its time, the listing again, resuming, renaming."""
    version = client.server.version
    with world.report.check(client.name, f"session with PROT P, OPTS MLST and MFMT, TLS {version}"), \
            scratch(world.directory) as local:
        source = make_file(local / "source", 20 * MIB)
        directory = f"filezilla {version}"
        with client.connect() as ftp:
            ftp.mkd(directory)
            ftp.cwd(directory)
            ftp.voidcmd("TYPE I")
            for size in (0, 1000, 20 * MIB):
                name = f"{size}.bin"
                with open(source, "rb") as file:
                    ftp.storbinary(f"STOR {name}", Head(file, size))
                expect_equal(ftp.sendcmd(f"MFMT 20240229123456 {name}")[:3], "213", "the reply to MFMT")
                expect_equal(ftp.sendcmd(f"MDTM {name}"), "213 20240229123456", "MDTM after MFMT")
                listed = []
                ftp.retrlines("MLSD", listed.append)
                facts = [line for line in listed if line.endswith(f"; {name}")]
                expect(len(facts) == 1 and all(fact in facts[0].lower() for fact in ("type=file;", f"size={size};",
                                                                                     "modify=")), f"MLSD: {listed}")
            # a transfer that broke off goes on where it ended
            with open(source, "rb") as file:
                file.seek(1000)
                ftp.storbinary("APPE 1000.bin", file)
            world.expect_stored(f"/{directory}/1000.bin", sha256(source))
            with open(local / "back", "wb") as file:
                file.write(source.read_bytes()[:PART_BYTES])
                ftp.retrbinary(f"RETR {20 * MIB}.bin", file.write, rest=PART_BYTES)
            expect_equal(sha256(local / "back"), sha256(source), "SHA-256 of the download")
            ftp.rename("1000.bin", "renamed.bin")
            ftp.delete("renamed.bin")
            ftp.delete("0.bin")
        expect_equal(world.store.keys(f"{directory}/"), {f"{directory}/": 0, f"{directory}/{20 * MIB}.bin": 20 * MIB},
                     "keys at the end")


class Head:
    """The first bytes of a file."""

    def __init__(self, file, size):
        self.file, self.left = file, size

    def read(self, size):
        piece = self.file.read(min(size, self.left))
        self.left -= len(piece)
        return piece


def not_resumed(world, client):
    version = client.server.version
    with world.report.check(client.name, f"a data connection that resumes nothing gets 522, TLS {version}"), \
            client.connect() as ftp:
        with contextlib.suppress(OSError):  # the gateway may close before the client has sent all
            connection = ftp.transfercmd("STOR stranger.bin")
            with connection:
                connection.sendall(b"x" * 1000)
                connection.unwrap()
        try:
            reply = ftp.voidresp()
        except ftplib.error_perm as error:
            reply = str(error)
        expect(reply.startswith("522"), f"the reply: {reply}")
        expect_equal(ftp.pwd(), "/", "PWD afterwards")
        world.expect_stored("/stranger.bin", None)


def required(world, client):
    """What the guide says about the clients that resume."""
    version = client.server.version
    files = files_for(world, client)
    with world.report.check(client.name, f"session reuse required, TLS {version}: round trips of {len(files)} files"):
        for name, size in files:
            round_trip(world, client, "/resumed", f"{version} {client.name} {name}", size)
