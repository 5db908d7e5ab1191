"""`invoke rules.verify`: the rules against real kernels, by a table or by sequences."""

from __future__ import annotations

import os
import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from labs.engine.errors import BindlabError, EngineError, ExitStatus, UsageError, standard_output
from labs.engine.exercises.progress import state_folder
from labs.engine.kernels.boot import booting, one_processor
from labs.engine.kernels.matrix import HOST, choose_columns
from labs.engine.rules.rulebook import rules_of
from labs.engine.runner import foremost
from labs.engine.verification.comparison import (
    Comparison,
    count_compared,
    read_release,
)
from labs.engine.verification.kept import read_kept
from labs.engine.verification.sequences import SEED, Search, replay, search
from labs.engine.verification.sharing import compare_cells, measure_cells
from labs.engine.verification.table import make_table
from labs.engine.views.json import STANDARD_OUTPUT, open_document

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import TextIO

    from labs.engine.kernels.column import Column
    from labs.engine.kernels.kernel import Kernel
    from labs.engine.verification.comparison import Mismatch
    from labs.engine.verification.measuring import Errnos

SCHEMA = 1
SHOWN = 20  # mismatches of a kernel


@dataclass(frozen=True)
class VerifyOptions:
    """Which kernels, with commas between, this machine's own without; and a file for all of it.

    `sequences` are to be generated in place of the table, of a `seed`, with a mismatch kept in the
    folder `keep`; `replay` names files and folders whose sequences are asked instead.
    """

    kernel: str = ""
    json: str | None = None
    sequences: int | None = None
    seed: int | None = None
    keep: str = ""
    replay: str | None = None


@dataclass(frozen=True)
class Verification:
    """What came of all kernels that were asked for."""

    comparisons: Sequence[Comparison]

    @property
    def status(self) -> ExitStatus:
        """The one that matters most."""
        return foremost({comparison.status for comparison in self.comparisons})

    def to_json(self) -> object:
        """As a document."""
        return {
            "schema": SCHEMA,
            "status": int(self.status),
            "kernels": [comparison.to_json() for comparison in self.comparisons],
        }


@dataclass(frozen=True)
class Measured:
    """What a kernel answered to the table, and how long it took, its boot not counted."""

    release: str
    answered: Sequence[Errnos]
    seconds: float


def verify_rules(options: VerifyOptions) -> ExitStatus:
    """Hold the rules against each kernel, and show what came of it; raises UsageError."""
    columns = choose_columns(options.kernel or HOST)
    check = choose_check(options)
    with open_document("A verification", options.json) as write:
        stream = sys.stderr if options.json == STANDARD_OUTPUT else standard_output()
        comparisons = []
        for column in columns:
            comparisons.append(check(column))
            show(comparisons[-1], stream)
        verification = Verification(comparisons)
        if write:
            write(verification)
    return verification.status


def choose_check(options: VerifyOptions) -> Callable[[Column], Comparison]:
    """What each kernel is to be asked: the table, or sequences; raises UsageError."""
    if options.replay is not None and options.sequences is not None:
        raise UsageError("--sequences makes new ones, --replay asks old ones: give one.")
    if options.sequences is None and (options.seed is not None or options.keep):
        raise UsageError("--seed and --keep are for --sequences N.")
    if options.replay is not None:
        cells = read_kept(options.replay)
        return lambda column: attempt(column, lambda: replay(column, cells))
    if options.sequences is None:
        return verify
    if options.sequences < 1:
        raise UsageError("--sequences takes a number from 1 on.")
    folder = Path(options.keep) if options.keep else state_folder() / "rules"
    wanted = Search(options.sequences, SEED if options.seed is None else options.seed, folder)
    return lambda column: attempt(column, lambda: search(column, wanted))


def attempt(column: Column, check: Callable[[], Comparison]) -> Comparison:
    """What comes of a check, be it that it cannot be made; raises UsageError."""
    try:
        return check()
    except UsageError:
        raise
    except BindlabError as error:
        return Comparison(column.name, error.status, problem=error.message, hint=error.hint)


