"""Measures exercises: from a save to its verdict, and a folder of submissions."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

from labs.engine.authoring.proof import Case, prove
from labs.engine.bench_command import time_command
from labs.engine.catalogue import find_challenge
from labs.engine.chores import ROOT
from labs.engine.errors import EngineError, ExitStatus

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

    from labs.engine.challenge import Challenge

EXERCISE = "drop"
ADVICE = "alone"  # of the wrong solution whose check gets furthest without waiting
WAITS = "Waiting for the next save"
SAVES = 8
SUBMISSIONS = 100
ONE_BY_ONE = 10  # that are checked in turn, and stand for all


def time_saves() -> tuple[float, float]:
    """From a save to the end of its verdict, and the check alone: medians in seconds."""
    challenge = find_challenge(EXERCISE)
    case = Case(challenge, challenge.folder / "wrong" / f"{ADVICE}.py", ExitStatus.UNSOLVED, ADVICE)
    saves, checks = [], []
    with open_watch(challenge) as (program, output):
        for number in range(SAVES):
            aside = program.with_name(".aside")
            # Another text each time: what has not changed is not checked again.
            aside.write_text(f"{case.program.read_text()}\n# {number}\n")
            aside.chmod(0o755)
            start = perf_counter()
            aside.rename(program)
            read_until(output, WAITS)
            saves.append(perf_counter() - start)
            start = perf_counter()
            problem = prove(case).problem(case)
            checks.append(perf_counter() - start)
            if problem:
                raise EngineError(f"{case}: {problem}.")
    return median(saves), median(checks)


@contextlib.contextmanager
def open_watch(challenge: Challenge) -> Iterator[tuple[Path, IO[str]]]:
    """A command that watches an exercise of a home folder of its own: the program, its output."""
    invoke = [sys.executable, "-m", "invoke"]
    with tempfile.TemporaryDirectory(prefix="bindlab-") as home:
        environment = {**os.environ, "HOME": home, "XDG_STATE_HOME": f"{home}/state"}
        time_command([*invoke, "exercise.start", challenge.name], environment)
        with subprocess.Popen(
            [*invoke, "exercise.watch", challenge.name],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        ) as watch:
            assert watch.stdout
            try:
                read_until(watch.stdout, WAITS)
                yield Path(home, "bindlab", challenge.name, "program.py"), watch.stdout
            finally:
                watch.terminate()


def read_until(output: IO[str], words: str) -> None:
    """Read lines until one has these words; EngineError where none comes."""
    for line in output:
        if words in line:
            return
    raise EngineError(f"exercise.watch has ended before it wrote {words!r}.")


def time_grading() -> tuple[float, float]:
    """So many submissions graded by the command, and checked one by one, in seconds."""
    challenge = find_challenge(EXERCISE)
    case = Case(challenge, challenge.solution, ExitStatus.PASSED)
    with tempfile.TemporaryDirectory(prefix="bindlab-") as name:
        for number in range(SUBMISSIONS):
            shutil.copy(challenge.solution, Path(name, f"learner{number}.py"))
        command = [sys.executable, "-m", "invoke", "exercise.grade", name, "--name", EXERCISE]
        ours = time_command(command)
    start = perf_counter()
    for _ in range(ONE_BY_ONE):
        if problem := prove(case).problem(case):
            raise EngineError(f"{case}: {problem}.")
    return ours, (perf_counter() - start) * SUBMISSIONS / ONE_BY_ONE
