"""The calls that the rules answer, as frozen data: who makes which, on which socket.

Sockets go by names, since their descriptors are no part of any rule.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from labs.engine.rules.sockets import Family, Protocol

BIND_SERVICE = "CAP_NET_BIND_SERVICE"
CHOWN = "CAP_CHOWN"
NET_RAW = "CAP_NET_RAW"


class Option(StrEnum):
    """The socket options that have a part in the rules."""

    REUSEADDR = "SO_REUSEADDR"
    REUSEPORT = "SO_REUSEPORT"
    V6ONLY = "IPV6_V6ONLY"
    DEVICE = "SO_BINDTODEVICE"
    PROGRAM = "SO_ATTACH_REUSEPORT_CBPF"


@dataclass(frozen=True)
class User:
    """Who makes a call: a name, its uid, in which network namespace, with which capabilities."""

    name: str
    uid: int
    namespace: str
    capabilities: frozenset[str] = field(default_factory=frozenset)


@dataclass(frozen=True)
class Open:
    """socket()."""

    user: User
    socket: str
    protocol: Protocol
    family: Family


@dataclass(frozen=True)
class SetOption:
    """setsockopt(): an option on or off, or the name of a device."""

    user: User
    socket: str
    option: Option
    value: bool | str = True


@dataclass(frozen=True)
class Chown:
    """fchown() to another uid."""

    user: User
    socket: str
    uid: int


@dataclass(frozen=True)
class Bind:
    """bind(); port 0 is some port."""

    user: User
    socket: str
    address: str
    port: int


@dataclass(frozen=True)
class Listen:
    """listen()."""

    user: User
    socket: str


@dataclass(frozen=True)
class Connect:
    """connect(); `child` is what the other end is called, should there be one (TCP).

    To 127.0.0.1 and ::1 alone: the source is then the same address.
    """

    user: User
    socket: str
    address: str
    port: int
    child: str = ""


@dataclass(frozen=True)
class Accept:
    """accept() by a listener, which gives the connection of this name."""

    user: User
    socket: str
    child: str


@dataclass(frozen=True)
class Close:
    """close()."""

    user: User
    socket: str


@dataclass(frozen=True)
class Acknowledge:
    """setsockopt(TCP_QUICKACK): what the other end has sent is heard of, its FIN or RST too.

    By a listener, it waits until that is so for those in its queue.
    """

    user: User
    socket: str


Call: TypeAlias = Open | SetOption | Chown | Bind | Listen | Connect | Accept | Close | Acknowledge
