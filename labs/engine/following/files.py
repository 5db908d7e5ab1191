"""Which descriptors of a run's processes lead to which socket, whoever made or passed it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(eq=False)
class OpenSocket:
    """A socket as long as a descriptor leads to it; `name` is the model's, empty where it has none.

    `holders` counts its descriptors, those on their way included. A UNIX socket has connections
    that `wait` at it, the `peer` that it is connected to, and the sockets that are `passed` to it.
    One that `is_accepted` came of accept(), and has no name where the follower did not see which
    connection that gave. One that `is_bound_anywhere` may take addresses that no interface has.
    """

    name: str = ""
    namespace: str | None = None
    port: int = 0
    is_accepted: bool = False
    is_bound_anywhere: bool = False
    holders: int = 0
    waiting: deque[OpenSocket] = field(default_factory=deque)
    peer: OpenSocket | None = None
    passed: deque[OpenSocket] = field(default_factory=deque)


@dataclass(frozen=True)
class Descriptor:
    """What a process's descriptor leads to, and whether it outlives exec."""

    socket: OpenSocket
    is_inheritable: bool = False


class Files:
    """The descriptors of all processes, by process and number."""

    def __init__(self) -> None:
        self._tables: dict[str, dict[int, Descriptor]] = {}
        self._unix: dict[tuple[str | None, str], OpenSocket] = {}

    def find(self, process: str, descriptor: object) -> OpenSocket | None:
        """The socket of a descriptor; None where it is not known."""
        found = self._tables.get(process, {}).get(descriptor)  # type: ignore[call-overload]
        return found.socket if found else None

    def keep(self, process: str, descriptor: int, socket: OpenSocket) -> None:
        """A process has a new descriptor."""
        socket.holders += 1
        self._tables.setdefault(process, {})[descriptor] = Descriptor(socket)

    def set_inheritable(self, process: str, descriptor: int, inheritable: bool) -> None:
        """Whether a descriptor outlives exec."""
        own = self._tables.get(process, {})
        if descriptor in own:
            own[descriptor] = Descriptor(own[descriptor].socket, inheritable)

    def close(self, process: str, descriptor: int) -> Iterator[OpenSocket]:
        """close(): the sockets to which no descriptor leads any more."""
        own = self._tables.get(process, {})
        if descriptor in own:
            yield from self.release(own.pop(descriptor).socket)

    def release(self, socket: OpenSocket) -> Iterator[OpenSocket]:
        """One descriptor less: the sockets to which none leads any more, those in it included."""
        socket.holders -= 1
        if not socket.holders:
            yield socket
            while socket.passed:
                yield from self.release(socket.passed.popleft())

    def fork(self, parent: str, child: str) -> None:
        """A child has copies of all its parent's descriptors."""
        own = self._tables[child] = dict(self._tables.get(parent, {}))
        for descriptor in own.values():
            descriptor.socket.holders += 1

    def execute(self, process: str) -> Iterator[OpenSocket]:
        """exec: what is not inheritable is closed; the sockets that end by it."""
        own = self._tables.get(process, {})
        for number in [number for number, each in own.items() if not each.is_inheritable]:
            yield from self.close(process, number)

    def end(self, process: str) -> Iterator[OpenSocket]:
        """A process ends: the sockets that end with it."""
        for number in [*self._tables.get(process, {})]:
            yield from self.close(process, number)

    # --- UNIX sockets: how one process gives a socket to another ---

    def bind_unix(self, socket: OpenSocket, name: str) -> None:
        """bind() to a name, which others on the host connect to."""
        self._unix[socket.namespace, name] = socket

    def connect_unix(self, socket: OpenSocket, name: str) -> None:
        """connect() to a name: a connection waits there."""
        there = self._unix.get((socket.namespace, name))
        if there is not None:
            there.waiting.append(socket)

    def accept_unix(self, listener: OpenSocket) -> OpenSocket:
        """accept() of the connection that has waited longest."""
        new = OpenSocket(namespace=listener.namespace)
        if listener.waiting:
            new.peer = listener.waiting.popleft()
            new.peer.peer = new
        return new

    def send(self, connection: OpenSocket, passed: OpenSocket) -> None:
        """SCM_RIGHTS: a socket is on its way to the other end."""
        if connection.peer is not None:
            passed.holders += 1
            connection.peer.passed.append(passed)

    def receive(self, process: str, connection: OpenSocket | None, descriptor: int) -> None:
        """The socket that has come so gets a descriptor; one that nobody saw sent is not known."""
        if connection is not None and connection.passed:
            socket = connection.passed.popleft()
            socket.holders -= 1
            self.keep(process, descriptor, socket)
