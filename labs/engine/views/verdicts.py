"""Claims, what came of each, and the kernels on which it was measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from rich.text import Text

from labs.engine.errors import ExitStatus
from labs.engine.model import Finding
from labs.engine.views.terminal import make_console

if TYPE_CHECKING:
    from collections.abc import Sequence

    from labs.engine.model import Concluded
    from labs.engine.rulings import Ruling

STYLES = {Finding.HOLDS: "green", Finding.CONDITIONAL: "yellow", Finding.REFUTED: "red"}
NOT_SHOWN = {
    ExitStatus.DIFFERS: "not shown: a step went otherwise than the lab expects",
    ExitStatus.CANNOT_RUN: "not shown: the lab cannot run there",
    ExitStatus.FAILED: "not shown: the run was not carried through",
    ExitStatus.PASSED: "not shown: the lab concludes nothing",
}


class VerdictsView:
    """Writes to a stream; plain text unless that is a terminal with colour."""

    def __init__(self, stream: TextIO) -> None:
        self._console = make_console(stream)

    def show(self, rulings: Sequence[Ruling]) -> None:
        """Each claim once, then each conclusion with the kernels that came to it."""
        claims = dict.fromkeys((ruling.lab, ruling.claim) for ruling in rulings)
        for number, (lab, claim) in enumerate(claims):
            if number:
                self._console.write_line()
            self._console.write_line(Text.assemble((lab, "bold"), "  ", claim))
            kernels: dict[Concluded | ExitStatus, dict[str, None]] = {}
            for ruling in rulings:
                if (ruling.lab, ruling.claim) == (lab, claim):
                    shown = ruling.conclusion or ruling.status
                    kernels.setdefault(shown, {})[ruling.kernel] = None
            for shown, names in kernels.items():
                self._show_conclusion(shown, [*names])

    def _show_conclusion(self, shown: Concluded | ExitStatus, kernels: Sequence[str]) -> None:
        if isinstance(shown, ExitStatus):
            self._print_wrapped(Text(NOT_SHOWN[shown], "bold red"))
        else:
            style = STYLES[shown.finding]
            self._print_wrapped(Text.assemble((f"{shown.finding}: ", style), shown.fact))
        self._print_wrapped(Text(f"Linux {', '.join(kernels)}", "dim"))

    def _print_wrapped(self, text: Text) -> None:
        for line in self._console.indented(text):
            self._console.write_line(line)
