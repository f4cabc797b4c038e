#!/usr/bin/env python3
"""Three gateways behind one address that spreads connections blindly: handover in network namespaces.

`run.py GATEWAY --weed SEAWEEDFS [--transfers N] [--measure]`; as root, with iproute2 and nftables. Prints `N passed, N failed`; where
the machine has no network namespaces for it, it says so and that nothing was checked, and ends with 0. `--measure` compares the CPU
time of a relayed GiB with that of HAProxy, a bare relay.
"""

import sys

sys.dont_write_bytecode = True  # a checkout stays clean

import argparse
import contextlib
import ftplib
import inspect
import json
import os
import re
import signal
import subprocess
import tempfile
import time
import traceback
from pathlib import Path

from network import FIRST_PORT, SLICE, STORE, VIP, Missing, Network, client_address, gateway_address, run, running

HERE = Path(__file__).resolve().parent
GATEWAYS = 3
THREADS = 12
KEYS = ("cluster", "cluster-secret")
HANDOVER_PORT = 2122
ADMIN_PORT = 8080
BARE_PORT = 9000
PATIENCE = 60
GUESSES = 5
GIB = 1 << 30


def eventually(what, condition, seconds=PATIENCE):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"never came true: {what}"
        time.sleep(0.1)


@contextlib.contextmanager
def store(network, weed, directory):
    """SeaweedFS on the balancer's side, which all gateways reach; with a bucket."""
    identity = {"name": "cluster", "credentials": [{"accessKey": KEYS[0], "secretKey": KEYS[1]}],
                "actions": ["Admin", "Read", "Write", "List", "Tagging"]}
    (directory / "identities.json").write_text(json.dumps({"identities": [identity]}))
    (directory / "store").mkdir()
    command = [*network.inside("lb"), weed, "server", f"-dir={directory / 'store'}", f"-ip={STORE}", f"-ip.bind={STORE}",
               "-master.telemetry=false", "-master.volumeSizeLimitMB=1024", "-volume.max=50",
               "-filer", f"-filer.localSocket={directory / 'filer.sock'}", "-s3", f"-s3.config={directory / 'identities.json'}",
               f"-s3.localSocket={directory / 's3.sock'}", "-s3.port=8333", "-s3.port.iceberg=0", "-s3.port.lance=0"]
    shell = [*network.inside("lb"), weed, "shell", f"-master={STORE}:9333", f"-filer={STORE}:8888"]

    def has_bucket():
        assert process.poll() is None, "SeaweedFS ended"
        made = run(*shell, check=False, cwd=directory, input="s3.bucket.create -name files\ns3.bucket.list\n")
        return re.search(r"^\s*files\b", made.stdout, re.MULTILINE) is not None

    with running(command, directory / "store.log", cwd=directory) as process:
        eventually("SeaweedFS has a bucket", has_bucket, 120)
        yield
        # its gRPC services leave these behind, always in this directory
        sockets = [path for path in Path("/tmp").glob("seaweedfs-*-grpc-*.sock")
                   if path.stat().st_mtime >= (directory / "identities.json").stat().st_mtime]
    for path in sockets:
        path.unlink(missing_ok=True)


