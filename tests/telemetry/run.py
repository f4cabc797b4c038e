"""Real traces to two receivers that nobody here wrote, and the metrics to Prometheus' own checker.

Usage: run.py COSGATE DIRECTORY. COSGATE is the program; DIRECTORY holds a Python environment `venv` with rotel,
prometheus-client and trustme, and `node_modules` with @elastic/mockotlpserver. `promtool` comes from Debian's package
prometheus. Prints `N passed, N failed` and exits with 1 if anything failed.
"""

import contextlib
import ftplib
import io
import os
import re
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

import trustme
from prometheus_client.openmetrics.parser import text_string_to_metric_families

sys.dont_write_bytecode = True  # a checkout stays clean
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "clients"))

from support import end  # noqa: E402

PROGRAM, TOOLS = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
SPANS = ["ftp.STOR", "ftp.data_connection", "S3.PutObject"]
PATIENCE = 60


def free_ports(count):
    """Ports that are free now, below the kernel's ephemeral range."""
    found = []
    for port in range(21000 + os.getpid() % 500 * 10, 32000):
        with contextlib.closing(socket.socket()) as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                found.append(port)
        if len(found) == count:
            return found
    raise RuntimeError("no free ports")


@contextlib.contextmanager
def running(command, env, log, until):
    """A program, from when `until` stands in what it says; ended afterwards."""
    with open(log, "wb") as output:
        process = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        wait_for(until, log, lambda: process.poll() is None)
        yield process
    finally:
        end(process, PATIENCE)


def wait_for(pattern, log, alive=lambda: True):
    """What `pattern` finds in a file that is being written."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found = re.search(pattern, text := Path(log).read_text(errors="replace"))
        if found:
            return found
        if not alive():
            break
        time.sleep(0.05)
    raise AssertionError(f"{pattern!r} never came; the log:\n{text[-3000:]}")


@contextlib.contextmanager
def gateway(directory, variables):
    """The gateway on its embedded store; its FTP port, admin port, password and log."""
    control, admin, first, last = free_ports(4)
    log = directory / "cosgate.log"
    env = {
        "COSGATE_LISTEN": f"127.0.0.1:{control}",
        "COSGATE_ADMIN__LISTEN": f"127.0.0.1:{admin}",
        "COSGATE_PASSIVE__PORTS": f"{first}-{last}",
        "COSGATE_STORAGE__DATA_DIR": str(directory / "data"),
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        **variables,
    }
    with running([PROGRAM], env, log, "password ([^\n]+)"):
        yield control, admin, wait_for(r"password (\S+)\n", log)[1], log


def upload(control, password):
    with ftplib.FTP() as ftp:
        ftp.connect("127.0.0.1", control, timeout=PATIENCE)
        ftp.login("demo", password)
        ftp.storbinary("STOR traced.txt", io.BytesIO(b"hello"))


def tls_in_front_of(plain, authority, protocol):
    """A port that speaks TLS and passes on to the port `plain`."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    context.set_alpn_protocols([protocol])
    listener = socket.create_server(("127.0.0.1", 0))

    def copy(source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def accept():
        while True:
            raw, _ = listener.accept()
            with contextlib.suppress(OSError):
                client = context.wrap_socket(raw, server_side=True)
                server = socket.create_connection(("127.0.0.1", plain))
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=copy, args=pair, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return listener.getsockname()[1]


def check_traces(directory, variables, receiver):
    """One upload; its spans and the id of its log line arrive, its secrets don't."""
    with gateway(directory, variables) as (control, _, password, log):
        upload(control, password)
        trace = wait_for(r'"trace_id":"([0-9a-f]{32})"', log)[1]
        for name in SPANS:
            wait_for(re.escape(name), receiver)
        wait_for(trace, receiver)
        assert password not in Path(receiver).read_text(), "the password is in the traces"
        assert "traces_not_sent" not in log.read_text(), log.read_text()


def rotel(directory, protocol, tls):
    grpc, http = free_ports(2)
    found = next((TOOLS / "venv").glob("lib/python*/site-packages/rotel/rotel-agent"))
    command = [found, "start", "--otlp-grpc-endpoint", f"127.0.0.1:{grpc}", "--otlp-http-endpoint",
               f"127.0.0.1:{http}", "--debug-log", "traces", "--debug-log-verbosity", "detailed",
               "--exporter", "blackhole"]
    port = grpc if protocol == "grpc" else http
    variables = {"OTEL_EXPORTER_OTLP_PROTOCOL": protocol}
    scheme = "http"
    if tls:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(directory / "ca.pem")
        port = tls_in_front_of(port, authority, "h2" if protocol == "grpc" else "http/1.1")
        variables["OTEL_EXPORTER_OTLP_CERTIFICATE"] = str(directory / "ca.pem")
        scheme = "https"
    variables["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"{scheme}://127.0.0.1:{port}"
    log = directory / "rotel.log"
    with running(command, dict(os.environ), log, "(?i)start"):
        deadline = time.monotonic() + PATIENCE
        while socket.socket().connect_ex(("127.0.0.1", grpc)) and time.monotonic() < deadline:
            time.sleep(0.05)
        check_traces(directory, variables, log)


def mockotlpserver(directory, protocol):
    log = directory / "mock.log"
    command = [TOOLS / "node_modules/.bin/mockotlpserver", "-o", "trace-json"]
    port = 4317 if protocol == "grpc" else 4318  # it takes no others
    variables = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://localhost:{port}",
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_RESOURCE_ATTRIBUTES": "k8s.pod.name=cosgate-0",
    }
    with running(command, dict(os.environ), log, "gRPC listening"):
        check_traces(directory, variables, log)
        for expected in ("cosgate-0", "service.name", "traced.txt", "client.address"):
            wait_for(re.escape(expected), log)


def metrics(directory):
    with gateway(directory, {}) as (control, admin, password, _):
        upload(control, password)
        url = f"http://127.0.0.1:{admin}/metrics"
        text = urllib.request.urlopen(url, timeout=PATIENCE).read()
        checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True)
        said = (checked.stdout + checked.stderr).decode()
        assert checked.returncode == 0 and not said.strip(), said
        asked = urllib.request.Request(url, headers={"Accept": "application/openmetrics-text"})
        with urllib.request.urlopen(asked, timeout=PATIENCE) as answer:
            families = list(text_string_to_metric_families(answer.read().decode()))
        names = {family.name for family in families}
        assert {"cosgate_transfers", "cosgate_s3_request_duration_seconds"} <= names, names


CHECKS = {
    "rotel, gRPC": lambda directory: rotel(directory, "grpc", False),
    "rotel, HTTP": lambda directory: rotel(directory, "http/protobuf", False),
    "rotel, gRPC over TLS": lambda directory: rotel(directory, "grpc", True),
    "rotel, HTTP over TLS": lambda directory: rotel(directory, "http/protobuf", True),
    "mockotlpserver, gRPC": lambda directory: mockotlpserver(directory, "grpc"),
    "mockotlpserver, HTTP": lambda directory: mockotlpserver(directory, "http/protobuf"),
    "promtool and the OpenMetrics parser": metrics,
}


def main():
    failed = 0
    for name, check in CHECKS.items():
        with tempfile.TemporaryDirectory() as directory:
            try:
                check(Path(directory))
                print(f"ok      {name}")
            except Exception as error:  # one check's failure must not hide the others
                failed += 1
                print(f"FAILED  {name}: {type(error).__name__}: {error}")
    print(f"{len(CHECKS) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
