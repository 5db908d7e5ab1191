"""Charts of what a step has measured: bars, strips of wake-ups, a load's timeline."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from labs.engine.model import OUTCOMES, Meaning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from labs.engine.model import Quantity, Timeline

SURE = 0.999  # how much of what chance gives lies within the band
FAR = 12  # standard deviations from the mean, from where on chances are summed up
MOST_CHANCES = 1_000_000  # in one quantity; beyond it the sums are no longer exact


@dataclass(frozen=True)
class Bars:
    """How many each part has; `band` is where SURE of what chance gives lies, None for no chance.

    `losses` are those that count what was lost, by their names.
    """

    what: str
    bars: tuple[tuple[str, float], ...]
    losses: frozenset[str]
    band: tuple[float, float] | None


@dataclass(frozen=True)
class Strips:
    """How often each process woke, a mark for each time."""

    what: str
    strips: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Moment:
    """When a process began to serve, or ended to: microseconds since the run began.

    `port` is that of the socket that it began to serve, None where it is not known.
    """

    process: str
    at: int
    begins: bool
    port: int | None = None


@dataclass(frozen=True)
class Life:
    """A process that served while a load lasted: from one moment to another.

    Both in microseconds since the load began; None where it began before or went on after it.
    """

    name: str
    user: int
    begun: int | None
    ended: int | None


@dataclass(frozen=True)
class Course:
    """A load's timeline, and who served while it lasted."""

    what: str
    timeline: Timeline
    lives: tuple[Life, ...]

    @property
    def length(self) -> int:
        """All of it, in microseconds."""
        return self.timeline.length

    def counts(self, outcome: str) -> list[int]:
        """How many requests came to this outcome, slot by slot."""
        index = OUTCOMES.index(outcome)
        return [slot[index] for slot in self.timeline.slots]


Chart: TypeAlias = Bars | Strips | Course


def make_chart(quantity: Quantity, lives: Sequence[Life]) -> Chart | None:
    """The chart of a quantity; None for one without parts, or whose parts have no common unit."""
    parts = tuple(quantity.parts.items())
    what = str(quantity)
    match quantity.meaning:
        case Meaning.REQUESTS if quantity.timeline and quantity.timeline.length > 0:
            return Course(what, quantity.timeline, tuple(lives))
        case Meaning.REQUESTS if parts:
            return Bars(what, parts, frozenset(OUTCOMES[1:]), None)
        case Meaning.CHANCE if len(parts) > 1:
            total = round(sum(quantity.parts.values()))
            is_known = 0 < total <= MOST_CHANCES
            return Bars(
                what, parts, frozenset(), chance_band(total, len(parts)) if is_known else None
            )
        case Meaning.SHARES if parts:
            return Bars(what, parts, frozenset(), None)
        case Meaning.WAKE_UPS if parts:
            return Strips(what, parts)
    return None


def find_lives(
    moments: Iterable[Moment], timeline: Timeline, user_of: Callable[[str], int]
) -> list[Life]:
    """Who served while a load lasted, by when each began and ended, in the order of beginning.

    `user_of` is the number of a process's user.
    """
    end = timeline.begun + timeline.length
    lives: list[Life] = []
    serving: dict[str, int] = {}  # which of them goes on, by the process's name
    for moment in moments:
        if moment.at > end:
            break
        offset = moment.at - timeline.begun
        if not moment.begins and moment.process in serving:
            index = serving.pop(moment.process)
            lives[index] = replace(lives[index], ended=offset)
        elif moment.begins and moment.process not in serving:
            serving[moment.process] = len(lives)
            begun = offset if offset > 0 else None
            lives.append(Life(moment.process, user_of(moment.process), begun, None))
    return [life for life in lives if life.ended is None or life.ended > 0]


def chance_band(total: int, members: int) -> tuple[float, float]:
    """What one of `members` gets of `total`, each as likely for all: the middle SURE of it.

    The bounds are the quantiles of the binomial distribution, for each of the members by itself.
    """
    chance = 1 / members
    mean, spread = total * chance, math.sqrt(total * chance * (1 - chance))
    tail, below, low = (1 - SURE) / 2, 0.0, 0
    for count in range(max(0, math.floor(mean - FAR * spread)), total + 1):
        log = (
            math.lgamma(total + 1)
            - math.lgamma(count + 1)
            - math.lgamma(total - count + 1)
            + count * math.log(chance)
            + (total - count) * math.log1p(-chance)
        )
        below += math.exp(log)
        if below < tail:
            low = count + 1
        if below >= 1 - tail:
            return low, count
    return low, total
