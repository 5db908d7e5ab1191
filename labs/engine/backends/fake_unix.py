"""UNIX sockets of the fake backend, as far as one is used to pass sockets on (unix(7)).

Stream sockets with a name in the abstract namespace, which is the network namespace's own.
"""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass, field

from labs.engine.backends.fake_kernel import IPV4_WILDCARD, FakeHost, FakeSocket, Hangs, refusal


@dataclass(eq=False)
class FakeUnixSocket(FakeSocket):
    """One UNIX socket; `passed` are those that have come and were not yet taken."""

    name: str = ""
    passed: list[FakeSocket] = field(default_factory=list)

    def bind_name(self, name: str) -> int:
        """Take a name."""
        if name in self.host.unix:
            raise refusal(errno.EADDRINUSE)
        self.name = name
        self.host.unix[name] = self
        return 0

    def listen(self, backlog: int) -> int:
        """Nobody else is asked."""
        self.state, self.backlog = "LISTEN", backlog
        return 0

    def connect_name(self, name: str) -> int:
        """The connection waits in the listener's queue when this returns."""
        listener = self.host.unix.get(name)
        if listener is None or listener.state != "LISTEN":
            raise refusal(errno.ECONNREFUSED)
        there = FakeUnixSocket(
            self.host, self.family, self.kind, self.uid, 0, self.local, self.peer
        )
        there.other, self.other = self, there
        listener.waiting.append(there)
        return 0

    def accept(self, uid: int) -> FakeSocket:
        """A connection from the queue."""
        if not self.waiting:
            raise Hangs("no connection is waiting")
        accepted = self.waiting.pop(0)
        accepted.uid, accepted.inode = uid, next(self.host.inodes)
        return accepted

    def send_fds(self, passed: FakeSocket) -> int:
        """SCM_RIGHTS: on its way a socket has one holder more."""
        if not isinstance(self.other, FakeUnixSocket):
            raise refusal(errno.ENOTCONN)
        passed.holders += 1
        self.other.passed.append(passed)
        return 1

    def recv_fds(self) -> FakeSocket:
        """The oldest socket that has come; who takes it holds it instead."""
        if not self.passed:
            raise Hangs("nothing has come")
        taken = self.passed.pop(0)
        taken.holders -= 1
        return taken

    def release(self) -> None:
        """One descriptor less; the last one gives the name back, and what was on its way."""
        self.holders -= 1
        if not self.holders:
            self.host.unix.pop(self.name, None)
            while self.passed:
                self.passed.pop().release()


def make_unix_socket(host: FakeHost, kind: int) -> FakeUnixSocket:
    """A new socket of a host's."""
    nowhere = IPV4_WILDCARD, 0
    return FakeUnixSocket(host, socket.AF_UNIX, kind, 0, next(host.inodes), nowhere, nowhere)
