"""What submissions came to, as data and for a spreadsheet."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labs.engine.kernels.comparison import WORDS
from labs.engine.runner import foremost
from labs.engine.version import VERSION
from labs.engine.views.json import converted, open_output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from labs.engine.agent import Json
    from labs.engine.errors import ExitStatus

FORMAT = 1
TABLES = ("grades.json", "grades.csv")
COLUMNS = ("learner", "exercise", "verdict", "met", "seconds", "stopped at", "advice", "text")


@dataclass(frozen=True)
class Grade:
    """A learner's row: the status of the check, how many requirements were met, and what then.

    `stopped_at` is the requirement that was not met, `advice` the name of the hint that fits it and
    `text` its words, or those of an error.
    """

    learner: str
    exercise: str
    status: ExitStatus
    met: int = 0
    seconds: float = 0.0
    stopped_at: str = ""
    advice: str = ""
    text: str = ""

    @property
    def verdict(self) -> str:
        """What a table says of it."""
        return WORDS[self.status]

    @property
    def cells(self) -> tuple[str | int | float, ...]:
        """The row, in the order of COLUMNS."""
        seconds = round(self.seconds, 3)
        counts = (self.verdict, self.met, seconds)
        return (self.learner, self.exercise, *counts, self.stopped_at, self.advice, self.text)


@dataclass(frozen=True)
class Table:
    """All rows, in the order of the learners."""

    grades: tuple[Grade, ...]

    @property
    def status(self) -> ExitStatus:
        """The exit status of all: the first of PRECEDENCE that any has."""
        return foremost([grade.status for grade in self.grades])

    @property
    def counts(self) -> str:
        """How many have which verdict."""
        counts = Counter(grade.verdict for grade in self.grades)
        return ", ".join(f"{counts[word]} {word}" for word in WORDS.values() if counts[word])

    def to_json(self) -> dict[str, Json]:
        """The document of grades.json."""
        rows: list[Json] = [
            {**dict(zip(COLUMNS, grade.cells, strict=True)), "status": int(grade.status)}
            for grade in self.grades
        ]
        return {"format": FORMAT, "version": VERSION, "status": int(self.status), "rows": rows}

    def to_csv(self) -> str:
        """The text of grades.csv (RFC 4180, but for the ends of its lines)."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(grade.cells for grade in self.grades)
        return text.getvalue()


@contextlib.contextmanager
def open_table(folder: Path) -> Iterator[Callable[[Table], None]]:
    """What writes the table to grades.json and grades.csv of a folder, whole or not at all.

    They are opened at once; UsageError where they cannot be.
    """
    names = [folder / name for name in TABLES]
    with contextlib.ExitStack() as stack:
        for name in names:
            stack.enter_context(converted(str(name)))
        document, sheet = (stack.enter_context(open_output(name)) for name in names)

        def write(table: Table) -> None:
            json.dump(table.to_json(), document, indent=2, ensure_ascii=False)
            document.write("\n")
            sheet.write(table.to_csv())

        yield write
