"""The help: what the keys of a screen do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.screen import ModalScreen

from labs.engine.learn.keys import add_key
from labs.engine.learn.lines import KeyLine
from labs.engine.learn.panes import TextPane

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from labs.engine.translation import Say

FRAME = 2  # rows


class HelpPane(TextPane):
    """A page that is as high as what it has to say."""

    def show_strips(self) -> None:
        """Take as much room as there is to show."""
        self.styles.height = len(self._strips) + FRAME
        super().show_strips()


class HelpScreen(ModalScreen[None]):
    """A page over the screen, until a key puts it away."""

    def __init__(self, text: str, say: Say) -> None:
        super().__init__()
        self._text = text
        add_key(self, "escape,question_mark,q", "dismiss", say("Back"))

    def compose(self) -> ComposeResult:
        """The page."""
        yield HelpPane("help", "")
        yield KeyLine()

    def on_mount(self) -> None:
        """Let the arrows scroll."""
        page = self.query_one(HelpPane)
        page.show([self._text])
        page.focus()
