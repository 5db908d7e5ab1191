"""The matrix as a table, and under it what is not alike and what was not done, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from rich.text import Text

from labs.engine.views.phrases import (
    SIGNS,
    name_all,
    name_change,
    name_skipped,
    name_stop,
    short_names,
    shorten,
    show_change,
)
from labs.engine.views.terminal import make_console

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from labs.engine.kernels.comparison import (
        Answer,
        Changes,
        Difference,
        Matrix,
        SkippedSteps,
        Stop,
    )

GAP = "  "
INDENT = 2
STYLES = {"pass": "green", "differs": "bold red", "skipped": "yellow", "failed": "bold red"}
SHOWN_LABS = 3
NO_VERDICT = ("·", "-", "dim")


class MatrixView:
    """Writes to a stream; plain text unless that is a terminal with colour."""

    def __init__(self, stream: TextIO) -> None:
        self._console = make_console(stream)
        self._has_signs = (stream.encoding or "").lower().startswith("utf")

    # --- the table ---

    def show_table(self, matrix: Matrix) -> None:
        """Labs down, kernels across; in several blocks where the stream is too narrow for one."""
        titles = short_names(matrix.kernels)
        releases = [shorten(matrix.find_run(kernel, "kernel")) for kernel in matrix.kernels]
        words = {(result.kernel, result.lab): result.word for result in matrix.results}
        columns = [["", "", *matrix.labs]]
        for kernel, title, release in zip(matrix.kernels, titles, releases, strict=True):
            columns.append([title, release, *(words[kernel, lab] for lab in matrix.labs)])
        for number, block in enumerate(split(columns, self._console.width)):
            if number:
                self._console.write_line()
            rows = list(zip(*block, strict=True))
            widths = [max(map(len, column)) for column in block]
            for row_number, row in enumerate(rows):
                text = Text(no_wrap=True)
                for cell_number, (cell, width) in enumerate(zip(row, widths, strict=True)):
                    text.append(cell.ljust(width), style_of(row_number, cell_number, cell))
                    text.append(GAP)
                text.rstrip()
                self._console.write_line(text)

    # --- what is under it ---

    def show_stops(self, matrix: Matrix, stops: Sequence[Stop]) -> None:
        """Why labs did not come to their end."""
        if not stops:
            return
        self._title("Not run, or not to the end")
        for stop in stops:
            self._item(name_stop(stop, matrix), "bold")
            self._item(stop.error, indent=2 * INDENT)
            for line in stop.hint.splitlines():
                self._item(line.strip(), "dim", indent=3 * INDENT)

    def show_skipped(self, matrix: Matrix, skipped: Sequence[SkippedSteps]) -> None:
        """Steps that are skipped wherever they are come to."""
        if not skipped:
            return
        self._title("Skipped steps")
        for each in skipped:
            self._item(name_skipped(each, matrix), "bold")
            self._item(each.reason, indent=2 * INDENT)

    def show_differences(self, matrix: Matrix, differences: Sequence[Difference]) -> None:
        """Steps that are not the same on all kernels, or not as expected."""
        if not differences:
            if len(matrix.kernels) > 1:
                self._title("No step differs between the kernels")
            return
        self._title("Steps that differ between kernels, or from what is expected")
        lab = ""
        for difference in differences:
            if difference.lab != lab:
                lab = difference.lab
                self._item(lab, "bold")
            self._item(f"{difference.number}  {difference.title}", indent=2 * INDENT)
            self._item(f"expected {difference.expected}", "dim", indent=3 * INDENT)
            self._answers(matrix, difference.answers)

    def _answers(self, matrix: Matrix, answers: Sequence[Answer]) -> None:
        names = [name_all(each.kernels, matrix.kernels, "all kernels") for each in answers]
        width = max(map(len, names))
        if width > self._console.width // 3:
            width = 0  # too many names for a column of their own
        signs = [SIGNS[each.verdict] if each.verdict else NO_VERDICT for each in answers]
        marks = [sign if self._has_signs else word for sign, word, _ in signs]
        mark_width = max(map(len, marks))
        for name, answer, mark, (_, _, style) in zip(names, answers, marks, signs, strict=True):
            text = f"{mark.ljust(mark_width)} {name.ljust(width)}  {answer.text}"
            self._item(
                text, style, indent=3 * INDENT, hanging=mark_width + 1 + (width and width + 2)
            )

    def show_changes(self, file: str, changes: Changes, releases: Sequence[str]) -> None:
        """What is not as in an earlier matrix."""
        self._title(f"Changed since {file}" if changes.changes else f"Nothing changed since {file}")
        for change in changes.changes:
            self._item(name_change(change), "bold")
            self._item(show_change(change), "bold red", indent=2 * INDENT)
        if changes.new:
            self._item(f"not in it, and no change: {', '.join(changes.new)}", "dim")
        for release in releases:
            self._item(f"the kernel {release}", "dim")

    def show_end(self, line: str) -> None:
        """The last line."""
        self._console.write_line()
        self._console.write_line(Text(line, "bold"))

    # --- text ---

    def _title(self, title: str) -> None:
        self._console.write_line()
        self._item(title, "bold underline", indent=0)

    def _item(
        self, text: str, style: str = "", *, indent: int = INDENT, hanging: int = INDENT
    ) -> None:
        """Text with a margin, and a wider one from its second line on."""
        width = max(20, self._console.width - indent - hanging)
        first, *rest = wrap(text, self._console.width - indent, width)
        self._console.write_line(Text(" " * indent + first, style))
        for line in rest:
            self._console.write_line(Text(" " * (indent + hanging) + line, style))


def style_of(row: int, column: int, cell: str) -> str:
    """The style of the table's cell."""
    if row == 0:
        return "bold"
    if row == 1:
        return "dim"
    return STYLES.get(cell.partition(" ")[0], "") if column else "bold"


def split(columns: Sequence[Sequence[str]], width: int) -> Iterable[Sequence[Sequence[str]]]:
    """Columns in blocks that fit a width, the first one in each."""
    first, *others = columns
    block: list[Sequence[str]] = [first]
    for column in others:
        needed = sum(max(map(len, each)) + len(GAP) for each in [*block, column]) - len(GAP)
        if needed > width and len(block) > 1:
            yield block
            block = [first]
        block.append(column)
    yield block


def wrap(text: str, first: int, width: int) -> list[str]:
    """Lines of a text: the first may be wider than the others; runs of spaces are kept."""
    lines, line, limit = [], "", first
    for word in text.split(" "):
        longer = f"{line} {word}" if line or not word else word
        if len(longer) > limit and line.strip():
            lines.append(line.rstrip())
            line, limit = word, width
        else:
            line = longer
    return [*lines, line.rstrip()]
