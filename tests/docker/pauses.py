"""A run on the machine's engine that waits for Enter, and is looked at or ended meanwhile."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labs.engine.backends.docker.labels import describe_process
from tests.docker.engines import find_child
from tests.docker.traces import SOON, find_of_client, seeds
from tests.endings import PROMPT, SUMMARY
from tests.support import (
    Machine,
    Terminal,
    look,
    new_token,
    open_terminal,
    wait_for_nothing,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from labs.engine.backends.docker.client import APIClient


@dataclass(frozen=True)
class Paused:
    """A run that waits at its first prompt, with its containers."""

    terminal: Terminal
    token: str
    before: Machine
    client: str
    watchdog: int

    def go_on(self) -> int:
        """Press Enter to the end; the exit status."""
        self.terminal.type("\n")
        while self.terminal.read_until(f"{PROMPT}|{SUMMARY}").group() == PROMPT:
            self.terminal.type("\n")
        return self.terminal.wait()


@contextlib.contextmanager
def open_paused(engine: APIClient) -> Iterator[Paused]:
    """Such a run, of which nothing is left after the block."""
    token = new_token()
    before = look(token)
    arguments = ("lab.euid", "--backend", "docker", "--seed", str(seeds.take(engine)), "--pause")
    with open_terminal(*arguments, token=token) as terminal:
        terminal.read_until(PROMPT)
        pid = terminal.process.pid
        yield Paused(terminal, token, before, describe_process(pid), find_child(pid))
    assert wait_for_nothing(before, token, seconds=SOON) == {}
    assert find_of_client(engine, describe_process(pid)) == []
