"""From what was seen of a port to the worlds of the rules' model that it may be.

What was not seen has more than one value, and each is a world of its own. Sockets that are alike in
all that the rules ask are one.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labs.engine.rules.bucket import EMPTY, Bucket, belongs, meet, remember
from labs.engine.rules.calls import Bind, Listen, Open, Option, SetOption, User
from labs.engine.rules.model import carry_out
from labs.engine.rules.sockets import (
    IPV4,
    LISTEN,
    NOBODY,
    REQUESTED,
    TCP,
    TIME_WAIT,
    Socket,
    State,
    parse_address,
    read_state,
)
from labs.engine.rules.world import World, place_of, take

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from labs.engine.port.question import Question
    from labs.engine.port.sight import Row, Sight, Taken
    from labs.engine.rules.calls import Call
    from labs.engine.rules.rule import Rule, Share
    from labs.engine.rules.rulebook import Rulebook

HERE = "here"  # the network namespace
MINE = "mine"
STRANGER = -2  # an owner that is not known, and is not the one who asks


@dataclass(frozen=True)
class Member:
    """Sockets on the port that no rule tells apart, and what they may be as the model has them."""

    taken: tuple[Taken, ...]
    variants: tuple[Socket, ...]

    @property
    def first(self) -> Taken:
        """One of them."""
        return self.taken[0]


@dataclass(frozen=True)
class Reply:
    """What the kernel answers, at which call: an errno's name, empty for success; by which rule."""

    call: str
    errno: str
    rule: Rule


def make_members(sight: Sight, question: Question) -> tuple[Member, ...]:
    """The sockets on the port, alike ones as one; listeners first, then as they were seen."""
    seen: dict[object, list[Taken]] = {}
    for taken in sight.taken:
        if taken.row.state not in REQUESTED:
            seen.setdefault(traits_of(taken), []).append(taken)
    groups: dict[tuple[Socket, ...], list[Taken]] = {}
    for some in seen.values():
        groups.setdefault(tuple(variants_of(some[0], question)), []).extend(some)
    ordered = sorted(groups, key=lambda variants: variants[0].state is not LISTEN)
    named = [
        Member(
            tuple(groups[variants]),
            tuple(variant._replace(name=f"there-{number}") for variant in variants),
        )
        for number, variants in enumerate(ordered)
    ]
    return tuple(narrow(member, named) for member in named)


def traits_of(taken: Taken) -> object:
    """All that `variants_of` asks of a socket: thousands of connections have but a few of these."""
    row = taken.row
    return (
        *(row.protocol, row.family, row.local, row.state, row.owner, bool(row.inode)),
        *(row.v6only, row.device, taken.options),
    )


def variants_of(taken: Taken, question: Question) -> Iterator[Socket]:
    """All that a socket may be as the model has it."""
    row, options = taken.row, taken.options
    both = (False, True)
    address = parse_address(row.local[0])
    v6only = options.v6only if options and options.v6only is not None else row.v6only
    if row.family is IPV4:
        v6only = False
    for owner, reuseaddr, reuseport, only in itertools.product(
        owners_of(row, question),
        (options.reuseaddr,) if options else both,
        (options.reuseport,) if options else both,
        both if v6only is None else (v6only,),
    ):
        yield Socket(
            "",
            row.protocol,
            row.family,
            owner,
            HERE,
            address,
            row.local[1],
            only,
            row.device,
            reuseaddr,
            reuseport,
            read_state(row.state, has_process=bool(row.inode)),
        )


def owners_of(row: Row, question: Question) -> tuple[int, ...]:
    """Whose a socket may be."""
    if row.owner is not None:
        return (row.owner,)
    # What no process has belongs to nobody; else its owner may be any who has no number here.
    return (STRANGER, question.uid) if row.inode else (NOBODY,)


def narrow(member: Member, all_members: Sequence[Member]) -> Member:
    """What may have the options of a listener that is there leaves out what cannot be.

    The rest of a connection came of the listener and has its options, or was there before it: then
    the listener was let in beside it.
    """
    if len(member.variants) == 1 or member.variants[0].state not in (TIME_WAIT, State.FIN_WAIT1):
        return member
    kept = member.variants
    for other in all_members:
        listener = other.variants[0]
        if listener.state is LISTEN and len(other.variants) == 1 and meet(listener, kept[0]):
            fitting = tuple(one for one in kept if came_of(one, listener))
            kept = fitting or kept
    return Member(member.taken, kept)


