"""Proves a challenge: its solution passes, its template and each wrong solution fail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from labs.engine.attempt import Attempt
from labs.engine.backends.namespaces.backend import open_namespaces
from labs.engine.errors import ExitStatus
from labs.engine.layout import Layout
from labs.engine.model import Advised, RunEnded
from labs.engine.runner import run_lab
from labs.engine.submission import single_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from labs.engine.challenge import Challenge
    from labs.engine.model import Event


@dataclass(frozen=True)
class Case:
    """A program of a challenge's own, and what its check is to say of it.

    `advice` is the name of the hint that it is to get; empty where any will do.
    """

    challenge: Challenge
    program: Path
    status: ExitStatus
    advice: str = ""

    def __str__(self) -> str:
        return f"{self.challenge.name}/{self.program.relative_to(self.challenge.folder)}"


@dataclass(frozen=True)
class Verdict:
    """What the check said of a program: its status, the name of its hint, an error's text."""

    status: ExitStatus
    advice: str = ""
    error: str = ""

    def problem(self, case: Case) -> str:
        """In what it is not what the case asks for; empty where it is."""
        if self.error:
            return self.error
        if self.status is not case.status:
            return f"its check ended with status {int(self.status)}, not {int(case.status)}"
        if case.advice and case.advice != self.advice:
            return f"it got the advice {self.advice or 'of nothing'}, not {case.advice}"
        return ""


def list_cases(challenge: Challenge) -> Iterator[Case]:
    """All programs of a challenge; a wrong one is named for the advice that it is to get."""
    yield Case(challenge, challenge.template, ExitStatus.UNSOLVED)
    yield Case(challenge, challenge.solution, ExitStatus.PASSED)
    for path in challenge.wrong:
        yield Case(challenge, path, ExitStatus.UNSOLVED, path.name.split(".")[0])


def prove(case: Case, seed: int | None = None) -> Verdict:
    """Run a challenge's check on one of its programs; raises CannotRun."""
    advice: list[Advised] = []
    ends: list[RunEnded] = []

    def note(event: Event) -> None:
        match event:
            case Advised():
                advice.append(event)
            case RunEnded():
                ends.append(event)

    attempt = Attempt(case.challenge, single_file(case.program))
    with open_namespaces() as backend:
        status = run_lab(attempt, backend, Layout(seed), [note])
    name = advice[-1].name if advice else ""
    return Verdict(status, name, ends[-1].error if ends else "")
