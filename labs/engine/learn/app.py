"""The course as an application of Textual."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from textual.app import App
from textual.theme import BUILTIN_THEMES

from labs.engine.errors import BindlabError, ExitStatus
from labs.engine.learn.course_screen import ListScreen
from labs.engine.learn.exercise_screen import ExerciseScreen
from labs.engine.learn.interrupts import heed_signals
from labs.engine.learn.keys import add_key
from labs.engine.learn.lab_screen import LabScreen
from labs.engine.learn.places import OpenExercise, OpenLab
from labs.engine.learn.run_screen import RunScreen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from textual.binding import BindingType

    from labs.engine.learn.chapters import Chapter, Standing
    from labs.engine.learn.run_screen import Manner

DARK, LIGHT, PLAIN = "textual-dark", "textual-light", "plain"
# Without colour, what is marked is underlined: Textual's own theme tells it by colour alone.
UNDERLINED = {
    f"block-cursor{state}-{what}": value
    for state in ("", "-blurred")
    for what, value in (
        ("foreground", "ansi_default"),
        ("background", "ansi_default"),
        ("text-style", "bold underline"),
    )
}


class CourseApp(App[ExitStatus]):
    """The list of labs, and whatever is opened from it."""

    CSS_PATH = "course.tcss"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = []

    def __init__(
        self,
        chapters: Sequence[Chapter],
        standing: Standing,
        manner: Manner,
        *,
        first: str = "",
        seed: int | None = None,
        has_colour: bool = True,
    ) -> None:
        super().__init__(ansi_color=None if has_colour else True)
        self._chapters = chapters
        self._standing = standing
        self._manner = manner
        self._first = first
        self._seed = seed
        usual = BUILTIN_THEMES["ansi-dark"]
        variables = usual.variables | UNDERLINED
        self.register_theme(replace(usual, name=PLAIN, variables=variables))
        self.theme = DARK if has_colour else PLAIN
        self._bindings.key_to_bindings.clear()
        add_key(self, "ctrl+c", "interrupt", is_shown=False, comes_first=True)
        add_key(self, "ctrl+z", "suspend_process", is_shown=False, comes_first=True)

    def on_mount(self) -> None:
        """Show the list, and over it the lab that was asked for."""
        heed_signals(self.action_interrupt)
        self.push_screen(ListScreen(self._chapters, self._standing, self._manner))
        for chapter in self._chapters:
            if chapter.lab.name == self._first:
                self.post_message(OpenLab(chapter))

    def on_open_lab(self, message: OpenLab) -> None:
        """Show a lab."""
        self.push_screen(LabScreen(message.chapter, self._manner, self._seed))

    def on_open_exercise(self, message: OpenExercise) -> None:
        """Begin an exercise, or go on with it."""
        try:
            screen = ExerciseScreen(message.challenge, self._manner)
        except BindlabError as error:
            self.notify(f"{error.message}\n{error.hint}", severity="error", markup=False)
            return
        self.push_screen(screen)

    def action_toggle_theme(self) -> None:
        """Be light instead of dark, or dark again."""
        if self.theme != PLAIN:
            self.theme = LIGHT if self.theme == DARK else DARK

    def exit(
        self,
        result: ExitStatus | None = None,
        return_code: int = 0,
        message: object = None,  # noqa: ARG002  # the course has no last words
    ) -> None:
        """Leave; what runs has nothing to show any more."""
        for screen in self.screen_stack:
            if isinstance(screen, RunScreen):
                screen.has_left = True
        super().exit(result, return_code)

    async def action_quit(self) -> None:
        """Leave."""
        self.exit(ExitStatus.PASSED)

    def action_interrupt(self) -> None:
        """Leave as every command does at Ctrl-C."""
        self.exit(ExitStatus.INTERRUPTED)

    def _fatal_error(self) -> None:
        """Leave at a fault; whoever has started the course says what it was."""
        self._close_messages_no_wait()

    @property
    def raised(self) -> Exception | None:
        """What has ended the course, if it was a fault."""
        return self._exception
