"""Grades: a line for each submission as checks end, the table, and its JUnit form."""

from __future__ import annotations

import contextlib
from itertools import groupby
from typing import TYPE_CHECKING, TextIO
from xml.etree import ElementTree as ET

from rich.text import Text

from labs.engine.errors import ExitStatus
from labs.engine.views.json import open_stream
from labs.engine.views.junit import writable, write_suites
from labs.engine.views.terminal import aligned, make_console

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from labs.engine.exercises.grades import Grade, Table

TITLES = ("learner", "exercise", "verdict", "met", "seconds", "advice")
STYLES = {
    ExitStatus.PASSED: "green",
    ExitStatus.UNSOLVED: "yellow",
    ExitStatus.CANNOT_RUN: "yellow",
    ExitStatus.FAILED: "bold red",
}


class GradesView:
    """Writes to a stream; plain text unless that is a terminal with colour."""

    def __init__(self, stream: TextIO, count: int) -> None:
        self._console = make_console(stream)
        self._count = count
        self._done = 0

    def show_grade(self, grade: Grade) -> None:
        """A line on one more submission, while others are still at work."""
        self._done += 1
        width = 2 * len(str(self._count)) + 1
        line = Text(f"{self._done}/{self._count}".rjust(width), "dim")
        line.append("  ").append(grade.learner, "bold").append(f"  {grade.exercise}  ")
        line.append(grade.verdict, STYLES.get(grade.status, ""))
        line.append(f"  {grade.text or grade.stopped_at}", "dim")
        self._console.write_line(line)

    def show(self, table: Table, seconds: float) -> None:
        """All rows, and what they come to."""
        self._console.write_line()
        rows = [TITLES, *map(list_columns, table.grades)]
        head, *lines = aligned(rows)
        self._console.write_line(Text(head, "dim"))
        for line, grade in zip(lines, table.grades, strict=True):
            self._console.write_line(Text(line, STYLES.get(grade.status, "")))
        count = len(table.grades)
        checked = f"{count} submission{'s' * (count != 1)} in {seconds:.1f} s"
        self._console.write_line()
        self._console.write_line(Text(f"{checked}: {table.counts}"))


def list_columns(grade: Grade) -> tuple[str, ...]:
    """The cells of a row."""
    counts = (str(grade.met), f"{grade.seconds:.1f}")
    return (grade.learner, grade.exercise, grade.verdict, *counts, grade.advice)


@contextlib.contextmanager
def open_report(name: str) -> Iterator[Callable[[Table], None]]:
    """What writes the JUnit form to a file, `-` being standard output, as a lab's is written."""
    with open_stream(name) as stream:
        yield lambda table: write_suites(make_suites(table), stream)


def make_suites(table: Table) -> ET.Element:
    """The grades as JUnit XML: an exercise is a test suite, a learner a test case of it."""
    root = ET.Element("testsuites", name="bindlab")
    by_exercise = sorted(table.grades, key=lambda grade: grade.exercise)
    for exercise, group in groupby(by_exercise, key=lambda grade: grade.exercise):
        suite = ET.SubElement(root, "testsuite", name=exercise)
        grades = [*group]
        for grade in grades:
            add_case(suite, grade)
        counts = {
            "tests": len(grades),
            "failures": sum(grade.status is ExitStatus.UNSOLVED for grade in grades),
            "errors": sum(grade.status is ExitStatus.FAILED for grade in grades),
            "skipped": sum(grade.status is ExitStatus.CANNOT_RUN for grade in grades),
        }
        for name, number in counts.items():
            suite.set(name, str(number))
    return root


def add_case(suite: ET.Element, grade: Grade) -> None:
    """A learner's test case."""
    name, time = writable(grade.learner), f"{grade.seconds:.3f}"
    class_name = f"bindlab.{grade.exercise}"
    case = ET.SubElement(suite, "testcase", classname=class_name, name=name, time=time)
    elements = {
        ExitStatus.UNSOLVED: "failure",
        ExitStatus.FAILED: "error",
        ExitStatus.CANNOT_RUN: "skipped",
    }
    if grade.status in elements:
        message = writable(grade.stopped_at or grade.text)
        found = ET.SubElement(case, elements[grade.status], message=message)
        found.text = writable(grade.text) or None
