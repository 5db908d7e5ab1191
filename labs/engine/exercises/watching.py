"""What `invoke exercise.watch` does: checks a program at every save, until it passes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from labs.engine.errors import ExitStatus, UsageError
from labs.engine.exercises.check import CheckOptions, check_exercise, find_exercise
from labs.engine.views.exercise import ExerciseView

if TYPE_CHECKING:
    from labs.engine.exercises.workplace import Fingerprint, Workplace

# Seconds between two looks at the folder. It is small, and a look at it sees what inotify(7) does
# not: a save on the other side of a network, or of a container's wall.
INTERVAL = 0.05


def watch_exercise(name: str, language: str) -> ExitStatus:
    """Check now, and whenever something in the work folder has changed; ends with a pass."""
    view = ExerciseView(language)
    workplace = find_exercise(name).workplace
    workplace.read()  # a folder that is gone, or has no program, is said at once
    checked = None
    while True:
        checked = wait_for_change(workplace, checked)
        try:
            if check_exercise(name, CheckOptions(language=language)) is ExitStatus.PASSED:
                return ExitStatus.PASSED
        except UsageError as error:  # of the program as it is now: the next save may mend it
            view.show_problem(error)
        view.show_waiting(workplace.path)


def wait_for_change(workplace: Workplace, before: Fingerprint | None) -> Fingerprint:
    """Wait until the folder is another one, and is one for two looks: a save takes a moment."""
    last = None
    while (found := workplace.fingerprint()) == before or found != last:
        last = found
        time.sleep(INTERVAL)
    return found
