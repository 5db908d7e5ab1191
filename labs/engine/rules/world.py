"""All sockets that there are, and what a kernel answers to one that asks for a port."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from labs.engine.rules.bucket import EMPTY, Bucket, join, leave, meet
from labs.engine.rules.rule import Request, Rule
from labs.engine.rules.rules import FREE, PLAIN, SOME_PORT_FREE, TAKEN
from labs.engine.rules.sockets import (
    IPV4,
    LISTEN,
    NO_PORT,
    SOME_PORT,
    TCP,
    Address,
    Socket,
    parse_address,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from labs.engine.rules.calls import Bind, Connect
    from labs.engine.rules.host import Host
    from labs.engine.rules.rulebook import Rulebook

    Place: TypeAlias = tuple[str, bool, int]
    """A namespace, whether it is of TCP, and a port: what one bucket is for."""


class Answer(NamedTuple):
    """What a kernel answers: an errno's name, empty for success; by which rule; due to whom.

    `holder` is the socket that stands in the way, or next to which the rule lets this one be.
    """

    errno: str
    rule: Rule
    holder: Socket | None = None


BEFORE_ADDRESS = Socket._fields.index("address")
AFTER_V6ONLY = Socket._fields.index("v6only") + 1

OK = Answer("", PLAIN)
UNOCCUPIED = Answer("", FREE)


@dataclass(frozen=True)
class World:
    """The sockets of some network namespaces under one kernel's rules, and their ports' buckets."""

    rulebook: Rulebook
    hosts: Mapping[str, Host]
    sockets: Mapping[str, Socket] = field(default_factory=dict)
    buckets: Mapping[Place, Bucket] = field(default_factory=dict)

    def answer_bind(self, call: Bind) -> Answer:
        """What this bind() would be answered now; ValueError for an address that is none."""
        socket = self.sockets[call.socket]
        address = parse_address(call.address)
        rulebook = self.rulebook
        request = Request(call.user, socket, address, call.port, self.hosts[socket.namespace])
        is_ipv4 = socket.family is IPV4
        for check in rulebook.ipv4_checks if is_ipv4 else rulebook.ipv6_checks:
            if check.refuses(request):
                return Answer(check.errno, check)
        if not call.port:
            return Answer("", SOME_PORT_FREE)
        return self.answer_claim(take(socket, address, call.port))

    def answer_claim(self, mine: Socket, *, is_listening: bool = False) -> Answer:
        """What a socket is answered that asks for its port, at bind() or again at listen()."""
        bucket = self.buckets.get(place_of(mine), EMPTY)
        if not bucket.members:
            return UNOCCUPIED
        if mine.protocol is TCP:
            shares = self.rulebook.tcp_shares
            for recall in self.rulebook.recalls:
                if recall.admits(bucket, mine, is_listening):
                    return Answer("", recall)
        else:
            shares = self.rulebook.udp_shares
        last: Answer | None = None
        for name in bucket.members:
            if name == mine.name:
                continue
            theirs = self.sockets[name]
            for share in shares:
                if share.admits(mine, theirs):
                    last = Answer("", share, theirs)
                    break
            else:
                return Answer("EADDRINUSE", TAKEN, theirs)
            if share.is_final:
                break
        return last or UNOCCUPIED

    def find_listener(self, call: Connect) -> Socket | None:
        """Who would take this connection; None where nobody listens there."""
        return next(self.list_listeners(call), None)

    def list_listeners(self, call: Connect) -> Iterator[Socket]:
        """Who might take this connection, which comes over the device `lo`."""
        client = self.sockets[call.socket]
        target = client._replace(address=parse_address(call.address), port=call.port)
        for name in self.buckets.get(place_of(target), EMPTY).members:
            one = self.sockets[name]
            if one.state is LISTEN and one.device in ("", "lo") and meet(target, one):
                yield one

    def with_socket(self, socket: Socket) -> World:
        """The world with a socket that is new, or has changed."""
        sockets = {**self.sockets, socket.name: socket}
        return World(self.rulebook, self.hosts, sockets, self.buckets)

    def with_bucket(self, socket: Socket, bucket: Bucket) -> World:
        """The world with another bucket for a socket's port."""
        buckets = {**self.buckets, place_of(socket): bucket}
        if not bucket.members:
            del buckets[place_of(socket)]
        return World(self.rulebook, self.hosts, self.sockets, buckets)

    def settled(self, socket: Socket, *, is_listening: bool = False) -> World:
        """The world after a socket was given its port, at bind() or again at listen()."""
        world = self.with_socket(socket)
        if socket.port in (NO_PORT, SOME_PORT):
            return world
        bucket = self.buckets.get(place_of(socket), EMPTY)
        joined = join(
            bucket,
            socket,
            is_listening=is_listening,
            knows_first=self.rulebook.knows_first,
        )
        return world.with_bucket(socket, joined)

    def without(self, name: str) -> World:
        """The world without a socket."""
        socket = self.sockets[name]
        sockets = {other: kept for other, kept in self.sockets.items() if other != name}
        world = World(self.rulebook, self.hosts, sockets, self.buckets)
        if socket.port in (NO_PORT, SOME_PORT):
            return world
        return world.with_bucket(socket, leave(self.buckets[place_of(socket)], name))


def place_of(socket: Socket) -> Place:
    """Which bucket a bound socket is in."""
    # An Enum's members take long to hash.
    return (socket.namespace, socket.protocol is TCP, socket.port)


def take(socket: Socket, address: Address, port: int) -> Socket:
    """A socket as it is once it is bound there: one IPv6 address makes it one for IPv6 alone."""
    v6only = socket.v6only or not (address.is_ipv4 or address.number == 0)
    bound = (address, port, v6only)
    # What _replace() does, in half of its time.
    return Socket._make(socket[:BEFORE_ADDRESS] + bound + socket[AFTER_V6ONLY:])
