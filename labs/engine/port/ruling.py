"""What the rules say to a bind(), in all worlds that what was seen may be."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from labs.engine.errors import ExitStatus
from labs.engine.port.worlds import Asker, find_memories, make_members
from labs.engine.rules.rulebook import read_version, rules_of
from labs.engine.rules.rules import GROUP_FOUND, OTHER_ADDRESS
from labs.engine.rules.sockets import TIME_WAIT, UDP

if TYPE_CHECKING:
    from collections.abc import Sequence

    from labs.engine.port.question import Question
    from labs.engine.port.sight import Sight
    from labs.engine.port.worlds import Member, Reply


class Verdict(StrEnum):
    """Whether the bind() would be accepted."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    UNDECIDED = "undecided"

    @property
    def status(self) -> ExitStatus:
        """What a shell is told."""
        return STATUSES[self]


STATUSES = {
    Verdict.ACCEPTED: ExitStatus.PASSED,
    Verdict.REFUSED: ExitStatus.DIFFERS,
    Verdict.UNDECIDED: ExitStatus.CANNOT_RUN,
}


class Doubt(StrEnum):
    """What an answer depends on that was not seen."""

    OPTIONS = "options"
    REST = "options of what has ended"
    OWNER = "owner"
    MEMORY = "memory of the port"
    ORDER = "order of the sockets"
    BOUND = "sockets that are only bound"


@dataclass(frozen=True)
class Standing:
    """Sockets that are there, and how the one that asks stands to them.

    `replies` are the answers in all that they may be, each once; `is_in_the_way` is None where it
    depends.
    """

    member: Member
    replies: tuple[Reply, ...]

    @property
    def is_in_the_way(self) -> bool | None:
        """Whether they keep the other one out."""
        refused = {bool(reply.errno) for reply in self.replies}
        return refused.pop() if len(refused) == 1 else None


@dataclass(frozen=True)
class Ruling:
    """The answer, or each answer that is possible, and on what it depends."""

    question: Question
    replies: tuple[Reply, ...]
    standings: tuple[Standing, ...] = ()
    doubts: tuple[Doubt, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """What it comes to."""
        if self.doubts:
            return Verdict.UNDECIDED
        return Verdict.REFUSED if self.replies[0].errno else Verdict.ACCEPTED

    @property
    def in_the_way(self) -> tuple[Standing, ...]:
        """Those who keep the socket out, for certain or perhaps."""
        return tuple(one for one in self.standings if one.is_in_the_way is not False)


def judge(question: Question, sight: Sight) -> Ruling:
    """What the rules of the kernel that was seen say to a bind(), and a listen() after it."""
    asker = Asker(question, sight, rules_of(read_version(sight.release)))
    alone = asker.ask()
    members = make_members(sight, question)
    if alone.errno:
        return Ruling(question, (alone,))
    standings = tuple(
        Standing(member, tuple(dict.fromkeys(asker.ask([one]) for one in member.variants)))
        for member in members
    )
    refusing = [one for one in standings if one.is_in_the_way is not False]
    if not refusing:
        doubts: tuple[Doubt, ...] = () if sight.sees_bound else (Doubt.BOUND,)
        return Ruling(question, (best_of(standings, alone),), standings, doubts)
    refusal = next(reply for one in refusing for reply in one.replies if reply.errno)
    found = find_doubts(asker, refusing, standings)
    if not found:
        return Ruling(question, (refusal,), standings)
    doubts, admissions = found
    accepted = admissions or (best_of(standings, alone),)
    return Ruling(question, (*dict.fromkeys((refusal, *accepted)),), standings, doubts)


def find_doubts(
    asker: Asker, refusing: Sequence[Standing], standings: Sequence[Standing]
) -> tuple[tuple[Doubt, ...], tuple[Reply, ...]] | None:
    """On what it depends that a socket is let in though some may refuse it; None if on nothing.

    With it come the answers that let it in, where they are known by themselves. What the port
    remembers is asked last: where something else is open, it may come of that.
    """
    doubts: list[Doubt] = []
    admissions: list[Reply] = []
    if all(one.is_in_the_way is None for one in refusing):
        doubts += [doubt for one in refusing for doubt in doubts_of(one)]
    if asker.question.protocol is UDP:
        final = [reply for one in standings for reply in one.replies if reply.rule == GROUP_FOUND]
        if final:
            doubts.append(Doubt.ORDER)
            admissions += final
    members = [one.member for one in standings]
    sockets = [member.variants[0] for member in members]
    for bucket in [] if doubts else find_memories(asker, members):
        reply = asker.ask(sockets, bucket)
        if not reply.errno:
            doubts.append(Doubt.MEMORY)
            admissions.append(reply)
    return ((*dict.fromkeys(doubts),), tuple(admissions)) if doubts else None


def doubts_of(standing: Standing) -> list[Doubt]:
    """What of these sockets is not known that matters."""
    variants = standing.member.variants
    doubts = []
    if len({(one.reuseaddr, one.reuseport, one.v6only) for one in variants}) > 1:
        is_rest = standing.member.first.row.inode == 0
        doubts.append(Doubt.REST if is_rest or variants[0].state is TIME_WAIT else Doubt.OPTIONS)
    if len({one.owner for one in variants}) > 1:
        doubts.append(Doubt.OWNER)
    return doubts


def best_of(standings: Sequence[Standing], alone: Reply) -> Reply:
    """The answer that says most of why a socket is let in: not merely that others are elsewhere."""
    found = [reply for one in standings for reply in one.replies if not reply.errno]
    telling = [reply for reply in found if reply.rule != OTHER_ADDRESS]
    return next(iter(telling or found), alone)
