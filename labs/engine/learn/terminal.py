"""The terminal: whether the course can have it, and that it is given back as it was."""

from __future__ import annotations

import contextlib
import curses
import os
import sys
import termios
from typing import TYPE_CHECKING

from labs.engine.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

# Main screen, cursor, line wrap; no bracketed paste, no reports of focus or size, usual keyboard.
GIVE_BACK = "\x1b[?1049l\x1b[?25h\x1b[?7h\x1b[?2004l\x1b[?1004l\x1b[?2048l\x1b[m"
FEWEST_COLOURS = 8


def check_terminal() -> None:
    """UsageError where there is no terminal that a course could be shown on."""
    streams = (sys.stdin, sys.stdout, sys.stderr)
    if not all(stream and stream.isatty() for stream in streams):
        raise UsageError(
            "invoke learn needs a terminal to show the course on.",
            "In a browser:  invoke learn --web    Without one:  invoke lab.unique --predict",
        )
    kind = os.environ.get("TERM", "")
    if kind in ("", "dumb", "unknown"):
        raise UsageError(
            f"The terminal is one that can only print lines (TERM={kind}).",
            "Without the course:  invoke lab.unique --predict",
        )


def has_colour() -> bool:
    """Whether colours are wanted, and the terminal has any."""
    if os.environ.get("NO_COLOR"):
        return False
    try:
        curses.setupterm()
    except curses.error:
        return True  # nothing is known of it: it is a new one
    return curses.tigetnum("colors") >= FEWEST_COLOURS


def has_signs() -> bool:
    """Whether the terminal shows more than ASCII."""
    return (sys.stdout.encoding or "").lower().startswith("utf")


@contextlib.contextmanager
def given_back() -> Iterator[None]:
    """See that the terminal is as it was, also where the course could not see to that itself."""
    descriptor = sys.stdin.fileno()
    settings = termios.tcgetattr(descriptor)
    is_in_order = False
    try:
        yield
        is_in_order = True
    finally:
        with contextlib.suppress(OSError, termios.error):  # it may be closed
            if not is_in_order:
                os.write(sys.stderr.fileno(), GIVE_BACK.encode())
            termios.tcsetattr(descriptor, termios.TCSADRAIN, settings)
