"""Ends runs of the real command at random moments; says how each ended, and what is left of it.

A moment is a seeded random one; together they are spread over the whole of a run.
"""

import json
import os
import random
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGKILL, Signals
from typing import ClassVar, TypeAlias

from tests.support import (
    DEADLINE,
    INVOKE,
    TIMEOUT,
    Life,
    Terminal,
    ended,
    environment,
    has_children,
    look,
    look_at_life,
    new_token,
    open_terminal,
    wait_for_end,
    wait_for_nothing,
    wait_until,
)

SEED = 8080
ATTEMPTS = 8
INTERRUPTED = 130
PROMPT = "Enter goes on, Ctrl-C ends: "
SUMMARY = r"\d+ steps: \d+ as expected\n"
NO_LIFE = Life()


@dataclass(frozen=True)
class Course:
    """How long a run takes: all of it, and from the start of its first child; and its output."""

    whole: float
    in_charge: float
    output: str


@dataclass(frozen=True)
class Ending:
    """How a run ended: while it was still at work? Does its output have the summary?"""

    status: int
    text: str
    was_alive: bool
    left: dict[str, list[str]]


@dataclass
class Trial:
    """One run that is to be ended, in a copy of the tree; nobody else writes to its folders."""

    tree: Path
    folder: Path
    token: str = field(default_factory=new_token)
    life: Life = NO_LIFE
    was_alive: bool = False

    lab: ClassVar[str] = "euid"
    patience: ClassVar[float] = DEADLINE  # seconds: until nothing is left

    def __post_init__(self) -> None:
        self.folders = (self.tree, self.folder)
        self.record = self.folder / "record.json"
        self.arguments = (f"lab.{self.lab}", *self.options(), "--json", str(self.record))
        self.variables = environment(self.token, TMPDIR=str(self.folder))
        self.before = look(self.token, self.folders)

    def options(self) -> tuple[str, ...]:
        """What the command is given besides."""
        return ()

    @contextmanager
    def start(self, output: int) -> Iterator[subprocess.Popen[bytes]]:
        """Start the command in a group of its own; output and errors go to one descriptor."""
        process = subprocess.Popen(
            [*INVOKE, *self.arguments],
            cwd=self.tree,
            env=self.variables,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            process_group=0,
        )
        with ended(process):
            yield process

    def look_while_it_lives(self, process: subprocess.Popen[bytes]) -> None:
        """Note what is there, right before the end."""
        self.life = look_at_life(self.token)
        self.was_alive = process.poll() is None

    def finish(self, status: int, text: str) -> Ending:
        """See what is left; a record is no remnant, as long as it is whole."""
        if self.record.exists():
            assert json.loads(self.record.read_text())["runs"][0]["status"] == 0
            self.record.unlink()
        return Ending(status, text, self.was_alive, self.wait_for_nothing())

    def wait_for_nothing(self) -> dict[str, list[str]]:
        """Wait until nothing is left; what there is all the same, by kind."""
        return wait_for_nothing(self.before, self.token, self.folders, self.life, self.patience)


End: TypeAlias = Callable[[Trial, float], Ending]
"""Begins a trial, ends it at a moment from 0 to 1 of its course, and says how that went."""


@dataclass(frozen=True)
class Trials:
    """Trials of one kind: each begins in a new folder of `folder`, some at a time."""

    begin: Callable[[Path], Trial]
    folder: Path
    at_a_time: int

    def measure(self) -> Course:
        """The course of a run that nobody disturbs, while as many run as are to be ended."""
        trials = [self._begin(f"course-{number}") for number in range(3 * self.at_a_time)]
        with ThreadPoolExecutor(self.at_a_time) as pool:
            courses = list(pool.map(measure, trials))
        return Course(
            statistics.median(course.whole for course in courses),
            statistics.median(course.in_charge for course in courses),
            courses[0].output,
        )

    def end(self, end: End, count: int) -> list[Ending]:
        """End a run at each of `count` moments."""

        def try_one(number: int, moment: float) -> Ending:
            """Where the run was over by then (the machine is less busy now), come earlier."""
            for attempt in range(ATTEMPTS):
                trial = self._begin(f"{number}-{attempt}")
                ending = end(trial, moment * 0.7**attempt)
                if ending.was_alive or ending.left:
                    break
            return ending

        with ThreadPoolExecutor(self.at_a_time) as pool:
            return list(pool.map(try_one, range(count), spread(count)))

    def _begin(self, name: str) -> Trial:
        place = self.folder / name
        place.mkdir()
        return self.begin(place)


