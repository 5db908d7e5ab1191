"""Cells of calls beside bind(), of what they leave, and of what sequences showed first."""

from __future__ import annotations

import itertools
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
from labs.engine.verification.cell import ALICE, BOB, KEEPER, Cell
from labs.engine.verification.makers import (
    ANY4,
    ANY6,
    ANY6_ONLY,
    CHILD,
    CLIENT,
    HELPERS,
    MAPPED,
    MAPPED_ANY,
    MINE,
    ONE4,
    ONE6,
    PLAIN,
    RA,
    RP,
    THEIRS,
    THIRD,
    Options,
    Spot,
    bound,
    make_accepted,
    make_listening,
    make_queued,
    opened,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from labs.engine.rules.calls import Call


def list_entries(ports: Iterator[int]) -> Iterator[Cell]:
    """All of IPv4, asked for in its two ways, one after the other; then a mapped address."""
    for (one, two), is_left, third in itertools.product(
        itertools.product((ANY4, MAPPED_ANY), repeat=2), (False, True), (MAPPED, ONE4)
    ):
        port = next(ports)
        calls = [
            *bound(ALICE, THEIRS, Protocol.TCP, one, RA, port),
            *bound(ALICE, MINE, Protocol.TCP, two, RA, port),
            *([Close(ALICE, THEIRS)] if is_left else []),
            *bound(ALICE, THIRD, Protocol.TCP, third, PLAIN, port),
        ]
        about = f"TCP: {one} RA, {'gone once ' if is_left else ''}{two} RA is there, then {third}"
        yield Cell(about, tuple(calls))


def list_beside(ports: Iterator[int]) -> Iterator[Cell]:
    """Calls beside bind() that are refused for what a socket is, and what they leave."""
    port = next(ports)
    only = Spot("::1", device="eth0")
    calls: list[Call] = [
        *bound(ALICE, THEIRS, Protocol.TCP, only, PLAIN, port),
        SetOption(ALICE, THEIRS, Option.DEVICE, "lo"),
        SetOption(ALICE, THEIRS, Option.DEVICE, ""),
        Chown(ALICE, THEIRS, ALICE.uid),
        Chown(ALICE, THEIRS, BOB.uid),
        *opened(KEEPER, MINE, Protocol.TCP, ANY6_ONLY, PLAIN),
        Accept(KEEPER, MINE, CHILD),
        Connect(KEEPER, MINE, MAPPED.address, port, CHILD),
        Bind(KEEPER, MINE, ANY6.address, 0),
        Connect(KEEPER, MINE, ONE6.address, port, CHILD),
        Bind(KEEPER, MINE, ANY6.address, port),
        *opened(KEEPER, THIRD, Protocol.UDP, ANY6_ONLY, PLAIN),
        Accept(KEEPER, THIRD, CHILD),
        Connect(KEEPER, THIRD, MAPPED.address, port, CHILD),
        SetOption(KEEPER, THIRD, Option.V6ONLY),
    ]
    yield Cell("a device, an owner, and connect() from where it cannot be", tuple(calls))
    for is_bound in (False, True):
        port = next(ports)
        client: list[Call] = [Bind(BOB, CLIENT, ONE4.address, port + HELPERS if is_bound else 0)]
        calls = [
            *make_listening(Protocol.TCP, ONE4, PLAIN, port),
            Connect(ALICE, THEIRS, ONE4.address, port, CHILD),
            Open(BOB, CLIENT, Protocol.TCP, Family.IPV4),
            *client,
            Connect(BOB, CLIENT, ONE4.address, port, CHILD),
            Connect(BOB, CLIENT, ONE4.address, port, CHILD),
            Close(ALICE, THEIRS),
            Acknowledge(BOB, CLIENT),
            Bind(BOB, CLIENT, ONE4.address, port),
            Listen(BOB, CLIENT),
            Connect(BOB, CLIENT, ONE4.address, port, CHILD),
            *bound(ALICE, MINE, Protocol.TCP, ONE4, PLAIN, port),
        ]
        yield Cell("TCP: a listener goes, and with it who waits in its queue", tuple(calls))
    port = next(ports)
    calls = [
        *make_queued(Protocol.TCP, ONE4, PLAIN, port),
        Close(ALICE, CLIENT),
        Acknowledge(ALICE, THEIRS),
        Close(ALICE, THEIRS),
        *bound(ALICE, MINE, Protocol.TCP, ONE4, PLAIN, port),
    ]
    yield Cell("TCP: a client has gone, and then the listener goes", tuple(calls))


def list_grouped(ports: Iterator[int]) -> Iterator[Cell]:
    """Who may have a program: one that has a group, or can get one."""
    program = SetOption(ALICE, MINE, Option.PROGRAM)
    for protocol, is_before, spot in itertools.product(Protocol, (False, True), (ONE4, ANY4)):
        port = next(ports)
        switch = SetOption(ALICE, MINE, Option.REUSEPORT, not is_before)
        reach: Call = Listen(ALICE, MINE)
        if protocol is Protocol.UDP:
            reach = Connect(ALICE, MINE, ONE4.address, port)
        calls: list[Call] = [
            *bound(ALICE, MINE, protocol, spot, Options(False, is_before), port),
            *(program, reach, program, switch, program),
        ]
        about = f"{protocol}: {spot} {'RP' if is_before else 'plain'}, then not, and a program"
        yield Cell(about, tuple(calls))
    for spot, device in itertools.product((ONE4, ANY4), (False, True)):
        port = next(ports)
        move: Call = (
            SetOption(ALICE, MINE, Option.DEVICE, "lo")
            if device
            else Connect(ALICE, MINE, ONE4.address, port)
        )
        calls = [*bound(ALICE, MINE, Protocol.UDP, spot, RP, port), program, move, program]
        yield Cell(f"UDP: {spot} RP, found elsewhere, and a program", tuple(calls))
    port = next(ports)
    calls = [
        *make_accepted(Protocol.TCP, ONE4, RP, port),
        SetOption(ALICE, CHILD, Option.PROGRAM),
        *opened(ALICE, MINE, Protocol.TCP, ONE4, RP),
        program,
        SetOption(ALICE, MINE, Option.REUSEPORT, False),
        program,
    ]
    yield Cell("TCP: a connection, and one that had a group, with a program", tuple(calls))
