"""Holds the rules against sequences of calls, and makes one that differs as short as can be."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from labs.engine.backends.namespaces.backend import open_namespaces
from labs.engine.errors import CannotRun, EngineError, ExitStatus
from labs.engine.kernels.boot import booting, one_processor
from labs.engine.rules.rulebook import rules_of
from labs.engine.verification.comparison import (
    Comparison,
    count_compared,
    find_mismatches,
    read_release,
)
from labs.engine.verification.guest_witness import GuestWitness
from labs.engine.verification.kept import Origin, check_calls, keep
from labs.engine.verification.sharing import DEADLINE
from labs.engine.verification.witness import Witness

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from labs.engine.kernels.column import Column
    from labs.engine.rules.rulebook import Rulebook
    from labs.engine.verification.cell import Cell
    from labs.engine.verification.comparison import Mismatch
    from labs.engine.verification.measuring import Errnos

SEED = 1


class Asked(Protocol):
    """A kernel that can be asked about sequences, over and over."""

    def ask(self, cells: Sequence[Cell]) -> list[Errnos]:
        """What the kernel answers to each call of each sequence; raises EngineError."""


@dataclass(frozen=True)
class Search:
    """How many sequences, of which seed, and the folder where a mismatch is kept."""

    count: int
    seed: int
    folder: Path


class Differs(Exception):
    """A sequence was answered otherwise than the rules have it."""

    def __init__(self, mismatch: Mismatch) -> None:
        super().__init__()
        self.mismatch = mismatch


def search(column: Column, wanted: Search) -> Comparison:
    """Hold the rules against sequences that are generated; raises BindlabError."""
    check_hypothesis()
    with open_witness(column) as (release, witness):
        start = time.monotonic()
        rulebook = rules_of(read_release(release))
        cells, mismatches = examine(witness, rulebook, wanted.count, wanted.seed)
        found = compare(column, release, cells, mismatches, time.monotonic() - start)
        if not mismatches:
            return replace(found, seed=wanted.seed)
        shortest = shorten(witness, rulebook, wanted, cells, mismatches)
    today = datetime.now(UTC).date().isoformat()
    origin = Origin(column.name, release, wanted.seed, today)
    return with_kept(replace(found, seed=wanted.seed), shortest, origin, wanted.folder)


def with_kept(found: Comparison, shortest: Mismatch, origin: Origin, folder: Path) -> Comparison:
    """A comparison with the shortest mismatch: where it is kept, or why it could not be."""
    found = replace(found, shortest=shortest)
    try:
        return replace(found, kept=str(keep(shortest, origin, folder)))
    except EngineError as error:
        return replace(found, problem=error.message)


def replay(column: Column, cells: Sequence[Cell]) -> Comparison:
    """Hold the rules against sequences that were kept; raises BindlabError."""
    with open_witness(column) as (release, witness):
        start = time.monotonic()
        rulebook = rules_of(read_release(release))
        for cell in cells:
            check_calls(cell, rulebook)
        mismatches = [*find_mismatches(cells, witness.ask(cells), rulebook)]
        return compare(column, release, cells, mismatches, time.monotonic() - start)


def compare(
    column: Column,
    release: str,
    cells: Sequence[Cell],
    mismatches: Sequence[Mismatch],
    seconds: float,
) -> Comparison:
    """What came of a kernel's sequences."""
    status = ExitStatus.DIFFERS if mismatches else ExitStatus.PASSED
    counts = len(cells), count_compared(cells)
    return Comparison(
        column.name, status, release, *counts, seconds, tuple(mismatches), what="sequences"
    )


@contextlib.contextmanager
def open_witness(column: Column) -> Iterator[tuple[str, Asked]]:
    """A kernel's release, and the kernel to be asked; raises CannotRun and EngineError."""
    if column.obstacle:
        raise column.obstacle
    if column.kernel is None:
        with open_namespaces(DEADLINE) as backend:
            yield backend.kernel, Witness(backend)
        return
    with booting(column.kernel, one_processor()) as guest:
        release = guest.wait_until_ready()
        yield release, GuestWitness(guest)


def examine(
    witness: Asked, rulebook: Rulebook, count: int, seed: int
) -> tuple[list[Cell], list[Mismatch]]:
    """Sequences that are generated, and those of them that a kernel answers otherwise.

    All are generated before the kernel is asked about the first: many at a time take it far less.
    The model says what may come next, and as long as a kernel agrees it would say the same.
    """
    from labs.engine.verification.generating import generate

    cells: list[Cell] = []
    generate(rulebook, count, seed, cells.append)
    return cells, [*find_mismatches(cells, witness.ask(cells), rulebook)]


def shorten(
    witness: Asked,
    rulebook: Rulebook,
    wanted: Search,
    cells: Sequence[Cell],
    mismatches: Sequence[Mismatch],
) -> Mismatch:
    """The shortest sequence in which the kernel differs, by way of ever shorter ones.

    The first mismatch as it is, where the kernel does not answer like that again.
    """
    from labs.engine.verification.generating import generate

    agreed = {cell.calls for cell in cells} - {one.cell.calls for one in mismatches}

    def judge(cell: Cell) -> None:
        if cell.calls in agreed:
            return
        for mismatch in find_mismatches([cell], witness.ask([cell]), rulebook):
            raise Differs(up_to(mismatch))
        agreed.add(cell.calls)

    try:
        generate(rulebook, wanted.count, wanted.seed, judge, shrink=True)
    except Differs as differs:
        return differs.mismatch
    return up_to(mismatches[0])


def up_to(mismatch: Mismatch) -> Mismatch:
    """A mismatch without the calls after the one that differs."""
    end = mismatch.index + 1
    cell = replace(mismatch.cell, calls=mismatch.cell.calls[:end])
    return replace(mismatch, cell=cell, errnos=mismatch.errnos[:end])


def check_hypothesis() -> None:
    """CannotRun where Hypothesis is not installed."""
    import importlib.util
    import sys

    if importlib.util.find_spec("hypothesis") is None:
        raise CannotRun(
            "Hypothesis is not installed, which generates the sequences.",
            f"{sys.executable} -m pip install 'hypothesis>=6.150'",
        )
