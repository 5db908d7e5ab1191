"""Proves a challenge: its solution passes, its template and each wrong solution fail."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from labs.engine.attempt import Attempt
from labs.engine.backends.namespaces.backend import open_namespaces
from labs.engine.errors import ExitStatus
from labs.engine.layout import Layout
from labs.engine.model import Advised, RunEnded, Skipped, StepEnded, StepStarted
from labs.engine.model import Verdict as Judgement
from labs.engine.runner import run_lab
from labs.engine.submission import single_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
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
    """What the check said of a program: its status, the name of its hint, an error's text.

    `step` is the title of the step that went otherwise, `obstacle` why this kernel or backend
    cannot judge it.
    """

    status: ExitStatus
    advice: str = ""
    error: str = ""
    step: str = ""
    obstacle: str = ""

    def problem(self, case: Case) -> str:
        """In what it is not what the case asks for; empty where it is, or could not be judged."""
        if self.obstacle:
            return ""
        if self.error:
            return self.error
        if self.status is not case.status:
            at = f", at the step {self.step!r}" if self.step else ""
            return f"its check ended with status {int(self.status)}, not {int(case.status)}{at}"
        if case.advice and case.advice != self.advice:
            got = f"the advice {self.advice}" if self.advice else "no advice"
            return f"it got {got}, not {case.advice}"
        return ""


def list_cases(challenge: Challenge) -> Iterator[Case]:
    """All programs of a challenge; a wrong one is named for the advice that it is to get."""
    yield Case(challenge, challenge.template, ExitStatus.UNSOLVED)
    yield Case(challenge, challenge.solution, ExitStatus.PASSED)
    for path in challenge.wrong:
        yield Case(challenge, path, ExitStatus.UNSOLVED, name_of_advice(path))


def name_of_advice(path: Path) -> str:
    """The advice that a wrong program is named for."""
    return path.name.split(".")[0]


def prove(case: Case, seed: int | None = None) -> Verdict:
    """Run a challenge's check on one of its programs; raises CannotRun."""
    events: list[Event] = []
    attempt = Attempt(case.challenge, single_file(case.program))
    with open_namespaces() as backend:
        status = run_lab(attempt, backend, Layout(seed), [events.append])
    return summarize(status, events)


def summarize(status: ExitStatus, events: Sequence[Event]) -> Verdict:
    """What a run of a check came to, by its events."""
    verdict = Verdict(status)
    title = ""
    for event in events:
        match event:
            case StepStarted():
                title = event.title
            case Advised():
                verdict = replace(verdict, advice=event.name)
            case StepEnded(outcome=Skipped(reason=reason)):
                verdict = replace(verdict, obstacle=reason)
            case StepEnded() if event.verdict is Judgement.DIFFERS:
                verdict = replace(verdict, step=title)
            case RunEnded():
                verdict = replace(verdict, error=event.error)
    if status is ExitStatus.CANNOT_RUN:
        return replace(verdict, obstacle=verdict.obstacle or verdict.error)
    return replace(verdict, obstacle="")
