"""What `invoke exercise.grade` does: checks a folder of submissions, and makes the table."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from labs.engine.attempt import Attempt
from labs.engine.backends.namespaces.backend import open_namespaces
from labs.engine.catalogue import find_challenges
from labs.engine.classes.roster import FORMULA, Learner
from labs.engine.errors import BindlabError, ExitStatus, UsageError, standard_output
from labs.engine.exercises.grades import TABLES, Grade, Table, open_table
from labs.engine.exercises.workplace import usage_errors
from labs.engine.jobs import choose_count, work_off
from labs.engine.layout import Layout
from labs.engine.model import Advised, RunEnded, StepEnded, StepStarted, Verdict
from labs.engine.runner import run_lab
from labs.engine.strace import make_readable
from labs.engine.submission import read_submission, single_file
from labs.engine.translation import ENGLISH, check_language
from labs.engine.views.grades import GradesView, open_report
from labs.engine.views.json import STANDARD_OUTPUT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from labs.engine.challenge import Challenge
    from labs.engine.model import Event

MOST_SECONDS = 180.0  # for one check


@dataclass(frozen=True)
class GradeOptions:
    """Which submissions, of which exercise (empty: by the names of folders), and how.

    `output` is the folder of the tables, empty for that of the submissions; `junit` a file's name.
    """

    folder: str
    name: str = ""
    output: str = ""
    jobs: int | None = None
    seed: int | None = None
    junit: str | None = None
    language: str = ENGLISH


@dataclass(frozen=True)
class Entry:
    """A learner's submission of an exercise: a folder or a file."""

    learner: str
    challenge: Challenge | None
    path: Path

    @property
    def exercise(self) -> str:
        """The exercise's name; empty where there is no submission of any."""
        return self.challenge.name if self.challenge else ""

    def read(self) -> Attempt:
        """The program and what it is to do; raises UsageError. A link may lead anywhere."""
        if self.challenge is None:
            raise UsageError("No folder of this learner's has the name of an exercise.")
        if self.path.is_symlink() or self.path.parent.is_symlink():
            raise UsageError("It is a link, and no submission.")
        read = single_file if self.path.is_file() else read_submission
        return Attempt(self.challenge, read(self.path))


@usage_errors()
def grade_folder(options: GradeOptions) -> ExitStatus:
    """Check all submissions side by side; the status of the worst. Raises UsageError."""
    check_language(options.language)
    jobs = choose_count(options.jobs)
    folder = Path(options.folder)
    entries = find_entries(folder, options.name)
    output = Path(options.output or folder)
    started = time.monotonic()
    with contextlib.ExitStack() as stack:
        write = stack.enter_context(open_table(output))
        report = stack.enter_context(open_report(options.junit)) if options.junit else None
        stream = sys.stderr if options.junit == STANDARD_OUTPUT else standard_output()
        view = GradesView(stream, len(entries))
        grades: dict[Path, Grade] = {}
        check = partial(check_entry, seed=options.seed, language=options.language)
        for entry, found in work_off(entries, check, at_once=jobs, seconds=MOST_SECONDS):
            grade = fail(entry, found) if isinstance(found, BindlabError) else found
            grades[entry.path] = grade
            view.show_grade(grade)
        table = Table(tuple(grades[entry.path] for entry in entries))
        write(table)
        if report:
            report(table)
        view.show(table, time.monotonic() - started)
    return table.status


def find_entries(folder: Path, name: str) -> list[Entry]:
    """All submissions, in the order of their learners; UsageError where there is none.

    A learner's is FOLDER/LEARNER/EXERCISE, as `exercise.start` makes it. With a name, or where the
    folder has that of an exercise, also FOLDER/LEARNER or a file FOLDER/LEARNER.py.
    """
    if not folder.is_dir():
        raise UsageError(f"There is no folder {folder}.")
    challenges = {challenge.name: challenge for challenge in find_challenges()}
    name = name or (folder.resolve().name if folder.resolve().name in challenges else "")
    if name and name not in challenges:
        raise UsageError(f"There is no exercise {name}.", f"There are {', '.join(challenges)}.")
    wanted = {name: challenges[name]} if name else challenges
    entries = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name in TABLES:
            continue
        learner = name_learner(path)
        found = [each for each in wanted if os.path.isdir(path / each)]
        entries += [Entry(learner, wanted[each], path / each) for each in found]
        if not found and (name or os.path.isdir(path)):
            # Whoever has none that is asked for gets a row that says so.
            entries.append(Entry(learner, wanted[name] if name else None, path))
    if not any(entry.challenge for entry in entries):
        raise UsageError(
            f"There is no submission in {folder}.",
            "One is LEARNER/EXERCISE with a program in it; with --name EXERCISE also LEARNER or "
            "LEARNER.py.",
        )
    return entries


def name_learner(path: Path) -> str:
    """The learner's name, as a table and a terminal can have it."""
    name = path.name if os.path.isdir(path) else path.stem
    shown = make_readable(name)
    return f"'{shown}" if shown[0] in FORMULA else shown


def check_entry(entry: Entry, seed: int | None, language: str) -> Grade:
    """Check one submission, with the ports and users of the learner's name; raises CannotRun."""
    try:
        attempt = entry.read()
    except UsageError as error:
        return fail(entry, error)
    layout = Layout(Learner(entry.learner).seed if seed is None else seed)
    events: list[Event] = []
    started = time.monotonic()
    with open_namespaces() as backend:
        run_lab(attempt, backend, layout, [events.append], language)
    return summarize(entry, events, time.monotonic() - started)


def summarize(entry: Entry, events: Sequence[Event], seconds: float) -> Grade:
    """What a check came to, by its events."""
    grade = Grade(entry.learner, entry.exercise, ExitStatus.FAILED, seconds=seconds)
    title = ""
    for event in events:
        match event:
            case StepStarted():
                title = event.title
            case StepEnded() if event.verdict is Verdict.PASSED:
                grade = replace(grade, met=grade.met + 1)
            case StepEnded():
                grade = replace(grade, stopped_at=title)
            case Advised():
                grade = replace(grade, advice=event.name, text=event.text)
            case RunEnded():
                status = ExitStatus(event.status)
                grade = replace(grade, status=status, text=event.error or grade.text)
    return grade


def fail(entry: Entry, error: BindlabError) -> Grade:
    """The row of what could not be checked; where that is the submission's, it is unsolved."""
    status = ExitStatus.UNSOLVED if isinstance(error, UsageError) else error.status
    return Grade(entry.learner, entry.exercise, status, text=error.message)
