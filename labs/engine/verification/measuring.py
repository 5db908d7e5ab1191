"""Lets real processes make the calls of cells, many cells at a time, and hears their errnos."""

from __future__ import annotations

import itertools
import socket
import struct
from dataclasses import replace
from signal import SIGKILL
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from labs.engine import model
from labs.engine.model import Argument, Reference
from labs.engine.plans import ProcessPlan
from labs.engine.rules.calls import (
    Accept,
    Acknowledge,
    Bind,
    Chown,
    Close,
    Connect,
    Listen,
    Open,
    Option,
    SetOption,
)
from labs.engine.rules.sockets import Family, Protocol, parse_address
from labs.engine.verification.cell import PLANS, USERS
from labs.engine.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from labs.engine.backend import Backend
    from labs.engine.model import SocketRow
    from labs.engine.rules.calls import Call, User
    from labs.engine.rules.sockets import Address
    from labs.engine.verification.cell import Cell

Item = TypeVar("Item")
Errnos: TypeAlias = "list[int]"
"""What the kernel answered to each call of a cell, 0 for success."""

# What remains of connections stays for a minute, and a namespace of a small machine has room for
# about a thousand (tcp_max_tw_buckets).
IN_ONE_PLACE = 800  # connections
AT_ONCE = 100  # cells: their sockets are open together, and a process may have 1,024
BACKLOG = 8
PATIENCE = 1  # seconds that accept() waits for a connection that should be there
FAMILIES = {Family.IPV4: int(socket.AF_INET), Family.IPV6: int(socket.AF_INET6)}
KINDS = {Protocol.TCP: int(socket.SOCK_STREAM), Protocol.UDP: int(socket.SOCK_DGRAM)}
OPTIONS = {
    Option.REUSEADDR: (socket.SOL_SOCKET, int(socket.SO_REUSEADDR)),
    Option.REUSEPORT: (socket.SOL_SOCKET, int(socket.SO_REUSEPORT)),
    Option.V6ONLY: (int(socket.IPPROTO_IPV6), int(socket.IPV6_V6ONLY)),
    Option.DEVICE: (socket.SOL_SOCKET, int(socket.SO_BINDTODEVICE)),
}
TAKE_FIRST = (6, 0, 0, 0)  # BPF_RET of 0: the first of the group


def measure(backend: Backend, cells: Sequence[Cell]) -> Iterator[list[Errnos]]:
    """What the kernel answers to each call of each cell, a batch at a time, in order."""
    for number, batches in enumerate(part(cells), 1):
        place = str(number)
        open_place(backend, place)
        for batch in batches:
            yield Batch(backend, place, batch).carry_out()
        end_place(backend, place)


def part(cells: Sequence[Cell]) -> Iterator[list[Sequence[Cell]]]:
    """The batches of each place, which has room for what their connections leave."""
    batches: list[Sequence[Cell]] = []
    taken = 0
    for batch in cut(cells):
        connections = count_connections(batch)
        if batches and taken + connections > IN_ONE_PLACE:
            yield batches
            batches, taken = [], 0
        batches.append(batch)
        taken += connections
    if batches:
        yield batches


