"""The docker backend keeps the contract, and what it alone has."""

from __future__ import annotations

import contextlib
import re
import shlex
import signal
import socket
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from labs.engine.backend import PublicationRefused
from labs.engine.backends.agents import AgentBackend
from labs.engine.backends.docker import making
from labs.engine.backends.docker.backend import DockerBackend, open_docker
from labs.engine.backends.docker.labels import RUN
from labs.engine.errors import CannotRun, EngineError, Unsupported
from labs.engine.layout import Layout
from labs.engine.plans import Needs, OpenedHost, ProcessPlan, Publication
from tests.agents import NOTHING, AgentsContract, send_signal
from tests.contract import (
    ALICE,
    BOB,
    CLIENT,
    IPV4,
    LOOPBACK,
    PORT,
    SERVER,
    TCP,
    BackendContract,
    Host,
    Process,
    call,
    connect_pair,
)
from tests.docker.hosts import KeptHosts
from tests.docker.traces import (
    SOON,
    containers_of,
    find_things,
    run_of,
    seeds,
)
from tests.programs import ProgramsContract
from tests.support import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager

    from labs.engine.backends.docker.client import APIClient
    from labs.engine.plans import HostPlan

pytestmark = [
    pytest.mark.docker,
    # A watchdog is forked while a backend that is kept has threads, which do nothing then.
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
]

KILL_DEADLINE = 10_000  # milliseconds: until what was killed is gone
HASTE = 3.0  # seconds: for agents that are meant to hang; a container may need one to answer
ALL_ADDRESSES = r"(?m)^\s*\|-- (\S+)\n\s*/32 host LOCAL"


@pytest.fixture(scope="module")
def pool() -> Iterator[KeptHosts]:
    kept = KeptHosts()
    yield kept
    kept.close()


@pytest.fixture
def hosts(pool: KeptHosts) -> Iterator[KeptHosts]:
    """Hosts on which there is nothing of another test's, as KeptHosts says."""
    with pool.lent():
        yield pool


@pytest.fixture
def backend(hosts: KeptHosts) -> DockerBackend:
    return hosts.backend


@pytest.fixture
def server(hosts: KeptHosts) -> Host:
    return hosts.open(SERVER)


@pytest.fixture
def client(hosts: KeptHosts) -> Host:
    return hosts.open(CLIENT)


@pytest.fixture
def plans(engine: APIClient) -> Mapping[str, HostPlan]:
    """Hosts with addresses that nobody else has."""
    layout = Layout(seeds.take(engine))
    return {name: layout.host(name) for name in ("server", "client", "web")}


@pytest.fixture
def hasty_server(plans: Mapping[str, HostPlan]) -> Iterator[Host]:
    """A host whose processes have little time to answer."""
    plan = plans["server"]
    with open_docker(deadline=HASTE) as opened:
        opened.open_host(plan)
        yield Host(opened, plan)


@pytest.fixture
def opening(plans: Mapping[str, HostPlan]) -> AbstractContextManager[Host]:
    """A host of a backend of its own."""

    @contextlib.contextmanager
    def opened() -> Iterator[Host]:
        with open_docker() as backend:
            backend.open_host(plans["server"])
            yield Host(backend, plans["server"])

    return opened()


class TestDockerBackend(BackendContract):
    """The contract."""

    @pytest.fixture
    def server(self, hosts: KeptHosts) -> Host:
        return hosts.open(SERVER)

    @pytest.fixture
    def client(self, hosts: KeptHosts) -> Host:
        return hosts.open(CLIENT)

    def test_its_name(self, backend: DockerBackend) -> None:
        assert backend.name == "docker"

    def test_another_map_takes_an_engine_that_has_one(
        self, server: Host, engine: APIClient
    ) -> None:
        if "name=userns" in engine.info()["SecurityOptions"]:
            pytest.skip("This engine has two maps.")
        with pytest.raises(Unsupported, match="maps the users of all containers alike") as raised:
            server.start("remapped", outer_uid=BOB)
        assert "--userns-remap" in raised.value.hint
        server.start("alice").listening()


class TestPrograms(ProgramsContract):
    """What processes do with programs."""


class TestAgents(AgentsContract):
    """What the contract leaves open."""

    kill_deadline = KILL_DEADLINE


