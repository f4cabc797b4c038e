"""Clients whose names are in GBK: Chinese cameras, recorders and Windows programs from before RFC 2640."""

import dataclasses
import ftplib
import os
import urllib.parse

import accounts
from drivers import Curl, Ftplib, Lftp, Ncftp, parse_long_listing
from scenarios import World, round_trip
from support import wait_until

CHARSET = "gbk"
USER, PASSWORD = "device", "of ASCII, which all clients can send"
# the bytes of the second, and of the directory, are UTF-8 as well: ѧУ, ͼƬ
FILES = [("停车场 1.bin", 1000), ("学校.bin", 10), ("plain.bin", 0), ("%E4%B8%AD.bin", 1), ("Привет.bin", 2)]


class LegacyCurl(Curl):
    def url(self, path):
        return f"{self.server.url}/{urllib.parse.quote(path, encoding=CHARSET)}"

    def listing(self, directory):
        return parse_long_listing(self.run(path=f"{directory}/").stdout.decode(CHARSET))

    def mkdir(self, path):
        self.commands(f"MKD {_as_it_is(path)}")


class LegacyLftp(Lftp):
    # of itself it takes TLS where that is offered
    settings = (*Lftp.settings, "ftp:ssl-allow no", "ftp:use-utf8 no", "ftp:charset GBK", "file:charset UTF-8")


class LegacyNcftp(Ncftp):
    """It knows nothing of encodings."""

    def upload(self, local, remote, seconds=60):
        super().upload(local, _as_it_is(remote), seconds)

    def download(self, remote, local, seconds=60):
        super().download(_as_it_is(remote), local, seconds)

    def listing(self, directory):
        url = f"{self.server.url}{_as_it_is(directory)}/"
        return parse_long_listing(self.run("ncftpls", "-l", url).stdout.decode(CHARSET))


class LegacyFtplib(Ftplib):
    def connect(self, seconds=60):
        ftp = ftplib.FTP(timeout=seconds, encoding=CHARSET)
        ftp.connect(self.server.host, self.server.port)
        ftp.login(self.server.user, self.server.password)
        return ftp


class ModernFtplib(Ftplib):
    """It says that it knows UTF-8, as FileZilla and WinSCP do."""

    def connect(self, seconds=60):
        ftp = super().connect(seconds)
        ftp.sendcmd("OPTS UTF8 ON")
        return ftp


def every_client(world, server, selected):
    hashed = accounts.crypt(world.directory, "$6$cosgateclients", PASSWORD)
    user = {"name": USER, "password_hash": hashed, "permissions": "RW", "home": "/device", "charset": CHARSET}
    accounts.write(world.directory / "users.yaml", [user])
    wait_until(lambda: "users_reloaded" in world.gateway.log(), "the user with a charset", 20)
    server = dataclasses.replace(server, user=USER, password=PASSWORD)
    home = Home(**vars(world))
    top = "/图片"
    LegacyFtplib(server).mkdir(top)
    for how, kind in [
        ("in GBK", LegacyCurl), ("in GBK", LegacyLftp), ("in GBK", LegacyNcftp), ("in GBK", LegacyFtplib),
        ("in UTF-8 where the charset is GBK", ModernFtplib),
    ]:
        if kind.name in selected:
            with world.report.check(kind.name, f"names {how}: round trips of {len(FILES)} files"):
                for name, size in FILES:
                    round_trip(home, kind(server), top, f"{kind.name} {how[:6]} {name}", size)


class Home(World):
    """The world as the device sees it, whose home is not the bucket's root."""

    def expect_stored(self, path, digest):
        super().expect_stored(f"/device{path}", digest)


def _as_it_is(name):
    """A name that is in GBK where the program gets it."""
    return os.fsdecode(name.encode(CHARSET))
