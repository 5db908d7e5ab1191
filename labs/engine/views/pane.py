"""Runs, pages and pictures as rows for a part of a screen, none wider than that part."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, TypeAlias

from rich.cells import cell_len, set_cell_size
from rich.markdown import Markdown
from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from rich.theme import Theme

from labs.engine.views.exercise import joined
from labs.engine.views.terminal import INDENT, TEXT_WIDTH, PipeConsole, TextView

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


Row: TypeAlias = list[Segment]
"""A line as pieces, each with its style."""

PieceStyle: TypeAlias = Style
"""How a piece looks."""

MARGIN = re.compile(r" *")
PAGE = Theme(
    {
        "markdown.h2": "bold underline",
        "markdown.h3": "bold",
        "markdown.code": "cyan",
        "markdown.code_block": "",
        "markdown.item.bullet": "dim",
        "markdown.item.number": "dim",
        "markdown.link": "",
        "markdown.link_url": "dim",
    }
)


class PaneView:
    """Tells a run in rows of at most so many columns; `write` takes those that have come."""

    def __init__(
        self, width: int, write: Callable[[Sequence[Row]], None], *, has_signs: bool
    ) -> None:
        self._console = make_console(width)
        self._write = write
        self._view = TextView(self._console, self._write_text, has_signs=has_signs)
        self.take = self._view

    def calls_so_far(self) -> list[Row]:
        """The calls of the step that is open."""
        return self._rows(self._view.calls_so_far())

    def _write_text(self, text: Text) -> None:
        self._write(self._rows(text.split("\n", allow_blank=True)))

    def _rows(self, lines: Iterable[Text]) -> list[Row]:
        return [[*part.render(self._console)] for line in lines for part in self._wrapped(line)]

    def _wrapped(self, line: Text) -> Iterable[Text]:
        """A line that goes on further to the right where it is too long."""
        width = self._console.width
        if cell_len(line.plain) <= width:
            return [line]
        margin = MARGIN.match(line.plain)
        assert margin
        indent = min(margin.end() + INDENT, width // 2)
        first, *others = line.wrap(self._console, width)
        rest = Text("").join(others).wrap(self._console, width - indent)
        return [first, *(Text(" " * indent) + part for part in rest)]


def make_console(width: int) -> PipeConsole:
    """A console that writes nowhere."""
    return PipeConsole(
        file=io.StringIO(),
        width=width,
        force_terminal=True,
        color_system="standard",
        highlight=False,
        emoji=False,
        theme=PAGE,
    )


def page_rows(markdown: str, width: int) -> list[Row]:
    """A page of Markdown, in so many columns as can be read well."""
    text = re.sub(r"^# ", "## ", markdown)  # the first heading would be put in the middle
    page = Markdown(joined(text), code_theme="ansi_dark", hyperlinks=False)
    console = make_console(min(width, TEXT_WIDTH))
    rows: list[Row] = console.render_lines(page, pad=False)
    # rich puts an empty line above a heading, the first one too.
    return rows if any(piece.text.strip() for piece in rows[0]) else rows[1:]


def picture_rows(lines: Iterable[Iterable[tuple[str, str]]]) -> list[Row]:
    """Lines of pieces, each with its style."""
    console = make_console(TEXT_WIDTH)
    return [[Segment(text, console.get_style(style)) for text, style in line] for line in lines]


def columns_of(text: str) -> int:
    """How many columns a text takes."""
    return cell_len(text)


def shortened(text: str, width: int) -> str:
    """A text that takes at most so many columns."""
    return text if cell_len(text) <= width else set_cell_size(text, width - 1).rstrip() + "\u2026"
