"""A run told in a part of a screen: as on a terminal, in lines that are no wider than that part."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, TypeAlias

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from labs.engine.views.terminal import INDENT, PipeConsole, TextView

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Lines: TypeAlias = Text
"""Lines with their styles."""

MARGIN = re.compile(r" *")


def make_text_view(width: int, write: Callable[[Lines], None], *, has_signs: bool) -> TextView:
    """What tells a run in lines of at most so many columns; `write` takes what there is."""
    console = PipeConsole(file=io.StringIO(), width=width)

    def write_wrapped(text: Text) -> None:
        lines = [part for line in text.split("\n", allow_blank=True) for part in wrapped(line)]
        write(joined_lines(lines))

    def wrapped(line: Text) -> Iterable[Text]:
        if cell_len(line.plain) <= width:
            return [line]
        margin = MARGIN.match(line.plain)
        assert margin
        indent = min(margin.end() + INDENT, width // 2)
        first, *others = line.wrap(console, width)
        rest = Text("").join(others)
        return [first, *(Text(" " * indent) + part for part in rest.wrap(console, width - indent))]

    return TextView(console, write_wrapped, has_signs=has_signs)


def joined_lines(lines: Iterable[Text]) -> Lines:
    """Lines as one text."""
    return Text("\n").join(lines)


def assembled(lines: Iterable[Iterable[tuple[str, str]]]) -> Lines:
    """Lines of pieces, each with its style, as one text."""
    return joined_lines(Text.assemble(*line) for line in lines)


def shortened(text: str, width: int) -> str:
    """A text that takes at most so many columns."""
    return text if cell_len(text) <= width else set_cell_size(text, width - 1).rstrip() + "\u2026"
