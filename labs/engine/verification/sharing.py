"""Measures cells on this machine by several processes, each in namespaces of its own.

One that asks and those that it asks work in turn, so that alone they would use one processor.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from typing import TYPE_CHECKING

from labs.engine.backends.namespaces.backend import open_namespaces
from labs.engine.errors import BindlabError
from labs.engine.jobs import MOST_JOBS, work_off
from labs.engine.verification.measuring import cut, measure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from labs.engine.verification.cell import Cell
    from labs.engine.verification.measuring import Errnos

DEADLINE = 30.0  # seconds that a process may take for all that it is asked at once
SECONDS = 300.0  # for all cells of a share


def measure_cells(cells: Sequence[Cell]) -> list[Errnos]:
    """What this machine's kernel answers to each call of each cell.

    Raises CannotRun and EngineError.
    """
    batches = [*cut(cells)]
    count = min(count_shares(), len(batches))

    def measure_share(number: int) -> list[list[Errnos]]:
        with open_namespaces(DEADLINE) as backend:
            return [*measure(backend, [*itertools.chain(*batches[number::count])])]

    answered: list[list[Errnos]] = [[] for _ in batches]
    work = work_off(range(count), measure_share, at_once=count, seconds=SECONDS)
    with contextlib.closing(work):
        for number, found in work:
            if isinstance(found, BindlabError):
                raise found
            answered[number::count] = found
    return [*itertools.chain(*answered)]


def count_shares() -> int:
    """One more than there are processors: now and then one waits, for a connection or its end."""
    return min(len(os.sched_getaffinity(0)) + 1, MOST_JOBS)
