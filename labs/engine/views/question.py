"""The questions: ask on the terminal what will come of a step, before it runs."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.text import Text

from labs.engine.errors import UsageError, output_error
from labs.engine.model import Measured, Refused
from labs.engine.prediction import find_choices, read_quantity
from labs.engine.translation import ENGLISH, Translation, read_translation
from labs.engine.views.pause import read_line
from labs.engine.views.score import show_said
from labs.engine.views.terminal import INDENT, TEXT_WIDTH, make_console

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from labs.engine.model import Expectation, StepStarted
    from labs.engine.prediction import Prediction
    from labs.engine.translation import Say

WORDS = Path(__file__).parent
MARGIN = " " * INDENT
OK_MEANS = "every call succeeds"
MEANINGS = {
    ("EADDRINUSE", ""): "the port is taken",
    ("EADDRINUSE", "listen"): "bound it is, but it may not listen",
    ("EADDRINUSE", "allocate"): "the container engine has given the port away",
    ("EACCES", ""): "the port takes a privilege",
    ("EPERM", ""): "who calls may not do this",
    ("EADDRNOTAVAIL", ""): "no interface has this address",
    ("EINVAL", "bind"): "this socket cannot have this address",
    ("EINVAL", "accept"): "this socket does not listen",
    ("EINVAL", ""): "it makes no sense for this socket or process",
    ("ENODEV", ""): "there is no such device",
    ("ECONNREFUSED", ""): "nobody listens there",
    ("ENETUNREACH", ""): "no way leads there",
}
HOW_TO_LEAVE = "Enter alone is \u201cI don't know\u201d, Ctrl-D ends the questions."
HOW_TO_CHOOSE = "Say by number or by name what the step will come to."
HOW_TO_COUNT = (
    "Say a number, or a range such as 5-15. A number is right where the lab's bounds do not tell "
    "it from what is observed; a range, where it holds that and is at most twice as wide as those "
    "bounds. Where the lab is exact, you have to be too."
)
AHEAD = (
    "These {count} steps follow each other without a stop, for what one leaves to the next does "
    "not last. Say first what will come of each:"
)


class Questions:
    """Asks on standard error and reads the terminal; UsageError where there is none.

    With `has_titles` a step's title is on the screen already.
    """

    def __init__(self, *, has_titles: bool) -> None:
        if not (sys.stdin and sys.stdin.isatty() and sys.stderr and sys.stderr.isatty()):
            raise UsageError("--predict needs a terminal to ask on.")
        self._console = make_console(sys.stderr)
        self._has_titles = has_titles
        self._say = Translation().text
        self._language = ENGLISH
        self._offered: Sequence[Expectation] = ()
        self._told: set[str] = set()

    def begin(self, language: str, offered: Sequence[Expectation]) -> None:
        """A lab begins, whose answers are these."""
        self._language, self._offered = language, offered
        self._say = read_translation(WORDS, language).text
        self._told = set()

    def ask(self, step: StepStarted) -> Prediction:
        """What will come of a step; EOFError where there will be no more answers."""
        if not self._has_titles:
            self._write_title(step)
        said = self._ask(step.expected)
        self._write()
        return said

    def ask_ahead(self, steps: Sequence[StepStarted]) -> list[Prediction]:
        """What will come of steps that are not on the screen yet; fewer where the answers end."""
        self._write()
        self._write_text(self._say(AHEAD, {"count": len(steps)}))
        said: list[Prediction] = []
        try:
            for step in steps:
                self._write_title(step)
                said.append(self._ask(step.expected))
        except EOFError:
            return said
        self._write()
        self._write_text(self._say("Now they run."))
        return said

    # --- one question ---

    def _ask(self, expected: Expectation) -> Prediction:
        """Ask until the answer is one."""
        read = self._make_reader(expected)
        while True:
            answer = self._prompt(expected)
            if not answer:
                return None
            if found := read(answer):
                return found

    def _make_reader(self, expected: Expectation) -> Callable[[str], Expectation | None]:
        self._tell_once(HOW_TO_LEAVE)
        if isinstance(expected, Measured):
            self._tell_once(HOW_TO_COUNT)
            what = expected.what
            return lambda answer: self._read_quantity(answer, what)
        is_new = self._tell_once(HOW_TO_CHOOSE)
        self._show_choices(with_meanings=is_new)
        return self._read_choice

    def _read_quantity(self, answer: str, what: str) -> Expectation | None:
        found = read_quantity(answer, what)
        if not found:
            self._write_text(self._say("Please say a number such as 8, or a range such as 5-15."))
        return found

    def _read_choice(self, answer: str) -> Expectation | None:
        found = find_choices(answer, self._offered)
        if len(found) == 1:
            return found[0]
        if found:
            several = ", ".join(show_said(choice, self._say) for choice in found)
            self._write_text(self._say("Which of these: {several}?", {"several": several}))
        else:
            values = {"count": len(self._offered)}
            self._write_text(self._say("Please say a number from 1 to {count}, or a name:", values))
            self._show_choices(with_meanings=True)
        return None

    def _show_choices(self, *, with_meanings: bool) -> None:
        shown = [
            f"{number} {show_said(choice, self._say)}"
            for number, choice in enumerate(self._offered, 1)
        ]
        if not with_meanings:
            for line in filled(shown, min(self._console.width, TEXT_WIDTH) - INDENT):
                self._write(Text(f"{MARGIN}{line}", "dim"))
            return
        width = max(map(cell_len, shown))
        for text, choice in zip(shown, self._offered, strict=True):
            meaning = meaning_of(choice, self._say)
            blanks = " " * (width - cell_len(text) + 3)
            self._write(Text.assemble(MARGIN, text, blanks, (meaning, "dim")))

    def _prompt(self, expected: Expectation) -> str:
        """The answer, without blanks around; EOFError at its end."""
        if isinstance(expected, Measured):
            text = ask_how_many(expected.what, self._language, self._say)
        else:
            text = self._say("What will it come to?")
        try:
            self._console.print(Text(f"{MARGIN}{text} ", "bold cyan"), end="", soft_wrap=True)
        except OSError as error:
            raise output_error(error) from error
        data = read_line(sys.stdin.fileno())
        if not data.endswith(b"\n"):
            self._write()
        if not data:
            self._write_text(self._say("No more questions: what follows runs without them."))
            self._write()
            raise EOFError
        return data.decode(errors="replace").strip()

    # --- the screen ---

    def _tell_once(self, text: str) -> bool:
        """Explain, the first time in a lab; whether it was."""
        if text in self._told:
            return False
        self._told.add(text)
        self._write_text(self._say(text), "dim")
        return True

    def _write_title(self, step: StepStarted) -> None:
        self._write()
        self._write(Text(f"{step.number:>2}  {step.title}", "bold"))

    def _write_text(self, text: str, style: str = "") -> None:
        for line in self._console.indented(Text(text, style)):
            self._write(line)

    def _write(self, line: Text | None = None) -> None:
        self._console.write_line(line)


def filled(parts: Sequence[str], width: int) -> list[str]:
    """Parts side by side, in as few lines as they fit into; none is broken."""
    lines: list[str] = []
    for part in parts:
        joined = f"{lines[-1]}   {part}" if lines else part
        if lines and cell_len(joined) <= width:
            lines[-1] = joined
        else:
            lines.append(part)
    return lines


def ask_how_many(what: str, language: str, say: Say) -> str:
    """The question for a quantity."""
    # One language alone tells one from many, and by that would tell the answer.
    name = plural(what) if language == ENGLISH else what
    if name.startswith("as "):
        return f"What number, {name}?"
    return say("How many {what}?", {"what": name})


def plural(what: str) -> str:
    """An English quantity's name as one asks for it, its first word a plural."""
    first, blank, rest = what.partition(" ")
    is_one = first.isalpha() and first.islower() and not first.endswith("s")
    return f"{first}s{blank}{rest}" if is_one and first not in ("of", "that") else what


def meaning_of(choice: Expectation, say: Callable[[str], str]) -> str:
    """What an answer means, in a few words."""
    if not isinstance(choice, Refused):
        return say(OK_MEANS)
    meaning = MEANINGS.get((choice.errno, choice.call)) or MEANINGS.get((choice.errno, ""))
    return say(meaning) if meaning else os.strerror(getattr(errno, choice.errno, 0))
