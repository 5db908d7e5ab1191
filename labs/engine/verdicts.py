"""Shows what labs concluded of their claims, on which kernels: from records alone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from labs.engine.errors import CannotRun, ExitStatus, standard_output
from labs.engine.record import Record, document
from labs.engine.rulings import read_document, read_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from labs.engine.rulings import Ruling
    from labs.engine.script import Lab


def show_verdicts(labs: Sequence[Lab], files: str) -> ExitStatus:
    """Show what came of every claim: by the records in `files`, or by running the labs now.

    Several files have commas between. UsageError for what holds no records, CannotRun where no
    record is of a lab with a claim. A claim that was not put to the test to the end is no pass.
    """
    from labs.engine.runner import PRECEDENCE
    from labs.engine.views.verdicts import VerdictsView

    records = (
        [record for name in files.split(",") for record in read_file(name.strip())]
        if files
        else record_all([lab for lab in labs if lab.claim])
    )
    rulings = [ruling for ruling in records if ruling.claim]
    if not rulings:
        raise CannotRun("No lab in these records puts a claim to the test.")
    VerdictsView(standard_output()).show(rulings)
    statuses = [ruling.status for ruling in rulings]
    return next(status for status in PRECEDENCE if status in statuses)


def record_all(labs: Sequence[Lab]) -> list[Ruling]:
    """Run labs on this kernel, and read what they leave; raises CannotRun."""
    from labs.engine.backends.namespaces.backend import open_namespaces
    from labs.engine.layout import Layout
    from labs.engine.runner import run_lab

    records = []
    for lab in labs:
        record = Record()
        with open_namespaces() as backend:
            run_lab(lab, backend, Layout(None), [record])
        records.append(record)
    return [*read_document(json.loads(json.dumps(document(records))))]
