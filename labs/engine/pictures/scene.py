"""What a picture of a step shows, as frozen data: hosts, ports, processes, and what was tried."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from labs.engine.pictures.chart import Chart

NOBODY = -1  # the number of a user whom the run does not know


@dataclass(frozen=True)
class Figure:
    """A process: `user` is the number of its user in order of appearance, NOBODY for none.

    `uid` is its effective one, as the host's user namespace has it; `inner` the one that the
    process has in a user namespace of its own, None where it has none.
    """

    name: str
    user: int
    uid: int | None = None
    inner: int | None = None


@dataclass(frozen=True)
class Queue:
    """A socket that is bound: a listener with its accept queue, or another one.

    Who comes to the port can reach it where it `is_open`: a listener, or one of UDP. `user` and
    `uid` are its owner's, `waiting` the connections in the queue (or the bytes of a socket that
    does not listen), of at most `backlog`.
    """

    address: str
    listens: bool
    is_open: bool
    waiting: int
    backlog: int
    user: int
    uid: int
    owner: str
    reuseaddr: bool
    reuseport: bool
    holders: tuple[Figure, ...]

    @property
    def group(self) -> tuple[str, int] | None:
        """What is the same for all of a reuseport group; None for a socket that is in none.

        One of TCP joins by listen(2), whatever options it was bound with.
        """
        return (self.address, self.uid) if self.reuseport and self.is_open else None

    @property
    def owner_shown(self) -> str:
        """Its owner, by name as far as the run has one, and by uid."""
        return f"{self.owner}/{self.uid}" if self.owner else str(self.uid)

    @property
    def options(self) -> tuple[str, ...]:
        """The options that it has, by their names in socket(7)."""
        named = {"SO_REUSEADDR": self.reuseaddr, "SO_REUSEPORT": self.reuseport}
        return tuple(name for name, is_set in named.items() if is_set)


@dataclass(frozen=True)
class Door:
    """A port of one protocol: what is bound to it, and its connections, how many in each state."""

    protocol: str
    port: int
    queues: tuple[Queue, ...]
    connections: Mapping[str, int]

    @property
    def vacancy(self) -> str:
        """What is to be said where nothing is bound to it."""
        return "nobody has it" if self.protocol == "udp" else "nobody listens"


@dataclass(frozen=True)
class Target:
    """Where a call was aimed: a port of a host, by its names and numbers."""

    host: str
    protocol: str
    port: int


@dataclass(frozen=True)
class Attempt:
    """Calls that a process made in the step, all alike, and what the kernel answered.

    `shown` is what the arrow says, such as `bind 0.0.0.0:8080`; `target` is None where the call has
    no address of a host of the run. `errno` is empty for a success.
    """

    figure: Figure
    shown: str
    target: Target | None
    errno: str
    count: int = 1


@dataclass(frozen=True)
class HostFrame:
    """A host: its doors, the processes on it, and what was tried from it.

    `elsewhere` are its connections to others' ports: how many, by the other end and the state.
    `others` are ports that are bound and left out of the picture.
    """

    name: str
    addresses: tuple[str, ...]
    doors: tuple[Door, ...]
    figures: tuple[Figure, ...]
    attempts: tuple[Attempt, ...]
    elsewhere: Mapping[tuple[str, str], int]
    others: tuple[str, ...]


@dataclass(frozen=True)
class Picture:
    """What there is after a step, what was tried in it, and a chart of what was measured."""

    hosts: tuple[HostFrame, ...]
    chart: Chart | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to draw."""
        return not self.hosts and self.chart is None