def came_of(rest: Socket, listener: Socket) -> bool:
    """Whether the rest of a connection may be there beside a listener."""
    if (rest.reuseaddr, rest.reuseport) == (listener.reuseaddr, listener.reuseport):
        return True
    either = (rest.reuseaddr and listener.reuseaddr, rest.reuseport and listener.reuseport)
    return any(either)


# --- worlds -------------------------------------------------------------------------------


class Asker:
    """Asks the model what a question's calls are answered, beside these sockets or those."""

    def __init__(self, question: Question, sight: Sight, rulebook: Rulebook) -> None:
        self.question = question
        self.rulebook = rulebook
        self._world = World(rulebook, {HERE: sight.place.host})
        user = User(MINE, question.uid, HERE, question.capabilities)
        self._bind = Bind(user, MINE, question.address, question.port)
        self._calls: list[Call] = [*self._make_calls(user)]

    def _make_calls(self, user: User) -> Iterator[Call]:
        question = self.question
        yield Open(user, MINE, question.protocol, question.family)
        if question.v6only:
            yield SetOption(user, MINE, Option.V6ONLY)
        if question.device:
            yield SetOption(user, MINE, Option.DEVICE, question.device)
        yield SetOption(user, MINE, Option.REUSEADDR, question.reuseaddr)
        yield SetOption(user, MINE, Option.REUSEPORT, question.reuseport)
        yield self._bind
        if question.protocol is TCP:
            yield Listen(user, MINE)

    def ask(self, others: Sequence[Socket] = (), bucket: Bucket = EMPTY) -> Reply:
        """What is answered beside these sockets, to the first call that is refused or to bind()."""
        sockets = {other.name: other for other in others}
        world = self._world
        if others:
            members = tuple(sockets)
            there = {place_of(others[0]): bucket._replace(members=members)}
            world = World(self.rulebook, world.hosts, sockets, there)
        reply = None
        for call in self._calls:
            answer, world = carry_out(world, call)
            if answer.errno or isinstance(call, Bind):
                reply = Reply(name_call(call), answer.errno, answer.rule)
            if answer.errno:
                break
        assert reply is not None
        return reply

    def mine(self) -> Socket:
        """The socket that asks, as it is once it is bound."""
        question = self.question
        plain = Socket(
            MINE,
            question.protocol,
            question.family,
            question.uid,
            HERE,
            v6only=question.v6only,
            device=question.device,
            reuseaddr=question.reuseaddr,
            reuseport=question.reuseport,
        )
        return take(plain, parse_address(question.address), question.port)


def name_call(call: Call) -> str:
    """A call's name."""
    names = {Bind: "bind", Listen: "listen", SetOption: "setsockopt"}
    return names.get(type(call), "socket")


def find_memories(asker: Asker, members: Sequence[Member]) -> Iterator[Bucket]:
    """What the port may remember of SO_REUSEPORT that would let the socket in, as buckets.

    That of a socket that is there, or of one that was; on condition that no socket has changed its
    options, or its owner, since it was bound.
    """
    mine = asker.mine()
    if mine.protocol is not TCP or not mine.reuseport:
        return
    present = [variant for member in members for variant in member.variants if variant.reuseport]
    for one in [*present, *departed(mine, members, asker)]:
        is_alone = asker.rulebook.knows_first and all(
            any(variant.reuseport and variant.owner == one.owner for variant in member.variants)
            for member in members
        )
        for group in {remember(one, is_alone=False), remember(one, is_alone=is_alone)}:
            bucket = Bucket(group=group)
            if belongs(group, mine):
                yield bucket


def departed(mine: Socket, members: Sequence[Member], asker: Asker) -> Iterator[Socket]:
    """A socket like this one that may have been there: where it can be beside all others."""
    shares = asker.rulebook.tcp_shares
    devices = {mine.device, ""} | {socket.device for one in members for socket in one.variants}
    for device in sorted(devices):
        twin = mine._replace(device=device, reuseaddr=True, reuseport=True)
        if all(any(fits(twin, one, shares) for one in member.variants) for member in members):
            yield twin
            return


def fits(twin: Socket, other: Socket, shares: Sequence[Share]) -> bool:
    """Whether a socket can have come before or after another one."""
    group = remember(twin, is_alone=False)
    return belongs(group, other) or any(share.admits(twin, other) for share in shares)
