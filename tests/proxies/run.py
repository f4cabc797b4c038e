#!/usr/bin/env python3
"""Real proxies that speak the PROXY protocol before a real gateway: HAProxy (versions 1 and 2) and nginx's `stream` (version 1).

`run.py GATEWAY --stream-module FILE`. Each check prints `ok` or `FAILED` with the reason and the gateway's log; the last line counts
them. Everything listens on loopback: clients at 127.0.1.x connect to a proxy at 127.0.0.2, which connects from 127.0.0.9 to the
gateway at 127.0.0.1, each port to the same port there.

What it needs: a built gateway, curl, lftp, haproxy, nginx with its stream module (Debian's package libnginx-mod-stream).
"""

import sys

sys.dont_write_bytecode = True  # a checkout stays clean

import argparse
import concurrent.futures
import contextlib
import ftplib
import io
import itertools
import os
import signal
import ssl
import subprocess
import time
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "clients"))

from gateway import PASSWORD, USER, Gateway, expect_no_panic
from support import Failure, Report, expect, expect_equal, indented, run, scratch, wait_until

FRONT, BACK = "127.0.0.2", "127.0.0.9"
PUBLIC = "203.0.113.9"
CLIENTS = (f"127.0.1.{number}" for number in itertools.count(1))
BYTES = os.urandom(3 << 20)
MANY = 16


class World:
    """The gateway and what is known of it; `proxy` is the one that runs."""

    def __init__(self, options, directory):
        settings = {
            "proxy_protocol": {"trusted": [BACK], "masquerade": "true"},
            "log": {"format": "json", "level": "info"},
            "tls": {"self_signed": "true"},
        }
        self.options, self.directory = options, directory
        self.gateway = Gateway(options.gateway, directory, {"data_dir": str(directory / "data")}, **settings)
        first = self.gateway.port
        self.control, self.passive, self.implicit = first, (first + 2, first + 17), first + 18

    def logged(self, name, client):
        """Whether the log has a line with `name`, mostly a file's, from the address `client`."""
        lines = [line for line in self.gateway.log().splitlines() if name in line]
        return any(f'"client":"{client}:' in line for line in lines)

    def expect_logged(self, name, client):
        wait_until(lambda: self.logged(name, client), f"{name} is logged with {client}", 10)

    def expect_both_logged(self, name, client):
        for verb in ("STOR", "RETR"):
            self.expect_logged(f'"verb":"{verb}","path":"/{name}"', client)

    def metric(self, name):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.gateway.admin_port}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


