"""What a follower knows of a port beside the world's sockets, held against sock_diag."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from labs.engine.rules.bucket import EMPTY, enter
from labs.engine.rules.sockets import (
    CLOSE,
    FIN_WAIT1,
    IPV4,
    IPV6,
    LISTEN,
    NOBODY,
    REQUESTED,
    TCP,
    TIME_WAIT,
    UDP,
    Socket,
    State,
    parse_address,
    read_state,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from labs.engine.model import SocketRow
    from labs.engine.rules.bucket import Bucket
    from labs.engine.rules.world import Place, World

LEFT = (FIN_WAIT1, TIME_WAIT)


@dataclass
class Port:
    """A port of a protocol in a network namespace.

    It is `visited` once somebody may have connected to it: from then on the kernel is asked which
    connections there are. It is `crowded` where they are too many to be told apart, or where nobody
    saw them come, and `mixed` where options of such a one have changed. `origins` are its
    listeners, as they were whenever a connection could have come of them. It is `blurred` where
    there are sockets, or were, of which the follower does not know all that the rules ask for.
    """

    visited: bool = False
    crowded: bool = False
    mixed: bool = False
    blurred: bool = False
    origins: set[Socket] = field(default_factory=set)


def compare(world: World, place: Place, port: Port, rows: Iterable[SocketRow]) -> World:
    """The world with the connections on a port that the kernel has; says so where it is unclear.

    `rows` are all sockets of its network namespace. A port on which nothing is has no past.
    """
    _, is_tcp, number = place
    protocol = "tcp" if is_tcp else "udp"
    here = [row for row in rows if row.protocol == protocol and row.local[1] == number]
    members = [world.sockets[name] for name in world.buckets.get(place, EMPTY).members]
    if not is_tcp:
        port.blurred = len(here) != len(members)
        return world
    listeners = [row for row in here if row.state == "LISTEN"]
    listening = [socket for socket in members if socket.state is LISTEN]
    port.blurred |= Counter(parse_address(row.local[0]) for row in listeners) != Counter(
        socket.address for socket in listening
    )
    connections = [row for row in here if row.peer[1] and row.state not in REQUESTED]
    known = [socket for socket in members if socket.state not in (CLOSE, LISTEN)]
    world = agree(world, place, port, known, connections)
    if place not in world.buckets and not connections and not listeners:
        port.__init__()  # type: ignore[misc]  # nothing is left of what was
    return world


def agree(
    world: World, place: Place, port: Port, known: Sequence[Socket], rows: Sequence[SocketRow]
) -> World:
    """The world with these connections on a port, in place of those that are known there."""
    left = Counter(state for row in rows if (state := state_of(row)) in LEFT)
    were_left = [socket for socket in known if socket.state in LEFT]
    is_same = len(rows) == len(known) and left.total() == len(were_left)
    if is_same and not port.crowded and len(left) <= 1:
        for socket in were_left:
            world = world.with_socket(socket._replace(state=next(iter(left))))
        return world
    origins = {*port.origins, *known}
    options = {(socket.reuseaddr, socket.reuseport) for socket in origins}
    if rows and (len(options) != 1 or port.mixed):
        port.blurred = True
        return world
    memory = world.buckets.get(place, EMPTY)
    for socket in known:
        world = world.without(socket.name)
    return with_connections(world, place, rows, origins, memory)


def state_of(row: SocketRow) -> State:
    """A state as the rules tell states apart."""
    return read_state(row.state, has_process=bool(row.inode))


def with_connections(
    world: World,
    place: Place,
    rows: Iterable[SocketRow],
    origins: Iterable[Socket],
    memory: Bucket,
) -> World:
    """The world with connections of which it is known where they came from; alike ones once.

    The port keeps its `memory`, as it does as long as one of them is there.
    """
    origin = next(iter(origins), None)
    for number, row in enumerate({kind_of(row): row for row in rows}.values()):
        assert origin is not None
        orphans_owner = origin.owner if world.rulebook.keeps_owner else NOBODY
        child = origin._replace(
            name=f"{place} {number}",
            family=IPV6 if ":" in row.local[0] else IPV4,
            protocol=TCP if place[1] else UDP,
            owner=row.uid if row.inode else orphans_owner,
            address=parse_address(row.local[0]),
            state=state_of(row),
            peer="",
            listener="",
        )
        members = world.buckets.get(place, EMPTY).members
        joined = memory._replace(members=enter(members, child))
        world = world.with_socket(child).with_bucket(child, joined)
    return world


def kind_of(row: SocketRow) -> tuple[str, str, int]:
    """What of a connection makes a difference to the rules."""
    return (row.local[0], row.state, row.uid if row.inode else NOBODY)
