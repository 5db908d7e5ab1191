"""Where one may go in the course: what a screen asks the application to open."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.message import Message

if TYPE_CHECKING:
    from labs.engine.challenge import Challenge
    from labs.engine.learn.chapters import Chapter


class OpenLab(Message):
    """Open a lab."""

    def __init__(self, chapter: Chapter) -> None:
        super().__init__()
        self.chapter = chapter


class OpenExercise(Message):
    """Begin an exercise, or go on with it."""

    def __init__(self, challenge: Challenge) -> None:
        super().__init__()
        self.challenge = challenge
