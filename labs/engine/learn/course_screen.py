"""The first screen: the labs in their order, each with its exercises and how far one is."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from labs.engine.errors import UsageError
from labs.engine.learn.chapters import Chapter, read_standing
from labs.engine.learn.keys import add_key
from labs.engine.learn.lines import WordLine
from labs.engine.learn.pages import OF_THE_LIST
from labs.engine.learn.panes import TextPane
from labs.engine.learn.places import OpenExercise, OpenLab
from labs.engine.learn.screen import CourseScreen
from labs.engine.translation import read_translation
from labs.engine.views.exercise import read_page
from labs.engine.views.pane import shortened
from labs.engine.views.terminal import aligned

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from textual import events
    from textual.widget import Widget

    from labs.engine.challenge import Challenge
    from labs.engine.learn.chapters import Standing
    from labs.engine.learn.run_screen import Manner
    from labs.engine.translation import Say

WIDE = 150  # columns from which what is marked is shown beside the list
MARGIN = 4  # columns of the list that are no text
GAP = 2  # columns between a title and what stands before it
PREVIEW_DELAY = 0.15  # seconds on one line of the list until its page is shown


class CourseList(OptionList):
    """The list itself, whose keys are shown too."""

    def __init__(self, say: Say) -> None:
        super().__init__(id="list", markup=False)
        add_key(self, "enter", "select", say("Open"))
        add_key(self, "down", "cursor_down", say("Down"))
        add_key(self, "up", "cursor_up", say("Up"))


class ListScreen(CourseScreen):
    """The list of all that there is to do."""

    def __init__(self, chapters: Sequence[Chapter], standing: Standing, manner: Manner) -> None:
        self.manner = manner
        self._chapters = chapters
        self._standing = standing
        self._lines: list[Chapter | Challenge] = []
        for chapter in chapters:
            self._lines += [chapter, *chapter.challenges]
        super().__init__(manner.say)

    def help_text(self) -> str:
        """What the help says of this screen."""
        return self.say(OF_THE_LIST)

    def add_keys(self) -> None:
        """Add the list's keys."""
        say = self.say
        add_key(self, "t", "app.toggle_theme", say("Light or dark"))
        add_key(self, "q", "app.quit", say("Leave"))

    def compose_content(self) -> Iterator[Widget]:
        """The list, and beside it the page of what is marked."""
        with Horizontal(id="course"):
            yield CourseList(self.say)
            yield TextPane("preview", "")
        yield WordLine()

    def on_mount(self) -> None:
        """Mark what is next."""
        self.set_title("bindlab", self.say("who may listen on a port, and why"))
        self._fill()
        self._mark(self._standing.next_of(self._chapters))
        self.query_one(OptionList).focus()

    def on_screen_resume(self) -> None:
        """Show how far one is now."""
        try:
            self._standing = read_standing()
        except UsageError as error:
            self.notify(
                f"{error.message}\n{error.hint}", severity="warning", timeout=15, markup=False
            )
        self._fill()

    def on_resize(self, event: events.Resize) -> None:
        """Fit the lines to the width."""
        super().on_resize(event)
        self.query_one("#preview").display = event.size.width >= WIDE
        self._fill()
        self._show_page_soon()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Open what is marked."""
        line = self._lines[event.option_index]
        if isinstance(line, Chapter):
            self.post_message(OpenLab(line))
        else:
            self.post_message(OpenExercise(line))

    def on_option_list_option_highlighted(self, _event: OptionList.OptionHighlighted) -> None:
        """Show the page of what is marked, once one stays there."""
        self._show_page_soon()

    # --- the list ---

    def _fill(self) -> None:
        options = self.query_one(OptionList)
        marked = options.highlighted
        options.clear_options()
        rows = zip(self._rows(), self._lines, strict=True)
        options.add_options([Option(self._styled(row, line)) for row, line in rows])
        options.highlighted = marked
        self.query_one(WordLine).show(self._word())

    def _rows(self) -> list[str]:
        columns = self.size.width
        width = columns // 2 if columns >= WIDE else columns
        cells = [self._cells(line) for line in self._lines]
        fixed = aligned([[number, name, state] for number, name, _, state in cells])
        room = width - MARGIN - GAP - max(map(len, fixed))
        rows = [
            [number, name, shortened(title, max(room, 20)), state]
            for number, name, title, state in cells
        ]
        return aligned(rows)

    def _cells(self, line: Chapter | Challenge) -> tuple[str, str, str, str]:
        language, standing = self.manner.language, self._standing
        if isinstance(line, Chapter):
            name = line.lab.name
            entry = standing.labs.get(name)
            state = self._sign(is_done=standing.is_run(name))
            if entry and entry.asked:
                state += f" {entry.right}/{entry.asked}"
            return f"{line.number:>2}", name, line.title(language), state
        title = read_translation(line.folder, language).text(line.title)
        is_begun = line.name in standing.exercises
        state = self._sign(is_done=standing.is_solved(line.name), is_begun=is_begun)
        return "", f"  {line.name}", title, state

    def _sign(self, *, is_done: bool, is_begun: bool = False) -> str:
        done, begun, new = ("✔", "…", "·") if self.manner.has_signs else ("+", "~", ".")
        return done if is_done else begun if is_begun else new

    def _styled(self, row: str, line: Chapter | Challenge) -> Content:
        done = self._sign(is_done=True)
        content = Content(row)
        if not isinstance(line, Chapter):
            content = content.stylize("dim")
        place = row.rfind(done)
        return content if place < 0 else content.stylize("$text-success", place, place + 1)

    def _word(self) -> str:
        say, standing = self.say, self._standing
        exercises = [challenge for chapter in self._chapters for challenge in chapter.challenges]
        values = {
            "run": sum(standing.is_run(chapter.lab.name) for chapter in self._chapters),
            "labs": len(self._chapters),
            "solved": sum(standing.is_solved(challenge.name) for challenge in exercises),
            "exercises": len(exercises),
        }
        done = say("{run} of {labs} labs run, {solved} of {exercises} exercises solved.", values)
        how = say("Go to a line with the arrows, and press Enter. Begin at the top.")
        if values["run"]:
            name = {"name": standing.next_of(self._chapters) or "-"}
            how = say("Go to a line with the arrows, and press Enter. Next: {name}.", name)
        return f"{how}\n{done}"

    def _mark(self, name: str) -> None:
        names = [line.lab.name if isinstance(line, Chapter) else line.name for line in self._lines]
        self.query_one(OptionList).highlighted = names.index(name) if name in names else 0

    def _show_page_soon(self) -> None:
        if self.size.width >= WIDE:
            self.run_worker(self._show_page(), group="page", exclusive=True)

    async def _show_page(self) -> None:

        await asyncio.sleep(PREVIEW_DELAY)
        marked = self.query_one(OptionList).highlighted
        if marked is None:
            return
        line, language = self._lines[marked], self.manner.language
        page = line.brief(language) if isinstance(line, Chapter) else line.task(language)
        pane = self.query_one("#preview", TextPane)
        pane.show([read_page(page, language)])
        pane.scroll_home(animate=False)
