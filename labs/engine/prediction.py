"""What a trainee says of a step before it runs: which answers there are, and which are right.

A prediction has the form of an expectation. It is held against what was observed and never against
what the lab expects; of a quantity the lab's bounds only say how near is near.
"""

from __future__ import annotations

import math
import re
import unicodedata
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

from labs.engine.model import (
    Broken,
    Expectation,
    Failed,
    Measured,
    Ok,
    Outcome,
    Quantity,
    Refused,
    Skipped,
    Succeeded,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Prediction: TypeAlias = Expectation | None
"""What was said; None is "I don't know"."""

FEWEST = 4  # choices
USUAL = (
    Ok(),
    Refused("EADDRINUSE", "bind"),
    Refused("EACCES", "bind"),
    Refused("ECONNREFUSED", "connect"),
)
# In which order they are offered, whatever the lab expects first.
ERRNOS = (
    *("EADDRINUSE", "EACCES", "EPERM", "EADDRNOTAVAIL", "EINVAL", "ENODEV"),
    *("ECONNREFUSED", "ENETUNREACH"),
)
FILLING = {"FROM", "返回"}  # between an errno and its call
WORD = re.compile(r"\w+")
NUMBER = r"(\d+(?:\.\d+)?)"
QUANTITY = re.compile(rf"{NUMBER}(?:\s*(?:-|\u2013|\u2014|~|\.\.|to|到|至)\s*{NUMBER})?")
WIDEST = 2  # times as wide as the lab's bounds a range may be


class Judgement(StrEnum):
    """How a prediction compares with what was observed."""

    RIGHT = "right"
    OTHERWISE = "otherwise"
    TOO_WIDE = "too wide to count"
    UNSAID = "unsaid"
    NOT_SHOWN = "not shown on this kernel"


# --- answers ------------------------------------------------------------------------------


def choices(expectations: Iterable[Expectation]) -> list[Expectation]:
    """The answers that a lab offers, to all of its steps alike so that none gives itself away.

    All that it expects anywhere but quantities, and what is usual where that is little.
    """
    found = {expected for expected in expectations if not isinstance(expected, Measured)}
    for usual in USUAL:
        if len(found) < FEWEST:
            found.add(usual)
    return sorted(found, key=rank)


def rank(choice: Expectation) -> tuple[int, str, str]:
    """Where a choice stands among others."""
    match choice:
        case Refused(errno, call) if errno in ERRNOS:
            return ERRNOS.index(errno), errno, call
        case Refused(errno, call):
            return len(ERRNOS), errno, call
    return -1, "", ""


def find_choices(text: str, offered: Sequence[Expectation]) -> list[Expectation]:
    """The choices that an answer names, by number or by name; `EADDRINUSE` may be several."""
    words = {word.upper() for word in WORD.findall(plain(text))} - FILLING
    if len(words) == 1 and (word := next(iter(words))).isdecimal():
        return [*offered[int(word) - 1 : int(word)]] if int(word) else []
    return [choice for choice in offered if words and words <= names(choice)]


def names(choice: Expectation) -> set[str]:
    """The words by which a choice may be named."""
    match choice:
        case Refused(errno, call):
            return {errno, call.upper()}
    return {"OK"}


def read_quantity(text: str, what: str) -> Measured | None:
    """The number or the range, `5-15` or `5 to 15`, that an answer is; None where it is none."""
    found = QUANTITY.fullmatch(plain(text))
    if found is None:
        return None
    low, high = sorted(float(number) for number in (found[1], found[2] or found[1]))
    if math.isinf(high):
        return None
    return Measured(what, low, high)


def plain(text: str) -> str:
    """A text without the full-width forms that some keyboards give, and without blanks around."""
    return unicodedata.normalize("NFKC", text).strip()


# --- judging ------------------------------------------------------------------------------


def judge(said: Prediction, bounds: Expectation, outcome: Outcome) -> Judgement:
    """Hold a prediction against what was observed.

    `bounds` is what the lab expects: only how wide it is counts, and where it parts quantities.
    """
    match said, outcome:
        case _, Skipped() | Broken():
            return Judgement.NOT_SHOWN
        case None, _:
            return Judgement.UNSAID
        case Measured(), Quantity() if isinstance(bounds, Measured):
            return judge_quantity(said, bounds, outcome.value)
        case Ok(), Succeeded():
            return Judgement.RIGHT
        case Refused(errno, call), Failed() if errno == outcome.errno:
            return Judgement.RIGHT if call in ("", outcome.call) else Judgement.OTHERWISE
    return Judgement.OTHERWISE


def judge_quantity(said: Measured, bounds: Measured, value: float) -> Judgement:
    """A number is right where the lab does not tell it from the value, a range where it holds it.

    But a range that is far wider than the lab's own bounds says too little to be right.
    """
    if said.low == said.high:
        is_right = not are_apart(bounds, said.low, value)
        return Judgement.RIGHT if is_right else Judgement.OTHERWISE
    if not said.low <= value <= said.high:
        return Judgement.OTHERWISE
    is_narrow = said.high - said.low <= WIDEST * (bounds.high - bounds.low)
    return Judgement.RIGHT if is_narrow else Judgement.TOO_WIDE


def are_apart(bounds: Measured, one: float, other: float) -> bool:
    """Whether bounds tell two values from each other.

    They do where the two are farther apart than the bounds are wide, or one is inside and one is
    not: whoever says 0 where some requests are lost is not near, however many may be.
    """
    inside = [bounds.low <= value <= bounds.high for value in (one, other)]
    return abs(one - other) > bounds.high - bounds.low or inside[0] != inside[1]
