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


class Saves:
    """Looks at a work folder, for one that is another than when it was last taken."""

    def __init__(self, workplace: Workplace) -> None:
        self._workplace = workplace
        self._taken: Fingerprint | None = None
        self._last: Fingerprint | None = None

    def look(self) -> bool:
        """Whether it is another one, and is one for two looks: a save takes a moment."""
        found = self._workplace.fingerprint()
        is_still = found == self._last
        self._last = found
        return is_still and found != self._taken

    def take(self) -> None:
        """Let what was seen last be what is known."""
        self._taken = self._last


def watch_exercise(name: str, language: str) -> ExitStatus:
    """Check now, and whenever something in the work folder has changed; ends with a pass."""
    view = ExerciseView(language)
    workplace = find_exercise(name).workplace
    workplace.read()  # a folder that is gone, or has no program, is said at once
    saves = Saves(workplace)
    while True:
        while not saves.look():
            time.sleep(INTERVAL)
        saves.take()
        try:
            if check_exercise(name, CheckOptions(language=language)) is ExitStatus.PASSED:
                return ExitStatus.PASSED
        except UsageError as error:  # of the program as it is now: the next save may mend it
            view.show_problem(error)
        view.show_waiting(workplace.path)
