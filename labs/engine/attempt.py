"""An attempt at a challenge: its check, run with one submission, as a run of the engine's."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labs.engine.errors import ExitStatus
from labs.engine.model import Verdict
from labs.engine.script import judge
from labs.engine.trial import Trial, TrialOver

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from labs.engine.agent import Message
    from labs.engine.challenge import Challenge
    from labs.engine.session import Session
    from labs.engine.submission import Submission
    from labs.engine.translation import Translation


@dataclass(frozen=True)
class Attempt:
    """A challenge and the submission that is to solve it."""

    challenge: Challenge
    submission: Submission

    @property
    def name(self) -> str:
        """The challenge's name."""
        return self.challenge.name

    @property
    def title(self) -> str:
        """What the program is to do, in one line."""
        return self.challenge.title

    @property
    def claim(self) -> str:
        """A challenge puts no claim to the test."""
        return ""

    @property
    def folder(self) -> Path:
        """Where the check's texts are."""
        return self.challenge.folder

    @property
    def file(self) -> str:
        """The check's script."""
        return self.challenge.script.__code__.co_filename

    @property
    def request(self) -> Message:
        """What an isolated kernel is asked for; it reads the submission itself."""
        return {"challenge": self.name, "folder": str(self.submission.folder.absolute())}

    def play(self, session: Session, translation: Translation) -> None:
        """Run the check, until a step goes otherwise."""
        trial = Trial(session, translation, self.submission, self.challenge.advice)
        with contextlib.suppress(TrialOver):
            self.challenge.script(trial)

    def judge(self, verdicts: Sequence[Verdict]) -> ExitStatus:
        """Solved is what met every requirement; one that a kernel cannot judge is not met."""
        status = judge(verdicts)
        if status is ExitStatus.DIFFERS:
            return ExitStatus.UNSOLVED
        return ExitStatus.CANNOT_RUN if Verdict.SKIPPED in verdicts else status
