"""The course by its keys, with real labs and a real check; and its screens, as they are kept."""

import os
import signal
from pathlib import Path

import pytest

from labs.engine.catalogue import find_lab
from labs.engine.exercises.progress import LabEntry, open_lab_progress, open_progress
from labs.engine.learn.exercise_screen import ExerciseScreen
from labs.engine.learn.help import HelpScreen
from labs.engine.learn.story import Phase
from labs.engine.model import StepStarted
from labs.engine.rehearsal import rehearse_steps
from tests.courses import NARROW, WIDE, Course, as_always, home, open_course

pytestmark = pytest.mark.namespaces

SCREENS = Path(__file__).parents[1] / "screens"
KEEP = "BINDLAB_KEEP_SCREENS"  # set to write the screens anew; then look at the difference
LAB, EXERCISE = "unique", "corner"


def steps_of(name: str) -> list[StepStarted]:
    return rehearse_steps(find_lab(name, f"labs.{name}.lab"), None, "en")


async def answer_all(course: Course, name: str) -> None:
    """Answer all questions of a lab that runs, and go through all of its steps."""
    steps = steps_of(name)
    while (phase := await course.reach(Phase.ASKING, Phase.WAITING, Phase.OVER)) is not Phase.OVER:
        if phase is Phase.ASKING:
            await course.answer(steps)
        else:
            await course.press("n")


async def test_a_course_from_its_start_to_a_passed_challenge() -> None:
    with home():
        async with open_course(WIDE) as course:
            await course.see("Begin at the top.")
            await course.press("enter")
            await course.see("unique: what is taken when a port is taken")
            await course.press("r")
            await answer_all(course, LAB)
            count = len(steps_of(LAB))
            await course.see(f"predictions: {count} of {count} right")
            await course.see("Press e for its exercise")
            entry = open_lab_progress().read()[LAB]
            assert (entry.runs, entry.right, entry.asked) == (1, count, count)

            await course.press("e")
            await course.see("corner: what a stranger has left of a port")
            await course.press("c")
            await course.see("Your program is still as it was given to you")
            await course.press("h")
            await course.see("Hint 1 of")
            screen = course.exercise
            (wrong, *_) = screen.challenge.wrong
            screen.program.write_bytes(wrong.read_bytes())
            await course.press("c")
            await course.see("Not solved yet.")
            await course.see("Hint: ")  # the advice that fits
            screen.program.write_bytes(screen.challenge.solution.read_bytes())
            await course.press("c")
            await course.see("Solved. s shows how one may do it")
            passed = open_progress().read()[EXERCISE]
            assert (passed.checks, passed.hints) == (2, 1)
            assert passed.passed
            await course.press("s")
            await course.see("How one may do it")
            await course.see("#!/usr/bin/env python3")
            await course.press("escape", "escape")
            await course.see(f"\N{HEAVY CHECK MARK} {count}/{count}")
            await course.see("1 of 21 labs run, 1 of 27 exercises solved.")


async def test_in_a_small_terminal_everything_is_reached() -> None:
    with home():
        async with open_course(NARROW, lab="timewait") as course:
            await course.see("[Brief]")
            await course.press("r")
            # Four steps that follow each other are asked for together.
            await course.reach(Phase.ASKING)
            assert len(course.lab.story.asked) == 4
            await course.answer(steps_of("timewait"))
            await course.reach(Phase.WAITING)
            assert len(course.lab.story.verdicts) == 4
            await course.press("tab")
            await course.see("[Picture]")
            await course.see("TIME_WAIT")
            await course.press("left", "left", "left")
            await course.see("Picture after step 1")
            await course.press("tab", "tab", "a")
            await course.reach(Phase.ASKING)
            await course.press("ctrl+d")
            await course.reach(Phase.OVER)
            await course.see("Press e for its exercise")
            await course.press("question_mark")
            assert isinstance(course.app.screen, HelpScreen)
            await course.see("picture shows who has what")