def verify(column: Column) -> Comparison:
    """Hold the rules against a kernel, by the table."""
    return attempt(column, lambda: verify_table(column))


def verify_table(column: Column) -> Comparison:
    """The same; raises CannotRun and EngineError."""
    if column.obstacle:
        raise column.obstacle
    measured = measure_inside(column.kernel) if column.kernel else measure_here()
    start = time.monotonic()
    rulebook = rules_of(read_release(measured.release))
    mismatches = compare_cells(make_table(), measured.answered, rulebook)
    return Comparison(
        column.name,
        ExitStatus.DIFFERS if mismatches else ExitStatus.PASSED,
        measured.release,
        len(measured.answered),
        count_compared(make_table()),
        measured.seconds + time.monotonic() - start,
        tuple(mismatches),
    )


def measure_here() -> Measured:
    """Measure the table on this machine's own kernel; raises CannotRun and EngineError."""
    start = time.monotonic()
    answered = measure_cells(make_table())
    return Measured(os.uname().release, answered, time.monotonic() - start)


def measure_inside(kernel: Kernel) -> Measured:
    """Measure the table in a guest; raises CannotRun and EngineError."""
    with booting(kernel, one_processor()) as guest:
        release = guest.wait_until_ready()
        start = time.monotonic()
        answered = [errnos for message in guest.measure("rules") for errnos in read(message)]
        seconds = time.monotonic() - start
    if len(answered) != len(make_table()):
        raise EngineError(f"{guest} answered to {len(answered)} of {len(make_table())} cells.")
    return Measured(release, answered, seconds)


def read(message: object) -> Iterator[Errnos]:
    """The errnos that a guest tells of; EngineError where they are none."""
    match message:
        case {"errnos": list(cells)}:
            for cell in cells:
                if not isinstance(cell, list) or not all(isinstance(one, int) for one in cell):
                    raise EngineError(f"A guest told nonsense: {str(cell)[:200]}")
                yield cell


def show(comparison: Comparison, stream: TextIO) -> None:
    """Print what came of a kernel."""
    stream.writelines(f"{line}\n" for line in lines(comparison))
    stream.flush()


def lines(comparison: Comparison) -> Iterator[str]:
    """What came of a kernel, as lines."""
    if comparison.problem and not comparison.shortest:
        yield f"{comparison.name}: {comparison.problem}"
        if comparison.hint:
            yield f"  {comparison.hint}"
        return
    agree = comparison.cells - len(comparison.mismatches)
    rate = comparison.cells / comparison.seconds
    seed = "" if comparison.seed is None else f" of seed {comparison.seed}"
    what = comparison.what
    yield (
        f"{comparison.name} ({comparison.release}): {agree:,} of {comparison.cells:,} {what}{seed} "
        f"agree, with {comparison.compared:,} bind() and listen() "
        f"({comparison.seconds:.1f} s, {rate:,.0f} {what} a second)"
    )
    if comparison.shortest:
        yield from mismatch_lines(comparison.shortest, "the shortest that differs")
        if comparison.problem:
            yield f"    {comparison.problem}"
            return
        yield f"    kept: {comparison.kept}"
        again = shlex.join(["--kernel", comparison.name, "--replay", comparison.kept])
        yield f"    again: invoke rules.verify {again}"
        return
    for mismatch in comparison.mismatches[:SHOWN]:
        yield from mismatch_lines(mismatch, mismatch.cell.about)
    if len(comparison.mismatches) > SHOWN:
        yield ""
        yield f"  and {len(comparison.mismatches) - SHOWN:,} more; --json FILE has all of them"


def mismatch_lines(mismatch: Mismatch, title: str) -> Iterator[str]:
    """A mismatch: what was called, what came of it, and what the model says."""
    yield ""
    yield f"  {title}"
    for line in mismatch.lines():
        yield f"    {line}"
    yield f"    the model: {mismatch.model}"
    yield f"    ({mismatch.answer.rule.sentence})"