def kill(process: Process) -> None:
    """End a process behind the backend's back; returns when it is gone."""
    kill_pid(process.host, process.started.pid)


def kill_pid(host: Host, pid: int) -> None:
    """End what has this pid on a host behind the backend's back; returns when it is gone."""
    assert send_signal(host, pid, signal.SIGKILL, KILL_DEADLINE)


# --- what a host is -----------------------------------------------------------------------


def test_the_engines_own_sockets_are_no_part_of_an_observation(server: Host) -> None:
    assert isinstance(server.backend, DockerBackend)
    everything = AgentBackend.observe(server.backend, "server")
    resolvers = {row.local[0] for row in everything.sockets}
    assert resolvers == {"127.0.0.11"}
    assert server.backend.observe("server") == NOTHING


def test_relays_are_no_part_of_an_observation(server: Host) -> None:
    assert isinstance(server.backend, DockerBackend)
    alice = server.start("alice")
    everything = {row.pid for row in AgentBackend.observe(server.backend, "server").processes}
    assert len(everything) == 2
    assert alice.started.pid in everything
    assert set(server.processes()) == {alice.started.pid}


def test_hosts_know_each_other_by_name(server: Host, client: Host) -> None:
    alice, bob = server.start("alice"), client.start("bob", BOB)
    listener = alice.listening()
    ours = bob.connected("server")
    assert bob.address(ours)[0] == CLIENT.ipv4
    alice.accepted(listener)
    assert server.row(state="ESTABLISHED").local == (SERVER.ipv4, PORT)


def test_a_pid_means_the_same_to_all_on_a_host(server: Host, engine: APIClient) -> None:
    assert isinstance(server.backend, DockerBackend)
    alice = server.start("alice")
    child = alice.fork("child")
    names = f"/proc/{alice.started.pid}/comm", f"/proc/{child.started.pid}/comm"
    for container in ("server", "alice"):
        identity = containers_of(engine, server.backend)[container]
        command = engine.exec_create(identity, ["cat", *names], user="0")
        assert engine.exec_start(command["Id"]) == b"alice\nalice\n"


def test_the_command_that_enters_a_host(server: Host) -> None:
    server.start("alice").listening(LOOPBACK[IPV4])
    command = shlex.split(server.backend.enter_command("server"))
    command.remove("--tty")
    script = "cat /proc/sys/kernel/hostname /proc/net/tcp"
    done = subprocess.run(command, input=script, capture_output=True, text=True, check=True)
    name, _, *sockets = done.stdout.splitlines()
    assert name == "server"
    assert [f"0100007F:{PORT:04X}", "0A"] in [line.split()[1:4:2] for line in sockets]


def test_a_name_may_be_any(plans: Mapping[str, HostPlan]) -> None:
    plan = replace(plans["server"], name="le serveur_été")
    with open_docker() as backend:
        backend.open_host(plan)
        alice = Host(backend, plan).start("élise in the wood, who has a long name")
        assert alice.socket() == 3


def test_a_process_needs_its_host(backend: DockerBackend) -> None:
    with pytest.raises(EngineError, match="There is no host nowhere"):
        backend.start_process(ProcessPlan("alice", "nowhere", ALICE))
    with pytest.raises(EngineError, match="There is no host nowhere"):
        backend.observe("nowhere")


# --- what is started ahead ----------------------------------------------------------------


def test_what_was_started_ahead_is_there_when_it_is_asked_for(
    plans: Mapping[str, HostPlan], engine: APIClient
) -> None:
    plan = plans["server"]
    alice = ProcessPlan("alice", "server", ALICE)
    with open_docker(Needs((plan,), (alice,))) as backend:
        running = {"label": [f"{RUN}={run_of(backend)}"], "status": "running"}
        wait_until(lambda: len(engine.containers(filters=running)) == 2, "two containers", SOON)
        before = containers_of(engine, backend)
        backend.open_host(plan)
        started = backend.start_process(alice)
        assert containers_of(engine, backend) == before
        assert [row.pid for row in backend.observe("server").processes] == [started.pid]
        run = run_of(backend)
    assert find_things(engine, RUN, run) == []


