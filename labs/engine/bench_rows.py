"""A benchmark's rows: what is compared, and how it is shown."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

HEADINGS = ("name", "ours", "other", "ratio", "limit", "within")
WIDTHS = (50, 10, 10, 7, 9, 6)


@dataclass(frozen=True)
class Comparison:
    """How our side did against the other: medians, in the unit that the table shows.

    `ratio` is our time divided by the other's; `within` is None where nothing is required.
    """

    name: str
    ours: str
    other: str
    ratio: float
    limit: str
    within: bool | None


@dataclass(frozen=True)
class NotMeasured:
    """A comparison that cannot be made here, and why."""

    name: str
    reason: str


def write_line(cells: Sequence[str]) -> None:
    """Print cells in columns, so that each row can be read as soon as it is measured."""
    padded = (cell.ljust(width) for cell, width in zip(cells, WIDTHS, strict=False))
    sys.stdout.write("  ".join(padded).rstrip() + "\n")
    sys.stdout.flush()


def take_turns(
    rounds: int, ours: Callable[[], float], other: Callable[[], float]
) -> tuple[float, float]:
    """Measure both sides by turns; their medians in seconds."""
    pairs = [(ours(), other()) for _ in range(rounds)]
    return median(pair[0] for pair in pairs), median(pair[1] for pair in pairs)


def compare_times(name: str, ours: float, other: float, limit: float) -> Comparison:
    """A comparison of two durations in seconds."""
    ratio = ours / other
    return Comparison(
        name, show_seconds(ours), show_seconds(other), ratio, f"{limit:g}", ratio <= limit
    )


def show_seconds(seconds: float) -> str:
    """A duration in the unit that suits it."""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"
