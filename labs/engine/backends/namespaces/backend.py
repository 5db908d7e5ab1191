"""The namespaces backend, seen from the controlling process."""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labs.engine.agent import CHANNEL_DESCRIPTOR, Stream
from labs.engine.backends.namespaces.ids import map_ids
from labs.engine.backends.namespaces.keeper import keep
from labs.engine.backends.namespaces.missing import explain
from labs.engine.errors import BindlabError, CannotRun, EngineError, LabError
from labs.engine.model import (
    Address,
    Call,
    CallResult,
    Credentials,
    HostPlan,
    Observation,
    OpenSocket,
    ProcessPlan,
    ProcessRow,
    Reference,
    SocketRow,
    StartedProcess,
    Value,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from labs.engine.agent import Json, Message

DEADLINE = 10.0  # seconds: for an answer that should take milliseconds
WIRINGS_AHEAD = 8  # hosts that may be made while one is being wired


class HasDied(EngineError):
    """A process is gone that was asked something."""


class Peer:
    """A process at the other end of a stream, asked one thing at a time.

    `fault` is the error for a request that it could not make sense of.
    """

    def __init__(
        self,
        what: str,
        connection: socket.socket,
        deadline: float,
        fault: type[BindlabError] = EngineError,
    ) -> None:
        connection.settimeout(deadline)
        self.what = what
        self.stream = Stream(connection)
        self._deadline = deadline
        self._fault = fault
        self._hangs = False

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Send without waiting for the answer; EngineError where nobody reads it."""
        if self._hangs:
            # An answer may still come, to a question that nobody asks any more.
            raise EngineError(f"{self.what} hangs.")
        try:
            self.stream.send(message, descriptors)
        except TimeoutError:
            self._hangs = True
            raise EngineError(f"{self.what} hangs: it reads nothing.") from None
        except OSError:
            raise HasDied(f"{self.what} has died.") from None

    def receive(self) -> Message:
        """The next answer; raises EngineError, CannotRun or the `fault` error where it is none."""
        try:
            answer = self.stream.receive()
        except TimeoutError:
            self._hangs = True
            message = f"{self.what} hangs: no answer within {self._deadline:g} seconds."
            raise EngineError(message) from None
        match answer:
            case None:
                raise HasDied(f"{self.what} has died.")
            case {"errno": int(number), "doing": str(doing)}:
                raise explain(doing, number)
            case {"fault": str(fault)}:
                raise self._fault(f"{self.what} could not: {fault}")
        return answer

    def ask(self, message: Message, descriptors: Sequence[int] = ()) -> Message:
        """Send a message and wait for its answer."""
        self.send(message, descriptors)
        return self.receive()

    def close(self) -> None:
        """Give the other end an end of file, whoever else holds a copy of this one."""
        with contextlib.suppress(OSError):
            self.stream.connection.shutdown(socket.SHUT_RDWR)
        self.stream.connection.close()


@dataclass(frozen=True)
class Member:
    """A process of the run: the host that it is on, its pid there, and its channel."""

    host: str
    pid: int
    peer: Peer


class NamespacesBackend:
    """Hosts and processes in unnamed namespaces of one keeper process."""

    name = "namespaces"

    def __init__(self, keeper_pid: int, keeper: Peer, init: Peer, deadline: float) -> None:
        self._keeper_pid = keeper_pid
        self._keeper = keeper
        self._init = init
        self._deadline = deadline
        self._hosts: dict[str, Peer] = {}
        self._processes: dict[str, Member] = {}
        self._wirings = 0

    def begin(self) -> None:
        """Give the keeper its ids, as soon as it has its user namespace; the rest it does alone."""
        self._keeper.receive()
        map_ids(self._keeper_pid)
        self._keeper.send({})

    def open_host(self, plan: HostPlan) -> None:
        """See `Backend.open_host`."""
        host, theirs = self._pair(f"The host {plan.name}")
        self._hosts[plan.name] = host
        # The kernel translates the sender's pid to what it is out here.
        host.stream.connection.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        with theirs:
            try:
                self._init.ask({"do": "make a host", "host": plan.name}, [theirs.fileno()])
            except HasDied:
                self._keeper.receive()  # says why, if it was the keeper that could not go on
                raise
        host.receive()
        # Answered while the next hosts are made, but not by too many: nobody reads meanwhile.
        self._settle(WIRINGS_AHEAD)
        self._wirings += 1
        self._keeper.send(
            {
                "do": "wire a host",
                "pid": host.stream.peer_pid,
                "ipv4": [plan.ipv4, plan.ipv4_prefix],
                "ipv6": [plan.ipv6, plan.ipv6_prefix],
            }
        )

    def start_process(self, plan: ProcessPlan) -> StartedProcess:
        """See `Backend.start_process`."""
        self._settle()
        request: Message = {"do": "start", "name": plan.name, "uid": plan.uid}
        return self._add_process(plan.name, plan.host, self._host(plan.host), request)

    def fork_process(self, parent: str, child: str) -> StartedProcess:
        """See `Backend.fork_process`."""
        member = self._member(parent)
        return self._add_process(child, member.host, member.peer, {"calls": [["fork", []]]})

    def perform(
        self, process: str, calls: Sequence[Call], *, go_on: bool = False
    ) -> Sequence[CallResult]:
        """See `Backend.perform`; an exec that succeeds has no result, for it never returns."""
        peer = self._member(process).peer
        peer.send({"calls": [encode_call(call) for call in calls], "go_on": go_on})
        try:
            answer = peer.receive()
        except HasDied:
            if [call.name for call in calls] == ["exec"]:
                return ()
            raise
        match answer:
            case {"results": list(results)}:
                return [decode_result(result) for result in results]
        raise EngineError(f"{peer.what} answered nonsense: {answer}")

    def end_process(self, process: str, signal: int) -> None:
        """See `Backend.end_process`."""
        member = self._member(process)
        # Half of what the host itself may take to answer.
        limit = int(self._deadline * 500)
        request: Message = {
            "do": "end",
            "pid": member.pid,
            "signal": signal,
            "milliseconds": limit,
        }
        if not self._host(member.host).ask(request)["ended"]:
            raise EngineError(f"The process {process} did not end within {limit / 1000:g} s.")
        del self._processes[process]
        member.peer.close()

    def observe(self, host: str) -> Observation:
        """See `Backend.observe`."""
        match self._host(host).ask({"do": "observe"}):
            case {"sockets": list(sockets), "processes": list(processes)}:
                return Observation(
                    tuple(decode_socket(entry) for entry in sockets),
                    tuple(decode_process(entry) for entry in processes),
                )
        raise EngineError(f"The host {host} answered nonsense.")

    def enter_command(self, host: str) -> str:
        """See `Backend.enter_command`."""
        pid = self._host(host).stream.peer_pid
        return f"nsenter --target {pid} --user --mount --uts --ipc --net --pid"

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

    def _settle(self, left: int = 0) -> None:
        """Wait until all hosts but so many are wired: nothing may run before all of them are."""
        while self._wirings > left:
            self._wirings -= 1
            self._keeper.receive()

    def _host(self, name: str) -> Peer:
        if name not in self._hosts:
            raise EngineError(f"There is no host {name}.")
        return self._hosts[name]

    def _member(self, name: str) -> Member:
        if name not in self._processes:
            raise EngineError(f"There is no process {name}, or it has ended.")
        return self._processes[name]

    def _pair(
        self, what: str, fault: type[BindlabError] = EngineError
    ) -> tuple[Peer, socket.socket]:
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:
            raise CannotRun(
                f"No channel for {what.lower()}: {error.strerror}.",
                "ulimit -n 65536  raises the limit on open files for this shell.",
            ) from error
        return Peer(what, ours, self._deadline, fault), theirs

    def _add_process(self, name: str, host: str, parent: Peer, request: Message) -> StartedProcess:
        """Let `parent` fork, and hear from the new process who it is."""
        peer, theirs = self._pair(f"The process {name}", LabError)
        try:
            with theirs:
                answer = parent.ask(request, [theirs.fileno()])
            match answer:
                case {"results": [[None, int(number), _]]}:
                    raise EngineError(f"{parent.what} could not fork: {os.strerror(number)}.")
            match peer.receive():
                case {"pid": int(pid), "uids": list(uids)}:
                    self._processes[name] = Member(host, pid, peer)
                    return StartedProcess(pid, decode_credentials(uids))
            raise EngineError(f"{peer.what} did not say who it is.")
        except BindlabError:
            peer.close()
            raise


@contextlib.contextmanager
def open_namespaces(deadline: float = DEADLINE) -> Iterator[NamespacesBackend]:
    """A backend whose processes and namespaces end with the block, or with this process.

    `deadline` is how many seconds a process may take to answer. Raises CannotRun.
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
        pid, Peer("The keeper", keeper, deadline), Peer("Process 1", init, deadline), deadline
    )
    try:
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


