"""What came of checking a lab, and of checking them all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from labs.engine.errors import ExitStatus

if TYPE_CHECKING:
    from labs.engine.authoring.problem import Problem


@dataclass(frozen=True)
class Result:
    """What came of one lab: how many proofs of its challenges were carried out, what is wrong.

    `unproved` is how many could not be carried out here, and `obstacle` why one of them.
    """

    lab: str
    challenges: int
    proofs: int = 0
    problems: tuple[Problem, ...] = ()
    unproved: int = 0
    obstacle: str = ""

    @property
    def status(self) -> ExitStatus:
        """Broken content is a fault; what could not be proved is no pass."""
        if self.problems:
            return ExitStatus.FAILED
        return ExitStatus.CANNOT_RUN if self.unproved else ExitStatus.PASSED
