"""Network namespaces: clients, a balancer that spreads connections blindly, and gateways behind it.

    clients 10.78.0.2-   ──veth──  balancer 10.78.0.1 | bridge 10.77.0.1  ──veth──  gateway n, 10.77.0.(10 + n)

The balancer is nftables: each connection to its address, be it control or data, goes to a gateway by chance (`numgen random`). What a
gateway sees is the client's own address.
"""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "clients"))

from support import end  # noqa: E402

VIP = "10.78.0.1"
STORE = "10.77.0.1"
CONTROL = 21
FIRST_PORT = 30000
SLICE = 2


def gateway_address(ordinal):
    return f"10.77.0.{10 + ordinal}"


def client_address(number):
    return f"10.78.0.{2 + number}"


class Missing(Exception):
    """This machine has no network namespaces for us, or can't balance in them."""


class Network:
    """The namespaces; gone at the end."""

    def __init__(self, gateways, clients):
        self.gateways = gateways
        self.clients = clients
        self.prefix = f"cosgate{os.getpid()}"
        self.made = []

    def __enter__(self):
        try:
            self._build()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for name in reversed(self.made):
            run("ip", "netns", "del", name, check=False)

    def inside(self, name):
        """The beginning of a command that runs in a namespace."""
        return ["ip", "netns", "exec", f"{self.prefix}-{name}"]

    def balance(self, ordinals, passive=None):
        """Spreads new connections over these gateways; with `passive`, those to passive ports over others. Those that are open stay."""
        ports = f"{FIRST_PORT}-{FIRST_PORT + SLICE * self.gateways - 1}"
        rules = [self._rule(str(CONTROL), ordinals), self._rule(ports, ordinals if passive is None else passive)]
        table = "table ip lb {\n chain pre {\n  type nat hook prerouting priority dstnat;\n" + "".join(rules) + " }\n}\n"
        run(*self.inside("lb"), "nft", "-f", "-", input="table ip lb {}\ndelete table ip lb\n" + table)

    @contextlib.contextmanager
    def cut_off(self, ordinal):
        """A gateway whose network carries nothing until the end of the block."""
        link = [*self.inside("lb"), "ip", "link", "set", f"to-gw{ordinal}"]
        run(*link, "down")
        try:
            yield
        finally:
            run(*link, "up")

    def _rule(self, ports, ordinals):
        targets = ", ".join(f"{place} : {gateway_address(ordinal)}" for place, ordinal in enumerate(ordinals))
        return f"  ip daddr {VIP} tcp dport {ports} dnat to numgen random mod {len(ordinals)} map {{ {targets} }}\n"

    def _build(self):
        try:
            for name in ["lb", "client", *(f"gw{ordinal}" for ordinal in range(self.gateways))]:
                run("ip", "netns", "add", f"{self.prefix}-{name}")
                self.made.append(f"{self.prefix}-{name}")
                run(*self.inside(name), "ip", "link", "set", "lo", "up")
            run(*self.inside("lb"), "ip", "link", "add", "br0", "type", "bridge")
            run(*self.inside("lb"), "ip", "address", "add", f"{STORE}/24", "dev", "br0")
            run(*self.inside("lb"), "ip", "link", "set", "br0", "up")
            run(*self.inside("lb"), "sysctl", "-q", "-w", "net.ipv4.ip_forward=1")
            self._wire("client", "to-client")
            run(*self.inside("lb"), "ip", "address", "add", f"{VIP}/24", "dev", "to-client")
            for number in range(self.clients):
                run(*self.inside("client"), "ip", "address", "add", f"{client_address(number)}/24", "dev", "eth0")
            run(*self.inside("client"), "ip", "route", "add", "default", "via", VIP)
            for ordinal in range(self.gateways):
                self._wire(f"gw{ordinal}", f"to-gw{ordinal}")
                run(*self.inside("lb"), "ip", "link", "set", f"to-gw{ordinal}", "master", "br0")
                run(*self.inside(f"gw{ordinal}"), "ip", "address", "add", f"{gateway_address(ordinal)}/24", "dev", "eth0")
                run(*self.inside(f"gw{ordinal}"), "ip", "route", "add", "default", "via", STORE)
            self.balance(range(self.gateways))
        except (OSError, subprocess.CalledProcessError) as error:
            told = (getattr(error, "stderr", None) or str(error)).strip()
            raise Missing(told) from error

    def _wire(self, name, end):
        run(*self.inside("lb"), "ip", "link", "add", end, "type", "veth", "peer", "name", "eth0", "netns", f"{self.prefix}-{name}")
        run(*self.inside("lb"), "ip", "link", "set", end, "up")
        run(*self.inside(name), "ip", "link", "set", "eth0", "up")


def run(*command, check=True, timeout=60, **options):
    done = subprocess.run(command, text=True, capture_output=True, timeout=timeout, check=False, **options)
    if check and done.returncode:
        raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
    return done


@contextlib.contextmanager
def running(command, log, env=None, cwd=None):
    """A program until the end of the block; it has 60 s to end then."""
    with open(log, "ab") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=env, cwd=cwd)
    try:
        yield process
    finally:
        end(process, 60)
