"""What the screens of a lab and of an exercise have in common: panes, a run, and its keys."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual import on
from textual.containers import Container, Vertical

from labs.engine.errors import BindlabError
from labs.engine.learn.keys import add_key
from labs.engine.learn.lines import WordLine
from labs.engine.learn.messages import Ended, NextAsked, PredictionsAsked, Untouched
from labs.engine.learn.panes import REFRESH, PicturePane, StepsPane, TextPane, visible
from labs.engine.learn.pictures import Pictures
from labs.engine.learn.question import QuestionBox
from labs.engine.learn.running import Running
from labs.engine.learn.screen import CourseScreen
from labs.engine.learn.story import Phase, Story
from labs.engine.learn.words import questioner
from labs.engine.model import StepEnded, StepStarted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from textual import events
    from textual.widget import Widget

    from labs.engine.learn.child import Request
    from labs.engine.learn.messages import Message
    from labs.engine.model import Event
    from labs.engine.translation import Say

TEXT, STEPS, PICTURE = range(3)
WIDE, WIDEST = 110, 170  # columns from which two and three panes stand side by side
HIGH = 44  # rows from which two panes stand one above the other
BUSY = (Phase.STARTING, Phase.RUNNING, Phase.WAITING, Phase.ASKING)


@dataclass(frozen=True)
class Manner:
    """How the course speaks and shows, the same on all its screens."""

    language: str
    say: Say
    has_signs: bool = True


class RunScreen(CourseScreen):
    """A screen on which something is run."""

    heading = ""  # of the page
    of_run = ""  # the heading of the steps
    name_shown = ""

    def __init__(self, manner: Manner) -> None:
        self.manner = manner
        self.story = Story()
        self.pictures = Pictures(manner.language, has_signs=manner.has_signs)
        self.running: Running | None = None
        self.runs_on = False
        self._pane = TEXT
        self._picture_is_old = False
        self.has_left = False  # what is still to come is not to be shown any more
        self._step: int | None = None  # whose picture is shown; None for what is now
        super().__init__(manner.say)

    def add_keys(self) -> None:
        """Add the keys of every run."""
        say = self.say
        add_key(self, "n,enter,space", "next", say("Next step"))
        add_key(self, "a", "run_on", say("All steps"))
        add_key(self, "tab", "pane(1)", say("Other pane"))
        add_key(self, "shift+tab", "pane(-1)", "", is_shown=False)
        add_key(self, "left", "step(-1)", say("Step back"), is_shown=False)
        add_key(self, "right", "step(1)", say("Step on"), is_shown=False)
        add_key(self, "x", "stop", say("Stop"))
        add_key(self, "escape", "leave", say("Back"))

    def compose_content(self) -> Iterator[Widget]:
        """The panes."""
        say = self.say
        with Container(id="panes"):
            yield TextPane("text", self.heading)
            with Vertical(id="run"):
                yield StepsPane("steps", self.of_run, has_signs=self.manner.has_signs)
                yield QuestionBox(self.manner.language, say, questioner(self.manner.language))
            yield PicturePane("picture", say("Picture"))
        yield WordLine()

    def on_mount(self) -> None:
        """Show what there is to read."""
        self.query_one(QuestionBox).display = False
        self.refresh_text()
        self.refresh_word()
        self.show_pane(TEXT)
        self.set_interval(REFRESH, self._refresh_picture)

    def on_resize(self, event: events.Resize) -> None:
        """Show as many panes as there is room for."""
        super().on_resize(event)
        self.show_pane(self._pane)

    # --- what the kinds of runs differ in ---

    def page(self) -> list[str]:
        """What there is to read, in parts of Markdown."""
        raise NotImplementedError

    def word(self) -> str:
        """What may be done now, in a line."""
        raise NotImplementedError

    def request(self) -> Request:
        """What is to be run."""
        raise NotImplementedError

    def has_ended(self) -> None:
        """The run is over."""

    # --- a run ---

    def run(self) -> None:
        """Run it, anew where it was run before."""
        if self.story.phase in BUSY:
            return
        self.story = Story()
        self.story.phase = Phase.STARTING
        self.pictures = Pictures(self.manner.language, has_signs=self.manner.has_signs)
        self.runs_on, self._step = False, None
        self.query_one(StepsPane).begin()
        self.show_pane(STEPS)
        self.refresh_word()
        self.running = Running(self.request())
        self.run_worker(self._follow(self.running), exclusive=True)

    async def _follow(self, running: Running) -> None:
        try:
            async with contextlib.aclosing(running.messages()) as messages:
                async for message in messages:
                    if self.has_left:
                        return
                    await self._take(message)
                    await asyncio.sleep(0)  # a key is answered first, however much has come
        except BindlabError as error:
            await self._take(Ended(error.status, error.message, error.hint))
        finally:
            await running.stop()
        if not self.has_left and self.story.phase in BUSY:
            self.story.phase = Phase.STOPPED
            self.query_one(QuestionBox).display = False
            self.show_pane(self._pane)
            self.refresh_word()

    async def _take(self, message: Message) -> None:
        self.story.take(message)
        match message:
            case NextAsked():
                if self.runs_on:
                    self.go_on()
            case PredictionsAsked(steps, offered):
                self.show_pane(STEPS)
                self.query_one(QuestionBox).ask(steps, offered)
            case Untouched():
                pass  # its end comes with the next message
            case Ended():
                self.query_one(QuestionBox).display = False
                self.has_ended()
                self.refresh_text()
                self.show_pane(self._pane)
            case _:
                await self._show(message)
                return
        self.refresh_word()

    async def _show(self, event: Event) -> None:
        self.pictures.take(event)
        await asyncio.sleep(0)
        self.query_one(StepsPane).add(event)
        self._picture_is_old = True
        if isinstance(event, StepStarted | StepEnded):
            self._step = None
            self.refresh_word()

    def go_on(self) -> None:
        """Let the next step come."""
        if self.running and self.story.phase is Phase.WAITING:
            self.story.go_on()
            self.running.go_on()

    @on(QuestionBox.Answered)
    def _answer(self, message: QuestionBox.Answered) -> None:
        if self.running and self.story.phase is Phase.ASKING:
            self.story.go_on()
            self.running.say(message.said)
            self.show_pane(self._pane)
            self.refresh_word()

    @on(QuestionBox.Asked)
    def _show_how_to_answer(self) -> None:
        self.refresh_word()

    # --- keys ---

    def check_action(self, action: str, _parameters: tuple[object, ...]) -> bool | None:
        """Whether a key does something now."""
        phase = self.story.phase
        if action == "next":
            return phase is Phase.WAITING
        if action == "run_on":
            return phase in (Phase.WAITING, Phase.RUNNING) and not self.runs_on
        if action == "stop":
            return phase in BUSY
        return True

    def action_next(self) -> None:
        """Let the next step come."""
        self.query_one(StepsPane).follow()
        self.go_on()
        self.refresh_word()

    def action_run_on(self) -> None:
        """Go on without stopping."""
        self.runs_on = True
        self.query_one(StepsPane).follow()
        self.go_on()
        self.refresh_word()

    async def action_stop(self) -> None:
        """End the run."""
        if self.running:
            await self.running.stop()

    async def action_leave(self) -> None:
        """End the run, and go back to where one came from."""
        self.has_left = True
        self.workers.cancel_node(self)
        if self.running:
            await self.running.stop()
        self.dismiss()

    def action_pane(self, direction: int) -> None:
        """Go to the next pane, or to the one before."""
        self.show_pane((self._pane + direction) % 3)

    def action_step(self, direction: int) -> None:
        """Look at another step's picture."""
        numbers = self.pictures.steps
        if not numbers:
            return
        here = numbers.index(self._step) if self._step in numbers else len(numbers) - 1
        self._step = numbers[min(max(here + direction, 0), len(numbers) - 1)]
        self.query_one(StepsPane).show_step(self._step)
        self.show_picture()

    # --- the screen ---

    def _refresh_picture(self) -> None:
        if self._picture_is_old and self._step is None and self.query_one("#picture").display:
            self.show_picture()

    def show_picture(self) -> None:
        """Show the picture of the step that is looked at."""
        title = self.say("Picture")
        if self._step is not None:
            title = self.say("Picture after step {number}", {"number": self._step})
        step, self._picture_is_old = self._step, False
        self.query_one(PicturePane).show(lambda width: self.pictures.draw(step, width), title)

    def show_pane(self, number: int) -> None:
        """Let this pane be the one that the arrows scroll, and show those beside it."""
        self._pane = number
        columns, rows = self.size
        side_by_side = 3 if columns >= WIDEST else 2 if columns >= WIDE else 1
        is_stacked = side_by_side == 1 and rows >= HIGH
        self.set_class(is_stacked, "-stacked")
        shown = visible(3, number, 2 if is_stacked else side_by_side)
        panes = ("#text", "#run", "#picture")
        for index, pane in enumerate(panes):
            self.query_one(pane).display = index in shown
        self._focus(number)
        self.refresh_title()

    def _focus(self, number: int) -> None:
        question = self.query_one(QuestionBox)
        if number == STEPS and question.display:
            question.focus_answer()
        else:
            self.query_one(("#text", "#steps", "#picture")[number]).focus(scroll_visible=False)

    def refresh_title(self) -> None:
        """Show what this is, how far it has come, and which panes there are."""
        names = (self.heading, self.of_run, self.say("Picture"))
        panes = "  ".join(
            f"[{name}]" if index == self._pane else f" {name} " for index, name in enumerate(names)
        )
        score = ""
        if self.story.score.judged:
            values = {"right": self.story.score.right, "count": self.story.score.judged}
            score = self.say("predicted: {right} of {count} right", values) + "   "
        self.set_title(self.name_shown, f"{score}{panes}")

    def refresh_word(self) -> None:
        """Say what may be done now."""
        self.query_one(WordLine).show(self.word())
        self.refresh_title()
        self.refresh_bindings()

    def refresh_text(self) -> None:
        """Show the page as it is now."""
        self.query_one(TextPane).show(self.page())
