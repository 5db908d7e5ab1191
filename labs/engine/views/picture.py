"""The terminal view with a picture after each step, where it has tables of sockets otherwise."""

from __future__ import annotations

from typing import TextIO

from rich.text import Text

from labs.engine.model import Event, RunStarted, StepEnded
from labs.engine.pictures.album import Album
from labs.engine.pictures.layout import draw
from labs.engine.pictures.text import to_lines
from labs.engine.translation import ENGLISH
from labs.engine.views.terminal import INDENT, TEXT_WIDTH, TerminalView


class PictureView(TerminalView):
    """Writes a run and draws it to a stream as it goes on."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._album = Album()
        self._language = ENGLISH

    def __call__(self, event: Event) -> None:
        """Write the next event."""
        self._album(event)
        if isinstance(event, RunStarted):
            self._language = event.language
        super().__call__(event)

    def _print_evidence(self, event: StepEnded) -> None:
        picture = self._album.picture
        if not event.evidence or picture.is_empty:  # nobody has looked after that
            return
        columns = min(self._console.width, TEXT_WIDTH) - INDENT
        self._print()
        for line in to_lines(draw(picture, columns, self._language), has_signs=self._has_signs):
            pieces = [(piece.text, piece.style) for piece in line]
            self._print(Text.assemble(" " * INDENT, *pieces))
        self._print()
