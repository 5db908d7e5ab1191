"""The pictures of a run: one after each step, and one of what is now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labs.engine.model import StepEnded
from labs.engine.pictures.album import Album
from labs.engine.pictures.layout import draw
from labs.engine.pictures.text import to_lines
from labs.engine.views.pane import picture_rows

if TYPE_CHECKING:
    from labs.engine.model import Event
    from labs.engine.pictures.scene import Picture
    from labs.engine.views.pane import Row


class Pictures:
    """Takes a run's events, and draws."""

    def __init__(self, language: str, *, has_signs: bool) -> None:
        self._language = language
        self._has_signs = has_signs
        self._album = Album()
        self._of_steps: dict[int, Picture] = {}

    @property
    def steps(self) -> list[int]:
        """The steps that have a picture."""
        return [*self._of_steps]

    def take(self, event: Event) -> None:
        """Take the next event."""
        self._album(event)
        if isinstance(event, StepEnded):
            self._of_steps[event.number] = self._album.picture

    def draw(self, step: int | None, width: int) -> list[Row]:
        """The picture after a step, None for now, in so many columns."""
        picture = self._album.picture if step is None else self._of_steps[step]
        lines = to_lines(draw(picture, width, self._language), has_signs=self._has_signs)
        return picture_rows(((piece.text, piece.style) for piece in line) for line in lines)
