"""The table: all pairs of sockets that differ in what a rule may ask for, as cells."""

from __future__ import annotations

import functools
import itertools
from typing import TYPE_CHECKING

from labs.engine.rules.calls import (
    Accept,
    Bind,
    Chown,
    Connect,
    Listen,
    Open,
    Option,
    SetOption,
)
from labs.engine.rules.sockets import Family, Protocol
from labs.engine.verification.beside import list_beside, list_entries, list_grouped
from labs.engine.verification.cell import ALICE, BOB, ELSEWHERE, KEEPER, ROOT, Cell
from labs.engine.verification.kept import SHIPPED, read_kept
from labs.engine.verification.makers import (
    ACCEPTED,
    ALL_OPTIONS,
    ANSWERING,
    ANY4,
    ANY6,
    ANY6_ONLY,
    AS_CLIENT,
    BOTH,
    BOUND_TCP,
    BOUND_UDP,
    CHILD,
    CLIENT,
    CONNECTABLE,
    CONNECTED_UDP,
    ENDED,
    HALF,
    HELPERS,
    LISTENING,
    MAPPED,
    MINE,
    ONE4,
    ONE6,
    PLAIN,
    QUEUED,
    RA,
    RELATIONS,
    RP,
    SPOTS,
    THEIRS,
    THIRD,
    TWO4,
    USERS,
    Maker,
    Options,
    Spot,
    bound,
    make_bound,
    make_listening,
    make_queued,
    opened,
)
from labs.engine.verification.witness import LOW_PORT, OTHER_PORT, PORT, move

if TYPE_CHECKING:
    from collections.abc import Iterator

    from labs.engine.rules.calls import Call, User

FIRST_PORT = 2_000  # the next ones follow, up to where ports for connect() begin
LAST_PORT = 32_767
FIRST_LOW_PORT = 100
LAST_LOW_PORT = 1_023


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
    yield from list_entries(ports)
    yield from list_beside(ports)
    yield from list_grouped(ports)
    yield from list_kept(ports)


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


def list_kept(ports: Iterator[int]) -> Iterator[Cell]:
    """Sequences in which a kernel once differed, and that come with bindlab."""
    for number, cell in enumerate(read_kept(str(SHIPPED))):
        moved = {PORT: next(ports), OTHER_PORT: next(ports), LOW_PORT: LAST_LOW_PORT - number}
        yield Cell(cell.about, tuple(move(call, moved) for call in cell.calls))


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
