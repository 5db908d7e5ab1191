"""The pictures of a run: one after each step, and one of what is now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labs.engine.model import StepEnded
from labs.engine.views.pane import make_text_view

if TYPE_CHECKING:
    from rich.text import Text

    from labs.engine.model import Event


class Pictures:
    """Takes a run's events, and draws."""

    def __init__(self, language: str, *, has_signs: bool) -> None:
        self._language = language
        self._has_signs = has_signs
        self._ended: dict[int, StepEnded] = {}

    @property
    def steps(self) -> list[int]:
        """The steps that have a picture."""
        return [*self._ended]

    def take(self, event: Event) -> None:
        """Take the next event."""
        if isinstance(event, StepEnded):
            self._ended[event.number] = event

    def draw(self, step: int | None, width: int) -> Text:
        """The picture after a step, None for now, in so many columns."""
        drawn: list[Text] = []
        view = make_text_view(width, drawn.append, has_signs=self._has_signs)
        last = self._ended.get(step or max(self._ended, default=0))
        view.show_evidence(last.evidence if last else (), {}, self._language)
        return drawn[0]
