"""Drives the course by its keys, and reads its screens."""

import os
import re
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from textual.pilot import Pilot

from labs.engine.errors import ExitStatus
from labs.engine.learn.app import CourseApp
from labs.engine.learn.exercise_screen import ExerciseScreen
from labs.engine.learn.lab_screen import LabScreen
from labs.engine.learn.learn import LearnOptions, make_app
from labs.engine.learn.run_screen import RunScreen
from labs.engine.learn.story import Phase
from labs.engine.model import Measured, StepStarted
from labs.engine.prediction import choices

SECONDS = 60.0  # for what takes one
INTERVAL = 0.01
SETTLED = 1.0
NARROW, WIDE = (80, 24), (140, 40)

# What differs from run to run; each is replaced by a word that takes as many columns.
VARYING = {
    re.compile(r"\b\d{6,10}\b *"): "INODE",
    re.compile(r"Linux \S+, bindlab \S+ *"): "Linux KERNEL, bindlab VERSION",
    re.compile(r"/tmp/bl-\w{8}"): "/tmp/HOME",
}


@dataclass(frozen=True)
class Course:
    """The course as it is driven."""

    app: CourseApp
    pilot: Pilot[ExitStatus]

    @property
    def lab(self) -> LabScreen:
        """The screen, which is a lab's."""
        assert isinstance(self.app.screen, LabScreen)
        return self.app.screen

    @property
    def exercise(self) -> ExerciseScreen:
        """The screen, which is an exercise's."""
        assert isinstance(self.app.screen, ExerciseScreen)
        return self.app.screen

    @property
    def text(self) -> str:
        """The screen, line by line."""
        strips = self.app.screen._compositor.render_strips()
        return "\n".join("".join(part.text for part in strip).rstrip() for strip in strips)

    async def press(self, *keys: str) -> None:
        """Press keys, one after the other."""
        await self.pilot.press(*keys)

    async def settle(self) -> None:
        """Wait until the screen has not changed for a while."""
        before, since = self.text, time.monotonic()
        while time.monotonic() < since + SETTLED:
            await self.pilot.pause(INTERVAL)
            if self.text != before:
                before, since = self.text, time.monotonic()

    async def until(
        self, condition: Callable[[], object], what: str, seconds: float = SECONDS
    ) -> None:
        """Wait for a condition."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"waited in vain: {what}\n{self.text}"
            await self.pilot.pause(INTERVAL)

    async def see(self, words: str) -> None:
        """Wait until the screen has these words."""
        await self.until(lambda: words in self.text, words)

    async def reach(self, *phases: Phase) -> Phase:
        """Wait until the run of the screen is at one of these phases."""
        screen = self.app.screen
        assert isinstance(screen, RunScreen)
        await self.until(lambda: screen.story.phase in phases, str(phases))
        return screen.story.phase

    async def answer(self, steps: list[StepStarted]) -> None:
        """Answer a question as somebody does who knows it all; `steps` are all of the lab."""
        for step in self.lab.story.asked:
            if isinstance(step.expected, Measured):
                low, high = step.expected.low, step.expected.high
                await self.press(*(f"{low:g}" if low == high else f"{low:g}-{high:g}"), "enter")
            else:
                offered = choices(each.expected for each in steps)
                await self.press(str(offered.index(step.expected) + 1))


@contextmanager
def home() -> Iterator[Path]:
    """A home folder of its own, with a path that is always as long."""
    with tempfile.TemporaryDirectory(prefix="bl-", dir="/tmp") as folder:
        variables = {"HOME": folder, "XDG_STATE_HOME": f"{folder}/state", "EDITOR": "nano"}
        with patch.dict(os.environ, variables):
            os.environ.pop("VISUAL", None)
            os.environ.pop("NO_COLOR", None)
            yield Path(folder)


@asynccontextmanager
async def open_course(
    size: tuple[int, int], language: str = "en", lab: str = ""
) -> AsyncIterator[Course]:
    """The course on a terminal of this size, and no other."""
    app = make_app(LearnOptions(language, lab), has_colour=True)
    async with app.run_test(size=size, notifications=True) as pilot:
        await pilot.pause()
        try:
            yield Course(app, pilot)
        finally:
            app.exit()


def as_always(text: str) -> str:
    """A screen without what differs from run to run."""
    for pattern, word in VARYING.items():
        text = pattern.sub(lambda match, word=word: word.ljust(len(match[0])), text)  # type: ignore[misc]
    return "\n".join(line.rstrip() for line in text.split("\n")) + "\n"
