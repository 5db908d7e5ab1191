"""The course as a list: each lab, and after it its exercises, with how far one is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from labs.engine.catalogue import LABS, find_challenges, find_labs
from labs.engine.exercises.progress import open_lab_progress, open_progress
from labs.engine.translation import read_translation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from labs.engine.challenge import Challenge
    from labs.engine.exercises.progress import Entry, LabEntry
    from labs.engine.script import Lab


@dataclass(frozen=True)
class Chapter:
    """A lab and its exercises, as one meets them."""

    number: int
    lab: Lab
    challenges: tuple[Challenge, ...]

    def title(self, language: str) -> str:
        """The lab's title."""
        return read_translation(self.lab.folder, language).text(self.lab.title)

    def brief(self, language: str) -> Path:
        """The page to read before."""
        return LABS / self.lab.name / f"brief.{language}.md"


@dataclass(frozen=True)
class Standing:
    """How far one is: labs that were run and exercises that were begun, by name."""

    labs: Mapping[str, LabEntry]
    exercises: Mapping[str, Entry]

    def is_run(self, lab: str) -> bool:
        """Whether a lab was run to its end."""
        return lab in self.labs

    def is_solved(self, exercise: str) -> bool:
        """Whether an exercise was passed."""
        entry = self.exercises.get(exercise)
        return bool(entry and entry.passed)

    def next_of(self, chapters: Sequence[Chapter]) -> str:
        """The lab or exercise to go on with: the first that is not done; empty where all are."""
        for chapter in chapters:
            if not self.is_run(chapter.lab.name):
                return chapter.lab.name
            for challenge in chapter.challenges:
                if not self.is_solved(challenge.name):
                    return challenge.name
        return ""


def find_chapters() -> list[Chapter]:
    """All labs with their exercises, in the order of the course; raises EngineError."""
    challenges = find_challenges()
    return [
        Chapter(number, lab, tuple(each for each in challenges if each.lab == lab.name))
        for number, lab in enumerate(find_labs(), 1)
    ]


def read_standing() -> Standing:
    """How far this user is; UsageError for a file that cannot be read."""
    return Standing(open_lab_progress().read(), open_progress().read())
