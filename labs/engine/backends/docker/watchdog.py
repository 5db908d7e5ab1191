"""The watchdog of a run: removes what is left of it on the engine, however its client ends.

Containers end with their streams, and the engine removes those. Containers that were never started,
and networks, it keeps. So a process of its own waits for the end of a pipe, the other end of which
only the client has, and then removes all that carries the run's label. That is also how a client
that comes to its end in peace cleans up: there is one way.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from labs.engine.backends.docker.cleaning import sweep
from labs.engine.backends.docker.client import START_ENGINE, connected, engine_is_there
from labs.engine.backends.docker.labels import new_run
from labs.engine.errors import BindlabError, EngineError
from labs.engine.system import stand_alone

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import NoReturn

    from labs.engine.backends.docker.client import APIClient
    from labs.engine.backends.docker.labels import RunLabels

PATIENCE = 60.0  # seconds: after so long nothing more is tried
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PAUSE = 1.0  # seconds between two attempts to reach an engine that has stopped


class Watchdog:
    """The client's end of the pipe. It tells the watchdog what the engine is about to make."""

    def __init__(self, run: str, pid: int, pipe: int) -> None:
        self._run = run
        self._pid = pid
        self._pipe = pipe

    @contextmanager
    def expecting(self, name: str) -> Iterator[None]:
        """Say that the engine is making a thing of this name, as long as the block lasts."""
        self._tell(f"+{name}\n")
        try:
            yield
        finally:
            self._tell(f"-{name}\n")

    def let_go(self) -> None:
        """Let it remove what is left of the run."""
        os.close(self._pipe)

    def wait(self) -> None:
        """Wait until all is gone; EngineError where something is left."""
        _, status = os.waitpid(self._pid, 0)
        if os.WIFSIGNALED(status):
            remove_all(self._run, set())
        elif status:
            raise EngineError("Something of this run is left on the Docker engine.", "invoke clean")

    def _tell(self, line: str) -> None:
        """Write to it; where somebody has killed it, `wait` will do its work."""
        with suppress(BrokenPipeError):
            os.write(self._pipe, line.encode())


@contextmanager
def watched_run() -> Iterator[tuple[APIClient, RunLabels, Watchdog]]:
    """A client and the labels of a new run, all of whose things go with the block or this process.

    Raises CannotRun where there is no engine, EngineError where something is left.
    """
    labels = new_run()
    watchdog = start_watchdog(labels.run)
    is_there = True
    try:
        with connected() as client:
            try:
                yield client, labels, watchdog
            finally:
                is_there = engine_is_there(client)
    finally:
        watchdog.let_go()
        if not is_there:
            raise EngineError(
                "The Docker engine has stopped; it may have kept something of this run.",
                f"{START_ENGINE}, then invoke clean",
            )
        watchdog.wait()


def start_watchdog(run: str) -> Watchdog:
    """Fork the watchdog of a run: first of all, for a connection may have threads."""
    theirs, ours = os.pipe()
    # Until it ignores them itself.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        pid = os.fork()
        if pid == 0:
            watch(run, theirs)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    os.close(theirs)
    return Watchdog(run, pid, ours)


def watch(run: str, pipe: int) -> NoReturn:
    """Wait for the end of the pipe, then remove what is left of the run; never returns."""
    status = 1
    try:
        # A signal to the client's whole group, or its terminal's end, is not for this process.
        os.setsid()
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        stand_alone(pipe)  # it may outlive the client
        asked, expected = read_to_end(pipe)
        if asked:
            remove_all(run, expected)
        status = 0
    finally:
        os._exit(status)


def read_to_end(pipe: int) -> tuple[bool, set[str]]:
    """Whether the engine was asked for anything, and what it was making when the client ended."""
    asked = False
    expected: set[str] = set()
    with os.fdopen(pipe) as lines:
        for line in lines:
            name = line[1:].rstrip("\n")
            (expected.add if line.startswith("+") else expected.discard)(name)
            asked = True
    return asked, expected


def remove_all(run: str, expected: set[str]) -> None:
    """Remove what is left of the run; an engine that has stopped is given time to come back."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            with connected() as client:
                sweep(client, run, expected)
        except BindlabError:
            if time.monotonic() > end:
                raise
            time.sleep(PAUSE)
        else:
            return
