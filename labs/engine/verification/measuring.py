"""Lets real processes make the calls of cells, many cells at a time, and hears their errnos."""

from __future__ import annotations

import itertools
import socket
import struct
from dataclasses import replace
from signal import SIGKILL
from typing import TYPE_CHECKING, TypeAlias

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
from labs.engine.rules.sockets import Family, Protocol
from labs.engine.verification.cell import PLANS, USERS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from labs.engine.backend import Backend
    from labs.engine.rules.calls import Call, User
    from labs.engine.verification.cell import Cell

Errnos: TypeAlias = "list[int]"
"""What the kernel answered to each call of a cell, 0 for success."""

# What remains of connections stays for a minute, and a namespace of a small machine has room for
# about a thousand (tcp_max_tw_buckets).
IN_ONE_PLACE = 800
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
    """What the kernel answers to each call of each cell, some cells at a time, in order."""
    for first in range(0, len(cells), IN_ONE_PLACE):
        place = str(first // IN_ONE_PLACE + 1)
        names = open_place(backend, place)
        here = cells[first : first + IN_ONE_PLACE]
        for start in range(0, len(here), AT_ONCE):
            yield Batch(backend, names, here[start : start + AT_ONCE]).carry_out()
        for name in names.values():
            backend.end_process(name, SIGKILL)


def open_place(backend: Backend, place: str) -> dict[str, str]:
    """Fresh network namespaces with a process of each user's; the process of each, by user."""
    for plan in PLANS.values():
        backend.open_host(replace(plan, name=f"{plan.name}-{place}"))
    names = {user.name: f"{user.name}-{place}" for user in USERS}
    for user in USERS:
        host, capabilities = f"{user.namespace}-{place}", tuple(sorted(user.capabilities))
        backend.start_process(ProcessPlan(names[user.name], host, user.uid, capabilities))
    return names


class Batch:
    """Some cells that are measured together, by the processes of these names.

    Each cell is cut where another process is to go on; then the first parts of all cells are done,
    process by process, then the second ones. So a process is asked once for many calls.
    """

    def __init__(self, backend: Backend, names: Mapping[str, str], cells: Sequence[Cell]) -> None:
        self._backend = backend
        self._names = names
        self._cells = cells
        self._errnos: list[Errnos] = [[] for _ in cells]
        self._open: dict[tuple[int, str], tuple[str, int]] = {}  # process and descriptor

    def carry_out(self) -> list[Errnos]:
        """The errnos of all calls, cell by cell; nothing stays open."""
        parts = [
            [(user, [*calls]) for user, calls in itertools.groupby(cell.calls, key=user_name)]
            for cell in self._cells
        ]
        for row in itertools.zip_longest(*parts):
            for user in USERS:
                chosen = [
                    (number, calls)
                    for number, part in enumerate(row)
                    if part and part[0] == user.name
                    for calls in [part[1]]
                ]
                if chosen:
                    self._ask(user, chosen)
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
        results = self._backend.perform(self._names[user.name], made, go_on=True)
        for where, index in fresh.items():
            value = results[index].value
            if isinstance(value, int):
                self._open[where] = (user.name, value)
        for number, call, index in noted:
            self._errnos[number].append(results[index].errno)
            if isinstance(call, Close):
                self._open.pop((number, call.socket), None)

    def _close(self) -> None:
        """Close what cells have left open."""
        for user in USERS:
            held = [number for name, number in self._open.values() if name == user.name]
            if held:
                calls = [model.Call("close", (number,)) for number in held]
                self._backend.perform(self._names[user.name], calls)


def user_name(call: Call) -> str:
    """Who makes a call."""
    return call.user.name


def translate(call: Call, descriptor: Argument) -> Iterator[model.Call]:
    """A call as an agent makes it, the last of those that are needed for it."""
    match call:
        case Open(_, _, protocol, family):
            yield model.Call("socket", (FAMILIES[family], KINDS[protocol], 0))
        case SetOption(_, _, Option.PROGRAM, _):
            yield model.Call("attach_reuseport_cbpf", (descriptor, TAKE_FIRST))
        case SetOption(_, _, option, value):
            content = value if isinstance(value, str) else int(value)
            yield model.Call("setsockopt", (descriptor, *OPTIONS[option], content))
        case Chown(_, _, uid):
            yield model.Call("fchown", (descriptor, uid, -1))
        case Bind(_, _, address, port):
            yield model.Call("bind", (descriptor, (address, port)))
        case Listen():
            yield model.Call("listen", (descriptor, BACKLOG))
        case Connect(_, _, address, port):
            yield model.Call("connect", (descriptor, (address, port)))
        case Accept():
            timeout = struct.pack("@ll", PATIENCE, 0).decode("latin-1")
            limit = (descriptor, socket.SOL_SOCKET, int(socket.SO_RCVTIMEO), timeout)
            yield model.Call("setsockopt", limit)
            yield model.Call("accept", (descriptor,))
        case Acknowledge():
            quickly = (int(socket.IPPROTO_TCP), int(socket.TCP_QUICKACK), 1)
            yield model.Call("setsockopt", (descriptor, *quickly))
        case Close():
            yield model.Call("close", (descriptor,))
