"""Connections: who made which, as long as they are few, and what they take from their listener."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from labs.engine.rules.bucket import EMPTY, enter, meet
from labs.engine.rules.calls import Accept, User
from labs.engine.rules.model import carry_out
from labs.engine.rules.sockets import (
    LISTEN,
    NO_PORT,
    NOBODY,
    SOME_PORT,
    TCP,
    State,
    parse_address,
)
from labs.engine.rules.world import place_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from labs.engine.following.files import OpenSocket
    from labs.engine.following.state import State as Following
    from labs.engine.model import SocketRow
    from labs.engine.rules.sockets import Address, Socket
    from labs.engine.rules.world import Place, World

LOOPBACK = ("127.0.0.1", "::1")
WILDCARDS = ("0.0.0.0", "::")
MOST = 32  # connections of a port that are told apart


@dataclass(frozen=True)
class Target:
    """Where a connection goes: a namespace, and a TCP port there."""

    place: Place
    address: str


def find_target(state: Following, namespace: str | None, address: tuple[str, int]) -> Target | None:
    """Where a call of this namespace reaches; None where that is nowhere of the run."""
    text, port = address
    if namespace is None:
        return None
    if text.removeprefix("::ffff:") in (*LOOPBACK, *WILDCARDS):
        return Target((namespace, True, port), text)
    for plan in state.plans.values():
        if text.removeprefix("::ffff:") in (plan.ipv4, plan.ipv6):
            return Target((plan.name, True, port), text)
    return None


def connect(state: Following, client: Socket, address: tuple[str, int]) -> None:
    """A TCP client has connected: there is one more connection at the listener's port."""
    target = find_target(state, client.namespace, address)
    state.targets[client.name] = address
    child = ""
    if target is not None:
        port = state.ports[target.place]
        members = state.world.buckets.get(target.place, EMPTY).members
        port.crowded |= len(members) >= MOST
        child = f"{client.name} at {target.place}"
        visit(state, target, child, client.name)
    place = client.port if client.port != NO_PORT else SOME_PORT
    state.change(
        client._replace(
            address=source(state, client, address),
            port=place,
            state=State.CONNECTED,
            peer=child if child in state.world.sockets else "",
        )
    )


def source(state: Following, client: Socket, address: tuple[str, int]) -> Address:
    """The address from which a socket speaks to another."""
    if client.address is not None and client.address.number:
        return client.address
    plan = state.plans.get(client.namespace)
    if plan is None or address[0].removeprefix("::ffff:") in LOOPBACK:
        return parse_address(address[0])
    return parse_address(plan.ipv4 if parse_address(address[0]).is_ipv4 else plan.ipv6)


def visit(state: Following, target: Target, child: str, client: str = "") -> None:
    """Somebody has connected to a port: a connection there, one for all where they are many."""
    port = state.ports[target.place]
    port.visited = True
    bucket = state.world.buckets.get(target.place, EMPTY)
    members = [state.world.sockets[name] for name in bucket.members]
    if port.crowded and any(socket.state is not LISTEN for socket in members):
        return
    address = parse_address(target.address)
    for listener in members:
        there = listener._replace(address=address)
        if listener.state is LISTEN and meet(there, listener):
            break
    else:
        return
    keeps = state.world.rulebook.keeps_owner
    made = listener._replace(
        name=child,
        address=address if address.number else listener.address,
        owner=listener.owner if keeps else NOBODY,
        state=State.CONNECTED,
        peer=client,
        listener=listener.name,
    )
    joined = bucket._replace(members=enter(bucket.members, made))
    state.world = state.world.with_socket(made).with_bucket(made, joined)


def accept(state: Following, user: User, listener: Socket, new: OpenSocket) -> None:
    """A process takes a connection: the one that has waited longest at its listener's port."""
    place = place_of(listener)
    members = state.world.buckets.get(place, EMPTY).members
    waiting = [socket for name in members if (socket := state.world.sockets[name]).listener]
    if not waiting or state.ports[place].crowded:
        return
    # The newest stand first. Of a group any member may have got it, and they are alike.
    oldest = waiting[-1]._replace(listener=listener.name)
    new.name = oldest.name
    taken = Accept(user, listener.name, oldest.name)
    state.world = carry_out(state.world.with_socket(oldest), taken)[1]


def adopt(state: Following, place: Place, rows: Iterable[SocketRow]) -> World:
    """The world with the clients on a port that the kernel has given them."""
    namespace, is_tcp, number = place
    world = state.world
    peers = {row.peer: row for row in rows if row.local[1] == number and row.protocol == "tcp"}
    for name, target in state.targets.items() if is_tcp and peers else ():
        client = world.sockets.get(name)
        if client is None or client.namespace != namespace or client.port != SOME_PORT:
            continue
        if (row := peers.get(target)) and client.protocol is TCP:
            placed = client._replace(port=number, address=parse_address(row.local[0]))
            bucket = world.buckets.get(place, EMPTY)
            joined = bucket._replace(members=enter(bucket.members, placed))
            world = world.with_socket(placed).with_bucket(placed, joined)
            del peers[target]
    return world
