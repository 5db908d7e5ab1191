"""An exercise's screen: its task, its program, the check, hints, and after success a solution."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from labs.engine.errors import BindlabError, ExitStatus
from labs.engine.exercises.check import Exercise, find_exercise
from labs.engine.exercises.course import begin, count_hint
from labs.engine.exercises.watching import INTERVAL, Saves
from labs.engine.exercises.workplace import usage_errors
from labs.engine.learn.child import CHECK, Request
from labs.engine.learn.editor import edit, find_editor
from labs.engine.learn.keys import add_key
from labs.engine.learn.pages import OF_AN_EXERCISE
from labs.engine.learn.panes import TextPane
from labs.engine.learn.run_screen import BUSY, TEXT, Manner, RunScreen
from labs.engine.learn.story import Phase
from labs.engine.translation import read_translation
from labs.engine.views.exercise import read_page

if TYPE_CHECKING:
    from collections.abc import Callable

    from labs.engine.challenge import Challenge

FENCE = "```"


class ExerciseScreen(RunScreen):
    """One exercise, which is started by coming here."""

    def __init__(self, challenge: Challenge, manner: Manner) -> None:
        self.challenge = challenge
        self.heading, self.of_run = manner.say("Task"), manner.say("Check")
        self._is_watching = False
        self._shows_solution = False
        self._is_sure = False  # to begin anew, once the key was pressed before
        with usage_errors():
            started = begin(challenge)
        self.program, self._entry = started.program, started.entry
        super().__init__(manner)
        self._translation = read_translation(challenge.folder, manner.language)
        self.name_shown = f"{challenge.name}  {self._translation.text(challenge.title)}"

    def help_text(self) -> str:
        """What the help says of this screen."""
        return self.say(OF_AN_EXERCISE)

    def add_keys(self) -> None:
        """Add the keys of an exercise."""
        say = self.say
        add_key(self, "c", "check", say("Check"))
        add_key(self, "e", "edit", say("Edit"))
        add_key(self, "w", "watch", say("Watch"))
        add_key(self, "h", "hint", say("Hint"))
        add_key(self, "s", "solution", say("Solution"))
        add_key(self, "R", "reset", say("Reset"))
        super().add_keys()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Whether a key does something now."""
        if action in ("check", "reset"):
            return self.story.phase not in BUSY
        if action in ("next", "run_on"):
            return False  # a check does not stop between its steps
        if action == "solution":
            return self._is_solved
        if action == "hint":
            return not self._is_solved and self._has_hints
        return super().check_action(action, parameters)

    @property
    def _exercise(self) -> Exercise:
        return Exercise(self.challenge, self._entry)

    @property
    def _is_solved(self) -> bool:
        return bool(self._entry.passed)

    @property
    def _has_hints(self) -> bool:
        return self._entry.hints < len(self.challenge.hints)

    # --- what there is to read ---

    def page(self) -> list[str]:
        """The task, the program, the hints so far; why it works, and how, once it does."""
        language, say = self.manner.language, self.say
        parts = [read_page(self.challenge.task(language), language)]

        def add(title: str, *texts: str) -> None:
            parts.append("\n\n".join((f"## {title}", *texts)))

        add(say("Your program"), f"`{self.program}`", self._how_to_edit())
        hints = self.challenge.hints
        for number, hint in enumerate(hints[: self._entry.hints], 1):
            title = say("Hint {number} of {count}", {"number": number, "count": len(hints)})
            add(title, self._translation.text(hint))
        if self._is_solved:
            add(say("Solved"), read_page(self.challenge.why(language), language))
            if self._shows_solution:
                code = self.challenge.solution.read_text(encoding="utf-8").rstrip()
                add(say("How one may do it"), f"{FENCE}python\n{code}\n{FENCE}")
        return parts

    def _how_to_edit(self) -> str:
        editor = find_editor()
        if self.app.is_web:
            return self.say("Edit it with an editor of yours; w checks it at each save.")
        if editor:
            return self.say("e opens it in {editor}; w checks it at each save.", {"editor": editor})
        return self.say("No editor was found: EDITOR names one. w checks it at each save.")

    def word(self) -> str:
        """What may be done now."""
        say, story = self.say, self.story
        match story.phase:
            case Phase.STARTING | Phase.RUNNING | Phase.WAITING | Phase.ASKING:
                return say("The check is at work ...")
            case Phase.IDLE | Phase.STOPPED:
                text = say("Edit your program (e), then check it (c).")
            case Phase.OVER:
                text = self._verdict()
        if self._is_watching:
            return f"{text}\n{say('It is checked again at the next save. w ends that.')}"
        return text

    def _verdict(self) -> str:
        say, end = self.say, self.story.end
        assert end
        if self.story.is_untouched:
            return say("Your program is still as it was given to you: edit it (e).")
        if end.message:
            return "\n".join(part for part in (end.message, end.hint) if part)
        if end.status == ExitStatus.PASSED:
            return say("Solved. s shows how one may do it, Esc leads back to the list.")
        if self._has_hints:
            return say("Not solved yet. h gives a hint; c checks again.")
        return say("Not solved yet. Change it (e), and check it again (c).")

    def request(self) -> Request:
        """The check."""
        return Request(CHECK, self.challenge.name, self.manner.language)

    # --- keys ---

    def action_check(self) -> None:
        """Check the program as it is now."""
        self.run()

    def action_edit(self) -> None:
        """Open the program in the trainee's editor."""
        problem = edit(self.app, self.program, self.say)
        if problem:
            self.notify(problem, severity="warning", markup=False)

    def action_watch(self) -> None:
        """Check at each save, or stop that."""
        self._is_watching = not self._is_watching
        if self._is_watching:
            self.run_worker(self._watch(), group="watch", exclusive=True)
        self.refresh_word()

    async def _watch(self) -> None:
        """Check now, and whenever the work folder has changed; until the check passes."""
        saves = Saves(self._exercise.workplace)
        while self._is_watching:
            if saves.look() and self.story.phase not in BUSY:
                saves.take()
                self.run()
            await asyncio.sleep(INTERVAL)

    def action_hint(self) -> None:
        """Give the next hint."""
        self._change(lambda: count_hint(self._exercise))

    def action_solution(self) -> None:
        """Show a program that solves it, or put it away."""
        self._shows_solution = not self._shows_solution
        self.refresh_text()
        self.show_pane(TEXT)
        self.query_one("#text", TextPane).show_last()

    def action_reset(self) -> None:
        """Begin anew; the program is kept beside. The key has to be pressed twice."""
        if not self._is_sure:
            self._is_sure = True
            self.notify(self.say("Press R once more to begin anew; your program is kept."))
            self.set_timer(5, self._forget_sure)
            return
        self._is_sure = False
        self._change(self._exercise.workplace.reset)

    def _forget_sure(self) -> None:
        self._is_sure = False

    def _change(self, change: Callable[[], object]) -> None:
        """Change what is kept of the exercise, and show that."""
        self._try(change)
        self._read_entry()
        self.refresh_text()
        self.show_pane(TEXT)
        self.query_one("#text", TextPane).show_last()
        self.refresh_word()

    def _read_entry(self) -> None:
        """Know what is kept of the exercise now."""

        def read() -> None:
            self._entry = find_exercise(self.challenge.name).entry

        self._try(read)

    def _try(self, do: Callable[[], object]) -> None:
        """Do what files may not let be done; that is said then."""
        try:
            with usage_errors():
                do()
        except BindlabError as error:
            self.notify(f"{error.message}\n{error.hint}", severity="warning", markup=False)

    def has_ended(self) -> None:
        """A check is over: a pass ends the watch."""
        self._read_entry()
        if self.story.status == ExitStatus.PASSED:
            self._is_watching = False
