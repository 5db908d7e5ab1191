"""What every backend promises: one suite, run against each implementation.

A module for one backend has a class that derives from BackendContract or from what adds to it, and
a fixture `backend` that gives a fresh one. What only a kernel can show is in that module.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import pytest

from labs.engine.capabilities import capability_mask
from labs.engine.errors import CannotRun, EngineError, LabError, Unsupported
from labs.engine.model import (
    Address,
    Argument,
    Call,
    CallResult,
    Credentials,
    ProcessRow,
    Reference,
    SocketRow,
    Tally,
)
from labs.engine.plans import HostPlan, OpenedHost, ProcessPlan, Publication, StartedProcess
from labs.engine.script import kernel_version
from labs.engine.system import CLONE_NEWNET
from tests.support import wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from labs.engine.backend import Backend

ROOT, ALICE, BOB, CAROL = 0, 64_001, 64_002, 64_003
PORT = 8080
SERVER = HostPlan("server", "10.77.0.1", 16, "fd00:4d::1", 64)
CLIENT = HostPlan("client", "10.77.0.2", 16, "fd00:4d::2", 64)
MIGRATING = HostPlan("migrating", "10.77.0.4", 16, "fd00:4d::4", 64, tcp_migrate_req=True)
OPEN = HostPlan("open", "10.77.0.3", 16, "fd00:4d::3", 64, unprivileged_port_start=0)
ROOTS = ("CAP_CHOWN", "CAP_SETUID", "CAP_NET_BIND_SERVICE")  # what root has in these tests

IPV4, IPV6 = int(socket.AF_INET), int(socket.AF_INET6)
RETURN = 0x06  # BPF_RET of bpf(4)
UNIX, DOOR = int(socket.AF_UNIX), "\0door"
TCP, UDP = int(socket.SOCK_STREAM), int(socket.SOCK_DGRAM)
REUSEADDR = (int(socket.SOL_SOCKET), int(socket.SO_REUSEADDR))
REUSEPORT = (int(socket.SOL_SOCKET), int(socket.SO_REUSEPORT))
V6ONLY = (int(socket.IPPROTO_IPV6), int(socket.IPV6_V6ONLY))
IP_MULTICAST_ALL = 49
GROUP = "239.77.0.1"
WILDCARD = {IPV4: "0.0.0.0", IPV6: "::"}
LOOPBACK = {IPV4: "127.0.0.1", IPV6: "::1"}
OWN = {IPV4: SERVER.ipv4, IPV6: SERVER.ipv6}
FAMILIES = pytest.mark.parametrize("family", [IPV4, IPV6], ids=["ipv4", "ipv6"])
KINDS = pytest.mark.parametrize("kind", [TCP, UDP], ids=["tcp", "udp"])

Option: TypeAlias = tuple[int, int]


# --- what a test is written with ----------------------------------------------------------


@dataclass(frozen=True)
class Host:
    """A host of a backend."""

    backend: Backend
    plan: HostPlan

    def start(
        self,
        name: str,
        uid: int = ALICE,
        capabilities: tuple[str, ...] | None = None,
        outer_uid: int | None = None,
    ) -> Process:
        """Start a process; unless it is said which capabilities, root has ROOTS, a user none."""
        if capabilities is None:
            capabilities = ROOTS if uid == ROOT else ()
        plan = ProcessPlan(name, self.plan.name, uid, capabilities, outer_uid)
        return Process(self, name, self.backend.start_process(plan))

    def rows(self, port: int = PORT, state: str = "") -> list[SocketRow]:
        """The sockets of a local port, in one state or in any."""
        rows = self.backend.observe(self.plan.name).sockets
        return [row for row in rows if row.local[1] == port and state in ("", row.state)]

    def row(self, port: int = PORT, state: str = "") -> SocketRow:
        """The only socket of a local port."""
        (row,) = self.rows(port, state)
        return row

    def processes(self) -> dict[int, ProcessRow]:
        """The processes by pid."""
        return {row.pid: row for row in self.backend.observe(self.plan.name).processes}

    def wait_for_queue(self, length: int, port: int = PORT) -> None:
        """Wait until this many connections wait in the accept queues of a port."""

        def is_full() -> bool:
            listeners = self.rows(port, "LISTEN")
            return sum(row.receive_queue for row in listeners) == length

        wait_until(is_full, f"{length} connections in the queue")

    def wait_for_data(self, port: int, size: int) -> None:
        """Wait until this many bytes wait in the only connection of a port."""
        wait_until(lambda: self.row(port).receive_queue == size, f"{size} bytes")

    def wait_for_state(self, port: int, state: str, count: int = 1) -> None:
        """Wait until a port has this many sockets in a state."""
        wait_until(lambda: len(self.rows(port, state)) == count, f"{count} in {state or 'any'}")


@dataclass(frozen=True)
class Process:
    """A process of a backend."""

    host: Host
    name: str
    started: StartedProcess

    def perform(self, *calls: Call, go_on: bool = False) -> Sequence[CallResult]:
        """Make calls in one batch."""
        return self.host.backend.perform(self.name, calls, go_on=go_on)

    def ask(self, name: str, *arguments: Argument) -> CallResult:
        """Make one call."""
        (result,) = self.perform(call(name, *arguments))
        return result

    def do(self, name: str, *arguments: Argument) -> int:
        """Make one call that succeeds and returns a number."""
        result = self.ask(name, *arguments)
        assert (result.errno_name, type(result.value)) == ("", int), f"{name}{arguments}: {result}"
        assert isinstance(result.value, int)
        return result.value

    def refused(self, name: str, *arguments: Argument) -> str:
        """Make one call that fails: the errno's name."""
        result = self.ask(name, *arguments)
        assert result.value is None, f"{name}{arguments}: {result}"
        return result.errno_name

    def socket(self, family: int = IPV4, kind: int = TCP, *options: Option) -> int:
        """A socket with these options set."""
        descriptor = self.do("socket", family, kind, 0)
        for option in options:
            assert self.do("setsockopt", descriptor, *option, 1) == 0
        return descriptor

    def bound(
        self,
        address: str = WILDCARD[IPV4],
        *options: Option,
        port: int = PORT,
        kind: int = TCP,
    ) -> int:
        """A socket that is bound."""
        descriptor = self.socket(family_of(address), kind, *options)
        assert self.do("bind", descriptor, (address, port)) == 0
        return descriptor

    def bind_refused(
        self, address: str, *options: Option, port: int = PORT, kind: int = TCP
    ) -> str:
        """The errno of a bind that fails."""
        descriptor = self.socket(family_of(address), kind, *options)
        return self.refused("bind", descriptor, (address, port))

    def listening(
        self, address: str = WILDCARD[IPV4], *options: Option, port: int = PORT, backlog: int = 16
    ) -> int:
        """A listener."""
        descriptor = self.bound(address, *options, port=port)
        assert self.do("listen", descriptor, backlog) == 0
        return descriptor

    def connected(self, address: str = LOOPBACK[IPV4], port: int = PORT, kind: int = TCP) -> int:
        """A socket that is connected."""
        descriptor = self.socket(family_of(address), kind)
        assert self.do("connect", descriptor, (address, port)) == 0
        return descriptor

    def unix_listening(self) -> int:
        """A UNIX socket that listens."""
        descriptor = self.socket(UNIX)
        assert self.do("bind", descriptor, DOOR) == 0
        assert self.do("listen", descriptor, 1) == 0
        return descriptor

    def unix_connected(self) -> int:
        """A UNIX socket that is connected to it."""
        descriptor = self.socket(UNIX)
        assert self.do("connect", descriptor, DOOR) == 0
        return descriptor

    def tally(self, name: str, *arguments: Argument) -> Tally:
        """Make one call that counts."""
        value = self.ask(name, *arguments).value
        assert isinstance(value, Mapping)
        return value

    def accepted(self, listener: int) -> int:
        """A connection from a listener's queue."""
        return self.do("accept", listener)

    def address(self, descriptor: int) -> Address:
        """What getsockname() says."""
        value = self.ask("getsockname", descriptor).value
        assert isinstance(value, tuple)
        return value

    def port(self, descriptor: int) -> int:
        """The local port."""
        return self.address(descriptor)[1]

    def received(self, descriptor: int, size: int = 100) -> str:
        """What recv() gives."""
        value = self.ask("recv", descriptor, size).value
        assert isinstance(value, str)
        return value

    def fork(self, name: str) -> Process:
        """A child."""
        return Process(self.host, name, self.host.backend.fork_process(self.name, name))

    def end(self, number: int = signal.SIGKILL) -> None:
        """Send a signal, and wait for the end."""
        self.host.backend.end_process(self.name, number)

    def row(self) -> ProcessRow:
        """What /proc says."""
        return self.host.processes()[self.started.pid]

    def inodes(self) -> set[int]:
        """The sockets that it holds."""
        return {opened.inode for opened in self.row().sockets}


def call(name: str, *arguments: Argument) -> Call:
    """A call by name."""
    return Call(name, arguments)


def family_of(address: str) -> int:
    """The address family of an address."""
    return IPV6 if ":" in address else IPV4


def errnos(results: Sequence[CallResult]) -> list[str]:
    """The errno of each call, empty for a success."""
    return [result.errno_name for result in results]


def values(results: Sequence[CallResult]) -> list[object]:
    """The value of each call."""
    return [result.value for result in results]


def connect_pair(server: Host, address: str = LOOPBACK[IPV4]) -> tuple[Process, int, Process, int]:
    """Both ends of a connection that Alice serves and Bob has made: process and descriptor."""
    alice, bob = server.start("alice"), server.start("bob", BOB)
    listener = alice.listening(address)
    ours = bob.connected(address)
    theirs = alice.accepted(listener)
    assert alice.do("close", listener) == 0
    return alice, theirs, bob, ours


