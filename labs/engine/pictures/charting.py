"""Lays charts out on a grid of terminal cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labs.engine.model import OUTCOMES
from labs.engine.pictures.chart import Bars, Course, Strips
from labs.engine.pictures.drawing import Band, Bar, Columns, Sign, Span, Words, cell_width, shorten

if TYPE_CHECKING:
    from collections.abc import Sequence

    from labs.engine.pictures.chart import Chart, Life
    from labs.engine.pictures.drawing import Shape
    from labs.engine.translation import Say

LONGEST_LABEL = 16
MOST_BARS = 12
MARGIN = 2
LOWEST = 0.15  # the height of the smallest count that is not 0
LOST = ("lost", "refused")  # the styles of columns and of words


def lay_chart(chart: Chart, columns: int, row: int, say: Say) -> tuple[list[Shape], int]:
    """The shapes of a chart that begins at a row, and how many rows it has."""
    title = Words(0, row, shorten(chart.what, columns), "title")
    match chart:
        case Bars():
            shapes, rows = lay_bars(chart, columns, row + 1, say)
        case Strips():
            shapes, rows = lay_strips(chart, columns, row + 1, say)
        case Course():
            shapes, rows = lay_course(chart, columns, row + 1, say)
    return [title, *shapes], rows + 1


def lay_bars(chart: Bars, columns: int, row: int, say: Say) -> tuple[list[Shape], int]:
    """A bar for each part, its number beside it, and the band that chance allows behind them."""
    table = Table([(say(name), value) for name, value in chart.bars], columns, row, say)
    # No bar and no band reaches the numbers.
    most = 1.05 * max(table.most, chart.band[1] if chart.band else 0, 1)
    shapes: list[Shape] = []
    if chart.band:
        low, high = (table.start + bound / most * table.room for bound in chart.band)
        shapes.append(Band(low, high, row, len(table.shown)))
    for line, (name, value) in enumerate(chart.bars[:MOST_BARS], row):
        is_loss = name in chart.losses and value > 0
        style = "loss" if name in chart.losses else "bar"
        shapes.append(Bar(table.start, line, value / most * table.room, style))
        shapes += table.lay_words(line, "refused" if is_loss else "")
    notes = []
    if chart.band:
        bounds = {"low": f"{chart.band[0]:g}", "high": f"{chart.band[1]:g}"}
        notes.append(say("chance allows {low} to {high} for each (99.9 %)", bounds))
    return [*shapes, *table.lay_notes(notes)], table.rows + len(notes)


def lay_strips(chart: Strips, columns: int, row: int, say: Say) -> tuple[list[Shape], int]:
    """A strip for each process: a mark for each time it woke, as far as there is room."""
    table = Table(chart.strips, columns, row, say)
    each = max(1, -(-round(table.most) // table.room))  # how often a mark stands for
    shapes: list[Shape] = []
    for line, (_, value) in enumerate(table.shown, row):
        marks = -(-round(value) // each)
        shapes.append(Columns(table.start, line, (0.6,) * marks, "wake-up"))
        shapes += table.lay_words(line)
    text = "a mark for each wake-up" if each == 1 else "a mark for {count} wake-ups"
    notes = [say(text, {"count": each})]
    return [*shapes, *table.lay_notes(notes)], table.rows + len(notes)


class Table:
    """Names at the left and numbers at the right, with room in between from column `start` on."""

    def __init__(
        self, parts: Sequence[tuple[str, float]], columns: int, row: int, say: Say
    ) -> None:
        self.shown = [(shorten(name, LONGEST_LABEL), value) for name, value in parts[:MOST_BARS]]
        self.most = max((value for _, value in self.shown), default=0)
        self.start = widest([name for name, _ in self.shown]) + MARGIN
        numbers = widest([f"{value:g}" for _, value in self.shown])
        self.room = max(columns - self.start - numbers - 1, 4)
        self._columns = columns
        self._row = row
        left = len(parts) - len(self.shown)
        self._more = [say("and {count} more", {"count": left})] if left else []

    @property
    def rows(self) -> int:
        """How many it has."""
        return len(self.shown) + len(self._more)

    def lay_words(self, row: int, style: str = "") -> list[Shape]:
        """The name and the number of a row."""
        name, value = self.shown[row - self._row]
        column = self.start + self.room + 1
        return [Words(0, row, name), Words(column, row, f"{value:g}", style)]

    def lay_notes(self, notes: Sequence[str]) -> list[Shape]:
        """What stands below it: what is left out, and notes."""
        row = self._row + len(self.shown)
        return [
            Words(self.start, line, shorten(note, self._columns - self.start), "dim")
            for line, note in enumerate([*self._more, *notes], row)
        ]


def lay_course(chart: Course, columns: int, row: int, say: Say) -> tuple[list[Shape], int]:
    """Who served when, and below it what came of the requests, from left to right."""
    outcomes = [name for name in OUTCOMES if any(chart.counts(name)) or name == OUTCOMES[0]]
    names = [*(life.name for life in chart.lives), *map(say, outcomes)]
    label = min(widest(names) + 2, LONGEST_LABEL)
    totals = {name: str(sum(chart.counts(name))) for name in outcomes}
    start = label + MARGIN
    room = max(columns - start - widest([*totals.values()]) - 1, 10)
    shapes: list[Shape] = []
    line = row
    for lives in lives_by_name(chart.lives)[:MOST_BARS]:
        name = shorten(lives[0].name, label - 2)
        shapes += [Sign(0, line, lives[0].user), Words(2, line, name)]
        shapes += [lay_life(life, chart.length, start, room, line) for life in lives]
        line += 1
    counts = {name: resampled(chart.counts(name), room) for name in outcomes}
    most = max(max(each) for each in counts.values()) or 1  # of all: rows can be compared
    for name, total in totals.items():
        columns_style, words_style = ("answered", "") if name == OUTCOMES[0] else LOST
        heights = tuple(max(count / most, LOWEST) if count else 0.0 for count in counts[name])
        shapes.append(Words(0, line, shorten(say(name), label), words_style))
        shapes.append(Columns(start, line, heights, columns_style))
        shapes.append(Words(start + room + 1, line, total, words_style))
        line += 1
    length = f"{chart.length / 1000:.0f} ms"
    shapes.append(Words(start, line, "0", "dim"))
    shapes.append(Words(start + room - cell_width(length), line, length, "dim"))
    return shapes, line + 1 - row


def lives_by_name(lives: Sequence[Life]) -> list[list[Life]]:
    """All stretches of time of each process, in the order in which the processes began."""
    found: dict[str, list[Life]] = {}
    for life in lives:
        found.setdefault(life.name, []).append(life)
    return list(found.values())


def lay_life(life: Life, length: int, start: int, room: int, line: int) -> Span:
    """A stretch of time, where all of it is so many columns wide."""
    begin = 0 if life.begun is None else life.begun
    end = length if life.ended is None else min(life.ended, length)
    left, right = (start + at / length * room for at in (begin, end))
    is_begun, is_ended = life.begun is not None, life.ended is not None
    return Span(left, right, line, life.user, is_begun, is_ended)


def resampled(counts: Sequence[int], width: int) -> list[float]:
    """Counts of slots as counts of columns, each of a slot's in proportion to what they share."""
    slots = len(counts)
    columns = [0.0] * width
    for slot, count in enumerate(counts):
        begin, end = slot * width, (slot + 1) * width  # a column is as long as there are slots
        for column in range(begin // slots, -(-end // slots)):
            shared = min(end, (column + 1) * slots) - max(begin, column * slots)
            columns[column] += count * shared / width
    return columns


def widest(texts: Sequence[str]) -> int:
    """The cells that the widest of some texts takes."""
    return max(map(cell_width, texts), default=0)
