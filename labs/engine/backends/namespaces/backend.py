"""The namespaces backend, seen from the controlling process."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
from typing import TYPE_CHECKING

from labs.engine.agent import Stream
from labs.engine.backends.namespaces.ids import map_ids
from labs.engine.backends.namespaces.keeper import keep
from labs.engine.backends.namespaces.missing import explain
from labs.engine.errors import EngineError, LabError
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


class Peer:
    """A process at the other end of a stream, asked one thing at a time."""

    def __init__(self, what: str, connection: socket.socket, deadline: float) -> None:
        connection.settimeout(deadline)
        self.what = what
        self.deadline = deadline
        self.stream = Stream(connection)

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Send without waiting for the answer; raises EngineError where the process is gone."""
        try:
            self.stream.send(message, descriptors)
        except TimeoutError:
            raise EngineError(f"{self.what} hangs: it reads nothing.") from None
        except OSError:
            raise EngineError(f"{self.what} has died.") from None

    def receive(self) -> Message:
        """The next answer; raises EngineError, CannotRun or LabError where it is none."""
        try:
            answer = self.stream.receive()
        except TimeoutError:
            raise EngineError(
                f"{self.what} hangs: no answer within {self.deadline:g} seconds."
            ) from None
        match answer:
            case None:
                raise EngineError(f"{self.what} has died.")
            case {"errno": int(number), "doing": str(doing)}:
                raise explain(doing, number)
            case {"fault": str(fault)}:
                raise EngineError(f"{self.what} failed: {fault}")
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


class NamespacesBackend:
    """Hosts and processes in unnamed namespaces of one keeper process."""

    name = "namespaces"

    def __init__(self, keeper_pid: int, keeper: Peer, init: Peer, deadline: float) -> None:
        self._keeper_pid = keeper_pid
        self._keeper = keeper
        self._init = init
        self._deadline = deadline
        self._hosts: dict[str, Peer] = {}
        self._host_pids: dict[str, int] = {}
        self._processes: dict[str, Peer] = {}
        self._pids: dict[str, tuple[str, int]] = {}

    def begin(self) -> None:
        """Give the keeper its ids, as soon as it has its user namespace; the rest it does alone."""
        self._keeper.receive()
        map_ids(self._keeper_pid)
        self._keeper.send({})

    def open_host(self, plan: HostPlan) -> None:
        """See `Backend.open_host`."""
        host, theirs = self._pair(f"The host {plan.name}")
        # The kernel translates the sender's pid to what it is out here.
        host.stream.connection.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        with theirs:
            self._init.ask({"host": plan.name}, [theirs.fileno()])
        host.receive()
        self._hosts[plan.name] = host
        self._host_pids[plan.name] = pid = host.stream.peer_pid or 0
        self._keeper.ask(
            {
                "do": "wire",
                "host": plan.name,
                "pid": pid,
                "ipv4": [plan.ipv4, plan.ipv4_prefix],
                "ipv6": [plan.ipv6, plan.ipv6_prefix],
            }
        )

    def start_process(self, plan: ProcessPlan) -> StartedProcess:
        """See `Backend.start_process`."""
        process, theirs = self._pair(f"The process {plan.name}")
        with theirs:
            request: Message = {"do": "start", "name": plan.name, "uid": plan.uid}
            self._hosts[plan.host].ask(request, [theirs.fileno()])
        return self._keep_process(plan.name, plan.host, process)

    def fork_process(self, parent: str, child: str) -> StartedProcess:
        """See `Backend.fork_process`."""
        process, theirs = self._pair(f"The process {child}")
        with theirs:
            self._processes[parent].ask({"calls": [["fork", []]]}, [theirs.fileno()])
        return self._keep_process(child, self._pids[parent][0], process)

    def perform(
        self, process: str, calls: Sequence[Call], *, go_on: bool = False
    ) -> Sequence[CallResult]:
        """See `Backend.perform`."""
        peer = self._processes[process]
        peer.send({"calls": [encode_call(call) for call in calls], "go_on": go_on})
        try:
            answer = peer.receive()
        except EngineError:
            if calls[-1].name == "exec" and peer.stream.receive() is None:
                return ()
            raise
        match answer:
            case {"results": list(results)}:
                return [decode_result(result) for result in results]
            case {"fault": str(fault)}:
                raise LabError(f"{process}: {fault}")
        raise EngineError(f"{peer.what} answered nonsense: {answer}")

    def end_process(self, process: str, signal: int) -> None:
        """See `Backend.end_process`."""
        host, pid = self._pids.pop(process)
        self._processes.pop(process).close()
        request: Message = {"do": "end", "pid": pid, "signal": signal, "timeout": self._deadline}
        if not self._hosts[host].ask(request)["ended"]:
            raise EngineError(f"The process {process} did not end within {self._deadline:g} s.")

    def observe(self, host: str) -> Observation:
        """See `Backend.observe`."""
        self._keeper.send({"do": "observe", "host": host})
        self._hosts[host].send({"do": "observe"})
        sockets = self._keeper.receive()["sockets"]
        processes = self._hosts[host].receive()["processes"]
        assert isinstance(sockets, list) and isinstance(processes, list)
        return Observation(
            tuple(decode_socket(entry) for entry in sockets),
            tuple(decode_process(entry) for entry in processes),
        )

    def enter_command(self, host: str) -> str:
        """See `Backend.enter_command`."""
        return f"nsenter --target {self._host_pids[host]} --user --mount --uts --ipc --net --pid"

    def close(self) -> None:
        """See `Backend.close`."""
        for peer in (*self._processes.values(), *self._hosts.values(), self._init, self._keeper):
            peer.close()
        # The keeper ends after process 1 has, and that one after all the others.
        pidfd = os.pidfd_open(self._keeper_pid)
        try:
            if not select.select([pidfd], [], [], DEADLINE)[0]:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        finally:
            os.close(pidfd)
        os.waitpid(self._keeper_pid, 0)

    def _pair(self, what: str) -> tuple[Peer, socket.socket]:
        ours, theirs = socket.socketpair()
        return Peer(what, ours, self._deadline), theirs

    def _keep_process(self, name: str, host: str, process: Peer) -> StartedProcess:
        match process.receive():
            case {"pid": int(pid), "uids": list(uids)}:
                self._processes[name] = process
                self._pids[name] = (host, pid)
                return StartedProcess(pid, decode_credentials(uids))
        raise EngineError(f"{process.what} did not say who it is.")


@contextlib.contextmanager
def open_namespaces(deadline: float = DEADLINE) -> Iterator[NamespacesBackend]:
    """A backend whose processes and namespaces end with the block, or with this process.

    `deadline` is how many seconds a process may take to answer. Raises CannotRun.
    """
    keeper, theirs = socket.socketpair()
    init, init_theirs = socket.socketpair()
    controller = os.getpid()
    pid = os.fork()
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
    raise EngineError(f"The keeper answered nonsense: {address}")


def decode_socket(entry: Json) -> SocketRow:
    """A socket as the keeper writes it."""
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
    raise EngineError(f"The keeper answered nonsense: {entry}")


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
