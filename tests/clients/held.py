"""`upload.on_interrupt: hold`: a file that is cut ten times, by clients that go on where they ended, at one of two gateways
over one bucket after the other."""

import contextlib
import ftplib
import http.client
import os
import re
import signal
import socket
import struct
import subprocess

import stores
from drivers import Curl, Ftplib, Lftp, Server, _quoted
from gateway import PART_BYTES, PASSWORD, USER, Gateway
from support import (
    MIB, Failure, environment, expect, expect_equal, make_file, run, scratch, sha256, wait_until,
)

CUTS = 10

# Parts have a few bytes more than is configured: the gateway knows its uploads by that.
MARK = 0xC05

# What is left of a file when its client is killed takes the client so many seconds more: on a busy machine the kill comes late.
LEFT_SECONDS = 1.5

SETTINGS = {"upload": {"min_part_size": "5MiB", "on_interrupt": "hold"}}


def on_store(report, options, name, directory):
    """Two gateways over one bucket, and each client with each of them in turn."""
    store = stores.started(name, directory, options.weed)
    gateways = []
    try:
        with store as (settings, client):
            try:
                for number in range(2):
                    there = directory / f"gateway-{number}"
                    there.mkdir()
                    if number == 1:
                        # the embedded store is in the first gateway
                        settings = {key: value for key, value in settings.items() if key != "data_dir"} | {"provider": "s3"}
                    gateways.append(Gateway(options.gateway, there, settings, **SETTINGS))
                    gateways[-1].start()
                report.new_log = lambda: "".join(gateway.new_log() for gateway in gateways)
                every_client(report, options, gateways, client, directory)
            finally:
                for gateway in gateways:
                    gateway.kill()
    except Failure as failure:
        with report.check("cosgate", "two gateways over one store start"):
            raise failure
    finally:
        report.new_log = lambda: ""


def every_client(report, options, gateways, client, directory):
    size = options.held_mib * MIB
    with scratch(directory, "held") as local:
        source = make_file(local / "source", size)
        digest = sha256(source)
        for driver in [Curl, Lftp, Ftplib]:
            if driver.name not in (options.client or [driver.name]):
                continue
            name = f"held-{driver.name}"
            what = f"{size // MIB} MiB, cut {CUTS} times at two gateways in turn"
            with report.check(driver.name, what):
                again = cut_and_go_on(driver, gateways, client, local, source, name)
                expect_equal(client.sha256(name), digest, "SHA-256 of the object")
                expect_equal(client.unfinished_uploads(), [], "unfinished uploads")
                most = max(again)
                print(f"     {driver.name}: {sum(again)} bytes sent again in {len(again)} cuts, {most} at most in one", flush=True)
                expect(most <= PART_BYTES + MARK, f"sent again after a cut: {again}")
            Ftplib(server(gateways[0], local)).delete(f"/{name}")
        killed_gateway(report, gateways, client, local, source, digest)


def killed_gateway(report, gateways, client, local, source, digest):
    """A gateway dies in the middle of an upload, with parts under way; the other one goes on."""
    name = "held-killed"
    with report.check("cosgate", "a gateway that is killed leaves what it had stored, and the other one goes on"):
        gateway, other = gateways[1], server(gateways[0], local)
        with open(source, "rb") as file, contextlib.closing(Ftplib(server(gateway, local)).connect()) as ftp:
            before = received(gateway)
            ftp.voidcmd("TYPE I")
            data = ftp.transfercmd(f"STOR {name}")
            with contextlib.closing(data):
                while received(gateway) - before < source.stat().st_size // 2:
                    data.sendall(file.read(1 << 20))
                arrived = received(gateway) - before
                gateway.kill()
        held = size_of(other, name)
        # the parts under way and the one that was being filled (upload.concurrency is 4), and one more that was complete behind them
        expect(0 < held <= arrived and arrived - held <= 6 * (PART_BYTES + MARK), f"{held} of {arrived} bytes are held")
        expect(name not in client.keys(), "the object is there")
        go_on(Ftplib, other, source, name)
        expect_equal(client.sha256(name), digest, "SHA-256 of the object")
        expect_equal(client.unfinished_uploads(), [], "unfinished uploads")
        gateway.start()
        Ftplib(other).delete(f"/{name}")


