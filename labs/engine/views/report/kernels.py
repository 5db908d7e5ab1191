"""What a page shows of the matrix: every lab on every kernel, and where they are not alike."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from labs.engine.kernels.comparison import find_differences, find_skipped_steps, find_stops
from labs.engine.views.phrases import (
    SIGNS,
    SUMMARY,
    name_all,
    name_change,
    name_skipped,
    name_stop,
    short_names,
    shorten,
    show_change,
)
from labs.engine.views.report.content import MARKS, Item, Mark, foremost

if TYPE_CHECKING:
    from collections.abc import Sequence

    from labs.engine.kernels.comparison import Answer, Changes, Difference, Matrix, Result
    from labs.engine.model import Verdict

NO_VERDICT = Mark("", "·", "")


@dataclass(frozen=True)
class AnswerRow:
    """What some kernels did."""

    kernels: str
    mark: Mark
    text: str


@dataclass(frozen=True)
class DifferenceContent:
    """A step that is not the same on all kernels, or not as expected."""

    lab: str
    number: int
    title: str
    expected: str
    answers: tuple[AnswerRow, ...]


@dataclass(frozen=True)
class MatrixContent:
    """The table, and what is said under it; `rows` has a mark for each kernel, by lab.

    `since` names the earlier matrix that it was compared with, if any; `changes` are from that, and
    `notes` are what is not the same and no change.
    """

    kernels: tuple[tuple[str, str], ...]
    rows: tuple[tuple[str, tuple[Mark, ...]], ...]
    mark: Mark
    closing: str
    stops: tuple[Item, ...]
    skipped: tuple[Item, ...]
    differences: tuple[DifferenceContent, ...]
    since: str = ""
    changes: tuple[Item, ...] = ()
    notes: tuple[Item, ...] = ()


def show_content(
    matrix: Matrix, closing: str, compared: tuple[str, Changes, Sequence[str]] | None = None
) -> MatrixContent:
    """What a page shows of a matrix; `closing` says what was run and what came of it.

    It may be `compared` with an earlier one: its file, what changed, and kernels of other releases.
    """
    releases = (shorten(matrix.find_run(kernel, "kernel")) for kernel in matrix.kernels)
    cells = {(result.kernel, result.lab): show_cell(result) for result in matrix.results}
    rows = (
        (lab, tuple(cells.get((kernel, lab), NO_VERDICT) for kernel in matrix.kernels))
        for lab in matrix.labs
    )
    content = MatrixContent(
        tuple(zip(short_names(matrix.kernels), releases, strict=True)),
        tuple(rows),
        foremost(MARKS[result.status] for result in matrix.results),
        closing,
        tuple(show_stops(matrix)),
        tuple(show_skipped(matrix)),
        tuple(show_difference(matrix, each) for each in find_differences(matrix)),
    )
    return with_changes(content, *compared) if compared else content


def with_changes(
    content: MatrixContent, since: str, changes: Changes, releases: Sequence[str]
) -> MatrixContent:
    """The same, compared with an earlier matrix."""
    items = [Item(name_change(change), show_change(change)) for change in changes.changes]
    mark = Mark("differs", "✘", "changed") if items else content.mark
    notes = [Item(text) for text in (*changes.new, *(f"the kernel {each}" for each in releases))]
    return replace(content, mark=mark, since=since, changes=tuple(items), notes=tuple(notes))


def show_cell(result: Result) -> Mark:
    """What the table says of a lab on a kernel."""
    return replace(MARKS[result.status], words=result.word)


def show_stops(matrix: Matrix) -> list[Item]:
    """Why labs did not come to their end."""
    return [
        Item(
            name_stop(stop, matrix),
            stop.error,
            tuple(line.strip() for line in stop.hint.splitlines()),
        )
        for stop in find_stops(matrix)
    ]


def show_skipped(matrix: Matrix) -> list[Item]:
    """Steps that are skipped wherever they are come to."""
    return [Item(name_skipped(each, matrix), each.reason) for each in find_skipped_steps(matrix)]


def show_difference(matrix: Matrix, difference: Difference) -> DifferenceContent:
    """A step that is not the same on all kernels, or not as expected."""
    return DifferenceContent(
        difference.lab,
        difference.number,
        difference.title,
        difference.expected,
        tuple(show_answer(matrix, answer) for answer in difference.answers),
    )


def show_answer(matrix: Matrix, answer: Answer) -> AnswerRow:
    """What some kernels did."""
    return AnswerRow(
        name_all(answer.kernels, matrix.kernels, "all kernels"),
        show_verdict(answer.verdict),
        answer.text,
    )


def show_verdict(verdict: Verdict | None) -> Mark:
    """A verdict as a mark."""
    return Mark(verdict.value, SIGNS[verdict][0], SUMMARY[verdict]) if verdict else NO_VERDICT
