"""The warm parent: process 1 of a host. It forks agents, ends them, says what the kernel shows.

Standard library only, like the agent that it forks.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import struct

from labs.engine.agent import (
    CHANNEL_DESCRIPTOR,
    Agent,
    Stream,
    answer_to,
    move_channel,
    take_steps,
)
from labs.engine.system import CLONE_NEWUSER, PR_SET_NAME, pidfd_getfd, prctl, take_user, unshare

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import NoReturn, Protocol

    from labs.engine.agent import Json, Message

    class SandboxAgent(Protocol):
        """Starts strange programs where they see nothing but a host's network."""

        stream: Stream

        def enter(self) -> None:
            """Make the sandbox; raises OSError."""

        def serve(self) -> NoReturn:
            """Answer requests; never returns."""


# sock_diag(7): struct nlmsghdr; struct inet_diag_req_v2 after one; struct inet_diag_msg
NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
NLM_F_REQUEST = 0x1
NLM_F_DUMP = 0x300
NLMSG_ERROR = 2
NLMSG_DONE = 3
NETLINK_HEADER = struct.Struct("=LHHLL")
DUMP_REQUEST = struct.Struct("=LHHLL BBBx L 2s46x")
DIAG_MESSAGE = struct.Struct("=BBBx 2s2s16s16s12x LLLLL")
PROTOCOLS = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP}

# include/net/tcp_states.h, from 1 on. A socket that is bound and no more is asked for by a number
# of its own (TCP_BOUND_INACTIVE, since 6.8) and reported as CLOSE.
STATES = (
    *("ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT1", "FIN_WAIT2", "TIME_WAIT", "CLOSE"),
    *("CLOSE_WAIT", "LAST_ACK", "LISTEN", "CLOSING", "NEW_SYN_RECV", "BOUND_INACTIVE"),
)
ALL_STATES = (1 << len(STATES) + 1) - 2

# What idiag_timer says: which timer of the socket's runs. Newer kernels have more (7.2: a 5).
TIMERS = ("", "RETRANSMIT", "KEEPALIVE", "TIME_WAIT", "PROBE", "OTHER")


class WarmParent:
    """Process 1 of a host: forks agents, ends processes, and reads what /proc says of them.

    `sandbox` makes the agent that starts strange programs; None where there can be none.
    """

    def __init__(
        self, stream: Stream, sandbox: Callable[[Stream], SandboxAgent] | None = None
    ) -> None:
        self.stream = stream
        self._sandbox = sandbox

    def serve(self) -> NoReturn:
        """Say who this is, then answer requests; never returns."""
        self.stream.send({"pid": os.getpid()})
        while (request := self.stream.receive()) is not None:
            self.stream.send(answer_to(self._answer, request))
            reap_children()
        os._exit(0)

    def _answer(self, request: Message) -> Message:
        match request:
            case {"do": "start", "name": str(name), "uid": int(uid), "capabilities": int(mask)}:
                outer_uid = request.get("outer_uid")
                apart = UserNamespace(uid, outer_uid) if isinstance(outer_uid, int) else None
                return self._start(name, uid, mask, apart)
            case {"do": "start a sandbox", "name": str(name)}:
                return self._start_sandbox(name)
            case {"do": "end", "pid": int(pid), "signal": int(number), "milliseconds": int(limit)}:
                return {"ended": end_process(pid, number, limit)}
            case {"do": "observe"}:
                return {"sockets": [*observe_sockets()], "processes": [*observe_processes()]}
        raise ValueError(request)

    def _start(
        self, name: str, uid: int, capabilities: int, apart: UserNamespace | None
    ) -> Message:
        channel = self.stream.take_descriptor()
        pid = os.fork()
        if pid == 0:
            self.stream.connection.close()
            agent = Agent(Stream(move_channel(channel)))
            take_steps(
                agent.stream,
                (f"name a process {name}", lambda: prctl(PR_SET_NAME, name.encode()[:15])),
                *([(f"make a user namespace for {name}", apart.enter)] if apart else []),
                (f"take uid {uid}", lambda: take_user(uid, capabilities)),
            )
            agent.serve()
        os.close(channel)
        if apart:
            apart.admit(pid)
        return {"pid": pid}

    def _start_sandbox(self, name: str) -> Message:
        """The same for the agent of a sandbox, which stays root with all capabilities."""
        assert self._sandbox
        channel = self.stream.take_descriptor()
        pid = os.fork()
        if pid == 0:
            self.stream.connection.close()
            agent = self._sandbox(Stream(move_channel(channel)))
            take_steps(
                agent.stream,
                (f"name a process {name}", lambda: prctl(PR_SET_NAME, name.encode()[:15])),
                ("make a sandbox", agent.enter),
            )
            agent.serve()
        os.close(channel)
        return {"pid": pid}


