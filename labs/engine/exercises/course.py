"""What a trainee does between two checks: start, hint, solution, reset, and look where one is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from labs.engine.catalogue import find_challenge, find_challenges
from labs.engine.errors import ExitStatus, UsageError
from labs.engine.exercises.check import find_exercise, today
from labs.engine.exercises.progress import Entry, open_progress
from labs.engine.exercises.workplace import Workplace, usage_errors, usual_folder
from labs.engine.translation import check_language, read_translation
from labs.engine.views.exercise import ExerciseView

if TYPE_CHECKING:
    from labs.engine.challenge import Challenge
    from labs.engine.exercises.check import Exercise


@dataclass(frozen=True)
class Started:
    """An exercise that was started: its program, which is new unless it was there before."""

    program: Path
    entry: Entry
    is_new: bool


@usage_errors()
def start_exercise(name: str, folder: str, seed: int | None, language: str) -> ExitStatus:
    """Put the template into the work folder, and show the task; again, where it was started."""
    view = make_view(language)
    challenge = find_challenge(name)
    started = begin(challenge, folder, seed)
    view.show_start(challenge, started.program, started.entry.seed, is_new=started.is_new)
    return ExitStatus.PASSED


def begin(challenge: Challenge, folder: str = "", seed: int | None = None) -> Started:
    """Put the template into the work folder, where no program is yet; raises UsageError."""
    name = challenge.name

    def change(entry: Entry | None) -> Entry:
        place = str(Path(folder).absolute()) if folder else str(usual_folder(name))
        if entry is None:
            return Entry(place, seed, today())
        return replace(
            entry,
            folder=place if folder else entry.folder,
            seed=entry.seed if seed is None else seed,
        )

    progress = open_progress()
    place = Workplace(Path(change(progress.read().get(name)).folder), challenge)
    there = place.fill()
    return Started(there or place.program, progress.change(name, change), is_new=there is None)


@usage_errors()
def give_hint(name: str, language: str) -> ExitStatus:
    """Show the hints that were given, and the next one."""
    view = make_view(language)
    exercise = find_exercise(name)
    say = read_translation(exercise.challenge.folder, language).text
    every = [say(hint) for hint in exercise.challenge.hints]
    view.show_hints(name, every[: count_hint(exercise)], len(every))
    return ExitStatus.PASSED


def count_hint(exercise: Exercise) -> int:
    """How many hints are given with the next one."""
    most = len(exercise.challenge.hints)

    def count(entry: Entry | None) -> Entry:
        assert entry
        return replace(entry, hints=min(entry.hints + 1, most))

    return open_progress().change(exercise.challenge.name, count).hints


@usage_errors()
def show_solution(name: str, language: str) -> ExitStatus:
    """Show a program that passes, to who has passed; UsageError for others."""
    view = make_view(language)
    exercise = find_exercise(name)
    if not exercise.entry.passed:
        raise UsageError(
            f"The solution of {name} is for those who have one: the check has not passed yet.",
            f"invoke exercise.hint {name}",
        )
    view.show_solution(exercise.challenge)
    return ExitStatus.PASSED


@usage_errors()
def reset_exercise(name: str, language: str) -> ExitStatus:
    """Put the template into the work folder again; what was there is kept beside it."""
    view = make_view(language)
    exercise = find_exercise(name)
    kept = exercise.workplace.reset()
    view.show_reset(exercise.workplace.program, kept)
    return ExitStatus.PASSED


@usage_errors()
def show_progress(language: str) -> ExitStatus:
    """Show all exercises, and where one stands with each."""
    view = make_view(language)
    progress = open_progress()
    view.show_progress(find_challenges(), progress.read(), progress.path)
    return ExitStatus.PASSED


def make_view(language: str) -> ExerciseView:
    """What shows exercises in a language; raises UsageError for one that there is not."""
    check_language(language)
    return ExerciseView(language)
