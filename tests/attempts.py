"""Strange programs for tests: what each tries, and what a check has to say of it."""

import json
import textwrap
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from labs.engine.attempt import Attempt
from labs.engine.backends.namespaces.backend import open_namespaces
from labs.engine.challenge import Challenge, Trial, challenge, exactly
from labs.engine.errors import ExitStatus
from labs.engine.layout import Layout
from labs.engine.model import Advised, CallMade, Event, RunEnded
from labs.engine.programs import Program
from labs.engine.runner import run_lab
from labs.engine.submission import File, Submission

PYTHON = "#!/usr/bin/env python3\n"


@dataclass(frozen=True)
class Ended:
    """What came of an attempt: its status, its events, and how long it took in seconds."""

    status: ExitStatus
    events: Sequence[Event]
    seconds: float

    @property
    def advice(self) -> str:
        names = [event.name for event in self.events if isinstance(event, Advised)]
        return names[-1] if names else ""

    @property
    def error(self) -> str:
        (ended,) = [event for event in self.events if isinstance(event, RunEnded)]
        return ended.error

    @property
    def words(self) -> list[str]:
        return [event.call for event in self.events if isinstance(event, CallMade)]


def submission_of(source: str) -> Submission:
    content = PYTHON + textwrap.dedent(source)
    return Submission(Path(), "program.py", (File("program.py", content.encode(), True),))


def attempt(check: Challenge, source: str, seed: int | None = None) -> Ended:
    """Run a check with a program of this text."""
    return attempt_with(check, submission_of(source), seed)


def attempt_with(check: Challenge, submission: Submission, seed: int | None = None) -> Ended:
    events: list[Event] = []
    started = time.monotonic()
    with open_namespaces() as backend:
        status = run_lab(Attempt(check, submission), backend, Layout(seed), [events.append])
    return Ended(status, events, time.monotonic() - started)


def listening(
    user: str = "alice", capabilities: Sequence[str] = (), seconds: float = 5.0
) -> Challenge:
    """A check that asks for one listener."""

    @challenge("trial", title="A challenge of the tests", hints=(), advice={"none": "Listen."})
    def check(trial: Trial) -> None:
        port = trial.port(8080)
        server = trial.host("server")
        with trial.step("it listens", expect=exactly(1, "listeners"), why="So it is.") as step:
            program = trial.start("first", server, port, user=user, capabilities=capabilities)
            trial.settle(lambda: bool(trial.listeners(program, port)), seconds)
            step.advise("none")
            step.measured(len(trial.listeners(program, port)))

    return check


def probing(
    look: Callable[[Trial, Program], None],
    user: str = "alice",
    capabilities: Sequence[str] = (),
) -> Challenge:
    """A check that waits for a program's end, and looks at what it has written."""

    @challenge("trial", title="A challenge of the tests", hints=(), advice={})
    def check(trial: Trial) -> None:
        server = trial.host("server")
        server.process("agent", user=user)
        with trial.step("it ends", expect=exactly(0, "status"), why="So it is.") as step:
            program = trial.start("first", server, user=user, capabilities=capabilities)
            trial.expect_end(program)
            trial.settle(lambda: program.status is not None, 20)
            look(trial, program)
            step.measured(-1 if program.status is None else program.status)

    return check


def probe(source: str, user: str = "alice", capabilities: Sequence[str] = ()) -> dict[str, object]:
    """What a program of this text has found out, which it prints as JSON at its end."""
    found: dict[str, object] = {}

    def look(trial: Trial, program: Program) -> None:
        assert program.status == 0, program.output
        found.update(json.loads(program.output.splitlines()[-1]))

    ended = attempt(probing(look, user, capabilities), source)
    assert ended.status is ExitStatus.PASSED, ended.error
    return found
