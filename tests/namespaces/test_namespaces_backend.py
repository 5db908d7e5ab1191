"""The namespaces backend keeps the contract, and what only a real kernel can show."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

# Here, not in the keeper: a short deadline is for the agents, not for an import.
import labs.engine.backends.namespaces.network  # noqa: F401
from labs.engine.backends.namespaces.backend import NamespacesBackend, open_namespaces
from labs.engine.errors import EngineError
from tests.agents import AgentsContract, send_signal
from tests.contract import (
    IPV4,
    LOOPBACK,
    PORT,
    ROOT,
    SERVER,
    UDP,
    Host,
    OwnUserNamespaceContract,
    Process,
    call,
)
from tests.programs import ProgramsContract
from tests.support import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager


pytestmark = pytest.mark.namespaces

DEADLINE = 1.0  # seconds: for agents that are meant to hang
KERNEL = tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])


@pytest.fixture
def backend() -> Iterator[NamespacesBackend]:
    with open_namespaces() as opened:
        yield opened


@pytest.fixture
def server(backend: NamespacesBackend) -> Host:
    backend.open_host(SERVER)
    return Host(backend, SERVER)


@pytest.fixture
def hasty_server() -> Iterator[Host]:
    """A host whose processes have little time to answer."""
    with open_namespaces(DEADLINE) as opened:
        opened.open_host(SERVER)
        yield Host(opened, SERVER)


@pytest.fixture
def opening() -> AbstractContextManager[Host]:
    """A host of a backend of its own."""

    @contextlib.contextmanager
    def opened() -> Iterator[Host]:
        with open_namespaces() as backend:
            backend.open_host(SERVER)
            yield Host(backend, SERVER)

    return opened()


class TestNamespacesBackend(OwnUserNamespaceContract):
    """The contract."""

    def test_its_name(self, backend: NamespacesBackend) -> None:
        assert backend.name == "namespaces"


class TestPrograms(ProgramsContract):
    """What processes do with programs."""


class TestAgents(AgentsContract):
    """What the contract leaves open."""


def host_pid(server: Host) -> int:
    """Process 1 of the host, as the machine numbers it."""
    return int(server.backend.enter_command(server.plan.name).split()[2])


def only_pid(server: Host) -> int:
    """The only process of the host, as the machine numbers it."""
    parent = host_pid(server)
    (pid,) = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return int(pid)


def kill(process: Process) -> None:
    """End a process behind the backend's back; returns when it is gone."""
    assert send_signal(process.host, process.started.pid, signal.SIGKILL, milliseconds=1000)


# --- agents that hang or die --------------------------------------------------------------


def test_an_agent_that_waits_for_a_connection_hangs(hasty_server: Host) -> None:
    alice, bob = hasty_server.start("alice"), hasty_server.start("bob")
    listener = alice.listening()
    with pytest.raises(EngineError, match="The process alice hangs: no answer within 1 seconds"):
        alice.accepted(listener)
    bob.connected()
    assert set(hasty_server.processes()) == {alice.started.pid, bob.started.pid}


def test_an_agent_that_waits_for_data_hangs(hasty_server: Host) -> None:
    alice = hasty_server.start("alice")
    descriptor = alice.bound(kind=UDP)
    with pytest.raises(EngineError, match="The process alice hangs"):
        alice.received(descriptor)
    alice.end()
    assert hasty_server.processes() == {}


def test_a_client_of_a_full_queue_hangs(hasty_server: Host) -> None:
    alice, bob = hasty_server.start("alice"), hasty_server.start("bob")
    alice.listening(backlog=0)
    bob.connected()
    hasty_server.wait_for_queue(1)
    with pytest.raises(EngineError, match="The process bob hangs"):
        bob.connected()


def test_a_hang_before_exec(hasty_server: Host) -> None:
    alice = hasty_server.start("alice")
    descriptor = alice.bound(kind=UDP)
    with pytest.raises(EngineError, match="The process alice hangs"):
        alice.perform(call("recv", descriptor, 1), call("exec", "/bin/true", ("true",)))