def cut(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """Cells, or what there is for each, in batches: those that are measured together."""
    for start in range(0, len(items), AT_ONCE):
        yield items[start : start + AT_ONCE]


def count_connections(cells: Sequence[Cell]) -> int:
    """How many connections some cells make at most."""
    return sum(isinstance(call, Connect) for cell in cells for call in cell.calls)


def open_place(backend: Backend, place: str) -> None:
    """Open fresh network namespaces, with a process of each user's."""
    for plan in PLANS.values():
        backend.open_host(replace(plan, name=in_place(plan.name, place)))
    for user in USERS:
        name, host = in_place(user.name, place), in_place(user.namespace, place)
        backend.start_process(ProcessPlan(name, host, user.uid, tuple(sorted(user.capabilities))))


def end_place(backend: Backend, place: str) -> None:
    """End the processes of a place, whose namespaces stay."""
    for user in USERS:
        backend.end_process(in_place(user.name, place), SIGKILL)


def in_place(name: str, place: str) -> str:
    """What a host or a process is called there."""
    return f"{name}-{place}"


class Batch:
    """Some cells that are measured together, by the processes of one place.

    Each cell is cut where another process is to go on; then the first parts of all cells are done,
    process by process, then the second ones. So a process is asked once for many calls.
    """

    def __init__(self, backend: Backend, place: str, cells: Sequence[Cell]) -> None:
        self._backend = backend
        self._place = place
        self._cells = cells
        self._errnos: list[Errnos] = [[] for _ in cells]
        self._open: dict[tuple[int, str], tuple[str, int]] = {}  # process and descriptor

    def carry_out(self) -> list[Errnos]:
        """The errnos of all calls, cell by cell; nothing stays open."""
        for row in itertools.zip_longest(*(split(cell) for cell in self._cells)):
            for user in USERS:
                chosen = [
                    (number, calls)
                    for number, part in enumerate(row)
                    if part and part[0] == user.name
                    for calls in [part[1]]
                ]
                if chosen:
                    self._ask(user, chosen)
            if any(part and isinstance(part[1][-1], Acknowledge) for part in row):
                self._wait_until_settled()
        self._close()
        return self._errnos

    def _ask(self, user: User, chosen: Sequence[tuple[int, Sequence[Call]]]) -> None:
        """Let a process make its calls of some cells, and note what they were answered."""
        made: list[model.Call] = []
        fresh: dict[tuple[int, str], int] = {}
        noted: list[tuple[int, Call, int]] = []
        for number, calls in chosen:
            for call in calls:
                where = (number, call.socket)
                descriptor: Argument = -1
                if where in fresh:
                    descriptor = Reference(fresh[where])
                elif where in self._open:
                    descriptor = self._open[where][1]
                made.extend(translate(call, descriptor))
                noted.append((number, call, len(made) - 1))
                if isinstance(call, Open | Accept):
                    name = call.child if isinstance(call, Accept) else call.socket
                    fresh[number, name] = len(made) - 1
        results = self._backend.perform(in_place(user.name, self._place), made, go_on=True)
        for where, index in fresh.items():
            value = results[index].value
            if isinstance(value, int):
                self._open[where] = (user.name, value)
        for number, call, index in noted:
            self._errnos[number].append(results[index].errno)
            if isinstance(call, Close):
                self._open.pop((number, call.socket), None)

    def _wait_until_settled(self) -> None:
        """Wait until each end of a connection has heard what became of the other."""

        def is_over() -> bool:
            hosts = (in_place(name, self._place) for name in PLANS)
            return all(is_settled(self._backend.observe(host).sockets) for host in hosts)

        wait_until(is_over, "a FIN or RST that the other end has not heard of")

    def _close(self) -> None:
        """Close what cells have left open."""
        for user in USERS:
            held = [number for name, number in self._open.values() if name == user.name]
            if held:
                calls = [model.Call("close", (number,)) for number in held]
                self._backend.perform(in_place(user.name, self._place), calls)


def is_settled(rows: Sequence[SocketRow]) -> bool:
    """Whether no FIN and no RST is under way between connections of one host's.

    On a busy machine another thread takes it up, after who has sent it went on (ksoftirqd).
    """
    connections = [row for row in rows if row.protocol == "tcp"]
    ends = {(end_of(row.local), end_of(row.peer)) for row in connections}
    return not any(
        row.state == "FIN_WAIT1"
        or (row.state == "ESTABLISHED" and (end_of(row.peer), end_of(row.local)) not in ends)
        for row in connections
    )


def end_of(address: tuple[str, int]) -> tuple[Address, int]:
    """An end of a connection, the same for both, be one of IPv4 and one mapped into IPv6."""
    return (parse_address(address[0]), address[1])


def split(cell: Cell) -> list[tuple[str, list[Call]]]:
    """A cell's calls in parts that one process makes, each with its user's name.

    A part ends where something is to be waited for.
    """
    parts: list[tuple[str, list[Call]]] = []
    previous: Call | None = None
    for call in cell.calls:
        if (
            previous is None
            or isinstance(previous, Acknowledge)
            or previous.user.name != call.user.name
        ):
            parts.append((call.user.name, []))
        parts[-1][1].append(call)
        previous = call
    return parts


def translate(call: Call, descriptor: Argument) -> Iterator[model.Call]:
    """A call as an agent makes it, the last of those that are needed for it."""
    match call:
        case Open(_, _, protocol, family):
            yield model.Call("socket", (FAMILIES[family], KINDS[protocol], 0))
        case SetOption() | Acknowledge():
            yield set_option(call, descriptor)
        case Bind(_, _, address, port):
            yield model.Call("bind", (descriptor, (address, port)))
        case Connect(_, _, address, port):
            yield model.Call("connect", (descriptor, (address, port)))
        case Listen():
            yield model.Call("listen", (descriptor, BACKLOG))
        case Close():
            yield model.Call("close", (descriptor,))
        case Chown(_, _, uid):
            yield model.Call("fchown", (descriptor, uid, -1))
        case Accept():
            timeout = struct.pack("@ll", PATIENCE, 0).decode("latin-1")
            limit = (descriptor, socket.SOL_SOCKET, int(socket.SO_RCVTIMEO), timeout)
            yield model.Call("setsockopt", limit)
            yield model.Call("accept", (descriptor,))


def set_option(call: SetOption | Acknowledge, descriptor: Argument) -> model.Call:
    """A setsockopt() as an agent makes it."""
    match call:
        case SetOption(_, _, Option.PROGRAM, _):
            return model.Call("attach_reuseport_cbpf", (descriptor, TAKE_FIRST))
        case SetOption(_, _, option, value):
            content = value if isinstance(value, str) else int(value)
            return model.Call("setsockopt", (descriptor, *OPTIONS[option], content))
    quickly = (int(socket.IPPROTO_TCP), int(socket.TCP_QUICKACK), 1)
    return model.Call("setsockopt", (descriptor, *quickly))
