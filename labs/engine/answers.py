"""What processes at work have counted: requests and what came of them, wake-ups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from labs.engine.errors import LabError
from labs.engine.model import OUTCOMES, SLOT, SLOTS, TIMES, Meaning, Parts, Timeline

if TYPE_CHECKING:
    from labs.engine.model import CallResult, Tally


@dataclass(frozen=True)
class Served:
    """What a serving process did: connections it accepted, wake-ups that found none, sleeps."""

    accepted: int
    empty: int
    switches: int

    @staticmethod
    def of(result: CallResult) -> Served:
        """What a process has counted."""
        counts = tally(result)
        return Served(counts["accepted"], counts["empty"], counts["switches"])


@dataclass(frozen=True)
class Answers:
    """What came of requests; `by` is who answered how many.

    `woken` is how often waiting processes woke for all of it, by pid, where they were looked at. Of
    all the time and of one request's `median` and `ninety_ninth` percentile: microseconds. A load
    has a `timeline`.
    """

    answered: int
    refused: int
    reset: int
    timed_out: int
    by: Mapping[str, int]
    woken: Mapping[str, int]
    elapsed: int
    median: int
    ninety_ninth: int
    timeline: Timeline | None = None

    @property
    def asked(self) -> int:
        """All requests."""
        return self.answered + self.lost

    @property
    def lost(self) -> int:
        """Requests without an answer."""
        return self.refused + self.reset + self.timed_out

    @property
    def parts(self) -> Parts:
        """Each outcome and how often."""
        counts = (self.answered, self.refused, self.reset, self.timed_out)
        return Parts(
            dict(zip(OUTCOMES, counts, strict=True)), Meaning.REQUESTS, timeline=self.timeline
        )

    def joined(self, later: Answers) -> Answers:
        """What came of these requests and of later ones; of their times the longest."""
        return Answers(
            self.answered + later.answered,
            self.refused + later.refused,
            self.reset + later.reset,
            self.timed_out + later.timed_out,
            add(self.by, later.by),
            add(self.woken, later.woken),
            self.elapsed + later.elapsed,
            max(self.median, later.median),
            max(self.ninety_ninth, later.ninety_ninth),
        )

    @staticmethod
    def none() -> Answers:
        """What came of no requests."""
        return Answers(0, 0, 0, 0, {}, {}, 0, 0, 0)

    @staticmethod
    def of(result: CallResult) -> Answers:
        """What a process has counted; LabError where an outcome is missing."""
        counts = tally(result)
        outcomes = [counts[name] for name in OUTCOMES]
        by, woken = with_prefix("by ", counts), with_prefix("woken ", counts)
        if sum(outcomes) != counts["asked"] or sum(by.values()) != counts["answered"]:
            raise LabError(f"Not every request is accounted for: {dict(counts)}.")
        answered, refused, reset, timed_out = outcomes
        elapsed, median, ninety_ninth = (counts[name] for name in TIMES)
        times = elapsed, median, ninety_ninth
        return Answers(answered, refused, reset, timed_out, by, woken, *times)


def of_load(result: CallResult, known: int) -> Answers:
    """What came of a load whose result came so many microseconds after the run began.

    Raises LabError as `Answers.of` does.
    """
    answers = Answers.of(result)
    counts = tally(result)
    width = -(-answers.elapsed // SLOTS)
    slots: list[tuple[int, int, int, int]] = []
    for slot in range(SLOTS):
        answered, refused, reset, timed_out = (
            counts.get(f"{SLOT}{slot} {outcome}", 0) for outcome in OUTCOMES
        )
        slots.append((answered, refused, reset, timed_out))
    if not width or not any(map(any, slots)):
        return answers
    begun = max(0, known - counts.get(f"{SLOT}ago", 0) - answers.elapsed)
    return replace(answers, timeline=Timeline(begun, width, tuple(slots)))


def add(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    """The sums of two counts, by name."""
    return {name: one.get(name, 0) + other.get(name, 0) for name in {**one, **other}}


def chi_square(shares: Mapping[str, float]) -> float:
    """How far shares are from even: the sum of (found - even)² / even."""
    even = sum(shares.values()) / len(shares)
    return round(sum((found - even) ** 2 / even for found in shares.values()), 4) if even else 0.0


def with_prefix(prefix: str, counts: Tally) -> dict[str, int]:
    """Counts whose names begin so, without that."""
    return {
        name.removeprefix(prefix): count
        for name, count in counts.items()
        if name.startswith(prefix)
    }


def tally(result: CallResult) -> Tally:
    """What a call has counted."""
    assert isinstance(result.value, Mapping)
    return result.value
