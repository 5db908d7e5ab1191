"""The pause: stops before steps, so that one can look around from a second terminal."""

import os
import select
import signal
import sys

from labs.engine.errors import UsageError
from labs.engine.model import Event, HostOpened, StepStarted


class Pause:
    """Says how to get into the hosts, and waits for Enter before each step that can wait."""

    def __init__(self) -> None:
        if not (sys.stdin and sys.stdin.isatty()):
            raise UsageError("--pause needs a terminal to wait for Enter on.")
        self._commands: dict[str, str] = {}

    def __call__(self, event: Event) -> None:
        """Take the next event; returns from a step's start when Enter was pressed."""
        match event:
            case HostOpened():
                self._commands[event.host] = event.enter
            case StepStarted() if event.soon:
                sys.stderr.write("    no stop here: this step has to follow at once\n")
                sys.stderr.flush()
            case StepStarted():
                self._wait()

    def _wait(self) -> None:
        out = sys.stderr
        for host, command in self._commands.items():
            if not command:
                continue  # nobody gets into a kernel of its own
            out.write(f"    look around on {host}:  {command}\n")
        out.write("    Enter goes on, Ctrl-C ends: ")
        out.flush()
        if not read_line(sys.stdin.fileno()):
            out.write("\n")


def read_line(descriptor: int) -> bytes:
    """What a terminal gives at Enter; a signal that comes just before is not waited over."""
    awake, waker = os.pipe()
    os.set_blocking(waker, False)
    before = signal.set_wakeup_fd(waker)
    try:
        select.select([descriptor, awake], [], [])
        return os.read(descriptor, 4096)
    finally:
        signal.set_wakeup_fd(before)
        os.close(awake)
        os.close(waker)
