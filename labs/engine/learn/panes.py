"""The panes of a run: what there is to read, the steps, and their picture.

Each is one widget that draws rows: to lay out a widget for each line would take longer than a key
may wait.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from labs.engine.model import StepEnded, StepStarted
from labs.engine.views.pane import PaneView, page_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    from textual import events

    from labs.engine.model import Event
    from labs.engine.views.pane import PieceStyle, Row

    Draw: TypeAlias = Callable[[int], Sequence[Row]]
    """The picture at a width in columns."""

LEAST_WIDTH = 40
LIVE_ROWS = 12  # of calls, while a step is at work
REFRESH = 0.1  # seconds between two looks at what has come


class Pane(ScrollView, can_focus=True):
    """A part of the screen with a heading, which scrolls; what it shows follows from its width."""

    def __init__(self, name: str, title: str) -> None:
        super().__init__(id=name)
        self.border_title = title
        self._strips: list[Strip] = []
        self._width = 0
        self._style: PieceStyle | None = None  # of the pane itself, once it is asked for
        self._finished_style: PieceStyle | None = None
        # Lines by number and width: Textual knows of a strip that it had before how it looks.
        self._finished: dict[tuple[int, int], Strip] = {}

    def make_rows(self, width: int) -> Sequence[Row]:
        """All that is to be shown, in so many columns."""
        raise NotImplementedError

    def on_resize(self, _event: events.Resize) -> None:
        """Make the rows anew where they are to be of another length."""
        width = max(self.scrollable_content_region.width, LEAST_WIDTH)
        if self.size.width and width != self._width:
            self._width = width
            self.remake()

    def remake(self) -> None:
        """Make the rows anew, once the width is known."""
        if self._width:
            self.show_rows(self.make_rows(self._width))

    def show_rows(self, rows: Sequence[Row]) -> None:
        """Show these rows instead of those of before."""
        self._strips = [Strip(row) for row in rows]
        self.show_strips()

    def show_strips(self) -> None:
        """Show what has changed."""
        self._finished.clear()
        self.virtual_size = Size(self._width, len(self._strips))
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """A line of what is in sight."""
        if self._style is None:
            self._style = self.rich_style
            if self._style != self._finished_style:
                self._finished.clear()
                self._finished_style = self._style
        number, width = self.scroll_offset.y + y, self.scrollable_content_region.width
        if (number, width) not in self._finished:
            strip = self._strips[number] if number < len(self._strips) else Strip([])
            finished = strip.crop_extend(0, width, self._style).apply_style(self._style)
            self._finished[number, width] = finished
        return self._finished[number, width]

    def notify_style_update(self) -> None:
        """Ask for the pane's style again: it may be another, such as that of another theme."""
        self._style = None
        super().notify_style_update()


class TextPane(Pane):
    """A page of Markdown, in parts."""

    def __init__(self, name: str, title: str) -> None:
        super().__init__(name, title)
        self._parts: list[str] = []
        self._last = 0

    def show(self, parts: list[str]) -> None:
        """Show another page, or this one changed."""
        if parts != self._parts:
            self._parts = parts
            self.remake()

    def show_last(self) -> None:
        """Scroll to the last part."""
        self.call_after_refresh(self.scroll_to, y=self._last, animate=False)

    def make_rows(self, width: int) -> Sequence[Row]:
        """The parts, with an empty line between them."""
        rows: list[Row] = []
        for part in self._parts:
            found = page_rows(part, width)
            if rows:
                rows.append([])
            self._last = len(rows)
            rows += found
        return rows


class StepsPane(Pane):
    """The steps of a run, told as a terminal would; the open one with its calls as they come."""

    def __init__(self, name: str, title: str, *, has_signs: bool) -> None:
        super().__init__(name, title)
        self._has_signs = has_signs
        self._events: list[Event] = []
        self._places: dict[int, int] = {}  # the row at which a step begins
        self._told = 0  # rows, below which are the calls of the open step
        self._view: PaneView | None = None
        self._has_changed = False
        self._follows = True  # what comes is scrolled to

    def on_mount(self) -> None:
        """Begin to look."""
        self.set_interval(REFRESH, self._refresh_live)

    def begin(self) -> None:
        """Another run begins."""
        self._events, self._follows = [], True
        self.remake()

    def add(self, event: Event) -> None:
        """Tell the next event."""
        self._events.append(event)
        if self._view is None:
            return
        self._tell(event)
        if isinstance(event, StepStarted | StepEnded):
            self._refresh_live()

    def follow(self) -> None:
        """Scroll to what comes, until the trainee looks at something else."""
        self._follows = True
        self.scroll_end(animate=False)

    def show_step(self, number: int) -> None:
        """Scroll to a step."""
        self._follows = False
        self.scroll_to(y=self._places.get(number, 0), animate=False)

    def action_scroll_up(self) -> None:
        """Look at what was before."""
        self._follows = False
        super().action_scroll_up()

    def action_page_up(self) -> None:
        """Look at what was before."""
        self._follows = False
        super().action_page_up()

    def action_scroll_home(self) -> None:
        """Look at how it began."""
        self._follows = False
        super().action_scroll_home()

    def remake(self) -> None:
        """Tell all anew."""
        if not self._width:
            return
        self._strips, self._places, self._told = [], {}, 0
        self._view = PaneView(self._width, self._write, has_signs=self._has_signs)
        for event in self._events:
            self._tell(event)
        self._has_changed = True
        self._refresh_live()

    def _tell(self, event: Event) -> None:
        assert self._view
        if isinstance(event, StepStarted):
            self._places[event.number] = self._told + 1  # below the empty line
        self._has_changed = True
        self._view.take(event)

    def _write(self, rows: Sequence[Row]) -> None:
        self._strips[self._told :] = [Strip(row) for row in rows]
        self._told = len(self._strips)

    def _refresh_live(self) -> None:
        if self._view is None or not self._has_changed:
            return
        self._has_changed = False
        live = self._view.calls_so_far()[-LIVE_ROWS:]
        self._strips[self._told :] = [Strip(row) for row in live]
        self.show_strips()
        if self._follows:
            self.scroll_end(animate=False)


class PicturePane(Pane):
    """The state of a lab at a step, drawn to the width that there is."""

    def __init__(self, name: str, title: str) -> None:
        super().__init__(name, title)
        self._draw: Draw | None = None

    def show(self, draw: Draw, title: str) -> None:
        """Show another picture."""
        self._draw = draw
        self.border_title = title
        self.remake()

    def make_rows(self, width: int) -> Sequence[Row]:
        """The picture."""
        return self._draw(width) if self._draw else ()


def visible(count: int, current: int, at_once: int) -> Sequence[int]:
    """Which of some panes are shown, so many at once: the current one among them."""
    first = min(current, count - at_once)
    return range(max(first, 0), max(first, 0) + min(at_once, count))
