"""The panes of a run: what there is to read, the steps, and their picture."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from textual.containers import VerticalScroll
from textual.widgets import Markdown, Static

from labs.engine.model import RunEnded, StepEnded, StepStarted
from labs.engine.views.exercise import joined
from labs.engine.views.pane import joined_lines, make_text_view

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    from textual import events
    from textual.app import ComposeResult

    from labs.engine.model import Event
    from labs.engine.views.pane import Lines
    from labs.engine.views.terminal import TextView

    Draw: TypeAlias = Callable[[int], Lines]
    """The picture at a width in columns."""

HEAD, TAIL = 0, -1  # what stands before the first step and after the last
LEAST_WIDTH = 40
LIVE_LINES = 12  # calls of a step that is at work
REFRESH = 0.1  # seconds between two looks at what has come


class Pane(VerticalScroll):
    """A part of the screen with a heading, which scrolls."""

    def __init__(self, name: str, title: str) -> None:
        super().__init__(id=name)
        self.border_title = title


class TextPane(Pane):
    """A page of Markdown."""

    def __init__(self, name: str, title: str) -> None:
        super().__init__(name, title)
        self._text = ""
        self._lock = asyncio.Lock()  # a page is put there in several turns of the loop

    def compose(self) -> ComposeResult:
        """The page."""
        yield Markdown(open_links=False)

    async def show(self, text: str) -> None:
        """Show another page, or this one changed."""
        async with self._lock:
            if text != self._text:
                self._text = text
                await self.query_one(Markdown).update(joined(text))

    def show_last(self) -> None:
        """Scroll to the last heading."""
        if headings := self.query("MarkdownH2"):
            self.call_after_refresh(self.scroll_to_widget, headings.last(), top=True, animate=False)


class StepsPane(Pane):
    """The steps of a run, told as a terminal would; the open one with its calls as they come."""

    def __init__(self, name: str, title: str, *, has_signs: bool) -> None:
        super().__init__(name, title)
        self._has_signs = has_signs
        self._events: list[Event] = []
        self._texts: dict[int, Lines] = {}
        self._block = HEAD
        self._width = 0
        self._view: TextView | None = None
        self._has_changed = False
        self._follows = True  # what comes is scrolled to

    def compose(self) -> ComposeResult:
        """What goes on right now, below all that is told."""
        yield Static(id="live", markup=False)

    def on_mount(self) -> None:
        """Begin to look."""
        self.set_interval(REFRESH, self._refresh_live)

    def begin(self) -> None:
        """Another run begins."""
        self._events, self._follows = [], True
        self._rebuild()

    def add(self, event: Event) -> None:
        """Tell the next event."""
        self._events.append(event)
        if self._view is None:
            return
        self._tell(event)
        if isinstance(event, StepEnded | RunEnded):
            self._refresh_live()

    def follow(self) -> None:
        """Scroll to what comes, until the trainee looks at something else."""
        self._follows = True
        self.scroll_end(animate=False)

    def watch_virtual_size(self) -> None:
        """Scroll to what has come."""
        if self._follows:
            self.scroll_end(animate=False)

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

    def show_step(self, number: int) -> None:
        """Scroll to a step."""
        for block in self.query(Block):
            if block.number == number:
                self._follows = False
                self.scroll_to_widget(block, top=True, animate=False)

    def on_resize(self, _event: events.Resize) -> None:
        """Tell all anew where lines are to be of another length."""
        width = max(self.scrollable_content_region.width - 1, LEAST_WIDTH)
        if self.size.width and width != self._width:
            self._width = width
            self._rebuild()

    def _rebuild(self) -> None:
        if not self._width:
            return
        self._texts, self._block = {}, HEAD
        self._view = make_text_view(self._width, self._write, has_signs=self._has_signs)
        self.query(Block).remove()
        for event in self._events:
            self._tell(event)
        self._refresh_live()

    def _tell(self, event: Event) -> None:
        assert self._view
        match event:
            case StepStarted():
                self._block = event.number
            case RunEnded():
                self._block = TAIL
        self._has_changed = True
        self._view(event)

    def _write(self, text: Lines) -> None:
        """Add lines to the block that is being told."""
        number = self._block
        if number in self._texts:
            self._texts[number].append("\n").append_text(text)
            for block in self.query(Block):
                if block.number == number:
                    block.update(self._texts[number])
            return
        self._texts[number] = text
        self.mount(Block(number, text), before="#live")

    def _refresh_live(self) -> None:
        if self._view is None or not self._has_changed:
            return
        self._has_changed = False
        lines = self._view.calls_so_far()[-LIVE_LINES:]
        live = self.query_one("#live", Static)
        live.display = bool(lines)
        if lines:
            live.update(joined_lines(lines))


class Block(Static):
    """A step, as far as it is told."""

    def __init__(self, number: int, text: Lines) -> None:
        super().__init__(text, markup=False)
        self.number = number


class PicturePane(Pane):
    """The state of a lab at a step, drawn to the width that there is."""

    def __init__(self, name: str, title: str) -> None:
        super().__init__(name, title)
        self._draw: Draw | None = None

    def compose(self) -> ComposeResult:
        """The picture."""
        yield Static(id="drawing", markup=False)

    def show(self, draw: Draw, title: str) -> None:
        """Show another picture."""
        self._draw = draw
        self.border_title = title
        self._redraw()

    def on_resize(self, _event: events.Resize) -> None:
        """Draw it anew."""
        self._redraw()

    def _redraw(self) -> None:
        width = self.scrollable_content_region.width
        if self._draw and self.display and width:
            self.query_one("#drawing", Static).update(self._draw(max(width, LEAST_WIDTH)))


def visible(count: int, current: int, at_once: int) -> Sequence[int]:
    """Which of some panes are shown, so many at once: the current one among them."""
    first = min(current, count - at_once)
    return range(max(first, 0), max(first, 0) + min(at_once, count))
