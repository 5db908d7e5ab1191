"""What is missing for a rule to let two sockets share: the fewest changes that would make it so."""

from __future__ import annotations

from enum import StrEnum
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

from labs.engine.rules.sockets import CLOSE, IPV6, LISTEN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeAlias

    from labs.engine.rules.rule import Share
    from labs.engine.rules.sockets import Socket

    Change: TypeAlias = Callable[[Socket, Socket], tuple[Socket, Socket]]


class Lack(StrEnum):
    """What could be otherwise with one who asks for a port (`my`), or with one who has it."""

    SAME_OWNER = "same-owner"
    MY_V6ONLY = "my-v6only"
    THEIR_V6ONLY = "their-v6only"
    MY_REUSEADDR = "my-reuseaddr"
    THEIR_REUSEADDR = "their-reuseaddr"
    MY_REUSEPORT = "my-reuseport"
    THEIR_REUSEPORT = "their-reuseport"
    NOT_LISTENING = "not-listening"
    NO_PROGRAM = "no-program"


class Lacking(NamedTuple):
    """A rule that does not let two sockets share, and what would have to be otherwise for it."""

    share: Share
    lacks: tuple[Lack, ...]


def with_v6only(socket: Socket) -> Socket:
    """The socket for IPv6 alone, where it can be: an IPv4 one has no such option."""
    return socket._replace(v6only=socket.v6only or socket.family is IPV6)


# In the order in which they are named, and of equally few the first ones are found.
CHANGES: dict[Lack, Change] = {
    Lack.MY_REUSEPORT: lambda mine, theirs: (mine._replace(reuseport=True), theirs),
    Lack.THEIR_REUSEPORT: lambda mine, theirs: (mine, theirs._replace(reuseport=True)),
    Lack.SAME_OWNER: lambda mine, theirs: (mine, theirs._replace(owner=mine.owner)),
    Lack.MY_REUSEADDR: lambda mine, theirs: (mine._replace(reuseaddr=True), theirs),
    Lack.THEIR_REUSEADDR: lambda mine, theirs: (mine, theirs._replace(reuseaddr=True)),
    Lack.NOT_LISTENING: lambda mine, theirs: (
        mine,
        theirs._replace(state=CLOSE if theirs.state is LISTEN else theirs.state),
    ),
    Lack.MY_V6ONLY: lambda mine, theirs: (with_v6only(mine), theirs),
    Lack.THEIR_V6ONLY: lambda mine, theirs: (mine, with_v6only(theirs)),
    Lack.NO_PROGRAM: lambda mine, theirs: (mine._replace(prepared=False), theirs),
}
MOST = 3  # changes at once: no rule asks for more


def find_lacks(share: Share, mine: Socket, theirs: Socket) -> tuple[Lack, ...] | None:
    """The fewest changes with which a rule lets them share: () as they are, None with none."""
    useful = [lack for lack, change in CHANGES.items() if change(mine, theirs) != (mine, theirs)]
    for count in range(MOST + 1):
        for lacks in combinations(useful, count):
            changed = mine, theirs
            for lack in lacks:
                changed = CHANGES[lack](*changed)
            if share.admits(*changed):
                return lacks
    return None


def find_nearest(shares: Iterable[Share], mine: Socket, theirs: Socket) -> Lacking | None:
    """Which rule would let them share with the fewest changes, the first of several such ones."""
    found = [
        Lacking(share, lacks)
        for share in shares
        if (lacks := find_lacks(share, mine, theirs)) is not None
    ]
    return min(found, key=lambda lacking: len(lacking.lacks), default=None)
