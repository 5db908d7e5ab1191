"""Waits for conditions: never for a time, and never for ever."""

import time
from collections.abc import Callable

from labs.engine.errors import LabError

DEADLINE = 5.0  # seconds: for what the kernel does in microseconds
PROGRAM_DEADLINE = 60.0  # for a program to start or to end, on a kernel that is slow
INTERVAL = 0.001
PROGRAM_INTERVAL = 0.004


def wait_until(condition: Callable[[], bool], what: str, seconds: float | None = None) -> None:
    """Wait until the condition holds; LabError where it does not in time, DEADLINE as a rule."""
    seconds = DEADLINE if seconds is None else seconds
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise LabError(f"Waited {seconds:g} seconds in vain: {what}.")
        time.sleep(INTERVAL if seconds <= DEADLINE else PROGRAM_INTERVAL)
