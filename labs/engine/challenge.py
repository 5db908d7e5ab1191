"""What a challenge's check is written with: a trial of the trainee's program, and its steps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from labs.engine.model import Address, ProcessRow, SocketRow
from labs.engine.programs import Program
from labs.engine.script import (
    EACCES,
    EADDRINUSE,
    EADDRNOTAVAIL,
    ECONNREFUSED,
    HTTP_GET,
    OK,
    Answers,
    CallError,
    Host,
    Process,
    Socket,
    between,
    exactly,
)
from labs.engine.trial import Requirement, Trial

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = [
    "EACCES",
    "EADDRINUSE",
    "EADDRNOTAVAIL",
    "ECONNREFUSED",
    "HTTP_GET",
    "OK",
    "Address",
    "Answers",
    "CallError",
    "Challenge",
    "Host",
    "Process",
    "ProcessRow",
    "Program",
    "Requirement",
    "Socket",
    "SocketRow",
    "Trial",
    "between",
    "challenge",
    "exactly",
]

TEMPLATE = "template.py"
SOLUTION = "solution.py"


@dataclass(frozen=True)
class Challenge:
    """An exercise at a lab's end: the trainee's own program, judged by what it does.

    `hints` are graded: each says more than the one before. `advice` fits one mistake each, and the
    check chooses it by what it has seen. Beside its script stand the task and why the solution
    works, in each language, the template, the solution, and wrong ones named for their advice.
    """

    name: str
    title: str
    script: Callable[[Trial], None]
    hints: Sequence[str]
    advice: Mapping[str, str]

    @property
    def folder(self) -> Path:
        """Where its script is, and what belongs to it."""
        return Path(self.script.__code__.co_filename).parent

    @property
    def lab(self) -> str:
        """The name of the lab at whose end it stands."""
        return self.folder.parent.parent.name

    @property
    def template(self) -> Path:
        """The program that a trainee begins with."""
        return self.folder / TEMPLATE

    @property
    def solution(self) -> Path:
        """A program that passes."""
        return self.folder / SOLUTION

    @property
    def wrong(self) -> list[Path]:
        """Programs that fail, each with the advice that its name begins with."""
        return sorted((self.folder / "wrong").glob("*.py"))

    def task(self, language: str) -> Path:
        """What is asked for."""
        return self.folder / f"task.{language}.md"

    def why(self, language: str) -> Path:
        """Why the solution works; for those who have passed."""
        return self.folder / f"why.{language}.md"


def challenge(
    name: str, *, title: str, hints: Sequence[str], advice: Mapping[str, str]
) -> Callable[[Callable[[Trial], None]], Challenge]:
    """Make a function of a trial into the challenge of this name."""

    def make(script: Callable[[Trial], None]) -> Challenge:
        return Challenge(name, title, script, hints, advice)

    return make
