"""Shows what labs concluded of their claims, on which kernels: from records alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labs.engine.errors import CannotRun, ExitStatus, standard_output
from labs.engine.reading import read_file
from labs.engine.record import Record, document
from labs.engine.rulings import read_rulings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from labs.engine.rulings import Ruling
    from labs.engine.script import Lab


def show_verdicts(labs: Sequence[Lab], files: str) -> ExitStatus:
    """Show what came of every claim: by the records in `files`, or by running the labs now.

    Several files have commas between. UsageError for what holds no records, CannotRun where no
    record is of a lab with a claim. A claim that was not put to the test to the end is no pass.
    """
    from labs.engine.runner import foremost
    from labs.engine.views.verdicts import VerdictsView

    found = (
        [ruling for name in files.split(",") for ruling in read_records(name.strip())]
        if files
        else rule_here([lab for lab in labs if lab.claim])
    )
    rulings = [ruling for ruling in found if ruling.claim]
    if not rulings:
        raise CannotRun("No lab in these records puts a claim to the test.")
    VerdictsView(standard_output()).show(rulings)
    return foremost([ruling.status for ruling in rulings])


def read_records(name: str) -> list[Ruling]:
    """The runs of a file that --json wrote, of a lab's or of the matrix; raises UsageError."""
    hint = "invoke lab.all --json FILE writes them, and invoke kernel.matrix --json FILE."
    return read_file(name, read_rulings, "holds no records", hint)


def rule_here(labs: Sequence[Lab]) -> list[Ruling]:
    """Run labs on this kernel, and read what they leave; raises CannotRun."""
    return read_rulings(document([record_lab(lab) for lab in labs]))


def record_lab(lab: Lab) -> Record:
    """Run a lab on this kernel; raises CannotRun."""
    from labs.engine.runner import Options, open_place

    record = Record()
    with open_place(Options(), lambda: [record]) as run:
        run(lab)
    return record
