"""What a page shows of a class: a row for each learner, and why some have no result."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from labs.engine.views.classroom import TITLES, list_columns
from labs.engine.views.report.content import MARKS, Item, Mark, foremost

if TYPE_CHECKING:
    from labs.engine.classes.result import Result
    from labs.engine.classes.table import Table


@dataclass(frozen=True)
class LearnerRow:
    """The cells of a learner's row, in the columns of the terminal's table, and their verdict."""

    cells: tuple[str, ...]
    mark: Mark


@dataclass(frozen=True)
class ClassContent:
    """The class table, what it comes to, and the reasons where there is no pass or difference."""

    lab: str
    counts: str
    mark: Mark
    rows: tuple[LearnerRow, ...]
    problems: tuple[Item, ...]
    titles: tuple[str, ...] = TITLES


def show_class(table: Table) -> ClassContent:
    """What a page shows of a class table."""
    return ClassContent(
        table.lab,
        table.counts,
        foremost(MARKS[result.status] for result in table.results),
        tuple(LearnerRow(list_columns(result), show_mark(result)) for result in table.results),
        tuple(show_problem(result) for result in table.results if result.error),
    )


def show_mark(result: Result) -> Mark:
    """What the table says of a learner's run."""
    return replace(MARKS[result.status], words=result.verdict)


def show_problem(result: Result) -> Item:
    """Why a learner's run is no pass or difference."""
    hint = result.outcome.hint if result.outcome else ""
    return Item(result.learner, result.error, tuple(hint.splitlines()))