SET_UIDS: dict[str, tuple[int, list[Call], tuple[int, int, int, int]]] = {
    "root-seteuid": (ROOT, [call("seteuid", ALICE)], (ROOT, ALICE, ROOT, ALICE)),
    "root-seteuid-and-back": (ROOT, [call("seteuid", ALICE), call("seteuid", ROOT)], (0, 0, 0, 0)),
    "root-setuid": (ROOT, [call("setuid", ALICE)], (ALICE, ALICE, ALICE, ALICE)),
    "seteuid-then-setuid-to-real": (
        ROOT,
        [call("seteuid", ALICE), call("setuid", ROOT)],
        (ROOT, ROOT, ROOT, ROOT),
    ),
    "setreuid-real": (ROOT, [call("setreuid", ALICE, -1)], (ALICE, ROOT, ROOT, ROOT)),
    "setreuid-effective": (ROOT, [call("setreuid", -1, ALICE)], (ROOT, ALICE, ALICE, ALICE)),
    "setreuid-both": (ROOT, [call("setreuid", ALICE, BOB)], (ALICE, BOB, BOB, BOB)),
    "setreuid-to-real": (
        ROOT,
        [call("setresuid", ALICE, BOB, CAROL), call("setreuid", -1, ALICE)],
        (ALICE, ALICE, CAROL, ALICE),
    ),
    "setreuid-swap": (
        ROOT,
        [call("setresuid", ALICE, BOB, CAROL), call("setreuid", BOB, ALICE)],
        (BOB, ALICE, ALICE, ALICE),
    ),
    "setresuid": (ROOT, [call("setresuid", ALICE, BOB, CAROL)], (ALICE, BOB, CAROL, BOB)),
    "setresuid-among-own": (
        ROOT,
        [call("setresuid", ALICE, BOB, CAROL), call("setresuid", CAROL, ALICE, BOB)],
        (CAROL, ALICE, BOB, ALICE),
    ),
    "setresuid-nothing": (ALICE, [call("setresuid", -1, -1, -1)], (ALICE, ALICE, ALICE, ALICE)),
    "seteuid-to-saved": (
        ROOT,
        [call("setresuid", ALICE, BOB, CAROL), call("seteuid", CAROL)],
        (ALICE, CAROL, CAROL, CAROL),
    ),
    "setuid-to-saved": (
        ROOT,
        [call("setresuid", ALICE, BOB, CAROL), call("setuid", CAROL)],
        (ALICE, CAROL, CAROL, CAROL),
    ),
    "setfsuid": (ROOT, [call("setfsuid", ALICE)], (ROOT, ROOT, ROOT, ALICE)),
    "fsuid-follows-euid": (
        ROOT,
        [call("setfsuid", ALICE), call("seteuid", BOB)],
        (ROOT, BOB, ROOT, BOB),
    ),
    "setfsuid-to-stranger": (ALICE, [call("setfsuid", BOB)], (ALICE, ALICE, ALICE, ALICE)),
    "setfsuid-to-real": (
        ROOT,
        [call("setresuid", ALICE, BOB, BOB), call("setfsuid", ALICE)],
        (ALICE, BOB, BOB, ALICE),
    ),
}

NO_UIDS: dict[str, tuple[Call, str]] = {
    "seteuid": (call("seteuid", BOB), "EPERM"),
    "seteuid-root": (call("seteuid", ROOT), "EPERM"),
    "setuid": (call("setuid", BOB), "EPERM"),
    "setuid-root": (call("setuid", ROOT), "EPERM"),
    "setreuid-real": (call("setreuid", BOB, -1), "EPERM"),
    "setreuid-effective": (call("setreuid", -1, BOB), "EPERM"),
    "setresuid": (call("setresuid", -1, -1, BOB), "EPERM"),
    "seteuid-minus-one": (call("seteuid", -1), "EINVAL"),
    "setuid-minus-one": (call("setuid", -1), "EINVAL"),
}
MIXED_NO_UIDS: dict[str, tuple[Call, str]] = {
    "setuid-to-effective-alone": (call("setuid", BOB), "EPERM"),
    "setreuid-real-to-saved": (call("setreuid", CAROL, -1), "EPERM"),
    "setresuid-one-is-a-stranger": (call("setresuid", ALICE, BOB, ROOT), "EPERM"),
    "seteuid-root": (call("seteuid", ROOT), "EPERM"),
}
SET_UID_CALLS = {"seteuid", "setuid", "setreuid", "setresuid", "setfsuid"}

NO_CALLS: dict[str, Call] = {
    "unknown": call("frobnicate", 3),
    "not-a-call": call("__init__", 3),
    "fork": call("fork"),
    "port-too-large": call("bind", 3, ("127.0.0.1", 70_000)),
    "port-negative": call("connect", 3, ("127.0.0.1", -1)),
    "address-of-another-family": call("bind", 3, ("::1", PORT)),
    "address-is-none": call("bind", 3, "127.0.0.1"),
    "too-few-arguments": call("bind", 3),
    "too-many-arguments": call("listen", 3, 1, 1),
    "text-for-a-number": call("listen", 3, "many"),
    "not-one-byte-each": call("send", 3, "€"),
    "option-not-one-byte-each": call("setsockopt", 3, *REUSEPORT, "€"),
    "uid-negative": call("setuid", -2),
    "reference-to-nothing": call("listen", Reference(0), 1),
}

ON_DESCRIPTOR: dict[str, tuple[Argument, ...]] = {
    "setsockopt": (*REUSEPORT, 1),
    "getsockopt": REUSEPORT,
    "bind": (("127.0.0.1", PORT),),
    "listen": (1,),
    "accept": (),
    "connect": (("127.0.0.1", PORT),),
    "send": ("x",),
    "recv": (1,),
    "shutdown": (socket.SHUT_RDWR,),
    "getsockname": (),
    "close": (),
    "fchown": (ALICE, -1),
    "fstat": (),
    "set_inheritable": (1,),
    "drain": ("alice",),
    "attach_reuseport_cbpf": ((RETURN, 0, 0, 0),),
    "sendto": ("x", ("127.0.0.1", PORT)),
    "send_fds": (3,),
    "recv_fds": (),
    "serve": ("epoll", "alice", 0),
}


# --- the suite ----------------------------------------------------------------------------


