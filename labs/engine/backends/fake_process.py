"""A process of the fake backend: its uids, its descriptors, and the calls that it makes."""

from __future__ import annotations

import errno
import socket
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING

from labs.engine.backends.fake_diag import FakeDiag
from labs.engine.backends.fake_kernel import PROTOCOLS, WILDCARDS, FakeHost, FakeSocket, refusal
from labs.engine.backends.fake_unix import FakeUnixSocket, make_unix_socket
from labs.engine.backends.fake_work import FakeLoad, FakeServer, request
from labs.engine.capabilities import capability_mask
from labs.engine.errors import Unsupported
from labs.engine.model import Argument, Credentials, OpenSocket, ProcessRow

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from labs.engine.backends.fake_capabilities import Capabilities
    from labs.engine.model import Value

UIDS = range(65_536)
UNCHANGED = -1
FIRST_DESCRIPTOR = 3
SETUID = capability_mask(["CAP_SETUID"])
ADMIN = capability_mask(["CAP_SYS_ADMIN"])
PTRACE = capability_mask(["CAP_SYS_PTRACE"])
CHOWN = capability_mask(["CAP_CHOWN"])
BIND_SERVICE = capability_mask(["CAP_NET_BIND_SERVICE"])
OVERFLOW_UID = 65_534
SOCK_DIAG = (int(socket.AF_NETLINK), int(socket.SOCK_RAW), 4)  # NETLINK_SOCK_DIAG
PROTOCOL_NUMBERS = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP}
WORK_CALLS = {
    *("serve", "load", "stop", "request", "request_from_sleep"),
    *("wait_for_requests", "make_lock", "make_barrier", "sched_setaffinity", "sched_getaffinity"),
    *("write_text", "posix_spawn"),
}
SOCKET_CALLS = {
    "attach_reuseport_cbpf",
    "drain",
    "setsockopt",
    "getsockopt",
    "listen",
    "connect",
    "send",
    "sendto",
    "recv",
    "shutdown",
    "getsockname",
}


