"""What was seen of a port on the machine, as frozen data; what was not seen is None, never a guess.

Uids are numbered as the user namespace of who looks has them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from labs.engine.model import Address
    from labs.engine.rules.host import Host
    from labs.engine.rules.sockets import Family, Protocol

SHORT_ID = 12  # characters of a container's id that engines show


class Row(NamedTuple):
    """A socket as sock_diag(7) reports it.

    `owner` is None where the kernel shows none: the socket belongs to no process any more, or its
    owner has no number here. `v6only` is None where the kernel does not say it, `expires` is in
    milliseconds, `cgroup` is the id of the cgroup (version 2) whose process made it, 0 for none.
    """

    protocol: Protocol
    family: Family
    state: str
    local: Address
    peer: Address
    owner: int | None
    inode: int
    device: str = ""
    v6only: bool | None = None
    timer: str = ""
    expires: int = 0
    cgroup: int = 0


class Options(NamedTuple):
    """The options that were read from a copy of a socket."""

    reuseaddr: bool
    reuseport: bool
    v6only: bool | None = None


@dataclass(frozen=True)
class Container:
    """What a process runs in, as its cgroup says: which engine's; the name is what Docker says."""

    engine: str
    id: str
    name: str = ""

    @property
    def short(self) -> str:
        """Its name, or as much of its id as engines take for it."""
        return self.name or self.id[:SHORT_ID]


@dataclass(frozen=True)
class Holder:
    """A process that has a descriptor of a socket.

    `uid` is its effective one, `inside` the same as its own user namespace numbers it, None where
    that is the namespace of who looks. `unit` is its systemd unit, `is_users` whether a user's own
    manager has it. `target` is what a proxy of Docker's passes connections on to, and `container`
    the one that is there then.
    """

    pid: int
    command: str
    uid: int
    inside: int | None = None
    container: Container | None = None
    unit: str = ""
    target: str = ""
    is_users: bool = False


@dataclass(frozen=True)
class Taken:
    """A socket on the port, with its options and those who hold it, as far as they were seen.

    `origin` is the cgroup that it was made in, where no holder was seen.
    """

    row: Row
    options: Options | None = None
    holders: tuple[Holder, ...] = ()
    origin: str = ""


@dataclass(frozen=True)
class Elsewhere:
    """A process in another network namespace, where the same port is taken too."""

    pid: int
    command: str
    count: int = 1


@dataclass(frozen=True)
class Place:
    """A network namespace: what is on the port, and what a bind() asks for besides.

    `network` is what its link in /proc/PID/ns says, `cookie` the kernel's number for it, 0 where
    the kernel does not tell (before 5.14).
    """

    rows: tuple[Row, ...]
    host: Host
    network: str = ""
    cookie: int = 0


@dataclass(frozen=True)
class Sight:
    """All that was seen: by whom, of which kernel, and what stayed hidden.

    `hidden` is the number of processes that may not be looked into; `sees_bound` is whether the
    kernel shows TCP sockets that are bound and no more, or all processes could be asked for them.
    """

    release: str
    place: Place
    taken: tuple[Taken, ...]
    hidden: int = 0
    sees_bound: bool = True
    elsewhere: tuple[Elsewhere, ...] = field(default_factory=tuple)