class Gateway:
    """One of the gateways; may be stopped and started again."""

    def __init__(self, network, program, directory, ordinal, password_hash):
        self.network = network
        self.ordinal = ordinal
        self.log = directory / f"gateway-{ordinal}.log"
        self.command = [*network.inside(f"gw{ordinal}"), program, "serve"]
        last = FIRST_PORT + SLICE * GATEWAYS - 1
        self.env = {
            "PATH": os.environ["PATH"], "COSGATE_LISTEN": "0.0.0.0:21", "COSGATE_ADMIN__LISTEN": f"0.0.0.0:{ADMIN_PORT}",
            "COSGATE_MASQUERADE_ADDRESS": VIP, "COSGATE_PASSIVE__PORTS": f"{FIRST_PORT}-{last}",
            "COSGATE_PASSIVE__SLICE_SIZE": str(SLICE), "COSGATE_PASSIVE__ORDINAL": str(ordinal),
            "COSGATE_HANDOVER__LISTEN": f"{gateway_address(ordinal)}:{HANDOVER_PORT}",
            "COSGATE_HANDOVER__PEERS": "10.77.0.1{ordinal}", "COSGATE_HANDOVER__KEY": "a key of 32 bytes for the cluster",
            "COSGATE_STORAGE__PROVIDER": "s3", "COSGATE_STORAGE__BUCKET": "files", "COSGATE_STORAGE__ENDPOINT": f"http://{STORE}:8333",
            "COSGATE_STORAGE__ACCESS_KEY_ID": KEYS[0], "COSGATE_STORAGE__SECRET_ACCESS_KEY": KEYS[1],
            "COSGATE_USERS": json.dumps([{"name": "load", "password_hash": password_hash}]), "COSGATE_DRAIN__IDLE": "2s",
            "COSGATE_AUTH__LOCKOUT__PER_USER": str(GUESSES), "COSGATE_AUTH__LOCKOUT__MAX_DELAY": "1s",
        }
        self.process = None

    def start(self):
        with open(self.log, "ab") as output:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=self.env)
        eventually(f"gateway {self.ordinal} is ready", self.is_ready)

    def is_ready(self):
        assert self.process.poll() is None, f"gateway {self.ordinal} ended: {self.log.read_text()[-2000:]}"
        return self.http("/readyz") is not None

    def http(self, path):
        """What the admin port answers with 200; else None."""
        done = run(*self.network.inside(f"gw{self.ordinal}"), "curl", "-q", "-sS", "--fail", "--max-time", "5",
                   f"http://127.0.0.1:{ADMIN_PORT}{path}", check=False)
        return done.stdout if done.returncode == 0 else None

    def metric(self, name):
        """The sum of a metric's samples; with labels in the name, one of them."""
        found = re.findall(rf"^{re.escape(name)}(?:\{{[^}}]*\}})? (\S+)$", self.http("/metrics"), re.MULTILINE)
        assert found, f"no {name}"
        return sum(map(float, found))

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(PATIENCE)


