"""Looks at this machine: the sockets on a port, who holds them, and what stays hidden."""

from __future__ import annotations

import contextlib
import os
import socket
from dataclasses import replace
from typing import TYPE_CHECKING

from labs.engine.port.cgroup import find_path
from labs.engine.port.place import is_there, look
from labs.engine.port.processes import (
    ask_options,
    copied,
    describe,
    find_elsewhere,
    find_holders,
    map_outwards,
    read_options,
    shows_all,
)
from labs.engine.port.sight import Options, Row, Sight, Taken
from labs.engine.rules.rulebook import read_version
from labs.engine.rules.sockets import IPV4, IPV6, TCP

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from labs.engine.port.processes import Found
    from labs.engine.port.question import Question
    from labs.engine.port.sight import Holder, Place

SHOWS_BOUND = (6, 8)  # TCP_BOUND_INACTIVE of sock_diag
OVERFLOW = 65_534  # the uid of whoever has no number here (/proc/sys/kernel/overflowuid)
WHOLE = ("0", "0", "4294967295")  # the first user namespace's map
ATTEMPTS = 3  # looks until sockets and processes fit each other


def see(question: Question) -> Sight:
    """All that can be seen of a port; raises UsageError and CannotRun.

    Sockets and processes are read one after the other: where a socket has no holder any more that
    had one, both are read anew.
    """
    release = os.uname().release
    is_shown = question.protocol is not TCP or read_version(release) >= SHOWS_BOUND
    for _ in range(ATTEMPTS):
        place, uid_map = look(question)
        rows = [own(row, uid_map) for row in place.rows]
        inodes = frozenset(row.inode for row in rows if row.inode)
        needs_all = not is_shown
        found = find_holders(None if needs_all else inodes) if inodes or needs_all else None
        if found is None or found.hidden or inodes <= found.holders.keys():
            break
    holders = found.holders if found else {}
    if found and needs_all:
        known = {row.inode for row in rows}
        rows += find_bound(question, place, found, known)
    names: dict[int, Holder | None] = {}
    return Sight(
        release,
        place,
        tuple(take(row, holders.get(row.inode, []), names) for row in rows),
        found.hidden if found else 0,
        is_shown or (shows_all() and not (found and found.hidden)),
        () if rows else find_elsewhere(question.protocol, question.port, question.netns),
    )


def own(row: Row, uid_map: str) -> Row:
    """A socket with its owner as it is numbered here; None where it has none that is known."""
    owner = row.owner
    if uid_map and owner is not None:
        owner = map_outwards(uid_map, owner)
    if not row.inode and not is_kept_owner(row):
        owner = None
    if owner == OVERFLOW and not is_first_namespace():
        owner = None
    return row._replace(owner=owner)


def is_kept_owner(row: Row) -> bool:
    """Whether the kernel names the owner of a socket that no process has.

    Since 6.17 it does, but what remains as TIME_WAIT has none in any kernel.
    """
    if row.state == "TIME_WAIT" or row.timer == "TIME_WAIT":
        return False
    return read_version(os.uname().release) >= (6, 17)


def is_first_namespace() -> bool:
    """Whether each uid stands for itself here."""
    with open("/proc/self/uid_map") as file:
        return tuple(file.read().split()) == WHOLE


def take(row: Row, held: Sequence[tuple[int, int]], names: dict[int, Holder | None]) -> Taken:
    """A socket with those who hold it, and its options."""
    if not row.inode:
        return Taken(row)
    for pid, _ in held:
        if pid not in names:
            names[pid] = with_container(describe(pid))
    holders = {pid: found for pid, _ in held if (found := names[pid])}
    origin = "" if holders or not row.cgroup else find_path(row.cgroup)
    return Taken(row, read_options(row.inode, held), (*holders.values(),), origin)


def with_container(holder: Holder | None) -> Holder | None:
    """A process whose container has its name too, where it is one of Docker's.

    A docker-proxy's is the one that it passes connections on to.
    """
    if holder is None:
        return None
    if holder.target:
        from labs.engine.port.docker_names import find_at

        return replace(holder, container=find_at(holder.target.rpartition(":")[0]))
    if holder.container is None or holder.container.engine != "docker":
        return holder
    from labs.engine.port.docker_names import find_name

    name = find_name(holder.container.id)
    return replace(holder, container=replace(holder.container, name=name))


def find_bound(
    question: Question, place: Place, found: Found, known: Iterable[int]
) -> Iterator[Row]:
    """TCP sockets that are bound and no more, found by asking copies of all sockets.

    Of a kernel that does not show them (before 6.8).
    """
    for inode in found.holders.keys() - set(known):
        for pid, descriptor in found.holders[inode]:
            with copied(pid, descriptor) as copy:
                if copy is None:
                    continue
                row = read_bound(question, inode, copy)
                with contextlib.suppress(OSError):  # the process is no more
                    if row and is_there(copy, pid, place):
                        yield row
                break


def read_bound(question: Question, inode: int, copy: socket.socket) -> Row | None:
    """A socket on the port, where a copy is one; its owner is that of its inode (fstat(2))."""
    families = {int(socket.AF_INET): IPV4, int(socket.AF_INET6): IPV6}
    if copy.family not in families or copy.type != socket.SOCK_STREAM:
        return None
    local = copy.getsockname()[:2]
    if local[1] != question.port:
        return None
    options: Options = ask_options(copy)
    device = copy.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16).rstrip(b"\0").decode()
    return Row(
        question.protocol,
        families[copy.family],
        "CLOSE",
        (local[0], local[1]),
        ("", 0),
        os.fstat(copy.fileno()).st_uid,
        inode,
        device,
        options.v6only,
    )
