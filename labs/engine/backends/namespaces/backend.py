"""The namespaces backend, seen from the controlling process."""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import socket
from typing import TYPE_CHECKING

from labs.engine.agent import CHANNEL_DESCRIPTOR, Stream
from labs.engine.backends.agents import AgentBackend, HasDied, Peer, check_fork
from labs.engine.backends.namespaces.ids import map_ids
from labs.engine.backends.namespaces.keeper import keep
from labs.engine.backends.namespaces.missing import explain, with_alternative
from labs.engine.capabilities import capability_mask
from labs.engine.errors import BindlabError, CannotRun, EngineError, LabError, Unsupported
from labs.engine.plans import OpenedHost
from labs.engine.spawned import find_program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from labs.engine.agent import Message
    from labs.engine.plans import HostPlan, ProcessPlan, StartedProcess

DEADLINE = 10.0  # seconds: for an answer that should take milliseconds
WIRINGS_AHEAD = 8  # hosts that may be made while one is being wired


class NamespacesBackend(AgentBackend):
    """Hosts and processes in unnamed namespaces of one keeper process."""

    name = "namespaces"

    def __init__(self, keeper_pid: int, keeper: Peer, init: Peer, deadline: float) -> None:
        super().__init__(deadline)
        self.kernel = os.uname().release
        self._keeper_pid = keeper_pid
        self._keeper = keeper
        self._init = init
        self._host_pids: dict[str, int | None] = {}
        self._wirings = 0

    def begin(self) -> None:
        """Give the keeper its ids, as soon as it has its user namespace; the rest it does alone."""
        self._keeper.receive()
        try:
            map_ids(self._keeper_pid)
        except CannotRun as error:
            raise with_alternative(error) from None
        self._keeper.send({})

    def open_host(self, plan: HostPlan) -> OpenedHost:
        """See `Backend.open_host`; Unsupported for a publication."""
        if plan.publication:
            raise Unsupported(
                "The namespaces backend publishes no ports: nothing of it can be reached from "
                "outside.",
                "--backend docker can.",
            )
        stream, theirs = self._pair(f"the host {plan.name}")
        host = self._hosts[plan.name] = make_peer(f"The host {plan.name}", stream, self._deadline)
        # The kernel translates the sender's pid to what it is out here.
        stream.connection.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        request: Message = {
            "do": "make a host",
            "host": plan.name,
            "sysctls": dict(plan.sysctls),
        }
        with theirs, self._keepers_word():
            self._init.ask(request, [theirs.fileno()])
        host.receive()
        self._host_pids[plan.name] = stream.peer_pid
        # Answered while the next hosts are made, but not by too many: nobody reads meanwhile.
        self._settle(WIRINGS_AHEAD)
        self._wirings += 1
        with self._keepers_word():
            self._keeper.send(
                {
                    "do": "wire a host",
                    "pid": stream.peer_pid,
                    "ipv4": [plan.ipv4, plan.ipv4_prefix],
                    "ipv6": [plan.ipv6, plan.ipv6_prefix],
                }
            )
        return OpenedHost()

    def start_process(self, plan: ProcessPlan) -> StartedProcess:
        """See `Backend.start_process`; its program is the machine's own."""
        if plan.program:
            check_installed(plan.program)
        self._settle()
        if plan.sandbox:
            request: Message = {"do": "start a sandbox", "name": plan.name}
            return self._add_process(plan.name, plan.host, self._host(plan.host), request)
        request = {
            "do": "start",
            "name": plan.name,
            "uid": plan.uid,
            "capabilities": capability_mask(plan.capabilities),
            "outer_uid": plan.outer_uid,
        }
        return self._add_process(plan.name, plan.host, self._host(plan.host), request)

    def fork_process(self, parent: str, child: str) -> StartedProcess:
        """See `Backend.fork_process`."""
        member = self._member(parent)
        return self._add_process(child, member.host, member.peer, {"calls": [["fork", []]]})

    def enter_command(self, host: str) -> str:
        """See `Backend.enter_command`."""
        return f"nsenter --target {self.first_process(host)} --user --mount --uts --ipc --net --pid"

    def first_process(self, host: str) -> int:
        """The pid out here of a host's process 1, in whose namespaces one is on that host."""
        pid = self._host_pids[host]
        assert pid is not None  # SO_PASSCRED is on
        return pid

    def close(self) -> None:
        """See `Backend.close`."""
        peers = [member.peer for member in self._processes.values()]
        for peer in (*peers, *self._hosts.values(), self._init, self._keeper):
            peer.close()
        # The keeper ends after process 1 has, and that one after all the others.
        pidfd = os.pidfd_open(self._keeper_pid)
        try:
            if not select.select([pidfd], [], [], DEADLINE)[0]:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        finally:
            os.close(pidfd)
        os.waitpid(self._keeper_pid, 0)

    @contextlib.contextmanager
    def _keepers_word(self) -> Iterator[None]:
        """Where somebody has died, let the keeper say why, if it was it that could not go on."""
        try:
            yield
        except HasDied:
            self._keeper.ask({"do": "say that you live"})
            raise

    def _settle(self, left: int = 0) -> None:
        """Wait until all hosts but so many are wired: nothing may run before all of them are."""
        while self._wirings > left:
            self._wirings -= 1
            self._keeper.receive()

    def _pair(self, what: str) -> tuple[Stream, socket.socket]:
        """A channel to what is about to be made, and the end that goes there."""
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:
            raise CannotRun(
                f"No channel for {what}: {error.strerror}.",
                "ulimit -n 65536  raises the limit on open files for this shell.",
            ) from error
        return Stream(ours), theirs

    def _add_process(self, name: str, host: str, parent: Peer, request: Message) -> StartedProcess:
        """Let `parent` fork, and hear from the new process who it is."""
        stream, theirs = self._pair(f"the process {name}")
        peer = make_peer(f"The process {name}", stream, self._deadline, LabError)
        try:
            with theirs:
                check_fork(parent, parent.ask(request, [theirs.fileno()]))
            return self._greet(name, host, peer)
        except BindlabError:
            peer.close()
            raise