class Cluster:
    """What a check gets: the network, the gateways, and clients."""

    def __init__(self, network, gateways, transfers):
        self.network = network
        self.gateways = gateways
        self.transfers = transfers

    def load(self, files):
        command = [*self.network.inside("client"), sys.executable, HERE / "load.py", VIP, THREADS, files]
        return subprocess.Popen([str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def relayed(self):
        return sum(gateway.metric("cosgate_handover_relays_total") for gateway in self.gateways)


def report(result):
    print(f"   {result['transfers']} transfers, {result['failed']} failed", flush=True)
    for error in result["errors"]:
        print(f"      {error}")


def check_no_transfer_fails_behind_an_address_that_spreads_connections_blindly(cluster):
    began = time.monotonic()
    before = cluster.relayed()
    output, _ = cluster.load(cluster.transfers // 2).communicate(timeout=600)
    result = json.loads(output)
    report(result)
    relayed = cluster.relayed() - before
    print(f"   {relayed:.0f} of them handed over, {time.monotonic() - began:.0f} s")
    assert result["failed"] == 0 and result["transfers"] == cluster.transfers // 2 * 2, result
    # two of three go elsewhere by chance
    assert relayed > cluster.transfers / 2, relayed
    assert sum(gateway.metric("cosgate_handover_refused_total") for gateway in cluster.gateways) == 0


def check_no_transfer_fails_while_every_gateway_is_restarted_with_weight_0(cluster):
    load = cluster.load(0)
    try:
        for gateway in cluster.gateways:
            time.sleep(1)
            others = [other.ordinal for other in cluster.gateways if other is not gateway]
            # as TKE does with a pod that is deleted: no new connection of any kind
            cluster.network.balance(others)
            gateway.stop()
            assert gateway.process.returncode == 0, gateway.process.returncode
            gateway.start()
            cluster.network.balance(range(GATEWAYS))
        time.sleep(1)
    finally:
        output, _ = load.communicate(timeout=PATIENCE)
    result = json.loads(output)
    report(result)
    assert result["failed"] == 0 and result["transfers"] > 100, result


GUESS = """
import ftplib, sys
sys.dont_write_bytecode = True
ftp = ftplib.FTP(timeout=30)
ftp.connect(sys.argv[1], 21, source_address=(sys.argv[2], 0))
try:
    ftp.login(sys.argv[3], "wrong")
except ftplib.all_errors as error:
    print(str(error)[:3])
"""


def check_guesses_by_way_of_all_gateways_meet_the_limit_of_one(cluster):
    def guess():
        command = [*cluster.network.inside("client"), sys.executable, "-c", GUESS, VIP, client_address(1), "nobody"]
        return run(*command).stdout.strip()

    def state(word):
        return [gateway.metric(f'cosgate_lockout_replicas{{state="{word}"}}') for gateway in cluster.gateways]

    eventually("all share failed logins", lambda: state("current") == [GATEWAYS - 1] * GATEWAYS)
    # reports count from 3 s after the last moment on in which one may have been lost
    time.sleep(3.5)
    # each answer takes a second, which is time for the report to the others
    replies = [guess() for _ in range(GUESSES)]
    assert replies == ["530"] * GUESSES, replies
    for gateway in cluster.gateways:
        cluster.network.balance([gateway.ordinal])
        assert guess() == "421", gateway.ordinal
    cluster.network.balance(range(GATEWAYS))
    assert sum(gateway.metric('cosgate_lockout_events_total{outcome="dropped"}') for gateway in cluster.gateways) == 0
    # one that is stopped is gone, one that is cut off is silent
    cluster.gateways[2].stop()
    eventually("one is gone", lambda: cluster.gateways[0].metric('cosgate_lockout_replicas{state="gone"}') == 1)
    cluster.gateways[2].start()
    eventually("all share failed logins again", lambda: state("current") == [GATEWAYS - 1] * GATEWAYS)
    with cluster.network.cut_off(2):
        eventually("it is silent", lambda: cluster.gateways[0].metric('cosgate_lockout_replicas{state="silent"}') == 1, 10)
    eventually("and back", lambda: state("current") == [GATEWAYS - 1] * GATEWAYS)


def check_doctor_reaches_the_other_replicas(cluster):
    gateway = cluster.gateways[0]
    # the same file as in the pod; it may have other findings, such as a store without TLS
    done = run(*gateway.command[:-1], "doctor", "--format", "json", check=False, env=gateway.env)
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert checks["handover"]["outcome"] == "ok", checks["handover"]
    wrong = {**gateway.env, "COSGATE_HANDOVER__KEY": "another key of at least 32 bytes.."}
    done = run(*gateway.command[:-1], "doctor", "--format", "json", check=False, env=wrong)
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert checks["handover"]["outcome"] == "failed" and "refuses" in checks["handover"]["finding"], checks["handover"]


CHECKS = [value for name, value in list(globals().items()) if name.startswith("check_") and inspect.isfunction(value)]


def cpu_of(process):
    """Seconds of CPU that a process and its children have had, HAProxy's workers among them."""
    total = 0
    for pid in [process.pid, *map(int, run("pgrep", "-P", str(process.pid), check=False).stdout.split())]:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


FETCH = """
import ftplib, sys
sys.dont_write_bytecode = True
ftp = ftplib.FTP(timeout=120)
ftp.connect(sys.argv[1], int(sys.argv[2]), source_address=("10.78.0.2", 0))
ftp.login("load", "secret")
count = 0
def take(bytes):
    global count
    count += len(bytes)
if sys.argv[3] == "STOR":
    class Zeros:
        left = int(sys.argv[4])
        def read(self, size):
            size = min(size, self.left)
            self.left -= size
            return bytes(size)
    ftp.storbinary("STOR big", Zeros(), blocksize=1 << 20)
else:
    ftp.retrbinary("RETR big", take, blocksize=1 << 20)
    assert count == int(sys.argv[4]), count
ftp.quit()
"""


# takes or gives so many bytes, as the first byte says
BARE_OWNER = """
import socket, sys
listener = socket.create_server((sys.argv[1], int(sys.argv[2])))
while True:
    peer, _ = listener.accept()
    verb, left = peer.recv(4), int(sys.argv[3])
    if verb == b"STOR":
        while peer.recv(1 << 20):
            pass
    else:
        while left:
            left -= peer.send(bytes(min(left, 1 << 20)))
    peer.close()
"""

BARE_CLIENT = """
import socket, sys
peer, left = socket.create_connection((sys.argv[1], int(sys.argv[2]))), int(sys.argv[4])
peer.sendall(sys.argv[3].encode())
if sys.argv[3] == "STOR":
    while left:
        left -= peer.send(bytes(min(left, 1 << 20)))
    peer.shutdown(socket.SHUT_WR)
while peer.recv(1 << 20):
    pass
"""


def measure(cluster, directory):
    """CPU seconds of the relaying gateway per GiB in either direction, and those of HAProxy in its place."""
    client = [*cluster.network.inside("client"), sys.executable, "-c", FETCH, VIP, "21"]
    relay = cluster.gateways[1]
    # sessions at gateway 0, data connections by way of gateway 1
    cluster.network.balance([0], passive=[1])
    for verb in ["STOR", "RETR"]:
        before = cpu_of(relay.process)
        run(*client, verb, str(GIB), timeout=600)
        print(f"   {verb} of 1 GiB by way of a gateway: {cpu_of(relay.process) - before:.2f} s of CPU in the gateway that relays")
    relay.stop()
    (directory / "haproxy.cfg").write_text(f"""
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    option splice-auto
listen data
    bind {gateway_address(1)}:{BARE_PORT}
    server owner {gateway_address(0)}:{BARE_PORT}
""")
    owner = [*cluster.network.inside("gw0"), sys.executable, "-c", BARE_OWNER, gateway_address(0), str(BARE_PORT), str(GIB)]
    haproxy = [*cluster.network.inside("gw1"), "haproxy", "-db", "-f", str(directory / "haproxy.cfg")]
    with running(owner, directory / "owner.log"), running(haproxy, directory / "haproxy.log") as process:
        time.sleep(1)
        for verb in ["STOR", "RETR"]:
            before = cpu_of(process)
            run(*cluster.network.inside("client"), sys.executable, "-c", BARE_CLIENT, gateway_address(1), str(BARE_PORT), verb, str(GIB),
                timeout=600)
            print(f"   the same by HAProxy, in the direction of {verb}: {cpu_of(process) - before:.2f} s")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("gateway")
    parser.add_argument("--weed", required=True, help="the program weed of SeaweedFS")
    parser.add_argument("--transfers", type=int, default=5000)
    parser.add_argument("--measure", action="store_true")
    arguments = parser.parse_args()
    program = str(Path(arguments.gateway).resolve())
    passed = failed = 0
    with tempfile.TemporaryDirectory(prefix="cosgate-cluster.") as directory, contextlib.ExitStack() as stack:
        directory = Path(directory)
        try:
            network = stack.enter_context(Network(GATEWAYS, THREADS // 2))
        except Missing as missing:
            print(f"NOT CHECKED: handover in network namespaces, which this machine does not permit: {missing}")
            return 0
        stack.enter_context(store(network, arguments.weed, directory))
        password_hash = run(program, "hash-password", input="secret\n").stdout.strip()
        gateways = [Gateway(network, program, directory, ordinal, password_hash) for ordinal in range(GATEWAYS)]
        for gateway in gateways:
            stack.callback(gateway.stop)
            gateway.start()
        cluster = Cluster(network, gateways, arguments.transfers)
        for check in CHECKS:
            title = check.__name__.removeprefix("check_").replace("_", " ")
            try:
                check(cluster)
                passed += 1
                print(f"ok   {title}", flush=True)
            except Exception:
                failed += 1
                print(f"FAIL {title}\n{traceback.format_exc()}", flush=True)
                for gateway in gateways:
                    lines = gateway.log.read_text(errors="replace").splitlines()
                    faults = [line for line in lines if '"level":"INFO"' not in line]
                    print("\n".join(f"   gateway {gateway.ordinal}: {line}" for line in faults[-10:]))
        if arguments.measure:
            measure(cluster, directory)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