def measure(trial: Trial) -> Course:
    """Run the command to its end."""
    began = time.monotonic()
    with tempfile.TemporaryFile() as output:
        with trial.start(output.fileno()) as process:
            wait_until(lambda: has_children(process.pid), "its first child")
            forked = time.monotonic()
            assert process.wait(TIMEOUT) == 0
            over = time.monotonic()
        output.seek(0)
        return Course(over - began, over - forked, output.read().decode())


def spread(count: int) -> list[float]:
    """Random numbers from 0 to 1, one in each of `count` equal parts."""
    generator = random.Random(SEED)
    return [(part + generator.random()) / count for part in range(count)]


# --- ways to end a run --------------------------------------------------------------------


def killed(course: Course, *, whole_group: bool = False) -> End:
    """SIGKILL of the command, or of all processes of its group, from its start on."""

    def kill(trial: Trial, moment: float) -> Ending:
        with trial.start(subprocess.DEVNULL) as process:
            wait_for_end(process, moment * course.whole)
            trial.look_while_it_lives(process)
            if whole_group:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, SIGKILL)
            else:
                process.kill()
            status = process.wait(TIMEOUT)
            trial.was_alive = status != 0
            return trial.finish(status, "")

    return kill


def wait_until_in_charge(process: subprocess.Popen[bytes]) -> None:
    """Wait until tasks.py is in charge: its first child shows it, or that the run is over.

    On a busy machine all of a run may pass between two looks.
    """
    wait_until(lambda: has_children(process.pid) or wait_for_end(process, 0), "tasks.py in charge")


def interrupted(course: Course, number: Signals) -> End:
    """A signal that can be caught, from when tasks.py is in charge."""

    def interrupt(trial: Trial, moment: float) -> Ending:
        with tempfile.TemporaryFile() as output:
            with trial.start(output.fileno()) as process:
                wait_until_in_charge(process)
                wait_for_end(process, moment * course.in_charge)
                trial.look_while_it_lives(process)
                process.send_signal(number)
                status = process.wait(TIMEOUT)
            output.seek(0)
            text = output.read().decode()
            assert trial.was_alive or status == 0, text
            return trial.finish(status, text)

    return interrupt


def on_terminal(end: Callable[[Terminal], None], course: Course) -> End:
    """What is done to a terminal on which the command runs."""

    def end_at(trial: Trial, moment: float) -> Ending:
        terminal = Terminal(trial.arguments, trial.tree, trial.variables)
        with ended(terminal.process):
            wait_until_in_charge(terminal.process)
            terminal.read_for(moment * course.in_charge)
            trial.look_while_it_lives(terminal.process)
            end(terminal)
            status = terminal.process.wait(TIMEOUT)
            terminal.close()
        assert trial.was_alive or status == 0, terminal.output
        return trial.finish(status, terminal.output)

    return end_at


def press_control_c(terminal: Terminal) -> None:
    """Press Ctrl-C if there is still something to interrupt, and read to the end."""
    if terminal.process.poll() is None:
        terminal.type("\x03")
    terminal.wait()


def ended_in_a_pause(trial: Trial, _moment: float) -> Ending:
    """Ctrl-C at the first prompt of --pause."""
    arguments = (f"lab.{trial.lab}", *trial.options(), "--pause")
    with open_terminal(*arguments, token=trial.token, folder=trial.tree) as terminal:
        terminal.read_until(PROMPT)
        trial.look_while_it_lives(terminal.process)
        terminal.type("\x03")
        return trial.finish(terminal.wait(), terminal.output)


# --- how it has to end --------------------------------------------------------------------


def check_killed(endings: list[Ending]) -> None:
    """Nothing is left of what SIGKILL ended."""
    assert [ending.left for ending in endings if ending.left] == []
    assert all(ending.was_alive for ending in endings)
    assert {ending.status for ending in endings} == {-SIGKILL}


def check_interrupted(endings: list[Ending], *, always_early: bool = False) -> None:
    """Nothing is left, nothing is a traceback; what did not come to its end is interrupted."""
    assert [ending.left for ending in endings if ending.left] == []
    assert all(ending.was_alive for ending in endings)
    for ending in endings:
        assert "Traceback" not in ending.text, ending.text
        assert "Exception ignored" not in ending.text, ending.text
        is_complete = not always_early and " as expected\n" in ending.text
        allowed = (0, INTERRUPTED) if is_complete else (INTERRUPTED,)
        assert ending.status in allowed, ending.text[-500:]