class BackendContract:
    """The promises of `Backend`, and of the calls that a process can make on one."""

    @pytest.fixture
    def server(self, backend: Backend) -> Host:
        """A host."""
        backend.open_host(SERVER)
        return Host(backend, SERVER)

    @pytest.fixture
    def client(self, backend: Backend) -> Host:
        """Another host."""
        backend.open_host(CLIENT)
        return Host(backend, CLIENT)

    # --- processes ---

    @pytest.mark.parametrize("uid", [ROOT, ALICE])
    def test_a_process_starts_with_its_uid_and_no_sockets(self, server: Host, uid: int) -> None:
        process = server.start("process", uid)
        uids = Credentials(uid, uid, uid, uid)
        assert process.started.credentials == uids
        row = process.row()
        assert (row.pid, row.credentials, row.sockets) == (process.started.pid, uids, ())
        assert server.backend.observe("server").sockets == ()

    def test_processes_differ_in_pid_and_are_all_seen(self, server: Host) -> None:
        pids = {server.start(f"process-{number}").started.pid for number in range(3)}
        assert len(pids) == 3
        assert set(server.processes()) == pids

    def test_a_child_has_its_parents_uids_and_sockets(self, server: Host) -> None:
        root = server.start("root", ROOT)
        root.do("setresuid", ALICE, BOB, CAROL)
        listener = root.listening()
        child = root.fork("child")
        assert child.started.pid != root.started.pid
        assert child.started.credentials == Credentials(ALICE, BOB, CAROL, BOB)
        assert child.row().credentials == child.started.credentials
        assert child.address(listener) == (WILDCARD[IPV4], PORT)
        assert child.inodes() == root.inodes() == {server.row().inode}

    def test_a_child_has_its_own_descriptors_and_uids(self, server: Host) -> None:
        root = server.start("root", ROOT)
        child = root.fork("child")
        child.do("setuid", BOB)
        assert root.row().credentials.effective == ROOT
        child.bound()
        assert root.row().sockets == ()
        assert server.row().uid == BOB

    def test_a_socket_lives_until_its_last_holder_closes_it(self, server: Host) -> None:
        alice = server.start("alice")
        listener = alice.listening()
        child = alice.fork("child")
        alice.do("close", listener)
        assert alice.row().sockets == ()
        assert server.row().state == "LISTEN"
        child.connected()
        assert child.accepted(listener) == 5
        child.do("close", listener)
        assert server.rows(state="LISTEN") == []

    def test_both_holders_accept_from_one_queue(self, server: Host) -> None:
        alice, client = server.start("alice"), server.start("client")
        listener = alice.listening()
        child = alice.fork("child")
        ports = {client.port(client.connected()) for _ in range(2)}
        server.wait_for_queue(2)
        alice.accepted(listener)
        child.accepted(listener)
        assert {row.peer[1] for row in server.rows(state="ESTABLISHED")} == ports
        assert server.row(state="LISTEN").receive_queue == 0

    def test_the_end_of_a_parent_leaves_the_child(self, server: Host) -> None:
        alice = server.start("alice")
        listener = alice.listening()
        child = alice.fork("child")
        alice.end()
        assert set(server.processes()) == {child.started.pid}
        assert child.address(listener) == (WILDCARD[IPV4], PORT)
        assert server.row().state == "LISTEN"

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
    def test_the_end_of_a_process_frees_its_ports(self, server: Host, number: int) -> None:
        alice = server.start("alice")
        alice.listening()
        alice.end(number)
        assert server.processes() == {}
        assert server.rows() == []
        server.start("bob", BOB).listening()

    def test_exit(self, server: Host) -> None:
        alice = server.start("alice")
        alice.listening()
        assert alice.do("exit", 3) == 3
        alice.end(0)
        assert server.processes() == {}
        assert server.rows() == []

    def test_a_process_that_was_ended_is_gone(self, server: Host) -> None:
        alice = server.start("alice")
        alice.end()
        with pytest.raises(EngineError, match="alice"):
            alice.ask("socket", IPV4, TCP)
        with pytest.raises(EngineError, match="alice"):
            alice.fork("child")
        with pytest.raises(EngineError, match="alice"):
            alice.end()

    def test_a_process_that_has_exited_makes_no_calls(self, server: Host) -> None:
        alice = server.start("alice")
        alice.do("exit", 0)
        with pytest.raises(EngineError, match="The process alice has died"):
            alice.ask("socket", IPV4, TCP)

    def test_a_process_that_has_exited_is_no_obstacle_to_others(self, server: Host) -> None:
        alice, bob = server.start("alice"), server.start("bob", BOB)
        alice.listening()
        alice.do("exit", 0)
        server.wait_for_state(PORT, "", 0)
        wait_until(lambda: set(server.processes()) == {bob.started.pid}, "Alice is gone")
        bob.listening()

    def test_exec_keeps_what_is_inheritable(self, server: Host) -> None:
        alice, client = server.start("alice"), server.start("client")
        listener = alice.listening()
        other = alice.listening(port=PORT + 1)
        alice.do("set_inheritable", listener, 1)
        assert alice.perform(call("exec", "/bin/sleep", ("sleep", "1000"))) == ()
        wait_until(lambda: server.rows(PORT + 1) == [], f"descriptor {other} is closed by exec")
        (opened,) = alice.row().sockets
        assert (opened.descriptor, opened.inode) == (listener, server.row().inode)
        client.connected()
        server.wait_for_queue(1)
        alice.end(signal.SIGTERM)
        assert server.rows(state="LISTEN") == []
        assert set(server.processes()) == {client.started.pid}

    def test_a_child_inherits_what_is_inheritable(self, server: Host) -> None:
        alice = server.start("alice")
        alice.do("set_inheritable", alice.listening(), 1)
        child = alice.fork("child")
        alice.end()
        child.perform(call("exec", "/bin/sleep", ("sleep", "1000")))
        assert child.inodes() == {server.row().inode}

    def test_what_is_made_inheritable_can_be_taken_back(self, server: Host) -> None:
        alice = server.start("alice")
        listener = alice.listening()
        assert alice.do("set_inheritable", listener, 1) == 0
        assert alice.do("set_inheritable", listener, 0) == 0
        alice.perform(call("exec", "/bin/sleep", ("sleep", "1000")))
        wait_until(lambda: server.rows() == [], "the listener is closed by exec")
        assert set(server.processes()) == {alice.started.pid}

    def test_exec_sets_the_saved_uid(self, server: Host) -> None:
        root = server.start("root", ROOT)
        root.ask("seteuid", ALICE)
        assert root.perform(call("exec", "/bin/sleep", ("sleep", "1000"))) == ()
        uids = Credentials(ROOT, ALICE, ALICE, ALICE)
        wait_until(lambda: root.row().credentials == uids, "the uids after exec")

    def test_a_process_that_has_become_another_program_makes_no_calls(self, server: Host) -> None:
        alice = server.start("alice")
        alice.perform(call("exec", "/bin/sleep", ("sleep", "1000")))
        with pytest.raises(EngineError, match="The process alice has died"):
            alice.ask("socket", IPV4, TCP)

    def test_nothing_comes_after_exec(self, server: Host) -> None:
        alice = server.start("alice")
        with pytest.raises(EngineError, match="The process alice has died"):
            alice.perform(call("exec", "/bin/sleep", ("sleep", "1000")), call("exit", 0))

    # --- uids ---

    @pytest.mark.parametrize("case", SET_UIDS)
    def test_a_change_of_uids(self, server: Host, case: str) -> None:
        uid, calls, expected = SET_UIDS[case]
        process = server.start("process", uid)
        results = process.perform(*calls)
        assert errnos(results) == [""] * len(calls)
        assert results[-1].credentials == Credentials(*expected)
        assert process.row().credentials == Credentials(*expected)

    @pytest.mark.parametrize("case", NO_UIDS)
    def test_a_user_may_not_become_another(self, server: Host, case: str) -> None:
        change, errno = NO_UIDS[case]
        alice = server.start("alice")
        assert alice.refused(change.name, *change.arguments) == errno
        assert alice.row().credentials == Credentials(ALICE, ALICE, ALICE, ALICE)

    @pytest.mark.parametrize("case", MIXED_NO_UIDS)
    def test_a_process_of_three_users_has_no_other(self, server: Host, case: str) -> None:
        change, errno = MIXED_NO_UIDS[case]
        mixed = server.start("mixed", ROOT)
        mixed.do("setresuid", ALICE, BOB, CAROL)
        result = mixed.ask(change.name, *change.arguments)
        assert result == CallResult(None, result.errno, Credentials(ALICE, BOB, CAROL, BOB))
        assert result.errno_name == errno

    def test_setfsuid_returns_the_one_before(self, server: Host) -> None:
        root = server.start("root", ROOT)
        assert [root.do("setfsuid", uid) for uid in (ALICE, BOB, BOB)] == [ROOT, ALICE, BOB]

    def test_each_result_has_the_uids_after_its_call(self, server: Host) -> None:
        root = server.start("root", ROOT)
        calls = [call("seteuid", uid) for uid in (ALICE, ROOT, BOB)] + [call("seteuid", CAROL)]
        results = root.perform(*calls)
        assert errnos(results) == ["", "", "", "EPERM"]
        assert [result.credentials.effective for result in results] == [ALICE, ROOT, BOB, BOB]

    # --- capabilities ---

    @pytest.mark.parametrize("uid", [ROOT, ALICE])
    @pytest.mark.parametrize("names", [(), ("CAP_NET_BIND_SERVICE",), ROOTS])
    def test_a_process_has_the_capabilities_that_are_named(
        self, server: Host, uid: int, names: tuple[str, ...]
    ) -> None:
        process = server.start("process", uid, names)
        mask = capability_mask(names)
        assert process.row().capabilities == mask
        assert process.fork("child").row().capabilities == mask

    @pytest.mark.parametrize("uid", [ROOT, ALICE])
    @pytest.mark.parametrize("names", [(), ("CAP_NET_BIND_SERVICE",), ROOTS])
    def test_exec_neither_adds_capabilities_nor_takes_them(
        self, server: Host, uid: int, names: tuple[str, ...]
    ) -> None:
        process = server.start("process", uid, names)
        process.listening()
        process.perform(call("exec", "/bin/sleep", ("sleep", "1000")))
        wait_until(lambda: server.rows() == [], "the listener is closed by exec")
        assert process.row().capabilities == capability_mask(names)

    def test_root_takes_its_capabilities_back_with_its_uid(self, server: Host) -> None:
        root = server.start("root", ROOT, ("CAP_SETUID", "CAP_NET_BIND_SERVICE"))
        mask = root.row().capabilities
        root.do("seteuid", ALICE)
        assert root.row().capabilities == 0
        assert root.bind_refused(WILDCARD[IPV4], port=80) == "EACCES"
        assert root.refused("seteuid", BOB) == "EPERM"
        root.do("seteuid", ROOT)
        assert root.row().capabilities == mask
        root.bound(port=80)

    def test_root_leaves_its_capabilities_with_its_last_uid(self, server: Host) -> None:
        root = server.start("root", ROOT)
        root.do("setresuid", ALICE, ALICE, ROOT)
        root.do("seteuid", ROOT)
        assert root.row().capabilities == capability_mask(ROOTS)
        root.do("setuid", ALICE)
        assert root.row().capabilities == 0

    def test_a_root_that_has_lent_its_uid_away_executes_without_capabilities(
        self, server: Host
    ) -> None:
        root = server.start("root", ROOT)
        root.do("seteuid", ALICE)
        root.listening()
        root.perform(call("exec", "/bin/sleep", ("sleep", "1000")))
        wait_until(lambda: server.rows() == [], "the listener is closed by exec")
        assert root.row().capabilities == 0

    def test_a_user_keeps_its_capabilities_through_a_change_of_users(self, server: Host) -> None:
        alice = server.start("alice", ALICE, ("CAP_SETUID", "CAP_NET_BIND_SERVICE"))
        mask = alice.row().capabilities
        alice.do("setresuid", ALICE, BOB, CAROL)
        assert alice.row().capabilities == mask
        alice.do("seteuid", ROOT)
        assert alice.row().capabilities == mask
        alice.do("setresuid", BOB, BOB, BOB)
        assert alice.row().capabilities == 0

    def test_the_file_system_uid_has_the_capabilities_over_files(self, server: Host) -> None:
        root = server.start("root", ROOT)
        mask = root.row().capabilities
        root.do("setfsuid", ALICE)
        assert root.row().capabilities == mask & ~capability_mask(["CAP_CHOWN"])
        # The file-system uid is root's again, but not by setfsuid().
        root.do("seteuid", ROOT)
        assert root.refused("fchown", root.socket(), ALICE, -1) == "EPERM"
        root.do("setfsuid", ALICE)
        root.do("setfsuid", ROOT)
        assert root.row().capabilities == mask

    def test_without_its_capability_root_may_not_change_its_uid(self, server: Host) -> None:
        root = server.start("root", ROOT, ("CAP_CHOWN", "CAP_NET_BIND_SERVICE"))
        assert root.refused("setuid", ALICE) == "EPERM"
        assert root.refused("seteuid", ALICE) == "EPERM"
        assert root.refused("setreuid", -1, ALICE) == "EPERM"
        assert root.refused("setresuid", -1, ALICE, -1) == "EPERM"
        assert root.do("setfsuid", ALICE) == ROOT
        assert root.row().credentials == Credentials(ROOT, ROOT, ROOT, ROOT)

    def test_without_its_capability_root_may_not_give_a_socket_away(self, server: Host) -> None:
        root = server.start("root", ROOT, ("CAP_SETUID", "CAP_NET_BIND_SERVICE"))
        descriptor = root.socket()
        assert root.refused("fchown", descriptor, ALICE, -1) == "EPERM"
        assert root.do("fchown", descriptor, ROOT, -1) == 0

    def test_with_its_capability_a_user_may_do_what_is_roots(self, server: Host) -> None:
        alice = server.start("alice", ALICE, ("CAP_CHOWN",))
        descriptor = alice.listening()
        assert alice.do("fchown", descriptor, BOB, -1) == 0
        assert server.row().uid == BOB
        assert alice.do("fchown", descriptor, ALICE, -1) == 0
        carol = server.start("carol", CAROL, ("CAP_SETUID",))
        assert carol.do("setresuid", BOB, BOB, BOB) == 0
        assert carol.row().credentials == Credentials(BOB, BOB, BOB, BOB)

    # --- batches ---

    def test_an_empty_batch(self, server: Host) -> None:
        assert list(server.start("alice").perform()) == []

    def test_a_batch_stops_at_the_first_failure(self, server: Host) -> None:
        alice = server.start("alice")
        calls = [call("socket", IPV4, TCP), call("accept", Reference(0)), call("close", 3)]
        results = alice.perform(*calls)
        assert (values(results), errnos(results)) == ([3, None], ["", "EINVAL"])
        assert alice.address(3) == (WILDCARD[IPV4], 0)

    def test_a_batch_goes_on_where_it_is_told_to(self, server: Host) -> None:
        alice = server.start("alice")
        calls = [
            call("socket", IPV4, TCP),
            call("accept", Reference(0)),
            call("recv", Reference(0), 1),
            call("close", Reference(0)),
        ]
        results = alice.perform(*calls, go_on=True)
        assert values(results) == [3, None, None, 0]
        assert errnos(results) == ["", "EINVAL", "ENOTCONN", ""]

    def test_references(self, server: Host) -> None:
        alice = server.start("alice")
        results = alice.perform(
            call("socket", IPV4, TCP),
            call("bind", Reference(0), (LOOPBACK[IPV4], PORT)),
            call("listen", Reference(0), 1),
            call("socket", IPV4, TCP),
            call("connect", Reference(3), (LOOPBACK[IPV4], PORT)),
            call("accept", Reference(0)),
            call("send", Reference(5), "hello"),
            call("recv", Reference(3), 100),
            call("getsockname", Reference(5)),
        )
        assert errnos(results) == [""] * 9
        assert values(results) == [3, 0, 0, 4, 0, 5, 5, "hello", (LOOPBACK[IPV4], PORT)]

    @pytest.mark.parametrize("case", NO_CALLS)
    def test_a_call_that_cannot_be_made(self, server: Host, case: str) -> None:
        alice = server.start("alice")
        assert alice.socket() == 3
        with pytest.raises(LabError, match="alice"):
            alice.perform(NO_CALLS[case])
        assert alice.socket() == 4

    # --- descriptors and options ---

    def test_a_new_socket_takes_the_lowest_free_descriptor(self, server: Host) -> None:
        alice = server.start("alice")
        assert [alice.socket() for _ in range(3)] == [3, 4, 5]
        alice.do("close", 4)
        alice.do("close", 3)
        assert [alice.socket() for _ in range(3)] == [3, 4, 6]

    @pytest.mark.parametrize("name", ON_DESCRIPTOR)
    def test_an_unknown_descriptor(self, server: Host, name: str) -> None:
        assert server.start("alice").refused(name, 77, *ON_DESCRIPTOR[name]) == "EBADF"

    @pytest.mark.parametrize("name", ON_DESCRIPTOR)
    def test_a_closed_descriptor(self, server: Host, name: str) -> None:
        alice = server.start("alice")
        assert alice.do("close", alice.socket()) == 0
        assert alice.refused(name, 3, *ON_DESCRIPTOR[name]) == "EBADF"

    @pytest.mark.parametrize(
        ("arguments", "errno"),
        [
            ((99, TCP, 0), "EAFNOSUPPORT"),
            ((IPV4, int(socket.SOCK_SEQPACKET), 0), "ESOCKTNOSUPPORT"),
            ((IPV4, TCP, socket.IPPROTO_UDP), "EPROTONOSUPPORT"),
        ],
    )
    def test_no_such_socket(
        self, server: Host, arguments: tuple[int, int, int], errno: str
    ) -> None:
        alice = server.start("alice")
        assert alice.refused("socket", *arguments) == errno
        assert alice.do("socket", IPV4, TCP, socket.IPPROTO_TCP) == 3

    @FAMILIES
    @KINDS
    @pytest.mark.parametrize("option", [REUSEADDR, REUSEPORT], ids=["reuseaddr", "reuseport"])
    def test_options(self, server: Host, family: int, kind: int, option: Option) -> None:
        alice = server.start("alice")
        descriptor = alice.socket(family, kind)
        assert alice.do("getsockopt", descriptor, *option) == 0
        assert alice.do("setsockopt", descriptor, *option, 1) == 0
        assert alice.do("getsockopt", descriptor, *option) == 1
        (opened,) = alice.row().sockets
        assert (opened.reuseaddr, opened.reuseport) == (option == REUSEADDR, option == REUSEPORT)
        assert alice.do("setsockopt", descriptor, *option, 0) == 0
        assert alice.do("getsockopt", descriptor, *option) == 0

    def test_an_option_of_text(self, server: Host) -> None:
        alice = server.start("alice")
        linger = (int(socket.SOL_SOCKET), int(socket.SO_LINGER))
        assert alice.do("setsockopt", alice.socket(), *linger, "\x01\0\0\0\x05\0\0\0") == 0

    def test_v6only_is_for_unbound_ipv6(self, server: Host) -> None:
        alice = server.start("alice")
        assert alice.refused("setsockopt", alice.socket(), *V6ONLY, 1) == "ENOPROTOOPT"
        assert alice.refused("setsockopt", alice.bound("::"), *V6ONLY, 1) == "EINVAL"

    def test_fstat_gives_the_inode_of_the_row(self, server: Host) -> None:
        alice = server.start("alice")
        inode = alice.do("fstat", alice.listening())
        assert inode > 0
        assert inode == server.row().inode

    # --- bind() ---

    @FAMILIES
    @KINDS
    def test_bind_gives_the_socket_its_name(self, server: Host, family: int, kind: int) -> None:
        alice = server.start("alice")
        for port, address in enumerate((WILDCARD[family], LOOPBACK[family], OWN[family]), PORT):
            descriptor = alice.bound(address, port=port, kind=kind)
            assert alice.address(descriptor) == (address, port)

    @FAMILIES
    @KINDS
    def test_an_empty_address_is_the_wildcard(self, server: Host, family: int, kind: int) -> None:
        alice = server.start("alice")
        descriptor = alice.socket(family, kind)
        assert alice.do("bind", descriptor, ("", PORT)) == 0
        assert alice.address(descriptor) == (WILDCARD[family], PORT)

    @FAMILIES
    @KINDS
    def test_a_second_bind_of_one_socket(self, server: Host, family: int, kind: int) -> None:
        alice = server.start("alice")
        descriptor = alice.bound(WILDCARD[family], kind=kind)
        address = (WILDCARD[family], PORT + 1)
        assert alice.refused("bind", descriptor, address) == "EINVAL"
        assert alice.port(descriptor) == PORT

    @FAMILIES
    @KINDS
    def test_port_0_is_a_free_one(self, server: Host, family: int, kind: int) -> None:
        alice = server.start("alice")
        descriptors = [alice.bound(WILDCARD[family], port=0, kind=kind) for _ in range(5)]
        ports = {alice.port(descriptor) for descriptor in descriptors}
        assert len(ports) == 5
        assert min(ports) >= 1024

    @FAMILIES
    @KINDS
    def test_a_port_is_taken(self, server: Host, family: int, kind: int) -> None:
        alice = server.start("alice")
        descriptor = alice.bound(WILDCARD[family], kind=kind)
        assert alice.bind_refused(WILDCARD[family], kind=kind) == "EADDRINUSE"
        alice.bound(WILDCARD[family], port=PORT + 1, kind=kind)
        alice.do("close", descriptor)
        alice.bound(WILDCARD[family], kind=kind)

    @FAMILIES
    @KINDS
    def test_after_a_refusal_another_port_will_do(
        self, server: Host, family: int, kind: int
    ) -> None:
        alice = server.start("alice")
        alice.bound(WILDCARD[family], kind=kind)
        descriptor = alice.socket(family, kind)
        assert alice.refused("bind", descriptor, (WILDCARD[family], PORT)) == "EADDRINUSE"
        assert alice.do("bind", descriptor, (WILDCARD[family], PORT + 1)) == 0
        assert alice.port(descriptor) == PORT + 1

    @FAMILIES
    @KINDS
    def test_the_wildcard_meets_each_address(self, server: Host, family: int, kind: int) -> None:
        alice = server.start("alice")
        descriptor = alice.bound(WILDCARD[family], kind=kind)
        assert alice.bind_refused(LOOPBACK[family], kind=kind) == "EADDRINUSE"
        assert alice.bind_refused(OWN[family], kind=kind) == "EADDRINUSE"
        alice.do("close", descriptor)
        alice.bound(LOOPBACK[family], kind=kind)
        alice.bound(OWN[family], kind=kind)
        assert alice.bind_refused(WILDCARD[family], kind=kind) == "EADDRINUSE"

    @KINDS
    def test_the_ipv6_wildcard_has_ipv4_too(self, server: Host, kind: int) -> None:
        alice = server.start("alice")
        alice.bound("::", kind=kind)
        assert alice.bind_refused(WILDCARD[IPV4], kind=kind) == "EADDRINUSE"
        assert alice.bind_refused(LOOPBACK[IPV4], kind=kind) == "EADDRINUSE"
        alice.bound(LOOPBACK[IPV4], port=PORT + 1, kind=kind)
        assert alice.bind_refused("::", port=PORT + 1, kind=kind) == "EADDRINUSE"

    @KINDS
    def test_ipv6_alone_leaves_ipv4(self, server: Host, kind: int) -> None:
        alice = server.start("alice")
        alice.bound("::", V6ONLY, kind=kind)
        alice.bound(WILDCARD[IPV4], kind=kind)
        alice.bound("::1", port=PORT + 1, kind=kind)
        alice.bound(WILDCARD[IPV4], port=PORT + 1, kind=kind)

    @KINDS
    def test_a_mapped_address_is_ipv4(self, server: Host, kind: int) -> None:
        alice = server.start("alice")
        descriptor = alice.bound("::ffff:127.0.0.1", kind=kind)
        assert alice.address(descriptor) == ("::ffff:127.0.0.1", PORT)
        assert alice.bind_refused(LOOPBACK[IPV4], kind=kind) == "EADDRINUSE"
        alice.bound("::1", kind=kind)
        assert alice.bind_refused("::ffff:127.0.0.1", V6ONLY, port=PORT + 1, kind=kind) == "EINVAL"

    def test_tcp_and_udp_have_ports_of_their_own(self, server: Host) -> None:
        alice = server.start("alice")
        alice.bound(kind=TCP)
        alice.bound(kind=UDP)

    @FAMILIES
    @KINDS
    def test_hosts_have_ports_of_their_own(
        self, server: Host, client: Host, family: int, kind: int
    ) -> None:
        server.start("alice").bound(WILDCARD[family], kind=kind)
        server.start("alice-2").bound(WILDCARD[family], port=PORT + 1, kind=kind)
        bob = client.start("bob", BOB)
        bob.bound(WILDCARD[family], kind=kind)
        assert client.rows(PORT + 1) == []
        assert set(client.processes()) == {bob.started.pid}
        assert bob.bind_refused(OWN[family], port=PORT + 1, kind=kind) == "EADDRNOTAVAIL"

    @FAMILIES
    @KINDS
    def test_an_address_of_nobody(self, server: Host, family: int, kind: int) -> None:
        address = {IPV4: "192.0.2.1", IPV6: "2001:db8::1"}[family]
        assert server.start("alice").bind_refused(address, kind=kind) == "EADDRNOTAVAIL"

    @FAMILIES
    @KINDS
    @pytest.mark.parametrize("uid", [ROOT, ALICE])
    def test_low_ports_take_a_capability(
        self, server: Host, family: int, kind: int, uid: int
    ) -> None:
        without = server.start("without", uid, ())
        within = server.start("with", uid, ("CAP_NET_BIND_SERVICE",))
        assert without.bind_refused(WILDCARD[family], port=1023, kind=kind) == "EACCES"
        assert without.bind_refused(LOOPBACK[family], port=1, kind=kind) == "EACCES"
        without.bound(WILDCARD[family], port=1024, kind=kind)
        within.bound(WILDCARD[family], port=1023, kind=kind)

    @FAMILIES
    @KINDS
    def test_a_host_may_have_no_low_ports(
        self, backend: Backend, server: Host, family: int, kind: int
    ) -> None:
        backend.open_host(OPEN)
        alice = Host(backend, OPEN).start("alice")
        alice.bound(WILDCARD[family], port=1, kind=kind)
        alice.bound(WILDCARD[family], port=1023, kind=kind)
        # A host's ports are its own.
        bob = server.start("bob", BOB)
        assert bob.bind_refused(WILDCARD[family], port=1023, kind=kind) == "EACCES"

    def test_a_hosts_low_ports_end_where_its_plan_says(self, backend: Backend) -> None:
        plan = replace(OPEN, unprivileged_port_start=80)
        assert backend.open_host(plan) == OpenedHost(machine_port=0)
        alice = Host(backend, plan).start("alice")
        assert alice.bind_refused(WILDCARD[IPV4], port=79) == "EACCES"
        alice.bound(port=80)

    # --- sharing a port: who may ---

    @FAMILIES
    @KINDS
    def test_one_user_shares_by_reuseport(self, server: Host, family: int, kind: int) -> None:
        address = WILDCARD[family]
        for name in ("alice", "alice-2"):
            server.start(name).bound(address, REUSEPORT, kind=kind)
        for name, uid in (("bob", BOB), ("root", ROOT)):
            process = server.start(name, uid)
            assert process.bind_refused(address, REUSEPORT, kind=kind) == "EADDRINUSE"

    @FAMILIES
    @KINDS
    def test_all_have_to_set_reuseport(self, server: Host, family: int, kind: int) -> None:
        alice, address = server.start("alice"), WILDCARD[family]
        first = alice.bound(address, kind=kind)
        assert alice.bind_refused(address, REUSEPORT, kind=kind) == "EADDRINUSE"
        # It is asked of the socket as it is now, not as it was when it was bound.
        alice.do("setsockopt", first, *REUSEPORT, 1)
        alice.bound(address, REUSEPORT, kind=kind)
        assert alice.bind_refused(address, kind=kind) == "EADDRINUSE"

    @FAMILIES
    @KINDS
    def test_users_share_by_reuseaddr(self, server: Host, family: int, kind: int) -> None:
        alice, bob, address = server.start("alice"), server.start("bob", BOB), WILDCARD[family]
        alice.bound(address, REUSEADDR, kind=kind)
        bob.bound(address, REUSEADDR, kind=kind)
        assert bob.bind_refused(address, kind=kind) == "EADDRINUSE"
        assert bob.bind_refused(address, REUSEPORT, kind=kind) == "EADDRINUSE"

    @FAMILIES
    def test_one_of_those_who_share_by_reuseaddr_listens(self, server: Host, family: int) -> None:
        alice, bob, address = server.start("alice"), server.start("bob", BOB), WILDCARD[family]
        first, second = (user.bound(address, REUSEADDR) for user in (alice, bob))
        assert alice.do("listen", first, 1) == 0
        assert bob.refused("listen", second, 1) == "EADDRINUSE"
        assert alice.bind_refused(address, REUSEADDR) == "EADDRINUSE"
        assert alice.bind_refused(LOOPBACK[family], REUSEADDR) == "EADDRINUSE"
        alice.do("close", first)
        assert bob.do("listen", second, 1) == 0

    def test_the_owner_is_who_made_the_socket(self, server: Host) -> None:
        server.start("alice").listening(WILDCARD[IPV4], REUSEPORT)
        trick = server.start("trick", ROOT)
        trick.do("seteuid", ALICE)
        descriptor = trick.socket(IPV4, TCP, REUSEPORT)
        trick.do("seteuid", ROOT)
        assert trick.do("bind", descriptor, (WILDCARD[IPV4], PORT)) == 0
        assert trick.do("listen", descriptor, 1) == 0
        assert [row.uid for row in server.rows()] == [ALICE, ALICE]

    def test_the_owner_stays_when_the_process_changes(self, server: Host) -> None:
        server.start("alice").listening(WILDCARD[IPV4], REUSEPORT)
        dropper = server.start("dropper", ROOT)
        descriptor = dropper.socket(IPV4, TCP, REUSEPORT)
        dropper.do("setuid", ALICE)
        assert dropper.refused("bind", descriptor, (WILDCARD[IPV4], PORT)) == "EADDRINUSE"

    def test_the_real_uid_does_not_count(self, server: Host) -> None:
        server.start("alice").listening(WILDCARD[IPV4], REUSEPORT)
        mixed = server.start("mixed", ROOT)
        mixed.do("setresuid", ALICE, BOB, ALICE)
        assert mixed.bind_refused(WILDCARD[IPV4], REUSEPORT) == "EADDRINUSE"
        mixed.do("setresuid", BOB, ALICE, -1)
        mixed.bound(WILDCARD[IPV4], REUSEPORT)

    def test_the_file_system_uid_is_the_owner(self, server: Host) -> None:
        root = server.start("root", ROOT)
        root.do("setfsuid", BOB)
        root.listening()
        assert server.row().uid == BOB

    def test_fchown_gives_a_socket_away(self, server: Host) -> None:
        server.start("alice").listening(WILDCARD[IPV4], REUSEPORT)
        root = server.start("root", ROOT)
        descriptor = root.socket(IPV4, TCP, REUSEPORT)
        assert root.do("fchown", descriptor, ALICE, -1) == 0
        assert root.do("bind", descriptor, (WILDCARD[IPV4], PORT)) == 0
        # listen() asks again.
        assert root.do("fchown", descriptor, BOB, -1) == 0
        assert root.refused("listen", descriptor, 1) == "EADDRINUSE"
        assert root.do("fchown", descriptor, ALICE, -1) == 0
        assert root.do("listen", descriptor, 1) == 0

    def test_fchown_is_roots(self, server: Host) -> None:
        alice = server.start("alice")
        descriptor = alice.listening()
        assert alice.refused("fchown", descriptor, BOB, -1) == "EPERM"
        assert alice.refused("fchown", descriptor, ROOT, -1) == "EPERM"
        assert alice.do("fchown", descriptor, ALICE, -1) == 0
        assert alice.do("fchown", descriptor, -1, -1) == 0
        assert server.row().uid == ALICE

    def test_fchown_is_not_for_a_root_who_has_lent_it_away(self, server: Host) -> None:
        root = server.start("root", ROOT)
        descriptor = root.listening()
        root.do("seteuid", ALICE)
        assert root.refused("fchown", descriptor, ALICE, -1) == "EPERM"
        root.do("seteuid", ROOT)
        assert root.do("fchown", descriptor, ALICE, -1) == 0
        assert server.row().uid == ALICE

    def test_fchown_takes_the_file_system_uid_too(self, server: Host) -> None:
        root = server.start("root", ROOT)
        descriptor = root.listening()
        root.do("setfsuid", BOB)
        assert root.refused("fchown", descriptor, BOB, -1) == "EPERM"
        root.do("setfsuid", ROOT)
        assert root.do("fchown", descriptor, BOB, -1) == 0
        assert server.row().uid == BOB

    # --- listeners ---

    @FAMILIES
    def test_a_listener_is_seen(self, server: Host, family: int) -> None:
        alice = server.start("alice")
        listener = alice.listening(WILDCARD[family], REUSEPORT, backlog=5)
        row = server.row()
        expected = ("tcp", "LISTEN", (WILDCARD[family], PORT), (WILDCARD[family], 0))
        assert (row.protocol, row.state, row.local, row.peer) == expected
        assert (row.uid, row.receive_queue, row.send_queue) == (ALICE, 0, 5)
        assert (row.timer, row.expires) == ("", 0)
        (opened,) = alice.row().sockets
        assert (opened.descriptor, opened.inode) == (listener, row.inode)
        assert (opened.reuseaddr, opened.reuseport) == (False, True)

    def test_each_holder_is_seen(self, server: Host) -> None:
        alice = server.start("alice")
        alice.listening()
        holders = [alice, *(alice.fork(name) for name in ("child", "child-2"))]
        stranger = server.start("stranger")
        inode = server.row().inode
        found = [pid for pid, row in server.processes().items() if row.sockets]
        assert sorted(found) == sorted(holder.started.pid for holder in holders)
        assert all(holder.inodes() == {inode} for holder in holders)
        assert stranger.inodes() == set()

    def test_listen_without_bind_takes_a_free_port(self, server: Host) -> None:
        alice = server.start("alice")
        listener = alice.socket()
        assert alice.do("listen", listener, 1) == 0
        assert server.row(alice.port(listener)).state == "LISTEN"

    def test_listen_again_changes_the_backlog(self, server: Host) -> None:
        alice = server.start("alice")
        listener = alice.listening(backlog=5)
        assert alice.do("listen", listener, 7) == 0
        assert server.row().send_queue == 7

    def test_a_listener_that_is_shut_down_keeps_its_port(self, server: Host) -> None:
        alice, bob = server.start("alice"), server.start("bob", BOB)
        listener = alice.listening()
        child = alice.fork("child")
        assert child.do("shutdown", listener, socket.SHUT_RD) == 0
        assert alice.refused("accept", listener) == "EINVAL"
        assert bob.refused("connect", bob.socket(), (LOOPBACK[IPV4], PORT)) == "ECONNREFUSED"
        assert bob.bind_refused(WILDCARD[IPV4]) == "EADDRINUSE"
        assert alice.do("listen", listener, 1) == 0
        bob.connected()
        assert alice.accepted(listener) == 4

    # --- connections ---

    @FAMILIES
    def test_nobody_listens(self, server: Host, family: int) -> None:
        alice = server.start("alice")
        descriptor = alice.socket(family)
        assert alice.refused("connect", descriptor, (LOOPBACK[family], PORT)) == "ECONNREFUSED"
        alice.bound(WILDCARD[family])
        assert alice.refused("connect", descriptor, (LOOPBACK[family], PORT)) == "ECONNREFUSED"

    def test_nothing_outside_is_reached(self, server: Host) -> None:
        alice = server.start("alice")
        refused = alice.refused("connect", alice.socket(), ("192.0.2.1", PORT))
        # No route, or one to a gateway that does not exist.
        assert refused in ("ENETUNREACH", "EHOSTUNREACH")

    @FAMILIES
    def test_a_connection(self, server: Host, family: int) -> None:
        alice, bob = server.start("alice"), server.start("bob", BOB)
        here = LOOPBACK[family]
        listener = alice.listening(WILDCARD[family])
        ours = bob.connected(here)
        port = bob.port(ours)
        assert bob.address(ours) == (here, port)
        server.wait_for_queue(1)
        theirs = alice.accepted(listener)
        assert server.row(state="LISTEN").receive_queue == 0
        assert alice.address(theirs) == (here, PORT)
        row, other = server.row(state="ESTABLISHED"), server.row(port)
        assert (row.local, row.peer, row.uid) == ((here, PORT), (here, port), ALICE)
        assert (other.local, other.peer, other.uid) == ((here, port), (here, PORT), BOB)
        assert row.inode in alice.inodes()
        assert other.inode in bob.inodes()

    @FAMILIES
    def test_hosts_reach_each_other(self, server: Host, client: Host, family: int) -> None:
        alice, bob = server.start("alice"), client.start("bob", BOB)
        there = {IPV4: CLIENT.ipv4, IPV6: CLIENT.ipv6}[family]
        listener = alice.listening(WILDCARD[family])
        ours = bob.connected(OWN[family])
        assert bob.address(ours)[0] == there
        theirs = alice.accepted(listener)
        assert server.row(state="ESTABLISHED").peer == bob.address(ours)
        assert client.rows() == []
        assert client.row(bob.port(ours)).peer == (OWN[family], PORT)
        assert bob.do("send", ours, "ping") == 4
        assert alice.received(theirs) == "ping"
        assert alice.do("send", theirs, "pong") == 4
        assert bob.received(ours) == "pong"

    @FAMILIES
    def test_loopback_is_a_hosts_own(self, server: Host, client: Host, family: int) -> None:
        server.start("alice").listening(WILDCARD[family])
        bob = client.start("bob")
        arguments = (bob.socket(family), (LOOPBACK[family], PORT))
        assert bob.refused("connect", *arguments) == "ECONNREFUSED"

    @FAMILIES
    def test_the_wildcard_as_a_target_is_loopback(self, server: Host, family: int) -> None:
        alice, bob = server.start("alice"), server.start("bob")
        alice.listening(WILDCARD[family])
        ours = bob.connected(WILDCARD[family])
        assert server.row(bob.port(ours)).peer == (LOOPBACK[family], PORT)

    @FAMILIES
    def test_two_connections_differ_in_an_end(self, server: Host, family: int) -> None:
        alice, bob, here = server.start("alice"), server.start("bob"), LOOPBACK[family]
        for port in (PORT, PORT + 1):
            alice.listening(here, port=port)
        first, second = (bob.bound(here, REUSEADDR, port=PORT + 2) for _ in range(2))
        assert bob.do("connect", first, (here, PORT)) == 0
        assert bob.refused("connect", second, (here, PORT)) == "EADDRNOTAVAIL"
        assert bob.do("connect", second, (here, PORT + 1)) == 0

    def test_an_ipv6_listener_takes_ipv4_clients(self, server: Host) -> None:
        alice, bob = server.start("alice"), server.start("bob")
        listener = alice.listening("::")
        port = bob.port(bob.connected(LOOPBACK[IPV4]))
        theirs = alice.accepted(listener)
        assert alice.address(theirs) == ("::ffff:127.0.0.1", PORT)
        assert server.row(state="ESTABLISHED").peer == ("::ffff:127.0.0.1", port)
        only = alice.listening("::", V6ONLY, port=PORT + 1)
        address = (LOOPBACK[IPV4], PORT + 1)
        assert bob.refused("connect", bob.socket(), address) == "ECONNREFUSED"
        bob.connected(LOOPBACK[IPV6], PORT + 1)
        assert alice.accepted(only) == theirs + 2

    def test_a_client_keeps_the_port_that_it_was_bound_to(self, server: Host) -> None:
        alice, bob = server.start("alice"), server.start("bob")
        alice.listening()
        descriptor = bob.bound(LOOPBACK[IPV4], port=PORT + 1)
        assert bob.do("connect", descriptor, (LOOPBACK[IPV4], PORT)) == 0
        assert bob.address(descriptor) == (LOOPBACK[IPV4], PORT + 1)
        # A connection's port counts like any other.
        assert alice.bind_refused(WILDCARD[IPV4], port=PORT + 1) == "EADDRINUSE"

    def test_a_connection_belongs_to_its_accepter(self, server: Host) -> None:
        root, client = server.start("root", ROOT), server.start("client")
        listener = root.listening(WILDCARD[IPV4], REUSEPORT, REUSEADDR)
        worker = root.fork("worker")
        worker.do("seteuid", BOB)
        client.connected()
        theirs = worker.accepted(listener)
        assert server.row(state="ESTABLISHED").uid == BOB
        assert server.row(state="LISTEN").uid == ROOT
        options = [(opened.reuseaddr, opened.reuseport) for opened in worker.row().sockets]
        assert options == [(True, True), (True, True)]
        assert [opened.descriptor for opened in worker.row().sockets] == [listener, theirs]

    def test_connections_wait_in_order(self, server: Host) -> None:
        alice, client = server.start("alice"), server.start("client")
        listener = alice.listening()
        ports = []
        for length in (1, 2, 3):
            ports.append(client.port(client.connected()))
            server.wait_for_queue(length)
        for port in ports:
            theirs = alice.accepted(listener)
            assert server.row(state="LISTEN").receive_queue == len(ports) - ports.index(port) - 1
            (row,) = [row for row in server.rows() if row.inode == alice.do("fstat", theirs)]
            assert row.peer[1] == port

    @FAMILIES
    def test_each_member_of_a_group_gets_a_share(self, server: Host, family: int) -> None:
        alice, client = server.start("alice"), server.start("client", BOB)
        members = [alice.listening(WILDCARD[family], REUSEPORT, backlog=64) for _ in range(2)]
        for _ in range(40):
            client.connected(LOOPBACK[family])
        server.wait_for_queue(40)
        queues = {row.inode: row.receive_queue for row in server.rows(state="LISTEN")}
        # Fair coins: all 40 on one side once in 550 thousand million times.
        assert sorted(queues) == sorted(alice.do("fstat", member) for member in members)
        assert min(queues.values()) > 0
        for member in members:
            results = alice.perform(
                *[call("accept", member)] * queues[alice.do("fstat", member)],
            )
            assert set(errnos(results)) == {""}
        server.wait_for_queue(0)

    @FAMILIES
    def test_a_specific_listener_goes_first(self, server: Host, family: int) -> None:
        alice, client = server.start("alice"), server.start("client")
        alice.listening(WILDCARD[family], REUSEPORT)
        alice.listening(LOOPBACK[family], REUSEPORT)
        client.connected(LOOPBACK[family])
        server.wait_for_queue(1)
        client.connected(OWN[family])
        server.wait_for_queue(2)
        queues = {row.local[0]: row.receive_queue for row in server.rows(state="LISTEN")}
        assert queues == {WILDCARD[family]: 1, LOOPBACK[family]: 1}

    @FAMILIES
    def test_data_goes_both_ways(self, server: Host, family: int) -> None:
        alice, theirs, bob, ours = connect_pair(server, LOOPBACK[family])
        assert bob.do("send", ours, "hello\xff") == 6
        server.wait_for_data(PORT, 6)
        assert alice.received(theirs, 4) == "hell"
        assert alice.received(theirs) == "o\xff"
        assert alice.do("send", theirs, "you") == 3
        assert bob.received(ours) == "you"

    def test_what_an_unconnected_socket_cannot_do(self, server: Host) -> None:
        alice = server.start("alice")
        descriptor = alice.socket()
        assert alice.refused("send", descriptor, "x") == "EPIPE"
        assert alice.refused("recv", descriptor, 1) == "ENOTCONN"
        assert alice.refused("shutdown", descriptor, socket.SHUT_RDWR) == "ENOTCONN"
        assert alice.refused("accept", descriptor) == "EINVAL"

    def test_what_a_connected_socket_cannot_do(self, server: Host) -> None:
        _, _, bob, ours = connect_pair(server)
        assert bob.refused("connect", ours, (LOOPBACK[IPV4], PORT)) == "EISCONN"
        assert bob.refused("bind", ours, (LOOPBACK[IPV4], PORT + 1)) == "EINVAL"
        assert bob.refused("listen", ours, 1) == "EINVAL"
        assert bob.refused("accept", ours) == "EINVAL"
        assert bob.refused("shutdown", ours, 7) == "EINVAL"

    def test_what_a_listener_cannot_do(self, server: Host) -> None:
        alice = server.start("alice")
        listener = alice.listening()
        assert alice.refused("connect", listener, (LOOPBACK[IPV4], PORT)) == "EISCONN"
        assert alice.refused("recv", listener, 1) == "ENOTCONN"
        assert alice.refused("send", listener, "x") == "EPIPE"

    # --- how a connection ends ---

    def test_half_of_a_connection_can_be_closed(self, server: Host) -> None:
        alice, theirs, bob, ours = connect_pair(server)
        port = bob.port(ours)
        bob.do("send", ours, "last")
        assert bob.do("shutdown", ours, socket.SHUT_WR) == 0
        server.wait_for_state(PORT, "CLOSE_WAIT")
        server.wait_for_state(port, "FIN_WAIT2")
        assert bob.refused("send", ours, "x") == "EPIPE"
        assert [alice.received(theirs) for _ in range(3)] == ["last", "", ""]
        assert alice.do("send", theirs, "answer") == 6
        assert bob.received(ours) == "answer"
        alice.do("close", theirs)
        assert bob.received(ours) == ""

    def test_to_stop_reading_is_not_to_stop_writing(self, server: Host) -> None:
        alice, theirs, bob, ours = connect_pair(server)
        assert bob.do("shutdown", ours, socket.SHUT_RD) == 0
        assert bob.do("send", ours, "hello") == 5
        assert alice.received(theirs) == "hello"
        assert server.row().state == "ESTABLISHED"

    def test_the_side_that_closes_first_stays_in_time_wait(self, server: Host) -> None:
        alice, theirs, bob, ours = connect_pair(server)
        port = bob.port(ours)
        alice.do("close", theirs)
        assert bob.received(ours) == ""
        server.wait_for_state(PORT, "FIN_WAIT2")
        bob.do("close", ours)
        server.wait_for_state(PORT, "TIME_WAIT")
        row = server.row()
        assert (row.peer, row.inode) == ((LOOPBACK[IPV4], port), 0)
        assert row.timer == "TIME_WAIT"
        assert 50_000 < row.expires < 70_000
        server.wait_for_state(port, "", 0)

    def test_who_may_bind_in_time_wait(self, server: Host) -> None:
        alice, bob = server.start("alice"), server.start("bob", BOB)
        listener = alice.listening(WILDCARD[IPV4], REUSEADDR, REUSEPORT)
        ours = bob.connected()
        theirs = alice.accepted(listener)
        alice.do("close", theirs)
        assert bob.received(ours) == ""
        server.wait_for_state(PORT, "FIN_WAIT2")
        bob.do("close", ours)
        server.wait_for_state(PORT, "TIME_WAIT")
        alice.do("close", listener)
        assert bob.bind_refused(WILDCARD[IPV4]) == "EADDRINUSE"
        for option in (REUSEADDR, REUSEPORT):
            bob.do("close", bob.listening(WILDCARD[IPV4], option))

    def test_data_for_a_socket_that_is_closed(self, server: Host) -> None:
        alice, theirs, bob, ours = connect_pair(server)
        alice.do("close", theirs)
        assert bob.received(ours) == ""
        assert bob.do("send", ours, "x") == 1
        server.wait_for_state(PORT, "", 0)
        assert bob.refused("send", ours, "x") == "EPIPE"

    def test_close_with_unread_data_is_a_reset(self, server: Host) -> None:
        alice, theirs, bob, ours = connect_pair(server)
        bob.do("send", ours, "unread")
        server.wait_for_data(PORT, 6)
        alice.do("close", theirs)
        assert bob.refused("recv", ours, 1) == "ECONNRESET"
        assert server.rows() == []

    def test_a_queue_dies_with_its_listener(self, server: Host) -> None:
        alice, bob = server.start("alice"), server.start("bob", BOB)
        alice.listening()
        ours = bob.connected()
        server.wait_for_queue(1)
        alice.end()
        assert bob.refused("recv", ours, 1) == "ECONNRESET"
        assert server.rows() == []

    def test_the_end_of_a_process_closes_its_connections(self, server: Host) -> None:
        alice, _, bob, ours = connect_pair(server)
        alice.end()
        assert bob.received(ours) == ""
        server.wait_for_state(bob.port(ours), "CLOSE_WAIT")

    # --- UDP ---

    @FAMILIES
    def test_datagrams(self, server: Host, family: int) -> None:
        alice, bob = server.start("alice"), server.start("bob", BOB)
        here = LOOPBACK[family]
        receiver = alice.bound(here, kind=UDP)
        sender = bob.connected(here, kind=UDP)
        assert server.row().state == "CLOSE"
        row = server.row(bob.port(sender))
        assert (row.protocol, row.state, row.peer) == ("udp", "ESTABLISHED", (here, PORT))
        assert [bob.do("send", sender, text) for text in ("one", "three")] == [3, 5]
        wait_until(lambda: server.row().receive_queue > 0, "a datagram")
        assert alice.received(receiver, 2) == "on"
        assert alice.received(receiver) == "three"
        assert server.row().receive_queue == 0

    def test_datagrams_to_nobody(self, server: Host) -> None:
        alice = server.start("alice")
        sender = alice.connected(kind=UDP)
        assert alice.do("send", sender, "x") == 1
        assert alice.refused("recv", sender, 1) == "ECONNREFUSED"
        assert alice.do("send", sender, "x") == 1

    @FAMILIES
    def test_datagrams_between_hosts(self, server: Host, client: Host, family: int) -> None:
        alice, bob = server.start("alice"), client.start("bob", BOB)
        receiver = alice.bound(WILDCARD[family], kind=UDP)
        bob.do("send", bob.connected(OWN[family], kind=UDP), "hello")
        assert alice.received(receiver) == "hello"

    def test_the_last_of_those_who_share_by_reuseaddr_gets_the_datagrams(
        self, server: Host
    ) -> None:
        alice, bob = server.start("alice"), server.start("bob", BOB)
        alice.bound(LOOPBACK[IPV4], REUSEADDR, kind=UDP)
        last = bob.bound(LOOPBACK[IPV4], REUSEADDR, kind=UDP)
        alice.do("send", alice.connected(kind=UDP), "hello")
        assert bob.received(last) == "hello"

    def test_multicast_reaches_all_who_may_have_it(self, server: Host) -> None:
        alice, bob = server.start("alice"), server.start("bob", BOB)
        here = socket.inet_aton(LOOPBACK[IPV4])
        member = (socket.inet_aton(GROUP) + here).decode("latin-1")
        aside, curious, joined = (
            process.bound(WILDCARD[IPV4], REUSEADDR, kind=UDP) for process in (bob, bob, alice)
        )
        bob.do("setsockopt", aside, socket.IPPROTO_IP, IP_MULTICAST_ALL, 0)
        alice.do("setsockopt", joined, socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
        sender = alice.do("socket", IPV4, UDP, 0)
        through = (socket.IPPROTO_IP, socket.IP_MULTICAST_IF, here.decode("latin-1"))
        alice.do("setsockopt", sender, *through)
        alice.do("sendto", sender, "hello", (GROUP, PORT))
        assert alice.received(joined) == bob.received(curious) == "hello"
        alice.do("sendto", sender, "hello", (LOOPBACK[IPV4], PORT))
        assert alice.received(joined) == "hello"
        quiet = [row for row in server.rows() if not row.receive_queue]
        assert len(quiet) == 3

    def test_each_member_of_a_udp_group_gets_a_share(self, server: Host) -> None:
        alice, bob = server.start("alice"), server.start("bob", BOB)
        for _ in range(2):
            alice.bound(LOOPBACK[IPV4], REUSEPORT, kind=UDP)
        for _ in range(40):
            bob.do("send", bob.connected(kind=UDP), "x")
        assert len(server.rows()) == 2
        wait_until(lambda: all(row.receive_queue for row in server.rows()), "a share for each")

    def test_a_connected_socket_goes_first(self, server: Host) -> None:
        alice, bob = server.start("alice"), server.start("bob")
        wide = alice.bound(LOOPBACK[IPV4], REUSEADDR, kind=UDP)
        sender = bob.connected(kind=UDP)
        narrow = alice.bound(LOOPBACK[IPV4], REUSEADDR, kind=UDP)
        assert alice.do("connect", narrow, bob.address(sender)) == 0
        alice.bound(LOOPBACK[IPV4], REUSEADDR, kind=UDP)
        bob.do("send", sender, "hello")
        assert alice.received(narrow) == "hello"
        alice.do("close", narrow)
        assert alice.address(wide) == (LOOPBACK[IPV4], PORT)

    def test_what_a_udp_socket_cannot_do(self, server: Host) -> None:
        alice = server.start("alice")
        descriptor = alice.bound(kind=UDP)
        assert alice.refused("listen", descriptor, 1) == "ENOTSUP"
        assert alice.refused("accept", descriptor) == "ENOTSUP"
        assert alice.refused("send", descriptor, "x") == "EDESTADDRREQ"
        assert alice.refused("shutdown", descriptor, socket.SHUT_RDWR) == "ENOTCONN"

    # --- UNIX sockets, and sockets that are passed on ---

    def test_a_listener_is_passed_to_another_user(self, server: Host) -> None:
        alice, bob = server.start("alice"), server.start("bob", BOB)
        listener = alice.listening()
        inode = alice.do("fstat", listener)
        door = alice.unix_listening()
        caller = bob.unix_connected()
        accepted = alice.accepted(door)
        assert alice.do("send_fds", accepted, listener) == 1
        taken = bob.do("recv_fds", caller)
        assert bob.do("fstat", taken) == inode
        assert alice.do("close", listener) == 0
        assert server.row().uid == ALICE
        connected = bob.connected()
        assert bob.address(bob.accepted(taken))[1] == PORT
        assert bob.do("close", connected) == 0

    def test_what_is_on_its_way_is_still_there(self, server: Host) -> None:
        alice, bob = server.start("alice"), server.start("bob", BOB)
        listener = alice.listening()
        door = alice.unix_listening()
        caller = bob.unix_connected()
        alice.do("send_fds", alice.accepted(door), listener)
        alice.do("close", listener)
        assert [row.state for row in server.rows()] == ["LISTEN"]
        bob.do("close", caller)
        assert server.rows() == []

    def test_nobody_behind_a_name(self, server: Host) -> None:
        alice = server.start("alice")
        descriptor = alice.socket(UNIX)
        assert alice.refused("connect", descriptor, DOOR) == "ECONNREFUSED"
        assert alice.do("bind", descriptor, DOOR) == 0
        other = alice.socket(UNIX)
        assert alice.refused("connect", other, DOOR) == "ECONNREFUSED"
        assert alice.refused("bind", other, DOOR) == "EADDRINUSE"
        assert alice.refused("send_fds", other, descriptor) == "ENOTCONN"
        alice.do("close", descriptor)
        assert alice.do("bind", other, DOOR) == 0

    def test_one_takes_a_copy_of_another_processes_socket(self, server: Host) -> None:
        alice = server.start("alice")
        # Without the capability Yama and an engine's seccomp filter may forbid it to anybody.
        supervisor = server.start("supervisor", ROOT, ("CAP_SYS_PTRACE",))
        listener = alice.listening()
        taken = supervisor.do("pidfd_getfd", alice.started.pid, listener)
        assert supervisor.do("fstat", taken) == alice.do("fstat", listener)
        assert supervisor.refused("pidfd_getfd", alice.started.pid, 77) == "EBADF"
        assert supervisor.refused("pidfd_getfd", 30_000, 3) == "ESRCH"

    def test_copies_of_another_users_sockets_are_not_for_everybody(self, server: Host) -> None:
        alice, bob = server.start("alice"), server.start("bob", BOB)
        listener = alice.listening()
        assert bob.refused("pidfd_getfd", alice.started.pid, listener) == "EPERM"

    # --- what a process does on its own ---

    @pytest.mark.parametrize("way", ["accept", "epoll", "exclusive", "lock"])
    def test_a_server_answers_with_its_name(self, server: Host, client: Host, way: str) -> None:
        alice, bob = server.start("alice"), client.start("bob", BOB)
        alice.do("make_lock")
        assert alice.do("serve", alice.listening(), way, "first", 0) == 0
        asked = bob.tally("request", (SERVER.ipv4, PORT), 5, 0, "")
        assert (asked["asked"], asked["answered"], asked["by first"]) == (5, 5, 5)
        served = alice.tally("stop")
        assert served["accepted"] == 5
        assert served["empty"] == 0
        assert alice.do("socket", IPV4, TCP, 0) > 3

    def test_a_request_is_refused_where_nobody_listens(self, server: Host) -> None:
        asked = server.start("alice").tally("request", ("127.0.0.1", PORT), 3, 0, "")
        assert (asked["asked"], asked["refused"]) == (3, 3)

    def test_requests_come_from_one_port_after_the_other(self, server: Host) -> None:
        alice, bob = server.start("alice"), server.start("bob")
        alice.do("serve", alice.listening(LOOPBACK[IPV4], REUSEPORT), "epoll", "first", 0)
        bob.do("serve", bob.listening(LOOPBACK[IPV4], REUSEPORT), "epoll", "second", 0)
        client = server.start("client", BOB)

        def ask() -> list[list[str]]:
            ports = range(20_000, 20_020)
            tallies = [client.tally("request", ("127.0.0.1", PORT), 1, port, "") for port in ports]
            return [[name for name in tally if name.startswith("by ")] for tally in tallies]

        first = ask()
        assert {len(names) for names in first} == {1}
        assert ask() == first

    @pytest.mark.parametrize("way", ["accept", "epoll", "exclusive", "lock"])
    def test_children_share_the_work_of_one_listener(self, server: Host, way: str) -> None:
        parent = server.start("parent")
        listener = parent.listening()
        parent.do("make_lock")
        first, second = parent.fork("first"), parent.fork("second")
        for child in (first, second):
            child.do("serve", listener, way, child.name, 0)
        pids = (first.started.pid, second.started.pid)
        client = server.start("client", BOB)
        asked = client.tally("request_from_sleep", ("127.0.0.1", PORT), 20, pids, "")
        assert asked["answered"] == 20
        assert sum(asked.get(f"woken {pid}", 20) for pid in pids) >= 20
        served = [child.tally("stop") for child in (first, second)]
        assert sum(tally["accepted"] for tally in served) == 20
        assert [asked.get(f"by {name}", 0) for name in ("first", "second")] == [
            tally["accepted"] for tally in served
        ]

    def test_servers_wait_for_each_other_at_a_barrier(self, server: Host) -> None:
        parent = server.start("parent")
        listener = parent.listening()
        parent.do("make_barrier", 2)
        children = [parent.fork(name) for name in ("first", "second")]
        for child in children:
            child.do("serve", listener, "epoll", child.name, 0)
        pids = tuple(child.started.pid for child in children)
        client = server.start("client", BOB)
        asked = client.tally("request_from_sleep", ("127.0.0.1", PORT), 5, pids, "")
        assert asked["answered"] == 5
        served = [child.tally("stop") for child in children]
        assert sum(tally["accepted"] for tally in served) == 5
        # One accepts, the other one finds nothing; the fake wakes nobody.
        assert sum(tally["empty"] for tally in served) == (
            0 if server.backend.name == "fake" else 5
        )

    def test_a_load_ends_when_all_is_asked(self, server: Host) -> None:
        alice, bob = server.start("alice"), server.start("bob")
        alice.do("serve", alice.listening(), "epoll", "alice", 0)
        assert bob.do("load", ("127.0.0.1", PORT), 10, 2, "") == 0
        assert bob.do("wait_for_requests", 3) == 1
        done = bob.tally("stop")
        assert done["asked"] <= 10
        assert done["asked"] == done["answered"]
        assert bob.tally("request", ("127.0.0.1", PORT), 1, 0, "")["answered"] == 1

    def test_to_drain_is_to_answer_what_waits(self, server: Host) -> None:
        alice = server.start("alice")
        listener = alice.listening()
        assert alice.do("drain", listener, "alice") == 0

    def test_what_waits_outlives_its_listener_where_the_host_says_so(
        self, backend: Backend
    ) -> None:
        host = Host(backend, MIGRATING)
        try:
            backend.open_host(host.plan)
            alice, bob = host.start("alice"), host.start("bob", BOB)
        except CannotRun:
            assert kernel_version(backend.kernel) < (5, 14)
            return
        first = alice.listening(LOOPBACK[IPV4], REUSEPORT)
        bob.connected()
        second = alice.listening(LOOPBACK[IPV4], REUSEPORT)
        assert alice.do("close", first) == 0
        host.wait_for_queue(1)
        assert alice.accepted(second)

    def test_who_does_nothing_cannot_stop(self, server: Host) -> None:
        alice = server.start("alice")
        with pytest.raises(LabError):
            alice.ask("stop")
        alice.do("serve", alice.listening(), "epoll", "alice", 0)
        with pytest.raises(LabError):
            alice.ask("load", ("127.0.0.1", PORT), 1, 1, "")

    def test_a_socket_stays_where_it_was_made(self, server: Host, client: Host) -> None:
        try:
            alice = server.start("alice", ALICE, ("CAP_SYS_ADMIN",))
        except Unsupported:
            assert server.backend.name == "docker"
            return
        bob = client.start("bob", BOB)
        listener = alice.listening()
        assert alice.do("unshare", CLONE_NEWNET) == 0
        assert bob.tally("request", ("127.0.0.1", PORT), 1, 0, "")["refused"] == 1
        assert bob.connected(SERVER.ipv4) > 0
        assert alice.accepted(listener) > 0
        assert alice.listening() > 0
        assert alice.refused("connect", alice.socket(), (CLIENT.ipv4, PORT)) == "ENETUNREACH"
        assert alice.do("setns") == 0
        assert alice.bind_refused(WILDCARD[IPV4]) == "EADDRINUSE"

    def test_a_network_of_ones_own_takes_a_capability(self, server: Host) -> None:
        assert server.start("alice").refused("unshare", CLONE_NEWNET) == "EPERM"

    def test_a_process_can_be_kept_to_a_processor(self, server: Host) -> None:
        alice = server.start("alice")
        first = alice.do("sched_getaffinity") & -alice.do("sched_getaffinity")
        assert alice.do("sched_setaffinity", first.bit_length() - 1) == 0
        assert alice.do("sched_getaffinity") == first

    def test_a_program_chooses_the_member(self, server: Host) -> None:
        alice = server.start("alice")
        first = alice.listening(LOOPBACK[IPV4], REUSEPORT)
        assert alice.do("attach_reuseport_cbpf", first, (RETURN, 0, 0, 1)) == 0

    def test_datagrams_without_a_connection(self, server: Host) -> None:
        alice, bob = server.start("alice"), server.start("bob", BOB)
        receiver = alice.bound(LOOPBACK[IPV4], kind=UDP)
        sender = bob.socket(kind=UDP)
        assert bob.do("sendto", sender, "hello", (LOOPBACK[IPV4], PORT)) == 5
        assert alice.received(receiver) == "hello"


class OwnUserNamespaceContract(BackendContract):
    """What holds besides where a run has a user namespace of its own, with the ids 0 to 65,535.

    There a process can have one below it, in which its uid stands for any other of the run's.
    """

    def test_a_uid_that_does_not_exist(self, server: Host) -> None:
        with pytest.raises(CannotRun, match="65536"):
            server.start("nobody", 65_536)
        alice = server.start("alice")
        assert alice.refused("setuid", 65_536) == "EINVAL"
        assert alice.refused("fchown", alice.socket(), 65_536, -1) == "EINVAL"

    def test_an_outer_uid_that_does_not_exist(self, server: Host) -> None:
        with pytest.raises(CannotRun):
            server.start("nobody", outer_uid=65_536)
        assert server.processes() == {}
        server.start("alice", outer_uid=CAROL)

    @pytest.mark.parametrize("uid", [ROOT, ALICE])
    def test_a_process_has_one_uid_inside_and_another_outside(self, server: Host, uid: int) -> None:
        process = server.start("process", uid, (), outer_uid=CAROL)
        listener = process.listening(WILDCARD[IPV4], REUSEPORT)
        assert process.started.credentials == Credentials(uid, uid, uid, uid)
        row = process.row()
        assert row.credentials == Credentials(CAROL, CAROL, CAROL, CAROL)
        assert [opened.descriptor for opened in row.sockets] == [listener]
        assert [opened.reuseport for opened in row.sockets] == [True]
        assert server.row().uid == CAROL

    @FAMILIES
    @KINDS
    def test_the_same_number_in_another_map_is_another_user(
        self, server: Host, family: int, kind: int
    ) -> None:
        address = WILDCARD[family]
        server.start("alice").bound(address, REUSEPORT, kind=kind)
        remapped = server.start("remapped", outer_uid=CAROL)
        assert remapped.bind_refused(address, REUSEPORT, kind=kind) == "EADDRINUSE"

    def test_another_number_in_another_map_can_be_the_same_user(self, server: Host) -> None:
        server.start("alice").listening(WILDCARD[IPV4], REUSEPORT)
        server.start("as-bob", BOB, outer_uid=ALICE).listening(WILDCARD[IPV4], REUSEPORT)
        server.start("as-root", ROOT, outer_uid=ALICE).listening(WILDCARD[IPV4], REUSEPORT)
        assert [row.uid for row in server.rows()] == [ALICE] * 3

    def test_no_other_uid_exists_inside(self, server: Host) -> None:
        remapped = server.start("remapped", ALICE, ("CAP_SETUID", "CAP_CHOWN"), outer_uid=CAROL)
        descriptor = remapped.socket()
        for uid in (ROOT, BOB, CAROL):
            assert remapped.refused("seteuid", uid) == "EINVAL"
            assert remapped.refused("fchown", descriptor, uid, -1) == "EINVAL"
        assert remapped.do("setuid", ALICE) == 0
        assert remapped.do("fchown", descriptor, ALICE, -1) == 0
        assert remapped.do("setfsuid", ROOT) == ALICE
        assert remapped.row().credentials == Credentials(CAROL, CAROL, CAROL, CAROL)

    @pytest.mark.parametrize("uid", [ROOT, ALICE])
    def test_capabilities_inside_are_none_over_the_hosts_ports(
        self, server: Host, uid: int
    ) -> None:
        remapped = server.start("remapped", uid, ("CAP_NET_BIND_SERVICE",), outer_uid=CAROL)
        assert remapped.bind_refused(WILDCARD[IPV4], port=80) == "EACCES"
        assert remapped.row().capabilities == capability_mask(["CAP_NET_BIND_SERVICE"])

    def test_a_child_is_in_its_parents_user_namespace(self, server: Host) -> None:
        child = server.start("remapped", outer_uid=CAROL).fork("child")
        child.listening()
        assert child.started.credentials == Credentials(ALICE, ALICE, ALICE, ALICE)
        assert child.row().credentials.effective == server.row().uid == CAROL

    def test_a_connection_belongs_to_its_accepter_in_another_map_too(self, server: Host) -> None:
        remapped, client = server.start("remapped", outer_uid=CAROL), server.start("client", BOB)
        listener = remapped.listening()
        client.connected()
        remapped.accepted(listener)
        assert server.row(state="ESTABLISHED").uid == CAROL

    def test_exec_leaves_the_user_namespace_as_it_is(self, server: Host) -> None:
        remapped = server.start("remapped", outer_uid=CAROL)
        remapped.do("set_inheritable", remapped.listening(), 1)
        remapped.perform(call("exec", "/bin/sleep", ("sleep", "1000")))
        assert remapped.row().credentials == Credentials(CAROL, CAROL, CAROL, CAROL)
        assert remapped.inodes() == {server.row().inode}

    def test_it_publishes_no_ports(self, backend: Backend) -> None:
        plan = replace(SERVER, publication=Publication(PORT))
        with pytest.raises(Unsupported, match=f"The {backend.name} backend publishes no ports"):
            backend.open_host(plan)
        backend.open_host(SERVER)
        Host(backend, SERVER).start("alice").listening()