async def test_a_save_is_checked_and_a_pass_ends_the_watch() -> None:
    with home():
        async with open_course(WIDE, lab="euid") as course:
            await course.press("e", "w")
            await course.see("Your program is still as it was given to you")
            await course.see("It is checked again at the next save.")
            screen = course.exercise
            screen.program.write_bytes(screen.challenge.solution.read_bytes())
            await course.see("Solved.")
            assert "checked again" not in course.text
            await course.press("R")
            await course.see("Press R once more")
            await course.press("R")
            template = screen.challenge.template.read_bytes()
            await course.until(lambda: screen.program.read_bytes() == template, "the template")
            assert (screen.program.parent / "before-reset-1.py").exists()


async def test_a_run_is_stopped_and_another_begins() -> None:
    with home():
        async with open_course(WIDE, lab="fork") as course:
            await course.press("p", "r")
            await course.reach(Phase.WAITING)
            pid = course.lab.running.pid if course.lab.running else None
            assert pid
            await course.press("x")
            await course.reach(Phase.STOPPED)
            assert not Path(f"/proc/{pid}").exists()
            assert open_lab_progress().read() == {}
            await course.press("r")
            await course.reach(Phase.WAITING)
            await course.press("escape")
            await course.see("Begin at the top.")


async def test_a_lab_that_dies_is_told() -> None:
    with home():
        async with open_course(WIDE, lab="fork") as course:
            await course.press("r")
            await course.reach(Phase.ASKING)
            running = course.lab.running
            assert running
            assert running.pid
            os.kill(running.pid, signal.SIGKILL)
            await course.see("The lab's process has ended by SIGKILL.")
            assert open_lab_progress().read() == {}


async def test_progress_that_cannot_be_read_is_told_and_kept() -> None:
    with home() as folder:
        open_lab_progress().change(LAB, lambda _: LabEntry(1, "2026-01-02"))
        kept = folder / "state" / "bindlab" / "labs.json"
        async with open_course(WIDE) as course:
            await course.see("1 of 21 labs run")
            kept.write_text("{}")
            await course.press("enter", "escape")
            await course.see("is not 1.")
            await course.see("Next: corner.")
        assert kept.read_text() == "{}"


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("size", [NARROW, WIDE])
async def test_the_screens_are_those_that_are_kept(size: tuple[int, int], language: str) -> None:
    folder = SCREENS / f"{language}-{size[0]}x{size[1]}"
    different: list[str] = []

    async def compare(name: str) -> None:
        path = folder / f"{name}.txt"
        if os.environ.get(KEEP):
            await course.settle()
            folder.mkdir(parents=True, exist_ok=True)
            path.write_text(as_always(course.text))
        kept = path.read_text()
        try:
            await course.until(lambda: as_always(course.text) == kept, "the kept screen", 10)
        except AssertionError:
            different.append(f"{path}:\n{as_always(course.text)}")

    with home():
        async with open_course(size, language) as course:
            await course.until(lambda: course.text.count("\n") + 1 >= size[1], "the list")
            await compare("1-list")
            await course.press("question_mark")
            await course.until(lambda: isinstance(course.app.screen, HelpScreen), "the help")
            await compare("2-help")
            await course.press("escape", "enter")
            await course.see(f"{LAB}  ")
            await compare("3-brief")
            await course.press("r")
            await course.reach(Phase.ASKING)
            await compare("4-question")
            await course.press("2")
            await course.reach(Phase.WAITING)
            await compare("5-step")
            await course.press("left", "tab")
            await compare("6-picture")
            await course.press("x", "e")
            await course.until(
                lambda: isinstance(course.app.screen, ExerciseScreen), "the exercise"
            )
            await compare("7-task")
            await course.pilot.resize_terminal(70, 20)
            await compare("8-too-small")
            await course.pilot.resize_terminal(*size)
            await course.press("h")
            await compare("9-hint")
    assert not different, "\n".join(different)
