"""The lines around a screen's content: its title, what may be done now, and the keys.

Each is one widget that is drawn anew and not laid out anew: a key waits for neither.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.content import Content
from textual.widgets import Static

from labs.engine.views.pane import columns_of, shortened

if TYPE_CHECKING:
    from textual import events
    from textual.screen import Screen

GAP = 2  # columns


class TitleLine(Static):
    """What a screen is, and at the right how far it is."""

    def __init__(self) -> None:
        super().__init__(id="title", markup=False)
        self._name = self._state = ""

    def show(self, name: str, state: str) -> None:
        """Show another title."""
        if (name, state) != (self._name, self._state):
            self._name, self._state = name, state
            self._draw()

    def on_resize(self, _event: events.Resize) -> None:
        """Fit it to the width."""
        self._draw()

    def _draw(self) -> None:
        state = f"{self._state} "
        room = max(self.size.width - columns_of(state) - GAP, 1)
        name = shortened(f" {self._name}", room)
        blanks = " " * (room + GAP - columns_of(name))
        self.update(Content.assemble(name, blanks, (state, "not bold")), layout=False)


class WordLine(Static):
    """What may be done now; empty where there is nothing to say."""

    def __init__(self) -> None:
        super().__init__(id="word", markup=False)
        self._text = ""

    def show(self, text: str) -> None:
        """Say something else."""
        if text != self._text:
            is_as_high = text.count("\n") == self._text.count("\n")
            is_short = max(map(columns_of, text.split("\n"))) < self.size.width - GAP
            self._text = text
            self.update(text, layout=not (is_as_high and is_short))


class KeyLine(Static):
    """The keys that do something now, in the order in which the screen has them."""

    def __init__(self) -> None:
        super().__init__(id="keys", markup=False)
        self._text = Content("")

    def on_mount(self) -> None:
        """Follow what the keys do."""
        self.screen.bindings_updated_signal.subscribe(self, self._draw)
        self.call_after_refresh(self._draw, self.screen)

    def _draw(self, screen: Screen[None]) -> None:
        shown: dict[str, Content] = {}
        for _, binding, is_enabled, _ in screen.active_bindings.values():
            if binding.show and is_enabled:
                key = self.app.get_key_display(binding)
                what = Content.assemble((key, "$text-accent bold"), f" {binding.description}")
                shown.setdefault(binding.action, what)
        text = Content("  ").join(shown.values())
        if text != self._text:
            is_as_high = max(len(text), len(self._text)) < self.size.width - GAP
            self._text = text
            self.update(text, layout=not is_as_high)
