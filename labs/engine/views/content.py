"""Labs as their authors see them: a line for each, what is wrong with it, and a sum."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TextIO

from rich.text import Text

from labs.engine.errors import ExitStatus
from labs.engine.views.terminal import INDENT, make_console

if TYPE_CHECKING:
    from collections.abc import Sequence

    from labs.engine.authoring.result import Result

SIGNS = {
    ExitStatus.PASSED: ("✔", "ok", "green"),
    ExitStatus.CANNOT_RUN: ("–", "not proved", "yellow"),
    ExitStatus.FAILED: ("✘", "WRONG", "bold red"),
}
ERASE = "\r\x1b[K"  # what is in a terminal's line, from its beginning on


class ContentView:
    """Writes to a stream; plain text unless that is a terminal with colour."""

    def __init__(self, stream: TextIO) -> None:
        self._console = make_console(stream)
        self._has_signs = (stream.encoding or "").lower().startswith("utf")
        self._passing = False

    def show_result(self, result: Result) -> None:
        """A lab that is done."""
        self._erase()
        sign, word, style = SIGNS[result.status]
        line = Text.assemble((sign if self._has_signs else word, style), "  ")
        line.append(f"{result.lab:12}", "bold").append(f"  {describe(result)}")
        self._console.write_line(line)
        here = f"{os.getcwd()}/"
        for problem in result.problems:
            where, what = problem.where.replace(here, ""), problem.what.replace(here, "")
            text = Text(" " * INDENT).append(where, "cyan")
            self._console.write_line(text.append(f": {' '.join(what.split())}"))

    def show_progress(self, labs: Sequence[str], proofs: int) -> None:
        """On a terminal: which lab is waited for, and how many proofs are left."""
        if self._console.is_terminal and labs:
            self._erase()
            text = Text(f"...  {labs[0]:12}  {count(proofs, 'proof')} to go", "dim")
            self._console.print(text, end="", soft_wrap=True)
            self._passing = True

    def show_sum(self, results: Sequence[Result], seconds: float, *, is_quick: bool) -> None:
        """What all labs come to."""
        self._erase()
        broken = [result for result in results if result.problems]
        challenges = sum(result.challenges for result in results)
        proofs = sum(result.proofs for result in results)
        unproved = sum(result.unproved for result in results)
        proved = "without proofs" if is_quick else count(proofs, "proof")
        said = f"{count(len(results), 'lab')}, {count(challenges, 'challenge')}, {proved}"
        line = Text(f"{said}, in {seconds:.1f} s: ")
        problems = sum(len(result.problems) for result in results)
        if broken:
            where = count(len(broken), "lab")
            line.append(f"{count(problems, 'problem')} in {where}", "bold red")
        elif unproved:
            line.append(f"nothing wrong so far, {count(unproved, 'proof')} left out", "yellow")
        else:
            line.append("nothing wrong", "green")
        self._console.write_line()
        self._console.write_line(line)

    def show_obstacle(self, message: str, hint: str) -> None:
        """Why no proof was carried out."""
        self._console.write_line(Text(f"No proof was carried out. {message}", "yellow"))
        for line in hint.splitlines():
            self._console.write_line(Text(f"  {line}"))

    def _erase(self) -> None:
        if self._passing:
            self._passing = False
            self._console.file.write(ERASE)


def describe(result: Result) -> str:
    """What was checked of a lab, and what came of it."""
    if result.problems:
        return count(len(result.problems), "problem")
    said = count(result.challenges, "challenge")
    if result.proofs:
        said += f", {count(result.proofs, 'proof')}"
    if result.unproved:
        said += f", {count(result.unproved, 'proof')} left out: {result.obstacle}"
    return said


def count(number: int, what: str) -> str:
    """So many of something."""
    return f"{number} {what}{'s' * (number != 1)}"
