"""What runs concluded of their labs' claims, as their records have it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from labs.engine.model import PLAN, Concluded
from labs.engine.reading import elements, members, read_status, read_text, reader
from labs.engine.record import SCHEMA

if TYPE_CHECKING:
    from labs.engine.agent import Json
    from labs.engine.errors import ExitStatus


@dataclass(frozen=True)
class Ruling:
    """What one run concluded of its lab's claim; None where `status` says why not."""

    lab: str
    claim: str
    kernel: str
    status: ExitStatus
    conclusion: Concluded | None


def read_rulings(document: Json) -> list[Ruling]:
    """What the runs of a document concluded; a plan has nothing to say. Raises ValueError."""
    fields = members(document)
    if fields.get("schema") != SCHEMA:
        raise ValueError(f"it is not of schema {SCHEMA}")
    # The matrix has a record in each of its runs, null where the lab did not start.
    records = [members(run).get("record", run) for run in elements(fields.get("runs"))]
    found = [members(record) for record in records if record is not None]
    return [read_run(record) for record in found if record.get("backend") != PLAN]


def read_run(record: dict[str, Json]) -> Ruling:
    """What one run concluded; raises ValueError."""
    lab, claim, kernel, machine = (
        read_text(record, name) for name in ("lab", "claim", "kernel", "machine")
    )
    conclusion = record.get("conclusion")
    return Ruling(
        lab,
        claim,
        f"{kernel} ({machine})" if machine else kernel,
        read_status(record),
        None if conclusion is None else reader(Concluded)(conclusion),
    )
