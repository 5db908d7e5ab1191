"""A drawing: shapes on a grid of terminal cells, from which both renderings are made.

A style is the name of what a shape stands for; each rendering has its own look for it. Rows and
columns count from 0, at the top and at the left.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import TypeAlias

USERS = 6  # that have a sign and a colour of their own; then they begin again
UNKNOWN = "unknown"
SIGNS = ("●", "▲", "■", "◆", "▼", "★")
PLAIN_SIGNS = ("o", "^", "#", "%", "v", "*")
WIDE = "WF"


@dataclass(frozen=True)
class Words:
    """A text in one row."""

    column: int
    row: int
    text: str
    style: str = ""


@dataclass(frozen=True)
class Sign:
    """The sign of a user, by the user's number; less than 0 for one who is not known."""

    column: int
    row: int
    user: int


@dataclass(frozen=True)
class Box:
    """A frame: of a `host`, a `door` (open or shut), a `group`, a `namespace`; with a title."""

    column: int
    row: int
    width: int
    height: int
    style: str
    title: str = ""


@dataclass(frozen=True)
class Gauge:
    """An accept queue of some places, of which so many are taken."""

    column: int
    row: int
    places: int
    taken: int


@dataclass(frozen=True)
class Arrow:
    """A line through points (column, row), with its head at the last one.

    It is `accepted` or `refused`; a `line` has no head.
    """

    points: tuple[tuple[int, int], ...]
    style: str


@dataclass(frozen=True)
class Bar:
    """A bar in one row, of so many columns."""

    column: int
    row: int
    length: float
    style: str


@dataclass(frozen=True)
class Band:
    """What chance allows: from one column to another, over some rows."""

    column: float
    end: float
    row: int
    rows: int


@dataclass(frozen=True)
class Columns:
    """Small columns side by side in one row, each a cell wide and from 0 to 1 high."""

    column: int
    row: int
    heights: tuple[float, ...]
    style: str


@dataclass(frozen=True)
class Span:
    """A stretch of time in one row; open at an end where it goes on beyond."""

    column: float
    end: float
    row: int
    user: int
    begins: bool
    ends: bool


Shape: TypeAlias = Words | Sign | Box | Gauge | Arrow | Bar | Band | Columns | Span


@dataclass(frozen=True)
class Drawing:
    """Shapes on a grid of so many columns and rows, in the order in which they are drawn."""

    columns: int
    rows: int
    shapes: tuple[Shape, ...]


def user_style(user: int) -> str:
    """The style of what belongs to a user, by the user's number."""
    return UNKNOWN if user < 0 else f"user-{user % USERS}"


def cell_width(text: str) -> int:
    """How many cells a text takes: two for each wide character (UAX #11)."""
    if text.isascii():
        return len(text)
    return sum(1 + (unicodedata.east_asian_width(letter) in WIDE) for letter in text)


def shorten(text: str, width: int) -> str:
    """A text of at most so many cells; what is cut off is an ellipsis."""
    if cell_width(text) <= width:
        return text
    while text and cell_width(text) > width - 1:
        text = text[:-1]
    return text + "…" if width > 0 else ""
