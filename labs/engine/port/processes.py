"""Finds the processes that hold sockets, and copies a socket only to ask it for its options.

A copy is made by pidfd_getfd(2), read, and closed; nothing is ever done with it.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from labs.engine.port.cgroup import find_container, find_unit, is_of_user
from labs.engine.port.sight import Elsewhere, Holder, Options
from labs.engine.system import pidfd_getfd
from labs.engine.warm_parent import read_field

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

GONE = (errno.ENOENT, errno.ESRCH, errno.EBADF)
LISTENING = "0A"  # st of /proc/net/tcp, where listeners come first
UNCONNECTED = "07"  # st of /proc/net/udp
DOCKER_PROXY = "docker-proxy"
FIRST_PIDS = "pid:[4026531836]"  # PROC_PID_INIT_INO, include/linux/proc_ns.h


@dataclass
class Found:
    """What a look through all processes came to.

    `holders` has for each socket's inode the pids and descriptors of those who hold it, `hidden` is
    the number of processes that may not be looked into.
    """

    holders: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    hidden: int = 0


def find_holders(wanted: frozenset[int] | None) -> Found:
    """Who holds the sockets with these inodes; None stands for all sockets."""
    found = Found()
    for pid in list_processes():
        try:
            for descriptor in os.listdir(f"/proc/{pid}/fd"):
                inode = read_inode(pid, descriptor)
                if inode and (wanted is None or inode in wanted):
                    found.holders.setdefault(inode, []).append((pid, int(descriptor)))
        except PermissionError:
            found.hidden += has_memory(pid)
        except OSError as error:
            if error.errno not in GONE:
                raise
    return found


def list_processes() -> list[int]:
    """The pids of all processes that /proc shows, in order."""
    return sorted(int(entry) for entry in os.listdir("/proc") if entry.isdigit())


def shows_all() -> bool:
    """Whether /proc has all processes: of the first pid namespace, and hiding none (hidepid)."""
    return os.path.exists("/proc/1") and os.readlink("/proc/self/ns/pid") == FIRST_PIDS


def read_inode(pid: int, descriptor: str) -> int:
    """The inode of the socket that a descriptor refers to; 0 where it is none, or is closed."""
    try:
        target = os.readlink(f"/proc/{pid}/fd/{descriptor}")
    except FileNotFoundError:
        return 0
    return int(target[8:-1]) if target.startswith("socket:[") else 0


def has_memory(pid: int) -> bool:
    """Whether this is a process that may hold something: no thread of the kernel's, no zombie."""
    try:
        with open(f"/proc/{pid}/status", errors="backslashreplace") as file:
            return bool(read_field(file.read(), "VmSize"))
    except OSError:
        return False


# --- one process --------------------------------------------------------------------------


def describe(pid: int) -> Holder | None:
    """A process as /proc shows it; None where it is no more."""
    try:
        with open(f"/proc/{pid}/status", errors="backslashreplace") as file:
            status = file.read()
        with open(f"/proc/{pid}/cgroup", errors="backslashreplace") as file:
            cgroups = file.read()
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            arguments = file.read().decode(errors="backslashreplace").split("\0")
        with open(f"/proc/{pid}/uid_map") as file:
            uid_map = file.read()
    except OSError as error:
        if error.errno in GONE:
            return None
        raise
    command = status.partition("\n")[0].partition("\t")[2]
    uid = int(read_field(status, "Uid").split()[1])
    inside = map_inwards(uid_map, uid) if is_apart(pid) else None
    target = find_target(arguments) if command == DOCKER_PROXY else ""
    belongs = find_container(cgroups), find_unit(cgroups)
    return Holder(pid, command, uid, inside, *belongs, target, is_of_user(cgroups))


def is_apart(pid: int) -> bool:
    """Whether a process is in another user namespace; False where that may not be seen."""
    try:
        return os.readlink(f"/proc/{pid}/ns/user") != os.readlink("/proc/self/ns/user")
    except OSError:
        return False


