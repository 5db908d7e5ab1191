"""The help: what the keys of a screen do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Footer, Markdown

from labs.engine.learn.keys import add_key
from labs.engine.views.exercise import joined

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from labs.engine.learn.words import Say


class HelpScreen(ModalScreen[None]):
    """A page over the screen, until a key puts it away."""

    def __init__(self, text: str, say: Say) -> None:
        super().__init__()
        self._text = text
        add_key(self, "escape,question_mark,q", "dismiss", say("Back"))

    def compose(self) -> ComposeResult:
        """The page."""
        with VerticalScroll(id="help"):
            yield Markdown(joined(self._text), open_links=False)
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """Let the arrows scroll."""
        self.query_one("#help").focus()
