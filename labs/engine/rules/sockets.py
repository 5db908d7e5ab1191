"""Sockets and addresses, as the rules see them: immutable, and nothing but numbers and words.

They are named tuples where rules read them, since those are made and read in the least time.
"""

from __future__ import annotations

import functools
import ipaddress
from enum import StrEnum
from typing import NamedTuple

NO_PORT = 0
SOME_PORT = -1
"""A port that the kernel has chosen: nobody can ask for it by its number in advance."""

NOBODY = -1
"""The owner of a socket that no process has: no user is equal to it."""


class Protocol(StrEnum):
    """What a socket speaks."""

    TCP = "TCP"
    UDP = "UDP"


class Family(StrEnum):
    """Which addresses a socket takes."""

    IPV4 = "AF_INET"
    IPV6 = "AF_INET6"


class State(StrEnum):
    """How far a socket is; `CLOSE` is the kernel's word for one that is unbound or only bound.

    A connection that its process has closed is in FIN_WAIT1 until the other end acknowledges that.
    From then on it counts as TIME_WAIT, though the kernel may say FIN_WAIT2: it keeps the same few
    words of both. One whose other end was thrown away is RESET: the kernel says CLOSE again, but
    the socket still counts as connected.
    """

    CLOSE = "CLOSE"
    LISTEN = "LISTEN"
    CONNECTED = "CONNECTED"
    FIN_WAIT1 = "FIN_WAIT1"
    TIME_WAIT = "TIME_WAIT"
    RESET = "RESET"


# Names of a module are found in less time than members of an Enum.
TCP, UDP = Protocol.TCP, Protocol.UDP
IPV4, IPV6 = Family.IPV4, Family.IPV6
CLOSE, LISTEN, TIME_WAIT = State.CLOSE, State.LISTEN, State.TIME_WAIT
CONNECTED, FIN_WAIT1, RESET = State.CONNECTED, State.FIN_WAIT1, State.RESET

REQUESTED = frozenset({"SYN_RECV", "NEW_SYN_RECV"})
"""States of sock_diag(7) of what has no place on the port yet, beside its listener's."""
ORPHANED = {"FIN_WAIT1": FIN_WAIT1, "FIN_WAIT2": TIME_WAIT, "TIME_WAIT": TIME_WAIT}


def read_state(name: str, *, has_process: bool) -> State:
    """A state from its name in sock_diag(7), and whether a process has the socket."""
    if name in (CLOSE, LISTEN):
        return State(name)
    return CONNECTED if has_process else ORPHANED.get(name, CONNECTED)


class Address(NamedTuple):
    """An address: whether it is one of IPv4, be it mapped into IPv6, and its number.

    The number 0 is the wildcard: 0.0.0.0, or `::`, which is all of IPv6 and may be all of IPv4.
    """

    is_ipv4: bool
    number: int


@functools.cache
def parse_address(text: str) -> Address:
    """An address from its text; ValueError where it is none."""
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv4Address):
        return Address(True, int(address))
    if (mapped := address.ipv4_mapped) is not None:
        return Address(True, int(mapped))
    return Address(False, int(address))


ANY_IPV4 = Address(True, 0)
ANY_IPV6 = Address(False, 0)
ONE_IPV6 = Address(False, 1)


class Socket(NamedTuple):
    """A socket; `reuseaddr` and `reuseport` are its options now, whatever they were at bind().

    `owner` is the user as whom it was made (kuid), or to whom it was given by fchown(). A socket is
    `v6only` with IPV6_V6ONLY, and where it is bound to one IPv6 address. It is `prepared` if it has
    a group (sk_reuseport_cb): with SO_REUSEPORT it gets one by SO_ATTACH_REUSEPORT_CBPF, be it
    before bind(), or else as soon as packets can find it. `peer` names the other end of its
    connection, `listener` the one in whose queue it waits for accept(). On all of IPv4 it
    `is_mapped` if the first who was there, of those beside it, had asked for ::ffff:0.0.0.0.
    """

    name: str
    protocol: Protocol
    family: Family
    owner: int
    namespace: str
    address: Address | None = None
    port: int = NO_PORT
    v6only: bool = False
    device: str = ""
    reuseaddr: bool = False
    reuseport: bool = False
    state: State = State.CLOSE
    prepared: bool = False
    peer: str = ""
    listener: str = ""
    is_mapped: bool = False