def encode_call(call: Call) -> Json:
    """A call as the agent reads it."""
    return [call.name, [encode_argument(argument) for argument in call.arguments]]


def encode_argument(argument: object) -> Json:
    """An argument as JSON."""
    match argument:
        case Reference(index):
            return {"reference": index}
        case int() | str():
            return argument
        case tuple():
            return [encode_argument(part) for part in argument]
    raise TypeError(argument)


def decode_result(result: Json) -> CallResult:
    """A call's result as the agent writes it."""
    match result:
        case [value, int(number), list(uids)]:
            return CallResult(decode_value(value), number, decode_credentials(uids))
    raise EngineError(f"An agent answered nonsense: {result}")


def decode_value(value: Json) -> Value:
    """What a call returned; accept() gives the descriptor alone, the peer is asked for."""
    match value:
        case None | int() | str():
            return value
        case [int(descriptor), [str(), int()]]:
            return descriptor
        case [str(host), int(port)]:
            return (host, port)
    raise EngineError(f"An agent answered nonsense: {value}")


def decode_credentials(uids: list[Json]) -> Credentials:
    """Four uids in the order of /proc/PID/status."""
    real, effective, saved, filesystem = (int(str(uid)) for uid in uids)
    return Credentials(real, effective, saved, filesystem)


