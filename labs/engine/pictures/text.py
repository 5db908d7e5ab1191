"""A drawing as lines of text, for a terminal."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from labs.engine.pictures.drawing import (
    PLAIN_SIGNS,
    SIGNS,
    USERS,
    WIDE,
    Arrow,
    Band,
    Bar,
    Box,
    Columns,
    Gauge,
    Sign,
    Span,
    Words,
    user_style,
)

if TYPE_CHECKING:
    from labs.engine.pictures.drawing import Drawing, Shape

STYLES = {
    "user-0": "cyan",
    "user-1": "yellow",
    "user-2": "magenta",
    "user-3": "blue",
    "user-4": "bright_cyan",
    "user-5": "bright_yellow",
    "accepted": "green",
    "refused": "bold red",
    "loss": "red",
    "lost": "bold red",
    "answered": "green",
    "title": "bold",
    "dim": "dim",
    "host": "dim",
    "group": "dim",
    "namespace": "magenta",
    "open": "bold green",
    "bound": "bold yellow",
    "shut": "bold red",
    "bar": "cyan",
    "wake-up": "yellow",
    "unknown": "dim",
}
# Corners (from the left above, clockwise), a horizontal and a vertical line.
FRAMES = {
    "host": "┌┐┘└─│",
    "open": "╓╖╜╙─║",
    "bound": "╓╖╜╙─║",
    "shut": "╓╖╜╙─║",
    "group": "╭╮╯╰┄┊",
    "namespace": "╭╮╯╰┄┊",
}
PLAIN_FRAMES = {"host": "++++-|", "group": "....-:", "namespace": "....-:"}
PLAIN_DOOR = "####-#"
HEIGHTS = " ▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Piece:
    """A piece of a line, in a style that a terminal library knows; empty for none."""

    text: str
    style: str


Line: TypeAlias = tuple[Piece, ...]


def to_lines(drawing: Drawing, *, has_signs: bool = True) -> list[Line]:
    """The lines of a drawing; without signs in ASCII, but for names."""
    canvas = Canvas(drawing.columns, drawing.rows, has_signs=has_signs)
    for shape in drawing.shapes:
        canvas.draw(shape)
    return canvas.lines()


class Canvas:
    """Cells, each a character and its style; the second cell of a wide character is empty."""

    def __init__(self, columns: int, rows: int, *, has_signs: bool) -> None:
        self._columns = columns
        self._cells = [[(" ", "")] * columns for _ in range(rows)]
        self._has_signs = has_signs

    def lines(self) -> list[Line]:
        """All rows, pieces of the same style together, without spaces at their ends."""
        return [self._line(row) for row in self._cells]

    def draw(self, shape: Shape) -> None:
        """Draw a shape over what is there."""
        match shape:
            case Words():
                self._write(shape.column, shape.row, shape.text, STYLES.get(shape.style, ""))
            case Sign():
                self._draw_sign(shape)
            case Box():
                self._draw_box(shape)
            case Gauge():
                self._draw_gauge(shape)
            case Arrow():
                self._draw_arrow(shape)
            case Bar():
                full = self._pick("━", "=") * round(shape.length)
                self._write(shape.column, shape.row, full, STYLES[shape.style])
            case Band():
                self._draw_band(shape)
            case Columns():
                self._draw_columns(shape)
            case Span():
                self._draw_span(shape)

    # --- the shapes ---

    def _draw_sign(self, shape: Sign) -> None:
        signs = SIGNS if self._has_signs else PLAIN_SIGNS
        sign = self._pick("○", "?") if shape.user < 0 else signs[shape.user % USERS]
        self._write(shape.column, shape.row, sign, STYLES[user_style(shape.user)])

    def _draw_box(self, shape: Box) -> None:
        frame = FRAMES[shape.style]
        if not self._has_signs:
            frame = PLAIN_FRAMES.get(shape.style, PLAIN_DOOR)
        style = STYLES[shape.style]
        left, right = shape.column, shape.column + shape.width - 1
        if shape.height == 1:
            for column in (left, right):
                self._put(column, shape.row, frame[5], style)
            return
        bottom = shape.row + shape.height - 1
        self._write(left, shape.row, frame[0] + frame[4] * (shape.width - 2) + frame[1], style)
        self._write(left, bottom, frame[3] + frame[4] * (shape.width - 2) + frame[2], style)
        for row in range(shape.row + 1, bottom):
            self._put(left, row, frame[5], style)
            self._put(right, row, frame[5], style)
        if shape.title:
            self._write(left + 2, shape.row, f" {shape.title} ", STYLES["title"])

    def _draw_gauge(self, shape: Gauge) -> None:
        free = self._pick("▯", ".") * (shape.places - shape.taken)
        taken = self._pick("▮", "#") * shape.taken
        self._write(shape.column, shape.row, taken, "bold")
        self._write(shape.column + shape.taken, shape.row, free, "dim")

    def _draw_arrow(self, shape: Arrow) -> None:
        name, _, is_line = shape.style.partition(" ")
        style = STYLES[name]
        for begin, end in zip(shape.points, shape.points[1:], strict=False):
            self._draw_line(begin, end, style)
        for before, corner, after in zip(
            shape.points, shape.points[1:], shape.points[2:], strict=False
        ):
            self._put(*corner, self._corner(before, corner, after), style)
        if is_line:
            return
        (last_column, _), (column, row) = shape.points[-2:]
        head = self._pick("◀", "<") if column < last_column else self._pick("▶", ">")
        if name == "refused":
            head = self._pick("✘", "x")
        self._put(column, row, head, style)

    def _draw_line(self, begin: tuple[int, int], end: tuple[int, int], style: str) -> None:
        (left, right), (top, bottom) = (sorted(pair) for pair in zip(begin, end, strict=True))
        if top == bottom:
            self._write(left, top, self._pick("─", "-") * (right - left + 1), style)
            return
        for row in range(top, bottom + 1):
            self._put(left, row, self._pick("│", "|"), style)

    def _corner(
        self, before: tuple[int, int], corner: tuple[int, int], after: tuple[int, int]
    ) -> str:
        neighbours = (before, after)
        is_right = any(column > corner[0] for column, _ in neighbours)
        is_below = any(row > corner[1] for _, row in neighbours)
        return self._pick(
            {(True, True): "╭", (True, False): "╰", (False, True): "╮", (False, False): "╯"}[
                is_right, is_below
            ],
            "+",
        )

    def _draw_band(self, shape: Band) -> None:
        for row in range(shape.row, shape.row + shape.rows):
            for column in (shape.column, shape.end):
                self._put(min(round(column), self._columns - 1), row, self._pick("┊", ":"), "dim")

    def _draw_columns(self, shape: Columns) -> None:
        for column, height in enumerate(shape.heights, shape.column):
            if height:
                filled = self._pick(
                    HEIGHTS[max(1, round(height * 8))], "x" if shape.style == "lost" else "|"
                )
                self._put(column, shape.row, filled, STYLES[shape.style])

    def _draw_span(self, shape: Span) -> None:
        begin, end = round(shape.column), max(round(shape.column) + 1, round(shape.end))
        style = STYLES[user_style(shape.user)]
        self._write(begin, shape.row, self._pick("━", "=") * (end - begin), style)
        if shape.begins:
            self._put(begin, shape.row, self._pick("┣", "["), style)
        if shape.ends:
            self._put(end - 1, shape.row, self._pick("┫", "]"), style)

    # --- cells ---

    def _pick(self, sign: str, plain: str) -> str:
        return sign if self._has_signs else plain

    def _write(self, column: int, row: int, text: str, style: str) -> None:
        for letter in text:
            self._put(column, row, letter, style)
            column += 1
            if unicodedata.east_asian_width(letter) in WIDE:
                self._put(column, row, "", style)
                column += 1

    def _put(self, column: int, row: int, letter: str, style: str) -> None:
        if 0 <= column < self._columns and 0 <= row < len(self._cells):
            self._cells[row][column] = (letter, style)

    def _line(self, row: list[tuple[str, str]]) -> Line:
        pieces: list[Piece] = []
        length = max((number for number, (text, _) in enumerate(row, 1) if text.strip()), default=0)
        for text, style in row[:length]:
            if pieces and pieces[-1].style == style:
                pieces[-1] = Piece(pieces[-1].text + text, style)
            else:
                pieces.append(Piece(text, style))
        return tuple(pieces)
