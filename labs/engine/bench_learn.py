"""Measures the course: from a key to the screen's answer, while a lab runs and while none does."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import tempfile
import termios
from dataclasses import dataclass
from statistics import median, quantiles
from time import perf_counter
from typing import TYPE_CHECKING

from labs.engine.bench_rows import Comparison, show_seconds
from labs.engine.chores import ROOT
from labs.engine.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LAB = "balance"  # the one with the most events and connections
ROWS, COLUMNS = 40, 140
LIMIT = 0.05  # seconds
PAUSE = 0.02  # seconds between two keys
PRESSES = 120
DEADLINE = 60.0  # seconds
# Each press of Tab leads to the next pane, whose name in the title then stands in brackets.
PANES = (b"[Picture]", b"[Brief]", b"[Steps]")
RUN_OVER = b"The lab is over."


@dataclass(frozen=True)
class Answers:
    """How long the screen took to answer each key, in seconds."""

    times: Sequence[float]

    @property
    def usual(self) -> float:
        """What nineteen of twenty keys do not wait for any longer."""
        return quantiles(self.times, n=20)[-1]

    def __str__(self) -> str:
        """Half of them, nineteen of twenty, and the one that took longest, in milliseconds."""
        parts = (median(self.times), self.usual, max(self.times))
        return "/".join(f"{part * 1000:.0f}" for part in parts) + " ms"


def compare_keys() -> Comparison:
    """Answers to keys while a lab runs, against the same when it is over; raises EngineError.

    Each side is the median, what nineteen of twenty keys keep, and the worst.
    """
    busy, calm = time_keys()
    return Comparison(
        name=f"invoke learn, a key while {LAB} runs : none",
        ours=str(busy),
        other=str(calm),
        ratio=busy.usual / calm.usual,
        limit=f"<={show_seconds(LIMIT)}",
        within=busy.usual <= LIMIT,
    )


def time_keys() -> tuple[Answers, Answers]:
    """The answers to keys while a lab runs from its start to its end, and after that."""
    with open_course() as screen:
        screen.wait_for(b"Press r")
        screen.type(b"p")
        screen.wait_for(b"without questions")
        screen.type(b"r")
        screen.wait_for(b"All steps")
        screen.type(b"a")
        busy = screen.press_until(RUN_OVER)
        calm = screen.press_until(None)
    return Answers(busy), Answers(calm)


class Screen:
    """A terminal with the course, and what it was given to show."""

    def __init__(self, terminal: int) -> None:
        self._terminal = terminal
        self._pane = 0
        self._shown = b""

    def type(self, keys: bytes) -> None:
        """Press keys; what is waited for next is what comes of them."""
        self._shown = b""
        os.write(self._terminal, keys)

    def wait_for(self, words: bytes) -> None:
        """Read until these words come; EngineError where they do not."""
        deadline = perf_counter() + DEADLINE
        while words not in self._shown:
            if perf_counter() > deadline or not self._read(deadline - perf_counter()):
                raise EngineError(f"invoke learn does not show {words.decode()!r}.")

    def press_until(self, end: bytes | None) -> list[float]:
        """Press Tab until these words come, or so many times; how long each answer took."""
        times: list[float] = []
        has_ended = False
        while not has_ended and (end or len(times) < PRESSES):
            self.type(b"\t")
            start = perf_counter()
            self.wait_for(PANES[self._pane])
            times.append(perf_counter() - start)
            self._pane = (self._pane + 1) % len(PANES)
            self._read(PAUSE)
            has_ended = end is not None and end in self._shown
        return times

    def _read(self, seconds: float) -> bool:
        """Read what comes within some seconds; whether anything has."""
        if not select.select([self._terminal], [], [], max(seconds, 0))[0]:
            return False
        try:
            self._shown += os.read(self._terminal, 1 << 16)
        except OSError:  # nobody has the other side open any more
            return False
        return True


@contextlib.contextmanager
def open_course() -> Iterator[Screen]:
    """The course on a terminal of its own, at a lab; it is gone with the block."""
    terminal, other_side = pty.openpty()
    fcntl.ioctl(other_side, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, terminal)
        state = stack.enter_context(tempfile.TemporaryDirectory(prefix="bindlab-bench-"))
        kept = {
            name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "invoke", "learn", "--lab", LAB],
            cwd=ROOT,
            env=kept | {"TERM": "xterm-256color", "LC_ALL": "C.UTF-8", "XDG_STATE_HOME": state},
            stdin=other_side,
            stdout=other_side,
            stderr=other_side,
            start_new_session=True,
        )
        os.close(other_side)
        stack.callback(process.wait)
        stack.callback(process.kill)
        yield Screen(terminal)