def cut_and_go_on(driver, gateways, client, local, source, name):
    """Returns how many bytes were sent again after each cut."""
    size = source.stat().st_size
    arrived, again = 0, []
    for turn in range(CUTS + 1):
        gateway = gateways[turn % 2]
        there = server(gateway, local)
        held = size_of(there, name)
        if turn:
            again.append(arrived - held)
        if turn == CUTS:
            go_on(driver, there, source, name)
            break
        # first at 90 %, then further on each time
        end = size * 9 // 10 + (size // 10 - 8 * MIB) * turn // CUTS
        before = received(gateway)
        rate = int((size - end) / LEFT_SECONDS)
        cut(driver, there, source, name, held, rate, lambda: received(gateway) - before >= end - held)
        wait_until(lambda: not sessions(gateway), "the end of the transfer", 60)
        arrived = held + received(gateway) - before
        expect(name not in client.keys(), f"the object is there after cut {turn + 1}")
        expect(name not in Ftplib(there).listing("/"), f"the name is listed after cut {turn + 1}")
    return again


def server(gateway, local):
    return Server(gateway.port, USER, PASSWORD, local)


def size_of(there, name):
    """The answer to SIZE; 0 if there is nothing."""
    with Ftplib(there).connect() as ftp:
        ftp.voidcmd("TYPE I")
        try:
            return ftp.size(name)
        except ftplib.error_perm:
            return 0


def metrics(gateway):
    connection = http.client.HTTPConnection("127.0.0.1", gateway.admin_port, timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()


def received(gateway):
    """Bytes that the gateway has had from clients since it started."""
    found = re.search(r'^cosgate_transfer_bytes_total\{direction="received"\} (\d+)', metrics(gateway), re.MULTILINE)
    return int(found[1]) if found else 0


def sessions(gateway):
    """Sessions that are open; that of a client that was killed ends with its transfer."""
    return int(re.search(r"^cosgate_sessions (\d+)", metrics(gateway), re.MULTILINE)[1])


def cut(driver, there, source, name, held, rate, is_time):
    """Begins or continues the upload at so many bytes per second, and kills the client when it is time."""
    if driver is Ftplib:
        return cut_ftplib(there, source, name, held, is_time)
    command = resume_command(driver, there, source, name, rate)
    process = subprocess.Popen(
        [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        cwd=there.home, env=environment(there.home), start_new_session=True,
    )
    try:
        wait_until(is_time, "so many bytes", 300, alive=lambda: process.poll() is None)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def cut_ftplib(there, source, name, held, is_time):
    with open(source, "rb") as file, contextlib.closing(Ftplib(there).connect()) as ftp:
        file.seek(held)
        ftp.voidcmd("TYPE I")
        data = ftp.transfercmd(f"STOR {name}", rest=held or None)
        while not is_time():
            block = file.read(256 << 10)
            expect(block, "the file ended before it was cut")
            data.sendall(block)
        # both connections break: no FIN looks like the end of the file
        for connection in (data, ftp.sock):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        data.close()


def go_on(driver, there, source, name):
    """Sends the rest, as the client does it."""
    if driver is Ftplib:
        with Ftplib(there).connect(seconds=300) as ftp, open(source, "rb") as file:
            ftp.voidcmd("TYPE I")
            held = ftp.size(name)
            file.seek(held)
            ftp.storbinary(f"STOR {name}", file, 1 << 20, rest=held)
        return
    run(resume_command(driver, there, source, name, None), home=there.home, seconds=300)


def resume_command(driver, there, source, name, rate):
    """A client's own way to continue, at so many bytes per second; as fast as it can without a rate."""
    if driver is Curl:
        limit = ["--limit-rate", str(rate)] if rate else []
        return ["curl", "-q", "-sS", *limit, "-C", "-", "-u", f"{there.user}:{there.password}", "-T", source,
                f"{there.url}/{name}"]
    settings = ["cmd:fail-exit yes", "net:max-retries 1", "net:timeout 20", *([f"net:limit-rate {rate}"] if rate else [])]
    login = f"open -u {_quoted(there.user)},{_quoted(there.password)} {there.url}"
    lines = [f"set {setting}" for setting in settings] + [login, f"put -c {_quoted(source)} -o {_quoted(name)}"]
    return ["lftp", "-c", "; ".join(lines)]
