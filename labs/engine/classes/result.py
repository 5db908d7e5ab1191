"""What came of one learner's run, as data: as its container prints it, and as a class keeps it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labs.engine.errors import ExitStatus
from labs.engine.kernels.comparison import WORDS
from labs.engine.model import Verdict
from labs.engine.reading import elements, members, read_status, read_text, reader
from labs.engine.record import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from labs.engine.agent import Json
    from labs.engine.classes.cluster import Assignment

FORMAT = 1  # of all that a class writes
NO_RESULT = "no result"


@dataclass(frozen=True)
class Outcome:
    """What a container prints: a run's status, and its record where it got to its start."""

    status: ExitStatus
    error: str = ""
    hint: str = ""
    record: Mapping[str, Json] | None = None

    @property
    def steps(self) -> tuple[int, int]:
        """How many steps were as expected, and of how many."""
        verdicts = list_verdicts(self.record) if self.record else []
        return verdicts.count(Verdict.PASSED), len(verdicts)

    def to_json(self) -> dict[str, Json]:
        """The outcome as JSON; the record in the form of docs/record.schema.json, as one run."""
        return {
            "schema": SCHEMA,
            "status": int(self.status),
            "error": self.error,
            "hint": self.hint,
            "record": dict(self.record) if self.record is not None else None,
        }


@dataclass(frozen=True)
class Result:
    """A learner's row: what came of the assignment, on which node, after how many attempts.

    `seconds` is how long the attempt took that it came of. Without an outcome no attempt brought
    one; `reason` says what became of the last.
    """

    learner: str
    outcome: Outcome | None
    node: str = ""
    seconds: float = 0.0
    attempts: int = 1
    reason: str = ""

    @property
    def status(self) -> ExitStatus:
        """What the exit status of a class of one would be."""
        return self.outcome.status if self.outcome else ExitStatus.FAILED

    @property
    def verdict(self) -> str:
        """What a table says of it."""
        return WORDS[self.outcome.status] if self.outcome else NO_RESULT

    @property
    def error(self) -> str:
        """Why it is no pass or difference; empty where it is."""
        return self.outcome.error if self.outcome else self.reason

    def to_json(self) -> dict[str, Json]:
        """The content of a learner's file; only what has an outcome has one."""
        assert self.outcome
        return {
            "format": FORMAT,
            "learner": self.learner,
            "node": self.node,
            "seconds": round(self.seconds, 3),
            "attempts": self.attempts,
            "outcome": self.outcome.to_json(),
        }


def read_delivery(text: str, assignment: Assignment) -> Outcome:
    """The outcome that a container has printed; ValueError where it is none of this assignment."""
    return read_outcome(json.loads(text), assignment)


def read_outcome(value: Json, assignment: Assignment) -> Outcome:
    """An outcome from its JSON; ValueError where it is none of this assignment."""
    fields = members(value)
    if fields.get("schema") != SCHEMA:
        raise ValueError(f"schema {fields.get('schema')!r} is not {SCHEMA}")
    record = None if fields.get("record") is None else members(fields["record"])
    status = read_status(fields)
    if record is None and status in (ExitStatus.PASSED, ExitStatus.DIFFERS):
        raise ValueError(f"status {int(status)} without a record")
    if record is not None:
        found = record.get("lab"), record.get("seed"), record.get("status")
        if found != (assignment.lab, assignment.seed, int(status)):
            raise ValueError(f"a record of {found} is of another assignment")
        list_verdicts(record)
    return Outcome(status, read_text(fields, "error"), read_text(fields, "hint"), record)


def read_result(value: Json, learner: str, assignment: Assignment) -> Result:
    """A result from a learner's file; ValueError where it is none of this learner's assignment."""
    fields = members(value)
    if fields.get("format") != FORMAT:
        raise ValueError(f"format {fields.get('format')!r} is not {FORMAT}")
    if fields.get("learner") != learner:
        raise ValueError(f"learner {fields.get('learner')!r} is not {learner!r}")
    return Result(
        learner,
        read_outcome(fields.get("outcome"), assignment),
        read_text(fields, "node"),
        float(reader(float)(fields.get("seconds"))),
        int(reader(int)(fields.get("attempts"))),
    )


def list_verdicts(record: Mapping[str, Json]) -> Sequence[str | None]:
    """The verdict of each step of a record; None for one that did not end. Raises ValueError."""
    verdicts = [members(step).get("verdict") for step in elements(record.get("steps"))]
    for verdict in verdicts:
        if verdict is not None and verdict not in [*Verdict]:
            raise ValueError(f"{verdict!r} is no verdict")
    return [None if verdict is None else str(verdict) for verdict in verdicts]
