"""What the kernel keeps of a port: who is on it, and what it remembers of those who were."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from labs.engine.rules.sockets import ANY_IPV6, IPV4, IPV6, UDP, Address

if TYPE_CHECKING:
    from labs.engine.rules.sockets import Family, Socket


class Group(NamedTuple):
    """The last SO_REUSEPORT socket that made the bucket remember it.

    `is_alone` as long as none came that differed from it: then its address is not asked.
    """

    owner: int
    family: Family
    address: Address
    v6only: bool
    is_alone: bool


class Bucket(NamedTuple):
    """A port of a protocol in a network namespace, as long as a socket is on it.

    `members` are the names of its sockets in the order in which the kernel walks over them.
    `reuseaddr` is whether all had SO_REUSEADDR and none listened as they came (fastreuse), `group`
    what is remembered of those with SO_REUSEPORT (fastreuseport). Neither is asked again when an
    option changes, or a socket leaves.
    """

    members: tuple[str, ...] = ()
    reuseaddr: bool = False
    group: Group | None = None


EMPTY = Bucket()


def meet(mine: Socket, theirs: Socket) -> bool:
    """Whether the address sets of two bound sockets have an address in common."""
    one, other = mine.address, theirs.address
    assert one is not None and other is not None
    if one.is_ipv4 and other.is_ipv4:
        return one.number == other.number or not one.number or not other.number
    if not other.is_ipv4 and not other.number:
        return not (theirs.v6only and one.is_ipv4)
    if not one.is_ipv4 and not one.number:
        return not (mine.v6only and other.is_ipv4)
    if mine.family is IPV4 and not one.number:
        # A connection over IPv6 whose socket was on all of IPv4 too: 0.0.0.0 still meets it.
        return not theirs.v6only
    return one == other


def covers(group: Group, socket: Socket) -> bool:
    """Whether all addresses of a socket are also the group's, as sk_reuseport_match() sees it."""
    address = socket.address
    assert address is not None
    if group.family is IPV4 or (group.address.is_ipv4 and address.is_ipv4):
        # The IPv4 half of `::` has the number 0, as the kernel keeps it.
        is_there = address.is_ipv4 or address == ANY_IPV6
        return is_there and not socket.v6only and group.address.number in (0, address.number)
    if group.address == ANY_IPV6:
        return not (group.v6only and address.is_ipv4)
    return group.address == address


def join(
    bucket: Bucket, socket: Socket, *, is_listening: bool = False, knows_first: bool = True
) -> Bucket:
    """The bucket after a bind() or a listen() that succeeded (inet_csk_update_fastreuse()).

    A kernel that does not know the first one of a bucket for what it is never remembers that all
    had SO_REUSEADDR, and always asks for addresses.
    """
    reuseaddr = socket.reuseaddr and not is_listening
    is_first = knows_first and not bucket.members
    if not socket.reuseport:
        group = None
    elif is_first:
        group = remember(socket, is_alone=True)
    elif belongs(bucket.group, socket):
        group = bucket.group
    else:
        group = remember(socket, is_alone=False)
    return Bucket(
        bucket.members if socket.name in bucket.members else enter(bucket.members, socket),
        reuseaddr and (is_first or bucket.reuseaddr),
        group,
    )


def belongs(group: Group | None, socket: Socket) -> bool:
    """Whether a socket is let in for what the bucket remembers (sk_reuseport_match())."""
    return (
        group is not None
        and socket.reuseport
        and not socket.prepared
        and group.owner == socket.owner
        and (group.is_alone or covers(group, socket))
    )


def remember(socket: Socket, *, is_alone: bool) -> Group:
    """What a bucket remembers of a socket."""
    assert socket.address is not None
    return Group(socket.owner, socket.family, socket.address, socket.v6only, is_alone)


def enter(members: tuple[str, ...], socket: Socket) -> tuple[str, ...]:
    """The members with one more: the newest first, but IPv6 ones of a UDP group last."""
    if socket.protocol is UDP and socket.family is IPV6 and socket.reuseport:
        return (*members, socket.name)
    return (socket.name, *members)


def leave(bucket: Bucket, name: str) -> Bucket:
    """The bucket without a member; the kernel forgets one that is empty."""
    members = tuple(member for member in bucket.members if member != name)
    return bucket._replace(members=members) if members else EMPTY
