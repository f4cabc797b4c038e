"""Active mode: the gateway connects to the client, as `active.enabled` allows."""

import dataclasses

from drivers import Curl, Ftplib, Lftp, Ncftp, Tnftp
from gateway import PART_BYTES
from scenarios import round_trip
from secure import SecureFtplib, SecureLftp
from support import HAS_IPV6

FILES = [("empty.bin", 0), ("small.bin", 1000), ("parts.bin", 4 * PART_BYTES + 1)]


class ActiveCurl(Curl):
    """`--ftp-port -` takes the address of the control connection; with EPRT first, as it comes."""

    options = ("--ftp-port", "-")


class ActiveCurlByPort(Curl):
    options = ("--ftp-port", "127.0.0.1", "--disable-eprt")


class ActiveLftp(Lftp):
    # of itself it takes TLS where that is offered
    settings = (*Lftp.settings, "ftp:ssl-allow no", "ftp:passive-mode off", "ftp:auto-passive-mode off")


class ActiveNcftp(Ncftp):
    options = ("-E",)


class ActiveTnftp(Tnftp):
    options = ("-A",)


class ActiveFtplib(Ftplib):
    def connect(self, seconds=60):
        return _active(super().connect(seconds))


class ActiveSecureLftp(SecureLftp):
    @property
    def settings(self):
        return [*super().settings, "ftp:passive-mode off", "ftp:auto-passive-mode off"]


class ActiveSecureFtplib(SecureFtplib):
    def connect(self, seconds=60):
        return _active(super().connect(seconds))


def _active(ftp):
    ftp.set_pasv(False)
    return ftp


CLEAR = [
    ("EPRT", ActiveCurl), ("PORT", ActiveCurlByPort), ("PORT", ActiveLftp), ("PORT", ActiveNcftp),
    ("EPRT or PORT", ActiveTnftp), ("PORT", ActiveFtplib),
]
# Not curl: 7.88 of Debian 12 sends an active upload in the clear although TLS is agreed; the gateway refuses that with 425.
PROTECTED = [ActiveSecureLftp, ActiveSecureFtplib]


def every_client(world, server, selected):
    Ftplib(server).mkdir("/active")
    for how, kind in CLEAR:
        if kind.name in selected:
            check(world, kind(server), how)
    for kind in PROTECTED:
        if kind.name in selected:
            check(world, kind(server), "under TLS 1.3")
    if HAS_IPV6:
        over_ipv6 = dataclasses.replace(server, host="::1")
        for kind in (ActiveCurl, ActiveFtplib):
            if kind.name in selected:
                check(world, kind(over_ipv6), "EPRT over IPv6")


def check(world, client, how):
    with world.report.check(client.name, f"active mode, {how}: round trips of {len(FILES)} files"):
        for name, size in FILES:
            round_trip(world, client, "/active", f"{client.name} {how} {name}", size)
