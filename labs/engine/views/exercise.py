"""What a trainee reads between two checks: the task, hints, why a solution works, what is next."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from rich.markdown import Markdown
from rich.table import Table
from rich.text import Text

from labs.engine.errors import output_error, standard_output
from labs.engine.translation import ENGLISH, read_translation
from labs.engine.views.terminal import TEXT_WIDTH, make_console

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import RenderableType

    from labs.engine.challenge import Challenge
    from labs.engine.errors import BindlabError
    from labs.engine.exercises.progress import Entry

WORDS = Path(__file__).parent
WIDE = "[\u3000-\u303f\u4e00-\u9fff\uff00-\uffef]"  # letters and signs of Chinese
COLUMNS = ("lab", "exercise", "", "checks", "hints", "what it asks for")


class ExerciseView:
    """Writes to a stream, standard output as a rule, in one language."""

    def __init__(self, language: str, stream: TextIO | None = None) -> None:
        self._console = make_console(stream or standard_output())
        self._language = language
        self._say = read_translation(WORDS, language).text

    def show_start(
        self, challenge: Challenge, program: Path, seed: int | None, *, is_new: bool
    ) -> None:
        """The task, and where the program is."""
        self._show_page(challenge.task(self._language))
        self._print()
        where = {"program": program}
        if is_new:
            self._print(self._say("The program to begin with is {program}.", where))
        else:
            self._print(self._say("Your program {program} was left as it is.", where))
        if seed is not None:
            text = self._say("Ports, users and orders are those of seed {seed}.", {"seed": seed})
            self._print(text)
        first = self._say("What it builds on:")
        self._print_command(first, f"lab.{challenge.lab} --predict")
        self._print_command(self._say("Write it, then:"), f"exercise.check {challenge.name}")
        self._print_command(self._say("If you are stuck:"), f"exercise.hint {challenge.name}")

    def show_untouched(self, name: str, program: Path) -> None:
        """The program is still the template."""
        where = {"program": program}
        self._print(self._say("{program} is still as it was given to you.", where), "yellow")
        self._print_command(self._say("The task once more:"), f"exercise.start {name}")

    def show_problem(self, error: BindlabError) -> None:
        """Why a program could not be checked."""
        self._print(error.message, "yellow")
        if error.hint:
            self._print(f"  {error.hint}", "dim")

    def show_waiting(self, folder: Path) -> None:
        """The next check comes with the next change."""
        self._print()
        self._print(
            self._say("Waiting for the next save in {folder}. Ctrl-C ends.", {"folder": folder}),
            "dim",
        )
        self._print()

    def show_solved(self, challenge: Challenge) -> None:
        """Why it works."""
        self._print()
        self._print(self._say("Solved."), "bold green")
        self._print()
        self._show_page(challenge.why(self._language))
        self._print()
        done = self._say("How one may do it:")
        self._print_command(done, f"exercise.solution {challenge.name}")
        self._print_command(self._say("What comes next:"), "exercise.progress")

    def show_next(self, name: str, hints_left: int) -> None:
        """What to do after a check that failed."""
        if hints_left:
            left = self._say("Not solved yet. Hints left: {count}.", {"count": hints_left})
            self._print_command(left, f"exercise.hint {name}")
        else:
            change = self._say("Not solved yet. Change it, then:")
            self._print_command(change, f"exercise.check {name}")

    def show_hints(self, name: str, given: Sequence[str], count: int) -> None:
        """The hints so far, each saying more than the one before."""
        for number, hint in enumerate(given, 1):
            title = self._say("Hint {number} of {count}", {"number": number, "count": count})
            self._print(title, "bold")
            self._print_wrapped(hint)
        if len(given) < count:
            self._print_command(self._say("The next one says more:"), f"exercise.hint {name}")

    def show_solution(self, challenge: Challenge) -> None:
        """A program that passes."""
        fence = "```"
        self._show_markdown(f"{fence}python\n{challenge.solution.read_text()}{fence}")

    def show_reset(self, program: Path, kept: Sequence[Path]) -> None:
        """The template is there again."""
        for path in kept:
            self._print(self._say("What was there is kept in {kept}.", {"kept": path}))
        self._print(self._say("The program to begin with is {program}.", {"program": program}))

    def show_progress(
        self, challenges: Sequence[Challenge], entries: Mapping[str, Entry], path: Path
    ) -> None:
        """All exercises in the order of the course, where one stands, and which is next."""
        table = Table(box=None, pad_edge=False, header_style="dim")
        for word in COLUMNS:
            is_title = word == COLUMNS[-1]
            name = self._say(word) if word else ""
            table.add_column(name, no_wrap=not is_title, overflow="fold")
        for challenge in challenges:
            entry = entries.get(challenge.name)
            style = "green" if entry and entry.passed else ""
            table.add_row(*self._row(challenge, entry), style=style)
        self._show(table)
        done = sum(bool(entry.passed) for entry in entries.values())
        self._print()
        values = {"done": done, "count": len(challenges), "path": path}
        self._print(self._say("{done} of {count} are solved. Kept in {path}.", values), "dim")
        for challenge in challenges:
            entry = entries.get(challenge.name)
            if not (entry and entry.passed):
                verb = "check" if entry else "start"
                self._print_command(self._say("Next:"), f"exercise.{verb} {challenge.name}")
                return

    def _row(self, challenge: Challenge, entry: Entry | None) -> tuple[str, ...]:
        state = ""
        if entry:
            state = self._say("solved") if entry.passed else self._say("begun")
        title = read_translation(challenge.folder, self._language).text(challenge.title)
        counts = ("", "") if entry is None else (str(entry.checks), str(entry.hints))
        return (challenge.lab, challenge.name, state, *counts, title)

    def _show_page(self, path: Path) -> None:
        self._show_markdown(read_page(path, self._language))

    def _show_markdown(self, text: str) -> None:
        if not self._console.encoding.startswith("utf"):
            self._print(text.rstrip())  # Markdown is made to be read as it is
            return
        width = min(self._console.width, TEXT_WIDTH)
        text = re.sub(r"^# ", "## ", text)  # the first heading would be put in the middle
        page = Markdown(joined(text), code_theme="ansi_light", hyperlinks=False)
        self._show(page, width)

    def _show(self, page: RenderableType, width: int | None = None) -> None:
        try:
            self._console.print(page, width=width)
        except OSError as error:
            raise output_error(error) from error

    def _print_command(self, text: str, command: str) -> None:
        language = "" if self._language == ENGLISH else f" --lang {self._language}"
        self._console.write_line(Text.assemble(text, "  ", (f"invoke {command}{language}", "bold")))

    def _print_wrapped(self, text: str) -> None:
        for line in self._console.indented(Text(text)):
            self._console.write_line(line)

    def _print(self, text: str = "", style: str = "") -> None:
        self._console.write_line(Text(text, style))


def read_page(path: Path, language: str) -> str:
    """A page of Markdown; the English one where there is none in this language."""
    if not path.exists():
        path = path.with_name(path.name.replace(f".{language}.", f".{ENGLISH}."))
    return path.read_text(encoding="utf-8")


def joined(markdown: str) -> str:
    """Markdown whose Chinese lines are one where they are one paragraph: an end is no blank."""
    return re.sub(rf"(?<={WIDE})\n(?={WIDE})", "", markdown)