def decode_address(address: Json) -> Address:
    """An address and a port."""
    match address:
        case [str(host), int(port)]:
            return (host, port)
    raise EngineError(f"A host answered nonsense: {address}")


def decode_socket(entry: Json) -> SocketRow:
    """A socket as its host's warm parent writes it."""
    match entry:
        case [
            str(protocol),
            str(state),
            local,
            peer,
            int(uid),
            int(inode),
            int(receive_queue),
            int(send_queue),
        ]:
            return SocketRow(
                protocol,
                state,
                decode_address(local),
                decode_address(peer),
                uid,
                inode,
                receive_queue,
                send_queue,
            )
    raise EngineError(f"A host answered nonsense: {entry}")


def decode_process(entry: Json) -> ProcessRow:
    """A process as its host's warm parent writes it."""
    match entry:
        case {
            "pid": int(pid),
            "uids": list(uids),
            "capabilities": int(capabilities),
            "sockets": list(sockets),
        }:
            opened = tuple(decode_open_socket(open_socket) for open_socket in sockets)
            return ProcessRow(pid, decode_credentials(uids), capabilities, opened)
    raise EngineError(f"A host answered nonsense: {entry}")


def decode_open_socket(entry: Json) -> OpenSocket:
    """A descriptor of a process that refers to a socket."""
    match entry:
        case [int(descriptor), int(inode), bool(reuseaddr), bool(reuseport)]:
            return OpenSocket(descriptor, inode, reuseaddr, reuseport)
    raise EngineError(f"A host answered nonsense: {entry}")
