"""Many hosts on one bridge: each is there, and each can be reached from its neighbour."""

import contextlib
import ipaddress
import resource
import shlex
import socket
import subprocess
from collections.abc import Iterator, Sequence

import pytest

from labs.engine.backend import Backend
from labs.engine.backends.namespaces.backend import open_namespaces
from labs.engine.layout import Layout
from labs.engine.model import Call, Reference
from labs.engine.plans import HostPlan, ProcessPlan

pytestmark = pytest.mark.namespaces

FEW = 50
MANY = 500
PORT = 8080
USUAL_DESCRIPTORS = 1024  # the soft limit that a user's shell has


@contextlib.contextmanager
def open_hosts(count: int) -> Iterator[tuple[Backend, list[HostPlan]]]:
    """A backend with this many hosts, a process of Alice's on each, of the host's name."""
    layout = Layout(None)
    with open_namespaces() as backend:
        plans = [layout.host(f"host-{number}") for number in range(count)]
        for plan in plans:
            backend.open_host(plan)
        for plan in plans:
            backend.start_process(ProcessPlan(plan.name, plan.name, layout.uid("alice")))
        yield backend, plans


@contextlib.contextmanager
def limit_descriptors(soft: int) -> Iterator[None]:
    """Have this soft limit of open descriptors, and the limit before afterwards."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, *before), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def open_socket(family: int) -> list[Call]:
    return [Call("socket", (family, socket.SOCK_STREAM))]


def find_unreached(backend: Backend, plans: Sequence[HostPlan], family: int) -> dict[str, str]:
    """Which hosts their neighbour cannot reach, each with the errno of the attempt."""
    addresses = {plan.name: plan.ipv4 if family == socket.AF_INET else plan.ipv6 for plan in plans}
    for name, address in addresses.items():
        listening = [
            *open_socket(family),
            Call("bind", (Reference(0), (address, PORT))),
            Call("listen", (Reference(0), 1)),
        ]
        assert [result.errno_name for result in backend.perform(name, listening)] == ["", "", ""]
    neighbours = [*plans[-1:], *plans[:-1]]
    unreached = {}
    for neighbour, (name, address) in zip(neighbours, addresses.items(), strict=True):
        connecting = [*open_socket(family), Call("connect", (Reference(0), (address, PORT)))]
        last = backend.perform(neighbour.name, connecting)[-1]
        if last.errno:
            unreached[name] = last.errno_name
    return unreached


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["ipv4", "ipv6"])
def test_each_of_50_hosts_is_reached_from_its_neighbour(family: int) -> None:
    with open_hosts(FEW) as (backend, plans):
        assert find_unreached(backend, plans, family) == {}


def test_each_of_50_hosts_shows_its_own_sockets_and_process_alone() -> None:
    with open_hosts(FEW) as (backend, plans):
        assert find_unreached(backend, plans, socket.AF_INET) == {}
        for plan in plans:
            observation = backend.observe(plan.name)
            listeners = [row.local for row in observation.sockets if row.state == "LISTEN"]
            assert listeners == [(plan.ipv4, PORT)]
            assert len(observation.processes) == 1


def test_each_of_500_hosts_is_reached_within_the_usual_limit_of_descriptors() -> None:
    with limit_descriptors(USUAL_DESCRIPTORS), open_hosts(MANY) as (backend, plans):
        assert find_unreached(backend, plans, socket.AF_INET) == {}


def test_a_host_has_its_two_addresses_and_loopback_and_no_other() -> None:
    with open_namespaces() as backend:
        plan = Layout(None).host("server")
        backend.open_host(plan)
        backend.start_process(ProcessPlan("alice", "server", 64001))
        command = [*shlex.split(backend.enter_command("server")), "--", "cat"]
        done = subprocess.run(
            [*command, "/proc/net/if_inet6", "/proc/net/fib_trie"],
            capture_output=True,
            text=True,
            check=True,
        )
    lines = [line.split() for line in done.stdout.splitlines()]
    found = {(line[0], line[-1]) for line in lines if len(line) == 6}
    server = ipaddress.ip_address(plan.ipv6).exploded.replace(":", "")
    # A link-local address of each of hundreds of hosts would flood the bridge.
    assert found == {("0" * 31 + "1", "lo"), (server, "eth0")}
    assert plan.ipv4 in done.stdout