@contextlib.contextmanager
def running(world, command, name):
    """A proxy, from when a client can reach the gateway by it; ended afterwards."""
    log = world.directory / f"{name.replace(' ', '-')}.log"
    with open(log, "wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True)

    def greets():
        with contextlib.suppress(OSError, EOFError, ftplib.Error), ftplib.FTP() as ftp:
            ftp.connect(FRONT, world.control, timeout=5)
            return True
        return False

    try:
        try:
            wait_until(greets, f"{name} lets clients through", 30, alive=lambda: process.poll() is None)
        except Failure as failure:
            raise Failure(f"{failure}{indented(log.read_text(errors='replace'))}") from failure
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def haproxy(world, name, send, *, ports=None, extra=""):
    """HAProxy with the words `send` for its server; `extra` are lines of the section, `ports` other words for the passive ports."""
    first, last = world.passive
    check = f"check inter 200ms port {world.control}"
    config = world.directory / "haproxy.cfg"
    config.write_text(f"""
global
    maxconn 500
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
listen control
    bind {FRONT}:{world.control},{FRONT}:{world.implicit}
    {extra}
    server gateway 127.0.0.1 source {BACK} {send} {check}
listen passive
    bind {FRONT}:{first}-{last}
    {extra}
    server gateway 127.0.0.1 source {BACK} {send if ports is None else ports}
""")
    return running(world, [world.options.haproxy, "-db", "-f", str(config)], name)


def nginx(world, name):
    first, last = world.passive
    config = world.directory / "nginx.conf"
    config.write_text(f"""
load_module {world.options.stream_module};
daemon off;
worker_processes 1;
pid {world.directory}/nginx.pid;
error_log stderr;
events {{ worker_connections 500; }}
stream {{
    server {{
        listen {FRONT}:{world.control};
        listen {FRONT}:{world.implicit};
        listen {FRONT}:{first}-{last};
        proxy_pass 127.0.0.1:$server_port;
        proxy_bind {BACK};
        proxy_protocol on;
    }}
}}
""")
    return running(world, [world.options.nginx, "-p", str(world.directory), "-e", "stderr", "-c", str(config)], name)


def curl(world, client, name, protection):
    """Up and down by curl, `protection` is clear, explicit or implicit."""
    source = world.directory / "source"
    source.write_bytes(BYTES)
    scheme, port = ("ftps", world.implicit) if protection == "implicit" else ("ftp", world.control)
    url = f"{scheme}://{FRONT}:{port}/{name}"
    tls = {"clear": [], "explicit": ["--ssl-reqd", "--insecure"], "implicit": ["--insecure"]}[protection]
    common = ["curl", "-q", "-sS", "--interface", client, "--user", f"{USER}:{PASSWORD}", *tls]
    run([*common, "-T", source, url], home=world.directory)
    return run([*common, url], home=world.directory).stdout


def lftp(world, client, name, protection):
    (world.directory / "source").write_bytes(BYTES)
    target = world.directory / "target"
    target.unlink(missing_ok=True)
    secure = protection == "explicit"
    script = "; ".join([
        f"set net:socket-bind-ipv4 {client}", "set net:timeout 20", "set net:max-retries 1", "set ssl:verify-certificate no",
        f"set ftp:ssl-allow {str(secure).lower()}", f"set ftp:ssl-force {str(secure).lower()}", "set ftp:ssl-protect-data true",
        f'open --user {USER} --password "{PASSWORD}" -p {world.control} {FRONT}',
        f"put source -o {name}", f"get {name} -o target",
    ])
    run(["lftp", "-c", script], home=world.directory)
    return target.read_bytes()


def connected(world, client, protection):
    """A session of ftplib's."""
    if protection == "clear":
        ftp = ftplib.FTP(timeout=60, source_address=(client, 0), encoding="utf-8")
    else:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        ftp = ftplib.FTP_TLS(timeout=60, source_address=(client, 0), encoding="utf-8", context=context)
    ftp.connect(FRONT, world.control)
    ftp.login(USER, PASSWORD)
    if protection == "explicit":
        ftp.prot_p()
    return ftp


def by_ftplib(world, client, name, protection):
    with connected(world, client, protection) as ftp:
        ftp.storbinary(f"STOR {name}", io.BytesIO(BYTES))
        taken = io.BytesIO()
        ftp.retrbinary(f"RETR {name}", taken.write)
        return taken.getvalue()


def transfers(world, report, proxy):
    """Every client up and down, in clear and under TLS, each from an address of its own."""
    for kind, protections in [(curl, ["clear", "explicit", "implicit"]), (lftp, ["clear", "explicit"]), (by_ftplib, ["clear", "explicit"])]:
        for protection in protections:
            with report.check(proxy, f"{kind.__name__.removeprefix('by_')} {protection}: up, down, and the log has the client's address"):
                client, name = next(CLIENTS), f"{proxy}-{kind.__name__}-{protection}".replace(" ", "-")
                expect(kind(world, client, name, protection) == BYTES, "what came down is not what went up")
                world.expect_both_logged(name, client)


def at_once(world, report, proxy):
    """Many sessions that wait for their data connections at the same time, on fewer ports."""
    def one(number):
        client, taken = f"127.0.2.{number}", io.BytesIO()
        protection = "explicit" if number % 2 else "clear"
        own = os.urandom(200_000)
        with connected(world, client, protection) as ftp:
            for turn in range(3):
                name = f"{proxy}-many-{number}-{turn}".replace(" ", "-")
                ftp.storbinary(f"STOR {name}", io.BytesIO(own))
                taken.seek(0)
                ftp.retrbinary(f"RETR {name}", taken.write)
                expect(taken.getvalue() == own, f"{name} is another's")
                world.expect_both_logged(name, client)

    with report.check(proxy, f"{MANY} clients at a time, each with its own bytes and address"):
        with concurrent.futures.ThreadPoolExecutor(MANY) as pool:
            list(pool.map(one, range(1, MANY + 1)))


def health_checks(world, report, proxy, checks=10):
    """HAProxy checks the control port every 200 ms all the while."""
    with report.check(proxy, f"{checks} health checks leave nothing in log and metrics"):
        client = next(CLIENTS)
        with connected(world, client, "clear"):
            # this very login, not one of those before it: a thread of its own writes the lines, and may come to it after the reply
            world.expect_logged("logged in", client)
            names = ["cosgate_proxy_headers_refused_total", "cosgate_logins_total", "cosgate_connections_refused_total"]
            before, log = [world.metric(name) for name in names], world.gateway.log()
            time.sleep(0.2 * checks)
            expect_equal([world.metric(name) for name in names], before, "what is counted")
            expect_equal(world.gateway.log(), log, "what is logged")
            expect_equal(world.metric("cosgate_sessions "), 1, "sessions")


def masqueraded(world, report, proxy):
    with report.check(proxy, "PASV reports the public address that the header names, and curl transfers by PASV"):
        with connected(world, next(CLIENTS), "clear") as ftp:
            reply = ftp.sendcmd("PASV")
            expect(f"({PUBLIC.replace('.', ',')}," in reply, reply)
        client = next(CLIENTS)
        url = f"ftp://{FRONT}:{world.control}/by-pasv"
        common = ["curl", "-q", "-sS", "--disable-epsv", "--ftp-skip-pasv-ip", "--interface", client, "--user", f"{USER}:{PASSWORD}"]
        (world.directory / "source").write_bytes(BYTES)
        run([*common, "-T", world.directory / "source", url], home=world.directory)
        expect(run([*common, url], home=world.directory).stdout == BYTES, "what came down is not what went up")
        world.expect_logged("by-pasv", client)


def half_configured(world, report, proxy):
    with report.check(proxy, "passive ports without the header: 425, and the log names the cause"):
        with connected(world, next(CLIENTS), "clear") as ftp:
            try:
                with contextlib.suppress(OSError):  # the gateway resets the data connection
                    ftp.storbinary("STOR lost", io.BytesIO(BYTES))
                reply = ftp.voidresp()
            except ftplib.error_temp as error:
                reply = str(error)
            expect(reply.startswith("425"), reply)
        for told, what in [("began with no PROXY header", "the cause"), ("proxy_header_refused", "the proxy")]:
            wait_until(lambda told=told: told in world.gateway.log(), f"the log names {what}", 10)


def direct(world, report):
    with report.check("no proxy", "a client that connects by itself transfers without a header"):
        url, client = f"ftp://127.0.0.1:{world.control}/direct", next(CLIENTS)
        common = ["curl", "-q", "-sS", "--interface", client, "--user", f"{USER}:{PASSWORD}"]
        (world.directory / "source").write_bytes(BYTES)
        run([*common, "-T", world.directory / "source", url], home=world.directory)
        expect(run([*common, url], home=world.directory).stdout == BYTES, "what came down is not what went up")
        world.expect_logged("direct", client)


def checks(world, report):
    def behind(name, proxy, *several):
        try:
            with proxy:
                for check in several:
                    check(world, report, name)
        except Failure as failure:
            with report.check(name, "the proxy starts"):
                raise failure

    direct(world, report)
    for name, send in [
        ("haproxy v1", "send-proxy check-send-proxy"),
        ("haproxy v2", "send-proxy-v2 check-send-proxy"),
        ("haproxy v2 with TLVs", "send-proxy-v2 proxy-v2-options crc32c,unique-id check-send-proxy"),
        # its health checks only connect
        ("haproxy v2, plain checks", "send-proxy-v2"),
    ]:
        plain = "plain" in name
        extra = "unique-id-format %ci_%cp" if "TLVs" in name else ""
        several = [health_checks] if plain else [transfers, at_once, health_checks]
        behind(name, haproxy(world, name, send, extra=extra, ports=send.replace("check-send-proxy", "")), *several)
    set_destination = f"tcp-request connection set-dst ipv4({PUBLIC})"
    behind("haproxy at a public address", haproxy(world, "haproxy public", "send-proxy-v2", extra=set_destination), masqueraded)
    behind("nginx stream", nginx(world, "nginx"), transfers, at_once)
    behind("haproxy in half", haproxy(world, "haproxy half", "send-proxy-v2", ports=""), half_configured)
    with report.check("cosgate", "no panic, and it ends at SIGTERM"):
        code, _ = world.gateway.terminate(30)
        expect_equal(code, 0, "exit code")
        expect_no_panic(world.gateway.log())


def main():
    described, _, needs = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(description=described, epilog=needs, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gateway", type=Path)
    parser.add_argument("--haproxy", default="haproxy")
    parser.add_argument("--nginx", default="nginx")
    parser.add_argument("--stream-module", type=Path, default=Path("/usr/lib/nginx/modules/ngx_stream_module.so"))
    options = parser.parse_args()
    options.gateway, options.stream_module = options.gateway.resolve(), options.stream_module.resolve()
    report = Report()
    report.store = "embedded"
    with scratch(None, "cosgate-proxies") as directory:
        world = World(options, directory)
        report.new_log = world.gateway.new_log
        try:
            world.gateway.start()
            checks(world, report)
        except Failure as failure:
            with report.check("cosgate", "the gateway starts"):
                raise failure
        finally:
            world.gateway.kill()
    return report.close()


if __name__ == "__main__":
    sys.exit(main())