def test_a_process_that_hung_answers_no_more(hasty_server: Host) -> None:
    alice, bob = hasty_server.start("alice"), hasty_server.start("bob")
    listener = alice.listening()
    with pytest.raises(EngineError, match="hangs"):
        alice.accepted(listener)
    bob.connected()
    # What comes now is the answer to accept().
    wait_until(lambda: len(alice.row().sockets) == 2, "the connection is accepted")
    with pytest.raises(EngineError, match="alice"):
        alice.ask("getsockname", listener)


def test_a_killed_agent_has_died(server: Host) -> None:
    alice = server.start("alice")
    child = alice.fork("child")
    kill(alice)
    with pytest.raises(EngineError, match="The process alice has died"):
        alice.socket()
    assert set(server.processes()) == {child.started.pid}
    alice.end()
    assert child.socket() == 3


def test_a_killed_agent_does_not_fork(server: Host) -> None:
    alice = server.start("alice")
    kill(alice)
    with pytest.raises(EngineError, match="The process alice has died"):
        alice.fork("child")


def test_a_dead_process_that_nobody_has_waited_for(server: Host) -> None:
    alice = server.start("alice")
    stat = Path(f"/proc/{only_pid(server)}/stat")
    alice.do("exit", 0)
    wait_until(lambda: stat.read_text().rpartition(") ")[2].startswith("Z"), "a zombie")
    assert server.rows() == []
    server.backend.end_process("alice", 0)
    assert server.processes() == {}


# --- exec ---------------------------------------------------------------------------------


def test_a_program_gets_its_name_arguments_and_a_clean_environment(server: Host) -> None:
    alice = server.start("alice")
    alice.perform(call("exec", "/bin/sleep", ("a name", "1000")))
    process = Path(f"/proc/{only_pid(server)}")
    wait_until(lambda: process.joinpath("comm").read_text() == "sleep\n", "exec")
    assert process.joinpath("cmdline").read_bytes() == b"a name\x001000\x00"


# --- the kernel's own ---------------------------------------------------------------------


@pytest.mark.skipif(KERNEL < (6, 8), reason="sock_diag shows it since 6.8")
def test_a_tcp_socket_that_is_bound_and_no_more_is_seen(server: Host) -> None:
    alice = server.start("alice")
    descriptor = alice.bound(port=PORT)
    row = server.row()
    assert (row.protocol, row.state, row.inode) == ("tcp", "CLOSE", alice.do("fstat", descriptor))


def test_setfsuid_takes_the_capabilities_over_files(server: Host) -> None:
    root = server.start("root", ROOT)
    descriptor = root.socket()
    everything = root.row().capabilities
    assert everything & 1  # CAP_CHOWN
    root.do("setfsuid", 1000)
    assert root.row().capabilities & 1 == 0
    assert root.refused("fchown", descriptor, 1000, -1) == "EPERM"
    root.do("setfsuid", ROOT)
    assert root.row().capabilities == everything


# --- the host and its end -----------------------------------------------------------------


def test_the_command_that_enters_a_host(server: Host) -> None:
    alice = server.start("alice")
    alice.listening(LOOPBACK[IPV4])
    command = [*shlex.split(server.backend.enter_command("server")), "cat"]
    paths = ["/proc/sys/kernel/hostname", "/proc/net/tcp", f"/proc/{alice.started.pid}/comm"]
    done = subprocess.run([*command, *paths], capture_output=True, text=True, check=True)
    name, *sockets, process = done.stdout.splitlines()
    assert (name, process) == ("server", "alice")
    assert [line.split()[1:4:2] for line in sockets[1:]] == [[f"0100007F:{PORT:04X}", "0A"]]


def test_a_deadline_of_whole_seconds() -> None:
    with open_namespaces(10) as opened:
        opened.open_host(SERVER)
        server = Host(opened, SERVER)
        server.start("alice").end()
        assert server.processes() == {}


def test_nothing_is_left_after_close() -> None:
    with open_namespaces() as opened:
        opened.open_host(SERVER)
        server = Host(opened, SERVER)
        server.start("alice").listening()
        pids = [opened._keeper_pid, host_pid(server), only_pid(server)]
        assert all(Path(f"/proc/{pid}").exists() for pid in pids)
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    with pytest.raises(EngineError, match="has died"):
        opened.observe("server")
