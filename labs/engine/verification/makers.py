"""What the cells of the table are made of: addresses, options, and sockets in each state."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labs.engine.rules.calls import (
    Accept,
    Acknowledge,
    Bind,
    Close,
    Connect,
    Listen,
    Open,
    Option,
    SetOption,
)
from labs.engine.rules.sockets import Family, Protocol
from labs.engine.verification.cell import ALICE, BOB, PLANS, ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from labs.engine.rules.calls import Call, User

HELPERS = 15_000  # from a cell's port to the one of a listener that it needs besides
MINE, THEIRS, THIRD, CLIENT, CHILD, HELPER = "B", "A", "C", "client", "child", "helper"


@dataclass(frozen=True)
class Spot:
    """Where a socket is to be bound: an address, and what its socket has besides."""

    address: str
    v6only: bool = False
    device: str = ""

    @property
    def family(self) -> Family:
        """The family that a socket needs for it."""
        return Family.IPV6 if ":" in self.address else Family.IPV4

    def __str__(self) -> str:
        words = [self.address, "V6ONLY" if self.v6only else "", self.device]
        return " ".join(filter(None, words))


@dataclass(frozen=True)
class Options:
    """SO_REUSEADDR and SO_REUSEPORT."""

    reuseaddr: bool
    reuseport: bool

    def __str__(self) -> str:
        return (
            "+".join(
                name for name, is_set in (("RA", self.reuseaddr), ("RP", self.reuseport)) if is_set
            )
            or "plain"
        )


ALL_OPTIONS = tuple(Options(*pair) for pair in itertools.product((False, True), repeat=2))
PLAIN, RP, RA, BOTH = ALL_OPTIONS

ANY4, ONE4, TWO4 = Spot("0.0.0.0"), Spot("127.0.0.1"), Spot("127.0.0.2")
ANY6, ANY6_ONLY = Spot("::"), Spot("::", v6only=True)
ONE6, TWO6 = Spot("::1"), Spot(PLANS["one"].ipv6)
MAPPED, MAPPED_ANY = Spot("::ffff:127.0.0.1"), Spot("::ffff:0.0.0.0")
LO4, ETH4 = Spot("0.0.0.0", device="lo"), Spot("0.0.0.0", device="eth0")
LO4_ONE, LO6 = Spot("127.0.0.1", device="lo"), Spot("::", device="lo")
SPOTS = (
    *(ANY4, ONE4, TWO4, ANY6, ANY6_ONLY, ONE6, TWO6),
    *(MAPPED, MAPPED_ANY, LO4, ETH4, LO4_ONE, LO6),
)
RELATIONS = (
    *((ONE4, ONE4), (ANY4, ANY4), (ANY4, ONE4), (ONE4, ANY4), (ONE4, TWO4)),
    *((ONE6, ONE6), (ANY6, ANY6), (ANY6, ONE6), (ONE6, ANY6), (ONE6, TWO6)),
    *((ANY4, ANY6), (ANY6, ANY4), (ONE4, ANY6), (ANY6, ONE4), (ONE4, ONE6)),
    *((ANY4, ANY6_ONLY), (ANY6_ONLY, ANY4), (ONE4, MAPPED), (MAPPED, ONE4)),
    *((LO4, ETH4), (LO4, ANY4)),
)
CONNECTABLE = (
    *((ONE4, ONE4), (ANY4, ANY4), (ANY4, TWO4), (ONE6, ONE6), (ANY6, ANY6), (ANY6, ONE4)),
    *((ANY6, TWO6), (MAPPED, ONE4), (ONE4, ANY4), (ONE4, ANY6), (ONE6, ANY6)),
)
ANSWERING = (ANY4, ONE4, ANY6, ANY6_ONLY, ONE6, MAPPED, MAPPED_ANY, LO4, LO6)
USERS = (ALICE, BOB, ROOT)


@dataclass(frozen=True)
class Maker:
    """What makes the socket that is there first, at a spot, with options, on a port."""

    name: str
    protocol: Protocol
    make: Callable[[Protocol, Spot, Options, int], Sequence[Call]]


def opened(
    user: User, name: str, protocol: Protocol, spot: Spot, options: Options
) -> Iterator[Call]:
    """A socket with its options, not yet bound."""
    yield Open(user, name, protocol, spot.family)
    if spot.v6only:
        yield SetOption(user, name, Option.V6ONLY)
    if spot.device:
        yield SetOption(user, name, Option.DEVICE, spot.device)
    if options.reuseaddr:
        yield SetOption(user, name, Option.REUSEADDR)
    if options.reuseport:
        yield SetOption(user, name, Option.REUSEPORT)


def bound(
    user: User, name: str, protocol: Protocol, spot: Spot, options: Options, port: int
) -> Iterator[Call]:
    """A socket that asks for a port."""
    yield from opened(user, name, protocol, spot, options)
    yield Bind(user, name, spot.address, port)


# --- who is there first -------------------------------------------------------------------


def make_bound(protocol: Protocol, spot: Spot, options: Options, port: int) -> Sequence[Call]:
    """A socket that is bound and no more."""
    return [*bound(ALICE, THEIRS, protocol, spot, options, port)]


def make_listening(protocol: Protocol, spot: Spot, options: Options, port: int) -> Sequence[Call]:
    """A listener."""
    return [*bound(ALICE, THEIRS, protocol, spot, options, port), Listen(ALICE, THEIRS)]


def make_queued(protocol: Protocol, spot: Spot, options: Options, port: int) -> Sequence[Call]:
    """A listener, and a connection that nobody has accepted."""
    there = reachable(spot)
    return [
        *make_listening(protocol, spot, options, port),
        Open(ALICE, CLIENT, protocol, there.family),
        Connect(ALICE, CLIENT, there.address, port, CHILD),
    ]


def make_accepted(protocol: Protocol, spot: Spot, options: Options, port: int) -> Sequence[Call]:
    """A connection whose listener is gone."""
    return [
        *make_queued(protocol, spot, options, port),
        Accept(ALICE, THEIRS, CHILD),
        Close(ALICE, THEIRS),
    ]


def make_half(protocol: Protocol, spot: Spot, options: Options, port: int) -> Sequence[Call]:
    """A connection that its server has closed, and its client has not."""
    return [
        *make_accepted(protocol, spot, options, port),
        Close(ALICE, CHILD),
        Acknowledge(ALICE, CLIENT),
    ]


def make_ended(protocol: Protocol, spot: Spot, options: Options, port: int) -> Sequence[Call]:
    """What remains of a connection that its server has closed first."""
    return [
        *make_accepted(protocol, spot, options, port),
        Close(ALICE, CHILD),
        Close(ALICE, CLIENT),
    ]


def make_client(protocol: Protocol, spot: Spot, options: Options, port: int) -> Sequence[Call]:
    """A client that was bound, and then connected to a listener on another port."""
    there = reachable(spot)
    return [
        *bound(BOB, HELPER, protocol, there, PLAIN, port + HELPERS),
        Listen(BOB, HELPER),
        *make_bound(protocol, spot, options, port),
        Connect(ALICE, THEIRS, there.address, port + HELPERS, CHILD),
    ]


def make_connected(protocol: Protocol, spot: Spot, options: Options, port: int) -> Sequence[Call]:
    """A UDP socket that was bound, and then connected."""
    there = reachable(spot)
    return [
        *make_bound(protocol, spot, options, port),
        Connect(ALICE, THEIRS, there.address, port),
    ]


def reachable(spot: Spot) -> Spot:
    """Where to connect to, for an address of a spot that answers from that same address."""
    if spot.family is Family.IPV4:
        return ONE4
    return MAPPED if spot.address.startswith("::ffff:") else ONE6


BOUND_TCP = Maker("bound", Protocol.TCP, make_bound)
LISTENING = Maker("listening", Protocol.TCP, make_listening)
QUEUED = Maker("with a queued connection", Protocol.TCP, make_queued)
ACCEPTED = Maker("connected", Protocol.TCP, make_accepted)
AS_CLIENT = Maker("connected as a client", Protocol.TCP, make_client)
HALF = Maker("FIN_WAIT2", Protocol.TCP, make_half)
ENDED = Maker("TIME_WAIT", Protocol.TCP, make_ended)
BOUND_UDP = Maker("bound", Protocol.UDP, make_bound)
CONNECTED_UDP = Maker("connected", Protocol.UDP, make_connected)
