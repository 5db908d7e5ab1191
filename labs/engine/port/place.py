"""Looks at a network namespace: this process's own, or by a child that enters another's."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import pickle
import socket
from typing import TYPE_CHECKING, TypeAlias

from labs.engine.errors import CannotRun, EngineError, UsageError
from labs.engine.port.netlink import is_bindable_route, read_addresses, read_rows
from labs.engine.port.question import as_root
from labs.engine.port.sight import Place
from labs.engine.rules.host import Host
from labs.engine.rules.sockets import parse_address
from labs.engine.system import CLONE_NEWNET, CLONE_NEWUSER, setns

if TYPE_CHECKING:
    from typing import NoReturn

    from labs.engine.port.question import Question

SO_NETNS_COOKIE = 71  # include/uapi/asm-generic/socket.h, since 5.14
SIOCGSKNS = 0x894C  # include/uapi/linux/sockios.h

Answered: TypeAlias = "tuple[Place, str] | OSError"


def look(question: Question) -> tuple[Place, str]:
    """A network namespace, and how the owners of its sockets are mapped to uids here.

    The map is empty where they are numbered as here, else that of proc(5). UsageError for a process
    that there is not, CannotRun for a namespace that one may not enter.
    """
    if question.netns is None:
        try:
            return read_place(question), ""
        except OSError as error:
            raise CannotRun(
                f"The kernel does not say which sockets there are: {error.strerror}.",
                "sock_diag(7) has to be in the kernel (CONFIG_INET_DIAG, CONFIG_INET_UDP_DIAG).",
            ) from error
    answer = look_from(question, question.netns)
    if isinstance(answer, OSError):
        raise explain(question, answer) from answer
    return answer


def explain(question: Question, error: OSError) -> UsageError | CannotRun:
    """Why one cannot look into the network namespace of a process."""
    pid = question.netns
    if error.errno in (errno.ENOENT, errno.ESRCH):
        return UsageError(f"There is no process {pid}.")
    return CannotRun(
        f"The network namespace of process {pid} cannot be entered: {error.strerror}.",
        as_root(question),
    )


def look_from(question: Question, pid: int) -> Answered:
    """What a child sees that enters the network namespace of a process; this one never does."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        answer_and_exit(question, pid, writer)
    os.close(writer)
    with open(reader, "rb") as pipe:
        data = pipe.read()
    os.waitpid(child, 0)
    if not data:
        raise EngineError("What was to look into the network namespace has died.")
    # It comes from this very program's own child.
    found: Answered = pickle.loads(data)  # noqa: S301
    return found


def answer_and_exit(question: Question, pid: int, writer: int) -> NoReturn:
    """The child's part."""
    try:
        try:
            mapped = enter(pid)
            answer: Answered = (read_place(question), mapped)
        except OSError as error:
            answer = OSError(error.errno, error.strerror)
        with open(writer, "wb") as pipe:
            pipe.write(pickle.dumps(answer))
    finally:
        os._exit(0)


def enter(pid: int) -> str:
    """Enter the network namespace of a process, by way of its user namespace where it has to be.

    Returns how uids are numbered then, as `look` does; raises OSError.
    """
    network = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    with contextlib.closing(os.fdopen(network)):
        try:
            setns(network, CLONE_NEWNET)
        except PermissionError:
            # Who owns a user namespace below has all capabilities there.
            with open(f"/proc/{pid}/uid_map") as file:
                mapped = file.read()
            user = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
            with contextlib.closing(os.fdopen(user)):
                try:
                    setns(user, CLONE_NEWUSER)
                except OSError as error:
                    if error.errno != errno.EINVAL:  # one's own already
                        raise
                    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM)) from error
            setns(network, CLONE_NEWNET)
            return mapped
    return ""


def read_place(question: Question) -> Place:
    """The network namespace that this process is in; raises OSError."""
    addresses = read_addresses()
    asked = parse_address(question.address)
    if may_be_foreign(question) or (asked.is_ipv4 and asked.number and is_bindable_route(asked)):
        addresses |= {asked}
    devices = frozenset(name for _, name in socket.if_nameindex())
    start = read_number("/proc/sys/net/ipv4/ip_unprivileged_port_start", 1024)
    rows = read_rows(question.protocol, question.port)
    network = os.readlink("/proc/self/ns/net")
    return Place(rows, Host(addresses, devices, start), network, read_cookie())


def may_be_foreign(question: Question) -> bool:
    """Whether an address may be bound that is none of this namespace's (ip_nonlocal_bind)."""
    version = "ipv4" if parse_address(question.address).is_ipv4 else "ipv6"
    return bool(read_number(f"/proc/sys/net/{version}/ip_nonlocal_bind", 0))


def read_number(path: str, default: int) -> int:
    """The number in a file; the default where there is no such file."""
    try:
        with open(path) as file:
            return int(file.read())
    except FileNotFoundError:
        return default


def read_cookie() -> int:
    """The kernel's number for this network namespace; 0 where it has none."""
    with socket.socket() as probe:
        return cookie_of(probe)


def is_there(one: socket.socket, pid: int, place: Place) -> bool:
    """Whether a copy of a process's socket is of a network namespace; raises OSError."""
    if place.cookie:
        return cookie_of(one) == place.cookie
    return network_of(one, pid) == place.network


def network_of(one: socket.socket, pid: int) -> str:
    """The network namespace of a copy of a process's socket, by its name; raises OSError.

    Who may not ask for that of a socket takes that of its process.
    """
    try:
        namespace = fcntl.ioctl(one, SIOCGSKNS)
    except PermissionError:
        return os.readlink(f"/proc/{pid}/ns/net")
    try:
        return os.readlink(f"/proc/self/fd/{namespace}")
    finally:
        os.close(namespace)


def cookie_of(one: socket.socket) -> int:
    """The kernel's number for the network namespace of a socket; 0 where it does not tell."""
    try:
        return int.from_bytes(one.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8), "little")
    except OSError:
        return 0
