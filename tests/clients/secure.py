"""The clients that speak FTPS, with the certificate verified, and the certificates for it."""

import configparser
import dataclasses
import ftplib
import json
import ssl
from pathlib import Path

from drivers import Curl, Ftplib, Lftp, Server
from support import expect, run

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def make_certificates(directory):
    """An authority in `ca.pem`, and a server certificate of it in `cert.pem` with `key.pem`."""
    settings = directory / "openssl.conf"
    settings.write_text("""
[req]
prompt = no
distinguished_name = name
[name]
CN = cosgate's client checks
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = IP:127.0.0.1, IP:::1, DNS:localhost
""")
    new = ["openssl", "req", "-x509", "-config", settings, "-days", 2, "-nodes",
           "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    run([*new, "-extensions", "authority", "-keyout", "ca.key", "-out", "ca.pem"], home=directory)
    run([*new, "-extensions", "server", "-CA", "ca.pem", "-CAkey", "ca.key", "-keyout", "key.pem", "-out", "cert.pem"],
        home=directory)
    return {"cert": str(directory / "cert.pem"), "key": str(directory / "key.pem")}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SecureServer(Server):
    """`authority` is whom the clients trust, `version` the only version of TLS that they speak."""

    authority: Path
    version: str = "1.3"
    implicit: bool = False
    node_modules: Path | None = None

    @property
    def url(self):
        return super().url.replace("ftp:", "ftps:") if self.implicit else super().url


class SecureCurl(Curl):
    @property
    def options(self):
        server = self.server
        explicit = [] if server.implicit else ["--ssl-reqd"]
        return ["--cacert", server.authority, f"--tlsv{server.version}", "--tls-max", server.version, *explicit]


class SecureLftp(Lftp):
    @property
    def settings(self):
        return [
            *super().settings, "ftp:ssl-force yes", "ftp:ssl-protect-data yes", "ftp:ssl-protect-list yes",
            "ssl:verify-certificate yes", "ssl:check-hostname yes", f'ssl:ca-file "{self.server.authority}"',
            f"ssl:priority NORMAL:-VERS-ALL:+VERS-TLS{self.server.version}",
        ]


class SecureFtplib(Ftplib):
    """`ftplib.FTP_TLS` as it comes: a full handshake on each data connection."""

    kind = ftplib.FTP_TLS

    def connect(self, seconds=60):
        ftp = self.kind(timeout=seconds, encoding="utf-8", context=self.context())
        ftp.connect(self.server.host, self.server.port)
        ftp.login(self.server.user, self.server.password)
        ftp.prot_p()
        return ftp

    def context(self):
        context = ssl.create_default_context(cafile=self.server.authority)
        context.minimum_version = context.maximum_version = VERSIONS[self.server.version]
        return context


class ResumingFtp(ftplib.FTP_TLS):
    """Resumes the control connection's TLS session on each data connection, and insists that the server does."""

    def ntransfercmd(self, cmd, rest=None):
        connection, size = ftplib.FTP.ntransfercmd(self, cmd, rest)
        try:
            connection = self.context.wrap_socket(connection, server_hostname=self.host, session=self.sock.session)
            expect(connection.session_reused, f"{cmd}: the TLS session was not resumed")
        except BaseException:
            connection.close()
            raise
        return connection, size


class FileZilla(SecureFtplib):
    """What FileZilla sends, as its documentation and its log show: the program itself has no command line."""

    name = "filezilla-like"
    kind = ResumingFtp

    def connect(self, seconds=60):
        ftp = self.kind(timeout=seconds, encoding="utf-8", context=self.context())
        ftp.connect(self.server.host, self.server.port)
        ftp.auth()
        ftplib.FTP.login(ftp, self.server.user, self.server.password)
        ftp.sendcmd("SYST")
        features = ftp.sendcmd("FEAT")
        for feature in ("UTF8", "MLST", "PBSZ", "PROT"):
            expect(f" {feature}" in features, f"FEAT names no {feature}: {features!r}")
        for line in ("CLNT FileZilla", "OPTS UTF8 ON", "PBSZ 0", "PROT P", "OPTS MLST type;size;modify;"):
            expect(ftp.sendcmd(line).startswith("200"), f"{line} is not answered with 200")
        ftp._prot_p = True
        return ftp


class BasicFtp:
    """Node's basic-ftp, through a script that does one verb."""

    name = "basic-ftp"

    def __init__(self, server):
        self.server = server

    def run(self, verb, *arguments, seconds=60):
        server = self.server
        order = {
            "module": str(server.node_modules / "basic-ftp"), "host": server.host, "port": server.port,
            "user": server.user, "password": server.password, "implicit": server.implicit,
            "authority": str(server.authority), "version": f"TLSv{server.version}",
            "verb": verb, "arguments": [str(argument) for argument in arguments],
        }
        script = Path(__file__).with_name("basic_ftp.cjs")
        return run(["node", script], home=server.home, stdin=json.dumps(order), seconds=seconds).stdout

    def upload(self, local, remote, seconds=60):
        self.run("upload", local, remote, seconds=seconds)

    def download(self, remote, local, seconds=60):
        self.run("download", remote, local, seconds=seconds)

    def listing(self, directory):
        return {entry["name"]: entry["size"] for entry in json.loads(self.run("list", directory))}


class Rclone:
    name = "rclone"

    def __init__(self, server):
        self.server = server

    def run(self, *arguments, seconds=60):
        server, remote = self.server, configparser.ConfigParser(interpolation=None)
        obscured = run(["rclone", "obscure", "-"], home=server.home, stdin=server.password).stdout.decode().strip()
        remote["gateway"] = {
            "type": "ftp", "host": server.host, "port": server.port, "user": server.user, "pass": obscured,
            "tls": server.implicit, "explicit_tls": not server.implicit, "disable_tls13": server.version == "1.2",
        }
        settings = server.home / "rclone.conf"
        with open(settings, "w", encoding="utf-8") as file:
            remote.write(file)
        once = ["--retries", 1, "--low-level-retries", 1, "--timeout", "20s", "-v"]
        # --ca-cert is for HTTP only; Go's own variable is the way to name an authority for FTP
        command = ["env", f"SSL_CERT_FILE={server.authority}", "rclone", "--config", settings, *once, *arguments]
        return run(command, home=server.home, seconds=seconds).stdout

    def upload(self, local, remote, seconds=60):
        self.run("copyto", local, f"gateway:{remote}", seconds=seconds)

    def download(self, remote, local, seconds=60):
        self.run("copyto", f"gateway:{remote}", local, seconds=seconds)

    def listing(self, directory):
        return {entry["Name"]: entry["Size"] for entry in json.loads(self.run("lsjson", f"gateway:{directory}"))}


SECURE_CLIENTS = [SecureCurl, SecureLftp, SecureFtplib, BasicFtp, Rclone]
