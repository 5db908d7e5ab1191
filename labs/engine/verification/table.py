"""The table: all pairs of sockets that differ in what a rule may ask for, as cells."""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labs.engine.rules.calls import (
    Accept,
    Acknowledge,
    Bind,
    Chown,
    Close,
    Connect,
    Listen,
    Open,
    Option,
    SetOption,
)
from labs.engine.rules.sockets import Family, Protocol
from labs.engine.verification.cell import (
    ALICE,
    BOB,
    ELSEWHERE,
    KEEPER,
    PLANS,
    ROOT,
    Cell,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from labs.engine.rules.calls import Call, User

FIRST_PORT = 2_000  # the next ones follow, up to where ports for connect() begin
LAST_PORT = 32_767
FIRST_LOW_PORT = 100
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


# --- the cells ----------------------------------------------------------------------------


@functools.cache
def make_table() -> tuple[Cell, ...]:
    """All cells, each on a port of its own; always the same ones."""
    return tuple(list_cells())


def list_cells() -> Iterator[Cell]:
    """All cells in their order."""
    ports = iter(range(FIRST_PORT, LAST_PORT + 1))
    for maker in (BOUND_TCP, LISTENING, BOUND_UDP):
        for spots, mine, theirs, user in itertools.product(
            RELATIONS, ALL_OPTIONS, ALL_OPTIONS, USERS
        ):
            yield make_pair(maker, spots, (theirs, mine), user, next(ports))
    for maker in (ACCEPTED, AS_CLIENT, QUEUED, HALF, ENDED, CONNECTED_UDP):
        for spots, theirs, mine, user in itertools.product(
            CONNECTABLE, ALL_OPTIONS, ALL_OPTIONS, (ALICE, BOB)
        ):
            yield make_pair(maker, spots, (theirs, mine), user, next(ports))
    yield from list_spots(ports)
    yield from list_changed(ports)
    yield from list_forgotten(ports)
    yield from list_prepared(ports)
    yield from list_refused(ports)
    yield from list_given_queues(ports)
    yield from list_several(ports)
    yield from list_unconnected(ports)


def make_pair(
    maker: Maker, spots: tuple[Spot, Spot], options: tuple[Options, Options], user: User, port: int
) -> Cell:
    """A cell: somebody is there first, and a user asks for the same port."""
    protocol = maker.protocol
    calls = [
        *maker.make(protocol, spots[0], options[0], port),
        *bound(user, MINE, protocol, spots[1], options[1], port),
    ]
    if protocol is Protocol.TCP:
        calls.append(Listen(user, MINE))
        if maker is BOUND_TCP:
            calls.append(Listen(ALICE, THEIRS))
    about = (
        f"{protocol}, {maker.name}: {spots[0]} {options[0]}, then {user.name}: "
        f"{spots[1]} {options[1]}"
    )
    return Cell(about, tuple(calls))


def list_spots(ports: Iterator[int]) -> Iterator[Cell]:
    """Each spot beside each other one."""
    for maker in (LISTENING, BOUND_UDP, ENDED):
        first = ANSWERING if maker is ENDED else SPOTS
        for *spots, options in itertools.product(first, SPOTS, (PLAIN, RA, RP)):
            yield make_pair(maker, (spots[0], spots[1]), (options, options), ALICE, next(ports))


def list_forgotten(ports: Iterator[int]) -> Iterator[Cell]:
    """Somebody is there who had SO_REUSEPORT once, and a spot that is its own or not."""
    for protocol, spots, mine, user in itertools.product(
        Protocol,
        itertools.product((ONE4, ANY4, ANY6, ANY6_ONLY, MAPPED), repeat=2),
        (RP, BOTH),
        (ALICE, BOB),
    ):
        port = next(ports)
        calls = [
            *bound(ALICE, THEIRS, protocol, spots[0], RP, port),
            SetOption(ALICE, THEIRS, Option.REUSEPORT, False),
            *bound(user, MINE, protocol, spots[1], mine, port),
        ]
        about = f"{protocol}: {spots[0]} RP, not since, then {user.name}: {spots[1]} {mine}"
        yield Cell(about, tuple(calls))


def list_prepared(ports: Iterator[int]) -> Iterator[Cell]:
    """Who comes has a program for its group before it has a port."""
    for protocol, spots, theirs, mine in itertools.product(
        Protocol, ((ONE4, ONE4), (ONE4, TWO4), (ANY6, ONE4)), (PLAIN, RP, BOTH), ALL_OPTIONS
    ):
        port = next(ports)
        make = make_listening if protocol is Protocol.TCP else make_bound
        calls = [
            *make(protocol, spots[0], theirs, port),
            *opened(ALICE, MINE, protocol, spots[1], mine),
            SetOption(ALICE, MINE, Option.PROGRAM),
            Bind(ALICE, MINE, spots[1].address, port),
        ]
        yield Cell(
            f"{protocol}: {spots[0]} {theirs}, then {spots[1]} {mine} with a program", tuple(calls)
        )


def list_changed(ports: Iterator[int]) -> Iterator[Cell]:
    """Somebody is there whose options, or whose owner, are not those with which it was bound."""
    for protocol, is_listener, before, after, mine, user in itertools.product(
        Protocol, (False, True), ALL_OPTIONS, ALL_OPTIONS, (RA, RP, BOTH), (ALICE, BOB)
    ):
        if before == after or (is_listener and protocol is Protocol.UDP):
            continue
        port = next(ports)
        make = make_listening if is_listener else make_bound
        calls = [
            *make(protocol, ONE4, before, port),
            SetOption(ALICE, THEIRS, Option.REUSEADDR, after.reuseaddr),
            SetOption(ALICE, THEIRS, Option.REUSEPORT, after.reuseport),
            *bound(user, MINE, protocol, ONE4, mine, port),
        ]
        if protocol is Protocol.TCP:
            calls.append(Listen(user, MINE))
        about = f"{protocol}: {before}, {after} since, then {user.name}: {mine}"
        yield Cell(about, tuple(calls))
    for protocol, given, spots in itertools.product(
        Protocol, (ALICE, BOB), ((ONE4, ONE4), (ONE4, ANY4), (ANY4, ONE4))
    ):
        for user in (ALICE, BOB):
            port = next(ports)
            calls = [
                *bound(KEEPER, THEIRS, protocol, spots[0], RP, port),
                Chown(KEEPER, THEIRS, given.uid),
                *bound(user, MINE, protocol, spots[1], RP, port),
            ]
            yield Cell(f"{protocol}: given to {given.name}, then {user.name}", tuple(calls))
    for protocol, user in itertools.product(Protocol, (ALICE, BOB)):
        port = next(ports)
        calls = [
            *bound(ALICE, THEIRS, protocol, ONE4, RP, port),
            Chown(ALICE, THEIRS, BOB.uid),
            *bound(user, MINE, protocol, ONE4, RP, port),
        ]
        yield Cell(f"{protocol}: not given to bob, then {user.name}", tuple(calls))


def list_refused(ports: Iterator[int]) -> Iterator[Cell]:
    """Calls that are refused whoever is there, and those that are not though one might think so."""
    low = iter(range(FIRST_LOW_PORT, 1024))
    foreign = Spot("10.255.255.1"), Spot("2001:db8::1"), Spot("::ffff:10.255.255.1")
    mapped_only = Spot("::ffff:127.0.0.1", v6only=True)
    foreign_only = Spot("::ffff:10.255.255.1", v6only=True)
    for protocol, spot, user, is_low in itertools.product(
        Protocol,
        (ONE4, ANY6, MAPPED, mapped_only, foreign_only, *foreign),
        (ALICE, ROOT, KEEPER),
        (False, True),
    ):
        port = next(low if is_low else ports)
        calls = [
            *bound(user, MINE, protocol, spot, PLAIN, port),
            Bind(user, MINE, spot.address, port),
        ]
        yield Cell(f"{protocol} {user.name}: {spot}:{port}, twice", tuple(calls))
    for protocol, spot in itertools.product(Protocol, (ONE4, ONE6)):
        port = next(ports)
        calls = [
            *bound(ALICE, THEIRS, protocol, spot, PLAIN, port),
            Bind(ALICE, THEIRS, foreign[spot.family is Family.IPV6].address, port),
            Bind(ALICE, THEIRS, spot.address, next(low)),
            SetOption(ALICE, THEIRS, Option.V6ONLY),
            Listen(ALICE, THEIRS),
            Listen(ALICE, THEIRS),
            *bound(ALICE, MINE, protocol, spot, PLAIN, 0),
            Listen(ALICE, MINE),
            SetOption(ALICE, MINE, Option.DEVICE, "eth7"),
            Open(ALICE, THIRD, protocol, spot.family),
            Listen(ALICE, THIRD),
            Bind(ALICE, THIRD, spot.address, next(ports)),
        ]
        yield Cell(f"{protocol} {spot}: bound, and once more", tuple(calls))


def list_given_queues(ports: Iterator[int]) -> Iterator[Cell]:
    """A listener is given away, and then a connection comes that nobody accepts."""
    for given, user, spot in itertools.product((ALICE, BOB), (ALICE, BOB), (ONE4, ANY4, ANY6)):
        port = next(ports)
        calls = [
            *bound(KEEPER, THEIRS, Protocol.TCP, ONE4, RP, port),
            Listen(KEEPER, THEIRS),
            Chown(KEEPER, THEIRS, given.uid),
            Open(KEEPER, CLIENT, Protocol.TCP, Family.IPV4),
            Connect(KEEPER, CLIENT, ONE4.address, port, CHILD),
            *bound(user, MINE, Protocol.TCP, spot, RP, port),
            Listen(user, MINE),
        ]
        about = f"TCP: a listener with a queued connection given to {given.name}, then {user.name}"
        yield Cell(f"{about}: {spot}", tuple(calls))


def list_unconnected(ports: Iterator[int]) -> Iterator[Cell]:
    """Connections that there are not, and one that is to listen."""
    port = next(ports)
    calls: list[Call] = [
        *make_listening(Protocol.TCP, ONE4, PLAIN, port),
        Accept(ALICE, THEIRS, CHILD),
        Open(BOB, CLIENT, Protocol.TCP, Family.IPV6),
        Connect(BOB, CLIENT, ONE6.address, port, CHILD),
        Open(BOB, THIRD, Protocol.TCP, Family.IPV4),
        Connect(BOB, THIRD, ONE4.address, port + HELPERS, CHILD),
    ]
    yield Cell("TCP: nobody connects, nobody listens", tuple(calls))
    port = next(ports)
    calls = [
        *make_queued(Protocol.TCP, ANY6, PLAIN, port),
        Accept(ALICE, THEIRS, CHILD),
        Listen(ALICE, CHILD),
        Listen(ALICE, CLIENT),
    ]
    yield Cell("TCP: a connection is to listen", tuple(calls))


def list_several(ports: Iterator[int]) -> Iterator[Cell]:
    """Who is elsewhere, and what takes more than two sockets to see."""
    for protocol, spot, options in itertools.product(Protocol, (ONE4, ANY6), ALL_OPTIONS):
        port = next(ports)
        calls = [
            *bound(ELSEWHERE, THEIRS, protocol, spot, options, port),
            *bound(ALICE, MINE, protocol, spot, PLAIN, port),
        ]
        yield Cell(f"{protocol}: {spot} in another network namespace", tuple(calls))
    for spot, mine in itertools.product((ONE4, ANY6), ALL_OPTIONS):
        port = next(ports)
        calls = [
            *bound(ALICE, THEIRS, Protocol.UDP, spot, PLAIN, port),
            *bound(BOB, MINE, Protocol.TCP, spot, mine, port),
            Listen(BOB, MINE),
        ]
        yield Cell(f"UDP, then TCP: {spot}", tuple(calls))
    yield from list_threes(ports)


def list_threes(ports: Iterator[int]) -> Iterator[Cell]:
    """Two are there, and a third comes: it matters at whom the kernel looks first."""
    for protocol, (one, two), first, second, third, users in itertools.product(
        Protocol,
        ((ONE4, ONE4), (ONE4, TWO4), (ANY4, ONE6), (ONE6, ONE4)),
        (RA, RP, BOTH),
        (RA, RP, BOTH),
        (RA, RP, BOTH),
        ((ALICE, ALICE), (ALICE, BOB), (BOB, ALICE)),
    ):
        port = next(ports)
        calls = [
            *bound(users[0], THEIRS, protocol, one, first, port),
            *bound(users[1], MINE, protocol, two, second, port),
            *bound(ALICE, THIRD, protocol, ANY6, third, port),
        ]
        yield Cell(f"{protocol}: {one} {first}, {two} {second}, then :: {third}", tuple(calls))