def test_what_was_started_ahead_is_not_seen_before_it_is_asked_for(
    plans: Mapping[str, HostPlan], engine: APIClient
) -> None:
    plan = plans["server"]
    processes = [ProcessPlan(name, "server", ALICE) for name in ("alice", "alice-2", "alice-3")]
    with open_docker(Needs((plan,), tuple(processes))) as backend:
        backend.open_host(plan)
        assert backend.observe("server") == NOTHING
        started = [backend.start_process(process).pid for process in processes[:2]]
        assert sorted(row.pid for row in backend.observe("server").processes) == sorted(started)


def test_what_was_started_ahead_and_never_asked_for_leaves_nothing(
    plans: Mapping[str, HostPlan], engine: APIClient
) -> None:
    needs = Needs((plans["server"], plans["client"]), (ProcessPlan("bob", "client", BOB),))
    with open_docker(needs) as backend:
        run = run_of(backend)
        backend.open_host(plans["server"])
    assert find_things(engine, RUN, run) == []


# --- messages -----------------------------------------------------------------------------


def test_large_messages(server: Host) -> None:
    alice, theirs, bob, ours = connect_pair(server)
    sent = "".join(chr(number % 256) for number in range(100_000))
    assert bob.do("send", ours, sent) == len(sent)
    server.wait_for_data(PORT, len(sent))
    assert alice.received(theirs, len(sent)) == sent


def test_agents_of_one_container_answer_as_they_are_asked(server: Host) -> None:
    parent = server.start("alice")
    family = [parent, *(parent.fork(f"child-{number}") for number in range(5))]
    family.append(family[-1].fork("grandchild"))
    for _ in range(3):
        for member in reversed(family):
            # The first call fails, so the second is not made.
            results = member.perform(call("accept", 77), call("socket", IPV4, TCP))
            assert [result.errno_name for result in results] == ["EBADF"]
    pids = [member.started.pid for member in family]
    assert sorted(server.processes()) == sorted(pids)


# --- agents that hang or die --------------------------------------------------------------


def test_an_agent_that_waits_for_a_connection_hangs(hasty_server: Host) -> None:
    alice, bob = hasty_server.start("alice"), hasty_server.start("bob")
    child = alice.fork("child")
    listener = alice.listening()
    with pytest.raises(EngineError, match="The process alice hangs: no answer within 3 seconds"):
        alice.accepted(listener)
    # Neither others nor those of its own container.
    assert child.socket() == 3
    bob.connected()
    # What comes now is the answer to accept().
    wait_until(lambda: len(alice.row().sockets) == 2, "the connection is accepted")
    with pytest.raises(EngineError, match="The process alice hangs"):
        alice.ask("getsockname", listener)
    alice.end()
    assert set(hasty_server.processes()) == {bob.started.pid, child.started.pid}