def read_map(text: str) -> list[tuple[int, int, int]]:
    """The lines of a uid_map of proc(5): first inside, first outside, how many."""
    rows = (line.split() for line in text.splitlines())
    return [(int(inside), int(outside), int(count)) for inside, outside, count in rows]


def map_inwards(text: str, uid: int) -> int | None:
    """A uid of outside, as it is numbered inside; None where it is not mapped."""
    for inside, outside, count in read_map(text):
        if outside <= uid < outside + count:
            return inside + uid - outside
    return None


def map_outwards(text: str, uid: int) -> int | None:
    """A uid of inside, as it is numbered outside; None where it is not mapped."""
    for inside, outside, count in read_map(text):
        if inside <= uid < inside + count:
            return outside + uid - inside
    return None


def find_target(arguments: Sequence[str]) -> str:
    """To where a docker-proxy passes connections on; empty where it does not say."""
    values = dict(itertools.pairwise(arguments))
    address, port = values.get("-container-ip", ""), values.get("-container-port", "")
    return f"{address}:{port}" if address and port else ""


# --- copies of sockets --------------------------------------------------------------------


@contextlib.contextmanager
def copied(pid: int, descriptor: int) -> Iterator[socket.socket | None]:
    """A copy of another process's socket, closed at once; None where none may be had."""
    copy = None
    try:
        pidfd = os.pidfd_open(pid)
        try:
            copy = socket.socket(fileno=pidfd_getfd(pidfd, descriptor))
        finally:
            os.close(pidfd)
    except OSError:  # closed or ended meanwhile, not allowed (ptrace(2)), or no such call (5.6)
        pass
    try:
        yield copy
    finally:
        if copy is not None:
            copy.close()


def read_options(inode: int, holders: Sequence[tuple[int, int]]) -> Options | None:
    """The options of a socket, from whichever of its holders gives a copy; None where none does."""
    for pid, descriptor in holders:
        with copied(pid, descriptor) as copy:
            # Another socket may have taken the descriptor's place.
            if copy is not None and os.fstat(copy.fileno()).st_ino == inode:
                return ask_options(copy)
    return None


def ask_options(copy: socket.socket) -> Options:
    """The options of a socket."""
    reuseaddr, reuseport = (
        bool(copy.getsockopt(socket.SOL_SOCKET, option))
        for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT)
    )
    v6only = None
    if copy.family == socket.AF_INET6:
        v6only = bool(copy.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY))
    return Options(reuseaddr, reuseport, v6only)


# --- other network namespaces -------------------------------------------------------------


def find_elsewhere(protocol: str, port: int, own: int | None) -> tuple[Elsewhere, ...]:
    """Other network namespaces of processes that can be seen, where somebody is on a port.

    `own` is the process whose namespace is not another one; None for this one.
    """
    try:
        seen = {os.readlink(f"/proc/{own or 'self'}/ns/net")}
    except OSError:
        return ()
    found = []
    for pid in list_processes():
        try:
            namespace = os.readlink(f"/proc/{pid}/ns/net")
            if namespace in seen:
                continue
            seen.add(namespace)
            count = count_on_port(pid, protocol, port)
            if count:
                with open(f"/proc/{pid}/comm", errors="backslashreplace") as file:
                    found.append(Elsewhere(pid, file.read().rstrip("\n"), count))
        except OSError:
            continue  # not to be seen, or gone
    return tuple(found)


def count_on_port(pid: int, protocol: str, port: int) -> int:
    """How many listeners, or UDP sockets, are on a port of a process's network namespace."""
    state = LISTENING if protocol == "TCP" else UNCONNECTED
    count = 0
    for suffix in ("", "6"):
        with open(f"/proc/{pid}/net/{protocol.lower()}{suffix}") as file:
            next(file, None)
            for line in file:
                _, local, _, found, *_ = line.split()
                if found != state and protocol == "TCP":
                    break
                count += found == state and local.endswith(f":{port:04X}")
    return count
