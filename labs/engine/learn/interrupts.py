"""Signals while the course has the terminal: it leaves in order, and an editor has its own."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# What Textual's driver takes over besides.
TAKEN = (*SIGNALS, signal.SIGTSTP, signal.SIGCONT, signal.SIGWINCH, signal.SIGTTIN, signal.SIGTTOU)
SOON = 0.1  # seconds: the loop has seen by then what has come


def heed_signals(leave: Callable[[], None]) -> None:
    """Leave in order at a signal; one that was ignored from the start stays so."""
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, leave)


@contextlib.contextmanager
def interrupts_left_alone(leave: Callable[[], None]) -> Iterator[None]:
    """Leave Ctrl-C to a program that has the terminal; afterwards it is to `leave` again."""
    loop = asyncio.get_running_loop()
    is_heeded = loop.remove_signal_handler(signal.SIGINT)
    before = signal.signal(signal.SIGINT, lambda _number, _frame: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if is_heeded:
            # Not at once: what has come meanwhile is still to be read, as nobody's.
            loop.call_later(SOON, heed_signals, leave)


@contextlib.contextmanager
def handlers_kept() -> Iterator[None]:
    """Have the handlers of before again afterwards, where a loop leaves the usual ones."""
    before = {number: signal.getsignal(number) for number in TAKEN}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
