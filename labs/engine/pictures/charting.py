"""Lays charts out on a grid of terminal cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labs.engine.model import OUTCOMES
from labs.engine.pictures.chart import Bars, Course, Strips
from labs.engine.pictures.drawing import Band, Bar, Columns, Sign, Span, Words, cell_width, shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    from labs.engine.pictures.chart import Chart
    from labs.engine.pictures.drawing import Shape

    Say: TypeAlias = Callable[..., str]

LONGEST_LABEL = 16
MOST_BARS = 12
MARGIN = 2


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
    shown = chart.bars[:MOST_BARS]
    names = [shorten(say(name), LONGEST_LABEL) for name, _ in shown]
    label, number = widest(names), widest([f"{value:g}" for _, value in shown])
    start = label + MARGIN
    room = max(columns - start - number - 1, 4)
    most = max([value for _, value in shown] + [chart.band[1] if chart.band else 0, 1])
    most *= 1.05  # so that no bar and no band reaches the numbers
    shapes: list[Shape] = []
    if chart.band:
        low, high = (start + bound / most * room for bound in chart.band)
        shapes.append(Band(low, high, row, len(shown)))
    for line, ((name, value), text) in enumerate(zip(shown, names, strict=True), row):
        style = "loss" if name in chart.losses else "bar"
        shapes.append(Words(0, line, text))
        shapes.append(Bar(start, line, room, value / most * room, style))
        shapes.append(
            Words(
                start + room + 1, line, f"{value:g}", "refused" if style == "loss" and value else ""
            )
        )
    rows = len(shown)
    if len(chart.bars) > len(shown):
        shapes.append(
            Words(
                0,
                row + rows,
                say("and {count} more", {"count": len(chart.bars) - len(shown)}),
                "dim",
            )
        )
        rows += 1
    if chart.band:
        low_text, high_text = (f"{bound:g}" for bound in chart.band)
        text = say(
            "chance allows {low} to {high} for each (99.9 %)", {"low": low_text, "high": high_text}
        )
        shapes.append(Words(start, row + rows, shorten(text, columns - start), "dim"))
        rows += 1
    return shapes, rows


def lay_strips(chart: Strips, columns: int, row: int, say: Say) -> tuple[list[Shape], int]:
    """A strip for each process: a mark for each time it woke, as far as there is room."""
    shown = chart.strips[:MOST_BARS]
    names = [shorten(name, LONGEST_LABEL) for name, _ in shown]
    label, number = widest(names), widest([f"{value:g}" for _, value in shown])
    start = label + MARGIN
    room = max(columns - start - number - 1, 4)
    most = max([value for _, value in shown] + [1])
    each = max(1, -(-round(most) // room))  # how often a mark stands for
    shapes: list[Shape] = []
    for line, ((_, value), text) in enumerate(zip(shown, names, strict=True), row):
        shapes.append(Words(0, line, text))
        marks = -(-round(value) // each)
        shapes.append(Columns(start, line, (0.6,) * marks, "wake-up"))
        shapes.append(Words(start + room + 1, line, f"{value:g}"))
    rows = len(shown)
    if len(chart.strips) > len(shown):
        shapes.append(
            Words(
                0,
                row + rows,
                say("and {count} more", {"count": len(chart.strips) - len(shown)}),
                "dim",
            )
        )
        rows += 1
    if each > 1:
        shapes.append(Words(start, row + rows, say("each mark: {count}", {"count": each}), "dim"))
        rows += 1
    return shapes, rows


def lay_course(chart: Course, columns: int, row: int, say: Say) -> tuple[list[Shape], int]:
    """Who served when, and below it what came of the requests, from left to right."""
    outcomes = [name for name in OUTCOMES if any(chart.counts(name)) or name == OUTCOMES[0]]
    names = [*(life.name for life in chart.lives), *map(say, outcomes)]
    label = min(widest(names) + 2, LONGEST_LABEL)
    totals = [str(sum(chart.counts(name))) for name in outcomes]
    start = label + MARGIN
    room = max(columns - start - widest(totals) - 1, 10)
    shapes: list[Shape] = []
    line = row
    for life in chart.lives:
        begin = 0 if life.begun is None else life.begun
        end = chart.length if life.ended is None else min(life.ended, chart.length)
        left, right = (start + at / chart.length * room for at in (begin, end))
        shapes += [Sign(0, line, life.user), Words(2, line, shorten(life.name, label - 2))]
        is_begun, is_ended = life.begun is not None, life.ended is not None
        shapes.append(Span(left, right, line, life.user, is_begun, is_ended))
        line += 1
    for name, total in zip(outcomes, totals, strict=True):
        counts = resampled(chart.counts(name), room)
        most = max(*counts, 1)
        style = "answered" if name == OUTCOMES[0] else "lost"
        shapes.append(
            Words(0, line, shorten(say(name), label), "" if style == "answered" else "refused")
        )
        heights = tuple(max(count / most, 0.15) if count else 0.0 for count in counts)
        shapes.append(Columns(start, line, heights, style))
        shapes.append(
            Words(start + room + 1, line, total, "" if style == "answered" else "refused")
        )
        line += 1
    shapes.append(Words(start, line, "0", "dim"))
    length = f"{chart.length / 1000:.0f} ms"
    shapes.append(Words(start + room - cell_width(length), line, length, "dim"))
    return shapes, line + 1 - row


def resampled(counts: Sequence[int], width: int) -> list[float]:
    """Counts of slots as counts of columns: of fewer slots, each is that of its slot."""
    if width >= len(counts):
        return [counts[column * len(counts) // width] for column in range(width)]
    sums = [0.0] * width
    for slot, count in enumerate(counts):
        sums[slot * width // len(counts)] += count
    return sums


def widest(texts: Sequence[str]) -> int:
    """The cells that the widest of some texts takes."""
    return max(map(cell_width, texts), default=0)
