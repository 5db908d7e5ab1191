"""The progress of images that are made: rows that move on a terminal, lines without one."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, TextIO

from labs.engine.progress import (
    ImageDone,
    ImagesPlanned,
    ImageStarted,
    InstructionStarted,
    OutputWritten,
    Progress,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console
    from rich.text import Text

View = Callable[[Progress], None]

REFRESHES = 8  # a second
SHOWN = 100  # characters of an instruction on a plain line
SIZE_WIDTH = 6  # '107 MB'
SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


class State(Enum):
    """How far an image is: its sign, the same in ASCII, its style."""

    WAITING = ("·", ".", "dim")
    RUNNING = ("", "*", "cyan")
    DONE = ("✔", "+", "green")
    FAILED = ("✘", "!", "bold red")


@dataclass(frozen=True)
class Row:
    """An image as it is shown; times are of the monotonic clock, in seconds."""

    name: str
    state: State = State.WAITING
    started: float = 0.0
    ended: float = 0.0
    instruction: InstructionStarted | None = None
    output: str = ""
    result: str = ""

    def after(self, event: Progress, now: float) -> Row:
        """This row after the next event of its image."""
        match event:
            case ImageStarted():
                return replace(self, state=State.RUNNING, started=now)
            case InstructionStarted():
                return replace(self, instruction=event, output="")
            case OutputWritten():
                return replace(self, output=event.line)
            case ImageDone():
                state = State.FAILED if event.failed else State.DONE
                return replace(self, state=state, ended=now, result=show_result(event))
        return self

    def seconds(self, now: float) -> float:
        """How long it has been made, or took."""
        if self.state is State.WAITING:
            return 0.0
        return (self.ended or now) - self.started


@contextlib.contextmanager
def open_progress_view(stream: TextIO) -> Iterator[View]:
    """The view that fits the stream, until the block ends."""
    if not stream.isatty():
        yield PlainView(stream)
        return
    from rich.console import Console
    from rich.live import Live

    view = MovingView(Console(file=stream, highlight=False, emoji=False), stream)
    with Live(
        get_renderable=view.render,
        console=view.console,
        refresh_per_second=REFRESHES,
        redirect_stdout=False,
        redirect_stderr=False,
    ):
        try:
            yield view
        finally:
            view.end()


class PlainView:
    """A line for each instruction and each image that is done."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._started: dict[str, float] = {}

    def __call__(self, event: Progress) -> None:
        """Write what is worth a line."""
        match event:
            case ImageStarted():
                self._started[event.name] = time.monotonic()
            case InstructionStarted():
                text = f"{event.number}/{event.count} {event.text}"
                self._write(event.name, text if len(text) <= SHOWN else f"{text[:SHOWN]}...")
            case ImageDone(kept=""):
                took = show_seconds(time.monotonic() - self._started[event.name])
                self._write(event.name, f"done in {took}, {show_result(event)}")
            case ImageDone():
                self._write(event.name, show_result(event))

    def _write(self, name: str, text: str) -> None:
        self._stream.write(f"{name}: {text}\n")
        self._stream.flush()


class MovingView:
    """A row for each image, and under the one that is being made what it wrote last."""

    def __init__(self, console: Console, stream: TextIO) -> None:
        self.console = console
        self._has_signs = (stream.encoding or "").lower().startswith("utf")
        self._rows: dict[str, Row] = {}

    def __call__(self, event: Progress) -> None:
        """Take the next event; it is shown with the next refresh."""
        if isinstance(event, ImagesPlanned):
            self._rows = {name: Row(name) for name in event.names}
        else:
            row = self._rows.get(event.name, Row(event.name))
            self._rows[event.name] = row.after(event, time.monotonic())

    def end(self) -> None:
        """Show what was being made as given up."""
        now = time.monotonic()
        for row in self._rows.values():
            if row.state is State.RUNNING:
                self._rows[row.name] = replace(row, state=State.FAILED, ended=now)

    def render(self) -> Text:
        """All rows, as they are now."""
        from rich.text import Text

        now = time.monotonic()
        rows = [*self._rows.values()]  # render() is called by a thread of rich's
        width = max((len(row.name) for row in rows), default=0)
        lines = [line for row in rows for line in self._render_row(row, width, now)]
        return Text("\n", no_wrap=True, overflow="ellipsis").join(lines)

    def _render_row(self, row: Row, width: int, now: float) -> Iterator[Text]:
        from rich.text import Text

        sign, ascii_sign, style = row.state.value
        if row.state is State.RUNNING:
            sign = SPINNER[int(now * REFRESHES) % len(SPINNER)]
        seconds = "" if row.state is State.WAITING else show_seconds(row.seconds(now))
        yield self._fitted(
            Text.assemble(
                (f" {sign if self._has_signs else ascii_sign} ", style),
                (row.name.ljust(width), "dim" if row.state is State.WAITING else "bold"),
                (f" {seconds:>9}  ", "dim"),
                *self._details(row),
            )
        )
        if row.state is State.RUNNING and row.output:
            yield self._fitted(Text(f"{' ' * (width + 15)}{row.output}", "dim"))

    def _details(self, row: Row) -> Iterator[str | tuple[str, str]]:
        if row.result:
            yield row.result.rjust(SIZE_WIDTH)
        elif row.instruction:
            instruction = row.instruction
            yield (f"{instruction.number}/{instruction.count} ", State.RUNNING.value[2])
            yield instruction.text

    def _fitted(self, line: Text) -> Text:
        line.truncate(self.console.width - 1, overflow="ellipsis")
        return line


def show_result(event: ImageDone) -> str:
    """What came of an image."""
    return event.kept or show_size(event.size)


def show_size(size: int) -> str:
    """Bytes as the docker command shows them: in powers of ten."""
    return f"{size / 1e6:.0f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"


def show_seconds(seconds: float) -> str:
    """A time for people."""
    minutes, rest = divmod(seconds, 60)
    return f"{minutes:.0f} min {rest:.0f} s" if minutes else f"{seconds:.1f} s"
