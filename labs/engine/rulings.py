"""What runs concluded of their labs' claims, as their records have it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from labs.engine.errors import ExitStatus, UsageError
from labs.engine.model import PLAN, Concluded
from labs.engine.reading import elements, members, reader
from labs.engine.record import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterator

    from labs.engine.agent import Json


@dataclass(frozen=True)
class Ruling:
    """What one run concluded of its lab's claim; None where `status` says why not."""

    lab: str
    claim: str
    kernel: str
    status: ExitStatus
    conclusion: Concluded | None


def read_file(name: str) -> list[Ruling]:
    """The runs of a file that --json wrote, of a lab's or of the matrix; raises UsageError."""
    try:
        return [*read_document(json.loads(Path(name).read_text(encoding="utf-8")))]
    except OSError as error:
        raise UsageError(f"Cannot read {name}: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"{name} holds no records: {error}.",
            "invoke lab.all --json FILE writes them, and invoke kernel.matrix --json FILE.",
        ) from None


def read_document(content: Json) -> Iterator[Ruling]:
    """What the runs of a document concluded; a plan has nothing to say. Raises ValueError."""
    fields = members(content)
    if fields.get("schema") != SCHEMA:
        raise ValueError(f"it is not of schema {SCHEMA}")
    for run in elements(fields.get("runs")):
        # The matrix has a record in each of its runs, null where the lab did not start.
        record = members(run).get("record", run)
        if record is not None and members(record).get("backend") != PLAN:
            yield read_run(members(record))


def read_run(record: dict[str, Json]) -> Ruling:
    """What one run concluded; raises ValueError."""
    lab, claim, kernel, machine = (
        reader(str)(record.get(name)) for name in ("lab", "claim", "kernel", "machine")
    )
    conclusion = record.get("conclusion")
    return Ruling(
        lab,
        claim,
        f"{kernel} ({machine})" if machine else kernel,
        read_status(record.get("status")),
        None if conclusion is None else reader(Concluded)(conclusion),
    )


def read_status(number: Json) -> ExitStatus:
    """The exit status of one run; raises ValueError."""
    status = ExitStatus(reader(int)(number))
    if status in (ExitStatus.USAGE, ExitStatus.INTERRUPTED):
        raise ValueError(f"status {int(status)} is none of a run")
    return status
