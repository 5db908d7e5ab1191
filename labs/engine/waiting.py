"""Waits for conditions: never for a time, and never for ever."""

import time
from collections.abc import Callable

from labs.engine.errors import LabError

DEADLINE = 5.0  # seconds: for what the kernel does in microseconds
INTERVAL = 0.001


def wait_until(condition: Callable[[], bool], what: str, seconds: float = DEADLINE) -> None:
    """Wait until the condition holds; LabError where it does not within so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise LabError(f"Waited {seconds:g} seconds in vain: {what}.")
        time.sleep(INTERVAL)
