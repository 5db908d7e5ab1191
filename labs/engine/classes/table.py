"""The class table: a row for each learner, as data, for a spreadsheet, and what it comes to."""

from __future__ import annotations

import csv
import io
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labs.engine.classes.result import FORMAT, NO_RESULT
from labs.engine.kernels.comparison import WORDS
from labs.engine.runner import foremost
from labs.engine.version import VERSION

if TYPE_CHECKING:
    from labs.engine.agent import Json
    from labs.engine.classes.result import Result
    from labs.engine.errors import ExitStatus

COLUMNS = ("learner", "verdict", "expected", "steps", "seconds", "node", "attempts", "error")


@dataclass(frozen=True)
class Table:
    """What a class came to, in the order of its roster."""

    lab: str
    results: tuple[Result, ...]

    @property
    def status(self) -> ExitStatus:
        """The exit status of the class: the first of PRECEDENCE that any learner has."""
        return foremost([result.status for result in self.results])

    @property
    def counts(self) -> str:
        """How many learners have which verdict."""
        counts = Counter(result.verdict for result in self.results)
        words = [*WORDS.values(), NO_RESULT]
        return ", ".join(f"{counts[word]} {word}" for word in words if counts[word])

    def to_json(self) -> dict[str, Json]:
        """The document of table.json and of --json."""
        rows: list[Json] = [
            dict(zip(COLUMNS, list_cells(result), strict=True)) | {"status": int(result.status)}
            for result in self.results
        ]
        return {
            "format": FORMAT,
            "version": VERSION,
            "lab": self.lab,
            "status": int(self.status),
            "rows": rows,
        }

    def to_csv(self) -> str:
        """The text of table.csv (RFC 4180, but for the ends of its lines)."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(list_cells(result) for result in self.results)
        return text.getvalue()


def list_cells(result: Result) -> list[Json]:
    """A learner's row, in the order of COLUMNS; `expected` of the `steps` were as expected."""
    expected, steps = result.outcome.steps if result.outcome else (0, 0)
    return [
        result.learner,
        result.verdict,
        expected,
        steps,
        round(result.seconds, 3),
        result.node,
        result.attempts,
        result.error,
    ]
