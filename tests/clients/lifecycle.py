"""The program itself: its configuration check, its first start without any configuration, its end, its next start."""

import contextlib
import os
import re
import signal
import subprocess

from drivers import Ftplib
from gateway import PASSWORD, expect_no_panic
from support import environment, expect, expect_equal, free_ports, indented, make_file, run, scratch, sha256, wait_until

# An idle gateway has nothing to wait for, but a session that was active lately goes on for drain.idle, 5 s.
STOP_SECONDS = 15


def configuration(report, program, directory):
    """`check-config` on its own, before any gateway runs."""
    with report.check("cosgate", "check-config of the defaults"):
        printed = run([program, "check-config"], home=directory).text
        expect("upload.max_file_size" in printed, f"no key in the output{indented(printed)}")
    for what, text, named in [
        ("a bad value", "upload:\n  min_part_size: 1KiB\n", "upload.min_part_size"),
        ("an unknown key", "uplod:\n  min_part_size: 8MiB\n", "uplod"),
    ]:
        file = directory / "bad.yaml"
        for command in ("check-config", "serve"):
            with report.check("cosgate", f"{command} with {what} ends with 64 and names the key"):
                file.write_text(text)
                outcome = run([program, command, "--config", file], home=directory, seconds=20, check=False)
                expect_equal(outcome.code, 64, f"exit code{indented(outcome.text)}")
                expect(named in outcome.text and file.name in outcome.text, f"it says{indented(outcome.text)}")


def first_start(report, program, directory):
    """No file, no user: the program prints two curl commands that work. Only the ports are told, to be free."""
    with report.check("cosgate", "a start without configuration prints commands that work"):
        first = free_ports(18)
        settings = {
            "COSGATE_LISTEN": f"127.0.0.1:{first}", "COSGATE_ADMIN__LISTEN": f"127.0.0.1:{first + 1}",
            "COSGATE_PASSIVE__PORTS": f"{first + 2}-{first + 17}",
        }
        output = directory / "first.log"
        with open(output, "wb") as log:
            process = subprocess.Popen(
                [program], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=directory,
                env=environment(directory) | settings, start_new_session=True,
            )
        try:
            wait_until(lambda: "curl -O" in output.read_text(), "the printed commands", 30,
                       alive=lambda: process.poll() is None)
            upload, download = re.findall(r"curl -[TO] .*", output.read_text())
            (directory / "up").mkdir()
            source = make_file(directory / "up" / "photo.bin", 100_000)
            run(["sh", "-c", upload.replace("FILE", str(source))], home=directory)
            run(["sh", "-c", download.replace("/FILE", "/photo.bin")], home=directory)
            expect_equal(sha256(directory / "photo.bin"), sha256(source), "SHA-256 of the download")
            process.send_signal(signal.SIGTERM)
            expect_equal(process.wait(STOP_SECONDS), 0, "exit code after SIGTERM")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def stop_and_start(world):
    """SIGTERM with an idle client connected, then a new start that still has the files."""
    gateway, report, client = world.gateway, world.report, Ftplib(world.server())
    with scratch(world.directory) as local:
        source = make_file(local / "source", 6 << 20)
        with report.check("cosgate", "SIGTERM: exit code 0 within seconds, an idle client is told 421"):
            client.upload(source, "/kept.bin")
            with contextlib.closing(client.connect(seconds=STOP_SECONDS)) as idle:
                _stop(gateway)
                expect_equal(idle.file.readline()[:3], "421", "the last line to the idle client")
        with report.check("cosgate", "after the next start the files are there"):
            gateway.start()
            client.download("/kept.bin", local / "back")
            expect_equal(sha256(local / "back"), sha256(source), "SHA-256 of the download")


def doctor(world):
    """The examination of the configuration: each right that is needed at the store is tried."""
    with world.report.check("cosgate", "doctor finds nothing wrong"):
        command = [world.gateway.program, "doctor", "--config", world.directory / "cosgate.yaml"]
        report = run(command, home=world.directory, check=False)
        expect_equal(report.code, 0, f"exit code{indented(report.text)}")


def end(world):
    """What must hold after everything else."""
    gateway, report = world.gateway, world.report
    with report.check("cosgate", "no unfinished multipart upload is left in the store"):
        expect_equal(world.store.unfinished_uploads(), [], "ListMultipartUploads")
    with report.check("cosgate", "SIGTERM: exit code 0 within seconds"):
        _stop(gateway)
    with report.check("cosgate", "no panic and no password in the log"):
        expect_no_panic(gateway.log())
        expect(PASSWORD not in gateway.log(), "the password stands in the log")


def _stop(gateway):
    code, _ = gateway.terminate(STOP_SECONDS)
    expect_equal(code, 0, "exit code after SIGTERM")
