"""What all screens of the course have: a title, keys in the trainee's language, a smallest size."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.screen import Screen
from textual.widgets import Static

from labs.engine.learn.help import HelpScreen
from labs.engine.learn.keys import add_key
from labs.engine.learn.lines import KeyLine, TitleLine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from textual import events
    from textual.app import ComposeResult
    from textual.binding import BindingType
    from textual.widget import Widget

    from labs.engine.translation import Say

LEAST_COLUMNS, LEAST_ROWS = 80, 24
TOO_SMALL = "-too-small"


class CourseScreen(Screen[None]):
    """A screen with a line for its title, its content, and the keys below."""

    BINDINGS: ClassVar[list[BindingType]] = []
    AUTO_FOCUS = ""

    def __init__(self, say: Say) -> None:
        super().__init__()
        self.say = say
        self.add_keys()
        add_key(self, "question_mark", "help", say("Help"))

    def add_keys(self) -> None:
        """Add the screen's own keys, in the order in which they are shown."""

    def compose(self) -> ComposeResult:
        """The lines of the screen."""
        yield TitleLine()
        yield from self.compose_content()
        yield Static(id="too-small", markup=False)
        yield KeyLine()

    def compose_content(self) -> Iterator[Widget]:
        """What stands between the title and the keys."""
        yield from ()

    def help_text(self) -> str:
        """What the help says of this screen, in Markdown."""
        return ""

    def action_help(self) -> None:
        """Show the help."""
        self.app.push_screen(HelpScreen(self.help_text(), self.say))

    def on_resize(self, event: events.Resize) -> None:
        """Say so where the terminal is too small for what is to be shown."""
        columns, rows = event.size
        is_too_small = columns < LEAST_COLUMNS or rows < LEAST_ROWS
        self.set_class(is_too_small, TOO_SMALL)
        if is_too_small:
            values = {
                "columns": LEAST_COLUMNS,
                "rows": LEAST_ROWS,
                "width": columns,
                "height": rows,
            }
            needs = self.say("bindlab needs at least {columns} by {rows}.", values)
            has = self.say("This terminal has {width} by {height}: make it larger.", values)
            self.query_one("#too-small", Static).update(f"{needs}\n{has}")

    def set_title(self, name: str, state: str = "") -> None:
        """Show what this is, and at the right how far it is."""
        self.query_one(TitleLine).show(name, state)
