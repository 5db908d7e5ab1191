"""Checks a trainee's program, and says what to do next."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from labs.engine.attempt import Attempt
from labs.engine.backends.namespaces.missing import KERNEL_ALTERNATIVE, without_docker
from labs.engine.catalogue import find_challenge
from labs.engine.errors import CannotRun, ExitStatus, UsageError
from labs.engine.exercises.progress import open_progress
from labs.engine.exercises.workplace import Workplace, usage_errors
from labs.engine.runner import Options, run_labs, terminal_stream
from labs.engine.translation import ENGLISH, check_language
from labs.engine.views.exercise import ExerciseView

if TYPE_CHECKING:
    from collections.abc import Callable

    from labs.engine.challenge import Challenge
    from labs.engine.exercises.progress import Entry


@dataclass(frozen=True)
class CheckOptions:
    """How to check: `kernel` is what boots, `json`, `junit` and `html` the names of files."""

    kernel: str | None = None
    json: str | None = None
    junit: str | None = None
    html: str | None = None
    language: str = ENGLISH


@dataclass(frozen=True)
class Exercise:
    """A challenge that the trainee has started."""

    challenge: Challenge
    entry: Entry

    @property
    def workplace(self) -> Workplace:
        """Its work folder."""
        return Workplace(Path(self.entry.folder), self.challenge)


@usage_errors()
def check_exercise(name: str, options: CheckOptions) -> ExitStatus:
    """Run the check of an exercise; UNSOLVED where the program does not do what it is to do."""
    check_language(options.language)
    exercise = find_exercise(name)
    run_options = Options(
        seed=exercise.entry.seed,
        json=options.json,
        junit=options.junit,
        html=options.html,
        kernel=options.kernel,
        language=options.language,
    )
    view = ExerciseView(options.language, terminal_stream(run_options))
    status = attempt(exercise, lambda run: run_labs([run], run_options))
    if status is None:
        view.show_untouched(name, exercise.workplace.program)
        return ExitStatus.UNSOLVED
    if status is ExitStatus.PASSED:
        view.show_solved(exercise.challenge)
    elif status is ExitStatus.UNSOLVED:
        hints = find_exercise(name).entry.hints
        view.show_next(name, len(exercise.challenge.hints) - hints)
    return status


def attempt(exercise: Exercise, run: Callable[[Attempt], ExitStatus]) -> ExitStatus | None:
    """Let the check be run with the program as it is now, and count it.

    None where the program is still the one that was given. Raises UsageError.
    """
    name, workplace = exercise.challenge.name, exercise.workplace
    submission = workplace.read()
    if workplace.is_untouched(submission):
        return None
    open_progress().change(name, lambda entry: entry or exercise.entry)  # it can be written to
    with workplace.busy():
        try:
            status = run(Attempt(exercise.challenge, submission))
        except CannotRun as error:
            raise without_docker(error, KERNEL_ALTERNATIVE) from None
    note_check(name, status)
    return status


def find_exercise(name: str) -> Exercise:
    """The exercise of this name, which was started; UsageError where it was not."""
    challenge = find_challenge(name)
    entry = open_progress().read().get(name)
    if entry is None:
        raise UsageError(f"The exercise {name} was not started.", f"invoke exercise.start {name}")
    return Exercise(challenge, entry)


def note_check(name: str, status: ExitStatus) -> None:
    """Count a check, and keep the day of the first pass."""

    def count(entry: Entry | None) -> Entry:
        assert entry
        passed = entry.passed
        if status is ExitStatus.PASSED and not passed:
            passed = today()
        return replace(entry, checks=entry.checks + 1, passed=passed)

    open_progress().change(name, count)


def today() -> str:
    """This day, as YYYY-MM-DD."""
    return time.strftime("%Y-%m-%d")
