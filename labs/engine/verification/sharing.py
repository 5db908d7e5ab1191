"""Measures cells on this machine, and compares them, by several processes.

Each that measures has namespaces of its own. One that asks and those that it asks work in turn, so
that alone they would use one processor.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from typing import TYPE_CHECKING, TypeVar

from labs.engine.backends.namespaces.backend import open_namespaces
from labs.engine.errors import BindlabError
from labs.engine.jobs import MOST_JOBS, work_off
from labs.engine.verification.comparison import find_mismatches
from labs.engine.verification.measuring import cut, measure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from labs.engine.rules.rulebook import Rulebook
    from labs.engine.verification.cell import Cell
    from labs.engine.verification.comparison import Mismatch
    from labs.engine.verification.measuring import Errnos

DEADLINE = 30.0  # seconds that a process may take for all that it is asked at once
SECONDS = 300.0  # for a share of the cells

Batch = TypeVar("Batch")
Result = TypeVar("Result")


def measure_cells(cells: Sequence[Cell]) -> list[Errnos]:
    """What this machine's kernel answers to each call of each cell.

    Raises CannotRun and EngineError.
    """

    def measure_share(batches: Sequence[Sequence[Cell]]) -> list[list[Errnos]]:
        with open_namespaces(DEADLINE) as backend:
            return [*measure(backend, [*itertools.chain(*batches)])]

    return share([*cut(cells)], measure_share)


def compare_cells(
    cells: Sequence[Cell], answered: Sequence[Errnos], rulebook: Rulebook
) -> list[Mismatch]:
    """Each cell in which a kernel answered a call otherwise than its rules have it, in order.

    Raises EngineError.
    """

    def compare_share(
        batches: Sequence[tuple[Sequence[Cell], Sequence[Errnos]]],
    ) -> list[list[Mismatch]]:
        return [[*find_mismatches(some, errnos, rulebook)] for some, errnos in batches]

    return share([*zip(cut(cells), cut(answered), strict=True)], compare_share)


def share(
    batches: Sequence[Batch], do: Callable[[Sequence[Batch]], list[list[Result]]]
) -> list[Result]:
    """What `do` finds in batches, a list for each, as one list in their order.

    It is called with a share of them in each of some processes; what it raises is raised.
    """
    count = min(count_shares(), len(batches))

    def do_share(number: int) -> list[list[Result]]:
        return do(batches[number::count])

    found: list[list[Result]] = [[] for _ in batches]
    work = work_off(range(count), do_share, at_once=count, seconds=SECONDS)
    with contextlib.closing(work):
        for number, results in work:
            if isinstance(results, BindlabError):
                raise results
            found[number::count] = results
    return [*itertools.chain(*found)]


def count_shares() -> int:
    """One more than there are processors: now and then one waits, for a connection or its end."""
    return min(len(os.sched_getaffinity(0)) + 1, MOST_JOBS)