class UserNamespace:
    """A user namespace that a child makes, and its parent maps: one uid and gid, inner to outer."""

    def __init__(self, inner: int, outer: int) -> None:
        self._map = f"{inner} {outer} 1\n"
        self._gate, self._childs = socket.socketpair()

    def enter(self) -> None:
        """The child's part: be in it, once it is mapped; raises OSError, the parent's too."""
        self._gate.close()
        with self._childs:
            unshare(CLONE_NEWUSER)
            self._childs.send(b"\0")
            (number,) = self._childs.recv(1)
        if number:
            raise OSError(number, os.strerror(number))

    def admit(self, pid: int) -> None:
        """The parent's part: map it, or tell the child why not.

        Only who has CAP_SETUID and CAP_SETGID in the namespace above may map another's id.
        """
        self._childs.close()
        with self._gate:
            if not self._gate.recv(1):
                return  # the child has said why
            try:
                for name in ("uid_map", "gid_map"):
                    with open(f"/proc/{pid}/{name}", "w") as file:
                        file.write(self._map)
            except OSError as error:
                self._gate.send(bytes([error.errno or errno.EIO]))
            else:
                self._gate.send(b"\0")


def reap_children() -> None:
    """Wait for every child that has ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def end_process(pid: int, number: int, milliseconds: int) -> bool:
    """Send a signal (0: none) and wait until the process is gone; False if it is still there."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        if number:
            signal.pidfd_send_signal(pidfd, number)
        # Readable once the process has given up all it held, its sockets included.
        return bool(select.select([pidfd], [], [], milliseconds / 1000)[0])
    finally:
        os.close(pidfd)


