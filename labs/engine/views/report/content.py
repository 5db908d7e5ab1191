"""What a report shows, as frozen data: texts ready to be read, in the language of their run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from labs.engine.errors import ExitStatus

if TYPE_CHECKING:
    from collections.abc import Iterable

    from labs.engine.model import Verdict

Part = TypeVar("Part")


@dataclass(frozen=True)
class Capped(Generic[Part]):
    """The first parts of a list, and how many `more` there were."""

    parts: tuple[Part, ...] = ()
    more: int = 0


def capped(parts: Iterable[Part], limit: int) -> Capped[Part]:
    """A list of which no more than the first `limit` are kept."""
    every = tuple(parts)
    return Capped(every[:limit], max(0, len(every) - limit))


@dataclass(frozen=True)
class Mark:
    """What came of something: its name (for the style), a sign and words; all empty for nothing."""

    name: str = ""
    sign: str = ""
    words: str = ""


@dataclass(frozen=True)
class Item:
    """What is said under a table, with lines that say more."""

    title: str
    text: str = ""
    lines: tuple[str, ...] = ()


# What came of a run, by its exit status, or where it has none.
MARKS = {
    ExitStatus.PASSED: Mark("passed", "✔", "as expected"),
    ExitStatus.DIFFERS: Mark("differs", "✘", "otherwise"),
    ExitStatus.UNSOLVED: Mark("differs", "✘", "not solved"),
    ExitStatus.CANNOT_RUN: Mark("skipped", "–", "could not run"),
    ExitStatus.FAILED: Mark("failed", "!", "not carried through"),
}
ENDLESS = Mark("failed", "!", "did not come to its end")
PLANNED = Mark("plan", "·", "a plan")
# Which mark of several is that of all: the first of these.
PRECEDENCE = ("failed", "differs", "skipped", "plan", "passed")


def foremost(marks: Iterable[Mark]) -> Mark:
    """The mark of several together."""
    found = {mark.name: mark for mark in marks}
    return next((found[name] for name in PRECEDENCE if name in found), Mark())


@dataclass(frozen=True)
class CallLine:
    """A call as strace would show it, made `count` times alike; `colour` is its user's, from 0."""

    who: str
    colour: int | None
    call: str
    result: str
    is_refused: bool
    count: int


@dataclass(frozen=True)
class SocketRow:
    """Sockets that are alike, in the columns of the digest; `colour` is their owner's."""

    cells: tuple[str, ...]
    colour: int | None


@dataclass(frozen=True)
class SocketTable:
    """The sockets of a host; `count` is of all, those that are alike being one row."""

    host: str
    rows: Capped[SocketRow]
    count: int


@dataclass(frozen=True)
class ProcessRow:
    """Processes of a host that are alike: their uids, and what they may do.

    `inner` is the effective uid in their own user namespace, empty where that is the run's.
    """

    names: str
    uids: tuple[int, ...]
    inner: str
    capabilities: str

    @property
    def is_mixed(self) -> bool:
        """Whether the uids are not all the same."""
        return len({*self.uids}) > 1


@dataclass(frozen=True)
class RuleContent:
    """By which rule a step was decided, and what that says; whether the kernel agrees."""

    reason: str
    sentence: str
    agrees: bool


@dataclass(frozen=True)
class StepContent:
    """A step; without an outcome `observed` is empty, and the mark says why.

    The picture is SVG, to be put into the page as it is.
    """

    anchor: str
    number: int
    title: str
    mark: Mark
    expected: str
    why: str
    calls: Capped[CallLine] = Capped()
    picture: str = ""
    observed: str = ""
    parts: Capped[tuple[str, str]] = Capped()
    sockets: Capped[SocketTable] = Capped()
    processes: Capped[ProcessRow] = Capped()
    prediction: tuple[str, str] | None = None
    advice: str = ""
    rule: RuleContent | None = None


@dataclass(frozen=True)
class RunContent:
    """A run; `moment` is when it began, in UTC, and `where` on what, in the order of reading.

    The verdicts are those of the steps that have one.
    """

    anchor: str
    lab: str
    title: str
    claim: str
    language: str
    where: tuple[str, ...]
    moment: str
    mark: Mark = Mark()
    verdicts: tuple[Verdict, ...] = ()
    finding: str = ""
    fact: str = ""
    steps: tuple[StepContent, ...] = ()
    counts: str = ""
    score: tuple[str, ...] = ()
    error: str = ""
    hint: tuple[str, ...] = ()
