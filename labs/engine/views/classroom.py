"""A class: a line for each learner as results come, and the class table."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from rich.cells import cell_len
from rich.text import Text

from labs.engine.views.terminal import make_console

if TYPE_CHECKING:
    from collections.abc import Sequence

    from labs.engine.classes.result import Result
    from labs.engine.classes.table import Table

GAP = "  "
TITLES = ("learner", "verdict", "steps", "seconds", "node")
STYLES = {
    "pass": "green",
    "differs": "bold red",
    "skipped": "yellow",
    "failed": "bold red",
    "no result": "bold red",
}


class ProgressView:
    """Writes to a stream what has come so far, a line each; plain unless it is a terminal."""

    def __init__(self, stream: TextIO, learners: int, done: int) -> None:
        self._console = make_console(stream)
        self._learners = learners
        self._done = done
        self._width = 2 * len(str(learners)) + 1

    def show_result(self, result: Result) -> None:
        """A line on the result of one more learner."""
        self._done += 1
        line = Text(f"{self._done}/{self._learners}".rjust(self._width), "dim")
        line.append(GAP).append(result.learner, "bold").append(GAP)
        line.append(result.verdict, STYLES[result.verdict])
        for cell in (show_steps(result), f"{result.seconds:.1f} s", result.node):
            if result.outcome and cell:
                line.append(GAP).append(cell, "dim")
        if result.error:
            line.append(GAP).append(result.error)
        self._console.write_line(line)

    def show_notice(self, text: str, hint: str = "") -> None:
        """What did not go as planned, and goes on all the same; what mends it."""
        margin = " " * self._width + GAP
        self._console.write_line(Text(f"{margin}{text}", "yellow"))
        if hint:
            self._console.write_line(Text(f"{margin}{hint}", "dim"))


class TableView:
    """Writes the class table to a stream; plain text unless that is a terminal with colour."""

    def __init__(self, stream: TextIO) -> None:
        self._console = make_console(stream)

    def show(self, table: Table, seconds: float) -> None:
        """Show all rows, the reasons where there is no pass or difference, and what it comes to."""
        rows = [TITLES, *map(list_columns, table.results)]
        widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
        for number, row in enumerate(rows):
            self._console.write_line(align(row, widths, is_title=number == 0))
        problems = [result for result in table.results if result.error]
        if problems:
            self._console.write_line()
        for result in problems:
            self._console.write_line(Text.assemble((result.learner, "bold"), f": {result.error}"))
            hint = result.outcome.hint if result.outcome else ""
            if hint:
                self._console.write_line(Text(f"  {hint}", "dim"))
        count = len(table.results)
        self._console.write_line()
        self._console.write_line(
            Text(
                f"{table.lab}: {count} learner{'s' * (count != 1)} in {seconds:.1f} s: "
                f"{table.counts}"
            )
        )


def list_columns(result: Result) -> tuple[str, ...]:
    """The cells of a learner's row."""
    seconds = f"{result.seconds:.1f}" if result.outcome else ""
    return result.learner, result.verdict, show_steps(result), seconds, result.node


def show_steps(result: Result) -> str:
    """How many steps were as expected, of how many; empty where there was none."""
    expected, steps = result.outcome.steps if result.outcome else (0, 0)
    return f"{expected}/{steps}" if steps else ""


def align(row: Sequence[str], widths: Sequence[int], *, is_title: bool) -> Text:
    """A row in columns; a letter of Chinese is two columns wide."""
    line = Text(no_wrap=True)
    for title, cell, width in zip(TITLES, row, widths, strict=True):
        fill = " " * (width - cell_len(cell))
        style = "dim" if is_title else STYLES.get(cell, "") if title == "verdict" else ""
        is_number = title in ("steps", "seconds")
        line.append(fill if is_number else "").append(cell, style)
        line.append("" if is_number else fill).append(GAP)
    line.rstrip()
    return line