def observe_sockets() -> Iterator[Json]:
    """Every TCP and UDP socket of this network namespace, as sock_diag(7) reports it.

    Each is [protocol, state, local, peer, uid, inode, receive queue, send queue, timer,
    expires].
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as netlink:
        for name, protocol in PROTOCOLS.items():
            for family in (socket.AF_INET, socket.AF_INET6):
                for message in dump_sockets(netlink, family, protocol):
                    yield [name, *read_message(family, message)]


def dump_sockets(
    netlink: socket.socket, family: int, protocol: int, port: int = 0
) -> Iterator[bytes]:
    """The messages of one dump, without their headers: of all sockets, or those on a local port.

    OSError where the kernel refuses it.
    """
    flags = NLM_F_REQUEST | NLM_F_DUMP
    header = (DUMP_REQUEST.size, SOCK_DIAG_BY_FAMILY, flags, 0, 0)
    source = port.to_bytes(2, "big")
    netlink.send(DUMP_REQUEST.pack(*header, family, protocol, 0, ALL_STATES, source))
    yield from read_answers(netlink, SOCK_DIAG_BY_FAMILY)


def read_answers(netlink: socket.socket, expected: int) -> Iterator[bytes]:
    """The messages of one kind that the kernel answers with, without their headers, to the last.

    OSError where it refuses (netlink(7)).
    """
    while True:
        data = netlink.recv(1 << 18)
        offset = 0
        while offset < len(data):
            length, kind, *_ = NETLINK_HEADER.unpack_from(data, offset)
            content = data[offset + NETLINK_HEADER.size : offset + length]
            offset += length + 3 & ~3
            if kind == expected:
                yield content
            elif kind in (NLMSG_ERROR, NLMSG_DONE):
                (number,) = struct.unpack_from("=l", content)
                if number < 0:
                    raise OSError(-number, os.strerror(-number))
                return


def read_message(family: int, message: bytes) -> list[Json]:
    """A struct inet_diag_msg."""
    _, state, timer, *ends, expires, receive_queue, send_queue, uid, inode = (
        DIAG_MESSAGE.unpack_from(message)
    )
    local_port, peer_port, local, peer = ends
    size = 4 if family == socket.AF_INET else 16

    def address(host: bytes, port: bytes) -> Json:
        return [socket.inet_ntop(family, host[:size]), int.from_bytes(port, "big")]

    return [
        STATES[state - 1],
        address(local, local_port),
        address(peer, peer_port),
        uid,
        inode,
        receive_queue,
        send_queue,
        TIMERS[min(timer, len(TIMERS) - 1)],
        expires if timer else 0,
    ]


def observe_processes() -> list[Message]:
    """Each process of this pid namespace but the first: uids, capabilities, sockets, options.

    None that has ended: a host that may read everything finds a zombie without descriptors.
    """
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        if status := read_living(int(entry)):
            try:
                found.append(observe_process(int(entry), status))
            except OSError:
                if read_living(int(entry)):
                    raise
    return found


def read_living(pid: int) -> str:
    """A process's /proc/PID/status; empty where it is no more or on its way out.

    Then it has no memory, as a zombie, and its /proc/PID/fd belongs to the machine's root and
    cannot be read (task_dump_owner()).
    """
    try:
        # A process's name may be any bytes.
        with open(f"/proc/{pid}/status", errors="backslashreplace") as file:
            status = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return status if read_field(status, "VmSize") else ""


def observe_process(pid: int, status: str) -> Message:
    """What /proc/PID says, and the options of its sockets, read from copies of them."""
    pidfd = os.pidfd_open(pid)
    try:
        sockets: list[Json] = [
            [descriptor, *found]
            for descriptor in list_descriptors(pid)
            if (found := read_socket(pid, pidfd, descriptor))
        ]
    finally:
        os.close(pidfd)
    return {
        "pid": pid,
        "command": status.partition("\n")[0].partition("\t")[2],
        "uids": [int(uid) for uid in read_field(status, "Uid").split()],
        "capabilities": int(read_field(status, "CapEff"), 16),
        "sockets": sockets,
    }


def list_descriptors(pid: int) -> list[int]:
    """A process's descriptors; none where it may not be looked into, whatever it has.

    It is in a user namespace that is neither this process's nor below it (ptrace(2)).
    """
    try:
        return [int(entry) for entry in os.listdir(f"/proc/{pid}/fd")]
    except PermissionError:
        if read_living(pid):
            return []
        raise


def read_field(status: str, name: str) -> str:
    """A field of /proc/PID/status."""
    return status.partition(f"\n{name}:\t")[2].partition("\n")[0]


def read_socket(pid: int, pidfd: int, descriptor: int) -> list[Json]:
    """Inode, SO_REUSEADDR and SO_REUSEPORT of another process's socket; empty if it is none."""
    try:
        target = os.readlink(f"/proc/{pid}/fd/{descriptor}")
        if not target.startswith("socket:["):
            return []
        with socket.socket(fileno=pidfd_getfd(pidfd, descriptor)) as copy:
            if descriptor == CHANNEL_DESCRIPTOR and copy.family == socket.AF_UNIX:
                return []  # an agent's channel
            options = (socket.SO_REUSEADDR, socket.SO_REUSEPORT)
            values = [bool(copy.getsockopt(socket.SOL_SOCKET, option)) for option in options]
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EBADF):
            return []  # closed while it was read
        raise
    return [int(target[8:-1]), *values]