def test_a_process_that_says_nothing_in_time_hangs(
    plans: Mapping[str, HostPlan], engine: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_docker() as backend:
        run = run_of(backend)
        backend.open_host(plans["server"])
        backend._maker._deadline = 0.1
        # However late this test looks, there is no answer: it only reads, until its input ends.
        monkeypatch.setattr(making, "PYTHON", ("sh", "-c", "cat >/dev/null"))
        with pytest.raises(EngineError, match="The process alice hangs"):
            Host(backend, plans["server"]).start("alice")
    assert find_things(engine, RUN, run) == []


def test_a_program_says_nothing_to_the_client(server: Host) -> None:
    """Its standard streams are not the container's, which carry messages."""
    alice = server.start("alice")
    child = alice.fork("child")
    script = "echo 2 nonsense; echo more >&2; exec sleep 1000"
    child.perform(call("exec", "/bin/sh", ("sh", "-c", script)))
    assert alice.socket() == 3
    assert set(server.processes()) == {alice.started.pid, child.started.pid}


def test_a_killed_agent_has_died_and_its_child_has_not(server: Host) -> None:
    alice = server.start("alice")
    child = alice.fork("child")
    kill(alice)
    with pytest.raises(EngineError, match="The process alice has died"):
        alice.socket()
    with pytest.raises(EngineError, match="The process alice has died"):
        alice.fork("another")
    assert set(server.processes()) == {child.started.pid}
    alice.end()
    assert child.socket() == 3
    assert child.fork("grandchild").socket() == 4


def test_without_its_relay_a_process_has_died(server: Host) -> None:
    assert isinstance(server.backend, DockerBackend)
    alice = server.start("alice")
    child = alice.fork("child")
    kill_pid(server, server.backend._containers["alice"].relay_pid)
    for process in (alice, child):
        with pytest.raises(EngineError, match=f"The process {process.name} has died"):
            process.socket()
    with pytest.raises(EngineError, match="The process child has died"):
        child.fork("grandchild")
    wait_until(lambda: server.processes() == {}, "the end of both")
    server.start("bob", BOB).listening()


def test_a_zombie_is_no_process(server: Host) -> None:
    """Its relay waits for it, a moment after its end."""
    assert isinstance(server.backend, DockerBackend)
    alice = server.start("alice")
    relay = server.backend._containers["alice"].relay_pid
    send_signal(server, relay, signal.SIGSTOP)
    kill(alice)
    assert server.processes() == {}
    send_signal(server, relay, signal.SIGCONT)
    alice.end()


def test_a_process_whose_container_was_killed_has_died(server: Host, engine: APIClient) -> None:
    assert isinstance(server.backend, DockerBackend)
    alice, bob = server.start("alice"), server.start("bob", BOB)
    child = alice.fork("child")
    engine.kill(containers_of(engine, server.backend)["alice"])
    for process in (alice, child):
        with pytest.raises(EngineError, match=f"The process {process.name} has died"):
            process.socket()
    wait_until(lambda: set(server.processes()) == {bob.started.pid}, "the end of both")
    bob.listening()


def test_a_host_whose_container_was_killed_has_died(
    plans: Mapping[str, HostPlan], engine: APIClient
) -> None:
    with open_docker() as backend:
        run = run_of(backend)
        for name in ("server", "client"):
            backend.open_host(plans[name])
        server, client = Host(backend, plans["server"]), Host(backend, plans["client"])
        alice, bob = server.start("alice"), client.start("bob", BOB)
        engine.kill(containers_of(engine, backend)["server"])
        with pytest.raises(EngineError, match="The host server has died"):
            server.processes()
        with pytest.raises(EngineError, match="The process alice has died"):
            alice.socket()
        with pytest.raises(EngineError, match="The host server has died"):
            alice.end()
        with pytest.raises(EngineError, match=r"alice-2|server"):
            server.start("alice-2")
        bob.listening()
        bob.end()
    assert find_things(engine, RUN, run) == []


def test_what_the_engine_says_of_a_container_that_failed_is_passed_on(
    plans: Mapping[str, HostPlan], engine: APIClient
) -> None:
    with open_docker() as backend:
        run = run_of(backend)
        backend.open_host(plans["server"])
        server = Host(backend, plans["server"])
        alice = server.start("alice")
        # What the relay cannot make sense of, nothing but a fault of ours can send.
        backend._containers["alice"]._stream.socket.sendall(b"nonsense\n")
        with pytest.raises(EngineError, match=r"The container bindlab-.*-alice has failed: "):
            alice.socket()
    assert find_things(engine, RUN, run) == []


# --- the end ------------------------------------------------------------------------------


def test_nothing_is_left_after_close(plans: Mapping[str, HostPlan], engine: APIClient) -> None:
    with open_docker() as backend:
        run = run_of(backend)
        for name in ("server", "client"):
            backend.open_host(plans[name])
        alice = Host(backend, plans["server"]).start("alice")
        child = alice.fork("child")
        child.perform(call("exec", "/bin/sleep", ("sleep", "1000")))
        kinds = [thing.split()[0] for thing in find_things(engine, RUN, run)]
        assert kinds == ["container"] * 3 + ["network"]
    assert find_things(engine, RUN, run) == []
    with pytest.raises(EngineError, match="has died"):
        alice.socket()
    with pytest.raises(EngineError, match="has died"):
        backend.observe("server")


def test_the_stream_of_a_container_ends_with_its_last_process(server: Host) -> None:
    assert isinstance(server.backend, DockerBackend)
    alice = server.start("alice")
    child = alice.fork("child")
    stream = server.backend._containers["alice"]._stream.socket
    alice.end()
    assert stream.fileno() >= 0
    child.end()
    assert stream.fileno() == -1


def test_an_exception_ends_it_all(plans: Mapping[str, HostPlan], engine: APIClient) -> None:
    with pytest.raises(ZeroDivisionError), open_docker() as backend:
        run = run_of(backend)
        backend.open_host(plans["server"])
        Host(backend, plans["server"]).start("alice")
        raise ZeroDivisionError
    assert find_things(engine, RUN, run) == []


def test_addresses_that_another_network_has(
    plans: Mapping[str, HostPlan], engine: APIClient
) -> None:
    with open_docker() as first:
        first.open_host(plans["server"])
        with open_docker() as second:
            run = run_of(second)
            name = f"bindlab-{run_of(first)}-1-network"
            with pytest.raises(CannotRun, match=f"The network {name} has 10") as raised:
                second.open_host(plans["server"])
            assert "--seed" in raised.value.hint
        assert find_things(engine, RUN, run) == []
        Host(first, plans["server"]).start("alice").listening()


# --- publications -------------------------------------------------------------------------


def machine_addresses() -> list[str]:
    """The addresses of the machine, and one more of its loopback network."""
    ipv4 = re.findall(ALL_ADDRESSES, Path("/proc/net/fib_trie").read_text())
    ipv6 = [
        socket.inet_ntop(socket.AF_INET6, bytes.fromhex(line.split()[0]))
        for line in Path("/proc/net/if_inet6").read_text().splitlines()
        if not line.startswith("fe80")
    ]
    return sorted({*ipv4, *ipv6, "127.0.0.2"})


def can_connect(address: str, port: int) -> bool:
    """Whether anybody listens there."""
    try:
        socket.create_connection((address, port), timeout=1).close()
    except OSError:
        return False
    return True


def test_a_published_port_is_the_machines_loopback_alone(
    plans: Mapping[str, HostPlan], engine: APIClient
) -> None:
    with open_docker() as backend:
        plan = replace(plans["web"], publication=Publication(PORT))
        port = backend.open_host(plan).machine_port
        assert port > 0
        backend.open_host(plans["client"])
        web = Host(backend, plan)
        alice, bob = web.start("alice"), Host(backend, plans["client"]).start("bob", BOB)
        listener = alice.listening(backlog=64)
        with socket.create_connection((LOOPBACK[IPV4], port), timeout=SOON) as connection:
            theirs = alice.accepted(listener)
            assert alice.do("send", theirs, "hello") == 5
            assert connection.recv(5) == b"hello"
        others = [address for address in machine_addresses() if address != LOOPBACK[IPV4]]
        assert len(others) >= 2
        assert [address for address in others if can_connect(address, port)] == []
        # On the network of the run it is a host as the others are.
        bob.connected(plan.ipv4)
        run = run_of(backend)
        assert len(find_things(engine, RUN, run)) == 6  # four containers and two networks
    assert find_things(engine, RUN, run) == []
    assert not can_connect(LOOPBACK[IPV4], port)


def test_a_port_that_the_engine_has_given_away(
    plans: Mapping[str, HostPlan], engine: APIClient
) -> None:
    with open_docker() as backend:
        run = run_of(backend)
        port = backend.open_host(replace(plans["web"], publication=Publication(PORT))).machine_port
        publication = Publication(PORT, machine_port=port)
        with pytest.raises(PublicationRefused) as raised:
            backend.open_host(replace(plans["client"], publication=publication))
        assert (raised.value.call, raised.value.machine_port) == ("allocate", port)
        # What was refused is in nobody's way: not of another host, not of the same one.
        backend.open_host(plans["server"])
        assert backend.open_host(plans["client"]) == OpenedHost()
        Host(backend, plans["client"]).start("bob", BOB).listening()
    assert find_things(engine, RUN, run) == []


def test_a_port_on_which_a_program_listens(
    plans: Mapping[str, HostPlan], engine: APIClient
) -> None:
    with open_docker() as backend:
        run = run_of(backend)
        with pytest.raises(PublicationRefused) as raised:
            backend.open_host(replace(plans["web"], publication=Publication(PORT, held=True)))
        assert raised.value.call == "bind"
        port = raised.value.machine_port
        assert not can_connect(LOOPBACK[IPV4], port)
        publication = Publication(PORT, machine_port=port)
        plan = replace(plans["web"], publication=publication)
        assert backend.open_host(plan) == OpenedHost(port)
        alice = Host(backend, plan).start("alice")
        alice.listening()
        assert can_connect(LOOPBACK[IPV4], port)
    assert find_things(engine, RUN, run) == []