class FakeProcess:
    """A process: its uids, its descriptors, and the calls that a script has it make.

    With an `outer_uid` it has a user namespace of its own, where its uid stands for that one.
    """

    def __init__(
        self,
        host: FakeHost,
        credentials: Credentials,
        capabilities: Capabilities,
        outer_uid: int | None = None,
    ) -> None:
        host.processes += 1
        self.host = host
        self.pid = host.processes
        host.running[self.pid] = self
        self.network = host  # where its next sockets will be
        self.credentials = credentials
        self.capabilities = capabilities
        self.outer_uid = outer_uid
        self._inner = credentials.real
        self.sockets: dict[int, FakeSocket] = {}
        self.inheritable: set[int] = set()
        self.work: FakeServer | FakeLoad | None = None
        self.has_executed = False
        self.has_exited = False

    def fork(self) -> FakeProcess:
        """A child that holds the same sockets."""
        child = FakeProcess(self.host, self.credentials, self.capabilities, self.outer_uid)
        child.inheritable = set(self.inheritable)
        for descriptor, held in self.sockets.items():
            child._hold(descriptor, held)
        return child

    def make(self, name: str, arguments: Sequence[Argument | Value]) -> Value:
        """Make a call; OSError where it is refused, another error where it cannot be made."""
        match name, arguments:
            case "socket", [int(family), int(kind), *protocol]:
                return self._socket(family, kind, *protocol)
            case "set_inheritable", [int(descriptor), int(inheritable)]:
                self.find(descriptor)
                (self.inheritable.add if inheritable else self.inheritable.discard)(descriptor)
                return 0
            case "exec", [str(), tuple()]:
                self._exec()
                return None
            case "exit", [int(status)]:
                self.has_exited = True
                return status
            case "seteuid" | "setuid" | "setreuid" | "setresuid" | "setfsuid", [*uids]:
                change: Callable[..., int] = getattr(self, f"_{name}")
                return change(*uids)
            case _ if name in WORK_CALLS:
                return self._work(name, arguments)
            case ("unshare", [int()]) | ("setns", []):
                return self._change_network(name)
            case "pidfd_getfd", [int(pid), int(descriptor)]:
                return self._pidfd_getfd(pid, descriptor)
            case _, [int(descriptor), *rest]:
                return self._call_socket(name, descriptor, rest)
        raise LookupError("there is no such call")

    def end(self) -> None:
        """Close everything."""
        self.host.running.pop(self.pid, None)
        if isinstance(self.work, FakeServer):
            self.work.stop()
        for descriptor in list(self.sockets):
            self._close(descriptor)

    def row(self) -> ProcessRow:
        """What /proc says."""
        opened = tuple(
            OpenSocket(
                descriptor,
                held.inode,
                held.is_set(socket.SO_REUSEADDR),
                held.is_set(socket.SO_REUSEPORT),
            )
            for descriptor, held in self.sockets.items()
        )
        now = self.credentials
        uids = [self.outer(uid) for uid in (now.real, now.effective, now.saved, now.filesystem)]
        return ProcessRow(self.pid, Credentials(*uids), self.capabilities.effective, opened)

    # --- what it does on its own ---

    def _work(self, name: str, arguments: Sequence[Argument | Value]) -> Value:
        match name, arguments:
            case ("make_lock", []) | ("write_text", [str(), str()]):
                return 0
            case "posix_spawn", [str(program), tuple()]:
                raise Unsupported(f"The fake backend has no {program}: it runs no programs.")
            case "sched_setaffinity" | "make_barrier", [int()]:
                return 0
            case ("sched_getaffinity", []) | ("wait_for_requests", [int()]):
                return 1
            case "request", [(str(text), int(port)), int(count), int(first_port), str()]:
                return request(self.network, (text, port), count, first_port)
            case "request_from_sleep", [(str(text), int(port)), int(count), tuple() as pids, str()]:
                tally = request(self.network, (text, port), count, 0)
                # Who waits how makes no difference here: each is told of each connection.
                return {**tally, **{f"woken {pid}": tally["answered"] for pid in pids}}
            case "stop", [] if self.work:
                work, self.work = self.work, None
                return work.stop()
            case "serve", [int(descriptor), str(), str(server), int()] if not self.work:
                self.work = FakeServer(self.find(descriptor), server)
                return 0
            case "load", [(str(text), int(port)), int(count), int(clients), str()] if not self.work:
                self.work = FakeLoad(self.network, (text, port), count, clients)
                return 0
        raise LookupError("not what it does")

    # --- sockets ---

    def _call_socket(self, name: str, descriptor: int, rest: Sequence[Argument | Value]) -> Value:
        held = self.find(descriptor)
        match name, rest:
            case "bind", [(str(text), int(port))]:
                # Asked of the user namespace that the host's network belongs to.
                may = self._has(BIND_SERVICE) and self.outer_uid is None
                return held.bind((text, port), may)
            case ("bind" | "connect", [str()]) | ("send_fds" | "recv_fds", _):
                return self._call_unix_socket(name, held, rest)
            case "accept", []:
                return self._keep(held.accept(self.outer(self.credentials.filesystem)))
            case "close", []:
                return self._close(descriptor)
            case "fchown", [int(uid), int()]:
                return self._fchown(held, uid)
            case "fstat", []:
                return held.inode
            case _ if name in SOCKET_CALLS:
                call: Callable[..., Value] = getattr(held, name)
                return call(*rest)
        raise LookupError("there is no such call")

    def _call_unix_socket(
        self, name: str, held: FakeSocket, rest: Sequence[Argument | Value]
    ) -> Value:
        if not isinstance(held, FakeUnixSocket):
            raise TypeError("no UNIX socket")
        match name, rest:
            case "bind", [str(address)]:
                return held.bind_name(address)
            case "connect", [str(address)]:
                return held.connect_name(address)
            case "send_fds", [int(passed)]:
                return held.send_fds(self.find(passed))
            case "recv_fds", []:
                return self._keep(held.recv_fds())
        raise LookupError("there is no such call")

    def _socket(self, family: int, kind: int, protocol: Argument | Value = 0) -> int:
        if family == socket.AF_UNIX:
            return self._keep(make_unix_socket(self.network, kind))
        if (family, kind, protocol) == SOCK_DIAG:
            return self._keep(self._make_diag())
        if family not in WILDCARDS:
            raise refusal(errno.EAFNOSUPPORT)
        if kind not in PROTOCOLS:
            raise refusal(errno.ESOCKTNOSUPPORT)
        if protocol not in (0, PROTOCOL_NUMBERS[PROTOCOLS[kind]]):
            raise refusal(errno.EPROTONOSUPPORT)
        nowhere = (WILDCARDS[family], 0)
        owner, inode = self.outer(self.credentials.filesystem), next(self.host.inodes)
        return self._keep(FakeSocket(self.network, family, kind, owner, inode, nowhere, nowhere))

    def _change_network(self, name: str) -> int:
        """A network namespace without addresses, or back to the host's."""
        if not self._has(ADMIN):
            raise refusal(errno.EPERM)
        start, inodes = self.host.unprivileged_port_start, self.host.inodes
        empty = FakeHost([], start, tcp_migrate_req=False, others={}, inodes=inodes)
        self.network = empty if name == "unshare" else self.host
        return 0

    def _pidfd_getfd(self, pid: int, descriptor: int) -> int:
        """ptrace(2) asks for the same uids, or for CAP_SYS_PTRACE."""
        found = self.host.running.get(pid)
        if found is None:
            raise refusal(errno.ESRCH)
        mine, theirs = self.credentials.filesystem, found.credentials
        is_same = {self.outer(mine)} == {
            found.outer(uid) for uid in (theirs.real, theirs.effective, theirs.saved)
        }
        if not is_same and not self._has(PTRACE):
            raise refusal(errno.EPERM)
        return self._keep(found.find(descriptor))

    def _make_diag(self) -> FakeDiag:
        owner, inode = self.outer(self.credentials.filesystem), next(self.host.inodes)
        nowhere = (WILDCARDS[socket.AF_INET], 0)
        family, kind, _ = SOCK_DIAG
        return FakeDiag(
            self.host, family, kind, owner, inode, nowhere, nowhere, number_of=self._number
        )

    def _fchown(self, held: FakeSocket, uid: int) -> int:
        mine = self.credentials.filesystem
        if uid == UNCHANGED:
            return 0
        self._check_uid(uid)
        # To keep one's own takes nothing, to give it to another user CAP_CHOWN.
        if not held.uid == self.outer(mine) == self.outer(uid) and not self._has(CHOWN):
            raise refusal(errno.EPERM)
        held.uid = self.outer(uid)
        return 0

    def _close(self, descriptor: int) -> int:
        self.sockets.pop(descriptor).release()
        self.inheritable.discard(descriptor)
        return 0

    def find(self, descriptor: int) -> FakeSocket:
        """The socket of a descriptor; EBADF where there is none."""
        if descriptor not in self.sockets:
            raise refusal(errno.EBADF)
        return self.sockets[descriptor]

    def _keep(self, new: FakeSocket) -> int:
        free = (number for number in count(FIRST_DESCRIPTOR) if number not in self.sockets)
        return self._hold(next(free), new)

    def _hold(self, descriptor: int, held: FakeSocket) -> int:
        self.sockets[descriptor] = held
        held.holders += 1
        return descriptor

    # --- the process itself; uids by the rules of credentials(7) ---

    def _exec(self) -> None:
        for descriptor in set(self.sockets) - self.inheritable:
            self._close(descriptor)
        effective = self.credentials.effective
        self.credentials = replace(self.credentials, saved=effective, filesystem=effective)
        self.capabilities = self.capabilities.after_exec(self.credentials)
        self.has_executed = True

    def _has(self, capability: int) -> bool:
        return bool(self.capabilities.effective & capability)

    def _exists(self, uid: int) -> bool:
        """Whether this process's user namespace has the uid."""
        return uid in UIDS if self.outer_uid is None else uid == self._inner

    def outer(self, uid: int) -> int:
        """What a uid of this process's is to the rest of the run."""
        return uid if self.outer_uid is None else self.outer_uid

    def _number(self, uid: int) -> int:
        """How this process's user namespace numbers a uid of the run's."""
        if self.outer_uid is None:
            return uid
        return self._inner if uid == self.outer_uid else OVERFLOW_UID

    def _check_uid(self, uid: int) -> None:
        """Refuse what is no uid here; ValueError for what is none anywhere."""
        if uid < UNCHANGED:
            raise ValueError("a uid is not negative")
        if not self._exists(uid):
            raise refusal(errno.EINVAL)

    def _seteuid(self, uid: int) -> int:
        self._check_uid(uid)
        return self._setresuid(UNCHANGED, uid, UNCHANGED)

    def _setuid(self, uid: int) -> int:
        now = self.credentials
        self._check_uid(uid)
        if self._has(SETUID):
            return self._setresuid(uid, uid, uid)
        self._check([uid], [now.real, now.saved])
        return self._setresuid(UNCHANGED, uid, UNCHANGED)

    def _setreuid(self, real: int, effective: int) -> int:
        now = self.credentials
        self._check([real], [now.real, now.effective])
        self._check([effective], [now.real, now.effective, now.saved])
        new_effective = now.effective if effective == UNCHANGED else effective
        if real != UNCHANGED or effective not in (UNCHANGED, now.real):
            return self._become(real, effective, new_effective)
        return self._become(real, effective, UNCHANGED)

    def _setresuid(self, real: int, effective: int, saved: int) -> int:
        now = self.credentials
        self._check([real, effective, saved], [now.real, now.effective, now.saved])
        return self._become(real, effective, saved)

    def _setfsuid(self, uid: int) -> int:
        now = self.credentials
        own = (now.real, now.effective, now.saved, now.filesystem)
        if self._exists(uid) and (self._has(SETUID) or uid in own):
            self.credentials = replace(now, filesystem=uid)
            self.capabilities = self.capabilities.after_setfsuid(now.filesystem, uid)
        return now.filesystem

    def _check(self, uids: Sequence[int], own: Sequence[int]) -> None:
        for uid in uids:
            if uid == UNCHANGED:
                continue
            self._check_uid(uid)
            if uid not in own and not self._has(SETUID):
                raise refusal(errno.EPERM)

    def _become(self, *uids: int) -> int:
        now = self.credentials
        pairs = zip(uids, (now.real, now.effective, now.saved), strict=True)
        real, effective, saved = (old if uid == UNCHANGED else uid for uid, old in pairs)
        self.credentials = Credentials(real, effective, saved, effective)
        self.capabilities = self.capabilities.after_change(now, self.credentials)
        return 0