def check_installed(program: str) -> None:
    """Unsupported where the machine has no such program."""
    try:
        find_program(program)
    except FileNotFoundError:
        raise Unsupported(f"{program} is not installed here.") from None


def make_peer(
    what: str, stream: Stream, deadline: float, fault: type[BindlabError] = EngineError
) -> Peer:
    """A peer that is given so many seconds for an answer."""
    stream.connection.settimeout(deadline)
    return Peer(what, stream, deadline, explain, fault)


@contextlib.contextmanager
def open_namespaces(
    deadline: float = DEADLINE, meanwhile: Callable[[], object] | None = None
) -> Iterator[NamespacesBackend]:
    """A backend whose processes and namespaces end with the block, or with this process.

    `deadline` is how many seconds a process may take to answer. `meanwhile` is done while the first
    one starts, which takes some milliseconds. Raises CannotRun.
    """
    check_descriptors()
    controller = os.getpid()
    try:
        keeper, theirs = socket.socketpair()
        init, init_theirs = socket.socketpair()
        pid = os.fork()
    except OSError as error:
        raise CannotRun(f"Could not start a process: {error.strerror}.") from error
    if pid == 0:
        keep(theirs, init_theirs, controller)
    theirs.close()
    init_theirs.close()
    backend = NamespacesBackend(
        pid,
        make_peer("The keeper", Stream(keeper), deadline),
        make_peer("Process 1", Stream(init), deadline),
        deadline,
    )
    try:
        if meanwhile:
            meanwhile()
        backend.begin()
        yield backend
    finally:
        backend.close()


def check_descriptors() -> None:
    """CannotRun where the limit on open files leaves no room for an agent's channel."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit <= CHANNEL_DESCRIPTOR:
        raise CannotRun(
            f"Only {limit} open files are allowed here; a run takes up to {CHANNEL_DESCRIPTOR}.",
            "ulimit -n 1024",
        )
