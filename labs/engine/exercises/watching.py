"""What `invoke exercise.watch` does: checks a program at every save, until it passes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from watchfiles import watch

from labs.engine.errors import ExitStatus, UsageError
from labs.engine.exercises.check import CheckOptions, check_exercise, find_exercise
from labs.engine.views.exercise import ExerciseView

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Milliseconds: an editor writes a file in several steps, within a few of these.
SETTLED = 60
LOOK = 20
LONGEST = 500  # until the folder is looked at again, whatever the kernel has told of it


def watch_exercise(name: str, language: str) -> ExitStatus:
    """Check now, and whenever something in the work folder has changed; ends with a pass."""
    view = ExerciseView(language)
    workplace = find_exercise(name).workplace
    workplace.read()  # a folder that is gone, or has no program, is said at once
    checked = None
    for _ in looks(workplace.path):
        if (found := workplace.fingerprint()) == checked:
            continue
        checked = found
        try:
            if check_exercise(name, CheckOptions(language=language)) is ExitStatus.PASSED:
                return ExitStatus.PASSED
        except UsageError as error:  # of the program as it is now: the next save may mend it
            view.show_problem(error)
        view.show_waiting(workplace.path)
    return ExitStatus.UNSOLVED


def looks(path: Path) -> Iterator[None]:
    """The moments at which to look at a folder: now, and when something in it may have changed."""
    yield None
    for _ in watch(
        path,
        watch_filter=None,
        debounce=SETTLED,
        step=LOOK,
        rust_timeout=LONGEST,
        yield_on_timeout=True,
    ):
        yield None
