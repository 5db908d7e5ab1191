"""What `invoke kernel.list` shows: the kernels that are known, and which can be used here."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labs.engine.errors import CannotRun, ExitStatus, standard_output
from labs.engine.kernels.catalogue import KNOWN
from labs.engine.kernels.kernel import Machine
from labs.engine.kernels.store import find_stored

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HEADINGS = ("KERNEL", "MACHINE", "DEBIAN", "FETCHED", "USABLE HERE")
NOTHING = "-"


@dataclass(frozen=True)
class Lack:
    """What a machine lacks here, in a word or two, and the command that gives it, if one does."""

    what: str
    command: str = ""


def list_kernels() -> ExitStatus:
    """Print the host's kernel and all known ones, then the commands that get what is missing."""
    lacks = {machine: find_lacks(machine) for machine in Machine}
    releases = {
        known: stored.release for known in KNOWN if (stored := find_stored(known.full_name))
    }
    rows = [HEADINGS, ("this one", "the host", NOTHING, os.uname().release, "yes")]
    for known in KNOWN:
        missing = [f"no {lack.what}" for lack in lacks[known.machine]]
        if not missing and known not in releases:
            missing = ["not fetched"]
        row = (known.name, known.machine, known.suite, releases.get(known, NOTHING))
        rows.append((*row, ", ".join(missing) or "yes"))
    lines = [*render(rows)]
    commands = [lack.command for machine in Machine for lack in lacks[machine] if lack.command]
    wanted = [known.name for known in KNOWN if known not in releases]
    if wanted:
        commands.append(f"invoke kernel.fetch {','.join(wanted)}")
    if commands:
        lines += ["", "To get what is missing:", *(f"  {command}" for command in commands)]
    standard_output().write("\n".join([*lines, ""]))
    return ExitStatus.PASSED


def find_lacks(machine: Machine) -> Sequence[Lack]:
    """What a machine needs and this one does not have."""
    if machine is Machine.UML:
        fits = sys.platform == "linux" and os.uname().machine == "x86_64"
        return [] if fits else [Lack("x86-64 processor")]
    from labs.engine.kernels.qemu import check_qemu

    try:
        check_qemu()
    except CannotRun as error:
        return [Lack(error.message.partition(" ")[0], error.hint)]
    return []


def render(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows as lines, their cells one under the other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()
